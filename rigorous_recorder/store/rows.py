"""Rows: records, or lists of values, from a unit's frame. Without NumPy: who looks at one record need not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rigorous_recorder.exact import decode_exact

from .kinds import python_list
from .memory import unhurried
from .names import EXACT, LEVEL, column_key

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl


def frame_records(frame: pl.DataFrame, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """The own-key records of the rows [start, stop) of a unit's frame, as they were added.

    Raises:
        ValueError: A companion is damaged.
    """
    with unhurried():
        return _frame_records(frame.slice(start, None if stop is None else max(0, stop - start)))


def frame_width(frame: pl.DataFrame) -> int:
    """How many values a row of a unit's frame has, a long text or byte string counting as many as it has eight bytes.

    In the frame itself, rows may share such a value; the records that are made of it do not.
    """
    import polars as pl

    columns = [column for column in frame.get_columns() if column.dtype in (pl.String, pl.Binary)]
    lengths = (column.str.len_bytes() if column.dtype == pl.String else column.bin.size() for column in columns)
    longest = (one.max() for one in lengths)
    return frame.width + sum(one // 8 for one in longest if isinstance(one, int))


def frame_columns(frame: pl.DataFrame) -> tuple[list[str], list[list[Any]]] | None:
    """The own keys of a unit's frame and their values as lists; None when not every row has just these values."""
    names = [name for name in frame.columns if name != LEVEL]
    if not names or any(name.startswith(EXACT) or frame[name].null_count() for name in names):
        return None
    with unhurried():
        return [str(column_key(name)) for name in names], [python_list(frame[name]) for name in names]


def _frame_records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    named = [(key, frame[name]) for name in frame.columns if (key := column_key(name)) is not None]
    companions = {name for name in frame.columns if name.startswith(EXACT)}
    if 2 * sum(column.null_count() for _, column in named) > frame.height * len(named):
        return _sparse_records(frame, named, companions)
    records = _zipped([key for key, _ in named], [python_list(column) for _, column in named], frame.height)
    for key, column in named:
        exact = frame[EXACT + key] if EXACT + key in companions else None
        if column.null_count():
            absent = column.is_null() if exact is None else column.is_null() & exact.is_null()
            for place in absent.arg_true().to_list():
                del records[place][key]
        if exact is not None:
            places = exact.is_not_null().arg_true()
            for place, encoded in zip(places.to_list(), exact.gather(places).to_list(), strict=True):
                records[place][key] = decode_exact(encoded)
    return records


def _sparse_records(
    frame: pl.DataFrame, named: list[tuple[str, pl.Series]], companions: set[str]
) -> list[dict[str, Any]]:
    """The same where most cells are empty: value by value, since a dict of all keys for each row may not fit anywhere."""
    records: list[dict[str, Any]] = [{} for _ in range(frame.height)]
    for key, column in named:
        exact = frame[EXACT + key] if EXACT + key in companions else None
        present = column.is_not_null()
        for place, value in zip(present.arg_true().to_list(), python_list(column.filter(present)), strict=True):
            records[place][key] = value
        if exact is not None:
            places = exact.is_not_null().arg_true()
            for place, encoded in zip(places.to_list(), exact.gather(places).to_list(), strict=True):
                records[place][key] = decode_exact(encoded)
    return records


_MOST_UNROLLED: Final = 64
_zippers: Final[dict[int, Callable[..., Callable[[list[list[Any]]], list[dict[str, Any]]]]]] = {}


def _zipped(keys: list[str], columns: list[list[Any]], rows: int) -> list[dict[str, Any]]:
    """Dicts from columns: by a dict display of as many keys where they are few, which takes a third of `dict(zip())`."""
    count = len(keys)
    if not count:
        return [{} for _ in range(rows)]
    if count > _MOST_UNROLLED:
        return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]
    zipper = _zippers.get(count)
    if zipper is None:
        numbers = range(count)
        names = ", ".join(f"k{n}" for n in numbers)
        display = ", ".join(f"k{n}: v{n}" for n in numbers)
        values = ", ".join(f"v{n}" for n in numbers)
        code = f"lambda {names}: lambda columns: [{{{display}}} for {values}, in zip(*columns)]"
        zipper = _zippers[count] = eval(code)  # noqa: S307  (numbers only: no key is part of the code)
    return zipper(*keys)(columns)
