"""The end of every `flat` contestant: rows to a frame to Parquet, timed, and the sizes on disk."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from benchmarks.clock import Stopwatch
    from benchmarks.workloads import Measured

FILE = "flat.parquet"


def save(rows: list[dict[str, Any]], folder: str, **options: Any) -> pl.DataFrame:
    """The two lines that a user writes; polars' default is zstd. Nothing is synced, unlike ours."""
    import polars as pl

    os.makedirs(folder, exist_ok=True)
    frame = pl.DataFrame(rows, **options)
    frame.write_parquet(os.path.join(folder, FILE))
    return frame


def finish(rows: list[dict[str, Any]], folder: str, watch: Stopwatch, outer: list[str], **options: Any) -> Measured:
    """Save the rows and stop the clock; then measure the file without the `outer` columns."""
    start = perf_counter()
    frame = save(rows, folder, **options)
    close = perf_counter() - start
    costs = watch.read()
    if frame.height != len(rows):
        message = f"the frame has {frame.height} rows, not {len(rows)}"
        raise AssertionError(message)
    own = os.path.join(folder, "own.parquet")
    frame.drop(outer).write_parquet(own)
    return {
        **costs,
        "close": close,
        "disk": os.path.getsize(os.path.join(folder, FILE)),
        "disk_own": os.path.getsize(own),
    }
