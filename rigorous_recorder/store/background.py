"""The background thread: once a second it brings to disk what was recorded, beats the heart, and hands over full units.

One daemon thread per process, started by the first unit and by the first unit after a fork. It never raises into the
run: a disk that fails is remembered by the journal, which raises it at `sync()` and `close()`, and warned of once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from ..errors import RecorderWarning, warn
from .full import FullUnits, size_of
from .helper import SealingHelper

if TYPE_CHECKING:
    from collections.abc import Callable

    from .journal import Journal

HEARTBEAT: Final = 10.0
"""Seconds between two heartbeats of a journal (its file's modification time)."""

IDLE: Final = 60.0
"""Seconds for which the thread sleeps when there is no journal."""
QUIET: Final = 5.0
"""Seconds without an entry after which the file of a journal that may rest is closed."""
MOST_OPEN: Final = 64
"""How many journals that may rest have open files; a worker sees more experiments than a process may have files."""


class Background:
    """What one process does beside recording. Use the module's `background`."""

    def __init__(self) -> None:
        self.helper = SealingHelper()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # its put may be called by a signal handler, unlike Event.set
        self._work: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()
        self._hung = False
        self._journals: dict[Journal, float] = {}
        self._beaten: dict[Journal, float] = {}
        self._quiet: dict[Journal, tuple[int, float]] = {}
        self._due: dict[Journal, float] = {}
        self._full = FullUnits()
        self._sleeps_until = 0.0
        self._thread: threading.Thread | None = None
        self._threadless = False

    def watch(self, journal: Journal, interval: float) -> None:
        """Sync a journal every `interval` seconds from now on; it is about to have a new unit.

        At once if it has a unit already, which is full now. The first unit of a journal waits for its turn: the begin of an
        experiment syncs it anyway, and a thread that syncs the same file at the same time takes half a millisecond from it.
        """
        self._rest_others(journal)
        with self._lock:
            self._journals[journal] = interval
            if journal.opened:
                self._due[journal] = 0.0
            wakes = journal.opened or self._sleeps_until > time.monotonic() + interval
            if self._thread is None or not self._thread.is_alive():  # an interrupt can come before its start
                self._thread = threading.Thread(target=self._run, name="rigorous_recorder", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:
                    if isinstance(
                        error.__context__, KeyboardInterrupt
                    ):  # it hit the lock in which the start is waited for
                        raise error.__context__ from None
                    self._say_no_thread(error)
        if wakes:
            self._wake.put(None)

    def _rest_others(self, journal: Journal) -> None:
        with self._lock:
            resting = [other for other in self._journals if other is not journal and other.map and other.owner.may_rest]
        for other in resting[: max(0, len(resting) - MOST_OPEN + 1)]:  # those that were opened first
            with contextlib.suppress(OSError):  # its own next entry will raise it
                self._rest(other)

    def _say_no_thread(self, error: RuntimeError) -> None:
        if not self._threadless:
            self._threadless = True
            warn(
                f"No background thread can be started ({error}): what is recorded is safe from a kill, and from a power cut "
                "only after sync() or close()."
            )

    def within(self, seconds: float, work: Callable[[], None]) -> bool:
        """Have the thread do something, and wait for it at most so long: a disk that hangs must not hold the program's end.

        What the work raises is raised here.

        Returns:
            Whether it was done. Once it was not in time, no later work is waited for.
        """
        if self._hung:
            return False
        thread = self._thread
        if thread is None or not thread.is_alive():
            work()
            return True
        outcome: SimpleQueue[BaseException | None] = SimpleQueue()
        self._work.put((work, outcome))
        self._wake.put(None)
        try:
            error = outcome.get(timeout=seconds)
        except Empty:
            self._hung = True
            return False
        if error is not None:
            raise error
        return True

    def unwatch(self, journal: Journal) -> None:
        """Leave a journal alone from now on."""
        with self._lock:
            self._journals.pop(journal, None)
            self._beaten.pop(journal, None)
            self._quiet.pop(journal, None)
            self._due.pop(journal, None)

    def closed(self, journal: Journal) -> None:
        """Hand over none of the units of a journal that is closed: who has closed it has its logs sealed."""
        with self._lock:
            self._full.forget(journal)

    def hand_over(self, journal: Journal, paths: list[str]) -> None:
        """Have full units of a journal sealed that are on disk now: soon, or where they are little when it is closed.

        Their sizes are looked up without the lock: a disk that hangs must not hold who opens a unit on another.
        """
        if not paths:
            return
        size = size_of(paths)
        with self._lock:
            if journal.closed:  # meanwhile: who has closed it sees to them
                return
            self._full.add(journal, paths, size, time.monotonic())
            wakes = self._full.due < self._sleeps_until
        if wakes:
            self._wake.put(None)

    def _rest(self, journal: Journal) -> None:
        """Close the file of a journal to which nothing is added, unless something is just then."""
        self.hand_over(journal, journal.rest())
        if journal.map is None:
            with self._lock:
                self._full.leave(journal)
            self.unwatch(journal)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            with self._lock:
                for journal, interval in self._journals.items():
                    self._due.setdefault(journal, now + interval)
                pause = max(0.0, min([*self._due.values(), self._full.due, now + IDLE]) - now)
                self._sleeps_until = now + pause
            self._wait(pause)
            while not self._work.empty():
                self._do(*self._work.get())
            for journal in self._take_due():
                self._tend(journal, time.monotonic())
            self.helper.poll()
            with self._lock:
                full = self._full.take(time.monotonic(), started=self.helper.started)
            for path in full:
                self.helper.submit(path)

    @staticmethod
    def _do(work: Callable[[], None], outcome: SimpleQueue[BaseException | None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (it is raised again by who waits)
            outcome.put(error)
        else:
            outcome.put(None)

    def _wait(self, pause: float) -> None:
        """Wait until somebody wakes this thread, or for `pause` seconds."""
        try:
            self._wake.get(timeout=pause)
        except Empty:
            return
        while not self._wake.empty():
            self._wake.get()

    def _take_due(self) -> list[Journal]:
        """The journals that are to be tended now; their next turn is counted from when this one is over."""
        with self._lock:
            now = time.monotonic()
            due = [journal for journal, when in self._due.items() if when <= now]
            for journal in due:
                del self._due[journal]
            return due

    def _tend(self, journal: Journal, now: float) -> None:
        if journal.failure is not None:
            return
        try:
            self.hand_over(journal, journal.sync(idle=True))
            with self._lock:
                watched = journal in self._journals  # else it was closed meanwhile
                beats = watched and journal.path and now - self._beaten.get(journal, -HEARTBEAT) >= HEARTBEAT
                if beats:
                    self._beaten[journal] = now
            if beats:
                journal.beat()
            if watched and journal.owner.may_rest and self._is_quiet(journal, now):
                self._rest(journal)
        except OSError as error:
            if not journal.closed:
                with contextlib.suppress(RecorderWarning):  # as an error it would end the thread; close() raises it
                    warnings.warn(str(error), RecorderWarning, stacklevel=2)

    def _is_quiet(self, journal: Journal, now: float) -> bool:
        """Whether nothing was added to a journal for so long that its file may be closed."""
        with self._lock:
            if journal not in self._journals:
                return False
            pos, since = self._quiet.setdefault(journal, (journal.pos, now))
            if pos != journal.pos:
                self._quiet[journal] = (journal.pos, now)
            return pos == journal.pos and now - since >= QUIET

    def forked(self) -> None:
        """In a forked child: no thread, no helper, and the parent's journals are not ours to tend."""
        self._begin()
        self.helper.forget()


background: Final = Background()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forked)
