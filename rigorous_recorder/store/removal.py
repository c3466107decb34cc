"""Removal: what compaction has made superfluous, and what killed processes left. By a rule that two compactions cannot break.

A log or sealed unit goes only when it is in the compacted pack that readers take it from, and a compacted pack only when each
of its units is in the one that readers take it from, which of equal ones is the first by name; and that pack has been there
for longer than the grace, and each of its bytes was compared with its checksum. It is in there when it is equal, or when what
is there begins with it: a copy that was made while the unit was written. The pack that readers take a unit from is never
removed, whoever decides.
"""

from __future__ import annotations

import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rigorous_recorder.errors import FormatError

from . import files, layout
from . import unit as u
from .attempt import is_gone
from .claim import server_now
from .deletion import in_trash, trash_folder
from .holders import is_cut
from .logsource import LogSource
from .names import LEVEL
from .packed import Key, list_packs
from .packmeta import load_meta
from .packread import read_frame, read_schema, verify
from .packsource import PackSource
from .prefix import pack_begins_with
from .report import DAMAGED, OPEN, OTHER, UNLISTED, UNREADABLE
from .snapshot import GONE, AttemptPlace, list_claims, look_into
from .truth import untrue

if TYPE_CHECKING:
    from .packed import Pack, Packs
    from .report import CompactionReport

ABANDONED: Final = 3600.0
"""Seconds after which a file in the making is one that nobody will finish."""


def remove_superseded(path: str, trusted: set[str], grace: float, report: CompactionReport) -> None:
    """Remove what is in packs already, and what killed processes left.

    Args:
        path: Of the collection.
        trusted: The paths of packs that need not be compared with their checksums again.
        grace: Seconds for which a pack must have been there.
        report: Takes what was done.

    Raises:
        OSError: The disk refused.
    """
    _Removal(path, trusted, grace, report).run()


class _Removal:
    def __init__(self, path: str, trusted: set[str], grace: float, report: CompactionReport) -> None:
        self.path = path
        self.report = report
        self._grace = grace
        self._now = server_now(path)
        self._ahead = time.time() - self._now
        self._sound: dict[str, bool] = dict.fromkeys(trusted, True)
        self._deleted: dict[str, AttemptPlace] = {}
        self._packs: Packs = list_packs(path)

    def run(self) -> None:
        """Remove, folder by folder. It need not reach the disk: what comes back after a power cut is removed again."""
        if self._packs.packs:  # who gave them their names may have been killed before the names were on disk
            files.sync_folder(f"{self.path}/{layout.PACKS}")
            files.sync_folder(self.path)
        for claim in list_claims(self.path):
            looked = look_into(self.path, claim)
            for unlisted in looked.unlisted:
                self.report.leave(UNLISTED, unlisted.folder)
            folder = f"{self.path}/{layout.claim_name(*claim)}"
            for attempt in looked.deleted:
                self._deleted[attempt] = AttemptPlace(claim, attempt, f"{folder}/{attempt}")
            for place in looked.attempts:
                self._attempt(place)
        for pack in reversed(self._packs.packs):
            self._pack(pack)
        for folder in (self.path, f"{self.path}/{layout.PACKS}", f"{self.path}/{layout.NOTES}"):
            self._leftovers(folder, self._names(folder) or [])

    def _attempt(self, place: AttemptPlace) -> None:
        names = self._names(place.folder)
        if names is None:
            return
        removed = 0
        for file in names:
            unit = layout.parse_unit(file)
            if unit is not None:
                removed += self._unit(Key(place.id, unit.writer, unit.n), f"{place.folder}/{file}", sealed=unit.sealed)
        removed += self._leftovers(place.folder, names)
        if removed == len(names) and self._packs.claim(place.id) is not None:
            with suppress(OSError):  # somebody records into it again
                files.remove_folder(place.folder)

    def _names(self, folder: str) -> list[str] | None:
        """The names in a folder; None when it is gone, or cannot be listed: then it stays as it is."""
        try:
            return files.names(folder)
        except OSError as error:
            if error.errno not in GONE:
                self.report.leave(UNLISTED, folder)
            return None

    def _unit(self, key: Key, path: str, *, sealed: bool) -> bool:
        """Remove a log or sealed unit if it may go; whether it did."""
        pack = next(self._packs.holding(key), None)
        if pack is None:
            return False
        try:
            held = _sealed(path) if sealed else _log(path)
        except FormatError:
            self.report.leave(DAMAGED, path)
            return False
        except OSError as error:
            if error.errno in GONE:
                return True
            self.report.leave(UNREADABLE, path)
            return False
        if held != pack.identity(key)[1:] and not self._is_beginning(key, pack, path, sealed=sealed):
            return False
        return self._has_settled(pack) and self._remove(path)

    def _is_beginning(
        self, key: Key, pack: Pack, path: str, *, sealed: bool = True, within: Pack | None = None
    ) -> bool:
        """Whether what a pack has of a unit begins with the state of it in another file, that nobody has open any more.

        Args:
            key: The unit.
            pack: The one that counts.
            path: Of the other file.
            sealed: Whether that is a pack.
            within: It as a pack of many units, if it is one.
        """
        why = OTHER
        try:
            if sealed:
                if pack_begins_with(pack, key, PackSource(path, within, key if within else None)):
                    return True
            elif not _has_let_go(path, self._ahead):
                why = OPEN
            elif pack_begins_with(pack, key, LogSource(files.read_all(path))):
                return True
        except (FormatError, ValueError):
            why = DAMAGED
        except OSError as error:
            if error.errno in GONE:
                return False
            why = UNREADABLE
        self.report.leave(why, path)
        return False

    def _pack(self, pack: Pack) -> None:
        """Remove a compacted pack if it may go."""
        counting = {key: next(self._packs.holding(key)) for key in pack.units}
        kept = {key: first for key, first in counting.items() if key.attempt not in self._deleted}
        if any(first is pack for first in kept.values()):
            return
        for key, first in counting.items():
            if first is not pack and first.identity(key) == pack.identity(key):
                continue
            if not (
                self._is_beginning(key, first, pack.path, within=pack) if key in kept else self._in_trash(key, pack)
            ):
                return
        if not self._is_sound(pack):
            return
        if all(self._has_settled(holder) for holder in set(counting.values()) - {pack}):
            self._remove(pack.path)

    def _in_trash(self, key: Key, pack: Pack) -> bool:
        """See to it that a unit of a deleted attempt is in the trash; whether the pack may lack it."""
        place = self._deleted[key.attempt]
        folder = trash_folder(self.path, place)
        if files.is_folder(folder) and self._names(folder) is None:
            return False
        try:
            return in_trash(self.path, place, key, pack)
        except FormatError:
            self.report.leave(DAMAGED, pack.path)
            return False

    def _has_settled(self, holder: Pack) -> bool:
        """Whether what is in a pack may go elsewhere: its bytes are right, and readers know of it."""
        if not self._is_sound(holder):
            return False
        try:
            wait = files.changed(holder.path) + self._grace - self._now
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        if self._grace and wait > 0:
            self.report.waiting += 1
            self.report.wait = max(self.report.wait, wait)
            return False
        return True

    def _is_sound(self, pack: Pack) -> bool:
        """Whether all bytes of a pack are right, and on disk; False also for one that another compaction has removed."""
        if pack.path not in self._sound:
            try:
                _bring_to_disk(pack.path)
                self._sound[pack.path] = verify(pack.path) and _tells_the_truth(pack)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                return False
            if not self._sound[pack.path]:
                self.report.leave(DAMAGED, pack.path)
        return self._sound[pack.path]

    def _remove(self, path: str) -> bool:
        try:
            size = files.size(path)
            files.remove(path)
        except OSError as error:
            if error.errno in GONE:
                return True
            raise
        self.report.removed += 1
        self.report.freed += size
        return True

    def _leftovers(self, folder: str, names: list[str]) -> int:
        """Remove the files in the making that nobody will finish; how many it were."""
        removed = 0
        for name in names:
            path = f"{folder}/{name}"
            if layout.is_temporary(name) and self._is_abandoned(path) and self._remove(path):
                removed += 1
                self.report.leftovers += 1
        return removed

    def _is_abandoned(self, path: str) -> bool:
        """Whether a file in the making is old, and, if it is a unit that a process has ready, that process is gone."""
        try:
            modified = files.modified(path)
            if self._now - modified < ABANDONED:
                return False
            header = u.unpack_header(files.read_all(path, u.PAGE))
        except ValueError:
            return True
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        return is_gone(header, header.time, modified, self._ahead)


def _tells_the_truth(pack: Pack) -> bool:
    """Whether the rows of a pack are those that its footer tells, so that other copies of them are not needed."""
    try:
        return not untrue(pack, read_frame(pack.path, [LEVEL]), read_schema(pack.path, pack.text))
    except FormatError:
        return False


def _bring_to_disk(path: str) -> None:
    """Return when a file that somebody may just have copied is on disk."""
    descriptor = files.open_read(path)
    try:
        files.sync_file(descriptor)
    finally:
        files.close(descriptor)


def _has_let_go(path: str, ahead: float) -> bool:
    """Whether nobody writes to a log any more: its writer is gone, or has cut it to what is used."""
    data, modified = files.read_all(path), files.modified(path)
    header = u.unpack_header(data[: u.PAGE])
    return is_gone(header, u.unpack_beat(data[: u.PAGE], header), modified, ahead) or is_cut(data, header)


def _log(path: str) -> tuple[int, int]:
    """The bytes and CRC-32 of a log."""
    data = files.read_all(path)
    return len(data), zlib.crc32(data)


def _sealed(path: str) -> tuple[int, int]:
    """The bytes and CRC-32 of the log that was sealed into a pack.

    Raises:
        FormatError: The pack is damaged.
    """
    meta = load_meta(path)
    if not verify(path):
        raise FormatError(f"The pack {path} is damaged.")
    return meta.log_size, meta.log_crc
