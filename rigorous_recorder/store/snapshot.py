"""Listing: which attempts and units a collection has at this moment, each unit in exactly one place.

A single listing is not enough while files are renamed and removed: one that is sealed meanwhile can be missed under both
of its names (53 of 96 listings at an extreme rate). So a folder is listed again until nothing is new.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import FormatError
from . import files, layout
from .source import LogSource, PackSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .layout import ClaimName, UnitName
    from .source import UnitSource

GONE: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR})
"""A listed file that is gone: it was sealed meanwhile. ESTALE is what NFS says."""

ROUNDS: Final = 100
"""A folder in which something is new after so many listings is read as it is then."""

PATIENCE: Final = 60.0
"""Seconds for which a unit that is under neither name is looked for, on file systems that cache names."""

AGAIN: Final = 5
"""Times that a log is read again in which something else is wrong each time."""

LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "btrfs", "overlay", "apfs", "ntfs", "zfs"})


class UnitPlace(NamedTuple):
    """Where a unit is: the folder and the file in it."""

    folder: str
    name: UnitName
    file: str

    @property
    def path(self) -> str:
        """The file's path."""
        return f"{self.folder}/{self.file}"


class AttemptPlace(NamedTuple):
    """Where an attempt is: its claim, its id (32 hex digits), its folder."""

    claim: ClaimName
    id: str
    folder: str


def list_units(folder: str) -> tuple[list[UnitPlace], list[str]]:
    """All units in a folder, by writer and number, and the names that are none. A folder that is not there has none."""
    found: dict[tuple[str, int], UnitPlace] = {}
    strange: set[str] = set()
    seen: set[str] = set()
    for _ in range(ROUNDS if files.is_folder(folder) else 0):
        try:
            names = files.names(folder)
        except (FileNotFoundError, NotADirectoryError):
            break
        fresh = [name for name in names if name not in seen]
        if seen and not fresh:
            break
        seen.update(fresh)
        for file in fresh:
            unit = layout.parse_unit(file)
            if unit is None:
                if not file.startswith(".tmp-"):
                    strange.add(file)
                continue
            before = found.get((unit.writer, unit.n))
            # the pack rather than the log, and of several packs the first by name: every reader takes the same
            if before is None or (unit.sealed, before.file) > (before.name.sealed, file):
                found[unit.writer, unit.n] = UnitPlace(folder, unit, file)
        if not seen:
            break
    return [found[key] for key in sorted(found)], sorted(strange)


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


def list_attempts(path: str, claim: ClaimName) -> list[AttemptPlace]:
    """The attempts under a claim: one, or several after two collections were copied together."""
    folder = f"{path}/{layout.claim_name(*claim)}"
    if not files.is_folder(folder):
        return []
    try:
        names = files.names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        AttemptPlace(claim, name, f"{folder}/{name}")
        for name in names
        if layout.is_id(name) and files.is_folder(f"{folder}/{name}")
    ]


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
        again = [unit for unit in list_units(place.folder)[0] if unit.name[:2] == place.name[:2]]
        if again and again[0].file != place.file:
            place = again[0]
            continue
        if deadline is None:
            patience = PATIENCE if files.file_system(place.folder) not in LOCAL else 0.05
            deadline = time.monotonic() + patience
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(1.0, pause * 2)


def _open(place: UnitPlace) -> UnitSource:
    source: UnitSource = PackSource(place.path) if place.name.sealed else _open_settled(place.path)
    if layout.newer(source.header.version, source.header.features):
        raise FormatError(
            f"{place.path} is of format version {source.header.version} with the features {source.header.features}, and "
            f"this release reads version {layout.FORMAT_VERSION} without any. Hint: upgrade rigorous-recorder."
        )
    return source


def _open_settled(path: str) -> LogSource:
    """A log, read again while what is wrong with it is somewhere else each time.

    A live writer may be in the middle of a store when the log is copied: at full speed in `write()` mode, 18 of 117
    readings ended in such an entry twice in a row. What is damaged stays where it is.
    """
    source = _open_log(path)
    for _ in range(AGAIN):
        before = {finding[:3] for finding in source.findings}
        if not before:
            break
        source = _open_log(path)
        if not before.isdisjoint(finding[:3] for finding in source.findings):
            break
    return source


def _open_log(path: str) -> LogSource:
    try:
        return LogSource(files.read_all(path))
    except (ValueError, MemoryError) as error:
        raise FormatError(f"{path} cannot be read: {str(error) or 'it is larger than the memory'}.") from error
