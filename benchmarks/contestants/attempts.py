"""What one attempt costs: ours and the bare system calls that its promises need, in turn, on the same disk."""

from __future__ import annotations

import os
from pathlib import Path
from random import random, seed
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured

BEGUN = b"x" * 9_000
"""As many bytes as a unit has when it was begun, pages of its header and first block included."""
RECORDED = b"y" * 2_500
"""About what 100 records and the end take."""
CLAIMS = 10_000


def side_by_side(job: Job) -> Measured:
    """Medians in a collection that is new, and in one that has 10,000 numbers already."""
    from rigorous_recorder import ExperimentCollection

    seed(1)
    folder = Path(job.folder)
    new, old = ExperimentCollection(folder / "new"), ExperimentCollection(folder / "old")
    for number in range(1, CLAIMS):
        (folder / "old" / f"{number:06d}.1" / f"{number:032x}").mkdir(parents=True)
    bare = folder / "bare"
    bare.mkdir()
    with old.new_experiment():
        pass

    def record(collection: Any) -> None:
        with collection.new_experiment() as record_keeper:
            for _ in range(job.sizes.attempt_records):
                record_keeper.add_record({"x": random(), "y": random()})

    def nothing_but_calls() -> None:
        _attempt(f"{bare}/{random()}")

    ways: dict[str, Callable[[], None]] = {
        "ours": lambda: record(new),
        "ours_old": lambda: record(old),
        "bare": nothing_but_calls,
    }
    for way in ways.values():  # the first of each imports, starts the thread, and lists the folder
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(1, job.sizes.attempts // len(ways))):
        for name, way in ways.items():
            start = perf_counter()
            way()
            seconds[name].append(perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def _attempt(claim: str) -> None:
    """A claim, an attempt in it, a file in that, on disk when it has begun and on disk when it has ended."""
    folder = f"{claim}/attempt"
    os.mkdir(claim)
    os.mkdir(folder)
    descriptor = os.open(f"{folder}/1.log", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.pwrite(descriptor, BEGUN, 0)
        os.fdatasync(descriptor)
        for above in (folder, claim, os.path.dirname(claim)):
            _sync_folder(above)
        os.pwrite(descriptor, RECORDED, len(BEGUN))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
