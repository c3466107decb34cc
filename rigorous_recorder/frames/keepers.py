"""Keepers: the small table with a row for each level that records refer to, and what those records inherit."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rigorous_recorder.branches import ATTEMPT_DIGITS, ATTEMPT_KEY
from rigorous_recorder.columns import LINEAGE_KEY
from rigorous_recorder.lineage import level_text, lineage_text

from .widening import Inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    import polars as pl

    from rigorous_recorder.levels import LevelId
    from rigorous_recorder.reading import AttemptView


class Keepers:
    """Rows for the levels of some attempts, numbered as they are added.

    Attributes:
        defined: The rows of levels that some unit defines.
    """

    def __init__(self) -> None:
        self._automatic: list[dict[str, Any]] = []
        self._merged: list[dict[str, Any]] = []
        self._attempts: list[str | None] = []
        self._described: list[tuple[_Lineages, LevelId | None]] = []
        self.defined: set[int] = set()

    def __len__(self) -> int:
        """How many levels there are."""
        return len(self._merged)

    def add(self, attempt: AttemptView) -> dict[LevelId | None, int]:
        """Add a row for each level of an attempt that its units define, and one for records whose level is lost.

        Returns:
            By level, the row; that of None is for records whose level no unit defines.
        """
        rows: dict[LevelId | None, int] = {}
        known = _Lineages(attempt)
        used = dict.fromkeys(level for unit in attempt.units for level in unit.locals.values())
        for level in (*used, None):
            rows[level] = len(self._merged)
            self._automatic.append(attempt.automatic)
            self._merged.append(known.merged(level))
            self._attempts.append(attempt.place.id[:ATTEMPT_DIGITS] if attempt.place else None)
            self._described.append((known, level))
            if level is not None:
                self.defined.add(rows[level])
        return rows

    def inherited(self, key: str, used: Collection[int] | None = None) -> Inherited:
        """What the levels have for a user's key.

        Args:
            key: The user's.
            used: The rows whose values count; all by default.
        """
        values = [data.get(key, _MISSING) for data in self._merged]
        if used is not None:
            values = [value if row in used else _MISSING for row, value in enumerate(values)]
        return self._column(values)

    def ours(self, key: str) -> Inherited:
        """The values of one of the columns that we add."""
        if key == ATTEMPT_KEY:
            return self._column([_MISSING if attempt is None else attempt for attempt in self._attempts])
        if key == LINEAGE_KEY:
            return self._column([known.text(level) for known, level in self._described])
        return self._column([data.get(key, _MISSING) for data in self._automatic])

    def _column(self, values: Iterable[Any]) -> Inherited:
        places, present = [], []
        for place, value in enumerate(values):
            if value is not _MISSING:
                places.append(place)
                present.append(value)
        return Inherited(present, places, len(self))


_MISSING: Final = object()


class Table:
    """The table of levels: a row for each, and the columns that records inherit.

    A column is made when it is first asked for, since most questions need few: the lineages of 30,000 levels take 40 ms.
    """

    def __init__(self, height: int, makers: Mapping[str, Callable[[], pl.Series]]) -> None:
        """A table of so many rows, and by name what makes each column."""
        self.height: Final = height
        self._makers = makers
        self._made: dict[str, pl.Series] = {}

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._makers)

    def __getitem__(self, name: str) -> pl.Series:
        """The column of that name."""
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]


class _Lineages:
    """The merged data and the lineage of each level of an attempt, each made once from those of its parent."""

    def __init__(self, attempt: AttemptView) -> None:
        self._attempt = attempt
        self._merged: dict[LevelId | None, dict[str, Any]] = {None: dict(attempt.notes)}

    def merged(self, level: LevelId | None) -> dict[str, Any]:
        """What records of a level inherit, less the automatic keys."""
        known = self._merged
        for one in self._new(level, known):
            here = self._attempt.levels.by_id[one]
            known[one] = {**known.get(here.parent, known[None]), **here.data}
        return known[level] if level in known else known[None]  # a level that is only referred to inherits the notes

    def text(self, level: LevelId | None) -> str:
        """The lineage of a level."""
        known = self._texts
        for one in self._new(level, known):
            here = self._attempt.levels.by_id[one]
            top = here.parent is None or here.parent not in known
            known[one] = (
                lineage_text(self._attempt.lineage(one)) if top else f"{known[here.parent]}/{level_text(here.data)}"
            )
        return known[level] if level in known else known[None]

    @cached_property
    def _texts(self) -> dict[LevelId | None, str]:
        above = {} if self._attempt.place is None else {"experiment_number": self._attempt.place.claim.number}
        first = [self._attempt.notes] if self._attempt.notes else []
        return {None: lineage_text([*first, above])}

    def _new(self, level: LevelId | None, known: Container[LevelId | None]) -> list[LevelId]:
        """A level and those above it that are not known yet, from the top down."""
        here = None if level is None or level in known else self._attempt.levels.by_id.get(level)
        if here is None:
            return []
        return [here.id] if here.parent in known else self._attempt.levels.up(here.id, known)[::-1]


def inherited_keys(attempts: Iterable[AttemptView]) -> list[str]:
    """The users' keys of all levels of some attempts: those of the roots first, then those below, as they appear."""
    by_depth: dict[int, dict[str, None]] = {}
    for attempt in attempts:
        by_depth.setdefault(0, {}).update(dict.fromkeys(attempt.notes))
        depths: dict[LevelId | None, int] = {None: 0}
        for level in attempt.levels:  # parents before their children
            depth = depths[level.id] = depths.get(level.parent, 0) + 1
            by_depth.setdefault(depth, {}).update(dict.fromkeys(level.data))
    return list(dict.fromkeys(key for depth in sorted(by_depth) for key in by_depth[depth]))
