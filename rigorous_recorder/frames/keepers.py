"""Keepers: the small table with a row for each level that records refer to, and what those records inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rigorous_recorder.branches import ATTEMPT_DIGITS, ATTEMPT_KEY
from rigorous_recorder.levels import AUTOMATIC
from rigorous_recorder.lineage import level_text, lineage_text

from .widening import Inherited

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rigorous_recorder.levels import LevelId
    from rigorous_recorder.reading import AttemptView

LINEAGE_KEY: Final = "rr_lineage"
OURS: Final = frozenset({*AUTOMATIC, ATTEMPT_KEY, LINEAGE_KEY})
"""The columns that we add. A user's key of one of these names has another name in frames."""


class Keepers:
    """Rows for the levels of some attempts, numbered as they are added.

    Attributes:
        defined: The rows of levels that some unit defines.
    """

    def __init__(self) -> None:
        self._automatic: list[dict[str, Any]] = []
        self._merged: list[dict[str, Any]] = []
        self._attempts: list[str | None] = []
        self._lineages: list[str] = []
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
            self._lineages.append(known.text(level))
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
            return self._column(self._lineages)
        return self._column([data.get(key, _MISSING) for data in self._automatic])

    def _column(self, values: Iterable[Any]) -> Inherited:
        places, present = [], []
        for place, value in enumerate(values):
            if value is not _MISSING:
                places.append(place)
                present.append(value)
        return Inherited(present, places, len(self))


_MISSING: Final = object()


class _Lineages:
    """The merged data and the lineage of each level of an attempt, each made once from those of its parent."""

    def __init__(self, attempt: AttemptView) -> None:
        self._attempt = attempt
        self._known: dict[LevelId | None, tuple[dict[str, Any], str]] = {}
        above = {} if attempt.place is None else {"experiment_number": attempt.place.claim.number}
        self._first = [attempt.notes] if attempt.notes else []
        self._known[None] = dict(attempt.notes), lineage_text([*self._first, above])

    def merged(self, level: LevelId | None) -> dict[str, Any]:
        """What records of a level inherit, less the automatic keys."""
        return self._of(level)[0]

    def text(self, level: LevelId | None) -> str:
        """The lineage of a level."""
        return self._of(level)[1]

    def _of(self, level: LevelId | None) -> tuple[dict[str, Any], str]:
        found = self._known.get(level)
        if found is not None or level is None:
            return found or self._known[None]
        levels = self._attempt.levels
        parent = levels.by_id[level].parent if level in levels else None
        chain = levels.chain(level) if parent is None or parent not in self._known else [parent, level]
        start = max((place for place, one in enumerate(chain) if one in self._known), default=-1)
        for place in range(start + 1, len(chain)):
            data = levels.by_id[chain[place]].data
            if place == 0:
                text = lineage_text(self._attempt.lineage(chain[0]))
                self._known[chain[0]] = {**self._attempt.notes, **data}, text
            else:
                merged, text = self._known[chain[place - 1]]
                self._known[chain[place]] = {**merged, **data}, f"{text}/{level_text(data)}"
        return self._known.setdefault(level, self._known[None])  # a level that is only referred to


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
