"""The number that this process claimed last in a collection, so that the next claim need not list all there are.

Listing a folder of 10,000 numbers takes milliseconds, and a study of so many experiments would list it as often. Who began the
highest number itself, and finished it, knows the next one, if nobody else has touched the two folders since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from . import files, layout
from .layout import ClaimName

if TYPE_CHECKING:
    from .snapshot import AttemptPlace


class Latest(NamedTuple):
    """The claim that this process made last in a collection.

    Attributes:
        place: Its attempt.
        collection: The mark of the collection's folder when the attempt had begun: it changes with every other claim.
        packs: The mark of its compacted packs, None without any: a merge may bring numbers there that have no folder.
        attempt: The mark of the attempt's: it changes with every further file, so with every word of others on it.
        finished: Whether this process ended it, and well.
    """

    place: AttemptPlace
    collection: files.Mark
    packs: files.Mark | None
    attempt: files.Mark
    finished: bool


_latest: Final[dict[str, Latest]] = {}


def begun(path: str, place: AttemptPlace) -> None:
    """Remember the attempt that this process has just begun in the collection at `path`."""
    _latest[path] = Latest(place, files.mark(path), _packs(path), files.mark(place.folder), finished=False)


def ended(path: str, place: AttemptPlace, *, well: bool) -> None:
    """Remember how this process ended an attempt that it had begun."""
    latest = _latest.get(path)
    if latest is not None and latest.place == place:
        _latest[path] = latest._replace(finished=well)


def _packs(path: str) -> files.Mark | None:
    folder = f"{path}/{layout.PACKS}"
    return files.mark(folder) if files.is_folder(folder) else None


def next_claim(path: str) -> ClaimName | None:
    """The claim to try next, without looking; None when somebody has to look.

    It is only a guess, and `mkdir` decides. A mark is as coarse as the clock of the file system, so another process may have
    claimed this number at the same moment: then the folder exists, since whoever claims a higher one has claimed this before.
    """
    latest = _latest.get(path)
    if latest is None or not latest.finished:
        return None
    try:
        now = files.mark(path), _packs(path), files.mark(latest.place.folder)
        untouched = now == (latest.collection, latest.packs, latest.attempt)
    except OSError:
        return None
    return ClaimName(latest.place.claim.number + 1, 1) if untouched else None
