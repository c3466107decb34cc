"""Type notes: which texts of a level's single records stand for times, since MessagePack has no type for those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from rigorous_recorder import values as v

from . import unit as u
from .replay import SUSPECT, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .replay import Event

UNDECODABLE: Final = (ValueError, TypeError, RecursionError, OverflowError, msgspec.MsgspecError)
"""What decoding damaged or hostile bytes raises. Before msgspec 0.20 its errors are no ValueErrors."""

_decoder: Final = msgspec.msgpack.Decoder(tuple[int, dict[str, str]])


def type_notes(events: Iterable[Event]) -> dict[int, dict[str, str]]:
    """By local level: which keys of its single records hold times that are stored as text, and which kind of times."""
    notes: dict[int, dict[str, str]] = {}
    for event in events:
        if event.kind == u.NOTE:
            try:
                level, kinds = _decoder.decode(event.payload)
            except UNDECODABLE:
                continue
            notes.setdefault(level, {}).update(kinds)
    return notes


def wrong_notes(events: Iterable[Event]) -> list[str]:
    """A sentence for each note that cannot be read: the times that it is about stay texts."""
    sentences = []
    for event in events:
        if event.kind == u.NOTE:
            try:
                _decoder.decode(event.payload)
            except UNDECODABLE as error:
                sentences.append(f"the note entry before row {event.row:,} is lost, and times are texts: {error}")
    return sentences


def revive(record: dict[str, Any], kinds: Mapping[str, str]) -> None:
    """Turn the texts of a record that are noted into the times that they stand for."""
    for key, kind in kinds.items():
        if key in record:
            record[key] = v.revive(record[key], kind)


def undecodable(start: int, stop: int, error: BaseException) -> Finding:
    """The finding for a record that cannot be decoded."""
    return Finding(SUSPECT, start, stop, f"a record that cannot be decoded: {error}", 1)


def undecodable_block(event: Event, error: BaseException) -> Finding:
    """The finding for a block of records that cannot be decoded; where it stands is not known any more."""
    _, count = u.BLOCK_PREFIX.unpack_from(event.payload)
    return Finding(
        SUSPECT, 0, 0, f"a block of {count:,} records from row {event.row:,} on that cannot be decoded: {error}", count
    )
