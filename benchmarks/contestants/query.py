"""The seed's question, "mean of x in episode 2", asked of what was recorded and of the flat file that a user would have."""

from __future__ import annotations

import os
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.contestants.flat import FILE
from benchmarks.contestants.reading import beside, prepare

__all__ = ["prepare"]  # the same two are asked as are read

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured


AGAIN = 9
"""Times that the question is asked again."""


def _asked(start: float, ask: Callable[[], float]) -> Measured:
    """The time of the question, that since `start`, before anything was imported, and that of asking it again."""
    imported = perf_counter()
    mean = ask()
    end = perf_counter()
    later = []
    for _ in range(AGAIN):
        before = perf_counter()
        ask()
        later.append(perf_counter() - before)
    return {"query": end - imported, "whole": end - start, "again": median(later), "mean": mean}


def ours(job: Job) -> Measured:
    start = perf_counter()
    import rigorous_recorder.frames.plan
    import rigorous_recorder.frames.polars  # noqa: F401 (before the clock, as all imports)
    from rigorous_recorder import ExperimentCollection

    def ask() -> float:
        branch = ExperimentCollection(beside(job, "ours")).under(episode=2)
        return float(branch.to_polars(columns=["x"])["x"].mean())  # type: ignore[arg-type]

    return _asked(start, ask)


def ours_lazily(job: Job) -> Measured:
    start = perf_counter()
    import polars as pl

    import rigorous_recorder.frames.plan
    import rigorous_recorder.frames.scan  # noqa: F401 (before the clock, as all imports)
    from rigorous_recorder import ExperimentCollection

    def ask() -> float:
        lazy = ExperimentCollection(beside(job, "ours")).scan()
        return float(lazy.filter(pl.col("episode") == 2).select(pl.col("x").mean()).collect().item())

    return _asked(start, ask)


def polars(job: Job) -> Measured:
    start = perf_counter()
    import polars as pl

    def ask() -> float:
        lazy = pl.scan_parquet(os.path.join(beside(job, "flat"), FILE))
        return float(lazy.filter(pl.col("episode") == 2).select(pl.col("x").mean()).collect().item())

    return _asked(start, ask)


def duckdb(job: Job) -> Measured:
    start = perf_counter()
    import duckdb

    def ask() -> float:
        relation = duckdb.read_parquet(os.path.join(beside(job, "flat"), FILE))
        return float(relation.filter("episode = 2").aggregate("avg(x)").fetchall()[0][0])

    return _asked(start, ask)
