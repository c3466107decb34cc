"""The fast walk over a unit: the same answers as `replay.Replay`, with equal records taken in stretches by NumPy.

Where a record's layout goes on unchanged, the marks of the entries stand at a constant stride. Comparing the bytes of a
whole stretch with the tiled layout costs 3 ns a record, and proves the chain of entries as well: each mark is compared.
Elsewhere the entries are chased one by one, 45 ns each, and more and more of them before the next try.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from . import unit as u
from .replay import SUSPECT, UNKNOWN, UNVERIFIED, Event, Finding, Span, block_rows, no_record, spans, wrong_block
from .template import Template, compile_template

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_ROWS: Final = 64
TILE_BYTES: Final = 1 << 16
LEAST_STRETCH: Final = 24
"""Records: shorter stretches cost more than chasing."""
FEW: Final = 16
"""Records: for so few, plain Python beats NumPy. Every block starts with one or two."""
_SWITCH: Final = bytes((u.SWITCH,))
TYPICAL: Final = 32
"""Bytes of an entry: patience is counted in records, and kept in bytes, which saves a count in the innermost loop."""
MOST_PATIENCE: Final = 1 << 14
REMEMBERED: Final = 8
"""How many layouts are tried before a new one is compiled, which takes 10 us."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records of one layout behind each other: `count` rows from `row` on, the first record at byte `start`."""

    row: int
    count: int
    start: int
    template: Template

    @property
    def stride(self) -> int:
        """Bytes from one record to the next."""
        return self.template.size + len(self.template.head)


class Loose(NamedTuple):
    """Records chased one by one: rows from `row` on, [first, last) of `Walk.starts`."""

    row: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of a block entry: `count` rows from `row` on."""

    row: int
    count: int
    event: Event


class Walk:
    """One unit, walked.

    Attributes:
        data: The unit's bytes.
        header: Its first page.
        events: All entries but single records, in order.
        rows: Number of rows.
        unverified: How many of the single records and events no checksum vouches for.
        findings: What was wrong.
        pieces: The rows, in order; None stands where the level in force starts anew.
        starts, stops: Byte range of each loose record, the switch of its level included.
    """

    def __init__(self, data: bytes | memoryview, header: u.Header | None = None) -> None:
        """Walk the unit in `data`.

        Raises:
            ValueError: The header is damaged, so nothing can be read.
        """
        self.data = data
        self.header = u.unpack_header(data[: u.PAGE]) if header is None else header
        self.events: list[Event] = []
        self.rows = 0
        self.unverified = 0
        self.findings: list[Finding] = []
        self.pieces: list[Stretch | Loose | Block | None] = []
        self._bytes = np.frombuffer(data, "u1")
        self._starts: list[int] = []
        self._long: dict[int, int] = {}
        self._templates: list[Template] = []
        self._patience = 1
        self._buffer = np.empty(TILE_BYTES, "u1")
        for span in spans(data, self.header, self.findings):
            before = self.rows + len(self.events)
            self._walk(span)
            if not span.verified:
                self.unverified += self.rows + len(self.events) - before
        marks = np.array(self._starts, "i8")
        self.starts = marks + 1
        self.stops = self.starts + self._bytes[marks]
        for place, stop in self._long.items():
            self.stops[place] = stop

    def _walk(self, span: Span) -> None:
        if not span.continues:
            self.pieces.append(None)
        position: int | None = span.start
        while position is not None and position < span.stop:
            position, taken = self._stretch(position, span.stop)
            self._patience = 1 if taken else min(self._patience * 2, MOST_PATIENCE)
            position = self._chase(position, span, self._patience)

    # ---- stretches --------------------------------------------------------------------------------------------------

    def _stretch(self, position: int, stop: int) -> tuple[int, int]:
        """Take the records of one layout that start at a position; the position behind them, and how many it were."""
        data, size, head = self.data, self.data[position], 1
        if size == u.LONG and position + u.ENTRY_HEAD <= stop:
            size, head = u.entry_length(data, position), u.ENTRY_HEAD
        stride = size + head
        if not size or (size <= u.SHORT_MAX) != (head == 1) or position + LEAST_STRETCH * stride > stop:
            return position, 0
        if not data[position] == data[position + stride] == data[position + 2 * stride]:
            return position, 0
        template = self._template(bytes(data[position + head : position + stride]))
        if template is None:
            return position, 0
        count = self._equal(position, (stop - position) // stride, template)
        if count < LEAST_STRETCH:
            return position, 0
        self.pieces.append(Stretch(self.rows, count, position + head, template))
        self.rows += count
        return position + count * stride, count

    def _template(self, record: bytes) -> Template | None:
        for place, template in enumerate(self._templates):
            if template.fits(record):
                if place:
                    self._templates.insert(0, self._templates.pop(place))
                return template
        compiled = compile_template(record)
        if compiled is not None:
            self._templates = [compiled, *self._templates[: REMEMBERED - 1]]
        return compiled

    def _equal(self, position: int, most: int, template: Template) -> int:
        """How many records from a position on have a layout, of at most `most`: few, then a tile at a time."""
        stride = template.size + len(template.head)
        tile_rows = max(TILE_BYTES // stride, 1)
        done, rows = 0, min(FIRST_ROWS, tile_rows)
        while done < most:
            rows = min(rows, most - done)
            mask, pattern = template.tiles(rows if done == 0 else tile_rows)
            size = rows * stride
            if size > len(self._buffer):  # a single record larger than a tile
                return done
            first = position + done * stride
            masked = np.bitwise_and(self._bytes[first : first + size], mask[:size], out=self._buffer[:size])
            same = masked == pattern[:size]
            different = int(same.argmin())
            if not same[different]:
                return done + different // stride
            done += rows
            rows = tile_rows
        return done

    # ---- one by one -------------------------------------------------------------------------------------------------

    def _chase(self, position: int, span: Span, most: int) -> int | None:
        """Go over up to `most` records one by one; the position behind them, or None when the span is done."""
        data, stop, short = self.data, span.stop, u.SHORT_MAX
        starts, first = self._starts, len(self._starts)
        add = starts.append
        end = False
        until = min(stop, position + most * TYPICAL)
        while position < until:
            mark = data[position]
            if 0 < mark <= short:
                if mark > u.SWITCH_SIZE or position + mark >= stop or data[position + 1] != u.SWITCH:
                    add(position)
                else:
                    self.findings.append(no_record(position + 1, position + 1 + mark))
                position += mark + 1
                continue
            if mark not in u.KINDS:
                if mark:
                    sentence = f"an entry of the unknown kind {mark}; the rest of its block is skipped"
                    self.findings.append(Finding(UNKNOWN, position, stop, sentence))
                end = True
                break
            start = position + u.ENTRY_HEAD
            position = start + u.entry_length(data, position) if start <= stop else stop + 1
            if position > stop:
                break
            if mark == u.LONG and (
                position == start or (data[start] == u.SWITCH and position - start <= u.SWITCH_SIZE)
            ):
                self.findings.append(no_record(start, position))
            elif mark == u.LONG:
                self._long[len(starts)] = position
                add(start - 1)
            else:
                first = self._event(mark, bytes(data[start:position]), first)
                self.findings.extend(wrong_block(self.events[-1], start))
        if position > stop:
            if (
                len(starts) > first
                and len(starts) - 1 not in self._long
                and starts[-1] + data[starts[-1]] + 1 == position
            ):
                starts.pop()
            kind = SUSPECT if span.verified else UNVERIFIED
            self.findings.append(Finding(kind, span.start, stop, "the last entry is longer than what there is of it"))
            end = True
        self._loose(first)
        return None if end else position

    def _event(self, kind: int, payload: bytes, first: int) -> int:
        """Note an event; the number of loose records from which on none is counted yet."""
        self._loose(first)
        event = Event(kind, payload, self.rows)
        self.events.append(event)
        count = block_rows(event)
        if count:
            self.pieces.append(Block(self.rows, count, event))
            self.rows += count
        return len(self._starts)

    def _loose(self, first: int) -> None:
        """Count the loose records from `first` on, as a piece of their own or at the end of the one before."""
        last = len(self._starts)
        if first == last:
            return
        before = self.pieces[-1]
        if isinstance(before, Loose):
            self.pieces[-1] = Loose(before.row, before.first, last)
        else:
            self.pieces.append(Loose(self.rows, first, last))
        self.rows += last - first

    # ---- what the rows belong to ------------------------------------------------------------------------------------

    def levels(self) -> NDArray[Any]:
        """The local level number of each row (uint32)."""
        levels = np.zeros(self.rows, "u4")
        level = 0
        for piece in self.pieces:
            if piece is None:
                level = 0
            elif isinstance(piece, Block):
                levels[piece.row : piece.row + piece.count] = u.BLOCK_PREFIX.unpack_from(piece.event.payload)[0]
            elif isinstance(piece, Stretch):
                taken = levels[piece.row : piece.row + piece.count]
                if piece.template.switch:
                    taken[:] = np.ndarray((piece.count,), ">u4", self.data, piece.start + 1, (piece.stride,))
                    level = int(taken[-1])
                else:
                    taken[:] = level
            else:
                taken = levels[piece.row : piece.row + piece.last - piece.first]
                taken[:] = self._loose_levels(self.starts[piece.first : piece.last], level)
                level = int(taken[-1])
        return levels

    def _loose_levels(self, starts: NDArray[Any], level: int) -> NDArray[Any]:
        if len(starts) <= FEW:
            return np.array([level := self._level_at(start, level) for start in starts.tolist()], "u4")
        places = np.flatnonzero(self.switches(starts))
        if not len(places):
            return np.full(len(starts), level, "u4")
        reads = starts[places][:, None] + np.arange(1, u.SWITCH_SIZE)
        numbers = self._bytes[np.minimum(reads, len(self._bytes) - 1)].copy().view(">u4")[:, 0]
        lengths = np.diff(places, prepend=0, append=len(starts))
        return np.repeat(np.concatenate([np.array([level], "u4"), numbers]), lengths)

    def _level_at(self, start: int, level: int) -> int:
        """The level of the record at a byte, when that of the record before it is `level`."""
        if self.data[start : start + 1] != _SWITCH:
            return level
        return int.from_bytes(self.data[start + 1 : start + u.SWITCH_SIZE], "big")

    def switches(self, starts: NDArray[Any]) -> NDArray[Any]:
        """Which of the records that start at these bytes begin with a switch to their level."""
        found: NDArray[Any] = self._bytes[np.minimum(starts, len(self._bytes) - 1)] == u.SWITCH
        return found
