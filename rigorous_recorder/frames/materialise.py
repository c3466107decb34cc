"""Materialise: from a plan to rows, as the levels of stretches of rows and columns of own values; libraries make frames of it.

Packs are read all at once, each with the rows of it that are wanted.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import polars as pl

from rigorous_recorder.errors import RecorderError
from rigorous_recorder.store import files
from rigorous_recorder.store.names import EXACT, LEVEL, column_name
from rigorous_recorder.store.notes import UNDECODABLE
from rigorous_recorder.store.packread import damaged, read_frames
from rigorous_recorder.store.packsource import PackSource
from rigorous_recorder.store.scans import Wanted

from .fitting import refuse_what_does_not_fit
from .part import warn_lacking
from .widening import widened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .part import Cut, Part
    from .plan import Column, Plan
    from .stretches import Runs

_LEVELS: Final = pl.Series(LEVEL, [], dtype=pl.UInt32)
"""No levels, where the pack tells them."""

Asked = tuple["Part", pl.Expr | None]
"""A part, and what is asked of columns that stand in its unit as they are: rows of which it is not true may be left out."""


class Stretch(NamedTuple):
    """The rows of one unit in a frame.

    Attributes:
        part: The unit.
        cut: What they are, where the pack tells.
        levels: The local number of each row's level, where it does not.
        sizes: Of the chunks that the own columns are in, where there are some.
    """

    part: Part
    cut: Cut | None
    levels: pl.Series
    sizes: list[int]

    @property
    def height(self) -> int:
        """How many rows."""
        return len(self.levels) if self.cut is None else self.cut.height


class Rows(msgspec.Struct, frozen=True, eq=False, dict=True):
    """The rows of a frame, or of a part of it.

    Attributes:
        plan: What the frame is.
        stretches: The rows of one unit after the other.
        columns: By name, the own values of the plan's columns that have such, in the column's type; null where a record
            has none. What the series themselves are called means nothing: polars takes some names for patterns.
        present: By name, for columns that are inherited and own: which rows have a value of their own, None included.
    """

    plan: Plan
    stretches: Sequence[Stretch]
    columns: Mapping[str, pl.Series]
    present: Mapping[str, pl.Series]

    @cached_property
    def height(self) -> int:
        """How many there are."""
        return sum(stretch.height for stretch in self.stretches)

    @cached_property
    def runs(self) -> Runs:
        """The rows' levels as runs."""
        from .stretches import runs_of  # which brings NumPy

        return runs_of(self.stretches)

    @cached_property
    def index(self) -> pl.Series:
        """For each row that of the table of levels."""
        import numpy as np

        return pl.Series(self.runs.spread(np.arange(self.plan.table.height, dtype="u4")))

    def merged(self, column: Column) -> pl.Series:
        """The values of a column that has own ones: where a record has none, what it inherits."""
        own = self.columns[column.name]
        if not column.inherited:
            return own
        inherited = self.plan.table[column.name].gather(self.index)
        return pl.select(pl.when(self.present[column.name]).then(own).otherwise(inherited)).to_series()


def materialise(plan: Plan, asked: Iterable[Asked] | None = None) -> Rows:
    """Read the rows of a plan, or of some of its parts. A unit that cannot be read costs its rows, and a warning says so.

    Args:
        plan: Of the frame.
        asked: The parts to read; all by default.

    Raises:
        TooLargeError: They take more memory than this process can have.
    """
    own = [column for column in plan.columns if column.own]
    asked = [(part, None) for part in plan.parts] if asked is None else [*asked]
    refuse_what_does_not_fit(asked, own)
    read = _read(asked, own)
    columns: dict[str, list[pl.Series]] = {column.name: [] for column in own}
    present: dict[str, list[pl.Series]] = {column.name: [] for column in own if column.inherited}
    stretches = []
    for (part, _, cut), frame in read:
        held = {series.name: series for series in frame.get_columns()}
        sizes = next(iter(held.values())).chunk_lengths() if held else []
        stretch = Stretch(part, cut, _LEVELS if cut is not None else held[LEVEL], sizes)
        found = [(column, held.get(column_name(column.key)), held.get(EXACT + column.key)) for column in own]
        try:
            values = [_own(series, exact, column.dtype, stretch.height) for column, series, exact in found]
        except UNDECODABLE as error:  # a value that stands beside its column
            warn_lacking(part.place, part.rows, damaged(part.place.path if part.place else "in memory", error))
            continue
        stretches.append(stretch)
        for (column, series, exact), series_of_column in zip(found, values, strict=True):
            columns[column.name].append(series_of_column)
            if column.inherited:
                present[column.name].append(_present(series, exact, stretch.height))
    return Rows(
        plan,
        stretches,
        {column.name: _stacked(column.dtype, columns[column.name]) for column in own},
        {name: _stacked(pl.Boolean(), series) for name, series in present.items()},
    )


def _stacked(dtype: Any, series: list[pl.Series]) -> pl.Series:
    return pl.concat(series, rechunk=False) if series else pl.Series(dtype=dtype)


class _Job(NamedTuple):
    """What is read of one unit.

    Attributes:
        part: The unit, opened.
        where: What rows must be true of.
        cut: Which rows are read, where that is told; else each row's level is read too.
    """

    part: Part
    where: pl.Expr | None
    cut: Cut | None

    def needed(self, own: Iterable[Column]) -> dict[str, Any]:
        """The columns of the unit that the wanted columns are made of, and their types."""
        part = self.part
        needed: dict[str, Any] = {} if self.cut is not None else {LEVEL: pl.UInt32()}
        for column in own:
            if column.key in part.types:
                needed[column_name(column.key)] = part.types[column.key]
                if column.key in part.exact and (column.inherited or part.types[column.key] != column.dtype):
                    needed[EXACT + column.key] = pl.Binary()
        return needed


def _read(asked: Iterable[Asked], own: Sequence[Column]) -> list[tuple[_Job, pl.DataFrame]]:
    """The units that can be read, each with the rows of it that are wanted, in the same order."""
    opened = [(part, where) for one, where in asked if (part := _opened(one)) is not None]
    jobs = [_Job(part, where, part.cut() if where is None else None) for part, where in opened]
    frames: dict[int, pl.DataFrame | None] = {}
    packs: dict[int, _Job] = {}
    for place, job in enumerate(jobs):
        if not isinstance(job.part.kept, PackSource):
            frames[place] = _read_log(job, own)
        elif job.cut is not None and not (job.cut.pieces and job.needed(own)):
            frames[place] = pl.DataFrame()  # all that is asked of it was told
        else:
            packs[place] = job
    frames |= zip(packs, _read_packs([*packs.values()], own), strict=True)
    return [(job, frame) for place, job in enumerate(jobs) if (frame := frames[place]) is not None]


def _opened(part: Part) -> Part | None:
    try:
        return part.opened()
    except (RecorderError, OSError) as error:
        warn_lacking(part.place, part.rows, error)
        return None


def _read_packs(jobs: list[_Job], own: Sequence[Column]) -> list[pl.DataFrame | None]:
    """The frames of packs, all at once, or if that fails, each alone; None for one that cannot be read."""
    if not jobs:
        return []
    try:
        return [*read_frames([_wanted(job, own) for job in jobs])]
    except (RecorderError, OSError) as error:
        sources = [job.part.kept for job in jobs]
        gone = [source for source in sources if isinstance(source, PackSource) and not files.exists(source.path)]
        if gone and all(source.moved() for source in gone):
            return _read_packs(jobs, own)  # they were compacted meanwhile
        if len(jobs) == 1:
            warn_lacking(jobs[0].part.place, jobs[0].part.rows, error)
            return [None]
    return [frame for job in jobs for frame in _read_packs([job], own)]


def _wanted(job: _Job, own: Sequence[Column]) -> Wanted:
    part, cut = job.part, job.cut
    assert isinstance(part.kept, PackSource)
    first = None if part.kept.alone else part.kept.first
    if cut is not None:
        all_of_it = cut.slices == ((0, part.rows),)
        slices = None if all_of_it else cut.slices
        return Wanted(part.kept.path, job.needed(own), part.rows, None, first, slices, checked=part.kept.fresh)
    conditions = [one for one in (part.where(), job.where) if one is not None]
    where = pl.all_horizontal(conditions) if conditions else None
    return Wanted(part.kept.path, job.needed(own), part.rows, where, first, checked=part.kept.fresh)


def _read_log(job: _Job, own: Sequence[Column]) -> pl.DataFrame | None:
    part = job.part
    try:
        frame = part.source.frame(list(job.needed(own))).head(part.rows)
    except (RecorderError, OSError) as error:
        warn_lacking(part.place, part.rows, error)
        return None
    where = part.where()
    return frame if where is None else frame.filter(where)


def _own(series: pl.Series | None, exact: pl.Series | None, dtype: Any, rows: int) -> pl.Series:
    """A column's own values in a batch, in the column's type."""
    if series is None:
        return pl.Series([None], dtype=dtype).new_from_index(0, rows)
    return widened(series, exact, dtype)


def _present(series: pl.Series | None, exact: pl.Series | None, rows: int) -> pl.Series:
    """Which rows of a batch have a value of their own, None included."""
    if series is None:
        return pl.Series([False]).new_from_index(0, rows)
    return series.is_not_null() if exact is None else series.is_not_null() | exact.is_not_null()
