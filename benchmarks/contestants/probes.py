"""What one process can tell of itself: its memory while it records, the latency of each call, what it imported."""

from __future__ import annotations

import sys
from array import array
from random import random, seed
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks.clock import resident_memory

if TYPE_CHECKING:
    from benchmarks.workloads import Job, Measured

SAMPLES = 27  # of the memory, evenly spread from the first mark to the last
HEAVY = ("numpy", "pandas", "polars", "super_hash")


def memory(job: Job) -> Measured:
    """Resident memory at `memory_from` records, at `memory_to`, and the highest in between; anonymous and of files."""
    from rigorous_recorder import ExperimentCollection

    seed(1)
    first, last = job.sizes.memory_from, job.sizes.memory_to
    marks = [first + (last - first) * n // SAMPLES for n in range(SAMPLES + 1)]
    samples = []
    added = 0
    with ExperimentCollection(job.folder).new_experiment() as record_keeper:
        empty = resident_memory()
        for number, mark in enumerate(marks):
            keeper = record_keeper.sub_record_keeper(episode=number)
            for _ in range(mark - added):
                keeper.add_record({"x": random(), "y": random()})
            added = mark
            samples.append(resident_memory())
    (anon0, file0), (anon1, file1) = samples[0], samples[-1]
    return {
        "records": last - first,
        "before": sum(empty),
        "anon": anon1 - anon0,
        "file": file1 - file0,
        "highest": max(map(sum, samples)) - sum(empty),  # over the process with its experiment just opened
    }


def _spread(latencies: array[int]) -> Measured:
    """Percentiles of nanoseconds, by sorting."""
    ordered = sorted(latencies)
    count = len(ordered)
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {**{name: ordered[min(count - 1, int(count * q))] for name, q in at.items()}, "max": ordered[-1]}


def _measure(target: Any, job: Job) -> array[int]:
    latencies = array("q", bytes(8 * job.sizes.headline))  # written once already: no page faults in the loop
    seed(1)
    for index in range(len(latencies)):
        record = {"x": random(), "y": random()}
        start = perf_counter_ns()
        target.add_record(record)
        latencies[index] = perf_counter_ns() - start
    return latencies


def latency(job: Job) -> Measured:
    """Single calls while the sync thread runs each second and a helper seals what is full."""
    from rigorous_recorder import ExperimentCollection

    with ExperimentCollection(job.folder).new_experiment() as record_keeper:
        latencies = _measure(record_keeper.sub_record_keeper(episode=0), job)
    return _spread(latencies)


class _Empty:
    __slots__ = ()

    def add_record(self, record: Any = None, /, **values: Any) -> None:
        pass


def latency_empty(job: Job) -> Measured:
    """The same around a method that does nothing: the machine's own noise, and the cost of reading the clock."""
    return _spread(_measure(_Empty(), job))


def _imported() -> list[str]:
    return [name for name in HEAVY if name in sys.modules]


def modules(job: Job) -> Measured:
    """Which heavy libraries a process that only records has imported: 1 for each, after the import and at the end."""
    start = perf_counter()
    from rigorous_recorder import ExperimentCollection

    seconds = perf_counter() - start
    at_import = _imported()
    with ExperimentCollection(job.folder).new_experiment(lr=0.1) as record_keeper:
        keeper = record_keeper.sub_record_keeper(model="one")
        keeper.pending_record["x"] = 1.0
        keeper.commit_record()
        for index in range(1_000):
            keeper.add_record({"index": index, "x": random()})
        keeper.add_records(index=range(10), x=[random() for _ in range(10)])
        keeper.sync()
    after = _imported()
    found = {f"import {name}": 1.0 for name in at_import} | {f"record {name}": 1.0 for name in after}
    return {"seconds": seconds, **found}
