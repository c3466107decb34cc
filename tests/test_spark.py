"""Spark, the real engine: what it reads of a flat Parquet file, and `under` on its frames. `make test-spark` installs it."""

import datetime as dt
import os
import sys
from decimal import Decimal

import pytest
from test_under import WANTED, recorded

import rigorous_recorder
from rigorous_recorder import ExperimentCollection

pyspark = pytest.importorskip(
    "pyspark", reason="pyspark is not installed: `make test-spark` installs it and runs these"
)

MORNING = dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)

VALUES = {
    "bool": (True, "boolean", True),
    "int": (2**53 + 1, "bigint", 2**53 + 1),
    "unsigned": (2**63 + 1, "decimal(20,0)", Decimal(2**63 + 1)),
    "float": (0.1, "double", 0.1),
    "text": ("ä/b", "string", "ä/b"),
    "bytes": (b"\x00\xff", "binary", bytearray(b"\x00\xff")),
    "list": ([1, 2], "array<bigint>", [1, 2]),
    "dict": ({"a": 1}, "string", '{"a":1}'),
    "date": (dt.date(2020, 2, 29), "date", dt.date(2020, 2, 29)),
    "naive": (MORNING.replace(tzinfo=None), "timestamp_ntz", MORNING.replace(tzinfo=None)),
    "aware": (MORNING, "timestamp", MORNING.astimezone().replace(tzinfo=None)),  # Python gets it in this machine's zone
    "timedelta": (dt.timedelta(seconds=3), "bigint", 3_000_000),  # microseconds
}
"""By name: what is recorded, what type its column has in Spark, and what Spark gives back."""


@pytest.fixture(scope="module")
def spark():
    """A Spark session on this machine, in UTC."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    yield session
    session.stop()


def test_a_flat_parquet_file_is_read_as_it_is(spark, tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment(model="m1") as experiment:
        experiment.add_record({name: value for name, (value, _, _) in VALUES.items()})
        experiment.add_record({"step": 1})
    collection.to_parquet(tmp_path / "flat.parquet")
    frame = spark.read.parquet(str(tmp_path / "flat.parquet"))
    types = dict(frame.dtypes)
    assert {name: types[name] for name in VALUES} == {name: dtype for name, (_, dtype, _) in VALUES.items()}
    first, second = frame.orderBy(frame.step.asc_nulls_first()).collect()
    assert {name: first[name] for name in VALUES} == {name: there for name, (_, _, there) in VALUES.items()}
    assert {second[name] for name in VALUES} == {None}
    assert second["model"] == "m1"
    assert second["rr_lineage"] == "experiment_number=1,model=m1"


def test_under_picks_from_it_what_it_picks_from_the_collection(spark, tmp_path):
    collection = recorded(ExperimentCollection(tmp_path / "study"))
    collection.to_parquet(tmp_path / "flat.parquet")
    frame = spark.read.parquet(str(tmp_path / "flat.parquet"))
    for wanted, expected in WANTED[::4]:
        picked = rigorous_recorder.under(frame, **wanted)
        assert type(picked) is type(frame)
        assert sorted(row["n"] for row in picked.select("n").collect()) == sorted(expected), wanted
    with pytest.raises(KeyError, match="modle"):
        rigorous_recorder.under(frame, modle="m1")
