"""`Experiment`, a numbered attempt: a keeper that is its own context manager."""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from .errors import ClosedError, DeletedError, RecorderWarning, shortened, storing, warn
from .interrupts import finish_first
from .keeper import RecordKeeper
from .reading import read_collection
from .session import EXIT_WAIT, Session, sessions
from .store import claim as claims
from .store import latest, refusals
from .store.attempt import FAILED, FINISHED, INTERRUPTED, RUNNING, STALE, Course, latest_begin
from .store.background import background
from .store.snapshot import AttemptPlace, is_deleted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .options import Options
    from .reading import AttemptView

MAX_ERROR: Final = 2000
"""Characters of an error's text that are kept: the end entry must fit into what a unit keeps free for it."""

open_experiments: Final[dict[str, Experiment]] = {}
"""The experiments that this process began and has not closed, by the folders of their attempts."""


class Facts(msgspec.Struct, frozen=True):
    """What was known of an attempt at one moment: its course and its number of records."""

    course: Course | None
    n_records: int


class Experiment(RecordKeeper):
    """One attempt at a numbered experiment.

    `ExperimentCollection.new_experiment()` gives one that records; leaving its `with` block, or `close()`, ends it. Those
    in `ExperimentCollection.experiments` tell what was known when they were read; their level data can be edited.
    """

    __slots__ = ("_began", "_facts")

    _began: dict[str, Any] | None
    """The automatic keys as they are while this process records it; None for one that was opened for reading."""
    _facts: Facts | None
    """What was known when it was read; None for one that was begun here."""

    # ---- begin and end -----------------------------------------------------------------------------------------------

    @classmethod
    def begin(cls, path: str, info: dict[str, Any], retries: str, options: Options) -> Experiment:
        """Claim a number and begin its attempt on disk."""
        claimed = experiment = None
        try:
            with storing("no experiment can be begun", path):
                claims.make_collection(path)
                notes = read_collection(path, claims=()).notes
                claimed = claims.claim(path, info, retries)
            place = AttemptPlace(claimed.claim, claimed.attempt, claimed.folder)
            session = Session(path, place, options)
            session.notes = notes
            experiment = cls._of(session, info, {})
            return experiment._start(claimed.claim.number, claimed.failures)
        except BaseException as error:
            if experiment is not None:
                # once more: a second interrupt may have come before the first undoing
                finish_first(experiment._undo, error, True)
            elif claimed is not None:
                finish_first(claims.give_back, claimed.folder)
            raise

    @classmethod
    def resume(cls, path: str, view: AttemptView, options: Options) -> Experiment:
        """Go on with an attempt that ended: a new begin in the same folder."""
        assert view.place is not None  # attempts on disk have a place
        assert view.course is not None  # checked by the collection
        before = sessions.pop(view.place.folder, None)
        if before is not None:
            before.close_editor()
        root = view.levels.by_id.get(view.root)
        data, stamps = (dict(root.data), dict(root.stamps)) if root else ({}, {})
        session = Session(path, view.place, options)
        session.notes = view.notes
        experiment = cls._of(session, data, stamps)
        return experiment._start(view.place.claim.number, view.begins[-1].failures, view.course.info, _run(view) + 1)

    @classmethod
    def _of(cls, session: Session, data: dict[str, Any], stamps: dict[str, Any]) -> Experiment:
        assert session.place is not None  # an experiment is on disk
        experiment = cls.__new__(cls)
        experiment._place(session, None, (session.place.id, 0), data, stamps)
        experiment._facts = None
        experiment._began = None
        return experiment

    @classmethod
    def elsewhere(cls, session: Session, data: Mapping[str, Any], stamps: Mapping[str, Any]) -> Experiment:
        """The experiment in a process that did not begin it, and to which one of its keepers was handed."""
        return cls._of(session, dict(data), dict(stamps))

    def _start(self, number: int, failures: int, info: Mapping[str, Any] | None = None, run: int = 1) -> Experiment:
        assert self._session.place is not None
        self._began = {"experiment_number": number, "error_number": 0}
        try:
            open_experiments[self._session.place.folder] = self
            with storing("the experiment cannot be begun", self._session.path):
                start = self._session.begin(number, failures, dict(self._data if info is None else info), run)
            self._began["experiment_start_time"] = start
            self._define()
        except BaseException as error:
            finish_first(self._undo, error, run == 1)
            raise
        return self

    def _undo(self, error: BaseException, new: bool) -> None:
        """End what could not be begun; a new attempt without a begin entry is no attempt, and gives its number back."""
        session = self._session
        assert session.place is not None
        if session.has_begun() and session.outcome is None:
            with contextlib.suppress(OSError):  # the error that is on its way says it already
                session.end(*_outcome(error))
        with contextlib.suppress(OSError):
            session.close("this experiment could not be begun")
        if not session.has_begun():
            claims.give_back(session.place.folder, session.journal.writer, claim=new)
        open_experiments.pop(session.place.folder, None)

    def __enter__(self) -> Self:
        """The experiment itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it by how the block was left. The exception goes on as it came."""
        finish_first(self._leave, error)

    def _leave(self, error: BaseException | None) -> None:
        if self._began is None or self._session.pid != os.getpid() or self._session.closed:
            return  # it is not this process that began it: a forked child, or a worker
        if error is None:
            self._finish(None)
            return
        try:
            self._finish(error)
        except (OSError, RecorderWarning) as failure:
            error.add_note(f"rigorous_recorder: {failure}")  # the user's exception leaves as it came

    def close(self, error: BaseException | str | None = None) -> None:
        """End the experiment, as finished or with an error. What another process began can be settled so as well.

        Args:
            error: What ended it; None when it finished well.

        Raises:
            ClosedError: This process closed it already.
            StoreError: The disk refused; the records are as safe as they were.
        """
        assert self._session.place is not None  # an experiment is on disk
        live = open_experiments.get(self._session.place.folder)
        if self._began is not None:
            if self._session.closed and live is not None:
                raise ClosedError(
                    f"Experiment {self.number} was resumed. Hint: close the one that resume_experiment gave."
                )
            if self._session.closed:
                if error is None and self._session.outcome is not None:
                    return  # closing twice is no mistake
                self._session.end(*_outcome(error))
                latest.ended(
                    self._session.path, self._session.place, well=False
                )  # others' words count as well: look again
                return
            finish_first(self._finish, error)
            return
        if live is not None:
            live.close(error)
        else:
            view = self._view()
            if view.unlisted:  # the run that this would end may be there
                raise refusals.not_known(view.unlisted[0], f"experiment {self.number} cannot be closed")
            runs = [_run(attempt) for attempt in view.attempts]
            self._session.end(*_outcome(error), max(runs, default=0))
        self._facts = None

    def delete(self) -> None:
        """Move the attempt into the collection's trash: nothing of it is read any more, and its number is not given again.

        It can be restored by hand, until the trash is emptied (docs/format.md, "Deleted attempts"). What is of it in compacted
        packs comes into the trash with the next `compact()`. A second call changes nothing. Who reads on in records or keepers
        of it that he held meets a DeletedError, and so does, with its next record, a worker that had let go of its file,
        after five seconds without one.

        Raises:
            ClosedError: It is running, or stale and not closed, or a process still records into it: the one that began it,
                after somebody else has closed it, or a worker to which a keeper of it was handed. The message names it.
            StoreError: The disk refused.
        """
        from .store.deletion import delete_attempt

        place, session = self._session.place, self._session
        assert place is not None  # an experiment is on disk
        with storing(f"experiment {self.number} cannot be deleted", session.path):
            if not is_deleted(place):
                self._refuse_deletion(place)
                session.close(f"experiment {self.number} was deleted")
                session.close_editor()
            delete_attempt(session.path, place)
            session.forsake(f"experiment {self.number} was deleted")

    def _refuse_deletion(self, place: AttemptPlace) -> None:
        """Raise why it cannot be deleted, if so: what this process has open itself, it closes."""
        from .store.deletion import held
        from .store.holders import holder_of, holders

        view = self._view()
        if view.unlisted:
            raise refusals.not_known(view.unlisted[0], f"experiment {self.number} cannot be deleted")
        attempt = next(iter(view.attempts), None)
        state = attempt.course.state if attempt is not None and attempt.course is not None else None
        if place.folder in open_experiments:
            raise ClosedError(
                f"Experiment {self.number} is running, in this process. Hint: delete it when it is closed."
            )
        if state in (RUNNING, STALE):
            assert attempt is not None  # it has a state
            who = holder_of(latest_begin(attempt.begins).header)
            if state == RUNNING:
                raise ClosedError(
                    f"Experiment {self.number} is running: {who} records it. Hint: delete it when it is closed."
                )
            raise ClosedError(
                f"Experiment {self.number} is stale: {who} may still be recording it. "
                "Hint: when it is not, close(error='...') settles it."
            )
        holder = next(holders(self._session.path, place, self._session.writers), None)
        if holder is not None:
            raise held(place, holder)

    def _finish(self, error: BaseException | str | None) -> None:
        session = self._session
        place = session.place
        assert place is not None  # an experiment is on disk
        state, text = _outcome(error)
        left = [*session.dropped, *(pending.waiting() for pending in session.left_pending())]
        why = f"experiment {self.number} is closed. Hint: collection.resume_experiment({self.number}) reopens it"
        with storing(f"experiment {self.number} could not be closed well", session.path):
            interrupted = False
            try:
                if os.getpid() == session.pid and session.outcome != (state, text):
                    session.end(state, text)
                    latest.ended(session.path, place, well=state == FINISHED)
            except KeyboardInterrupt:  # this is called again, see `finish_first`
                interrupted = True
                raise
            finally:
                if not interrupted:
                    try:
                        session.close(why)
                    finally:
                        if session.closed:
                            open_experiments.pop(place.folder, None)
        if left:
            warn(
                f"Experiment {self.number} was closed with values that were not committed: {left[0]!r}"
                f"{f' and {len(left) - 1} more' if len(left) > 1 else ''}. Hint: commit_record() adds them."
            )

    # ---- facts -------------------------------------------------------------------------------------------------------

    def _known(self) -> Facts:
        """The facts as they were read, or, for one that was begun here, as they are now."""
        if self._facts is not None:
            return self._facts
        view = self._view()
        attempt = view.attempts[0] if view.attempts else None
        return Facts(attempt.course, attempt.rows) if attempt else Facts(None, 0)

    def _course(self) -> Course | None:
        return self._known().course

    def _automatic(self) -> dict[str, Any]:
        notes = self._session.notes
        if self._facts is None and self._began is not None and not self._session.closed:
            return {**notes, **self._began}
        try:
            course = self._course()
        except DeletedError:
            course = None
        return {**notes, **({"experiment_number": self.number} if course is None else course.automatic(self.number))}

    @property
    def number(self) -> int:
        """The experiment's number, from 1."""
        assert self._session.place is not None
        return self._session.place.claim.number

    @property
    def state(self) -> str:
        """One of running, finished, failed, interrupted, killed, stale."""
        if self._facts is None and self._began is not None and not self._session.closed:
            return RUNNING
        course = self._course()
        return RUNNING if course is None else course.state

    @property
    def error_number(self) -> int:
        """N for the n-th failed attempt in a row, else 0."""
        course = self._course()
        return 0 if course is None else course.error_number

    @property
    def had_error(self) -> bool | None:
        """False when it finished well, True when it failed, was interrupted or killed; None while that is open."""
        course = self._course()
        return None if course is None else course.had_error

    @property
    def start_time(self) -> float | None:
        """When it began, in seconds since the epoch."""
        course = self._course()
        return None if course is None else course.start

    @property
    def end_time(self) -> float | None:
        """When it ended, in seconds since the epoch; None while it runs or is stale."""
        course = self._course()
        return None if course is None else course.end

    @property
    def duration(self) -> float | None:
        """Seconds that its runs took; None while it runs or is stale."""
        course = self._course()
        return None if course is None else course.duration

    @property
    def error(self) -> str | None:
        """What ended it, as text; None when nothing did."""
        course = self._course()
        return None if course is None else course.error

    @property
    def info(self) -> dict[str, Any]:
        """Its own data: what `new_experiment` was given, and what was set since."""
        return dict(self.data)

    @property
    def n_records(self) -> int:
        """Number of records of the attempt, of all processes."""
        return self._known().n_records

    def __repr__(self) -> str:
        """Number, state, records and info."""
        try:
            facts = f"{self.state}, {self.n_records} records"
        except DeletedError:
            facts = "deleted"
        return f"<Experiment {self.number} {facts}, {shortened(repr(self.info))}>"


def _run(view: AttemptView) -> int:
    """The number of the latest begin of an attempt."""
    return max((begin.run for begin in view.begins), default=0)


def _outcome(error: BaseException | str | None) -> tuple[str, str | None]:
    """State and text of how something ended."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return FINISHED, None
    if isinstance(error, str):
        return FAILED, _shortened(error)
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001  (whatever it raises, the user's own exception must go on as it came)
        text = f"its text raises {type(failure).__name__}"
    return (INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED), _shortened(
        f"{name}: {text}" if text else name
    )


def _shortened(text: str) -> str:
    return text.encode(errors="replace")[:MAX_ERROR].decode(errors="ignore")


@atexit.register
def _never_closed() -> None:
    """Fail what is still open when the interpreter exits. Runs before the sessions are closed, being registered later."""
    failures: list[str] = []

    def finish() -> None:
        for experiment in list(open_experiments.values()):
            if experiment._session.pid == os.getpid():
                try:
                    experiment._finish("never closed")
                except OSError as error:  # the others still have to be ended
                    failures.append(str(error))

    if not open_experiments:
        return
    if not background.within(EXIT_WAIT, finish):
        warn(
            f"At the end of the program the disk did not answer for {EXIT_WAIT:.0f} s. What was recorded is safe from that "
            "end, not from one of the machine; experiments that were not closed will be read as killed."
        )
    if failures:
        warn(f"At the end of the program: {'; '.join(failures)}")


def _after_fork_in_child() -> None:
    open_experiments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
