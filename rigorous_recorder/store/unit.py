"""The bytes of a unit, one piece of a journal: its header page, its blocks and its entries. The words are `docs/format.md`'s.

A unit is a page that says who wrote it, followed by blocks of equal size. A block starts with a header of 32 bytes and
holds entries one behind the other; no entry crosses into the next block, so a reader can go on behind a damaged one. An
entry that needs more room than a block has gets a block that spans several.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Final

import msgspec

from . import layout

MAGIC: Final = b"RRUNIT\x01\n"
PAGE: Final = 4096
BLOCK: Final = 65536
BLOCK_HEAD: Final = 32
RESERVE: Final = 4096
"""Bytes at the end of a unit that only the end entry may use: there is room for it even when the disk is full."""

# The first byte of an entry, its mark, is written last: zero means that nothing is here yet.
SHORT_MAX: Final = 239
"""1 to 239: a record of so many bytes follows."""
LONG: Final = 240
"""A record: u32 little-endian length, then the record."""
BEGIN: Final = 241
LEVEL: Final = 242
EDIT: Final = 243
ROWS: Final = 244
COLUMNS: Final = 245
END: Final = 246
NOTE: Final = 247
KINDS: Final = {
    LONG: "record",
    BEGIN: "begin",
    LEVEL: "level",
    EDIT: "edit",
    ROWS: "rows",
    COLUMNS: "columns",
    END: "end",
    NOTE: "note",
}

SWITCH: Final = 0xCE
"""The MessagePack u32 that precedes a record of another level than the record before it in the block had."""
SWITCH_SIZE: Final = 5

BLOCK_PREFIX: Final = struct.Struct("<II")
"""A block of rows or columns starts with its local level and its number of rows."""

_LENGTH: Final = struct.Struct("<I")
_PAGE_HEAD: Final = struct.Struct("<8sII")
_BLOCK_FIXED: Final = struct.Struct("<IIII")
_SLOT: Final = struct.Struct("<II")
SLOTS: Final = (16, 24)
"""Where in a block's header its two checksum slots are."""


_MARKS: Final = {kind: bytes((kind,)) for kind in KINDS}


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the first page of a unit says.

    Attributes:
        version: Of the format; a reader refuses a higher one.
        features: Names of features that a reader must know to read this unit.
        writer: Id of the writer, 32 hex digits.
        n: Which unit of that writer this is, from 1.
        attempt: Id of the attempt, 32 hex digits; "" for notes and for keepers in memory.
        block: Size of a block in bytes.
        salt: A random u32 that every block repeats, so that old bytes are never taken for new ones.
        boot, host, namespace, pid, pid_start: Which process on which host this is; pid_start in clock ticks since boot.
        time: When the unit was opened, in seconds since the epoch.
        start: When the writer opened its first unit, in seconds since the epoch.
    """

    version: int
    features: list[str]
    writer: str
    n: int
    attempt: str
    block: int
    salt: int
    boot: str
    host: str
    namespace: str
    pid: int
    pid_start: int
    time: float
    start: float


_header_encoder: Final = msgspec.msgpack.Encoder()
_header_decoder: Final = msgspec.msgpack.Decoder(Header)


def pack_header(header: Header) -> bytes:
    """The first page of a unit."""
    body = _header_encoder.encode(header)
    page = _PAGE_HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body
    if len(page) > BEAT:
        raise ValueError(f"a unit header of {len(page)} bytes is larger than its page")
    return page.ljust(PAGE, b"\0")


def unpack_header(page: bytes | memoryview) -> Header:
    """The header in the first page of a unit.

    Raises:
        ValueError: It is not one, or is damaged; the message says which.
    """
    if len(page) < _PAGE_HEAD.size:
        raise ValueError("the file is shorter than a header")
    magic, length, crc = _PAGE_HEAD.unpack_from(page)
    if magic != MAGIC:
        raise ValueError("the file does not start like a unit")
    body = bytes(page[_PAGE_HEAD.size : _PAGE_HEAD.size + length])
    if length > PAGE or len(body) < length or zlib.crc32(body) != crc:
        raise ValueError("the header does not match its checksum")
    try:
        header = _header_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the header cannot be read: {error}") from error
    if not BLOCK_HEAD * 2 <= header.block <= 1 << 30:
        raise ValueError(f"the header gives blocks of {header.block} bytes")
    check_header(header)
    return header


def check_header(header: Header) -> None:
    """Refuse a header with an id, a number or a time that no writer gives; one of a newer version may have others.

    What it says must not become a path, and a time that is no number equals nothing, not even its own copy.

    Raises:
        ValueError: It has.
    """
    if layout.newer(header.version, header.features):
        return
    if not layout.is_unit(header.writer, header.n):
        raise ValueError(f"the header is of unit {header.n} of the writer {header.writer[:40]!r}, which no unit can be")
    if header.attempt and not layout.is_id(header.attempt):
        raise ValueError(f"the header is of the attempt {header.attempt[:40]!r}, which is no id")
    if not (math.isfinite(header.time) and math.isfinite(header.start)):
        raise ValueError(f"the header has the times {header.start} and {header.time}")


class BlockHead(msgspec.Struct, frozen=True):
    """The header of a block: its place, how many blocks it spans, and two slots of (bytes used, CRC-32 over them)."""

    salt: int
    place: int
    span: int
    slots: tuple[tuple[int, int], tuple[int, int]]


BEAT: Final = PAGE - 8
"""Where in the first page the last sign of life stands: f64, seconds since the epoch by the writer's clock, 0 for none."""


def pack_beat(time: float) -> bytes:
    """A sign of life as it stands in the first page; it is no part of the header's checksum."""
    return _BEAT.pack(time)


def unpack_beat(page: bytes | memoryview, header: Header) -> float:
    """The last sign of life of whoever wrote a unit: at least when it was opened."""
    (beat,) = _BEAT.unpack_from(page, BEAT) if len(page) >= PAGE else (0.0,)
    return float(beat) if header.time <= beat <= header.time + _LONGEST else header.time


_BEAT: Final = struct.Struct("<d")
_LONGEST: Final = 100 * 365.25 * 86_400
"""Seconds: nobody writes one unit for longer."""


def pack_block(salt: int, index: int, span: int) -> bytes:
    """The header of a block that was just begun: no slot is filled."""
    return _BLOCK_FIXED.pack(salt, index, span, 0) + bytes(BLOCK_HEAD - _BLOCK_FIXED.size)


def unpack_block(data: bytes | memoryview, offset: int) -> BlockHead:
    """The header of the block at `offset`."""
    salt, place, span, _ = _BLOCK_FIXED.unpack_from(data, offset)
    first, second = (_SLOT.unpack_from(data, offset + slot) for slot in SLOTS)
    return BlockHead(salt, place, span, (first, second))


def block_at(data: bytes | memoryview, header: Header, index: int) -> BlockHead | None:
    """The header of the block that begins at a place of a unit, all of which must be in the data; None where none does."""
    head = unpack_block(data, PAGE + index * header.block)
    return head if (head.salt, head.place) == (header.salt, index) and head.span else None


def checksum(salt: int, index: int, span: int, content: bytes | memoryview) -> int:
    """CRC-32 (zlib's) over a block's salt, index and span, the length used, and the entries themselves."""
    return zlib.crc32(content, zlib.crc32(_BLOCK_FIXED.pack(salt, index, span, BLOCK_HEAD + len(content))))


def pack_slot(used: int, crc: int) -> bytes:
    """A checksum slot: the bytes used, counted from the block's start, and the checksum over them."""
    return _SLOT.pack(used, crc)


def pack_entry(kind: int, payload: bytes) -> bytes:
    """A whole entry of a kind from 240 on: mark, length, payload."""
    return _MARKS[kind] + _LENGTH.pack(len(payload)) + payload


def entry_length(data: bytes | memoryview, offset: int) -> int:
    """The payload's length of an entry from 240 on, whose mark is at `offset`."""
    return int(_LENGTH.unpack_from(data, offset + 1)[0])


ENTRY_HEAD: Final = 1 + _LENGTH.size
"""Bytes of an entry from 240 on before its payload."""


def blocks_for(size: int, block: int) -> int:
    """How many blocks an entry of `size` bytes (mark and length included) needs when it starts a block."""
    return -(-(BLOCK_HEAD + size) // block)


def unit_size(blocks: int, block: int) -> int:
    """The file size in bytes of a unit of so many blocks, its reserve included."""
    return PAGE + blocks * block + RESERVE
