"""Source of a unit that is in a pack, its own or a compacted one."""

from __future__ import annotations

import time
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rigorous_recorder.errors import FormatError

from . import files
from .packmeta import events_of, load_described

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

    from .packed import Key, Pack
    from .replay import Event, Finding
    from .source import UnitSource

FRESH: Final = 1.0
"""Seconds for which the footer of a pack that was opened is not looked at once more."""
MOST_CELLS: Final = 1 << 26
"""Rows times columns of a pack beyond which it is not taken into memory whole to go over its records."""


class PackSource:
    """A unit in a pack, its own or a compacted one. Header, events and the number of rows are read without polars.

    Packs are removed when all that they hold is in others: then the unit is read where it is now.

    Attributes:
        path: Of the pack.
        first: Where in the pack its rows begin.
        log: The bytes and the CRC-32 of the log that it was.
        alone: Whether it is the only unit there.
    """

    def __init__(
        self,
        path: str,
        pack: Pack | None = None,
        key: Key | None = None,
        *,
        again: Callable[[], UnitSource | None] | None = None,
    ) -> None:
        """A source of the unit in the pack at a path.

        Args:
            path: Of the pack.
            pack: The compacted pack that it is; None for one of a single unit.
            key: Which of its units.
            again: Opens the unit where it is now.

        Raises:
            FormatError: It is no pack of ours, or is damaged.
            OSError: It cannot be read.
        """
        self.path = path
        self.alone = pack is None
        if pack is None:
            self.first = 0
            self._meta, self._described = load_described(path)
        else:
            assert key is not None  # a pack of many units is asked for one of them
            self.first = pack.firsts[pack.units[key]]
            self._meta, self._described = pack.meta(key), pack.text
        self.header = self._meta.header
        self.rows = self._meta.rows
        self.beat = max(self._meta.beat, self.header.time)
        self.log = self._meta.log_size, self._meta.log_crc
        self.findings: list[Finding] = []
        self.unverified = 0
        self._again = again
        self._frame: pl.DataFrame | None = None
        self._opened = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether the pack was opened, and so its length and footer checked, just now: a frame of 15 takes 1 % less time."""
        return time.monotonic() - self._opened < FRESH

    @cached_property
    def events(self) -> list[Event]:
        """All entries but single records, in order; of blocks only the prefix of the payload."""
        return events_of(self._meta)

    @property
    def runs(self) -> list[int] | None:
        """Local level number and count of each run of rows of one level, one behind the other; None where it is not said."""
        return self._meta.runs

    def levels(self, start: int = 0, stop: int | None = None) -> Sequence[int]:
        """The local level number of each of the rows [start, stop); of some of them without NumPy.

        Raises:
            FormatError: The pack is damaged.
        """
        from .names import LEVEL

        if self._frame is None and stop is not None:
            return self._rows(start, stop)[LEVEL].to_list()
        frame = self.frame([LEVEL])
        return frame[LEVEL].to_numpy()[start:stop]  # type: ignore[return-value]

    def records(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """The own-key records of the rows [start, stop), as they were added.

        Raises:
            FormatError: The pack is damaged.
        """
        from .packread import BROKEN, damaged
        from .rows import frame_records

        stop = self.rows if stop is None else min(stop, self.rows)
        try:
            if self._frame is not None:
                return frame_records(self._frame, start, stop)
            return frame_records(self._rows(start, stop))
        except FormatError:
            raise
        except BROKEN as error:
            raise damaged(self.path, error) from error

    def loaded(self) -> PackSource:
        """The same unit with its frame in memory, which a reading of few rows does not need, and which goes with this."""
        if self.rows * len(self.schema()) > MOST_CELLS:  # a few kilobytes of equal values may stand for gigabytes
            return self
        source = copy(self)
        source.frame()
        return source

    def columns(self, start: int, stop: int) -> tuple[list[str], list[list[Any]]] | None:
        """Own keys and their values as lists for the rows [start, stop); None when the rows differ in their keys.

        Raises:
            FormatError: The pack is damaged.
        """
        from .rows import frame_columns

        return frame_columns(self._rows(start, stop) if self._frame is None else self._frame.slice(start, stop - start))

    @property
    def width(self) -> int:
        """How many values, or eights of bytes of long ones, a row takes; 0 while nothing is in memory."""
        if self._frame is None:
            return 0
        from .rows import frame_width

        return frame_width(self._frame)

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows as columns, all, which stay in memory, or some; see `columns.unit_frame`.

        Raises:
            FormatError: The pack is damaged.
        """
        if self._frame is None and columns is not None:
            return self._read_frame(columns)
        if self._frame is None:
            self._frame = self._read_frame(None)
        return self._frame if columns is None else self._frame.select(columns)

    def schema(self) -> dict[str, Any]:
        """The columns of `frame` and their polars types, by the footer.

        Raises:
            FormatError: The pack is damaged.
        """
        from .schema import understood

        if self._frame is not None:
            return dict(self._frame.schema)
        if self._meta.columns is not None:
            return understood(self.path, self._meta.columns)
        from .packread import read_schema

        schema: dict[str, Any] = self._where_it_is(lambda: read_schema(self.path, self._described))
        return schema if self.rows or self.alone else dict([*schema.items()][:1])

    def untrue(self) -> str:
        """What the footer tells of the rows that is not so, as a sentence; empty when all of it is.

        Raises:
            FormatError: The pack is damaged.
        """
        from .names import LEVEL
        from .truth import untrue_levels

        return untrue_levels(self.runs, self.frame([LEVEL])[LEVEL])

    def untrue_columns(self) -> str:
        """What the footer of a pack of this unit alone tells of its columns that is not so, as a sentence.

        Raises:
            FormatError: The pack is damaged.
        """
        from .packread import read_schema
        from .truth import untrue_columns

        return untrue_columns(self.path, self._meta.columns, read_schema(self.path, self._described))

    def _rows(self, start: int, stop: int) -> pl.DataFrame:
        from .packread import read_rows

        stop = max(start, min(stop, self.rows))
        rows: pl.DataFrame = self._where_it_is(lambda: read_rows(self.path, self.first + start, self.first + stop))
        return rows

    def _read_frame(self, columns: Sequence[str] | None) -> pl.DataFrame:
        from .packread import read_frame, read_rows

        def read() -> pl.DataFrame:
            if self.alone:
                return read_frame(self.path, columns)
            names = list(self.schema()) if columns is None else columns
            return read_rows(self.path, self.first, self.first + self.rows, names)

        frame: pl.DataFrame = self._where_it_is(read)
        return frame

    def _where_it_is(self, read: Callable[[], Any]) -> Any:
        """What reading gives, of the pack in which the unit is now, if this one goes meanwhile."""
        while True:
            try:
                return read()
            except (FormatError, OSError):
                before = self.path
                if files.exists(before) or not self.moved():
                    raise
                if self.path == before:
                    raise

    def moved(self) -> bool:
        """Turn to where the unit is now; whether it is anywhere."""
        now = None if self._again is None else self._again()
        if not isinstance(now, PackSource):
            return False
        self.path, self.first, self.alone, self._described = now.place
        self._opened = time.monotonic()
        return True

    @property
    def place(self) -> tuple[str, int, bool, bytes | None]:
        """Where the unit is: the pack, its first row there, whether it is alone, and how Arrow describes the columns."""
        return self.path, self.first, self.alone, self._described
