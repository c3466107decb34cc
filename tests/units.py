"""Units for tests: the bytes of a unit from a list of what is in it, written as a recorder would write them."""

import struct

from rigorous_recorder import values as v
from rigorous_recorder.store import layout
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.blocks import encode_block
from rigorous_recorder.store.replay import Replay, spans

WRITER = "0123456789abcdef" * 2
ATTEMPT = "fedcba9876543210" * 2


def header(**changes):
    """The header of a unit of this machine, as good as any."""
    fields = {
        "version": 1, "features": [], "writer": WRITER, "n": 1, "attempt": ATTEMPT, "block": u.BLOCK, "salt": 0x5A17,
        "boot": "boot", "host": "host", "namespace": "1", "pid": 1, "pid_start": 1, "time": 1.5, "start": 1.25,
    }  # fmt: skip
    return u.Header(**{**fields, **changes})


def event(kind, payload):
    """An entry of a kind from 241 on."""
    return u.pack_entry(kind, payload)


def note(level, record):
    """The note of the types of a level's record."""
    return u.pack_entry(u.NOTE, v.encode_record([level, v.type_note(record)]))


def block(level, data=None, /, **columns):
    """The entry of one `add_records` call."""
    kind, count, body = encode_block(data, columns)
    return u.pack_entry(kind, u.BLOCK_PREFIX.pack(level, count) + body)


def build(entries, head=None, *, sealed=True):
    """The bytes of a unit.

    Args:
        entries: Whole entries as bytes, and single records as pairs (local level, dict or encoded dict).
        head: The header.
        sealed: Whether the last block has its checksum, as a cleanly retired unit has; else its rows are unverified.
    """
    head = head or header()
    blocks, current, level = [], bytearray(), 0
    for entry in entries:
        packed = _packed(entry, level)
        if len(current) + len(packed) + u.BLOCK_HEAD > head.block:
            if current:
                blocks.append(bytes(current))
            current, level = bytearray(), 0
            packed = _packed(entry, level)
        current += packed
        level = level if isinstance(entry, bytes) else entry[0]
    blocks.append(bytes(current))
    parts, index = [u.pack_header(head)], 0
    for place, content in enumerate(blocks):
        span = u.blocks_for(len(content), head.block)
        fixed = bytearray(u.pack_block(head.salt, index, span))
        if sealed or place < len(blocks) - 1:
            crc = u.checksum(head.salt, index, span, content)
            fixed[u.SLOTS[0] : u.SLOTS[0] + 8] = u.pack_slot(u.BLOCK_HEAD + len(content), crc)
        parts.append((bytes(fixed) + content).ljust(span * head.block, b"\0"))
        index += span
    return b"".join(parts) + bytes(u.RESERVE)


def _packed(entry, level):
    if isinstance(entry, bytes):
        return entry
    own, record = entry
    payload = record if isinstance(record, bytes) else v.encode_record(record)
    if own != level:
        payload = struct.pack(">BI", u.SWITCH, own) + payload
    return bytes((len(payload),)) + payload if len(payload) <= u.SHORT_MAX else u.pack_entry(u.LONG, payload)


def write(folder, entries, head=None, *, sealed=True):
    """Write a unit's log into a folder; its path."""
    head = head or header()
    path = folder / layout.log_name(head.writer, head.n)
    path.write_bytes(build(entries, head, sealed=sealed))
    return str(path)


def same(left, right):
    """Whether two values are equal in value and type, NaN bits and the sign of zero included, down to the last item."""
    if left.__class__ is not right.__class__:
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            same(key, other) and same(left[key], right[other])
            for key, other in zip(sorted(left, key=repr), sorted(right, key=repr), strict=True)
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "utcoffset"):
        return left == right and left.utcoffset() == right.utcoffset()
    return left == right


def vouched(data):
    """The records that a checksum vouches for, by their place: their level and bytes."""
    header = u.unpack_header(data[: u.PAGE])
    replay = Replay(data, header)
    verified = [span for span in spans(data, header, []) if span.verified]
    return {
        start: (level, bytes(data[start:stop]))
        for start, stop, level in zip(replay.starts, replay.stops, replay.levels, strict=True)
        if any(span.start <= start < span.stop for span in verified)
    }
