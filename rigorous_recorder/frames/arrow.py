"""Arrow: the flat frame as a pyarrow Table."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import polars as pl

from rigorous_recorder.errors import MissingLibraryError

from .polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from .categories import Categories
    from .plan import Plan


def to_arrow(plan: Plan, categories: Categories = "text") -> pa.Table:
    """Make the table of a plan.

    Raises:
        MissingLibraryError: pyarrow is not installed.
        UnknownKeyError, InvalidCallError: As `polars.to_polars`.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingLibraryError(
            "to_arrow() makes a pyarrow Table, and pyarrow is not installed. "
            "Hint: pip install 'rigorous-recorder[arrow]', or use to_polars()."
        )
    frame = to_polars(plan, categories)
    names = frame.columns
    frame.columns = [f"c{place}" for place in range(len(names))]  # polars panics over a name with a zero in it
    return frame.to_arrow().rename_columns(names)


def spark_schema(dtypes: Mapping[str, Any]) -> pa.Schema:
    """The Arrow types in which Spark takes columns of polars types from Python, times of day as text."""
    import pyarrow as pa

    simple = {
        pl.Boolean: pa.bool_(),
        pl.Int64: pa.int64(),
        pl.UInt64: pa.decimal128(20, 0),
        pl.Float64: pa.float64(),
        pl.Binary: pa.binary(),
        pl.Date: pa.date32(),
        pl.Duration: pa.duration("us"),
    }

    def arrow_type(dtype: Any) -> pa.DataType:
        if isinstance(dtype, pl.List):
            return pa.list_(pa.field("element", arrow_type(dtype.inner)))
        if isinstance(dtype, pl.Datetime):
            return pa.timestamp("us", dtype.time_zone)
        return simple.get(type(dtype), pa.string())

    return pa.schema([(name, arrow_type(dtype)) for name, dtype in dtypes.items()])


def record_batch(columns: Iterable[pl.Series], schema: pa.Schema) -> pa.RecordBatch:
    """Columns as a batch of exactly these types.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit, or the text of a column is longer than 2 GB.
    """
    import pyarrow as pa

    columns = [column.alias("c") for column in columns]  # polars panics over a name with a zero in it
    arrays = [column.to_arrow().cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
