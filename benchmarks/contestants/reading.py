"""Opening a collection and going through its records, against the dicts of a flat frame."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.contestants import headline
from benchmarks.contestants.flat import FILE

if TYPE_CHECKING:
    from benchmarks.workloads import Job, Measured


def prepare(job: Job) -> Measured:
    """Record the headline once, ours and flat; the contestants below find both in their folder's parent."""
    from benchmarks.workloads import Job as NewJob

    for name, contestant in (("ours", headline.ours), ("flat", headline.flat)):
        contestant(NewJob(name, os.path.join(job.folder, name), job.sizes))
    return {}


def beside(job: Job, name: str) -> str:
    """Where `prepare` has put the one of that name."""
    return str(Path(job.folder).parent / "prepared" / name)


def ours(job: Job) -> Measured:
    from rigorous_recorder import ExperimentCollection

    start = perf_counter()
    records = ExperimentCollection(beside(job, "ours")).records
    count = len(records)
    opened = perf_counter()
    first = records[0]
    indexed = perf_counter()
    found = 0
    for record in records:
        found += len(record) > 0
    end = perf_counter()
    if not count == found == job.sizes.headline or len(first) < 4:
        message = f"{job.sizes.headline} records were added, len says {count}, iterating gives {found}"
        raise AssertionError(message)
    return {"open": opened - start, "first": indexed - opened, "loop": end - indexed, "keys": len(first)}


def dicts_of_four(job: Job) -> Measured:
    """The flat file as a user has it: two outer columns and two own ones."""
    import polars as pl

    start = perf_counter()
    frame = pl.read_parquet(os.path.join(beside(job, "flat"), FILE))
    opened = perf_counter()
    found = 0
    for record in frame.to_dicts():
        found += len(record) > 0
    end = perf_counter()
    assert found == job.sizes.headline
    return {"open": opened - start, "loop": end - opened, "keys": 4}


def dicts_of_nine(job: Job) -> Measured:
    """The same with the five other automatic keys, so that every dict holds what our record holds."""
    import polars as pl

    start = perf_counter()
    frame = pl.read_parquet(os.path.join(beside(job, "flat"), FILE))
    opened = perf_counter() - start
    frame = frame.with_columns(
        error_number=pl.lit(0),
        had_error=pl.lit(value=False),
        experiment_start_time=pl.lit(1.5e9),
        experiment_end_time=pl.lit(1.6e9),
        experiment_duration=pl.lit(1e8),
    )
    start = perf_counter()
    found = 0
    for record in frame.to_dicts():
        found += len(record) > 0
    end = perf_counter()
    assert found == job.sizes.headline
    return {"open": opened, "loop": end - start, "keys": 9}
