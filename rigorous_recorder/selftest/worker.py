"""The processes of a self-test: `python -m rigorous_recorder.selftest.worker ROLE ...`. Each says at its end what it saw.

A process says "ready", waits for a line on its standard input, works, and prints one line of JSON. None works for longer
than `LONGEST`, so that none stays should the self-test itself be killed.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from ..collection import ExperimentCollection
from ..store import files

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST: Final = 20.0
"""Seconds."""
FAST_WARM_UP: Final = 2000


def race(folder: str, count: str) -> list[int]:
    """Try to make the same folders as the others do; which of them this process made."""
    won = []
    for number in range(int(count)):
        try:
            files.make_folder(f"{folder}/{number}")
        except FileExistsError:
            continue
        won.append(number)
    return won


def number(path: str, count: str) -> list[int]:
    """Record some experiments of one record; their numbers."""
    numbers = []
    for _ in range(int(count)):
        with ExperimentCollection(path).new_experiment(pid=os.getpid()) as experiment:
            experiment.add_record(x=0.5)
            numbers.append(experiment.number)
    return numbers


def write(path: str, mode: str, most: str = "") -> int:
    """Record until killed, or until the standard input ends; acknowledge each record when its `add_record` returned.

    Args:
        path: Of the collection.
        mode: How the journal is written.
        most: How many records, if not as many as there is time for.
    """
    end = time.monotonic() + LONGEST
    count = 0
    with ExperimentCollection(path, journal=mode).new_experiment() as experiment:
        keeper = experiment.sub_record_keeper(level="below")
        while time.monotonic() < end:
            if most and count == int(most):
                select.select([0], [], [], max(0.0, end - time.monotonic()))
                break
            keeper.add_record(i=count, square=float(count * count))
            count += 1
            os.write(1, b"%d\n" % count)
            if count % 256 == 0 and select.select([0], [], [], 0)[0]:
                break
    return count


def read(path: str) -> dict[str, Any]:
    """Read while others write until the standard input ends: how often, and what was wrong."""
    before, readings, wrong = 0, 0, ""
    end = time.monotonic() + LONGEST
    collection = ExperimentCollection(path)
    while not wrong and time.monotonic() < end:
        records = collection.records
        count = len(records)
        if count < before:
            wrong = f"{before:,} records were there, and then {count:,}"
        elif any(record["i"] != i or record["square"] != float(i * i) for i, record in enumerate(records)):
            wrong = "a record was not as it was written"
        before, readings = count, readings + 1
        if select.select([0], [], [], 0)[0]:
            break
    return {"readings": readings, "records": before, "wrong": wrong}


def speed(path: str, mode: str, seconds: str) -> dict[str, float]:
    """Add records for some seconds: the nanoseconds of each, and the milliseconds of a sync."""
    with ExperimentCollection(path, journal=mode).new_experiment() as experiment:
        add = experiment.add_record
        for i in range(FAST_WARM_UP):
            add(i=i, x=0.5)
        count, started = 0, time.perf_counter()
        while (took := time.perf_counter() - started) < float(seconds):
            for i in range(100):
                add(i=i, x=0.5)
            count += 100
        syncs = []
        for i in range(10):
            add(i=i, x=0.5)
            before = time.perf_counter()
            experiment.sync()
            syncs.append(time.perf_counter() - before)
    return {"ns": took / count * 1e9, "sync_ms": sorted(syncs)[len(syncs) // 2] * 1e3}


ROLES: Final[dict[str, Callable[..., Any]]] = {
    "race": race,
    "number": number,
    "write": write,
    "read": read,
    "speed": speed,
}


def main(role: str, *arguments: str) -> None:
    """Be ready, wait for the word, work, and say what was seen."""
    warnings.simplefilter("ignore")  # a reader warns of a folder that is not there yet
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.stdin.readline():
        said = ROLES[role](*arguments)
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
