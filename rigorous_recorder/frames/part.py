"""Part: the rows of one unit that belong into a frame, and how they are got at again when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import polars as pl
from msgspec.structs import replace

from rigorous_recorder.errors import DamageWarning, DeletedError, RecorderError, warn
from rigorous_recorder.reading import KEEP
from rigorous_recorder.store import files
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.names import LEVEL, column_name
from rigorous_recorder.store.packsource import PackSource
from rigorous_recorder.store.snapshot import open_unit, was_deleted, why_gone

from .widening import Typed, bounds_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rigorous_recorder.store.snapshot import UnitPlace
    from rigorous_recorder.store.source import UnitSource

    from .widening import Bounds


class Piece(NamedTuple):
    """Rows of one level that lie together.

    Attributes:
        row: Of the table of levels.
        size: How many rows.
    """

    row: int
    size: int


class Cut(msgspec.Struct, frozen=True):
    """Those rows of a unit that belong into the frame, as its pack tells without being read.

    Attributes:
        pieces: What they are, in order.
        slices: Where they are in the unit: start and count of each stretch of them.
    """

    pieces: list[Piece]
    slices: tuple[tuple[int, int], ...]

    @property
    def height(self) -> int:
        """How many rows."""
        return sum(piece.size for piece in self.pieces)


class Part(msgspec.Struct, frozen=True, eq=False):
    """The rows of one unit that belong into the frame.

    Attributes:
        kept: The unit, unless it is to be opened again when it is needed.
        place: Where it is; None in memory.
        grows: Whether somebody may still be writing it.
        rows: How many rows it had when it was read; it may have grown since.
        levels: By local level number, the row in the table of levels; -1 for a level that does not belong into the frame.
        lost: The row of the table for records whose level no unit defines; None when they do not belong into the frame.
        whole: Whether all rows belong into the frame.
        types: By key, the polars type of the unit's own column.
        exact: The keys that have a companion column with exact values.
    """

    kept: UnitSource | None
    place: UnitPlace | None
    grows: bool
    rows: int
    levels: Mapping[int, int]
    lost: int | None
    whole: bool
    types: Mapping[str, Any]
    exact: frozenset[str]

    @property
    def source(self) -> UnitSource:
        """The unit; of a released part, read anew each time."""
        opened = self.opened().kept
        assert opened is not None  # that is what opening is for
        return opened

    def opened(self) -> Part:
        """The part with its unit at hand, from where it is now.

        Raises:
            RecorderError: The unit is gone; a DeletedError if its attempt was deleted.
        """
        if self.kept is not None and not (isinstance(self.kept, PackSource) and not files.exists(self.kept.path)):
            return self
        assert self.place is not None  # only units with a place are let go of
        source = open_unit(self.place)
        if source is None:
            raise why_gone(self.place)
        return replace(self, kept=source)

    def released(self) -> Part:
        """The part without what takes memory. A log that may grow is kept: later it might have other types."""
        large = isinstance(self.kept, LogSource) and self.place is not None and len(self.kept.data) > KEEP
        return replace(self, kept=None) if large and not self.grows else self

    def at(self, rows: Collection[int]) -> Part:
        """The part with the rows only of levels that have these rows in the table of levels."""
        levels = {local: row if row in rows else -1 for local, row in self.levels.items()}
        lost = self.lost if self.lost in rows else None
        if levels == self.levels and lost == self.lost:
            return self
        return replace(self, levels=levels, lost=lost, whole=False)

    @property
    def empty(self) -> bool:
        """Whether no record of it can belong into the frame."""
        return self.lost is None and all(row < 0 for row in self.levels.values())

    def where(self) -> pl.Expr | None:
        """What those rows of the unit that belong into the frame are true of; None where all do."""
        if self.whole:
            return None
        if self.lost is None:
            return _among([local for local, row in self.levels.items() if row >= 0])
        return ~_among([local for local, row in self.levels.items() if row < 0])

    def cut(self) -> Cut | None:
        """Where the rows are that belong into the frame, if the unit is in a pack that tells its runs of levels."""
        runs = self.kept.runs if isinstance(self.kept, PackSource) else None
        if runs is None:
            return None
        pieces: list[Piece] = []
        slices: list[tuple[int, int]] = []
        start = 0
        for local, told in zip(runs[::2], runs[1::2], strict=True):
            count = min(told, self.rows - start)  # the unit may have grown since the plan was made
            row = self.levels.get(local, self.lost)
            if count > 0 and row is not None and row >= 0:
                pieces.append(Piece(row, count))
                if slices and sum(slices[-1]) == start:
                    slices[-1] = slices[-1][0], slices[-1][1] + count
                else:
                    slices.append((start, count))
            start += count
        return Cut(pieces, tuple(slices))

    @property
    def sure(self) -> int:
        """How many rows of it belong into the frame at least, as far as this is known without reading it."""
        if self.whole:
            return self.rows
        cut = self.cut()
        return 0 if cut is None else cut.height

    def typed(self, key: str) -> Typed:
        """The type of a key's column in this unit."""
        return Typed(self.types[key], lambda: self._bounds(key))

    def _bounds(self, key: str) -> Bounds:
        try:
            return bounds_of(self.source.frame([column_name(key)]).to_series())
        except (RecorderError, OSError):  # a damaged pack, of which its reading will tell
            return None


def warn_lacking(place: UnitPlace | None, rows: int, error: Exception) -> None:
    """Say that a frame lacks the rows of a unit, and why: if its attempt was deleted, that."""
    if place is not None and was_deleted(place.folder):
        error = why_gone(place)
    says = str(error)
    if isinstance(error, DeletedError):
        says = f"{error.strerror}."
    elif isinstance(error, OSError) and not isinstance(error, RecorderError) and place is not None:
        says = f"{place.path} cannot be read: {error.strerror or error}."
    warn(f"{says} The frame lacks its {rows:,} rows.", DamageWarning)


def _among(locals_: list[int]) -> pl.Expr:
    """Whether a row's level is one of these; where they follow each other, as something that Parquet's statistics decide."""
    level, first, last = pl.col(LEVEL), min(locals_, default=0), max(locals_, default=-1)
    if last - first + 1 == len(locals_):
        return level == first if first == last else level.is_between(first, last)
    return level.is_in(pl.Series(locals_, dtype=pl.UInt32).implode())
