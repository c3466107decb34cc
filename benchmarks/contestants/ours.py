"""The end of every `ours` contestant: what counts as saved, and the proof that every record arrived."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.clock import on_disk, wait_until_sealed

if TYPE_CHECKING:
    from benchmarks.clock import Stopwatch
    from benchmarks.workloads import Measured


def finish(folder: str, records: int, watch: Stopwatch, loop: float, close: float) -> Measured:
    """Wait for the sealing, stop the clock, then count what is really there.

    Args:
        folder: The collection's.
        records: How many were added.
        watch: Started before the first line of the whole.
        loop: Seconds inside the recording loops.
        close: Seconds from the last statement inside each `with` to the first after it.
    """
    from rigorous_recorder import ExperimentCollection

    left = perf_counter()
    wait_until_sealed(folder)
    after_close = perf_counter() - left
    costs = watch.read()
    found = len(ExperimentCollection(folder))
    if found != records:
        message = f"{records} records were added, {found} are there"
        raise AssertionError(message)
    return {
        **costs,
        "loop": loop,
        "close": close + after_close,
        **on_disk(folder),
    }
