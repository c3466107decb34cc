"""What a pack says about itself besides its columns: written into and read out of a Parquet footer, without polars.

Parquet ends with its metadata, their length (u32) and "PAR1" (https://parquet.apache.org/docs/file-format/). Among the
metadata is the text `RRPACK1 <crc32> <base64>`: a MessagePack array, deflated, with the unit's header and its events.
The CRC-32 is that of the whole footer, with zeros for its own eight digits: a reader whose library would trust a damaged
footer (polars 1.32 aborts the process over some) never gets to see one.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from typing import Final

import msgspec

from rigorous_recorder.errors import FormatError

from . import files, layout
from . import unit as u
from .replay import Event

KEY: Final = "rigorous_recorder"
_TEXT: Final = re.compile(rb"RRPACK[12] ([0-9a-f]{8}) ([A-Za-z0-9+/]+={0,2})")
_ARROW: Final = b"\x0cARROW:schema\x18"
_DESCRIBED: Final = re.compile(_ARROW + rb"[\x80-\xff]*[\0-\x7f][A-Za-z0-9+/]+={0,2}")
_ZEROS: Final = b"0" * 8
_TAIL: Final = struct.Struct("<I4s")
_GUESS: Final = 1 << 16
"""Bytes to read at first from a file's end: footers are rarely longer."""
_MOST: Final = 1 << 28
"""Bytes that a text may inflate to: no unit's events are more, and a hostile file must not fill the memory."""
MOST_EVENTS: Final = 1 << 21
"""An entry of a log takes five bytes and its payload, and a unit is 8 MiB, or larger for the sake of one entry."""


class PackMeta(msgspec.Struct, array_like=True, frozen=True):
    """What a pack says about its unit.

    Attributes:
        header: The unit's.
        events: (kind, payload, row) of each; of blocks only the prefix of the payload, since their rows are in the columns.
        rows: How many the unit has.
        log_size: Bytes of the log that was sealed.
        log_crc: Its CRC-32.
        beat: The writer's last sign of life in it, in seconds since the epoch.
    """

    header: u.Header
    events: list[tuple[int, bytes, int]]
    rows: int
    log_size: int
    log_crc: int
    beat: float = 0.0


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
    """The same, and the text in which Arrow describes the columns: two packs that have the same have the same columns.

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
    return meta, arrow_schema(footer)


def read_footer(path: str, expected: int | None) -> bytes:
    """The footer of the Parquet file at a path: its metadata, their length and "PAR1".

    Args:
        path: Of the file.
        expected: Its size in bytes by its name, where that says one.

    Raises:
        FormatError: It is cut, or does not end like a Parquet file.
        OSError: It cannot be read.
    """
    descriptor = files.open_read(path)
    try:
        size = files.size(path)
        if expected is not None and expected != size:
            raise FormatError(f"The pack {path} has {size:,} bytes, and its name says {expected:,}: it is damaged.")
        end = files.read_at(descriptor, min(size, _GUESS), max(0, size - _GUESS))
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
        return None if data is None or claimed(data, 1) > MOST_EVENTS else _decoder.decode(data)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def claimed(data: bytes | msgspec.Raw, place: int) -> int:
    """How many items the array at a place of MessagePack data claims, before any is decoded into an object of many bytes.

    Raises:
        ValueError: The data is no array.
    """
    parts = _raw_decoder.decode(data)
    head = bytes(memoryview(parts[place])[:5]) if len(parts) > place else b""
    if head[:1] == b"\xdd":
        return int.from_bytes(head[1:5])
    return int.from_bytes(head[1:3]) if head[:1] == b"\xdc" else 0


_raw_decoder: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
