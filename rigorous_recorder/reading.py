"""Reading: what a collection, an experiment or a tree in memory holds at one moment, put together from its units."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .branches import ATTEMPT_DIGITS, ATTEMPT_KEY, Branch, Condition, check_branch, pick, under_text, wants_none
from .errors import DamageWarning, RecorderError, UnknownKeyError, nearest, shortened, warn
from .levels import AUTOMATIC, ROOT, LevelEntry, LevelId, Levels, unpack_edit, unpack_level
from .lineage import level_text, lineage_text
from .parts import UnitPart, UnitView
from .record import Records
from .store import attempt as attempts
from .store import layout
from .store import unit as u
from .store.listing import Unlisted
from .store.logsource import LogSource
from .store.packed import list_packs
from .store.snapshot import (
    AttemptPlace,
    UnitPlace,
    attempt_units,
    gaps,
    is_deleted,
    list_collection,
    list_units,
    open_unit,
)
from .values import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .levels import Level
    from .store.attempt import Begin, Course, End
    from .store.replay import Finding
    from .store.snapshot import Listing
    from .store.source import UnitSource

KEEP: Final = 1 << 20
"""A log of at most so many bytes is kept in memory after it was read; a larger one is read again when it is needed."""
SHOWN: Final = 5
"""Values that an error shows."""
FEW_LOOSE: Final = 64
"""Units outside of compacted packs that are opened only to count their rows."""


class AttemptView:
    """One attempt (or tree in memory) at one moment: its levels, its course, its units in order."""

    def __init__(self, place: AttemptPlace | None, notes: dict[str, Any]) -> None:
        self.place = place
        self.notes = notes
        self.levels = Levels()
        self.units: list[UnitView] = []
        self.course: Course | None = None
        self.automatic: dict[str, Any] = {}
        self.begins: list[Begin] = []
        self.ends: list[End] = []
        self.signs = attempts.Signs({}, {})
        self._inherited: dict[LevelId | None, tuple[dict[str, Any], tuple[str, ...]]] = {}

    @property
    def root(self) -> LevelId:
        """The id of the topmost level."""
        return (self.place.id, 0) if self.place else next(iter(self.levels.by_id), ROOT)

    @property
    def rows(self) -> int:
        """Number of records."""
        return sum(unit.rows for unit in self.units)

    def inherited(self, level: LevelId | None) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What a record of this level inherits, and the keys of it whose values each record needs a copy of.

        Of an unknown level (its definition is lost) it is what stands above all levels.
        """
        known = self._inherited.get(level)
        if known is None:
            path = [] if level is None else self.levels.up(level, self._inherited)  # in a deep tree, only what is new
            above = self.levels.by_id[path[-1]].parent if path else None
            merged = (
                {**self._inherited[above][0]}
                if above is not None and above in self._inherited
                else {**self.notes, **self.automatic}
            )
            for one in reversed(path):
                merged.update(self.levels.by_id[one].data)
            known = merged, tuple(key for key, value in merged.items() if value.__class__ in (list, dict, set, tuple))
            self._inherited[level] = known
        return known

    def lineage(self, level: LevelId) -> list[dict[str, Any]]:
        """The data per level from the root down, of the automatic keys only the experiment's number."""
        datas = [dict(data) for data in self.levels.datas(level)]
        if self.place is not None and datas:
            datas[0] = {"experiment_number": self.place.claim.number, **datas[0]}
        return [self.notes, *datas] if self.notes else datas

    def lineage_texts(self) -> dict[LevelId, str]:
        """The lineage of each level, made from that of its parent."""
        texts: dict[LevelId, str] = {}
        for level in self.levels:
            parent = None if level.parent is None else texts.get(level.parent)
            below = lineage_text(self.lineage(level.id)) if parent is None else f"{parent}/{level_text(level.data)}"
            texts[level.id] = below
        return texts

    def above(self) -> list[dict[str, Any]]:
        """Data that conditions see and that stands in no level of the attempt."""
        known = {ATTEMPT_KEY: self.place.id[:ATTEMPT_DIGITS]} if self.place else {}
        return [self.notes, self.automatic, known]

    def values(self, key: str, allowed: set[LevelId] | None) -> Iterator[Any]:
        """The values that a key has along the lineages of some levels, or of all."""
        yield from (data[key] for data in self.above() if key in data)
        seen: set[LevelId | None] = set()
        for level in self.levels.by_id:
            if allowed is not None and level not in allowed:
                continue
            path = self.levels.up(level, seen)
            seen.update(path)
            yield from (data[key] for one in path if key in (data := self.levels.by_id[one].data))

    def settle(self, now: float) -> None:
        """Find out the course from the begins and ends that were read."""
        if self.begins:
            self.course = attempts.course(self.begins, self.ends, self.signs, now, attempts.SILENCE)
            assert self.place is not None  # only attempts on disk have begins
            self.automatic = self.course.automatic(self.place.claim.number)
        elif self.place is not None:
            self.automatic = {"experiment_number": self.place.claim.number}

    def allowed(self, conditions: Iterable[Condition], branches: Iterable[Branch]) -> set[LevelId] | None:
        """The levels that all conditions and branches pick; None for all."""
        picked: set[LevelId] | None = None
        conditions = list(conditions)
        if conditions:
            picked = pick(self.levels, self.above(), conditions)
        for branch in branches:
            chosen = self._branch(branch)
            picked = chosen if picked is None else picked & chosen
        return picked

    def _branch(self, branch: Branch) -> set[LevelId]:
        if branch.text is not None:
            texts = self.lineage_texts()
            found = under_text(texts, branch.text)
            if self.notes and not found:  # the text of a keeper that did not know of the notes
                found = under_text({level: text.partition("/")[2] for level, text in texts.items()}, branch.text)
            return found
        if branch.level is None or (self.place is not None and branch.attempt not in (None, self.place.id)):
            return set()
        return self.levels.below([branch.level])


class View:
    """A collection (or one attempt, or a tree in memory) at one moment."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        self.attempts: list[AttemptView] = []
        self.damage: list[str] = []
        self.unlisted: list[Unlisted] = []
        self._notes_units: list[UnitView] = []

    def note(self, listing: Listing) -> None:
        """Take note of what a listing could not see."""
        self.damage += listing.damage
        self.unlisted += listing.unlisted
        if listing.packs.unlisted is not None:
            self.unlisted.append(listing.packs.unlisted)

    def warn(self) -> None:
        """Say once what was damaged."""
        if self.damage:
            more = f" And {len(self.damage) - 3} more like this." if len(self.damage) > 3 else ""  # noqa: PLR2004
            warn(" ".join(self.damage[:3]) + more, DamageWarning)

    def records(self, conditions: Sequence[Condition] = (), branches: Sequence[Branch] = ()) -> Records:
        """The records that conditions and branches pick, in order."""
        self.check(conditions, branches)
        return Records(
            UnitPart(attempt, unit, allowed)
            for attempt in self.attempts
            for allowed in [attempt.allowed(conditions, branches)]
            for unit in attempt.units
        )

    def check(self, conditions: Sequence[Condition], branches: Sequence[Branch] = ()) -> None:
        """See to it that some level has each key, and that some lineage may begin as the text of a branch does.

        Raises:
            UnknownKeyError: None has it; the message names the nearest, or says that it is a record's own key.
        """
        for branch in branches if self.attempts else ():
            if branch.text is not None:
                roots = (attempt.lineage(attempt.root) for attempt in self.attempts)
                check_branch(branch.text, [key for levels in roots for level in levels for key in level])
        wanted = [condition.key for condition in conditions if not wants_none(condition.wanted)]
        if not wanted or not self.attempts:
            return
        known = {ATTEMPT_KEY, *self.notes, *AUTOMATIC}
        for attempt in self.attempts:
            for level in attempt.levels.by_id.values():
                known.update(level.data)
        for key in wanted:
            if key not in known:
                if any(key in own for attempt in self.attempts for unit in attempt.units for own in unit.sample()):
                    raise UnknownKeyError(
                        f"{key!r} is a key of the records themselves, and of no level above them. "
                        f"Hint: under picks branches; pick values as [r for r in records if r[{key!r}] == ...]."
                    )
                raise UnknownKeyError(f"No level has the key {key!r}.{nearest(key, known)}")

    def why_nothing(self, conditions: Sequence[Condition], branches: Sequence[Branch]) -> str:
        """Which of the conditions leaves no level, and what the levels have instead, as a sentence with a hint."""
        held: list[str] = []
        for place, condition in enumerate(conditions):
            here = [(attempt, attempt.allowed(conditions[:place], branches)) for attempt in self.attempts]
            left = [(attempt, allowed) for attempt, allowed in here if allowed is None or allowed]
            if not left:
                break
            if any(attempt.allowed(conditions[: place + 1], branches) for attempt, _ in left):
                held.append(f"{condition.key}={short(condition.wanted)}")
                continue
            where = f"of those with {', '.join(held)}" if held else "of all levels" if not branches else "of the branch"
            values = (value for attempt, allowed in left for value in attempt.values(condition.key, allowed))
            texts = list(dict.fromkeys(map(short, values)))
            more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
            there = f"they have {', '.join(texts[:SHOWN])}{more}" if texts else "none of them has the key"
            return f"{where}, none has {condition.key}={short(condition.wanted)}. Hint: {there}."
        if not self.attempts:
            return "there is no experiment yet. Hint: new_experiment() begins one."
        roots = [shortened(lineage_text(attempt.lineage(attempt.root))) for attempt in self.attempts[:SHOWN]]
        return f"there is no such branch. Hint: the experiments are {'; '.join(roots)}."


# ---- from disk ---------------------------------------------------------------------------------------------------


def read_collection(path: str, claims: Iterable[layout.ClaimName] | None = None) -> View:
    """Read what a collection holds now, or only some of its claims. Writes nothing."""
    view = View()
    try:
        root = read_notes(view, path)
    except OSError as error:
        root = None
        view.unlisted.append(Unlisted.of(f"{path}/{layout.NOTES}", error))
        view.damage.append(view.unlisted[-1].sentence)
    view.notes = {} if root is None else root.data
    listing = list_collection(path, claims)
    view.note(listing)
    for place, units in listing.attempts:
        attempt = read_attempt(view, place, units, listing.began)
        if attempt.units:
            view.attempts.append(attempt)
    return view


def count_compacted(path: str) -> int | None:
    """The number of records of a collection, if nearly all of it is in compacted packs, and nothing is missing or damaged.

    It takes a quarter of the time of reading what the packs say of levels, begins and ends. None where that must be read.
    """
    packs = list_packs(path)
    if not packs.packs or packs.damage:
        return None
    listing = list_collection(path)
    places = [unit for _, units in listing.attempts for unit in units]
    loose = [unit for unit in places if not unit.pack]
    view = View()
    _note_gaps(view, places)
    if view.damage or listing.damage or len(loose) > FEW_LOOSE:
        return None
    number = sum(unit.name.rows or 0 for unit in places if unit.pack)
    for unit in loose:
        try:
            source = open_unit(unit)
        except (RecorderError, OSError):
            return None
        if source is None or source.findings or source.unverified:
            return None
        number += source.rows
    return number


def read_notes(view: View, path: str) -> Level | None:
    """The root level of a collection, None where nothing was ever noted. Damage goes into the view.

    Raises:
        OSError: The folder of the notes cannot be listed.
    """
    notes = AttemptView(None, {})
    _read_units(view, notes, list_units(f"{path}/{layout.NOTES}")[0])
    return notes.levels.by_id.get(ROOT)


def read_attempt(view: View, place: AttemptPlace, units: Iterable[UnitPlace], listed: float) -> AttemptView:
    """Read one attempt of a collection whose notes are those of the view, and which has these units.

    Args:
        view: Gets what is damaged.
        place: Where the attempt is.
        units: Its units.
        listed: When listing them began, in seconds of the monotonic clock.
    """
    damage = len(view.damage)
    attempt = _read_attempt(view, place, units)
    if (
        attempt.course is not None
        and attempt.course.state == attempts.KILLED
        and attempts.died_since(attempt.begins, listed)
    ):
        with suppress(OSError):  # what cannot be listed now, and could a moment ago, is as it was then
            units = attempt_units(place)
            del view.damage[damage:]
            attempt = _read_attempt(view, place, units)
    return attempt


def _read_attempt(view: View, place: AttemptPlace, units: Iterable[UnitPlace]) -> AttemptView:
    attempt = AttemptView(place, view.notes)
    before = len(view.damage)
    _read_units(view, attempt, units)
    if len(view.damage) > before and is_deleted(place):  # meanwhile: what is gone is no damage
        del view.damage[before:]
        attempt.units.clear()
    attempt.settle(time.time())
    return attempt


def _read_units(view: View, attempt: AttemptView, places: Iterable[UnitPlace]) -> None:
    units: list[tuple[UnitPlace, UnitSource]] = []
    for place in places:
        try:
            source = open_unit(place)
        except (RecorderError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, RecorderError):
                sentence = f"{place.path} cannot be read: {error.strerror or error}."
            else:
                sentence = str(error)
            rows = place.name.rows
            view.damage.append(sentence if rows is None else f"{sentence} Its {rows:,} records are not read.")
            continue
        if source is None:
            view.damage.append(f"{place.path} was listed and is gone.")
            continue
        units.append((place, source))
        _note_damage(view, place, source)
    _note_gaps(view, [place for place, _ in units])
    for place, source in units:
        attempt.signs.note(place, source)
    _put_together(view, attempt, units)


def _note_damage(view: View, place: UnitPlace, source: UnitSource) -> None:
    for finding in source.findings:
        view.damage.append(f"{place.path}: {_sentence(finding)}.")
    if attempts.may_be_torn(place, source):
        view.damage.append(
            f"{place.path}: {source.unverified} entries were added after the last checksum, by a process of another boot or "
            "host that is gone. They are read, but if that machine went down before they were on disk, they may be wrong."
        )


def _sentence(finding: Finding) -> str:
    count = "" if finding.records is None else f" ({finding.records:,} record{'s' if finding.records != 1 else ''})"
    return f"bytes {finding.start} to {finding.stop} are {finding.kind}: {finding.sentence}{count}"


def _note_gaps(view: View, places: list[UnitPlace]) -> None:
    if any(one.hides(places[0].folder) for one in view.unlisted if places):
        return  # they may be there
    for writer, missing in gaps(places).items():
        shown = missing if len(missing) <= SHOWN else f"[{', '.join(map(str, missing[:SHOWN]))}, …]"
        view.damage.append(f"{places[0].folder}/{writer}: the units {shown} are lost.")


def _put_together(view: View, attempt: AttemptView, units: Iterable[tuple[UnitPlace | None, UnitSource]]) -> None:
    """Merge what all units say of levels, then their edits, and put the units in order: writer by start, then number."""
    units = sorted(units, key=lambda pair: (pair[1].header.start, pair[1].header.writer, pair[1].header.n))
    edits = []
    for place, source in units:
        header = source.header
        locals_: dict[int, LevelId] = {}
        defined: list[LevelEntry] = []
        for event in source.events:
            try:
                if event.kind == u.LEVEL:
                    entry = unpack_level(event.payload, header.writer)
                    locals_[entry.local] = entry.level
                    defined.append(entry)
                elif event.kind == u.EDIT:
                    edits.append((locals_, unpack_edit(event.payload, header.writer)))
            except ValueError as error:
                where = place.path if place is not None else "a tree in memory"
                view.damage.append(f"{where}: the {u.KINDS[event.kind]} entry before row {event.row} is lost: {error}.")
        for entry in defined:  # parents are looked up when the whole unit was read, in whatever order it has them
            parent = None if entry.parent is None else locals_.get(entry.parent)
            attempt.levels.define(entry.level, parent, entry.data, entry.stamps)
        events = ((event.kind, event.payload) for event in source.events)
        for sentence in attempts.read_begin_end(header, events, attempt.begins, attempt.ends):
            view.damage.append(f"{place.path if place is not None else 'a tree in memory'}: {sentence}.")
        keep = place is None or not isinstance(source, LogSource) or source.rows == 0 or len(source.data) <= KEEP
        attempt.units.append(UnitView(place, source if keep else None, header, source.rows, locals_))
    for locals_, edit in edits:
        level = locals_.get(edit.local)
        if level is not None:
            attempt.levels.edit(level, edit.stamp, edit.values, edit.deleted)


# ---- from memory -------------------------------------------------------------------------------------------------


def read_memory(units: Iterable[bytes]) -> View:
    """Read a tree in memory, given as the bytes of its units."""
    view = View()
    attempt = AttemptView(None, {})
    _put_together(view, attempt, [(None, LogSource(data)) for data in units])
    view.attempts.append(attempt)
    return view
