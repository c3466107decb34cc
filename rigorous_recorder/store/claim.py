"""Claims: how a new experiment gets its number among any number of processes and hosts, by `mkdir` alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import FormatError, NotACollectionError, RecorderError, StoreError
from ..interrupts import finish_first
from ..lineage import canonical
from . import files, latest, layout, refusals
from .attempt import CLAIM_SILENCE, FINISHED, KILLED, RUNNING, STALE, Course, read_course
from .layout import ClaimName
from .snapshot import known_claims, list_collection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .packed import Packs

ROUNDS: Final = 300
"""How often all claims are looked at before it is given up: others were faster `IN_A_ROW` times after each look."""
IN_A_ROW: Final = 32
"""How many numbers are tried one after the other before it is looked again, and waited: so many rivals come one by one."""
PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.6
"""Seconds of the waits, of which a random part is taken; each is up to twice as long as the one before."""
EMPTY_FOR: Final = 60.0
"""Seconds after which a claim without an attempt is nobody's: whoever made it died before it began."""

ALWAYS: Final = "always"
SAME_INFO: Final = "same_info"
NEVER: Final = "never"
RETRIES: Final = (ALWAYS, SAME_INFO, NEVER)


class Claimed(msgspec.Struct, frozen=True):
    """A number that is ours now: the claim, the new attempt's id and folder, and how many failed in a row before it."""

    claim: ClaimName
    attempt: str
    folder: str
    failures: int


def make_collection(path: str) -> None:
    """See to it that a folder is a collection: made where it is missing, checked where it is there.

    Raises:
        NotACollectionError: It is a file, or a folder that holds something else.
        FormatError: It is of a newer version.
    """
    if latest.next_claim(path) is not None or check_collection(path):  # nothing has changed since it was one
        return
    try:
        files.make_folders(path)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotACollectionError(
            f"{path} cannot be a collection: {error.strerror}. Hint: choose another path."
        ) from error
    text = {"format": "rigorous_recorder", "version": layout.FORMAT_VERSION, "features": [], "id": layout.new_id()}
    write_once(f"{path}/{layout.FORMAT_FILE}", (json.dumps(text) + "\n").encode())
    check_collection(path)


def write_once(path: str, data: bytes) -> None:
    """Put a whole file in place unless something has the name already: temporary file, fsync, link, fsync of the folder."""
    folder = path.rpartition("/")[0]
    temporary = f"{folder}/{layout.temporary_name(layout.new_id(), 1)}"
    descriptor = files.create(temporary)
    try:
        try:
            files.write_at(descriptor, data, 0)
            files.sync_file(descriptor)
        finally:
            files.close(descriptor)
        try:
            files.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links: renaming there replaces an equal file at worst
            if not files.exists(path):
                files.rename(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # renamed away, or left for whoever cleans up
            files.remove(temporary)
    files.sync_folder(folder)


def check_collection(path: str) -> bool:
    """Whether the path is a collection; False when nothing, or an empty folder, is there.

    Raises:
        NotACollectionError: Something else is there.
        FormatError: It is of a newer version.
    """
    try:
        text = files.read_all(f"{path}/{layout.FORMAT_FILE}", 65536)
    except FileNotFoundError:
        return _nothing_there(path)
    except NotADirectoryError:
        raise NotACollectionError(
            f"{path} is a file, and a collection is a folder. Hint: choose another path."
        ) from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise NotACollectionError(
            f"{path} is no collection: its 'format' is no regular file. Hint: choose another path."
        ) from None
    try:
        said = json.loads(text)
        version, features = said["version"], said["features"]
        ours = said["format"] == "rigorous_recorder" and isinstance(version, int) and isinstance(features, list)
    except (ValueError, KeyError, TypeError, RecursionError):
        ours, version, features = False, 0, []
    if not ours:
        raise NotACollectionError(
            f"{path} is no collection: its file 'format' says something else. Hint: choose another path."
        )
    if layout.newer(version, features):
        raise FormatError(
            f"{path} is of format version {version} with the features {features}, and this release reads version "
            f"{layout.FORMAT_VERSION} without any. Hint: upgrade rigorous-recorder."
        )
    return True


def is_collection(path: str) -> bool:
    """Whether there is a collection: something of one, if not its file `format`.

    Raises:
        NotACollectionError: Something else is there.
        FormatError: It is of a newer version.
    """
    if check_collection(path):
        return True
    try:
        return any(not name.startswith(".") for name in files.names(path))  # all of them ours, else that was said
    except FileNotFoundError:
        return False


def _nothing_there(path: str) -> bool:
    try:
        names = files.names(path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise NotACollectionError(
            f"{path} is a file, and a collection is a folder. Hint: choose another path."
        ) from None
    if layout.FORMAT_FILE in names:
        return check_collection(path)  # somebody has just made it
    strange = [
        name
        for name in names
        if not name.startswith(".")
        and name not in (layout.NOTES, layout.PACKS, layout.TRASH)
        and not layout.parse_claim(name)
    ]
    if strange:
        raise NotACollectionError(
            f"{path} is a folder that holds something else ({strange[0]!r}). Hint: choose an empty or a new folder."
        )
    return False


def claim(path: str, info: Mapping[str, Any], retries: str) -> Claimed:
    """Claim the number of a new experiment, and make its attempt's folder.

    The highest number is tried again while its attempts fail; `same_info` takes the highest number whose attempts all
    failed with equal info; `never` always takes a new one. Who finds that a claim is there, and was not when it looked, takes
    it for one that runs, and tries the next number at once: whether a listing shows it is a matter of caches.

    Raises:
        OSError: The folder cannot be written, or not be listed.
        StoreError: Which numbers are taken is not known; or others were faster again and again.
    """
    guess = None if retries == SAME_INFO else latest.next_claim(path)
    if guess is not None:
        claimed = _make(path, guess, 0)
        if claimed is not None:
            return claimed
    met, pause = 0, PAUSE
    for _ in range(ROUNDS):
        wanted, failures, above = _decide(path, info, retries)
        if wanted.attempt == 1:
            wanted = ClaimName(max(wanted.number, met + 1), 1)
        for _ in range(IN_A_ROW):
            claimed = _make(path, wanted, failures)
            if claimed is not None:
                return claimed
            met = max(met, wanted.number)
            wanted, failures = ClaimName(max(met + 1, above), 1), 0
        time.sleep(int.from_bytes(os.urandom(2), "little") / 65_536 * pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    raise StoreError(f"no number could be claimed in {path} within {ROUNDS * IN_A_ROW} tries. Hint: check the folder.")


def _make(path: str, claim: ClaimName, failures: int) -> Claimed | None:
    """Make a claim and the folder of its attempt; None when somebody else has that claim."""
    if not layout.is_claim(*claim):
        raise _no_more(path, claim)
    attempt = layout.new_id()
    claimed = Claimed(claim, attempt, f"{path}/{layout.claim_name(*claim)}/{attempt}", failures)
    made: list[None] = []
    try:
        files.make_folder(claimed.folder.rpartition("/")[0], made)
        files.make_folder(claimed.folder)
    except FileExistsError:
        return None
    except BaseException:
        if made:
            finish_first(give_back, claimed.folder)
        raise
    return claimed


def _no_more(path: str, claim: ClaimName) -> StoreError:
    """No name can say this number or try, so that nobody would read what is recorded under it."""
    known, _ = known_claims(path)
    number = claim.number if claim.number < layout.MAX_NUMBER else known[-1].number if known else layout.MAX_NUMBER - 1
    last = max((one for one in known if one.number == number), default=ClaimName(number, layout.MAX_TRY - 1))
    what = "try" if claim.number < layout.MAX_NUMBER else "number"
    return StoreError(
        errno.EOVERFLOW,
        f"no experiment can be begun: its {what} would be {claim.attempt if what == 'try' else claim.number}, and the highest "
        f"{what} is {(layout.MAX_TRY if what == 'try' else layout.MAX_NUMBER) - 1}, which is taken here. Hint: rename this "
        "folder to a lower one that is free, or remove it if it is empty; if it is in a pack only, use another collection",
        f"{path}/{layout.claim_name(*last)}",
    )


def give_back(folder: str, writer: str = "", *, claim: bool = True) -> None:
    """Remove an attempt that has not begun, and its claim, unless others have written there.

    Args:
        folder: Of the attempt.
        writer: Whose files go as well; it has added nothing to them that counts.
        claim: Whether the claim goes too: not that of an attempt of old whose folder was gone.
    """
    try:
        names = files.names(folder) if writer else []
    except FileNotFoundError:
        names = []
    for name in names:
        unit = layout.parse_unit(name)
        if name.startswith(f".tmp-{writer}-") or (unit is not None and unit.writer == writer):
            with contextlib.suppress(FileNotFoundError):
                files.remove(f"{folder}/{name}")
    for empty in (folder, folder.rpartition("/")[0])[: 1 + claim]:
        try:
            files.remove_folder(empty)
        except FileNotFoundError:  # done before an interrupt, or never made
            continue
        except OSError:  # not empty: something was
            return


def _decide(path: str, info: Mapping[str, Any], retries: str) -> tuple[ClaimName, int, int]:
    """What to claim by what is on disk now, how many attempts failed in a row before it, and the first number above all."""
    claims, packs = known_claims(path)
    if packs.unlisted is not None:
        raise refusals.not_known(packs.unlisted, "no number can be given to an experiment")
    above = claims[-1].number + 1 if claims else 1
    again = _failed_with(path, claims, info) if retries == SAME_INFO else None
    return (*(again or _next(path, claims, packs, retries)), above)


def _next(path: str, claims: list[ClaimName], packs: Packs, retries: str) -> tuple[ClaimName, int]:
    """The highest number again if it failed, else the next; and how many attempts failed in a row before it."""
    if not claims:
        return ClaimName(1, 1), 0
    highest = claims[-1].number
    fresh = ClaimName(highest + 1, 1)
    tries = [claim for claim in claims if claim.number == highest]
    for claim in reversed(tries):
        courses = _courses(path, claim)
        if courses:
            best = min(courses, key=lambda course: _RANK.get(course.state, len(_RANK)))
            failures = max(course.error_number for course in courses) if best.again else 0
            if best.again and retries == ALWAYS and not _succeeded(path, [one for one in tries if one != claim]):
                return ClaimName(highest, claims[-1].attempt + 1), failures
            return fresh, failures if retries == NEVER else 0
        if _age(path, claim) < EMPTY_FOR or packs.damage:
            return fresh, 0  # somebody is just beginning it, or what was in it cannot be read
    return ClaimName(highest, claims[-1].attempt + 1), 0


def _succeeded(path: str, tries: list[ClaimName]) -> bool:
    """Whether one of these tries finished: an earlier one may have been resumed, or closed by the user afterwards."""
    return any(course.state == FINISHED for claim in tries for course in _courses(path, claim))


_RANK: Final = {RUNNING: 0, FINISHED: 1, STALE: 2}
"""Which of several attempts under one claim decides, after two collections were copied together."""


def _failed_with(path: str, claims: list[ClaimName], info: Mapping[str, Any]) -> tuple[ClaimName, int] | None:
    """The highest number whose attempts all failed with this info."""
    wanted = canonical(info)
    for number in sorted({claim.number for claim in claims}, reverse=True):
        tries = [claim for claim in claims if claim.number == number]
        courses = [course for claim in tries for course in _courses(path, claim)]
        if courses and all(course.again and canonical(course.info) == wanted for course in courses):
            return ClaimName(number, tries[-1].attempt + 1), max(course.error_number for course in courses)
    return None


_SETTLED: Final = Course(FINISHED, 0.0, 0.0, 0.0, None, 0, {})
"""The course of what must not be tried again, whatever it was."""


def _courses(path: str, claim: ClaimName) -> list[Course]:
    """How the attempts under a claim went, silence and what was before a boot being judged by the file server's clock."""
    listing = list_collection(path, [claim])
    courses = [_SETTLED for _ in listing.deleted.get(claim, ())]  # the number of what was deleted is not given again
    if listing.hidden(claim) is not None:
        courses.append(_SETTLED)  # nor is that of what cannot be looked at
    for place, units in listing.attempts:
        try:
            course = read_course(place, units, listing.began, silence=CLAIM_SILENCE)
            if course is not None and course.state in (RUNNING, STALE, KILLED):
                course = read_course(
                    place, units, listing.began, ahead=clock_ahead(path), silence=CLAIM_SILENCE, known=True
                )
        except RecorderError:  # of a newer version or damaged: it is somebody's, and nothing says that it failed
            course = _SETTLED
        if course is not None:
            courses.append(course)
    return courses


def server_now(path: str) -> float:
    """Now, by the clock of the file server: the modification time of a file just made there."""
    temporary = f"{path}/{layout.temporary_name(layout.new_id(), 1)}"
    files.close(files.create(temporary))
    try:
        return files.modified(temporary)
    finally:
        files.remove(temporary)


def clock_ahead(path: str) -> float:
    """Seconds by which this host's clock is ahead of the file server's."""
    there = server_now(path)
    return time.time() - there


def _age(path: str, claim: ClaimName) -> float:
    try:
        return server_now(path) - files.modified(f"{path}/{layout.claim_name(*claim)}")
    except OSError:
        return 0.0
