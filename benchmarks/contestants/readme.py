"""The example of the original's README: two models in turn, one through the pending record; then the tests."""

from __future__ import annotations

from random import random, seed
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.clock import Stopwatch
from benchmarks.contestants import flat as flat_file
from benchmarks.contestants import ours as our_store

if TYPE_CHECKING:
    from benchmarks.workloads import Job, Measured

OUTER = ["experiment_number", "model", "training", "testing"]


def bare(job: Job) -> Measured:
    seed(1)
    start = perf_counter()
    for index in range(job.sizes.readme_steps):
        {"index": index, "loss": random()}
        {"index": index, "loss": random()}
    for index in range(job.sizes.readme_tests):
        {"index": index, "accuracy": random()}
        {"index": index, "accuracy": random()}
    return {"loop": perf_counter() - start}


def append(job: Job) -> Measured:
    seed(1)
    rows: list[dict[str, Any]] = []
    start = perf_counter()
    for index in range(job.sizes.readme_steps):
        rows.append({"index": index, "loss": random()})
        rows.append({"index": index, "loss": random()})
    for index in range(job.sizes.readme_tests):
        rows.append({"index": index, "accuracy": random()})
        rows.append({"index": index, "accuracy": random()})
    return {"loop": perf_counter() - start}


def _rows(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index in range(job.sizes.readme_steps):
        rows.append({"experiment_number": 1, "model": "model2", "training": True, "index": index, "loss": random()})
        rows.append({"experiment_number": 1, "model": "model1", "training": True, "index": index, "loss": random()})
    for index in range(job.sizes.readme_tests):
        rows.append({"experiment_number": 1, "model": "model2", "testing": True, "index": index, "accuracy": random()})
        rows.append({"experiment_number": 1, "model": "model1", "testing": True, "index": index, "accuracy": random()})
    return rows


def flat(job: Job) -> Measured:
    """`pl.DataFrame(rows)` alone would leave out `testing` and `accuracy`: it looks at the first 100 rows only."""
    import polars as pl  # noqa: F401 (before the clock)

    seed(1)
    watch = Stopwatch()
    return flat_file.finish(_rows(job), job.folder, watch, OUTER, infer_schema_length=None)


def flat_schema(job: Job) -> Measured:
    import polars as pl

    schema = {
        "experiment_number": pl.Int64,
        "model": pl.String,
        "training": pl.Boolean,
        "testing": pl.Boolean,
        "index": pl.Int64,
        "loss": pl.Float64,
        "accuracy": pl.Float64,
    }
    seed(1)
    watch = Stopwatch()
    return flat_file.finish(_rows(job), job.folder, watch, OUTER, schema=schema)


def ours(job: Job) -> Measured:
    from rigorous_recorder import ExperimentCollection

    seed(1)
    watch = Stopwatch()
    collection = ExperimentCollection(job.folder)
    with collection.new_experiment() as record_keeper:
        model1 = record_keeper.sub_record_keeper(model="model1")
        model2 = record_keeper.sub_record_keeper(model="model2")
        model_1_losses = model1.sub_record_keeper(training=True)
        model_2_losses = model2.sub_record_keeper(training=True)
        start = perf_counter()
        for each_index in range(job.sizes.readme_steps):
            model_2_losses.add_record({"index": each_index, "loss": random()})
            model_1_losses.pending_record["index"] = each_index
            model_1_losses.pending_record["loss"] = random()
            model_1_losses.commit_record()
        model_1_evaluation = model1.sub_record_keeper(testing=True)
        model_2_evaluation = model2.sub_record_keeper(testing=True)
        for each_index in range(job.sizes.readme_tests):
            model_2_evaluation.add_record({"index": each_index, "accuracy": random()})
            model_1_evaluation.pending_record["index"] = each_index
            model_1_evaluation.pending_record["accuracy"] = random()
            model_1_evaluation.commit_record()
        recorded = perf_counter()
    closed = perf_counter()
    return our_store.finish(job.folder, job.sizes.readme, watch, recorded - start, closed - recorded)
