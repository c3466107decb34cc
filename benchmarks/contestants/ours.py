"""The end of every `ours` contestant: when all is saved, when all is sealed, and the proof that every record arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.clock import on_disk, wait_until_sealed

if TYPE_CHECKING:
    from benchmarks.clock import Stopwatch
    from benchmarks.workloads import Measured


def finish(folder: str, records: int, watch: Stopwatch, loop: float, close: float) -> Measured:
    """Stop the clock, stop it again when all is sealed, then count what is really there.

    Args:
        folder: The collection's.
        records: How many were added.
        watch: Started before the first line of the whole.
        loop: Seconds inside the recording loops.
        close: Seconds from the last statement inside each `with` to the first after it.
    """
    from rigorous_recorder import ExperimentCollection

    total = watch.read()["total"]
    wait_until_sealed(folder)
    costs = watch.read()
    found = len(ExperimentCollection(folder))
    if found != records:
        message = f"{records} records were added, {found} are there"
        raise AssertionError(message)
    return {
        **costs,
        "total": total,
        "sealed": costs["total"],
        "loop": loop,
        "close": close,
        **on_disk(folder),
    }
