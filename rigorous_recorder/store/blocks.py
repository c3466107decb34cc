"""Blocks: what one `add_records` call adds, encoded as one entry, and decoded to records again.

A block of rows is a MessagePack array of maps. A block of columns is a MessagePack array of `Stored` columns. Either
stands behind `unit.BLOCK_PREFIX`, which the journal writes, since only it knows the level.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rigorous_recorder import values as v
from rigorous_recorder.errors import InvalidCallError, UnstorableTypeError, UnstorableValueError
from rigorous_recorder.exact import decode_exact, exact_form
from rigorous_recorder.plain import REFUSALS

from . import unit as u
from .series import VALUE, Stored, is_scalar, known, store_column, store_scalar, unstore

if TYPE_CHECKING:
    from .replay import Event

MAX_ROWS: Final = 2**32 - 1
MAX_BODY: Final = 2**32 - 1 - u.BLOCK_PREFIX.size
"""Bytes: the length of an entry is a u32."""

_column_encoder: Final = msgspec.msgpack.Encoder()
_column_decoder: Final = msgspec.msgpack.Decoder(list[Stored])


def encode_block(data: Any = None, columns: Mapping[str, Any] | None = None) -> tuple[int, int, bytes]:
    """Encode what `add_records(data, **columns)` was given.

    Args:
        data: A frame (pandas, polars, Arrow), a dict of columns, an iterable of dicts, or None.
        columns: Columns by name; they come after those of `data` and replace those of the same name.

    Returns:
        The kind of the entry, its number of rows (0: there is nothing to store), and its body without the prefix.

    Raises:
        InvalidCallError: Scalars alone, lengths that differ, or more than an entry can hold.
        UnstorableTypeError: A value is of a type that cannot be stored.
        UnstorableValueError: A value cannot be stored, although its type can.
    """
    columns = columns or {}
    height, given = _columns_of(data)
    names = [name for name, _ in given or ()]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InvalidCallError(f"Two columns are named {twice!r}, and one would be lost. Hint: rename one.")
    if given is None:
        kind, count, body = u.ROWS, *_encode_rows(data, columns)
    else:
        kind, count, body = _encode_columns(height, _named([*given, *columns.items()]))
    _check_size(count, len(body))
    return kind, count, body


def _check_size(count: int, size: int) -> None:
    if count > MAX_ROWS or size > MAX_BODY:
        raise InvalidCallError(
            f"One call adds {count:,} records in {size:,} bytes, and the most is {MAX_ROWS:,} in {MAX_BODY:,}. "
            "Nothing was stored. Hint: add them in several calls."
        )


def block_records(event: Event, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """The records [start, stop) of a block, as they were added.

    Raises:
        ValueError: The payload is damaged.
    """
    if event.kind == u.ROWS:
        return block_rows(event.payload)[start:stop]
    count, columns = block_columns(event.payload)
    stop = count if stop is None else min(stop, count)
    if not columns:
        return [{} for _ in range(start, stop)]
    names = [column.name for column in columns]
    values = (unstore(column, count, start, stop) for column in columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def block_width(event: Event) -> int:
    """How many values, or eights of bytes, a row of a block of columns takes; 0 for another event, or one that is damaged."""
    if event.kind != u.COLUMNS:
        return 0
    try:
        columns = block_columns(event.payload)[1]
    except ValueError:
        return 0
    return sum(len(one.data) // 8 or 1 if one.code == VALUE else 1 for one in columns)


def block_rows(payload: bytes) -> list[dict[str, Any]]:
    """The records of a block of rows.

    Raises:
        ValueError: The payload is damaged.
    """
    _, count = u.BLOCK_PREFIX.unpack_from(payload)
    try:
        records = decode_exact(memoryview(payload)[u.BLOCK_PREFIX.size :])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a block of rows: {error}") from error
    if (
        records.__class__ is not list
        or len(records) != count
        or any(record.__class__ is not dict for record in records)
    ):
        raise ValueError(f"a block that should hold {count} records does not")
    return [record if all(key.__class__ is str for key in record) else v.text_keys(record) for record in records]


def block_columns(payload: bytes) -> tuple[int, list[Stored]]:
    """The number of rows and the columns of a block of columns.

    Raises:
        ValueError: The payload is damaged.
    """
    _, count = u.BLOCK_PREFIX.unpack_from(payload)
    try:
        columns = _column_decoder.decode(memoryview(payload)[u.BLOCK_PREFIX.size :])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a block of columns: {error}") from error
    if len({column.name for column in columns}) != len(columns):
        raise ValueError("a block has two columns of one name")
    if _weight(count, columns) > _most_weight(len(payload) - u.BLOCK_PREFIX.size):
        raise ValueError(f"a block of {count:,} rows and {len(columns):,} columns is more than its bytes can hold")
    return count, columns


# ---- what the caller gave --------------------------------------------------------------------------------------------


def _columns_of(data: Any) -> tuple[int | None, list[tuple[Any, Any]] | None]:
    """The number of rows, where `data` has one of its own, and its columns; no columns for an iterable of dicts."""
    if data is None:
        return None, []
    if isinstance(data, Mapping):
        return None, list(data.items())
    polars, pandas = sys.modules.get("polars"), sys.modules.get("pandas")
    if polars is not None and isinstance(data, polars.LazyFrame):
        data = data.collect()
    if polars is not None and isinstance(data, polars.DataFrame):
        return data.height, [(column.name, column) for column in data.get_columns()]
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return len(data), [*_named_index(data), *data.items()]
    if hasattr(data, "column_names") and hasattr(data, "num_rows"):  # an Arrow table or record batch
        return data.num_rows, [(name, data.column(place)) for place, name in enumerate(data.column_names)]
    return None, None


def _named_index(frame: Any) -> list[tuple[Any, Any]]:
    """The levels of a pandas frame's index that have names: who names an index means its values (`groupby`, `set_index`)."""
    return [
        (name, frame.index.get_level_values(place))
        for place, name in enumerate(frame.index.names)
        if name is not None and name not in frame.columns
    ]


def _named(columns: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Columns by text name: a later one replaces the earlier of its name, but never one that only reads the same."""
    named: dict[Any, Any] = dict(columns)
    return named if all(name.__class__ is str for name in named) else v.text_keys(named)


def _encode_columns(height: int | None, columns: dict[str, Any]) -> tuple[int, int, bytes]:
    stored: dict[str, Stored] = {}
    lengths: dict[str, int] = {}
    for name, values in columns.items():
        if is_scalar(values):
            stored[name] = store_scalar(name, values)
        else:
            lengths[name], stored[name] = store_column(name, values)
    count = _common_length(height, lengths, columns)
    _check_size(count, sum(len(column.data) + len(column.missing) for column in stored.values()))
    try:
        body = _column_encoder.encode(list(stored.values())) if count else b""
    except UnicodeEncodeError as cause:
        raise v.refusal(dict.fromkeys(columns), cause) from cause
    if count > len(body) and not columns:
        return u.ROWS, count, v.encode_record([{}] * count)
    # what takes too few bytes for its rows, since they share values, is stored value by value, one column after the other
    for name in [name for name, column in stored.items() if column.code == VALUE]:
        if count <= len(body) and _weight(count, list(stored.values())) <= _most_weight(len(body)):
            break
        _check_size(count, len(body) + count * len(stored[name].data))
        _, stored[name] = store_column(name, [columns[name]] * count)
        body = _column_encoder.encode(list(stored.values()))
    return u.COLUMNS, count, body


MOST_WEIGHT: Final = 1 << 26
"""What a block of columns may weigh whatever its size: so that few bytes never claim to be more than fits into memory."""
PER_BYTE: Final = 8


def _weight(count: int, columns: Sequence[Stored]) -> int:
    """How much a block of columns becomes when it is read: a value for each row, or of lists and dicts an eighth of a byte."""
    return count * sum(
        len(one.data) // 8 or 1 if one.code == VALUE and _is_container(one.data) else 1 for one in columns
    )


def _is_container(data: bytes) -> bool:
    """Whether a value in MessagePack is one that each row gets a copy of: not a number, text, byte string, None or bool."""
    head = data[0] if data else 0xC0
    return 0x80 <= head <= 0x9F or 0xC7 <= head <= 0xC9 or 0xD4 <= head <= 0xD8 or 0xDC <= head <= 0xDF  # noqa: PLR2004


def _most_weight(size: int) -> int:
    return max(MOST_WEIGHT, PER_BYTE * size)


def _common_length(height: int | None, lengths: dict[str, int], columns: Mapping[str, Any]) -> int:
    distinct = set(lengths.values()) | ({height} if height is not None else set())
    if len(distinct) > 1:
        shown = ", ".join(f"{name!r} has {count:,}" for name, count in list(lengths.items())[:8])
        frame = f"the frame has {height:,} rows, " if height is not None else ""
        raise InvalidCallError(f"Columns must be equally long, and {frame}{shown} values. Nothing was stored.")
    if not distinct and columns:
        raise InvalidCallError(
            f"All columns are scalars ({', '.join(map(repr, list(columns)[:8]))}), so it is open how many records to add. "
            "Nothing was stored. Hint: add_record(...) adds one."
        )
    return distinct.pop() if distinct else 0


# ---- an iterable of dicts --------------------------------------------------------------------------------------------


def _encode_rows(data: Any, columns: Mapping[str, Any]) -> tuple[int, bytes]:
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise v.refusal(data, TypeError())
    records = list(data)
    if columns:
        records = _merged(records, columns)
    try:
        body = v.encode_record([_storable(record) for record in records]) if records else b""
    except REFUSALS as cause:
        raise _refused(records, cause) from cause
    return len(records), body


def _merged(records: list[Any], columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    for record in records:
        if not isinstance(record, Mapping):
            raise v.refusal(record, TypeError())
    scalars = {name: value for name, value in columns.items() if is_scalar(value)}
    longer = {name: list(value) for name, value in columns.items() if name not in scalars}
    lengths = {name: len(value) for name, value in longer.items()}
    if any(length != len(records) for length in lengths.values()):
        shown = ", ".join(f"{name!r} has {length:,} values" for name, length in lengths.items())
        raise InvalidCallError(f"There are {len(records):,} records, and {shown}. Nothing was stored.")
    merged = [{**record, **scalars} for record in records]
    for name, value in longer.items():
        for record, item in zip(merged, value, strict=True):
            record[name] = item
    return merged


def _storable(record: Any) -> dict[str, Any]:
    """The record in a form that MessagePack keeps: itself, or with its values exact and its keys text."""
    if record.__class__ is not dict:
        if not isinstance(record, Mapping):
            raise TypeError(record)
        record = dict(record)
    if not all(key.__class__ is str for key in record):
        v.encode_record(record)  # refuses what cannot be a key
        record = v.text_keys(record)
    if set(map(type, record.values())) <= v.SCALARS:
        return record  # type: ignore[no-any-return]
    return {key: exact_form(known(key, value)) for key, value in record.items()}


def _refused(records: list[Any], cause: BaseException) -> UnstorableTypeError | UnstorableValueError:
    """The error of the first record that cannot be stored."""
    if isinstance(cause, (UnstorableTypeError, UnstorableValueError)):
        return cause
    for record in records:
        try:
            v.encode_record(_storable(record))
        except REFUSALS as error:
            return v.refusal(record, error)
    return v.refusal(records, cause)
