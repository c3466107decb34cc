"""`Options`, how a collection is recorded."""

from __future__ import annotations

from .errors import InvalidCallError, warn
from .store.modes import MAPPED, WRITTEN, best_mode


class Options:
    """How a collection is recorded: the journal's mode ("auto", "mmap", "write") and seconds between two syncs."""

    __slots__ = ("_said", "mode", "sync_interval")

    def __init__(self, mode: str = "auto", sync_interval: float = 1.0) -> None:
        if mode not in ("auto", MAPPED, WRITTEN):
            raise InvalidCallError(f"journal={mode!r} is unknown. Hint: 'auto', 'mmap' or 'write'.")
        if not 0 < sync_interval <= 3600:  # noqa: PLR2004  (an hour)
            raise InvalidCallError(f"sync_interval={sync_interval!r} is no number of seconds between 0 and 3600.")
        self.mode = mode
        self.sync_interval = sync_interval
        self._said: set[str] = set()

    def say_once(self, sentence: str) -> None:
        """Warn, but only once per collection object: list() asks for the length before it iterates."""
        if sentence not in self._said:
            self._said.add(sentence)
            warn(sentence)

    def journal_mode(self, folder: str) -> str:
        """The journal's mode in a folder."""
        return best_mode(folder) if self.mode == "auto" else self.mode
