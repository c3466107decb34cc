"""The trials of a self-test, one function each: what is tried, the verdict, and the sentence that says why."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

from ..collection import ExperimentCollection
from ..errors import DamageWarning, RecorderError
from ..store import files, layout, modes
from ..store.snapshot import list_claims, list_units, look_into
from .place import WorkerError, answer, ready

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from .place import Place

OK: Final = "ok"
SLOWER: Final = "slower"
NOT_SAFE: Final = "NOT safe"

LEAST_ROOM: Final = 64 << 20
"""Bytes that the trials may need, and that a recording process may have preallocated at a time."""
SLOW_SYNC: Final = 50.0
"""Milliseconds: on a local disk a sync takes 0.3 to 10."""
SLOW_RECORD: Final = 3000.0
"""Nanoseconds: in `write()` mode on a local disk a record takes about 1,000."""
SKEW: Final = 240.0
"""Seconds that the clocks of host and file server may differ: a reader takes a writer on another host that is silent for
300 s for stale, and the writer gives a sign every 10 s."""


class Row(NamedTuple):
    """What a trial came to: its name, the verdict ("ok", "slower", "NOT safe") and a sentence."""

    name: str
    verdict: str
    sentence: str


def refused(name: str, error: OSError) -> Row:
    """The row of a trial that the system refused."""
    what = str(error) if isinstance(error, (WorkerError, RecorderError)) else error.strerror or str(error)
    hint = {
        errno.ENOENT: "Hint: make the folder first.",
        errno.EROFS: "Hint: try a folder that can be written to.",
        errno.EACCES: "Hint: try a folder that this user may write to.",
        errno.ENOSPC: "Hint: free space.",
        errno.EDQUOT: "Hint: free space in your quota.",
    }.get(error.errno or 0, "")
    return Row(name, NOT_SAFE, f"{what}. {hint}".strip())


def room(place: Place) -> Row:
    """How much room there is."""
    free = files.free_space(place.path)
    if free < LEAST_ROOM:
        return Row(
            "room",
            NOT_SAFE,
            f"{free / 1e6:,.1f} MB are free, recording wants {LEAST_ROOM / 1e6:,.0f}. Hint: free space.",
        )
    return Row("room", OK, f"{free / 1e9:,.1f} GB are free")


def names(place: Place) -> Row:
    """Whether a file is made once, renamed, linked, and read back as it was written."""
    folder = place.new_folder("names")
    content = os.urandom(70_000)
    took = []
    for number in range(place.rounds(20)):
        before = time.perf_counter()
        descriptor = files.create(f"{folder}/new")
        try:
            files.write_at(descriptor, content, 0)
            files.sync_file(descriptor)
        finally:
            files.close(descriptor)
        files.rename(f"{folder}/new", f"{folder}/{number}")
        files.sync_folder(folder)
        took.append(time.perf_counter() - before)
        if files.names(folder) != sorted(map(str, range(number + 1))):
            return Row("names", NOT_SAFE, "a renamed file is not listed under its new name")
        if files.read_all(f"{folder}/{number}") != content:
            return Row("names", NOT_SAFE, "a file does not read back as it was written")
    if not _refused(lambda: files.close(files.create(f"{folder}/0"))):
        return Row("names", NOT_SAFE, "a file that is there can be made anew (O_EXCL is not kept)")
    milliseconds = sorted(took)[len(took) // 2] * 1e3
    verdict = SLOWER if milliseconds > SLOW_SYNC else OK
    links = (
        "a link never replaces a file" if _links(folder) else "there are no hard links: a new unit is renamed instead"
    )
    return Row("names", verdict, f"a file is whole under its name, and on disk in {milliseconds:,.1f} ms; {links}")


def _refused(make: Callable[[], None]) -> bool:
    try:
        make()
    except FileExistsError:
        return True
    return False


def _links(folder: str) -> bool:
    """Whether there are hard links that do not replace.

    Raises:
        OSError: There are, and they do.
    """
    try:
        files.link(f"{folder}/0", f"{folder}/linked")
    except OSError:
        return False
    if not _refused(lambda: files.link(f"{folder}/0", f"{folder}/linked")):
        raise OSError(errno.EIO, "a link replaced a file that was there")
    return True


def folders(place: Place) -> Row:
    """Whether of several processes that make the same folder exactly one does."""
    folder, count = place.new_folder("folders"), place.rounds(300)
    won = [number for one in place.together("race", 4, folder, count) for number in one]
    if sorted(won) != list(range(count)):
        twice = len(won) - len(set(won))
        return Row("folders", NOT_SAFE, f"of {count} folders that 4 processes raced for, {twice} were made twice")
    return Row("folders", OK, f"mkdir is atomic: 4 processes raced for {count} folders, and each was made once")


def numbers(place: Place) -> Row:
    """Whether parallel processes get numbers of their own."""
    path, each = f"{place.path}/numbers", place.rounds(20)
    claimed = sorted(number for one in place.together("number", 4, path, each) for number in one)
    expected = list(range(1, 4 * each + 1))
    if claimed != expected or list(ExperimentCollection(path).experiment_numbers) != expected:
        return Row("numbers", NOT_SAFE, f"4 processes began {4 * each} experiments, and got the numbers {claimed}")
    return Row("numbers", OK, f"4 processes began {4 * each} experiments, numbered 1 to {4 * each}, each once")


def journals(place: Place) -> Row:
    """How records are written here, and how fast."""
    mode, kind = modes.best_mode(place.path), files.file_system(place.path) or "unknown file system"
    measured = place.together("speed", 1, f"{place.path}/speed", mode, 0.1 if place.quick else 0.5)[0]
    figures = f"{measured['ns']:,.0f} ns a record, {measured['sync_ms']:,.1f} ms a sync"
    slow = measured["ns"] > SLOW_RECORD or measured["sync_ms"] > SLOW_SYNC
    if mode == modes.MAPPED:
        return Row("journal", SLOWER if slow else OK, f"mapped into memory ({kind}): {figures}")
    return Row(
        "journal", SLOWER, f"by two write() calls a record ({kind}: not known to keep what it preallocates): {figures}"
    )


def kills(place: Place) -> Row:
    """Whether what was acknowledged is there after a SIGKILL."""
    rounds, dice, acknowledged, recovered = place.rounds(20), random.Random(1), 0, 0  # noqa: S311  (of rounds, no secret)
    both = [modes.MAPPED, modes.WRITTEN] if modes.best_mode(place.path) == modes.MAPPED else [modes.WRITTEN]
    for nth in range(rounds):
        path = f"{place.path}/kill{nth}"
        process = place.start("write", path, both[nth % len(both)])
        _go(process)
        first = _line(process)
        time.sleep(dice.random() * 0.05)
        process.kill()
        count = _last_number(first + _rest(process))
        problem, there = _after_a_kill(path, count)
        if problem:
            return Row("kill", NOT_SAFE, f"{problem} (round {nth + 1} of {rounds})")
        acknowledged, recovered = acknowledged + count, recovered + there
    return Row(
        "kill",
        OK,
        f"{rounds} writers were killed: {acknowledged:,} records were acknowledged, {recovered:,} are there, none is wrong",
    )


def _go(process: subprocess.Popen[str]) -> None:
    ready(process)
    assert process.stdin is not None  # a pipe, as `Place.start` made it
    process.stdin.write("go\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    """Wait for the next acknowledgement.

    Raises:
        WorkerError: The writer failed.
    """
    assert process.stdout is not None  # a pipe, as `Place.start` made it
    line = process.stdout.readline()
    if not line:
        answer(process)
        raise WorkerError("a writer ended before it was told to")
    return line


def _rest(process: subprocess.Popen[str]) -> str:
    """What a process says until it ends; `communicate` would leave out what `readline` has read ahead."""
    assert process.stdout is not None  # a pipe, as `Place.start` made it
    return process.stdout.read()


def _last_number(said: str) -> int:
    """The last whole line of acknowledgements."""
    whole = said.rpartition("\n")[0].rpartition("\n")[2]
    return int(whole) if whole else 0


def _after_a_kill(path: str, acknowledged: int) -> tuple[str, int]:
    """What is wrong with what a killed writer left, if anything, and how many records are there."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        records = list(ExperimentCollection(path).records)
    if any(issubclass(one.category, DamageWarning) for one in heard):
        return f"after a kill: {heard[0].message}", len(records)
    if any(
        record["i"] != i or record["square"] != float(i * i) or record["level"] != "below"
        for i, record in enumerate(records)
    ):
        return "a record is not as it was written", len(records)
    if not acknowledged <= len(records) <= acknowledged + 1:
        return f"{acknowledged:,} records were acknowledged, and {len(records):,} are there", len(records)
    return "", len(records)


def cuts(place: Place) -> Row:
    """Whether a log that was cut anywhere gives its beginning."""
    path, dice = f"{place.path}/cut", random.Random(2)  # noqa: S311  (of places, no secret)
    process = place.start("write", path, "auto", 1000)  # which have room in one unit
    _go(process)
    for _ in range(600):
        _line(process)
    process.kill()
    _rest(process)
    (claim,) = list_claims(path)
    (attempt,) = look_into(path, claim).attempts
    log = list_units(attempt.folder)[0][0].path
    data = files.read_all(log)
    used, before = len(data.rstrip(b"\0")), None
    sizes = sorted((dice.randrange(used) for _ in range(place.rounds(100))), reverse=True)
    for size in sizes:
        descriptor = files.open_write(log)
        try:
            files.truncate(descriptor, size)
        finally:
            files.close(descriptor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            found = [record["i"] for record in ExperimentCollection(path).records]
        if found != list(range(len(found))) or (before is not None and len(found) > before):
            return Row(
                "cut", NOT_SAFE, f"a log that was cut to {size:,} bytes does not give the records at its beginning"
            )
        before = len(found)
    return Row("cut", OK, f"a log was cut at {len(sizes)} places, and gave each time the whole records before the cut")


def readers(place: Place) -> Row:
    """Whether processes that read meanwhile see records once, whole, and never fewer than before."""
    path = f"{place.path}/readers"
    writer = place.start("write", path, "auto")
    watching = [place.start("read", path) for _ in range(2)]
    for process in (writer, *watching):
        _go(process)
    drained = _drain(writer, 0.3 if place.quick else 2.0)
    _stop(writer)
    drained += _rest(writer)
    for process in watching:
        _stop(process)
    seen = [answer(process) for process in watching]
    wrong = next((one["wrong"] for one in seen if one["wrong"]), "")
    there = len(ExperimentCollection(path).records)
    written = int(drained.split()[-1])
    if wrong or there != written:
        return Row("readers", NOT_SAFE, wrong or f"{written:,} records were written, and {there:,} are there")
    readings = sum(one["readings"] for one in seen)
    return Row(
        "readers", OK, f"2 processes read {readings:,} times while {written:,} records were written, and saw each once"
    )


def _drain(process: subprocess.Popen[str], seconds: float) -> str:
    """Take what a process says for some seconds, so that it need not wait; the last of it."""
    end, line = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        line = _line(process)
    return line


def _stop(process: subprocess.Popen[str]) -> None:
    """Tell a process to end; one that has found something wrong has ended, and its answer says what."""
    assert process.stdin is not None  # a pipe, as `Place.start` made it
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("stop\n")
        process.stdin.flush()


def clock(place: Place) -> Row:
    """How far the file server's clock is from this host's."""
    path = f"{place.path}/{layout.temporary_name(layout.new_id(), 1)}"
    before = time.time()
    files.close(files.create(path))
    differs = max(before - files.modified(path), files.modified(path) - time.time(), 0.0)
    if differs > SKEW:
        what = f"the clocks of this host and of the file system differ by {differs:,.0f} s"
        return Row(
            "clock", NOT_SAFE, f"{what}: experiments that run on other hosts look stale here. Hint: set the clocks."
        )
    return Row("clock", OK, f"the clocks of this host and of the file system differ by {differs:,.2f} s")


TRIALS: Final[tuple[tuple[str, Callable[[Place], Row]], ...]] = (
    ("room", room),
    ("names", names),
    ("folders", folders),
    ("numbers", numbers),
    ("journal", journals),
    ("kill", kills),
    ("cut", cuts),
    ("readers", readers),
    ("clock", clock),
)
"""In this order."""
