"""Full units that wait for the sealing helper: it is started when there is enough to do, and not in a run's first second."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from . import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .journal import Journal

SEAL_FROM: Final = 1 << 20
"""A log of fewer bytes stays a log: a pack of it would not be smaller by much, and a helper process costs 0.2 s."""
START_AFTER: Final = 1.0
"""Seconds for which full units wait for a helper that is yet to be started: its imports keep a processor busy for 0.3 s and
slow the run beside them by half, and a run that is over by then has its units sealed when it closes."""


class _Waiting(msgspec.Struct, frozen=True):
    """Units of one journal.

    Attributes:
        paths: Where they are.
        size: How many bytes they have together.
        since: When the first of them was brought to disk, by the monotonic clock.
    """

    paths: tuple[str, ...]
    size: int
    since: float


class FullUnits:
    """The full units of a process's journals that no helper has heard of yet. Not safe for threads: who has it has a lock."""

    def __init__(self) -> None:
        """None is full."""
        self._waiting: dict[Journal, _Waiting] = {}

    def add(self, journal: Journal, paths: Sequence[str], now: float) -> None:
        """Let units of a journal wait that are on disk since now."""
        if paths:
            before = self._waiting.get(journal, _Waiting((), 0, now))
            size = before.size + sum(map(size_of, paths))
            self._waiting[journal] = _Waiting((*before.paths, *paths), size, before.since)

    def forget(self, journal: Journal) -> None:
        """Let none of a journal's units wait any more."""
        self._waiting.pop(journal, None)

    @property
    def due(self) -> float:
        """When a helper should be started, by the monotonic clock; infinity while there is too little for it to do."""
        large = (units.since + START_AFTER for units in self._waiting.values() if units.size >= SEAL_FROM)
        return min(large, default=inf)

    def take(self, now: float, *, started: bool) -> list[str]:
        """The units that are to be sealed now: all, where a helper has been started or is due, else none."""
        if not started and now < self.due:
            return []
        paths = [path for units in self._waiting.values() for path in units.paths]
        self._waiting.clear()
        return paths


def size_of(path: str) -> int:
    """The size of a log in bytes; one that was sealed meanwhile counts as large."""
    try:
        return files.size(path)
    except FileNotFoundError:
        return SEAL_FROM
