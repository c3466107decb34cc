"""Whole columns at once by `add_records`, and many dicts in one call."""

from __future__ import annotations

import os
from random import random, seed
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured

BLOCKS = 10


def _ours(job: Job, add: Callable[[Any, int], object]) -> Measured:
    from rigorous_recorder import ExperimentCollection

    start = perf_counter()
    with ExperimentCollection(job.folder).new_experiment() as keeper:
        for episode in range(BLOCKS):
            add(keeper.sub_record_keeper(episode=episode), episode)
        added = perf_counter()
    return {"loop": added - start, "total": perf_counter() - start}


def _lists(job: Job) -> tuple[list[float], list[float]]:
    seed(1)
    count = job.sizes.shape_records // BLOCKS
    return [random() for _ in range(count)], [random() for _ in range(count)]


def numpy_columns(job: Job) -> Measured:
    import numpy as np

    x, y = (np.array(values) for values in _lists(job))
    return _ours(job, lambda keeper, _: keeper.add_records(x=x, y=y))


def list_columns(job: Job) -> Measured:
    x, y = _lists(job)
    return _ours(job, lambda keeper, _: keeper.add_records(x=x, y=y))


def dicts(job: Job) -> Measured:
    records = [{"x": x, "y": y} for x, y in zip(*_lists(job), strict=True)]
    return _ours(job, lambda keeper, _: keeper.add_records(records))


def flat_numpy(job: Job) -> Measured:
    """What one writes without us: a frame per block, concatenated at the end, one Parquet file."""
    import numpy as np
    import polars as pl

    x, y = (np.array(values) for values in _lists(job))
    os.makedirs(job.folder, exist_ok=True)
    start = perf_counter()
    frames = [pl.DataFrame({"x": x, "y": y}).with_columns(episode=pl.lit(episode)) for episode in range(BLOCKS)]
    added = perf_counter()
    pl.concat(frames).write_parquet(os.path.join(job.folder, "flat.parquet"))
    return {"loop": added - start, "total": perf_counter() - start}
