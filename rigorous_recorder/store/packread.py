"""Packs, read: the frames of units that were sealed or compacted. Readers import this, and it brings polars, but no NumPy."""

from __future__ import annotations

import errno
import os
import zlib
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rigorous_recorder.errors import FormatError

from . import files, layout
from .names import LEVEL
from .packed import open_pack, pack_rows
from .packmeta import load_meta
from .scans import readings_of
from .schema import check
from .series import DATE, RANGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .scans import Wanted

BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError)
"""What polars raises over a damaged file. PanicException is a BaseException."""

ABORTS: Final = tuple(int(part) for part in pl.__version__.split(".")[:2]) < (2, 1)
"""Whether this polars may abort the process over a damaged page (1.32 does; 2.1 raised in all of 1,460 flips)."""


def verify(path: str) -> bool:
    """Whether a pack's bytes are those that its name vouches for.

    Raises:
        OSError: It cannot be read.
    """
    file = path.rpartition("/")[2]
    name = layout.parse_packed(file) or layout.parse_unit(file)
    if name is None or name.crc is None:
        return False
    data = files.read_all(path)
    return len(data) == name.size and zlib.crc32(data) == name.crc


_LIMITS: Final = {pl.Date: RANGES[DATE], pl.Datetime: RANGES["datetime"]}
"""What Python's times reach, as polars counts: days, and microseconds."""


def _check_schema(path: str, schema: Mapping[str, Any]) -> None:
    """Refuse a file whose columns are not those of a pack.

    Raises:
        FormatError: One is of another name or type.
    """
    try:
        check(schema)
    except FormatError as error:
        raise FormatError(f"The pack {path} is damaged: {error}") from error


def _check_values(path: str, frame: pl.DataFrame, rows: int | None) -> pl.DataFrame:
    """Refuse a frame that is not what a pack holds: of another height, without levels, with times that are none.

    Raises:
        FormatError: It is not.
    """
    if rows is not None and frame.height != rows:
        raise FormatError(f"The pack {path} is damaged: it has {frame.height:,} rows where {rows:,} should be.")
    for name, dtype in frame.schema.items():
        if name == LEVEL and frame[name].null_count():
            raise FormatError(f"The pack {path} is damaged: rows of it have no level.")
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        limits = _LIMITS.get(inner.base_type())
        if limits is not None:
            column = frame[name]
            numbers = (column if inner is dtype else column.explode()).to_physical()
            low, high = numbers.min(), numbers.max()
            if low is not None and not (limits[0] <= int(low) and int(high) <= limits[1]):  # type: ignore[arg-type]
                raise FormatError(f"The pack {path} is damaged: {name!r} has times outside the years 1 to 9999.")
    return frame


def read_frame(path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The frame of all that is in the pack at a path.

    Args:
        path: Of the pack.
        columns: Which of its columns; all by default.

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    _check(path)
    if columns is not None:
        read_schema(path)
    return parsed(path, path, columns)


def read_rows(path: str, start: int, stop: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows [start, stop) of the pack at a path.

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    _check(path)
    if columns is not None:
        read_schema(path)
    with _reading(path):
        rows = pl.scan_parquet(path, glob=False).slice(start, max(0, stop - start))
        frame = (rows if columns is None else rows.select(columns)).collect()
    if columns is None:
        _check_schema(path, frame.schema)
    total = pack_rows(path)
    return _check_values(path, frame, None if total is None else max(0, min(stop, total) - start))


AT_ONCE: Final = 64
"""Scans that polars is given at a time, so that open files and threads stay bounded."""


def read_frames(wanted: Sequence[Wanted]) -> list[pl.DataFrame]:
    """A frame of each unit.

    Raises:
        FormatError: A pack is damaged.
        OSError: One cannot be read.
    """
    for path in dict.fromkeys(one.path for one in wanted if ABORTS or not one.checked):
        _check(path)
    readings = readings_of(wanted)
    pieces: list[list[pl.DataFrame]] = [[] for _ in wanted]
    named = " or ".join([*dict.fromkeys(one.path for one in wanted)][:3])
    for at in range(0, len(readings), AT_ONCE):
        some = readings[at : at + AT_ONCE]
        with _reading(named):
            read = _collected([one.scan for one in some])
        for reading, frame in zip(some, read, strict=True):
            _check_types(named, frame, reading.columns)
            _check_values(named, frame, reading.rows)
            for place, first, count, where in reading.shares:
                rows = frame if len(reading.shares) == 1 else frame.slice(first, count)
                pieces[place].append(rows if where is None else rows.filter(where))
    return [found[0] if len(found) == 1 else pl.concat(found, rechunk=False) for found in pieces]


def _check_types(path: str, frame: pl.DataFrame, columns: Mapping[str, Any]) -> None:
    """Refuse a frame whose columns are not those that a footer told of in our words.

    Raises:
        FormatError: They are not.
    """
    if frame.columns != list(columns) or frame.dtypes != list(columns.values()):
        raise FormatError(f"The pack {path} is damaged: its columns are not those that its footer tells.")


def _collected(scans: list[pl.LazyFrame]) -> list[pl.DataFrame]:
    return [scans[0].collect(engine="streaming")] if len(scans) == 1 else pl.collect_all(scans)


_schemas: Final[dict[bytes, dict[str, Any]]] = {}
"""By the text in which a footer describes its columns, these: the packs of one study are mostly alike."""
_MOST_SCHEMAS: Final = 256


def read_schema(path: str, text: bytes | None = None) -> dict[str, Any]:
    """The columns of the unit in the pack at a path and their polars types, by the footer alone.

    Args:
        path: Of the pack, whose footer was checked.
        text: What its footer says of its columns; where that is the same, polars is not asked again (0.1 ms).

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    known = None if text is None else _schemas.get(text)
    if known is None:
        with _reading(path):
            known = dict(pl.read_parquet_schema(path))
        _check_schema(path, known)
        if text is not None:
            if len(_schemas) >= _MOST_SCHEMAS:
                _schemas.clear()
            _schemas[text] = known
    return dict(known)


def _check(path: str) -> None:
    """Refuse a pack whose length or footer is damaged, and where polars would not survive it, one with any damage."""
    if layout.parse_packed(path.rpartition("/")[2]):
        open_pack(path)
        if ABORTS and not _verified(path, files.signature(path)):
            raise FormatError(f"The pack {path} is damaged: its bytes do not match the checksum in its name.")
        return
    load_meta(path)
    name = layout.parse_unit(path.rpartition("/")[2])
    if ABORTS and name is not None and not verify(path):
        raise FormatError(f"The pack {path} is damaged: its bytes do not match the checksum in its name.")


@lru_cache(maxsize=256)
def _verified(path: str, _signature: tuple[int, ...]) -> bool:
    """Whether a compacted pack, of which many units are read one by one, is whole; asked once while the file is the same."""
    return verify(path)


def parsed(source: str | bytes, path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The frame in a Parquet file, or in the bytes of one; the path is for what is said of damage."""
    chosen = None if columns is None else list(columns)
    with _reading(path):
        if isinstance(source, bytes):
            frame = pl.read_parquet(source, columns=chosen)
        else:
            frame = pl.read_parquet(source, columns=chosen, glob=False)
    if chosen is None:
        _check_schema(path, frame.schema)
    return _check_values(path, frame, pack_rows(path))


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Raise what polars says of a damaged file as ours, and of one that is gone as the system does, with its number."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except BROKEN as error:
        raise damaged(path, error) from error


def damaged(path: str, error: BaseException) -> FormatError:
    """The error for a pack of which polars, or whoever decodes its values, says that it is damaged."""
    return FormatError(f"The pack {path} is damaged: {error}.")
