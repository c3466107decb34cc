"""Source of a unit that is still in its log, on disk or in memory."""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rigorous_recorder import values as v

from . import unit as u
from .blocks import block_records, block_width
from .notes import UNDECODABLE, revive, type_notes, undecodable, undecodable_block
from .replay import Finding, Replay, block_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from .columns import Decoded
    from .replay import Event

LARGE: Final = 1 << 20
"""Bytes of a log from which on reading all of it by columns is worth importing NumPy and polars (0.2 s)."""


class LogSource:
    """A unit in its log. Small ranges of it are read without polars and NumPy.

    Attributes:
        data: The log's bytes.
    """

    def __init__(self, data: bytes) -> None:
        """A source of the unit in `data`.

        Raises:
            ValueError: The header is damaged, so nothing can be read.
        """
        self.data = data
        self.header = u.unpack_header(data[: u.PAGE])
        self.beat = u.unpack_beat(data[: u.PAGE], self.header)
        self._decoded: Decoded | None = None
        self._wide = False
        self._last_block: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._found: dict[int, Finding] = {}

    @cached_property
    def _replay(self) -> Replay:
        return Replay(self.data, self.header)

    @cached_property
    def _notes(self) -> dict[int, dict[str, str]]:
        return type_notes(self.events)

    @property
    def events(self) -> list[Event]:
        """All entries but single records, in order."""
        return (self._decoded or self._replay).events

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return (self._decoded or self._replay).rows

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, undecodable records included as far as `records` or `frame` met them."""
        if self._decoded is not None:
            return self._decoded.findings
        return [*self._replay.findings, *self._found.values()]

    @property
    def unverified(self) -> int:
        """How many of the single records and events no checksum vouches for."""
        return (self._decoded or self._replay).unverified

    def levels(self, start: int = 0, stop: int | None = None) -> Sequence[int]:
        """The local level number of each of the rows [start, stop)."""
        if self._decoded is not None:
            return self._decoded.levels[start:stop]  # type: ignore[return-value]
        singles = self._replay.levels
        levels = array("I")
        for kind, first, last in self._parts(0, self.rows):
            if kind is None:
                levels.extend(singles[first:last])
            else:
                (level, _) = u.BLOCK_PREFIX.unpack_from(kind.payload)
                levels.extend([level] * (last - first))
        return levels[start:stop]

    def records(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """The own-key records of the rows [start, stop), as they were added."""
        records: list[dict[str, Any]] = []
        for block, first, last in self._parts(start, self.rows if stop is None else min(stop, self.rows)):
            records += self._singles(first, last) if block is None else self._block(block, first, last)
        return records

    def loaded(self) -> LogSource:
        """The same unit, decoded into columns if it is large and these would not be nearly all empty."""
        if len(self.data) >= LARGE and self._decoded is None and not self._wide:
            from .columns import Decoded
            from .gather import TooWideError

            try:
                self._decoded = Decoded(self.data, refuse_wide=True)
            except TooWideError:
                self._wide = True
        return self

    @property
    def is_decoded(self) -> bool:
        """Whether all records were decoded into columns, so that `findings` has all that is wrong with them."""
        return self._decoded is not None

    @property
    def width(self) -> int:
        """How many columns there are once the unit was decoded into columns; before, what a row of its widest block weighs."""
        decoded = self._decoded is not None and not self._decoded.wide
        return max(self._block_width, self._decoded.frame.width if decoded and self._decoded is not None else 0)

    @cached_property
    def _block_width(self) -> int:
        return max(map(block_width, self.events), default=0)

    def columns(self, start: int, stop: int) -> tuple[list[str], list[list[Any]]] | None:
        """Own keys and values as lists, once the unit was decoded into columns."""
        if self._decoded is None or self._decoded.wide:
            return None
        from .rows import frame_columns

        return frame_columns(self._decoded.frame.slice(start, stop - start))

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows as columns, all or some; see `columns.unit_frame`."""
        decoded = self._decode()
        return decoded.frame if columns is None else decoded.select(columns)

    def schema(self) -> dict[str, Any]:
        """The columns of `frame` and their polars types."""
        return self._decode().schema()

    def _decode(self) -> Decoded:
        if self._decoded is None:
            from .columns import Decoded

            self._decoded = Decoded(self.data)
        return self._decoded

    def _parts(self, start: int, stop: int) -> Iterator[tuple[Event | None, int, int]]:
        """The rows [start, stop) as ranges of single records, and with the event that holds them, of rows of blocks."""
        replay, within = self._replay, 0
        for event in replay.events:
            count = block_rows(event)
            if not count:
                continue
            if event.row >= stop:
                break
            if start < event.row:
                yield None, start - within, event.row - within
                start = event.row
            if start < event.row + count:
                yield event, start - event.row, min(stop, event.row + count) - event.row
                start = event.row + count
            within += count
        if start < stop:
            yield None, start - within, stop - within

    def _singles(self, first: int, last: int) -> list[dict[str, Any]]:
        replay, notes = self._replay, self._notes
        view = memoryview(self.data)
        records = []
        for place in range(first, last):
            start, stop = replay.starts[place], replay.stops[place]
            try:
                record = v.decode_record(view[start:stop])
            except UNDECODABLE as error:
                self._found[start] = undecodable(start, stop, error)
                record = {}
            if notes:
                revive(record, notes.get(replay.levels[place], {}))
            records.append(record)
        return records

    def _block(self, event: Event, first: int, last: int) -> list[dict[str, Any]]:
        if self._last_block[0] == event.row:
            return self._last_block[1][first:last]
        try:
            if self._wide and event.kind == u.ROWS:  # it is read some rows at a time, and decoded as a whole
                self._last_block = event.row, block_records(event)
                return self._last_block[1][first:last]
            return block_records(event, first, last)
        except UNDECODABLE as error:
            self._found[-1 - event.row] = undecodable_block(event, error)
            return [{} for _ in range(first, last)]
