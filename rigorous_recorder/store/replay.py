"""Replay: read a unit's bytes into its entries, say which of them are vouched for, and go on behind damage."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..accelerator import native
from . import unit as u

if TYPE_CHECKING:
    from collections.abc import Iterator

VERIFIED: Final = "verified"
UNVERIFIED: Final = "unverified"
SUSPECT: Final = "suspect"
LOST: Final = "lost"
UNKNOWN: Final = "unknown"


class Span(msgspec.Struct, frozen=True):
    """A byte range of a unit that holds entries.

    Attributes:
        start, stop: The range [start, stop).
        verified: Whether a checksum vouches for it.
        continues: Whether it goes on where the span before it stopped, so that the level in force there still is.
    """

    start: int
    stop: int
    verified: bool
    continues: bool


class Finding(NamedTuple):
    """Something that is wrong with a file.

    Attributes:
        kind: One of the words above.
        start, stop: The byte range [start, stop).
        sentence: What is wrong.
        records: How many records it is about; None where that cannot be known.
    """

    kind: str
    start: int
    stop: int
    sentence: str
    records: int | None = None


class Event(NamedTuple):
    """An entry that is no single record: its kind, its payload, and how many rows came before it."""

    kind: int
    payload: bytes
    row: int


class Replay:
    """One unit, read: its header, its events, and where its records are.

    Attributes:
        data: The unit's bytes.
        header: Its first page.
        events: All entries but single records, in order.
        starts, stops: Byte range of each single record's MessagePack map.
        levels: Local level number of each single record.
        rows: Number of rows: single records and the rows of blocks.
        unverified: How many of the single records and events no checksum vouches for.
        findings: What was wrong.
    """

    __slots__ = ("_level", "data", "events", "findings", "header", "levels", "rows", "starts", "stops", "unverified")

    def __init__(self, data: bytes | memoryview, header: u.Header | None = None) -> None:
        """Read the unit in `data`.

        Raises:
            ValueError: The header is damaged, so nothing can be read.
        """
        self.data = data
        self.header = u.unpack_header(data[: u.PAGE]) if header is None else header
        self.events: list[Event] = []
        self.starts = array("I")
        self.stops = array("I")
        self.levels = array("I")
        self.rows = 0
        self.unverified = 0
        self._level = 0
        self.findings: list[Finding] = []
        for span in spans(data, self.header, self.findings):
            before = self.rows + len(self.events)
            (self._walk if native is None else self._walk_in_c)(span)
            if not span.verified:
                self.unverified += self.rows + len(self.events) - before

    def _walk_in_c(self, span: Span) -> None:
        level = self._level if span.continues else 0
        position, self._level, self.rows, starts, stops, levels, events, wrong, unknown = native.walk(
            self.data, span.start, span.stop, level, self.rows
        )
        self.starts.frombytes(starts)
        self.stops.frombytes(stops)
        self.levels.frombytes(levels)
        self.events.extend(Event(*event) for event in events)
        self.findings.extend(no_record(start, stop) for start, stop in wrong)
        if unknown is not None:
            self.findings.append(_unknown_kind(unknown, position, span.stop))
        if position > span.stop:
            self.findings.append(_too_long(span))

    def _walk(self, span: Span) -> None:
        data, position, stop = self.data, span.start, span.stop
        add_start, add_stop, add_level = self.starts.append, self.stops.append, self.levels.append
        level = self._level if span.continues else 0
        rows = self.rows
        while position < stop:
            mark = data[position]
            if mark <= u.SHORT_MAX:
                if mark == 0:
                    break
                start = position + 1
                position = start + mark
            elif mark in u.KINDS:
                start = position + u.ENTRY_HEAD
                if start > stop:
                    position = stop + 1
                    break
                position = start + u.entry_length(data, position)
                if mark != u.LONG:
                    if position <= stop:
                        event = Event(mark, bytes(data[start:position]), rows)
                        self.events.append(event)
                        rows += block_rows(event)
                        self.findings.extend(wrong_block(event, start))
                    continue
            else:
                self.findings.append(_unknown_kind(mark, position, stop))
                break
            if position > stop:
                break
            if position - start < 1 or (data[start] == u.SWITCH and position - start <= u.SWITCH_SIZE):
                self.findings.append(no_record(start, position))
                continue
            if data[start] == u.SWITCH:
                level = int.from_bytes(data[start + 1 : start + u.SWITCH_SIZE], "big")
                start += u.SWITCH_SIZE
            add_start(start)
            add_stop(position)
            add_level(level)
            rows += 1
        if position > stop:
            self.findings.append(_too_long(span))
        self.rows = rows
        self._level = level


def no_record(start: int, stop: int) -> Finding:
    """The finding for an entry that should hold records and holds none: nothing, a level alone, or a block that lies."""
    if stop - start < u.BLOCK_PREFIX.size:
        return Finding(SUSPECT, start, stop, "an entry without a record")
    return Finding(SUSPECT, start, stop, "a block that says it has more rows than bytes; it is passed over")


def _unknown_kind(kind: int, position: int, stop: int) -> Finding:
    return Finding(UNKNOWN, position, stop, f"an entry of the unknown kind {kind}; the rest of its block is skipped")


def _too_long(span: Span) -> Finding:
    kind = SUSPECT if span.verified else UNVERIFIED
    return Finding(kind, span.start, span.stop, "the last entry is longer than what there is of it")


def block_rows(event: Event) -> int:
    """How many rows an event of a log holds: those of a block of rows or columns, else none.

    No block has more rows than bytes, so one that says so lies, and has none: a few bytes could claim four billion.
    """
    if event.kind not in (u.ROWS, u.COLUMNS) or len(event.payload) < u.BLOCK_PREFIX.size:
        return 0
    _, count = u.BLOCK_PREFIX.unpack_from(event.payload)
    return int(count) if count <= len(event.payload) - u.BLOCK_PREFIX.size else 0


def wrong_block(event: Event, start: int) -> list[Finding]:
    """The finding for an event of a log whose payload starts at a byte, if it is a block that cannot be what it says."""
    if event.kind not in (u.ROWS, u.COLUMNS):
        return []
    size = len(event.payload) - u.BLOCK_PREFIX.size
    wrong = size < 0 or u.BLOCK_PREFIX.unpack_from(event.payload)[1] > size
    return [no_record(start, start + len(event.payload))] if wrong else []


def spans(data: bytes | memoryview, header: u.Header, findings: list[Finding]) -> Iterator[Span]:
    """The byte ranges of a unit that hold entries, in order; what is damaged is reported and left out.

    A block's entries end at the larger of its slots whose checksum matches: up to there they are verified. What follows,
    up to the first zero mark, is what was added since: unverified, and whole unless the machine lost power. Bytes that
    a slot covers and that do not match it are suspect.
    """
    block, size = header.block, len(data)
    begun = {
        index: head
        for index in range((size - u.PAGE - u.BLOCK_HEAD) // block + 1)
        if (head := u.block_at(data, header, index)) is not None
    }
    places = sorted(begun)
    index, last = 0, places[-1] if places else -1
    while u.PAGE + index * block + u.BLOCK_HEAD <= size:
        offset = u.PAGE + index * block
        head = begun.get(index)
        if head is None:
            if index < last or any(data[offset : offset + u.BLOCK_HEAD]):
                zeros = not any(data[offset : offset + u.BLOCK_HEAD])
                sentence = "a block of zeros before others" if zeros else "a block whose header is damaged"
                findings.append(Finding(LOST if zeros else SUSPECT, offset, min(size, offset + block), sentence))
            index += 1
            continue
        # the span counts only when a checksum vouches for it; else the block ends where the next one begins
        vouched = vouched_end(data, head, offset)
        following = next(
            (other for other in places[bisect_right(places, index) :] if u.PAGE + other * block >= vouched), None
        )
        room = size if following is None else u.PAGE + following * block
        end = offset + head.span * block
        over = vouched > end or (following is None and end < size and _ends_over(data, vouched, end))
        if vouched > offset + u.BLOCK_HEAD and vouched <= end < size and not over:
            room = min(room, end)  # only the end entry may stand or run behind a block's end
        yield from _block_spans(data, head, offset, room, findings, finished=following is not None)
        whole = vouched > offset + u.BLOCK_HEAD
        if whole and over:  # nothing begins behind it
            return
        index = index + head.span if whole else (index + 1 if following is None else following)
        if not whole and following is None:
            return


def _ends_over(data: bytes | memoryview, position: int, end: int) -> bool:
    """Whether, of the entries from a position in a block on, the end entry stands at the block's end or runs over it."""
    while position <= end and position + u.ENTRY_HEAD <= len(data):
        mark = data[position]
        if not mark:
            return False
        stop = position + 1 + mark if mark <= u.SHORT_MAX else position + u.ENTRY_HEAD + u.entry_length(data, position)
        if mark == u.END and end < stop <= len(data):
            return True
        position = stop
    return False


def vouched_end(data: bytes | memoryview, head: u.BlockHead, offset: int) -> int:
    """Up to where a checksum vouches for a block's entries; where they start when none does."""
    start, view = offset + u.BLOCK_HEAD, memoryview(data)
    for used, crc in sorted(head.slots, reverse=True):
        stop = offset + used
        if start <= stop <= len(data) and u.checksum(head.salt, head.place, head.span, view[start:stop]) == crc:
            return stop
    return start


def _block_spans(
    data: bytes | memoryview, head: u.BlockHead, offset: int, end: int, findings: list[Finding], *, finished: bool
) -> Iterator[Span]:
    start = offset + u.BLOCK_HEAD
    verified = vouched_end(data, head, offset)
    claimed = max((min(offset + used, end) for used, _ in head.slots), default=start)
    if claimed > verified:
        records = _records_in(data, verified, claimed)
        findings.append(Finding(SUSPECT, verified, claimed, "bytes that do not match their checksum", records))
    if verified > start:
        yield Span(start, verified, verified=True, continues=False)
    if claimed <= verified < end and data[verified] != 0:
        if finished:
            findings.append(Finding(UNVERIFIED, verified, end, "entries behind the last checksum of a finished block"))
        yield Span(verified, end, verified=False, continues=verified > start)


def _records_in(data: bytes | memoryview, position: int, stop: int) -> int | None:
    """How many records seem to be in a range that is not trusted; None where its entries do not end with it."""
    records = 0
    while position < stop:
        mark = data[position]
        if mark <= u.SHORT_MAX or position + u.ENTRY_HEAD > stop:
            length, head = mark, 1
        else:
            length, head = u.entry_length(data, position), u.ENTRY_HEAD
        if not mark:
            return None
        if mark in (u.ROWS, u.COLUMNS):
            payload = bytes(data[position + head : min(stop, position + head + length)])
            records += block_rows(Event(mark, payload, 0))
        else:
            records += mark <= u.LONG
        position += head + length
    return records if position == stop else None
