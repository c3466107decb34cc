"""Begin and end of attempts: what they say on disk, and in what state an attempt is by them and by its process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import FormatError
from ..exact import decode_exact, encode_exact, storable
from ..levels import moment, whole
from . import files, machine
from . import unit as u
from .machine import Machine
from .snapshot import GONE, attempt_units, gaps, open_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .snapshot import AttemptPlace, UnitPlace
    from .source import UnitSource
    from .unit import Header

RUNNING: Final = "running"
FINISHED: Final = "finished"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"
KILLED: Final = "killed"
STALE: Final = "stale"

SILENCE: Final = 300.0
"""Seconds after which a reader, by its own clock, takes an attempt on another host for stale."""
CLAIM_SILENCE: Final = 60.0
"""The same for a claimer, who compares two times of the file server's clock."""


class Begin(msgspec.Struct, frozen=True):
    """The begin entry of an attempt, or of its resumption.

    Attributes:
        number: The experiment's number.
        failures: How many attempts failed in a row before this one.
        start: In seconds since the epoch.
        info: What `new_experiment` was given.
        run: 1 for the first begin, and 1 + the highest that a resumption saw: clocks may go wrong.
        header: Of the unit it stands in: which process began it.
    """

    number: int
    failures: int
    start: float
    info: dict[str, Any]
    run: int
    header: Header


class End(msgspec.Struct, frozen=True):
    """An end entry.

    Attributes:
        state: "finished", "failed" or "interrupted".
        end: In seconds since the epoch.
        error: What ended it, as text, or None.
        user: Whether a user closed it afterwards, rather than the process that began it.
        run: That of the begin which it ends.
        writer: Who wrote the entry.
    """

    state: str
    end: float
    error: str | None
    user: bool
    run: int
    writer: str


def pack_begin(number: int, failures: int, start: float, info: Mapping[str, Any], run: int) -> bytes:
    """The payload of a begin entry: [number, failures, start, info, run]."""
    return encode_exact([number, failures, start, dict(info), run])


def pack_end(state: str, end: float, error: str | None, run: int, *, user: bool) -> bytes:
    """The payload of an end entry: [state, end, error, user, run]."""
    return encode_exact([state, end, error, user, run])


class Course(msgspec.Struct, frozen=True):
    """The course of an attempt: what its begins and ends amount to.

    Attributes:
        state: One of running, finished, failed, interrupted, killed, stale.
        start, end: Of the first begin and the latest end, in seconds since the epoch; end is None while it runs or is stale.
        duration: Seconds spent in all its runs; None while it runs or is stale.
        error: What ended it, as text, or None.
        error_number: n for the n-th failed attempt in a row, else 0.
        info: What it was begun with.
    """

    state: str
    start: float
    end: float | None
    duration: float | None
    error: str | None
    error_number: int
    info: dict[str, Any]

    @property
    def had_error(self) -> bool | None:
        """False when it finished well, True when it failed, was interrupted or killed; None while that is open."""
        return None if self.end is None else self.state != FINISHED

    @property
    def again(self) -> bool:
        """Whether the next experiment takes this one's number again. Not after a stale one, since it may still live."""
        return self.state in (FAILED, INTERRUPTED, KILLED)

    def automatic(self, number: int) -> dict[str, Any]:
        """The automatic keys; while it runs or is stale those that its end will bring are missing."""
        keys: dict[str, Any] = {"experiment_number": number, "error_number": self.error_number}
        if self.end is not None:
            keys["had_error"] = self.had_error
        keys["experiment_start_time"] = self.start
        if self.end is not None:
            keys["experiment_end_time"] = self.end
            keys["experiment_duration"] = self.duration
        return keys


def read_begin_end(
    header: Header, events: Iterable[tuple[int, bytes]], begins: list[Begin], ends: list[End]
) -> list[str]:
    """Collect the begin and end entries among a unit's events, given as (kind, payload).

    Returns:
        A sentence for each that is damaged and was left out.
    """
    damaged = []
    for kind, payload in events:
        if kind not in (u.BEGIN, u.END):
            continue
        try:
            fields = decode_exact(payload)
            if kind == u.BEGIN:
                number, failures, start, info, run = fields
                values = {str(key): storable(value) for key, value in info.items()}
                begins.append(Begin(whole(number), whole(failures), moment(start), values, whole(run), header))
            else:
                state, end, error, user, run = fields
                text = None if error is None else str(error)
                ends.append(End(str(state), moment(end), text, bool(user), whole(run), header.writer))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            damaged.append(f"the {u.KINDS[kind]} entry is lost: {error}")
    return damaged


class Signs(msgspec.Struct, frozen=True):
    """The last signs of life of the writers of an attempt.

    Attributes:
        beats: By writer, in seconds since the epoch by its own clock: when one that is gone was last known to live.
        heard: By writer, by the clock of the file system: what tells that one on another host is silent.
    """

    beats: dict[str, float]
    heard: dict[str, float]

    def note(self, place: UnitPlace, source: UnitSource) -> None:
        """Take note of what a unit shows."""
        writer = source.header.writer
        self.beats[writer] = max(self.beats.get(writer, 0.0), source.beat)
        self.heard[writer] = max(self.heard.get(writer, 0.0), heartbeat(place, source.header))


def course(
    begins: list[Begin], ends: list[End], signs: Signs, now: float, silence: float, ahead: float | None = None
) -> Course:
    """What an attempt's begins and ends amount to.

    Args:
        begins: At least one.
        ends: Of any writer.
        signs: The last signs of life of the writers.
        now: Seconds since the epoch, by the clock of the file system.
        silence: Seconds without a sign of life that make an attempt of another host stale.
        ahead: Seconds by which this host's clock is ahead of the file system's, which a claim measures: a log that was
            written to since this host booted is then no log of an earlier boot, however the clocks of its writer went. Else
            the writer's own clock alone says so, since a copy of an old log is a new file.
    """
    begins = sorted(begins, key=_order)
    latest = begins[-1]
    closing = [end for end in ends if end.user and end.run >= latest.run]
    own = [end for end in ends if not end.user and end.writer == latest.header.writer]
    final = max(closing or own, key=lambda end: end.end, default=None)
    if final is not None:
        state, finish, error = final.state, final.end, final.error
    else:
        state, finish, error = _unended(latest, signs, now, silence, ahead), None, None
        if state == KILLED:
            finish = signs.beats.get(latest.header.writer, latest.start)
            error = "killed"
    duration = None
    if finish is not None:
        finish = max(finish, latest.start)
        duration = finish - latest.start + sum(_earlier_run(begin, ends, signs) for begin in begins[:-1])
    failed = state in (FAILED, INTERRUPTED, KILLED)
    return Course(
        state, begins[0].start, finish, duration, error, begins[0].failures + 1 if failed else 0, begins[0].info
    )


def _order(begin: Begin) -> tuple[int, float]:
    return begin.run, begin.start


def latest_begin(begins: list[Begin]) -> Begin:
    """The begin that counts: of the latest run."""
    return max(begins, key=_order)


def machine_of(header: Header) -> Machine:
    """The process that wrote a unit."""
    return Machine(header.boot, header.host, header.namespace, header.pid, header.pid_start)


def is_gone(header: Header, beat: float, modified: float, ahead: float) -> bool:
    """Whether the process that wrote a unit is known to be gone; what it says is gone may be removed.

    Args:
        header: Of the unit.
        beat: Its last sign of life by its own clock, in seconds since the epoch.
        modified: That by the file server's clock.
        ahead: Seconds by which this host's clock is ahead of the file server's.
    """
    return machine.lives(machine_of(header), max(beat, modified + ahead)) is False


def _unended(begin: Begin, signs: Signs, now: float, silence: float, ahead: float | None) -> str:
    header = begin.header
    sign = signs.beats.get(header.writer, header.time)
    heard = signs.heard.get(header.writer, header.time)
    alive = machine.lives(machine_of(header), sign if ahead is None else max(sign, heard + ahead))
    if alive is None:
        return STALE if now - heard > silence else RUNNING
    return RUNNING if alive else KILLED


def _earlier_run(begin: Begin, ends: list[End], signs: Signs) -> float:
    own = [end.end for end in ends if end.writer == begin.header.writer and not end.user]
    return max(0.0, max(own, default=signs.beats.get(begin.header.writer, begin.start)) - begin.start)


def heartbeat(place: UnitPlace, header: Header) -> float:
    """The last sign of life that a unit shows of its writer: its log's modification time, which a pack no longer has."""
    if place.name.sealed:
        return header.time
    try:
        return max(header.time, files.modified(place.path))
    except OSError as error:
        if error.errno not in GONE:
            raise
        return header.time


def may_be_torn(place: UnitPlace, source: UnitSource) -> bool:
    """Whether entries that no checksum vouches for may be wrong: who wrote them is gone, and in another boot or elsewhere.

    What a process of this boot stored is in the page cache whole, and who lives will still sync it.
    """
    header = source.header
    if not source.unverified or machine.same_boot(header.boot, header.host):
        return False
    alive = machine.lives(machine_of(header), source.beat)
    return time.time() - heartbeat(place, header) >= SILENCE if alive is None else not alive


def read_course(
    attempt: AttemptPlace,
    units: Iterable[UnitPlace],
    listed: float,
    *,
    ahead: float | None = None,
    silence: float = SILENCE,
    known: bool = False,
) -> Course | None:
    """The course of an attempt that has these units; None when it holds no begin entry: nobody was there, or not yet.

    Args:
        attempt: Where it is.
        units: Its units.
        listed: When listing them began, in seconds of the monotonic clock.
        ahead: As of `course`; without it this host's clock is taken for the file system's.
        silence: As of `course`.
        known: Whether only what is known is to be said: the end of one that seems killed may stand in a unit that is not read.

    Raises:
        FormatError: No begin entry can be read, or by `known` the course is not known.
        OSError: A unit cannot be read.
    """
    units = list(units)
    # it is looked once whether its process lives: it may be gone when it is asked again
    found = _course(units, ahead, silence)
    if found is not None and found[0].state == KILLED and died_since(found[1], listed):
        units = attempt_units(attempt)
        found = _course(units, ahead, silence)
    if known and found is not None and found[0].state == KILLED and (found[2] or gaps(units)):
        raise FormatError(f"How {attempt.folder} ended is not known: a unit of it cannot be read.")
    return None if found is None else found[0]


def _course(units: Iterable[UnitPlace], ahead: float | None, silence: float) -> tuple[Course, list[Begin], bool] | None:
    """The course, the begins, and whether some unit was not read."""
    begins, ends, signs, lacking = _read(units)
    if not begins:
        return None
    return course(begins, ends, signs, time.time() - (ahead or 0.0), silence, ahead), begins, lacking


def died_since(begins: list[Begin], listed: float) -> bool:
    """Whether an attempt that seems killed has to be read again, the listing of its files having begun at `listed`.

    Its process may have ended it and gone after its files were listed or read: so, among 16 programs that began experiments as
    fast as they could, a finished one was taken for killed, and its number tried again. Now that it is gone nothing changes any
    more.
    """
    return machine.found_gone(machine_of(latest_begin(begins).header), listed)


def _read(units: Iterable[UnitPlace]) -> tuple[list[Begin], list[End], Signs, bool]:
    begins: list[Begin] = []
    ends: list[End] = []
    signs = Signs({}, {})
    unreadable: FormatError | None = None
    lacking = False
    for place in units:
        try:
            source = open_unit(place)
        except FormatError as error:
            unreadable, lacking = error, True
            continue
        if source is None:
            lacking = True
            continue
        signs.note(place, source)
        read_begin_end(source.header, ((event.kind, event.payload) for event in source.events), begins, ends)
    if not begins and unreadable is not None:
        raise unreadable
    return begins, ends, signs, lacking
