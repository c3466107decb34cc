"""Many keepers (30,000 of 10 records) and many experiments (of 100 records each)."""

from __future__ import annotations

from random import random, seed
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.clock import Stopwatch, on_disk
from benchmarks.contestants import flat as flat_file
from benchmarks.contestants import ours as our_store

if TYPE_CHECKING:
    from benchmarks.workloads import Job, Measured


def bare(job: Job) -> Measured:
    seed(1)
    start = perf_counter()
    for _episode in range(job.sizes.keepers):
        for _step in range(job.sizes.keeper_records):
            {"x": random(), "y": random()}
    return {"loop": perf_counter() - start}


def append(job: Job) -> Measured:
    seed(1)
    rows: list[dict[str, Any]] = []
    start = perf_counter()
    for _episode in range(job.sizes.keepers):
        for _step in range(job.sizes.keeper_records):
            rows.append({"x": random(), "y": random()})
    return {"loop": perf_counter() - start}


def _rows(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for episode in range(job.sizes.keepers):
        for _step in range(job.sizes.keeper_records):
            rows.append({"experiment_number": 1, "episode": episode, "x": random(), "y": random()})
    return rows


def flat(job: Job) -> Measured:
    import polars as pl  # noqa: F401 (before the clock)

    seed(1)
    watch = Stopwatch()
    return flat_file.finish(_rows(job), job.folder, watch, ["experiment_number", "episode"])


def flat_schema(job: Job) -> Measured:
    import polars as pl

    schema = {"experiment_number": pl.Int64, "episode": pl.Int64, "x": pl.Float64, "y": pl.Float64}
    seed(1)
    watch = Stopwatch()
    return flat_file.finish(_rows(job), job.folder, watch, ["experiment_number", "episode"], schema=schema)


def ours(job: Job) -> Measured:
    """One keeper for every ten records; making it is part of the loop."""
    from rigorous_recorder import ExperimentCollection

    seed(1)
    watch = Stopwatch()
    collection = ExperimentCollection(job.folder)
    with collection.new_experiment() as record_keeper:
        start = perf_counter()
        for episode in range(job.sizes.keepers):
            episode_keeper = record_keeper.sub_record_keeper(episode=episode)
            for _step in range(job.sizes.keeper_records):
                episode_keeper.add_record({"x": random(), "y": random()})
        recorded = perf_counter()
    closed = perf_counter()
    return our_store.finish(job.folder, job.sizes.many_keepers, watch, recorded - start, closed - recorded)


def attempts(job: Job) -> Measured:
    """Many short experiments, each opened, filled and closed; then how long the collection takes to open."""
    from rigorous_recorder import ExperimentCollection

    seed(1)
    watch = Stopwatch()
    collection = ExperimentCollection(job.folder)
    for _ in range(job.sizes.attempts):
        with collection.new_experiment() as record_keeper:
            for _step in range(job.sizes.attempt_records):
                record_keeper.add_record({"x": random(), "y": random()})
    costs = watch.read()
    start = perf_counter()
    found = len(ExperimentCollection(job.folder).records)
    opened = perf_counter() - start
    if found != job.sizes.many_attempts:
        message = f"{job.sizes.many_attempts} records were added, {found} are there"
        raise AssertionError(message)
    return {**costs, "open": opened, **on_disk(job.folder)}
