"""Flat frames of every kind out of plain rows, and what is in them."""

import importlib.util

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

from rigorous_recorder.levels import AUTOMATIC
from rigorous_recorder.lineage import lineage_text, value_text

OURS = ("rr_attempt", "rr_lineage")


def flat_row(levels, attempt, automatic, own):
    """One row of a flat frame: a record's own values over those of its levels, from the root down."""
    row = {"experiment_number": automatic.get("experiment_number")}
    for level in levels:
        row |= level
    lineage = None if attempt is None else lineage_text(levels)
    return {
        **row,
        **{key: automatic.get(key) for key in AUTOMATIC},
        "rr_attempt": attempt,
        "rr_lineage": lineage,
        **own,
    }


def polars_frame(rows):
    """The rows as a polars frame: a column whose values have no common simple type is text."""
    names = list(dict.fromkeys([*AUTOMATIC, *OURS, *(key for row in rows for key in row)]))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        dtypes = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}
        classes = {type(value) for value in values if value is not None}
        dtype = dtypes.get(next(iter(classes))) if len(classes) == 1 else None
        if dtype is None or (dtype == pl.Int64 and max(abs(value or 0) for value in values) >= 2**63):
            values = [None if value is None else value_text(value) for value in values]
            dtype = pl.String
        columns[name] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns).with_columns(pl.col(OURS).cast(pl.Categorical))


def with_enums(frame):
    """The frame with Enums for our columns, as DuckDB and others make of categories."""
    return frame.with_columns(
        pl.col(name).cast(pl.String).cast(pl.Enum(["unused=1", *frame[name].cast(pl.String).drop_nulls().unique()]))
        for name in OURS
    )


def with_texts(frame):
    return frame.with_columns(pl.col(OURS).cast(pl.String))


def in_batches(frame):
    """A lazy frame that comes in batches of two rows."""
    from polars.io.plugins import register_io_source

    def batches(with_columns, predicate, n_rows, batch_size):
        for start in range(0, len(frame) if n_rows is None else min(n_rows, len(frame)), 2):
            batch = frame[start : start + 2 if n_rows is None else min(n_rows, start + 2)].select(
                with_columns or frame.columns
            )
            yield batch if predicate is None else batch.filter(predicate)

    return register_io_source(batches, schema=frame.schema)


def as_pandas(frame, dtype=None):
    made = frame.to_pandas()
    made["had_error"] = made["had_error"].astype("boolean")
    if frame["experiment_number"].null_count():
        made["experiment_number"] = made["experiment_number"].astype("Int64")
    return made if dtype is None else made.astype(dict.fromkeys(OURS, dtype))


def duckdb_relation(data):
    return duckdb.connect().from_arrow(data)


def enum_relation(frame):
    """A DuckDB relation whose texts are of the type ENUM."""
    connection = duckdb.connect()
    made = as_pandas(frame)
    for name in OURS:
        made[name] = made[name].astype("category")
    return connection.from_df(made)


TEXT = "str" if pd.__version__ >= "3" else "object"
"""The dtype of text; before pandas 3, "str" made the text "nan" of what is missing."""

KINDS = {
    "pandas": as_pandas,
    "pandas text": lambda frame: as_pandas(frame, TEXT),
    "pandas object": lambda frame: as_pandas(frame, "object"),
    "pandas string": lambda frame: as_pandas(frame, "string"),
    "pandas arrow": lambda frame: as_pandas(frame, pd.ArrowDtype(pa.string())),
    "pandas arrow dictionary": lambda frame: as_pandas(frame, pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    "polars": lambda frame: frame,
    "polars enum": with_enums,
    "polars text": with_texts,
    "lazy": pl.DataFrame.lazy,
    "lazy enum": lambda frame: with_enums(frame).lazy(),
    "lazy text": lambda frame: with_texts(frame).lazy(),
    "lazy batches": in_batches,
    "arrow": pl.DataFrame.to_arrow,
    "arrow text": lambda frame: with_texts(frame).to_arrow(),
    "duckdb": lambda frame: duckdb_relation(frame.to_arrow()),
    "duckdb enum": enum_relation,
}
OLD_POLARS = int(pl.__version__.split(".")[0]) < 2
"""Polars 1.32 panics over a source in Python whose batches are filtered to nothing, and hides the type of its errors."""
if OLD_POLARS:
    del KINDS["lazy batches"]
WITH_ACCESSOR = [kind for kind in KINDS if kind.startswith(("pandas", "polars", "lazy"))]


def spark_frame(frame):
    import os
    import sys

    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    return spark.createDataFrame(with_texts(frame).to_arrow())


if importlib.util.find_spec("pyspark"):
    KINDS["spark"] = spark_frame


def dicts(frame):
    """The rows of a frame of any kind, as dicts; missing values are None."""
    if isinstance(frame, pd.DataFrame):
        return [
            {key: None if pd.api.types.is_scalar(value) and pd.isna(value) else value for key, value in row.items()}
            for row in frame.astype("object").to_dict("records")
        ]
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    if isinstance(frame, duckdb.DuckDBPyRelation):
        return [dict(zip(frame.columns, row, strict=True)) for row in frame.fetchall()]
    return [row.asDict() for row in frame.collect()]


def ns(frame):
    """The numbers of the rows."""
    return [row["n"] for row in dicts(frame)]
