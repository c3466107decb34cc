"""Schema: the columns that a pack may have, and how its footer tells them, so that a reader need not ask Parquet."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rigorous_recorder.errors import FormatError

from .names import ESCAPE, EXACT, LEVEL, column_key, column_name
from .packmeta import LEVELS_TYPE, MOST_COLUMNS, MOST_RUNS, NO_ROWS, PackMeta

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES: Final[dict[str, Any]] = {
    "null": pl.Null(),
    "bool": pl.Boolean(),
    "int": pl.Int64(),
    "uint": pl.UInt64(),
    "float": pl.Float64(),
    "text": pl.String(),
    "bytes": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    "datetime": pl.Datetime("us"),
    "utc": pl.Datetime("us", "UTC"),
    "timedelta": pl.Duration("us"),
}
"""By the name that a footer has for it, each type that a key's column may have; with `list:` before, lists of it."""
_LIST: Final = "list:"
_NAMES: Final = {dtype: name for name, dtype in TYPES.items()}

FEW_RUNS: Final = 16
"""Runs of levels that are told of any unit."""
LONG: Final = 64
"""Rows: runs that are shorter on average are not told beyond these, so that a footer stays small beside its rows."""


def told(schema: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """The columns of a pack as its footer tells them; None where there are too many.

    Args:
        schema: By name, the polars types.
    """
    if len(schema) > MOST_COLUMNS:
        return None
    return [(name, LEVELS_TYPE if name == LEVEL else _name(dtype)) for name, dtype in schema.items()]


def _name(dtype: Any) -> str:
    return _LIST + _NAMES[dtype.inner] if isinstance(dtype, pl.List) else _NAMES[dtype]


def understood(path: str, columns: list[tuple[str, str]]) -> dict[str, Any]:
    """The polars types, by name, of the columns that the footer of the pack at a path tells.

    Raises:
        FormatError: A pack has no such columns.
    """
    try:
        return dict(_understood(tuple(columns)))
    except FormatError as error:
        raise FormatError(f"The pack {path} is damaged: {error}") from error


@lru_cache(maxsize=256)  # the packs of one study are mostly alike
def _understood(columns: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for name, written in columns:
        dtype = TYPES.get(written.removeprefix(_LIST))
        if dtype is not None and written.startswith(_LIST):
            dtype = pl.List(dtype)
        schema[name] = pl.UInt32() if written == LEVELS_TYPE else dtype
    if len(schema) < len(columns):
        raise FormatError("its footer tells a column twice.")
    check(schema)
    return schema


def check(schema: Mapping[str, Any]) -> None:
    """Refuse columns that are not those of a pack.

    Raises:
        FormatError: One is of another name or type; the text lacks the path.
    """
    for name, dtype in schema.items():
        if name == LEVEL:
            right = dtype == pl.UInt32
        elif name.startswith(EXACT):
            right = dtype == pl.Binary and column_name(name.removeprefix(EXACT)) in schema
        else:
            inner, key = dtype.inner if isinstance(dtype, pl.List) else dtype, column_key(name)
            right = key is not None and inner in _NAMES and (name.startswith(ESCAPE) or column_name(key) == name)
        if not right:
            raise FormatError(f"its column {name!r} is of the type {dtype}.")
    if LEVEL not in schema:
        raise FormatError(f"it has no column {LEVEL!r}.")


def described(meta: PackMeta, frame: pl.DataFrame) -> PackMeta:
    """What a pack says about a unit, with the columns and the runs of levels of its rows."""
    return PackMeta(
        meta.header,
        meta.events,
        meta.rows,
        meta.log_size,
        meta.log_crc,
        meta.beat,
        told(frame.schema) if meta.rows else NO_ROWS,
        runs_of(frame[LEVEL]),
    )


def runs_of(levels: pl.Series) -> list[int] | None:
    """Level number and count of each run of rows of one level, one behind the other; None where they are many or short."""
    runs = levels.rle().struct.unnest() if len(levels) else None
    if runs is None:
        return []
    if runs.height > min(MOST_RUNS, FEW_RUNS + len(levels) // LONG):
        return None
    pairs = zip(runs["value"].to_list(), runs["len"].to_list(), strict=True)
    return [number for pair in pairs for number in pair]


def told_runs(runs: list[int]) -> pl.Series:
    """The level of each row by the runs that a footer tells."""
    levels, counts = (pl.Series(numbers, dtype=pl.UInt32) for numbers in (runs[::2], runs[1::2]))
    return pl.select(levels.repeat_by(counts).explode()).to_series() if runs else levels
