"""Snapshot: which attempts and units a collection has at this moment, each unit in exactly one place."""

from __future__ import annotations

import errno
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..errors import FormatError, RecorderError
from . import files, layout, refusals
from .layout import UnitName
from .listing import Unlisted, names_until_settled
from .live import read_log
from .logsource import LogSource
from .packed import Key, Packs, list_packs, open_pack
from .packsource import PackSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .layout import ClaimName
    from .source import UnitSource

GONE: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR})
"""A listed file that is gone: it was sealed meanwhile. ESTALE is what NFS says."""

PATIENCE: Final = 60.0
"""Seconds for which a unit that is under neither name is looked for, on file systems that cache names."""

LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "btrfs", "overlay", "apfs", "ntfs", "zfs"})


class UnitPlace(NamedTuple):
    """Where a unit is: its folder and the file in it, or the compacted pack (a path) that it is in; the folder may be gone."""

    folder: str
    name: UnitName
    file: str
    pack: str = ""

    @property
    def path(self) -> str:
        """The file's path."""
        return self.pack or f"{self.folder}/{self.file}"

    @property
    def key(self) -> Key:
        """Which unit it is among those of a collection."""
        return Key(self.folder.rpartition("/")[2], self.name.writer, self.name.n)


class AttemptPlace(NamedTuple):
    """Where an attempt is: its claim, its id (32 hex digits), its folder."""

    claim: ClaimName
    id: str
    folder: str


def list_units(folder: str) -> tuple[list[UnitPlace], list[str]]:
    """All units in a folder, by writer and number, and the names that are none. A folder that is not there has none."""
    found: dict[tuple[str, int], UnitPlace] = {}
    logs: dict[tuple[str, int], UnitPlace] = {}
    strange: set[str] = set()
    for file in names_until_settled(folder):
        unit = layout.parse_unit(file)
        if unit is None:
            if not file.startswith(".tmp-"):
                strange.add(file)
            continue
        place = UnitPlace(folder, unit, file)
        if not unit.sealed:
            logs[unit[:2]] = place
            continue
        before = found.get(unit[:2])
        if before is None or _counts_before(place, before):
            found[unit[:2]] = place
    for key, log in logs.items():
        if key not in found or _outgrew(log, found[key]):
            found[key] = log
    return [found[key] for key in sorted(found)], sorted(strange)


def _counts_before(pack: UnitPlace, other: UnitPlace) -> bool:
    """Which of two packs of one unit every reader takes: the one with more in it, then the first by name."""
    mine, its = _extent(pack), _extent(other)
    return pack.file < other.file if mine == its else mine > its


def _extent(place: UnitPlace) -> tuple[int, int]:
    """How many rows and other entries a unit has; none where it cannot be read, which whoever reads it will say."""
    try:
        source = _open(place)
    except (FormatError, OSError):
        return -1, 0
    return source.rows, len(source.events)


def _outgrew(log: UnitPlace, pack: UnitPlace) -> bool:
    """Whether a log has more than the pack of the same unit, which was made of a copy of the log while it was written.

    There are both only until the log is removed, and mostly a checksum says that they are the same.
    """
    try:
        source, data = _open(pack), files.read_all(log.path)
    except (FormatError, OSError):  # who reads them will say what is wrong
        return False
    assert isinstance(source, PackSource)
    return (len(data), zlib.crc32(data)) != source.log and _extent(log) > _extent(pack)


def gaps(places: Iterable[UnitPlace]) -> dict[str, list[int]]:
    """By writer, the numbers of its units in a folder that are missing before the highest that is there."""
    present: dict[str, list[int]] = {}
    for place in places:
        present.setdefault(place.name.writer, []).append(place.name.n)
    missing = {}
    for writer, numbers in present.items():
        absent = _absent(numbers)
        if absent:
            missing[writer] = absent
    return missing


def _absent(numbers: list[int]) -> list[int]:
    """The numbers from 1 on that are missing among some, at most `SHOWN` in each gap: a name may claim to be unit 10^9."""
    absent: list[int] = []
    before = 0
    for number in sorted(numbers):
        absent.extend(range(before + 1, min(number, before + 1 + SHOWN)))
        before = number
    return absent


SHOWN: Final = 1000


def list_claims(path: str) -> list[ClaimName]:
    """All claimed numbers and tries of a collection, in order."""
    try:
        names = files.names(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(claim for claim in map(layout.parse_claim, names) if claim is not None)


def known_claims(path: str) -> tuple[list[ClaimName], Packs]:
    """The claims that have folders or units in compacted packs, in order: a copy may lack folders that are empty.

    Returns:
        The claims, and the packs: those in packs that cannot be read are not known.

    Raises:
        OSError: The folder cannot be listed.
    """
    found = set(list_claims(path))
    packs = list_packs(path)
    for pack in packs.packs:
        found.update(pack.by_claim)
    return sorted(found), packs


class Looked(NamedTuple):
    """What a claim has.

    Attributes:
        attempts: Those that have a folder there: one, or several after two collections were copied together, or none when all
            of it was compacted.
        deleted: The ids of those that were deleted.
        unlisted: The folders of which the content is not known, the claim's own or those of attempts.
    """

    attempts: list[AttemptPlace]
    deleted: set[str]
    unlisted: list[Unlisted]


def look_into(path: str, claim: ClaimName) -> Looked:
    """What there is under a claim."""
    folder = f"{path}/{layout.claim_name(*claim)}"
    try:
        names = files.names(folder) if files.is_folder(folder) else []
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        return Looked([], set(), [Unlisted.of(folder, error, claim)])
    deleted = {attempt for attempt in map(layout.parse_deleted, names) if attempt is not None}
    looked = Looked([], deleted, [])
    for name in names:
        if layout.is_id(name) and name not in deleted:
            try:
                if files.is_folder(f"{folder}/{name}"):
                    looked.attempts.append(AttemptPlace(claim, name, f"{folder}/{name}"))
            except OSError as error:
                looked.unlisted.append(Unlisted.of(f"{folder}/{name}", error, claim))
    return looked


class Listing(msgspec.Struct, frozen=True):
    """What a collection has at one moment.

    Attributes:
        attempts: Each with its units, by claim and id. An attempt without units is none.
        deleted: By claim, the ids of those that were deleted.
        packs: The compacted packs.
        unlisted: The folders of claims and attempts of which the content is not known.
        began: When the first of it was listed, in seconds of the monotonic clock.
    """

    attempts: list[tuple[AttemptPlace, list[UnitPlace]]]
    deleted: dict[ClaimName, set[str]]
    packs: Packs
    unlisted: list[Unlisted]
    began: float

    @property
    def damage(self) -> list[str]:
        """A sentence for each folder that cannot be listed, and each pack that cannot be read."""
        return [*(one.sentence for one in self.unlisted), *self.packs.damage]

    def hidden(self, claim: ClaimName) -> Unlisted | None:
        """The folder of a claim, or the first of an attempt under it, of which the content is not known."""
        return next((one for one in self.unlisted if one.claim == claim), None)


def list_collection(path: str, claims: Iterable[ClaimName] | None = None) -> Listing:
    """The attempts of a collection, or of some of its claims, and each unit in exactly one place.

    The packs are listed after the folders: a unit that leaves its folder meanwhile was in a pack before it left.
    """
    began = time.monotonic()
    wanted = list_claims(path) if claims is None else list(claims)
    if claims is not None and not wanted:
        return Listing([], {}, Packs([], []), [], began)
    found: dict[tuple[ClaimName, str], tuple[AttemptPlace, list[UnitPlace]]] = {}
    deleted: dict[ClaimName, set[str]] = {}
    unlisted: list[Unlisted] = []
    for claim in wanted:
        places, gone, hidden = look_into(path, claim)
        unlisted += hidden
        if gone:
            deleted[claim] = gone
        for place in places:
            try:
                found[claim, place.id] = place, list_units(place.folder)[0]
            except OSError as error:
                unlisted.append(Unlisted.of(place.folder, error, claim))
    packs = list_packs(path)
    without = {attempt for gone in deleted.values() for attempt in gone}
    for claim, attempt in packs.attempts(None if claims is None else wanted):
        place = AttemptPlace(claim, attempt, attempt_folder(path, claim, attempt))
        if attempt not in without and (claim, attempt) not in found:
            if unlisted and is_deleted(
                place
            ):  # its claim cannot be listed, and the file can be looked for all the same
                deleted.setdefault(claim, set()).add(attempt)
                continue
            found[claim, attempt] = place, []
    attempts = []
    for _, (place, in_folder) in sorted(found.items()):
        units = with_compacted(place, in_folder, packs)
        if units:
            attempts.append((place, units))
    return Listing(attempts, deleted, packs, unlisted, began)


def with_compacted(place: AttemptPlace, in_folder: Iterable[UnitPlace], packs: Packs) -> list[UnitPlace]:
    """The units of an attempt, by writer and number, from those in its folder and in compacted packs, which count more."""
    units = {unit.name[:2]: unit for unit in in_folder}
    here = packs.claim(place.id) == place.claim
    for name, pack in packs.units(place.id).items():
        loose = units.get(name)
        compacted = UnitPlace(place.folder, UnitName(*name, pack.rows_of(Key(place.id, *name))), "", pack.path)
        if loose is not None and _has_more(loose, compacted):
            continue
        units.pop(name, None)
        if here:
            units[name] = compacted
    return [units[name] for name in sorted(units)]


def _has_more(loose: UnitPlace, compacted: UnitPlace) -> bool:
    """Whether a unit in its folder has more than what was compacted of it: that was a copy made while it was written."""
    return _extent(loose) > _extent(compacted) if loose.name.sealed else _outgrew(loose, compacted)


def attempt_folder(path: str, claim: ClaimName, attempt: str) -> str:
    """The folder of an attempt.

    Raises:
        FormatError: The id is none, and could lead anywhere.
    """
    layout.require_id(attempt)
    return f"{path}/{layout.claim_name(*claim)}/{attempt}"


def is_deleted(place: AttemptPlace) -> bool:
    """Whether an attempt was deleted."""
    return was_deleted(place.folder)


def was_deleted(folder: str) -> bool:
    """Whether the attempt that has, or had, this folder was deleted."""
    claim, _, attempt = folder.rpartition("/")
    return layout.is_id(attempt) and files.exists(f"{claim}/{layout.deleted_name(attempt)}")


def why_gone(place: UnitPlace) -> RecorderError:
    """Why a unit that was there is nowhere any more, for who wants to read it."""
    if was_deleted(place.folder):
        return refusals.deleted(place.folder)
    return RecorderError(f"{place.path} was there and is gone. Hint: was the collection moved or cleaned up?")


def list_attempt(place: AttemptPlace) -> tuple[list[UnitPlace], Listing]:
    """The units of one attempt, by writer and number, none when it was deleted; and what its claim has."""
    path = place.folder.rpartition("/")[0].rpartition("/")[0]
    listing = list_collection(path, [place.claim])
    return next((units for one, units in listing.attempts if one.id == place.id), []), listing


def attempt_units(place: AttemptPlace) -> list[UnitPlace]:
    """The units of one attempt, by writer and number; none when it was deleted.

    Raises:
        OSError: They are not all known, since a folder cannot be listed.
    """
    units, listing = list_attempt(place)
    hidden = listing.hidden(place.claim) or listing.packs.unlisted
    if hidden is not None:
        raise hidden.error
    return units


def open_unit(place: UnitPlace) -> UnitSource | None:
    """Read a unit where it is now; None when it is nowhere any more.

    Raises:
        FormatError: The file is damaged or of a newer version.
        OSError: It cannot be read.
    """
    deadline: float | None = None
    pause = 0.01
    while True:
        try:
            return _open(place)
        except OSError as error:
            if error.errno not in GONE:
                raise
        again = find_unit(place.folder, *place.name[:2])
        if again is not None and again.path != place.path:
            place = again
            continue
        if deadline is None:
            patience = PATIENCE if files.file_system(place.folder) not in LOCAL else 0.05
            deadline = time.monotonic() + patience
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(1.0, pause * 2)


def find_unit(folder: str, writer: str, n: int) -> UnitPlace | None:
    """Where a unit is now: in the first compacted pack that holds it, or in its folder; None when it is nowhere.

    Args:
        folder: Of its attempt, or of the notes.
        writer: Its writer's id.
        n: Its number there.

    Raises:
        OSError: It is in no pack, and the folder cannot be listed.
    """
    loose, hidden = None, None
    try:
        loose = next((unit for unit in list_units(folder)[0] if unit.name[:2] == (writer, n)), None)
    except OSError as error:  # it may be in a pack
        hidden = error
    above, _, attempt = folder.rpartition("/")
    if layout.is_id(attempt):
        key = Key(attempt, writer, n)
        for pack in list_packs(above.rpartition("/")[0]).holding(key):
            compacted = UnitPlace(folder, UnitName(writer, n, pack.rows_of(key)), "", pack.path)
            return loose if loose is not None and _has_more(loose, compacted) else compacted
    if hidden is not None:
        raise hidden
    return loose


def _open(place: UnitPlace) -> UnitSource:
    source: UnitSource
    if place.name.sealed:
        pack = open_pack(place.pack) if place.pack else None
        source = PackSource(place.path, pack, place.key if pack else None, again=partial(open_unit, place))
    else:
        source = _open_log(place.path)
    if layout.newer(source.header.version, source.header.features):
        raise FormatError(
            f"{place.path} is of format version {source.header.version} with the features {source.header.features}, and "
            f"this release reads version {layout.FORMAT_VERSION} without any. Hint: upgrade rigorous-recorder."
        )
    return source


def _open_log(path: str) -> LogSource:
    try:
        return LogSource(read_log(path))
    except (ValueError, MemoryError) as error:
        raise FormatError(f"{path} cannot be read: {str(error) or 'it is larger than the memory'}.") from error
