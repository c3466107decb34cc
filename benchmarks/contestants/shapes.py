"""Other ways and shapes of adding single records, each with its own bare loop and its own list; loops only."""

from __future__ import annotations

from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured

    Loop = Callable[[int, Any], float]  # how many records, and where to: a list or a keeper; seconds


def _bare(count: int, _target: Any) -> float:
    start = perf_counter()
    for _ in range(count):
        {"x": random(), "y": random()}
    return perf_counter() - start


def _append(count: int, rows: Any) -> float:
    start = perf_counter()
    for _ in range(count):
        rows.append({"x": random(), "y": random()})
    return perf_counter() - start


def _add(count: int, keeper: Any) -> float:
    start = perf_counter()
    for _ in range(count):
        keeper.add_record({"x": random(), "y": random()})
    return perf_counter() - start


def _add_keywords(count: int, keeper: Any) -> float:
    start = perf_counter()
    for _ in range(count):
        keeper.add_record(x=random(), y=random())
    return perf_counter() - start


def _add_pending(count: int, keeper: Any) -> float:
    start = perf_counter()
    for _ in range(count):
        keeper.pending_record["x"] = random()
        keeper.pending_record["y"] = random()
        keeper.commit_record()
    return perf_counter() - start


def _add_alternating(count: int, keeper: Any) -> float:
    one = keeper.sub_record_keeper(model="model1")
    two = keeper.sub_record_keeper(model="model2")
    start = perf_counter()
    for _ in range(count // 2):
        one.add_record({"x": random(), "y": random()})
        two.add_record({"x": random(), "y": random()})
    return perf_counter() - start


def _ten(index: int) -> dict[str, Any]:
    return {
        "step": index,
        "epoch": index >> 10,
        "loss": random(),
        "accuracy": random(),
        "learning_rate": 0.001,
        "gradient_norm": random(),
        "split": "train",
        "done": False,
        "reward": random(),
        "temperature": 0.5,
    }


def _bare_ten(count: int, _target: Any) -> float:
    start = perf_counter()
    for index in range(count):
        _ten(index)
    return perf_counter() - start


def _append_ten(count: int, rows: Any) -> float:
    start = perf_counter()
    for index in range(count):
        rows.append(_ten(index))
    return perf_counter() - start


def _add_ten(count: int, keeper: Any) -> float:
    start = perf_counter()
    for index in range(count):
        keeper.add_record(_ten(index))
    return perf_counter() - start


def bare(job: Job) -> Measured:
    return {"loop": _bare(job.sizes.shape_records, None)}


def append(job: Job) -> Measured:
    return {"loop": _append(job.sizes.shape_records, [])}


def bare_ten(job: Job) -> Measured:
    return {"loop": _bare_ten(job.sizes.shape_records, None)}


def append_ten(job: Job) -> Measured:
    return {"loop": _append_ten(job.sizes.shape_records, [])}


def _ours(job: Job, loop: Loop) -> Measured:
    from rigorous_recorder import ExperimentCollection

    with ExperimentCollection(job.folder).new_experiment() as keeper:
        return {"loop": loop(job.sizes.shape_records, keeper)}


def one_by_one(job: Job) -> Measured:
    return _ours(job, _add)


def keywords(job: Job) -> Measured:
    return _ours(job, _add_keywords)


def pending(job: Job) -> Measured:
    return _ours(job, _add_pending)


def alternating(job: Job) -> Measured:
    return _ours(job, _add_alternating)


def ten_keys(job: Job) -> Measured:
    return _ours(job, _add_ten)


def in_memory(job: Job) -> Measured:
    """A keeper without a collection: the same path with memory behind it."""
    from rigorous_recorder import RecordKeeper

    return {"loop": _add(job.sizes.shape_records, RecordKeeper())}
