"""Verify: look at every file of a collection and at every byte that a checksum stands for, and say what is not as it should be.

Units are opened and walked by the readers' own functions, so what is found here is what they would meet. Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import FormatError, NotACollectionError, for_readers
from ..levels import unpack_edit, unpack_level
from . import files, layout
from . import unit as u
from .attempt import Begin, End, may_be_torn, read_begin_end
from .claim import check_collection, is_collection
from .found import Finder, Found
from .listing import Unlisted
from .logsource import LogSource
from .notes import wrong_notes
from .packed import Packs, list_packs
from .packsource import PackSource
from .replay import LOST, SUSPECT, UNKNOWN, UNVERIFIED, Finding, spans
from .snapshot import (
    GONE,
    AttemptPlace,
    attempt_folder,
    attempt_units,
    gaps,
    is_deleted,
    list_claims,
    list_units,
    look_into,
    open_unit,
    with_compacted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .snapshot import UnitPlace
    from .source import UnitSource

ROWS: Final = 8192
"""Rows that are decoded at a time, or fewer of many columns: so many that they have about `CELLS` values."""
CELLS: Final = 1 << 21


class Examined(NamedTuple):
    """What verifying a collection saw.

    Attributes:
        records: How many records can be read.
        attempts: How many attempts have a file.
        files: How many units were read.
        size: Their bytes.
        found: What is not as it should be, by file.
        there: Whether there is a collection.
    """

    records: int
    attempts: int
    files: int
    size: int
    found: list[Found]
    there: bool


def examine(path: str, progress: Callable[[int, int], None] | None = None) -> Examined:
    """Look at all of the collection at a path, as it is now; it may be written to meanwhile.

    Args:
        path: Of the folder.
        progress: Is called with how many units were looked at, and how many there are.

    Raises:
        OSError: The folder cannot be listed.
    """
    return _Examination(path, progress or (lambda _done, _all: None)).result()


class _Examination(Finder):
    """One look at a collection."""

    def __init__(self, path: str, progress: Callable[[int, int], None]) -> None:
        super().__init__(path)
        self._progress = progress
        self._packs = Packs([], [])
        self._records = self._attempts = self._files = self._size = 0

    def result(self) -> Examined:
        there = self._is_collection()
        if there:
            notes = f"{self.path}/{layout.NOTES}"
            units = self._all_units()
            noted = self._listed(notes)
            total, done = len(noted) + sum(map(len, units.values())), 0
            self._top()
            self._compacted()
            self._folder(notes, "", noted, lambda: list_units(notes)[0])
            for place, listed in units.items():
                self._progress(done, total)
                self._attempt(place, listed)
                done += len(listed)
            self._progress(total, total)
        for folder, why in {one.folder: one.why for one in self.unlisted}.items():
            self.say(folder, UNKNOWN, f"a folder that cannot be listed ({why}): what is in it is not known")
        found = sorted(self.found, key=lambda one: (not one.fails, one.file, one.start))
        return Examined(self._records, self._attempts, self._files, self._size, found, there)

    def _all_units(self) -> dict[AttemptPlace, list[UnitPlace]]:
        """The attempts with their units; the packs are listed last, as readers do."""
        looked = [look_into(self.path, claim) for claim in list_claims(self.path)]
        for one in looked:
            self.unlisted += one.unlisted
        in_folders = {place: self._listed(place.folder) for one in looked for place in one.attempts}
        self._packs = list_packs(self.path)
        if self._packs.unlisted is not None:
            self.unlisted.append(self._packs.unlisted)
        gone = {attempt for one in looked for attempt in one.deleted}
        for claim, attempt in self._packs.attempts():
            place = AttemptPlace(claim, attempt, attempt_folder(self.path, claim, attempt))
            if attempt not in gone and not (self.unlisted and is_deleted(place)):
                in_folders.setdefault(place, [])
        return {place: with_compacted(place, in_folders[place], self._packs) for place in sorted(in_folders)}

    def _listed(self, folder: str) -> list[UnitPlace]:
        """The units in a folder; of one that cannot be listed none, and that will be said."""
        try:
            return list_units(folder)[0]
        except OSError as error:
            self.unlisted.append(Unlisted.of(folder, error))
            return []

    def _names(self, folder: str) -> list[str]:
        """The names in a folder; of one that cannot be listed, or is not there, none."""
        try:
            return files.names(folder) if files.is_folder(folder) else []
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.unlisted.append(Unlisted.of(folder, error))
            return []

    def _may_be_hidden(self, folder: str) -> bool:
        """Whether what is missed in a folder may be in one that cannot be listed."""
        return any(one.hides(folder) for one in self.unlisted)

    # ---- names -------------------------------------------------------------------------------------------------------

    def _is_collection(self) -> bool:
        try:
            if not is_collection(self.path):
                here = "nothing of one is in this folder" if files.exists(self.path) else "there is no such folder"
                self.say(self.path, LOST, f"no collection here: {here}")
                return False
            there = check_collection(self.path)
        except FormatError as error:
            self.say(f"{self.path}/{layout.FORMAT_FILE}", UNKNOWN, str(error))
            return False
        except NotACollectionError as error:
            self.say(self.path, SUSPECT, f"no collection here: {for_readers(str(error))}")
            return False
        if not there:
            self.remark(
                f"{self.path}/{layout.FORMAT_FILE}", LOST, "the file that says what this folder is is not there"
            )
        return True

    def _top(self) -> None:
        """The names in the collection itself and in its claims."""
        for name in files.names(self.path):
            path = f"{self.path}/{name}"
            claim = layout.parse_claim(name)
            if name == layout.FORMAT_FILE:
                continue
            if claim is None and name not in (layout.NOTES, layout.PACKS, layout.TRASH):
                self.strange(path)
            elif self._is_folder(path) and claim is not None:
                self._claim(path, claim)

    def _is_folder(self, path: str) -> bool:
        """Whether something that has the name of a folder is one; what is a link or a file is said."""
        try:
            if files.is_folder(path):
                return True
            self.not_followed(path)
        except OSError as error:
            self.unlisted.append(Unlisted.of(path, error))
        return False

    def _compacted(self) -> None:
        """The compacted packs, each as a whole; their units are looked at with the attempts that they are of."""
        folder = f"{self.path}/{layout.PACKS}"
        for sentence in self._packs.damage[self._packs.unlisted is not None :]:
            self.say(folder, LOST, sentence)
        for name in self._names(folder):
            if not layout.parse_packed(name):
                self.strange(f"{folder}/{name}")
        if self._packs.packs:
            from .packread import read_schema, verify  # which bring polars
            from .truth import untrue_columns
        for pack in self._packs.packs:
            try:
                size = files.size(pack.path)
                if not verify(pack.path):
                    what = "a pack whose bytes do not match the checksum in its name"
                    self.note(pack.path, Finding(SUSPECT, 0, size, what, pack.rows))
                self._size += size
                if pack.rows and (told := untrue_columns(pack.path, pack.columns, read_schema(pack.path))):
                    self.say(pack.path, SUSPECT, told, records=pack.rows)
            except FormatError as error:
                self.note(pack.path, Finding(LOST, 0, size, str(error), pack.rows))
            except OSError as error:
                if error.errno not in GONE:  # else its units are in another one now
                    what = f"cannot be read: {error.strerror or error}"
                    self.note(pack.path, Finding(LOST, 0, 0, what, pack.rows))

    def _claim(self, path: str, claim: layout.ClaimName) -> None:
        names = self._names(path)
        looked = look_into(self.path, claim)
        for name in names:
            if layout.parse_deleted(name):
                continue
            if layout.is_id(name):
                self._is_folder(f"{path}/{name}")
            else:
                self.strange(f"{path}/{name}")
        units = (unit for place in looked.attempts for unit in self._listed(place.folder))
        known = looked.deleted or any(self._packs.attempts([claim])) or any(units)
        hidden = any(one.folder.startswith(f"{path}/") or one.hides(path) for one in self.unlisted)
        if files.exists(path) and not known and not hidden:
            self.remark(path, UNKNOWN, "a claim in which no attempt has begun: its number is free again after a minute")

    # ---- folders -----------------------------------------------------------------------------------------------------

    def _attempt(self, place: AttemptPlace, listed: Sequence[UnitPlace]) -> None:
        before = self._records
        begins, ends = self._folder(place.folder, place.id, listed, lambda: attempt_units(place))
        if not listed:
            return
        self._attempts += 1
        if self._may_be_hidden(place.folder):
            return
        if not begins:
            records = self._records - before
            what = "no file here says when and how this attempt began"
            if records:
                self.say(place.folder, LOST, f"{what}: its records lack that", records=records)
            else:
                self.remark(place.folder, LOST, f"{what}, nor has it a record")
        highest = max((begin.run for begin in begins), default=0)
        if begins and any(end.run > highest for end in ends):
            self.say(place.folder, LOST, "an end of a run of which no begin is there")

    def _folder(
        self, folder: str, attempt: str, listed: Sequence[UnitPlace], again: Callable[[], list[UnitPlace]]
    ) -> tuple[list[Begin], list[End]]:
        """The units of one folder, and the begins and ends in them; `again` lists them anew."""
        begins: list[Begin] = []
        ends: list[End] = []
        if not listed:
            return begins, ends
        for place in listed:
            source = self._unit(place, attempt)
            if source is not None:
                events = ((event.kind, event.payload) for event in source.events)
                for sentence in read_begin_end(source.header, events, begins, ends):
                    self.say(place.path, SUSPECT, sentence)
        if gaps(listed) and not self._may_be_hidden(folder):
            listed = again()  # what was sealed while the folder was listed is there now
            for writer, missing in gaps(listed).items():
                for n in missing:
                    self.say(f"{folder}/{layout.log_name(writer, n)}", LOST, "a unit that must have been here is not")
        self._leftovers(folder, listed)
        return begins, ends

    def _leftovers(self, folder: str, listed: Sequence[UnitPlace]) -> None:
        """The files of a folder that no reader takes: names that are none, and units that are there twice."""
        names = self._names(folder)
        if not names:
            return  # all of it was compacted
        chosen = {place.file for place in listed}
        taken = {place.name[:2]: place for place in self._listed(folder)}
        taken |= {place.name[:2]: place for place in listed if place.pack}
        for file in names:
            unit = layout.parse_unit(file)
            if unit is None:
                self.strange(f"{folder}/{file}")
                continue
            counted = taken.get(unit[:2])
            if file in chosen or counted is None or counted.file == file:
                continue
            self._double(f"{folder}/{file}", counted)

    def _double(self, path: str, counted: UnitPlace) -> None:
        """A file of a unit that is read from another one."""
        other = counted.path.rpartition("/")[2]
        try:
            PackSource(path) if path.endswith(".parquet") else LogSource(files.read_all(path))
        except OSError as error:
            if error.errno in GONE:
                return  # sealing has just removed it
            raise
        except (FormatError, ValueError):
            self.remark(path, SUSPECT, f"damaged; {other} has the same unit, and counts")
            return
        self.remark(
            path, UNKNOWN, f"{other} has the same unit or more of it, and counts; compact removes what is in that"
        )

    # ---- units -------------------------------------------------------------------------------------------------------

    def _unit(self, place: UnitPlace, attempt: str) -> UnitSource | None:
        try:
            source = open_unit(place)
        except FormatError as error:
            newer = "format version" in str(error)
            self._unreadable(place, UNKNOWN if newer else LOST, str(error))
            return None
        except OSError as error:
            self._unreadable(place, LOST, f"cannot be read: {error.strerror or error}")
            return None
        if source is None:
            self._unreadable(place, LOST, "was listed and is gone")
            return None
        path = source.path if isinstance(source, PackSource) else place.path
        self._files += 1
        if not place.pack:
            self._size += len(source.data) if isinstance(source, LogSource) else files.size(path)
        header = source.header
        if (header.writer, header.n) != place.name[:2]:
            self.say(path, SUSPECT, f"holds unit {header.n} of the writer {header.writer}: another than its name says")
        if header.attempt != attempt:
            whose = f"the attempt {header.attempt}" if header.attempt else "no attempt"
            self.say(path, SUSPECT, f"was written for {whose}, which is not the one whose folder it is in")
        if isinstance(source, PackSource) and source.alone:
            self._bytes(path, source)
        whole = self._rows(path, source)
        self._entries(path, source, whole)
        for finding in source.findings:
            self.note(path, finding)
        if isinstance(source, LogSource) and source.unverified:
            self._unverified(place, source)
        return source

    def _unreadable(self, place: UnitPlace, kind: str, sentence: str) -> None:
        try:
            size = files.size(place.path)
        except OSError:
            size = 0
        self.note(place.path, Finding(kind, 0, size, sentence, place.name.rows))

    def _bytes(self, path: str, source: PackSource) -> None:
        """A pack's bytes against the checksum in its name."""
        from .packread import verify

        if not verify(path):
            what = "a pack whose bytes do not match the checksum in its name"
            self.note(path, Finding(SUSPECT, 0, files.size(path), what, source.rows))

    def _rows(self, path: str, source: UnitSource) -> Counter[int]:
        """Decode every record; how many there are of each level."""
        counted: Counter[int] = Counter()
        try:
            if isinstance(source, PackSource) and source.alone and (told := source.untrue_columns()):
                self.say(path, SUSPECT, told, records=source.rows)
            loaded = source.loaded()
            step = max(1, min(ROWS, CELLS // max(1, loaded.width)))
            levels = loaded.levels()
            for start in range(0, loaded.rows, CELLS):
                part = levels[start : start + CELLS]
                counted.update(part.tolist() if hasattr(part, "tolist") else part)
            untrue = loaded.untrue() if isinstance(loaded, PackSource) else ""
            if untrue:
                self.say(path, SUSPECT, untrue, records=loaded.rows)
            decoded = isinstance(loaded, LogSource) and loaded.is_decoded  # which took every record apart
            for start in () if decoded else range(0, loaded.rows, step):
                loaded.records(start, min(start + step, loaded.rows))
        except FormatError as error:
            self.note(path, Finding(LOST, 0, files.size(path), str(error), source.rows))
            return Counter()
        self._records += loaded.rows
        return counted

    def _entries(self, path: str, source: UnitSource, counted: Counter[int]) -> None:
        """The entries that are no records: each must be readable, and define what others refer to."""
        defined, parents = set(), set()
        for event in source.events:
            try:
                if event.kind == u.LEVEL:
                    entry = unpack_level(event.payload, source.header.writer)
                    defined.add(entry.local)
                    parents.add(entry.parent)
                elif event.kind == u.EDIT:
                    unpack_edit(event.payload, source.header.writer)
            except ValueError as error:
                self.say(path, SUSPECT, f"the {u.KINDS[event.kind]} entry before row {event.row:,} is lost: {error}")
        for sentence in wrong_notes(source.events):
            self.say(path, SUSPECT, sentence)
        if orphans := sorted(parents - defined - {None}, key=str):
            self.say(path, SUSPECT, f"no entry defines {_some('level', orphans)}, which others are below")
        if unknown := sorted(level for level in counted if level not in defined):
            records = sum(counted[level] for level in unknown)
            what = f"no entry defines {_some('level', unknown)}: records of it inherit nothing from it"
            self.say(path, SUSPECT, what, records=records)

    def _unverified(self, place: UnitPlace, source: LogSource) -> None:
        tail = [span for span in spans(source.data, source.header, []) if not span.verified]
        start, stop = (tail[0].start, tail[-1].stop) if tail else (0, 0)
        torn = may_be_torn(place, source)
        what = (
            "entries behind the last checksum, by a process of another boot or host that is gone: read, and wrong if that "
            "machine went down before they were on disk"
            if torn
            else "entries behind the last checksum, of this boot or of a process that lives: whole, if not yet on disk"
        )
        self.note(place.path, Finding(UNVERIFIED, start, stop, what, source.unverified), fails=torn)


def _some(word: str, numbers: Sequence[object], most: int = 5) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return f"the {word}{'s' if len(numbers) > 1 else ''} {shown}{more}"
