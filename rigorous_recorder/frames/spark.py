"""Spark: the flat frame as partitions that executors read with our own reader, and its types there.

Spark's data sources in Python (https://spark.apache.org/docs/latest/api/python/tutorial/sql/python_data_source.html) are asked
three times, in processes of their own: on the driver for the columns, on the driver for the partitions, and on executors for
the rows. A plan is made once, before the first time, and is handed on as bytes, so that all three speak of the same moment.
Filters of Spark's have no say in it: it confuses those of two queries (decision 018), so branches are picked before.
"""

from __future__ import annotations

import base64
import importlib.util
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from msgspec.structs import replace

from rigorous_recorder.errors import (
    DamageWarning,
    InvalidCallError,
    MissingExtraError,
)

from .arrow import record_batch, spark_schema
from .handed import decode, encode
from .scan import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

    from .part import Part
    from .plan import Plan

FORMAT: Final = "rigorous_recorder"
"""The name of the data source, which Spark finds as the module `pyspark_rigorous_recorder`."""

CELLS: Final = 1 << 22
"""Values that a partition has at most, if that is more than one unit: 32 MB."""

BATCH: Final = 10_000
"""Rows per Arrow batch, as `spark.sql.execution.arrow.maxRecordsPerBatch` has it: text may take 2 GB in one."""


def to_spark(plan: Plan, spark: SparkSession, *, skip_damaged: bool) -> DataFrame:
    """The frame of a plan in a Spark session.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InvalidCallError: Columns differ only in case, and the session does not tell such apart; or there is no column.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(
            "Spark takes rows from Python as Arrow batches, and pyarrow is not installed. "
            "Hint: pip install 'rigorous-recorder[spark]', or hand over a file of to_parquet(path)."
        )
    sensitive = str(spark.conf.get("spark.sql.caseSensitive")).lower()
    check_names(plan.schema, case_sensitive=sensitive == "true")
    options = {
        "snapshot": base64.b64encode(encode(plan)).decode("ascii"),
        "caseSensitive": sensitive,
        "skipDamaged": str(skip_damaged).lower(),
    }
    return spark.read.format(FORMAT).options(**options).load()


def check_names(names: Iterable[str], *, case_sensitive: bool) -> None:
    """See to it that Spark can tell the columns apart.

    Raises:
        InvalidCallError: It cannot, or there is none.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.lower(), []).append(name)
    if not alike:
        raise InvalidCallError("A Spark frame needs a column to have rows. Hint: name some in columns=.")
    clashes = [same for same in alike.values() if len(same) > 1]
    if clashes and not case_sensitive:
        shown = "; ".join(" and ".join(map(repr, same)) for same in clashes[:3])
        raise InvalidCallError(
            f"Keys differ only in case, and Spark takes them for the same: {shown}. Hint: "
            "spark.conf.set('spark.sql.caseSensitive', True) tells them apart (for spark.read also .option('caseSensitive', "
            "True)), or pick columns by columns=[...]."
        )


# ---- types -----------------------------------------------------------------------------------------------------------


def schema_of(plan: Plan) -> StructType:
    """The columns of a plan as Spark has them."""
    from pyspark.sql.types import StructField, StructType

    return StructType([StructField(name, _spark_type(dtype), nullable=True) for name, dtype in plan.schema.items()])


def _spark_type(dtype: Any) -> DataType:
    from pyspark.sql import types as t

    if isinstance(dtype, pl.List):
        return t.ArrayType(_spark_type(dtype.inner), containsNull=True)
    if isinstance(dtype, pl.Datetime):
        return t.TimestampNTZType() if dtype.time_zone is None else t.TimestampType()
    simple = {
        pl.Boolean: t.BooleanType(),
        pl.Int64: t.LongType(),
        pl.UInt64: t.DecimalType(20, 0),
        pl.Float64: t.DoubleType(),
        pl.Binary: t.BinaryType(),
        pl.Date: t.DateType(),
        pl.Duration: t.DayTimeIntervalType(),
    }
    # a Time is text, since Spark's own type needs a switch; so is what has no value, since Parquet has no `void` in Spark
    return simple.get(type(dtype), t.StringType())


def _plain(series: pl.Series) -> pl.Series:
    """A column with its times of day as text of one width, which sorts like them: 03:04:05.000006."""
    if series.dtype == pl.Time:
        return series.dt.to_string("%H:%M:%S%.6f")
    if isinstance(series.dtype, pl.List) and _has_times(series.dtype):
        return series.list.eval(pl.element().map_batches(_plain, return_dtype=_without_times(series.dtype.inner)))
    return series


def _has_times(dtype: Any) -> bool:
    return _has_times(dtype.inner) if isinstance(dtype, pl.List) else bool(dtype == pl.Time)


def _without_times(dtype: Any) -> Any:
    return pl.List(_without_times(dtype.inner)) if isinstance(dtype, pl.List) else pl.String()


# ---- partitions ------------------------------------------------------------------------------------------------------


@contextmanager
def damage_raised(*, skip: bool) -> Iterator[None]:
    """Makes errors of warnings about damage: nobody sees the warnings of an executor, and rows would be missing silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("always" if skip else "error", DamageWarning)
        yield


@dataclass(frozen=True)
class Task:
    """What one executor is to read.

    Attributes:
        plan: The plan of the partition, as bytes.
        skip_damaged: Whether rows that cannot be read are left out.
    """

    plan: bytes
    skip_damaged: bool

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows, as Arrow batches of exactly the types that Spark demands.

        Raises:
            DamageWarning: Some cannot be read.
        """
        plan = decode(self.plan)
        schema = spark_schema(plan.schema)
        with damage_raised(skip=self.skip_damaged):
            for frame in batches(plan, frozenset(), None, None, None, None):
                for rows in frame.iter_slices(BATCH):
                    yield record_batch(map(_plain, rows.get_columns()), schema)


def tasks(plan: Plan, *, skip_damaged: bool) -> list[Task]:
    """The partitions of a plan: its units one by one, small ones together, in the order of the rows."""
    width = max(1, len(plan.columns))
    return [Task(encode(replace(plan, parts=tuple(group))), skip_damaged) for group in _grouped(plan.parts, width)]


def _grouped(parts: Iterable[Part], width: int) -> Iterator[list[Part]]:
    group: list[Part] = []
    rows = 0
    for part in parts:
        if group and (rows + part.rows) * width > CELLS:
            yield group
            group, rows = [], 0
        group.append(part)
        rows += part.rows
    if group:
        yield group
