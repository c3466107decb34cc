"""Flat frames of what was recorded, against reading a flat Parquet file in which the outer values stand in every row."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import headline, readme

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured

WORKLOADS = {
    "headline": (headline.ours, ["experiment_number", "episode"], ["x", "y"]),
    "readme": (readme.ours, ["experiment_number", "model", "training", "testing"], ["index", "loss", "accuracy"]),
}


def prepare(job: Job) -> Measured:
    """Record both workloads once, and write each as two flat files: what a user has, and all columns that we give."""
    import polars as pl

    from benchmarks.workloads import Job as NewJob
    from rigorous_recorder import ExperimentCollection

    for name, (contestant, outer, own) in WORKLOADS.items():
        folder = os.path.join(job.folder, name)
        contestant(NewJob(name, folder, job.sizes))
        frame = ExperimentCollection(folder).to_polars(categories="none")
        frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).write_parquet(f"{folder}-same.parquet")
        frame.select(*(pl.col(key).cast(pl.String) for key in outer), *own).write_parquet(f"{folder}-outer.parquet")
    return {}


def _beside(job: Job, name: str) -> str:
    return str(Path(job.folder).parent / "prepared" / name)


def _twice(read: Callable[[], Any], size: Callable[[Any], int], rows: int) -> Measured:
    """The first call of a process, a second one after the first frame is gone, and the bytes of the frame."""
    start = perf_counter()
    frame = read()
    first = perf_counter() - start
    found, memory = len(frame), size(frame)
    del frame
    start = perf_counter()
    frame = read()
    again = perf_counter() - start
    if not found == len(frame) == rows:
        message = f"{rows} records were added, the frame has {found} rows"
        raise AssertionError(message)
    return {"first": first, "again": again, "memory": memory}


def _polars_size(frame: Any) -> int:
    return int(frame.estimated_size())


def _pandas_size(frame: Any) -> int:
    return int(frame.memory_usage(deep=True).sum())


def _rows(job: Job, workload: str) -> int:
    return int(getattr(job.sizes, workload))


def _ours(workload: str, library: str, job: Job) -> Measured:
    import numpy.ma  # noqa: F401 (before the clock, as all imports)

    import rigorous_recorder.frames.plan
    import rigorous_recorder.frames.polars
    import rigorous_recorder.frames.stretches
    from rigorous_recorder import ExperimentCollection

    collection = ExperimentCollection(_beside(job, workload))
    if library == "polars":
        return _twice(collection.to_polars, _polars_size, _rows(job, workload))
    import rigorous_recorder.frames.pandas  # noqa: F401 (before the clock)

    return _twice(collection.to_pandas, _pandas_size, _rows(job, workload))


def _flat(workload: str, library: str, file: str, job: Job) -> Measured:
    path = _beside(job, f"{workload}-{file}.parquet")
    if library == "polars":
        import polars as pl

        return _twice(lambda: pl.read_parquet(path), _polars_size, _rows(job, workload))
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 (before the clock)

    return _twice(lambda: pd.read_parquet(path), _pandas_size, _rows(job, workload))


headline_polars = partial(_ours, "headline", "polars")
headline_pandas = partial(_ours, "headline", "pandas")
headline_polars_outer = partial(_flat, "headline", "polars", "outer")
headline_polars_same = partial(_flat, "headline", "polars", "same")
headline_pandas_same = partial(_flat, "headline", "pandas", "same")
readme_polars = partial(_ours, "readme", "polars")
readme_pandas = partial(_ours, "readme", "pandas")
readme_polars_outer = partial(_flat, "readme", "polars", "outer")
readme_polars_same = partial(_flat, "readme", "polars", "same")
readme_pandas_same = partial(_flat, "readme", "pandas", "same")
