"""Two questions to the headline in three engines: of what was recorded, and of the flat file with the columns repeated.

One is the seed's, the mean of x in episode 2, the other the mean of x by episode. Sessions are there before the clock.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.contestants.flat import FILE
from benchmarks.contestants.reading import beside, prepare

__all__ = ["prepare"]  # the same two are asked as are read

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import Job, Measured

AGAIN = 5
"""Times that each question is asked again."""


def _asked(mean: Callable[[], float], groups: Callable[[], list[tuple[int, float]]]) -> Measured:
    """The time of each question, when it is asked for the first time and again, and what was answered."""
    measured: Measured = {}
    for name, ask in (("mean", mean), ("groups", lambda: sum(each for _, each in groups()))):
        before = perf_counter()
        answer = ask()
        measured[name] = perf_counter() - before
        later = []
        for _ in range(AGAIN):
            before = perf_counter()
            ask()
            later.append(perf_counter() - before)
        measured |= {f"{name}_again": median(later), f"{name}_answer": answer}
    return measured


def _collection(job: Job) -> Any:
    from rigorous_recorder import ExperimentCollection

    return ExperimentCollection(beside(job, "ours"))


def _flat(job: Job) -> str:
    return os.path.join(beside(job, "flat"), FILE)


def _spark(job: Job, *, ours: bool) -> Measured:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.range(1).count()  # the session is warm
    collection = _collection(job)
    try:
        if ours:
            return _asked(
                lambda: collection.under(episode=2).to_spark(spark, ["x"]).agg({"x": "avg"}).collect()[0][0],
                lambda: collection.to_spark(spark, ["episode", "x"]).groupBy("episode").avg("x").collect(),
            )
        return _asked(
            lambda: spark.read.parquet(_flat(job)).filter("episode = 2").agg({"x": "avg"}).collect()[0][0],
            lambda: spark.read.parquet(_flat(job)).groupBy("episode").avg("x").collect(),
        )
    finally:
        spark.stop()


def _duckdb(job: Job, *, ours: bool) -> Measured:
    import duckdb

    collection, file = _collection(job), _flat(job)

    def ask(query: str) -> list[tuple[Any, ...]]:
        records = collection.scan() if ours else duckdb.read_parquet(file)  # noqa: F841  (DuckDB finds it by its name)
        return duckdb.sql(query).fetchall()

    return _asked(
        lambda: ask("select avg(x) from records where episode = 2")[0][0],
        lambda: ask("select episode, avg(x) from records group by episode"),
    )


def _polars(job: Job, *, ours: bool) -> Measured:
    import polars as pl

    collection, file = _collection(job), _flat(job)

    def records() -> pl.LazyFrame:
        return collection.scan() if ours else pl.scan_parquet(file)

    x = pl.col("x").mean()
    return _asked(
        lambda: float(records().filter(pl.col("episode") == 2).select(x).collect().item()),
        lambda: records().group_by("episode").agg(x).collect().rows(),
    )


spark, spark_flat = partial(_spark, ours=True), partial(_spark, ours=False)
duckdb, duckdb_flat = partial(_duckdb, ours=True), partial(_duckdb, ours=False)
polars, polars_flat = partial(_polars, ours=True), partial(_polars, ours=False)
