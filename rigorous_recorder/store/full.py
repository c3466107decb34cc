"""Full units that wait for the sealing helper: it is started when there is enough to do, and not in a run's first second."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from . import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .journal import Journal

SEAL_FROM: Final = 1 << 20
"""A writer's log of fewer bytes stays a log: a pack of it would not be smaller by much, and a helper process costs 0.2 s."""
START_AFTER: Final = 1.0
"""Seconds for which full units wait for a helper that is yet to be started: its imports keep a processor busy for 0.3 s and
make the run beside them slower by 40 %, and a run that is over by then has its units sealed when it closes."""


class _Waiting(msgspec.Struct):
    """The units of one journal.

    Attributes:
        paths: Where those are that wait.
        size: How many bytes these have together.
        since: When the first of them was brought to disk, by the monotonic clock.
        packed: Whether others were handed over before: one log more would be no fewer files.
        left: Whether none will come to them.
    """

    paths: list[str]
    size: int
    since: float
    packed: bool = False
    left: bool = False

    @property
    def enough(self) -> bool:
        """Whether they are to be sealed."""
        return bool(self.paths) and (self.packed or self.size >= SEAL_FROM)


class FullUnits:
    """The full units of a process's journals that no helper has heard of yet. Not safe for threads: who has it has a lock."""

    def __init__(self) -> None:
        """None is full."""
        self._waiting: dict[Journal, _Waiting] = {}

    def add(self, journal: Journal, paths: Sequence[str], size: int, now: float) -> None:
        """Let units of a journal wait that are on disk since now, and have so many bytes together."""
        if not paths:
            return
        waiting = self._waiting.setdefault(journal, _Waiting([], 0, now))
        waiting.since = waiting.since if waiting.paths else now
        waiting.paths += paths
        waiting.size += size
        waiting.left = False

    def leave(self, journal: Journal) -> None:
        """Nothing is added to a journal for now, and perhaps nobody will close it: what is little stays logs."""
        waiting = self._waiting.get(journal)
        if waiting is not None:
            waiting.left = True
            if not waiting.enough:
                self.forget(journal)

    def forget(self, journal: Journal) -> None:
        """Let none of a journal's units wait any more: it is closed, and who closes it has its logs sealed."""
        self._waiting.pop(journal, None)

    @property
    def due(self) -> float:
        """When a helper should be started, by the monotonic clock; infinity while there is too little for it to do."""
        return min([waiting.since + START_AFTER for waiting in self._waiting.values() if waiting.enough], default=inf)

    def take(self, now: float, *, started: bool) -> list[str]:
        """The units that are to be sealed now, if a helper has been started or is due; they do not wait any more."""
        if not started and now < self.due:
            return []
        paths = []
        for journal, waiting in [*self._waiting.items()]:
            if waiting.enough:
                paths += waiting.paths
                waiting.paths, waiting.size, waiting.packed = [], 0, True
                if waiting.left:
                    self.forget(journal)
        return paths


def size_of(paths: Iterable[str]) -> int:
    """The size of logs in bytes; one that was sealed meanwhile, or of which the disk does not tell, counts as large."""
    size = 0
    for path in paths:
        try:
            size += files.size(path)
        except OSError:
            size += SEAL_FROM
    return size
