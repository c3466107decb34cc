"""A session: one tree as this process records it, that is its journal, its keepers, and how it comes to its end."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from .errors import ClosedError, warn
from .levels import LevelId, Stamp
from .options import Options
from .store import attempt as attempts
from .store import files, full, latest, layout, refusals
from .store import journal as journals
from .store import unit as u
from .store.background import background
from .store.journal import Journal
from .store.lock import LOCK
from .store.snapshot import find_unit, is_deleted
from .store.unitfile import MINIMUM

if TYPE_CHECKING:
    from .keeper import RecordKeeper
    from .pending import PendingRecord
    from .store.snapshot import AttemptPlace

EXIT_WAIT: Final = 10.0
"""Seconds for which the program's exit waits for the disk, and then for the sealing helper, so that the folder
then rests (it may be copied next). What is not sealed by then is read as it is."""
SETTLING: Final = 1.0
"""Seconds for which a writer waits for a deletion to take its word back, since it has seen the writer's new unit."""
MOST_DROPPED: Final = 100
EDITOR_SIZES: Final = (MINIMUM, 256 << 10, 4 << 20)

sessions: Final[weakref.WeakValueDictionary[str, Session]] = weakref.WeakValueDictionary()
"""The attempts that this process has sessions of, by their folders: a copy of a collection has the same ids. The background
holds those that have open files."""
_ended: Final[weakref.WeakValueDictionary[str, Session]] = weakref.WeakValueDictionary()
"""Closed sessions of attempts of which a worker has an open one in `sessions`."""


class Session:
    """A tree of keepers in this process: in memory, or an attempt on disk.

    Attributes:
        path: Of the collection; "" in memory.
        place: Where the attempt is; None in memory and for a collection's notes.
        folder: Where this process's files of it go.
        journal: Takes what is added.
        notes: The collection's notes as this process knows them.
        keepers: The living keepers by level.
        pendings: The pending records that were ever used, to warn of values left in them.
        began: Whether this process began the attempt, and so ends it.
        run: Which begin of the attempt was this process's, or that of the keeper which was handed to it, from 1; 0 for none.
        outcome: State and error of the last end entry that it has written; None while there is none.
        pid: Of the process that made the session, since a forked child has a copy.
    """

    def __init__(
        self, path: str = "", place: AttemptPlace | None = None, options: Options | None = None, *, folder: str = ""
    ) -> None:
        self.path = path
        self.place = place
        self.options = options or Options()
        self.folder = place.folder if place is not None else folder
        self.pid = os.getpid()
        self.began = False
        self.outcome: tuple[str, str | None] | None = None
        self.run = 0
        self._begin_is_stored = False
        self.closed = ""
        self.notes: dict[str, Any] = {}
        self.keepers: dict[LevelId, weakref.ref[Any]] = {}
        self.pendings: list[weakref.ref[PendingRecord]] = []
        self._prune_pendings_at = 1000
        self.dropped: list[dict[str, Any]] = []
        self.prune_at = 1000
        self._editor: Journal | None = None
        self.journal = self._journal(journals.SIZES) if self.folder else Journal(owner=self)
        if place is not None:
            with LOCK:
                sessions[place.folder] = self

    def _journal(self, sizes: tuple[int, ...]) -> Journal:
        attempt = self.place.id if self.place is not None else ""
        return Journal(
            self.folder, mode=self.options.journal_mode(self.folder), attempt=attempt, owner=self, sizes=sizes
        )

    def unit_opened(self, journal: Journal) -> None:
        """The journal has a new unit: see to it that the background thread tends it."""
        if self.folder:
            _close_with_the_worker()
            background.watch(journal, self.options.sync_interval)

    def unit_named(self, journal: Journal) -> None:
        """The journal's new unit has its name: refuse it if the attempt was deleted.

        Who deletes looks for open logs after the word that it is deleted, and here the word is looked for after the log has its
        name; so one of the two sees the other. If it is the deletion, it takes its word back.

        Raises:
            DeletedError: It was deleted.
        """
        place = self.place
        new = self.began and self.run == 1 and journal is self.journal and not journal.opened
        if place is None or new:  # nobody has heard of it yet
            return
        deadline = time.monotonic() + SETTLING
        while is_deleted(place):
            if not files.is_folder(place.folder) or time.monotonic() >= deadline:
                raise refusals.deleted(place.folder)
            time.sleep(0.01)

    @property
    def may_rest(self) -> bool:
        """Whether its file may be closed while nothing is added: in a worker, and of edits, nobody says when it is over."""
        return not self.began or bool(self.closed)

    def prune(self) -> None:
        """Forget the keepers that nobody holds any more: those of past episodes must not fill the memory."""
        with LOCK:
            self.keepers = {level: ref for level, ref in list(self.keepers.items()) if ref() is not None}
            self.prune_at = 1000 + 2 * len(self.keepers)

    def keeper(self, level: LevelId) -> RecordKeeper | None:
        """The living keeper of a level."""
        ref = self.keepers.get(level)
        return None if ref is None else ref()

    def register_pending(self, pending: PendingRecord) -> None:
        """Remember a thread's pending record weakly."""
        with LOCK:
            self.pendings.append(weakref.ref(pending))
            if len(self.pendings) > self._prune_pendings_at:
                self.pendings = [ref for ref in self.pendings if ref() is not None]
                self._prune_pendings_at = 1000 + 2 * len(self.pendings)

    def drop(self, values: dict[str, Any]) -> None:
        """Remember the first values that were pending when their thread or keeper ended."""
        if len(self.dropped) < MOST_DROPPED and not self.closed:
            self.dropped.append(values)

    def left_pending(self) -> list[PendingRecord]:
        """The pending records that hold values which were not committed."""
        return [pending for ref in self.pendings if (pending := ref()) is not None and pending.waiting()]

    @property
    def writers(self) -> tuple[str, ...]:
        """The ids of the writers that this process is in it."""
        return tuple(journal.writer for journal in (self.journal, self._editor) if journal is not None)

    def edit_journal(self) -> Journal:
        """Where edits go: the journal while it is open, else one for edits alone."""
        if not self.journal.closed:
            return self.journal
        if not self.folder:
            raise ClosedError(self.journal.closed)
        if self._editor is None or self._editor.closed:
            for other in all_sessions():  # a study may have more experiments than a process may have files
                with contextlib.suppress(OSError):  # its own edits have raised it, or the background has warned
                    other.close_editor()
        with LOCK:
            if self._editor is None or self._editor.closed:
                self._editor = self._journal(EDITOR_SIZES)
            return self._editor

    def close_editor(self) -> None:
        """Close the journal that took edits after the session was closed, if there is one."""
        if self._editor is not None and not self._editor.closed:
            self._close_journal(self._editor, "the edits are done")

    def stamp(self, journal: Journal, seen: int) -> Stamp:
        """The stamp of an edit of keys whose highest version seen is `seen`."""
        return Stamp(seen + 1, time.time(), journal.writer, next(journal.sequence))

    def sync(self) -> None:
        """Return when all that this process added so far is on disk."""
        for journal in (self.journal, self._editor):
            if journal is not None:
                background.hand_over(journal, journal.sync())

    def begin(self, number: int, failures: int, info: dict[str, Any], run: int) -> float:
        """Write the begin entry and bring it to disk, with the folders above it. Gives the start time.

        Args:
            number: The experiment's.
            failures: How many attempts failed in a row before it.
            info: What it is about.
            run: 1 for a new experiment, 1 + the highest there is for a resumed one.
        """
        assert self.place is not None  # only attempts begin
        start = time.time()
        self.began = True
        self.run = run
        self.journal.put(u.BEGIN, attempts.pack_begin(number, failures, start, info, run))
        self._begin_is_stored = True
        self.journal.sync()
        claim = self.place.folder.rpartition("/")[0]
        files.sync_folder(claim)
        files.sync_folder(self.path)
        if run == 1:
            latest.begun(self.path, self.place)
        return start

    def has_begun(self) -> bool:
        """Whether the begin entry is stored, also after an interrupt that may have come just before or after that."""
        journal = self.journal
        if not self._begin_is_stored and journal.map is not None and journal.pos > u.PAGE:
            from .store.logsource import LogSource

            events = LogSource(bytes(journal.map[: journal.pos])).events
            self._begin_is_stored = any(event.kind == u.BEGIN for event in events)
        return self._begin_is_stored

    def end(self, state: str, error: str | None, run: int = 0) -> None:
        """Write the end entry of what this process began, or the user's word on what another one began, to disk.

        Args:
            state: "finished", "failed" or "interrupted".
            error: What ended it, as text.
            run: That of the begin which is ended, for what another process began.
        """
        with LOCK:
            journal = self.edit_journal()
            user = not self.began or journal is not self.journal
            payload = attempts.pack_end(state, time.time(), error, self.run or run, user=user)
            journal.put_end(payload)
            self.outcome = (state, error)
            if journal is not self.journal:
                journal.sync()

    def close(self, why: str) -> None:
        """Take no more records: close the journal and have it sealed if it is large. A second call changes nothing."""
        if self.closed:
            return
        try:
            self._close_journal(self.journal, why)
        except OSError:
            self.closed = why
            raise
        self.closed = why  # not before: what a KeyboardInterrupt left undone, a second call does

    def forsake(self, why: str) -> None:
        """Give another reason for taking no records: it was closed before, and the way back that this told of is barred."""
        self.closed = self.journal.closed = why

    def _close_journal(self, journal: Journal, why: str) -> None:
        background.unwatch(journal)
        if not journal.folder:
            journal.close(why)
            return
        try:
            journal.close(why)
        finally:
            background.closed(journal)
            if journal.opened and not journal.within(full.SEAL_FROM):
                self._seal(journal.writer)

    def _seal(self, writer: str) -> None:
        """Have this writer's units sealed that still are logs, unless all of them together are small."""
        folder = self.folder
        try:
            found = files.names(folder)
        except FileNotFoundError:
            if find_unit(folder, writer, 1) is None:
                raise
            return  # all of it was compacted meanwhile
        names = [name for name in map(layout.parse_unit, found) if name is not None and name.writer == writer]
        packs = {name.n for name in names if name.sealed}
        logs = [f"{folder}/{layout.log_name(writer, n)}" for n in sorted({name.n for name in names} - packs)]
        if not packs and full.size_of(logs) < full.SEAL_FROM:
            return
        for path in logs:
            background.helper.submit(path)

    def forked(self) -> None:
        """In a forked child: pending values belong to the parent, and the attempt is not ours to end."""
        self.began = False
        self.pendings = []
        self.dropped = []
        for ref in self.keepers.values():
            keeper = ref()
            if keeper is not None:
                keeper.forget_pending()


def all_sessions() -> list[Session]:
    """The sessions that this process has of attempts."""
    with LOCK:  # a new one in another thread would end the iteration with an error
        return [*sessions.values(), *_ended.values()]


def handed_session(
    path: str, place: AttemptPlace, options: Options, notes: dict[str, Any], closed: str, run: int
) -> Session:
    """The session of a keeper that was handed over: where the attempt began its own, else one open or closed as the keeper is.

    A worker that had other tasks may have a closed one of an attempt that goes on, since it has read it or was forked before
    it was resumed, and an open one of an attempt that has ended.

    Args:
        path: Of the collection.
        place: Where the attempt is.
        options: How it is recorded.
        notes: The collection's notes as they were known where the keeper comes from.
        closed: Why the keeper takes no records; "" when it does.
        run: Which begin of the attempt it belongs to; 0 for a keeper that was opened for reading.
    """
    with LOCK:  # the tasks of a worker may come in several threads, and share one writer
        there, beside = sessions.get(place.folder), _ended.get(place.folder)
        if there is not None and there.began and run <= there.run:
            return there
        live, ended = (there, beside) if there is not None and not there.closed else (None, there or beside)
        session = ended if closed else live
        if session is None:
            session = Session(path, place, options)
            session.notes = notes
            if closed:
                session.close(closed)
                ended = session
            else:
                live = session
        session.run = max(session.run, run)
        if live is not None and ended is not None:
            sessions[place.folder], _ended[place.folder] = live, ended
        return session


@atexit.register
def _at_exit() -> None:
    """Close what is open when the interpreter exits. Experiments were ended before (see `experiment.py`)."""
    failures: list[str] = []

    def close() -> None:
        for session in all_sessions():
            try:
                if session.pid == os.getpid() or session.journal.path:
                    session.close("the program ends")
                session.close_editor()
            except OSError as error:  # the others still have to be closed
                failures.append(f"{session.folder}: {error}")

    if sessions and not background.within(EXIT_WAIT, close):
        failures.append("the disk does not answer")
    background.helper.finish(EXIT_WAIT)
    if failures:
        warn(f"At the end of the program something could not be closed well: {'; '.join(failures)}")


_workers: Final[set[int]] = set()


def _close_with_the_worker() -> None:
    """In a worker of multiprocessing, which leaves by `os._exit` and so runs no atexit, close at its own kind of exit."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    pid = os.getpid()
    if multiprocessing is None or pid in _workers or multiprocessing.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    _workers.add(pid)
    Finalize(None, _at_exit, exitpriority=-100)


def _after_fork_in_child() -> None:
    for session in all_sessions():
        session.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
