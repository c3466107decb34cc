"""Compaction: many logs and packs into few. Only the compacting process imports this (`compactor.py`), since it uses polars.

Any number of compactions, sealers, recorders and readers may be at work in one collection, and each may be killed at any
moment: what is written is a whole file that equals what was read, or has no name; what is removed is somewhere else.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from rigorous_recorder.errors import FormatError, NotACollectionError

from . import files, layout
from .attempt import RUNNING, STALE, read_course
from .claim import clock_ahead, is_collection
from .deletion import finish_deletions
from .pack import parquet, publish
from .packed import MARK, Key, open_pack, packed_text
from .packread import read_frame, read_schema, verify
from .packsource import PackSource
from .prefix import begins_with
from .removal import remove_superseded
from .report import DAMAGED, UNREADABLE, CompactionReport
from .schema import described
from .snapshot import GONE, LOCAL, list_collection, open_unit
from .taking import Left, in_order, read_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .layout import ClaimName
    from .packed import Pack, Packs
    from .packmeta import PackMeta
    from .snapshot import Listing, UnitPlace

TARGET: Final = 64 << 20
"""Bytes of logs whose units go into one pack: about 3 M records of two numbers. Their columns are in memory four times."""
MOST_UNITS: Final = 1 << 14
"""Units of one pack, whose footer is read by everybody who wants one of them."""
GRACE: Final = 3600.0
"""Seconds after which a file goes whose units are in packs, on file systems that cache names for readers on other hosts."""

RUNNING_STILL: Final = "the experiment is running, or stale and not closed"
DOUBLE: Final = "the same attempt stands under another number, too"


class Member(NamedTuple):
    """A unit on its way into a pack: the claim of its attempt, what the pack says of it, and its rows."""

    claim: ClaimName
    meta: PackMeta
    frame: pl.DataFrame

    @property
    def order(self) -> tuple[Any, ...]:
        """Where it stands among others: as records do."""
        header = self.meta.header
        return self.claim, header.attempt, header.start, header.writer, header.n


@dataclass
class _Batch:
    """Units of the same columns that will be one pack.

    Attributes:
        members: Their units.
        weight: Bytes of their logs.
        generation: Of the pack.
    """

    members: list[Member] = field(default_factory=list)
    weight: int = 0
    generation: int = 0

    def add(self, member: Member) -> None:
        self.members.append(member)
        self.weight += member.meta.log_size


def default_grace(path: str) -> float:
    """Seconds for which files are kept whose units are in packs: none where a reader sees a new name at once."""
    return 0.0 if files.file_system(path) in LOCAL else GRACE


def compact(
    path: str, *, grace: float | None = None, tell: Callable[[int, int], None] = lambda _done, _all: None
) -> CompactionReport:
    """Compact the collection at a path. May be killed at any moment and called again; a second call changes nothing.

    Args:
        path: Of the collection.
        grace: Seconds for which a file stays after its units were published in a pack; by the file system by default.
        tell: Is told how many units are done, and how many there are.

    Raises:
        NotACollectionError: There is none.
        FormatError: It is of a newer version; or what was written does not read back, then its source stays.
        OSError: The disk refused; everything is as safe as it was.
    """
    if not is_collection(path):
        raise NotACollectionError(f"There is no collection {path}. Hint: is the path right?")
    compaction = Compaction(path, tell)
    compaction.run()
    grace = default_grace(path) if grace is None else grace
    remove_superseded(path, compaction.trusted, grace, compaction.report)
    return compaction.report


class Compaction:
    """One compaction.

    Attributes:
        report: What it has done.
        trusted: The paths of packs whose every byte was compared with what it was made of.
    """

    def __init__(self, path: str, tell: Callable[[int, int], None]) -> None:
        self.path = path
        self.report = CompactionReport()
        self.trusted: set[str] = set()
        self._tell = tell
        self._batches: dict[tuple[Any, ...], _Batch] = {}
        self._empty = _Batch()
        self._taken: set[Key] = set()

    def run(self) -> None:
        """Write the new packs."""
        listing = list_collection(self.path)
        if listing.packs.unlisted is not None:  # what is in packs already would be written once more
            return
        finish_deletions(self.path, listing)
        for sentence in listing.packs.damage:
            self.report.leave(DAMAGED, sentence)
        todo = list(self._units(listing))
        counting = _counting(listing)
        packs = [pack for pack in listing.packs.packs if pack.path in counting]
        total = len(todo) + sum(len(pack.units) for pack in packs if _is_small(pack))
        ahead = clock_ahead(self.path) if todo else 0.0
        for done, (claim, place) in enumerate(todo):
            self._tell(done, total)
            try:
                member = Member(claim, *read_unit(place, ahead))
            except Left as why:
                self.report.leave(str(why), place.path)
            except OSError as error:
                if error.errno not in GONE:  # else it was sealed or compacted meanwhile
                    self.report.leave(UNREADABLE, place.path)
            else:
                self._add(member)
                self._taken.add(place.key)
        chosen = {unit.key: unit for _, units in listing.attempts for unit in units}
        shed = {pack.path for pack in packs if _has_deleted(pack, listing) or self._has_beginnings(pack, chosen)}
        packs = [pack for pack in packs if pack.path in shed or _is_small(pack)]
        total = len(todo) + sum(len(pack.units) for pack in packs)
        self._merge(packs, counting, shed, listing, lambda done: self._tell(len(todo) + done, total))
        self._flush()
        self._tell(total, total)

    def _units(self, listing: Listing) -> Iterator[tuple[ClaimName, UnitPlace]]:
        """The units in the folders of attempts that are over."""
        numbers: dict[str, set[ClaimName]] = {}
        for attempt, _ in listing.attempts:
            known = listing.packs.claim(attempt.id)
            numbers.setdefault(attempt.id, set()).update({attempt.claim} if known is None else {attempt.claim, known})
        for attempt, units in listing.attempts:
            loose = [unit for unit in units if not unit.pack]
            if not loose:
                continue
            if len(numbers[attempt.id]) > 1:  # somebody copied its folder; a pack has an attempt under one number
                self.report.leave(DOUBLE, attempt.folder, len(loose))
                continue
            try:
                course = read_course(attempt, units, listing.began)
            except FormatError:
                course = None  # what can be read of it can still be compacted
            except OSError as error:
                if error.errno in GONE:
                    continue  # it was sealed or compacted meanwhile
                self.report.leave(UNREADABLE, error.filename or attempt.folder, len(loose))
                continue
            if course is not None and course.state in (RUNNING, STALE):
                self.report.leave(RUNNING_STILL, attempt.folder, len(loose))
                continue
            yield from ((attempt.claim, unit) for unit in loose)

    def _has_beginnings(self, pack: Pack, chosen: Mapping[Key, UnitPlace]) -> bool:
        """Whether a pack has units of which more counts somewhere else, and begins with what it has; and none that differ.

        Such a copy was made while the unit was written. It goes when the units that count in this pack are written anew.
        """
        found = False
        for key in pack.units:
            place = chosen.get(key)
            if place is None or place.pack == pack.path:
                continue  # deleted, or it counts
            if not place.pack and key not in self._taken:
                return False  # it stays where it is, and so this
            try:
                if place.pack and open_pack(place.pack).identity(key) == pack.identity(key):
                    continue
                source = open_unit(place)
                if source is None or not begins_with(source, PackSource(pack.path, pack, key)):
                    return False
            except (FormatError, OSError):
                return False  # of which will be told where it is looked at for itself; or another compaction took it
            found = True
        return found

    # ---- batches ----------------------------------------------------------------------------------------------------

    def _add(self, member: Member, generation: int = 0) -> None:
        """Take a unit. A pack that it goes into is of that generation at least."""
        if not member.meta.rows:
            batch = self._empty
        else:
            batch = self._batches.setdefault(_columns(member.frame.schema), _Batch())
            if member.meta.log_size * 2 > TARGET:  # by itself, so that what is left over here is more than half full
                self._write([member], generation)
                return
        full = batch.weight + member.meta.log_size > TARGET or len(batch.members) == MOST_UNITS
        if full and batch.members:  # a killed process may leave a log that is large and has no rows
            self._write_batch(batch)
        batch.add(member)
        batch.generation = max(batch.generation, generation)
        if sum(one.weight for one in self._batches.values()) > 2 * TARGET:
            self._write_batch(max(self._batches.values(), key=lambda one: one.weight))

    def _merge(
        self,
        packs: list[Pack],
        counting: Mapping[str, list[Key]],
        shed: set[str],
        listing: Listing,
        tell: Callable[[int], None],
    ) -> None:
        """Take the units of small packs too, where there are others to go with, and those of packs that have more to shed."""
        groups: dict[tuple[Any, ...], list[Pack]] = {}

        def grouped(pack: Pack) -> bool:
            whole = verify(pack.path)
            if whole:
                columns = _columns(read_schema(pack.path, pack.text)) if pack.rows else ()
                groups.setdefault(columns, []).append(pack)
            return whole

        for pack in packs:
            self._asked(pack, grouped)
        done = 0
        for columns, group in groups.items():
            batch = self._batches.get(columns) if columns else self._empty
            others = bool(batch and batch.members)
            if _worth(group, shed, others=others):
                # of those that are left nothing is taken, so they are no reason to write another anew each time
                taken = [pack for pack in group if self._asked(pack, in_order)]
                for pack in taken if _worth(taken, shed, others=others) else ():
                    try:
                        self._take(pack, counting.get(pack.path, []), listing.packs)
                    except OSError as error:
                        if error.errno not in GONE:
                            raise  # else another compaction has done it
                    done += len(pack.units)
                    tell(done)

    def _asked(self, pack: Pack, what: Callable[[Pack], bool]) -> bool:
        """What is asked of a pack; False, and it is left, where it is not as it should be, or where it is gone."""
        try:
            if what(pack):
                return True
            self.report.leave(DAMAGED, pack.path)
        except FormatError:
            self.report.leave(DAMAGED, pack.path)
        except Left as why:
            self.report.leave(str(why), pack.path)
        except OSError as error:
            if error.errno not in GONE:
                raise  # else another compaction has done it
        return False

    def _take(self, pack: Pack, keys: list[Key], packs: Packs) -> None:
        """Take units of a pack: those of which no other copy counts, and that are of no deleted attempt."""
        if not keys:
            return
        frame = read_frame(pack.path)
        for key in keys:
            rows = frame.slice(pack.firsts[pack.units[key]], pack.rows_of(key))
            meta = described(pack.meta(key), rows)
            claim = packs.claim(key.attempt) or pack.claims[key.attempt]  # that by which readers know it
            self._add(Member(claim, meta, rows), pack.name.generation + 1)

    def _flush(self) -> None:
        """Write what is left."""
        batches = [batch for batch in self._batches.values() if batch.members]
        if self._empty.members:
            if batches and len(batches[0].members) + len(self._empty.members) <= MOST_UNITS:  # they go with any others
                batches[0].members += self._empty.members
                batches[0].generation = max(batches[0].generation, self._empty.generation)
            else:
                batches.append(self._empty)
        for batch in batches:
            self._write_batch(batch)

    def _write_batch(self, batch: _Batch) -> None:
        self._write(batch.members, batch.generation)
        batch.members, batch.weight = [], 0

    def _write(self, members: list[Member], generation: int) -> None:
        members = sorted(members, key=lambda member: member.order)
        path, size = write_pack(self.path, members, generation)
        self.trusted.add(path)
        self.report.packs += 1
        self.report.units += len(members)
        self.report.written += size


def write_pack(path: str, members: list[Member], generation: int) -> tuple[str, int]:
    """Write the pack of some units, in their order, and bring its name to disk; its path and its bytes.

    Raises:
        FormatError: What was written does not read back the same.
        OSError: The disk refused.
    """
    folder = f"{path}/{layout.PACKS}"
    files.make_folders(folder)
    filled = [member.frame for member in members if member.frame.height]
    frame = pl.concat(filled or [members[0].frame], rechunk=True)
    content = parquet(frame, packed_text((member.claim, member.meta) for member in members), MARK.encode())
    identity = layout.packed_id(generation)
    target = publish(folder, identity, layout.packed_name(identity, len(content), zlib.crc32(content)), content, frame)
    try:
        pack = open_pack(target)
    except FileNotFoundError:  # another compaction has all of it in an earlier pack already
        return target, len(content)
    for member in members:
        header = member.meta.header
        if pack.meta(Key(header.attempt, header.writer, header.n)) != member.meta:
            raise FormatError(f"The footer of {target} does not read back as it was written; its sources stay.")
    files.sync_folder(folder)
    files.sync_folder(path)  # who made the folder of packs may have been killed before it did this
    return target, len(content)


def _columns(schema: Any) -> tuple[Any, ...]:
    return tuple(schema.items())


def _is_small(pack: Pack) -> bool:
    """Whether a pack has room for as much again."""
    weight = sum(pack.identity(key).log_size for key in pack.units)
    return 2 * weight <= TARGET and 2 * len(pack.units) <= MOST_UNITS


def _counting(listing: Listing) -> dict[str, list[Key]]:
    """By the path of a pack, the units of attempts of which its copy counts; packs without such are left out."""
    found: dict[str, list[Key]] = {}
    for _, units in listing.attempts:
        for unit in units:
            if unit.pack:
                found.setdefault(unit.pack, []).append(unit.key)
    return found


def _worth(group: list[Pack], shed: set[str], *, others: bool) -> bool:
    """Whether packs of the same columns are to be written anew: several, or with others, or for what one is to shed."""
    return len(group) > 1 or (bool(group) and (others or group[0].path in shed))


def _has_deleted(pack: Pack, listing: Listing) -> bool:
    """Whether a pack holds units of attempts that were deleted."""
    return any(pack.claims.keys() & attempts for attempts in listing.deleted.values())
