"""Packs: seal a unit's log into an immutable Parquet file. Only sealers import this; `packread.py` reads such files.

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
from .live import read_log
from .packmeta import KEY, PackMeta, kept_events, load_meta, pack_meta, stamp
from .packread import parsed, verify
from .schema import described
from .unit import BLOCK_HEAD, PAGE

if TYPE_CHECKING:
    from .unit import Header

CELLS: Final = 1_000_000
"""Per row group: enough that 3,000 columns are not torn to pieces, few enough that groups can be skipped."""
MOST_ROWS: Final = 1 << 16
PAGE_SIZE: Final = 1 << 17
"""Bytes: a reader that looks for one level skips the other pages of a group. Of ten levels in 349,305 rows it reads one in
5.2 ms, by pages of polars' default (1 MiB) in 7.9, and the files are 0.01 % smaller."""
LEAST_ROWS: Final = 1 << 10


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
    data = read_log(path)
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
    return equal(parsed(files.read_all(path), path), decoded.frame)


def _write(folder: str, decoded: Decoded, log_size: int, log_crc: int) -> str:
    """Write a unit's pack, compare it and give it its name; its path."""
    meta = PackMeta(decoded.header, kept_events(decoded.events), decoded.rows, log_size, log_crc, decoded.beat)
    return write_sealed(folder, meta, decoded.frame)


def write_sealed(folder: str, meta: PackMeta, frame: pl.DataFrame) -> str:
    """Write the pack of one unit into a folder; its path. The folder's names are not brought to disk here.

    Raises:
        FormatError: What was written does not read back the same.
        OSError: The disk refused.
    """
    meta = described(meta, frame)
    content = parquet(frame, pack_meta(meta))
    header = meta.header
    layout.require_id(header.writer)
    name = layout.pack_name(header.writer, header.n, meta.rows, len(content), zlib.crc32(content))
    target = publish(folder, header.writer, name, content, frame)
    if load_meta(target) != meta:
        raise FormatError(f"The footer of {target} does not read back as it was written; the log stays.")
    return target


def publish(folder: str, owner: str, name: str, content: memoryview, frame: pl.DataFrame) -> str:
    """Bring a Parquet file to disk, compare it with the frame that it was made of, and only then give it its name.

    Args:
        folder: Where it goes; its names are not brought to disk here.
        owner: An id for the temporary file's name.
        name: Of the file.
        content: Of the file.
        frame: Its rows.

    Returns:
        Its path.

    Raises:
        FormatError: What was written does not read back the same.
        OSError: The disk refused.
    """
    temporary, descriptor = _temporary(folder, owner)
    try:
        try:
            files.write_at(descriptor, content, 0)
            files.sync_file(descriptor)
        finally:
            files.close(descriptor)
        _check_written(temporary, content, frame)
        files.rename(temporary, f"{folder}/{name}")
    except BaseException:
        with suppress(OSError):
            files.remove(temporary)
        raise
    return f"{folder}/{name}"


def _check_written(path: str, content: memoryview, frame: pl.DataFrame) -> None:
    written = files.read_all(path)
    if written != content or not equal(parsed(written, path), frame):
        raise FormatError(f"What was written to {path} does not read back the same; its source stays.")


def _temporary(folder: str, writer: str) -> tuple[str, int]:
    """A new file beside the target; others of its kind are of sealers that were killed, or of one at work."""
    k = 0
    while True:
        path = f"{folder}/{layout.temporary_name(writer, k)}"
        try:
            return path, files.create(path)
        except FileExistsError:
            k += 1


def parquet(frame: pl.DataFrame, meta: str, mark: bytes = b"RRPACK1") -> memoryview:
    """A frame as a Parquet file with our text, which starts with `mark`, in its footer."""
    rows = min(max(CELLS // frame.width, LEAST_ROWS), MOST_ROWS)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", row_group_size=rows, data_page_size=PAGE_SIZE, metadata={KEY: meta})
    content = buffer.getbuffer()  # no copy of it is made
    stamp(content, mark)
    return content


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
