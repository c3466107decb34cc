"""Packs: seal a unit's log into an immutable Parquet file, and read such a file. Only sealers and readers import this.

The log goes only after the pack is on disk under its name, was read back and equals what was decoded, bit for bit.
"""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rigorous_recorder.errors import FormatError

from . import files, layout
from .columns import Decoded
from .gather import TooWideError
from .packmeta import KEY, PackMeta, kept_events, load_meta, pack_meta, stamp
from .unit import BLOCK_HEAD, PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .unit import Header

CELLS: Final = 1_000_000
"""Per row group: enough that 3,000 columns are not torn to pieces, few enough that groups can be skipped."""
MOST_ROWS: Final = 1 << 18
LEAST_ROWS: Final = 1 << 10

_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError)
"""What polars raises over a damaged file. PanicException is a BaseException."""

ABORTS: Final = tuple(int(part) for part in pl.__version__.split(".")[:2]) < (2, 1)
"""Whether this polars may abort the process over a damaged page (1.32 does; 2.1 raised in all of 1,460 flips)."""


def seal(path: str) -> str | None:
    """Seal the log at a path into a pack beside it, and remove the log.

    Returns:
        The path of the pack, or None when the log stays; see `seal_or_why`.
    """
    return seal_or_why(path)[0]


def seal_or_why(path: str) -> tuple[str | None, str]:
    """Seal the log at a path into a pack beside it, and remove the log, or say why it stays, which is a normal state.

    May be killed at any point and called again. A log that is damaged, or that holds what no checksum vouches for, is
    left as it is; so is one with so many distinct keys that its columns would be nearly all empty.

    Args:
        path: Of a unit's log whose writer has retired it or is dead.

    Returns:
        The path of the pack, or None and the reason.

    Raises:
        FormatError: The path names no log, or its content is not that unit, or what was written does not read back.
        OSError: The disk refused; the log is as it was.
    """
    folder, _, name = path.rpartition("/")
    folder = folder or "."
    unit = layout.parse_unit(name)
    if unit is None or unit.sealed:
        raise FormatError(f"{name!r} is not the name of a unit's log.")
    data = files.read_all(path)
    try:
        decoded = Decoded(data, refuse_wide=True)
    except TooWideError:
        return None, "too wide: a table of its keys would be nearly all empty"
    except ValueError:
        return None, "damaged"
    if decoded.findings or decoded.unverified:
        return None, "damaged or not verified"
    if layout.newer(decoded.header.version, decoded.header.features):
        return None, "of a newer version"
    if (decoded.header.writer, decoded.header.n) != (unit.writer, unit.n):
        raise FormatError(f"The log {path} holds another unit than its name says.")
    log_crc = zlib.crc32(data)
    pack = _existing(folder, decoded, len(data), log_crc) or _write(folder, decoded, len(data), log_crc)
    files.sync_folder(folder)
    if _grew(path, data, decoded.header):  # somebody still writes: the log is more than the pack
        return None, "still written to"
    files.remove(path)
    files.sync_folder(folder)
    return pack, ""


def _grew(path: str, data: bytes, header: Header) -> bool:
    """Whether a log has more than what was read of it: entries are only ever added in its last block or behind it."""
    last = next(
        (
            at
            for at in range(PAGE + (len(data) - PAGE) // header.block * header.block, PAGE, -header.block)
            if any(data[at : at + BLOCK_HEAD])
        ),
        PAGE,
    )
    descriptor = files.open_read(path)
    try:
        return files.read_at(descriptor, len(data), last) != data[last:]
    finally:
        files.close(descriptor)


def _existing(folder: str, decoded: Decoded, log_size: int, log_crc: int) -> str | None:
    """The pack that an interrupted sealing left, if it is whole."""
    header = decoded.header
    for name in files.names(folder):
        found = layout.parse_unit(name)
        if found is None or not found.sealed or (found.writer, found.n) != (header.writer, header.n):
            continue
        path = f"{folder}/{name}"
        with suppress(FormatError):
            meta = load_meta(path)
            if (meta.log_size, meta.log_crc) == (log_size, log_crc) and verify(path) and _same_file(path, decoded):
                return path
    return None


def _same_file(path: str, decoded: Decoded) -> bool:
    return equal(_parsed(files.read_all(path), path), decoded.frame)


def verify(path: str) -> bool:
    """Whether a pack's bytes are those that its name vouches for.

    Raises:
        OSError: It cannot be read.
    """
    name = layout.parse_unit(path.rpartition("/")[2])
    if name is None or name.crc is None:
        return False
    data = files.read_all(path)
    return len(data) == name.size and zlib.crc32(data) == name.crc


def _write(folder: str, decoded: Decoded, log_size: int, log_crc: int) -> str:
    """Write a unit's pack, compare it and give it its name; its path."""
    header = decoded.header
    meta = PackMeta(header, kept_events(decoded.events), decoded.rows, log_size, log_crc, decoded.beat)
    content = parquet(decoded.frame, pack_meta(meta))
    target = f"{folder}/{layout.pack_name(header.writer, header.n, decoded.rows, len(content), zlib.crc32(content))}"
    temporary, descriptor = _temporary(folder, header.writer)
    try:
        try:
            files.write_at(descriptor, content, 0)
            files.sync_file(descriptor)
        finally:
            files.close(descriptor)
        _check_written(temporary, content, decoded)
        files.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            files.remove(temporary)
        raise
    if load_meta(target) != meta:
        raise FormatError(f"The footer of {target} does not read back as it was written; the log stays.")
    return target


def _check_written(path: str, content: memoryview, decoded: Decoded) -> None:
    written = files.read_all(path)
    if written != content or not equal(_parsed(written, path), decoded.frame):
        raise FormatError(f"What was written to {path} does not read back the same; the log stays.")


def _temporary(folder: str, writer: str) -> tuple[str, int]:
    """A new file beside the target; others of its kind are of sealers that were killed, or of one at work."""
    k = 0
    while True:
        path = f"{folder}/{layout.temporary_name(writer, k)}"
        try:
            return path, files.create(path)
        except FileExistsError:
            k += 1


def parquet(frame: pl.DataFrame, meta: str) -> memoryview:
    """A frame as a Parquet file with our text in its footer."""
    rows = min(max(CELLS // frame.width, LEAST_ROWS), MOST_ROWS)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", row_group_size=rows, metadata={KEY: meta})
    content = buffer.getbuffer()  # no copy of it is made
    stamp(content)
    return content


def read_frame(path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The frame of the unit in the pack at a path.

    Args:
        path: Of the pack.
        columns: Which of its columns; all by default.

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    _check(path)
    return _parsed(path, path, columns)


def read_rows(path: str, start: int, stop: int) -> pl.DataFrame:
    """The rows [start, stop) of the unit in the pack at a path.

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    _check(path)
    try:
        return pl.scan_parquet(path, glob=False).slice(start, max(0, stop - start)).collect()
    except _BROKEN as error:
        raise _damaged(path, error) from error


def read_frames(paths: Sequence[str], columns: Sequence[str], where: pl.Expr | None = None) -> pl.DataFrame:
    """Some columns of the units in several packs that have them in the same types, one unit behind the other.

    Args:
        paths: Of the packs.
        columns: Their names.
        where: What rows must be true of, else they are left out; row groups whose statistics rule it out are not read.

    One scan of all files by the streaming engine takes half the time of a loop (3 M rows in 12 packs: 32 ms against 68).

    Raises:
        FormatError: A pack is damaged.
        OSError: One cannot be read.
    """
    for path in paths:
        _check(path)
    try:
        frame = pl.scan_parquet(list(paths), glob=False)
        chosen = frame if where is None else frame.filter(where)
        return chosen.select(columns).collect(engine="streaming")
    except _BROKEN as error:
        raise _damaged(" or ".join(paths[:3]), error) from error


def read_schema(path: str) -> dict[str, Any]:
    """The columns of the unit in the pack at a path and their polars types, by the footer alone.

    Raises:
        FormatError: The pack is damaged.
        OSError: It cannot be read.
    """
    load_meta(path)
    try:
        return dict(pl.read_parquet_schema(path))
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _check(path: str) -> None:
    """Refuse a pack whose length or footer is damaged, and where polars would not survive it, one with any damage."""
    load_meta(path)
    name = layout.parse_unit(path.rpartition("/")[2])
    if ABORTS and name is not None and not verify(path):
        raise FormatError(f"The pack {path} is damaged: its bytes do not match the checksum in its name.")


def _parsed(source: str | bytes, path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    try:
        if isinstance(source, bytes):
            return pl.read_parquet(source, columns=None if columns is None else list(columns))
        return pl.read_parquet(source, columns=None if columns is None else list(columns), glob=False)
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: BaseException) -> FormatError:
    return FormatError(f"The pack {path} is damaged: {error}.")


# ---- comparing -------------------------------------------------------------------------------------------------------


def equal(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    """Whether two frames are the same in names, types, nulls and every bit of their values."""
    return left.schema == right.schema and left.height == right.height and all(map(_same, left, right))


def _same(left: pl.Series, right: pl.Series) -> bool:
    if left.dtype == pl.List:
        if not _same(left.list.len(), right.list.len()):
            return False
        return _same(left.explode(), right.explode())
    if left.dtype != pl.Float64:
        return left.equals(right, check_dtypes=True, null_equal=True)
    if left.null_count() or right.null_count():
        if not left.is_null().equals(right.is_null()):
            return False
        left, right = left.fill_null(0.0), right.fill_null(0.0)
    return bool(np.array_equal(_bits(left), _bits(right)))


def _bits(numbers: pl.Series) -> Any:
    return numbers.to_numpy().view(np.int64)
