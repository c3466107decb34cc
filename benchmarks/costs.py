"""What is asked of the file system for a claim, an attempt, a reading and a query, counted in fresh processes.

    python -m benchmarks.costs QUESTION FOLDER

asks one question of the collection in a folder, in this process, and prints what it took as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.counted import KINDS, Counts, metered

if TYPE_CHECKING:
    from collections.abc import Callable

    from rigorous_recorder import ExperimentCollection

RECORDS = 10
"""Of each experiment."""


def build(path: str, attempts: int) -> None:
    """Finished experiments of a few records each, in this process."""
    from rigorous_recorder import ExperimentCollection
    from rigorous_recorder.store.snapshot import list_claims

    collection = ExperimentCollection(path, journal="mmap")
    for number in range(len(list_claims(path)), attempts):
        with collection.new_experiment(lr=number % 7) as experiment:
            experiment.add_records(step=range(RECORDS), loss=[0.5 / (1 + number)] * RECORDS)


def _claim(collection: ExperimentCollection) -> None:
    from rigorous_recorder.store import claim

    taken = claim.claim(str(collection.path), {}, claim.ALWAYS)
    claim.give_back(taken.folder)  # two requests more, and the next question is about as many attempts


def _numbers(collection: ExperimentCollection) -> None:
    assert collection.experiment_numbers


def _table(collection: ExperimentCollection) -> None:
    assert len(collection.experiments)


def _one(collection: ExperimentCollection) -> None:
    assert len(list(collection[2])) == RECORDS


def _query(collection: ExperimentCollection) -> None:
    import polars as pl

    frame = collection.scan().filter(pl.col("experiment_number") == 2).select(pl.col("loss").mean()).collect()
    assert frame.height == 1


def _frame(collection: ExperimentCollection) -> None:
    assert collection.to_polars().height


QUESTIONS: dict[str, Callable[[ExperimentCollection], None]] = {
    "claim of the first number of a process": _claim,
    "the list of numbers": _numbers,
    "the table of runs": _table,
    "the records of one experiment": _one,
    "a mean over one experiment": _query,
    "the whole as one frame": _frame,
}


def ask(question: str, path: str) -> dict[str, float]:
    """Ask a question in a fresh process; the counts, and `seconds`, without its imports."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.costs", question, path],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def attempts(path: str, count: int = 5) -> Counts:
    """What an attempt of a process takes that has ended the one before it, from its claim to its end, on average."""
    from rigorous_recorder import ExperimentCollection

    collection = ExperimentCollection(path, journal="mmap")

    def one() -> None:
        with collection.new_experiment(lr=0) as experiment:
            experiment.add_records(step=range(RECORDS), loss=[0.5] * RECORDS)

    one()
    with metered(others=False) as meter:
        for _ in range(count):
            one()
    return {name: round(value / count) for name, value in meter.read().items()}


def compacted(path: str) -> Counts:
    """Compact it all; what that took."""
    from rigorous_recorder.store.compact import compact

    with metered() as meter:
        compact(path, grace=0)
    return meter.read()


def requests(counts: dict[str, float]) -> float:
    """The round trips."""
    return sum(counts[kind] for kind in KINDS)


def main(question: str, path: str) -> None:
    """Ask, and print."""
    import polars as pl

    from rigorous_recorder import ExperimentCollection

    pl.DataFrame({"a": [1]}).lazy().collect()  # what the first use takes is no matter of the folder
    collection = ExperimentCollection(path)
    with metered() as meter:
        start = time.perf_counter()
        QUESTIONS[question](collection)
        seconds = time.perf_counter() - start
    print(json.dumps({**meter.read(), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
