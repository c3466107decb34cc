"""Questions to many short experiments, as they were recorded and compacted; each is asked in a fresh process."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.clock import files_of, on_disk
from benchmarks.contestants import keepers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Contestant, Job, Measured

COMPACTED = "-compacted"


def prepare(job: Job) -> Measured:
    """Record them once, keep them in two folders, and compact one: what that takes, and what it leaves."""
    from rigorous_recorder import ExperimentCollection

    keepers.attempts(job)
    target = job.folder + COMPACTED
    shutil.copytree(job.folder, target)
    start = perf_counter()
    ExperimentCollection(target).compact()
    seconds = perf_counter() - start
    return {"compact": seconds, "disk": on_disk(target)["disk"], "files": len(list(files_of(target)))}


def _question(folder: str, ask: Callable[[Any], int], expected: Callable[[Job], int]) -> Contestant:
    """A contestant that asks the collection which `prepare` has left in a folder."""

    def answer(job: Job) -> Measured:
        from rigorous_recorder import ExperimentCollection

        path = Path(job.folder).parent / folder
        start = perf_counter()
        found = ask(ExperimentCollection(path))
        seconds = perf_counter() - start
        if found != expected(job):
            message = f"{folder} says {found} where it should say {expected(job)}"
            raise AssertionError(message)
        return {"seconds": seconds}

    return answer


def _numbers(collection: Any) -> int:
    return len(collection.experiment_numbers)


def _one(collection: Any) -> int:
    return len([*collection[1]])


_logs, _packs = "prepared", "prepared" + COMPACTED
logs_length = _question(_logs, len, lambda job: job.sizes.many_attempts)
packs_length = _question(_packs, len, lambda job: job.sizes.many_attempts)
logs_numbers = _question(_logs, _numbers, lambda job: job.sizes.attempts)
packs_numbers = _question(_packs, _numbers, lambda job: job.sizes.attempts)
logs_one = _question(_logs, _one, lambda job: job.sizes.attempt_records)
packs_one = _question(_packs, _one, lambda job: job.sizes.attempt_records)
