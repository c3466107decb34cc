"""The headline: 3 experiments of 10 episodes of 100,000 timesteps, `{"x": float, "y": float}`, added one by one."""

from __future__ import annotations

from random import random, seed
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.clock import Stopwatch
from benchmarks.contestants import flat as flat_file
from benchmarks.contestants import ours as our_store

if TYPE_CHECKING:
    from benchmarks.workloads import Job, Measured


def bare(job: Job) -> Measured:
    seed(1)
    loop = 0.0
    for _experiment in range(job.sizes.experiments):
        for _episode in range(job.sizes.episodes):
            start = perf_counter()
            for _step in range(job.sizes.steps):
                {"x": random(), "y": random()}
            loop += perf_counter() - start
    return {"loop": loop}


def append(job: Job) -> Measured:
    seed(1)
    loop = 0.0
    rows: list[dict[str, Any]] = []
    for _experiment in range(job.sizes.experiments):
        for _episode in range(job.sizes.episodes):
            start = perf_counter()
            for _step in range(job.sizes.steps):
                rows.append({"x": random(), "y": random()})
            loop += perf_counter() - start
    return {"loop": loop}


def _rows(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for experiment in range(1, job.sizes.experiments + 1):
        for episode in range(job.sizes.episodes):
            for _step in range(job.sizes.steps):
                rows.append({"experiment_number": experiment, "episode": episode, "x": random(), "y": random()})
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
    from rigorous_recorder import ExperimentCollection

    seed(1)
    loop = close = 0.0
    watch = Stopwatch()
    collection = ExperimentCollection(job.folder)
    for _experiment in range(job.sizes.experiments):
        with collection.new_experiment() as record_keeper:
            for episode in range(job.sizes.episodes):
                episode_keeper = record_keeper.sub_record_keeper(episode=episode)
                start = perf_counter()
                for _step in range(job.sizes.steps):
                    episode_keeper.add_record({"x": random(), "y": random()})
                loop += perf_counter() - start
            start = perf_counter()
        close += perf_counter() - start
    return our_store.finish(job.folder, job.sizes.headline, watch, loop, close)
