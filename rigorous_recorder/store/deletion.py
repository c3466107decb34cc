"""Deletion: an attempt goes into the trash, and a file in its claim says that nothing of it is read any more.

    000007.2/<A>.deleted        it was deleted; the claim stays, so that its number is not given again
    trash/000007.2-<A>/         its folder; what is of it in compacted packs comes there with the next compaction

Emptying the trash leaves the first, so what is in packs, or comes back with a copy of another machine's, stays deleted.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ClosedError
from . import files, layout
from .background import QUIET
from .holders import holders
from .names import LEVEL
from .packmeta import load_meta
from .snapshot import GONE, AttemptPlace, attempt_folder

if TYPE_CHECKING:
    from .holders import Holder
    from .packed import Key, Pack
    from .snapshot import Listing


def delete_attempt(path: str, place: AttemptPlace) -> None:
    """Delete an attempt that is over. May be killed at any moment and called again; a second call changes nothing.

    First there is a place for it in the trash, then the word that it is deleted, which is what counts, then it is moved.
    Who records into it or resumes it at the same time looks for the word when a new log has its name, and here open logs are
    looked for after the word: one of the two sees the other.

    Args:
        path: Of the collection.
        place: The attempt.

    Raises:
        ClosedError: Somebody has just opened a log of it.
        OSError: The disk refused.
    """
    claim = f"{path}/{layout.claim_name(*place.claim)}"
    word = f"{claim}/{layout.deleted_name(place.id)}"
    if not files.exists(word):
        files.make_folders(claim)  # a copy may have left it behind when it was empty
        trash = trash_folder(path, place)
        files.make_folders(trash)
        with suppress(FileExistsError):
            descriptor = files.create(word)
            try:
                files.sync_file(descriptor)
            finally:
                files.close(descriptor)
            holder = next(holders(path, place), None)
            if holder is not None:
                files.remove(word)
                files.sync_folder(claim)
                with suppress(OSError):  # what an earlier deletion left there stays
                    files.remove_folder(trash)
                raise held(place, holder)
    files.sync_folder(claim)
    move_to_trash(path, place)


def held(place: AttemptPlace, holder: Holder) -> ClosedError:
    """A process still records into an attempt, so that it cannot be deleted."""
    return ClosedError(
        f"Experiment {place.claim.number} cannot be deleted: {holder} still records into it. Hint: delete it when that has "
        f"ended; a worker lets go of it {QUIET:.0f} s after its last record."
    )


def trash_folder(path: str, place: AttemptPlace) -> str:
    """Where what there is of a deleted attempt goes.

    Raises:
        FormatError: Its id is none, and could lead anywhere.
    """
    layout.require_id(place.id)
    return f"{path}/{layout.TRASH}/{layout.claim_name(*place.claim)}-{place.id}"


def move_to_trash(path: str, place: AttemptPlace) -> None:
    """Move the folder of a deleted attempt, if it is still in its claim, or there again.

    Raises:
        OSError: The disk refused.
    """
    if not files.is_folder(place.folder):
        return
    trash = trash_folder(path, place)
    files.make_folders(f"{path}/{layout.TRASH}")
    target, k = trash, 1
    while True:
        try:
            files.rename(place.folder, target)
            break
        except OSError as error:
            if error.errno in GONE and not files.is_folder(place.folder):
                return  # somebody else did
            if not files.exists(target):
                raise
        k += 1
        target = f"{trash}-{k}"
    files.sync_folder(f"{path}/{layout.TRASH}")
    files.sync_folder(place.folder.rpartition("/")[0])


def finish_deletions(path: str, listing: Listing) -> None:
    """Do what deletions that were killed left to do, and what copies brought back."""
    for claim, attempts in listing.deleted.items():
        for attempt in attempts:
            move_to_trash(path, AttemptPlace(claim, attempt, attempt_folder(path, claim, attempt)))


def _is_that(path: str, key: Key, pack: Pack) -> bool:
    """Whether a file holds a unit as a pack has it; a copy that was packed before the unit was full holds less."""
    unit = layout.parse_unit(path.rpartition("/")[2])
    if unit is None or (unit.writer, unit.n) != key[1:]:
        return False
    if unit.sealed:
        return load_meta(path).log_crc == pack.identity(key).log_crc
    data = files.read_all(path)
    return (len(data), zlib.crc32(data)) == pack.identity(key)[1:]


def in_trash(path: str, place: AttemptPlace, key: Key, pack: Pack) -> bool:
    """See to it that a unit of a deleted attempt is in the trash, unless the trash was emptied; whether a pack may lack it.

    Raises:
        FormatError: What was written does not read back the same.
        OSError: The disk refused.
    """
    folder = trash_folder(path, place)
    if not files.is_folder(folder):
        return True
    if any(_is_that(f"{folder}/{name}", key, pack) for name in files.names(folder)):
        return True
    from .pack import write_sealed
    from .packread import read_rows, verify

    if not verify(pack.path):
        return False
    first = pack.firsts[pack.units[key]]
    meta = pack.meta(key)
    columns = None if meta.rows else [LEVEL]
    write_sealed(folder, meta, read_rows(pack.path, first, first + meta.rows, columns))
    for above in (folder, f"{path}/{layout.TRASH}", path):
        files.sync_folder(above)
    return True
