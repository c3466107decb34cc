"""`ExperimentCollection`, the folder with all experiments of a study."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any

from .collection_view import CollectionView
from .errors import (
    ClosedError,
    InvalidCallError,
    NotACollectionError,
    RenamedError,
    UnknownIndexError,
    nearest,
    storing,
)
from .experiment import Experiment, open_experiments
from .keeper import restore
from .levels import ROOT
from .node import checked, level_data
from .options import Options
from .reading import View, read_collection, read_notes
from .session import Session, all_sessions
from .store import claim as claims
from .store import files, layout, refusals
from .store.attempt import RUNNING, STALE
from .store.snapshot import list_collection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .store.report import CompactionReport
    from .verification import Verification


class ExperimentCollection(CollectionView):
    """All experiments of a study, in one folder.

    Args:
        path: The folder. It is made by the first experiment or note.
        retries: Whether `new_experiment` takes a failed experiment's number again: "always", "same_info" (only when the
            info is equal) or "never".
        journal: How records are written: "mmap", "write" (system calls for each record, for file systems that refuse shared
            maps), or "auto" to choose by the file system.
        sync_interval: Seconds between two syncs to disk: what a power cut may cost.

    Raises:
        ValueError: The path is a file, a folder that holds something else, or of a newer version; an option is unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retries: str = claims.ALWAYS,
        journal: str = "auto",
        sync_interval: float = 1.0,
        **gone: Any,
    ) -> None:
        for name in gone:
            if name in ("quiet", "extension"):
                what = "nothing is printed any more" if name == "quiet" else "a collection is a folder"
                raise RenamedError(f"The argument {name}= went away in release 2: {what}. Hint: leave it out.")
            raise TypeError(
                f"ExperimentCollection has no argument {name!r}.{nearest(name, ['retries', 'journal', 'sync_interval'])}"
            )
        if retries not in claims.RETRIES:
            raise InvalidCallError(
                f"retries={retries!r} is unknown. Hint: it is one of {', '.join(map(repr, claims.RETRIES))}."
            )
        text = os.fsdecode(path)
        try:
            possible = bool(os.fsencode(text)) and "\0" not in text
        except UnicodeEncodeError:
            possible = False
        if not possible:
            raise NotACollectionError(f"{text!r} cannot be a path. Hint: use letters, digits and the like.")
        if isinstance(sync_interval, bool) or not hasattr(sync_interval, "__float__"):
            raise InvalidCallError(
                f"sync_interval={sync_interval!r} is no number. Hint: it is in seconds, as in sync_interval=1.0."
            )
        super().__init__(os.path.abspath(text), Options(journal, sync_interval))  # noqa: PTH100
        self.retries = retries
        with storing("the collection cannot be read", self._path, reading=True):
            claims.check_collection(self._path)

    def new_experiment(self, _info: Mapping[str, Any] | None = None, /, **info: Any) -> Experiment:
        """Begin an experiment: claim its number, and note when it began.

        Args:
            _info: What it is about, as a mapping: data that all its records inherit.
            **info: The same as keywords.

        Raises:
            TypeError, ValueError: A value cannot be stored.
            StoreError: The folder cannot be written.
        """
        return Experiment.begin(self._path, checked(level_data(_info, info)), self.retries, self._options)

    def resume_experiment(self, number: int = -1) -> Experiment:
        """Reopen the last attempt of an experiment that is not running: its records stay, new ones follow.

        Args:
            number: The experiment's number; -1 for the last.

        Raises:
            IndexError: There is no such experiment.
            ClosedError: All its attempts are running, or the last one is stale and must be closed first.
            StoreError: A folder cannot be listed, so that it is not known what there is of it.
        """
        number = operator.index(number)
        with storing("the collection cannot be read", self._path):
            listing = list_collection(self._path)
        claims = {place.claim for place, _ in listing.attempts}
        hidden = {one.claim.number: one for one in listing.unlisted if one.claim is not None}
        numbers = sorted({*(claim.number for claim in claims), *hidden})
        if number < 0 and -number <= len(numbers):
            number = numbers[number]
        unlisted = listing.packs.unlisted or hidden.get(number)
        if unlisted is not None:
            raise refusals.not_known(unlisted, f"experiment {number} cannot be resumed")
        if number not in numbers:
            raise UnknownIndexError(f"There is no experiment {number} to resume. Hint: there are {numbers}.")
        view = read_collection(self._path, sorted(claim for claim in claims if claim.number == number))
        view.warn()
        ended = [attempt for attempt in view.attempts if attempt.course and attempt.course.state != RUNNING]
        if not ended:
            raise ClosedError(
                f"Experiment {number} is running. Hint: hand its keeper to other processes to record into it."
            )
        last = ended[-1]
        if last.course is not None and last.course.state == STALE:
            raise ClosedError(
                f"Experiment {number} is stale: it may still be running on another host. "
                "Hint: when it is not, collection.experiments[i].close(error='...') settles it."
            )
        return Experiment.resume(self._path, last, self._options)

    @property
    def open_experiments(self) -> tuple[Experiment, ...]:
        """The experiments of this collection that this process began and has not closed."""
        return tuple(one for one in open_experiments.values() if one._session.path == self._path)

    def add_notes(self, _notes: Mapping[str, Any] | None = None, /, **notes: Any) -> None:
        """Set data of the root level, which all records of the collection inherit.

        Args:
            _notes: The notes as a mapping.
            **notes: The notes as keywords.

        Raises:
            TypeError, ValueError: A value cannot be stored.
            StoreError: The folder cannot be written.
        """
        values = checked(level_data(_notes, notes))
        with storing("the notes cannot be stored", self._path):
            claims.make_collection(self._path)
            folder = f"{self._path}/{layout.NOTES}"
            files.make_folders(folder)
            if not files.is_folder(folder):
                raise NotACollectionError(f"{folder} is no folder but a link or file. Hint: remove it.")
            session = Session(self._path, None, self._options, folder=folder)
            try:
                level = read_notes(View(), self._path)
                root = restore(session, None, ROOT, level.data if level else {}, level.stamps if level else {})
                root.update(values)
                for other in all_sessions():
                    if other.path == self._path:
                        other.notes = dict(root.data)
            finally:
                session.close("notes were added")

    def sync(self) -> None:
        """Return when all that this process added to this collection is on disk.

        Raises:
            StoreError: The disk failed.
        """
        for experiment in self.open_experiments:
            experiment.sync()

    def verify(self) -> Verification:
        """Look at every file and every byte of the collection, and say what is not as it should be. Changes nothing.

        Experiments may be running meanwhile: what their writers have not synced yet is a remark. `docs/format.md` says what
        makes a collection sound.

        Returns:
            A report, to print or to ask: `ok`, `records`, `findings`.

        Raises:
            StoreError: The folder cannot be listed.
        """
        from .verification import Verification

        with storing("the collection cannot be verified", self._path, reading=True):
            return Verification(self._path)

    def compact(self, *, progress: bool | None = None) -> CompactionReport:
        """Put the many logs and packs of this collection into few, so that opening and querying it takes less time.

        Only units of experiments that are over are touched, of which all is whole and nobody writes any more. It may be called
        at any time, also while experiments run, while others read, or compact it too, and it may be killed at any moment;
        a second call does nothing more. Files that nobody needs any more go at once where all readers see the new ones at
        once, that is on local file systems; on others they go with the first compaction an hour later.

        Args:
            progress: Whether to show a bar; on terminals and in notebooks by default.

        Returns:
            What was done, and what was left and why.

        Raises:
            ValueError: There is no collection, or it is of a newer version.
            StoreError: The disk refused; nothing is lost.
        """
        from .compaction import compact

        return compact(self._path, progress=progress)

    def __reduce__(self) -> tuple[Any, ...]:
        """The same collection in another process."""
        return _collection, (self._path, self.retries, self._options.mode, self._options.sync_interval)


def _collection(path: str, retries: str, journal: str, sync_interval: float) -> ExperimentCollection:
    return ExperimentCollection(path, retries=retries, journal=journal, sync_interval=sync_interval)
