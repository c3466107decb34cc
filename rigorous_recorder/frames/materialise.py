"""Materialise: from a plan to rows, as runs of levels and columns of own values; what each library makes its frame of.

Rows are read in batches of units whose columns have the same types: packs by one scan of all their files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rigorous_recorder.errors import DamageWarning, RecorderError, warn
from rigorous_recorder.store.columns import EXACT, LEVEL, column_name
from rigorous_recorder.store.pack import read_frames
from rigorous_recorder.store.source import PackSource

from .widening import widened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from .plan import Column, Part, Plan

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


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a frame, or of a part of it.

    Attributes:
        plan: What the frame is.
        runs: The rows' levels.
        columns: By name, the own values of the plan's columns that have such, in the column's type; null where a record
            has none.
        present: By name, for columns that are inherited and own: which rows have a value of their own, None included.
    """

    plan: Plan
    runs: Runs
    columns: Mapping[str, pl.Series]
    present: Mapping[str, pl.Series]

    def merged(self, column: Column) -> pl.Series:
        """The values of a column that has own ones: where a record has none, what it inherits."""
        own = self.columns[column.name]
        if not column.inherited:
            return own
        inherited = self.plan.table[column.name].gather(pl.Series(self.runs.spread(np.arange(self.plan.table.height))))
        chosen = pl.select(pl.when(self.present[column.name]).then(own).otherwise(inherited)).to_series()
        return chosen.alias(column.name)


_Batch = tuple[Runs, dict[str, pl.Series], dict[str, pl.Series]]
"""The runs, and by name the own values and where records have such."""


def materialise(plan: Plan, parts: Sequence[Part] | None = None, where: pl.Expr | None = None) -> Rows:
    """Read the rows of a plan, or of some of its parts. A unit that cannot be read costs its rows, and a warning says so.

    Args:
        plan: Of the frame.
        parts: Those to read; all by default.
        where: What is asked of columns that stand in all packs among them as they are: rows of which it is not true may be
            left out.
    """
    own = [column for column in plan.columns if column.own]
    opened = [part for one in (plan.parts if parts is None else parts) if (part := _opened(one)) is not None]
    batches = [batch for _, group in groupby(opened, _alike(own)) for batch in _batches(list(group), own, where)]
    runs = [runs for runs, _, _ in batches]
    return Rows(
        plan,
        Runs(
            np.concatenate([np.empty(0, "i8"), *(one.levels for one in runs)]),
            np.concatenate([np.empty(0, "i8"), *(one.lengths for one in runs)]),
        ),
        {
            column.name: _stacked(column.name, column.dtype, [columns[column.name] for _, columns, _ in batches])
            for column in own
        },
        {
            column.name: _stacked(column.name, pl.Boolean(), [present[column.name] for _, _, present in batches])
            for column in own
            if column.inherited
        },
    )


def _stacked(name: str, dtype: Any, series: list[pl.Series]) -> pl.Series:
    return pl.concat(series, rechunk=False) if series else pl.Series(name, [], dtype=dtype)


def _alike(own: Iterable[Column]) -> Any:
    """What parts have in common that are read together: the kind of source, and the types of the columns wanted."""
    keys = [column.key for column in own]
    return lambda part: (
        isinstance(part.kept, PackSource),
        [part.types.get(key) for key in keys],
        [key in part.exact for key in keys],
    )


def _opened(part: Part) -> Part | None:
    try:
        return part.opened()
    except (RecorderError, OSError) as error:
        _lacks(part, error)
        return None


def _lacks(part: Part, error: Exception) -> None:
    warn(f"{error} The frame lacks its {part.rows:,} rows.", DamageWarning)


def _batches(parts: list[Part], own: Iterable[Column], where: pl.Expr | None) -> list[_Batch]:
    """The rows of units whose columns have the same types, in one batch, or if that fails, each unit alone."""
    try:
        return [_batch(parts, own, where)]
    except (RecorderError, OSError) as error:
        if len(parts) == 1:
            _lacks(parts[0], error)
            return []
    return [batch for part in parts for batch in _batches([part], own, where)]


def _batch(parts: list[Part], own: Iterable[Column], where: pl.Expr | None) -> _Batch:
    """The rows of units whose columns have the same types: the runs, the own values, and where records have such."""
    frames = _read(parts, _needed(parts[0], own), where)
    frame = frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=False)
    levels = frame[LEVEL].to_numpy()
    rows = [part.rows for part in parts] if len(frames) < len(parts) else [one.height for one in frames]
    ends = np.cumsum(rows)
    runs = [_runs(levels[end - count : end], part) for part, count, end in zip(parts, rows, ends, strict=True)]
    together = Runs(np.concatenate([run.levels for run in runs]), np.concatenate([run.lengths for run in runs]))
    if not all(part.whole for part in parts):
        here = together.levels >= 0
        frame = frame.filter(pl.Series(np.repeat(here, together.lengths)))
        together = Runs(together.levels[here], together.lengths[here])
    held = {series.name: series for series in frame.get_columns()}
    columns, present = {}, {}
    for column in own:
        series, exact = held.get(column_name(column.key)), held.get(EXACT + column.key)
        columns[column.name] = _own(series, exact, column, frame.height)
        if column.inherited:
            present[column.name] = _present(series, exact, frame.height)
    return together, columns, present


def _needed(part: Part, own: Iterable[Column]) -> list[str]:
    """The columns of a unit that the wanted columns are made of."""
    names = [LEVEL]
    for column in own:
        if column.key in part.types:
            names.append(column_name(column.key))
            if column.key in part.exact and (column.inherited or part.types[column.key] != column.dtype):
                names.append(EXACT + column.key)
    return names


def _read(parts: list[Part], names: list[str], where: pl.Expr | None) -> list[pl.DataFrame]:
    """The columns of some units, in one frame where each has as many rows as its part, or in one for each."""
    sources = [part.source for part in parts]
    packs = [source.path for source in sources if isinstance(source, PackSource)]
    if not packs:
        return [source.frame(names).head(part.rows) for source, part in zip(sources, parts, strict=True)]
    if where is not None and all(source.rows == part.rows for source, part in zip(sources, parts, strict=True)):
        return [read_frames([path], names, where) for path in packs]
    frame = read_frames(packs, names)
    if all(source.rows == part.rows for source, part in zip(sources, parts, strict=True)):
        return [frame]
    starts = np.cumsum([0, *(source.rows for source in sources[:-1])])
    return [frame.slice(start, part.rows) for start, part in zip(starts, parts, strict=True)]


def _own(series: pl.Series | None, exact: pl.Series | None, column: Column, rows: int) -> pl.Series:
    """A column's own values in a batch, in the column's type."""
    if series is None:
        return pl.Series(column.name, [None], dtype=column.dtype).new_from_index(0, rows)
    return widened(series, exact, column.dtype).alias(column.name)


def _present(series: pl.Series | None, exact: pl.Series | None, rows: int) -> pl.Series:
    """Which rows of a batch have a value of their own, None included."""
    if series is None:
        return pl.Series([False]).new_from_index(0, rows)
    return series.is_not_null() if exact is None else series.is_not_null() | exact.is_not_null()


def _runs(levels: NDArray[Any], part: Part) -> Runs:
    """The runs of a unit's rows; a level that does not belong into the frame is -1."""
    if not len(levels):
        return Runs(np.empty(0, "i8"), np.empty(0, "i8"))
    changes = np.flatnonzero(levels[1:] != levels[:-1])
    if len(changes) * SHORT > len(levels):
        return Runs(part.looked_up(levels), np.ones(len(levels), "i8"))
    starts = np.concatenate(([0], changes + 1))
    return Runs(part.looked_up(levels[starts]), np.diff(starts, append=len(levels)))
