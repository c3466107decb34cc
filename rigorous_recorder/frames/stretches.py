"""Stretches: which level each row of a frame belongs to, as runs of rows of one level. Brings NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from .materialise import Stretch
    from .part import Cut, Part

SPARSE: Final = 4
"""Local level numbers up to so many times their count (and a few thousand) are looked up in a table."""

SHORT: Final = 4
"""Rows: runs that are shorter on average are kept row by row, which is faster to spread."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Which level each row belongs to, as runs of rows of one level.

    Attributes:
        levels: Of each run, the row in the table of levels (int64).
        lengths: Of each run, how many rows it has (int64).
    """

    levels: NDArray[Any]
    lengths: NDArray[Any]

    @cached_property
    def rows(self) -> int:
        """How many rows all runs have."""
        return int(self.lengths.sum())

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value for each row from one for each row of the table: 3 M floats in 1 ms by long runs, in 15 by an index."""
        each = values[self.levels]
        return each if len(self.levels) == self.rows else np.repeat(each, self.lengths)

    @cached_property
    def used(self) -> NDArray[Any]:
        """The rows of the table that have rows in the frame, sorted."""
        seen = np.zeros(int(self.levels.max()) + 1 if len(self.levels) else 0, "?")
        seen[self.levels] = True
        return np.flatnonzero(seen)


def runs_of(stretches: Iterable[Stretch]) -> Runs:
    """The runs of rows of units."""
    runs = [_told(cut) if cut is not None else _runs(levels.to_numpy(), part) for part, cut, levels, _ in stretches]
    return Runs(
        np.concatenate([np.empty(0, "i8"), *(one.levels for one in runs)]),
        np.concatenate([np.empty(0, "i8"), *(one.lengths for one in runs)]),
    )


def _told(cut: Cut) -> Runs:
    """The runs that a pack tells."""
    rows, sizes = zip(*cut.pieces, strict=True) if cut.pieces else ((), ())
    return Runs(np.array(rows, "i8"), np.array(sizes, "i8"))


def _runs(levels: NDArray[Any], part: Part) -> Runs:
    """The runs of a unit's rows."""
    if not len(levels):
        return Runs(np.empty(0, "i8"), np.empty(0, "i8"))
    changes = np.flatnonzero(levels[1:] != levels[:-1])
    if len(changes) * SHORT > len(levels):
        return Runs(looked_up(part, levels), np.ones(len(levels), "i8"))
    starts = np.concatenate(([0], changes + 1))
    return Runs(looked_up(part, levels[starts]), np.diff(starts, append=len(levels)))


def looked_up(part: Part, locals_: NDArray[Any]) -> NDArray[Any]:
    """The rows in the table of levels of local level numbers; -1 where one does not belong into the frame."""
    other = -1 if part.lost is None else part.lost
    known = np.array(sorted(part.levels), "i8")
    rows = np.array([part.levels[local] for local in known.tolist()], "i8")
    if not len(known):
        return np.full(len(locals_), other)
    highest = int(known[-1])
    found: NDArray[Any]
    if highest < SPARSE * len(known) + 4096:
        table = np.full(highest + 2, other)
        table[known] = rows
        found = table[np.minimum(locals_, highest + 1)]
    else:
        places = np.minimum(np.searchsorted(known, locals_), len(known) - 1)
        found = np.where(known[places] == locals_, rows[places], other)
    return found
