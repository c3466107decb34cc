"""What a pack says about itself besides its columns: written into and read out of a Parquet footer, without polars.

Parquet ends with its metadata, their length (u32) and "PAR1" (https://parquet.apache.org/docs/file-format/). Among the
metadata is the text `RRPACK1 <crc32> <base64>`: a MessagePack array, deflated, with the unit's header and its events.
The CRC-32 is that of the whole footer, with zeros for its own eight digits: a reader whose library would trust a damaged
footer (polars 1.32 aborts the process over some) never gets to see one.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from rigorous_recorder.errors import FormatError

from . import files, layout
from . import unit as u
from .names import LEVEL
from .parquetrows import parquet_rows
from .replay import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY: Final = "rigorous_recorder"
_TEXT: Final = re.compile(rb"RRPACK[12] ([0-9a-f]{8}) ([A-Za-z0-9+/]+={0,2})")
_ARROW: Final = b"\x0cARROW:schema\x18"
_DESCRIBED: Final = re.compile(_ARROW + rb"[\x80-\xff]*[\0-\x7f][A-Za-z0-9+/]+={0,2}")
_ZEROS: Final = b"0" * 8
_TAIL: Final = struct.Struct("<I4s")
_GUESS: Final = 1 << 13
"""Bytes to read at first from the end of a unit's pack: its footer is rarely longer."""
_MOST: Final = 1 << 28
"""Bytes that a text may inflate to: no unit's events are more, and a hostile file must not fill the memory."""
MOST_EVENTS: Final = 1 << 21
"""An entry of a log takes five bytes and its payload, and a unit is 8 MiB, or larger for the sake of one entry."""
MAX_U32: Final = 2**32 - 1
MOST_RUNS: Final = 1 << 12
"""Runs of rows of one level that a footer tells: of more, readers ask the column of levels."""
MOST_COLUMNS: Final = 1 << 12
"""Columns that a footer tells in our words too: of more, readers ask Parquet's."""

LEVELS_TYPE: Final = "level"
"""The type of the column of levels, as footers tell it."""
NO_ROWS: Final = [(LEVEL, LEVELS_TYPE)]
"""The columns of a unit without rows."""


class PackMeta(msgspec.Struct, array_like=True, frozen=True):
    """What a pack says about its unit.

    Attributes:
        header: The unit's.
        events: (kind, payload, row) of each; of blocks only the prefix of the payload, since their rows are in the columns.
        rows: How many the unit has.
        log_size: Bytes of the log that was sealed.
        log_crc: Its CRC-32.
        beat: The writer's last sign of life in it, in seconds since the epoch.
        columns: Name and type of each column, as `schema.py` writes them; None where it does not say.
        runs: Local level number and count of each run of rows of one level, one behind the other; None where it does not
            say. With them a branch of the tree is a slice, and the column of levels is not read.
    """

    header: u.Header
    events: list[tuple[int, bytes, int]]
    rows: int
    log_size: int
    log_crc: int
    beat: float = 0.0
    columns: list[tuple[str, str]] | None = None
    runs: list[int] | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(PackMeta)


def pack_meta(meta: PackMeta) -> str:
    """The text for the Parquet footer."""
    return footer_text("RRPACK1", _encoder.encode(meta))


def footer_text(mark: str, data: bytes) -> str:
    """Data as a text of ours for a footer; its checksum is filled in by `stamp`."""
    return f"{mark} {_ZEROS.decode()} {base64.b64encode(zlib.compress(data, 1)).decode()}"


def stamp(content: memoryview, mark: bytes = b"RRPACK1") -> None:
    """Fill in, in a Parquet file whose footer has our text, the checksum over that footer.

    Raises:
        FormatError: It has no such footer.
    """
    start = len(content) - _footer_length(bytes(content[-_TAIL.size :]), len(content), "to be written")
    footer = content[start:]
    match = _last_text(bytes(footer), mark)
    if match is None or match[1] != _ZEROS:
        raise FormatError("The footer of the pack to be written does not have our text as it was given to polars.")
    footer[match.start(1) : match.end(1)] = f"{zlib.crc32(footer):08x}".encode()


def kept_events(events: list[Event]) -> list[tuple[int, bytes, int]]:
    """Events as a pack keeps them."""
    blocks = (u.ROWS, u.COLUMNS)
    return [(kind, payload[: u.BLOCK_PREFIX.size] if kind in blocks else payload, row) for kind, payload, row in events]


def load_meta(path: str) -> PackMeta:
    """What the pack at a path says about its unit; its length and its footer are checked, not its columns.

    Raises:
        FormatError: It is no pack of ours, or is damaged.
        OSError: It cannot be read.
    """
    return load_described(path)[0]


def load_described(path: str) -> tuple[PackMeta, bytes | None]:
    """The same, and where it does not tell its columns, the text in which Arrow does: packs with equal ones have equal columns.

    Raises:
        FormatError: It is no pack of ours, or is damaged.
        OSError: It cannot be read.
    """
    name = layout.parse_unit(path.rpartition("/")[2])
    footer = read_footer(path, None if name is None else name.size)
    meta = _find(footer)
    if meta is None:
        raise FormatError(f"The pack {path} has a damaged footer, or was written by another program.")
    if name is not None and (name.writer, name.n, name.rows) != (meta.header.writer, meta.header.n, meta.rows):
        raise FormatError(f"The pack {path} holds another unit than its name says.")
    if parquet_rows(footer) != meta.rows:
        raise FormatError(f"The pack {path} is damaged: it claims {meta.rows:,} rows, which are not there.")
    return meta, arrow_schema(footer) if meta.columns is None else None


def read_footer(path: str, expected: int | None, guess: int = _GUESS) -> bytes:
    """The footer of the Parquet file at a path: its metadata, their length and "PAR1".

    Args:
        path: Of the file.
        expected: Its size in bytes by its name, where that says one.
        guess: Bytes to read at first from its end; more are read where the footer is longer.

    Raises:
        FormatError: It is cut, or does not end like a Parquet file.
        OSError: It cannot be read.
    """
    descriptor = files.open_read(path)
    try:
        size = files.size(path)
        if expected is not None and expected != size:
            raise FormatError(f"The pack {path} has {size:,} bytes, and its name says {expected:,}: it is damaged.")
        end = files.read_at(descriptor, min(size, guess), max(0, size - guess))
        length = _footer_length(end, size, path)
        return end[-length:] if length <= len(end) else files.read_at(descriptor, length, size - length)
    finally:
        files.close(descriptor)


def read_meta(path: str) -> tuple[u.Header, list[Event], int]:
    """The header, the events and the number of rows of the unit in the pack at a path.

    Raises:
        FormatError: It is no pack of ours, or is damaged.
        OSError: It cannot be read.
    """
    meta = load_meta(path)
    return meta.header, events_of(meta), meta.rows


def events_of(meta: PackMeta) -> list[Event]:
    """The events of a pack."""
    return [Event(*event) for event in meta.events]


def _footer_length(end: bytes, size: int, path: str) -> int:
    if len(end) >= _TAIL.size:
        length, magic = _TAIL.unpack(end[-_TAIL.size :])
        if magic == b"PAR1" and length + _TAIL.size <= size:
            return int(length) + _TAIL.size
    raise FormatError(f"The pack {path} does not end like a Parquet file: it is damaged or cut.")


def _last_text(footer: bytes, mark: bytes) -> re.Match[bytes] | None:
    """Our text in a footer: the last of its kind, since what a user wrote can only be in the statistics before it."""
    at = footer.rfind(mark + b" ")
    return None if at < 0 else _TEXT.match(footer, at)


def arrow_schema(footer: bytes) -> bytes | None:
    """The last text of that name in a footer, with the two bytes of its length; None where there is none."""
    at = footer.rfind(_ARROW)
    match = None if at < 0 else _DESCRIBED.match(footer, at)
    return None if match is None else match[0]


def described(footer: bytes, mark: bytes = b"RRPACK1") -> bytes | None:
    """The data in our text in a footer, inflated; None when there is no text of that mark, or the footer is damaged."""
    match = _last_text(footer, mark)
    if match is None:
        return None
    view = memoryview(footer)
    crc = zlib.crc32(view[match.end(1) :], zlib.crc32(_ZEROS, zlib.crc32(view[: match.start(1)])))
    if crc != int(match[1], 16):
        return None
    try:
        return zlib.decompressobj().decompress(base64.b64decode(match[2], validate=True), _MOST)
    except (binascii.Error, zlib.error):
        return None


def _find(footer: bytes) -> PackMeta | None:
    """What our text in a footer says, if the footer is as it was written."""
    data = described(footer)
    try:
        if data is None or beyond(data, {1: MOST_EVENTS, 6: MOST_COLUMNS, 7: 2 * MOST_RUNS}):
            return None
        meta = _decoder.decode(data)
        return None if wrong(meta) else meta
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def wrong(meta: PackMeta) -> str:
    """What no writer says of a unit in what a pack says of one, as the end of a sentence; empty where there is no such thing.

    Of a unit of a newer version other things may be right.
    """
    if layout.newer(meta.header.version, meta.header.features):
        return ""
    try:
        u.check_header(meta.header)
    except ValueError as error:
        return str(error)
    if not math.isfinite(meta.beat):
        return f"its last sign of life is {meta.beat}"
    if not is_extent(meta.rows, meta.log_size, meta.log_crc):
        return f"it has {meta.rows:,} rows of a log of {meta.log_size:,} bytes with the CRC-32 {meta.log_crc}"
    return (
        "" if right_runs(meta.runs, meta.rows) else "it has runs of other rows than it has, or of levels that are none"
    )


def is_extent(rows: int, log_size: int, log_crc: int) -> bool:
    """Whether a unit can have so many rows, and its log so many bytes with such a CRC-32; a row takes a byte there at least."""
    return 0 <= rows <= log_size < layout.MAX_NUMBER and 0 <= log_crc <= MAX_U32


def right_runs(runs: list[int] | None, rows: int) -> bool:
    """Whether runs, if they are told, are those of so many rows, and of levels that the column of levels can have."""
    if runs is None:
        return True
    levels, counts = runs[::2], runs[1::2]
    right = len(levels) == len(counts) and sum(counts) == rows and min(runs, default=1) >= 0 and 0 not in counts
    return right and max(levels, default=0) <= MAX_U32


def beyond(data: bytes | msgspec.Raw, most: Mapping[int, int]) -> bool:
    """Whether an array in MessagePack data claims more items than it may have, before any becomes an object of many bytes.

    Args:
        data: An array.
        most: By place in it, how many items the array there may have.

    Raises:
        ValueError: The data is no array; of so few bytes that it cannot claim too much, their decoder says so.
    """
    if len(memoryview(data)) <= min(most.values()):  # each item takes a byte
        return False
    parts = _raw_decoder.decode(data)
    return any(_claimed(parts[place]) > limit for place, limit in most.items() if place < len(parts))


def _claimed(part: msgspec.Raw) -> int:
    head = bytes(memoryview(part)[:5])
    if head[:1] == b"\xdd":
        return int.from_bytes(head[1:5])
    return int.from_bytes(head[1:3]) if head[:1] == b"\xdc" else 0


_raw_decoder: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
