"""What a frame must hold, worked out in plain Python from records and level data: types, names and every cell."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import polars as pl

from rigorous_recorder.store.text import text_form

AUTOMATIC = (
    "experiment_number", "error_number", "had_error", "experiment_start_time", "experiment_end_time", "experiment_duration",
)  # fmt: skip
OURS = {*AUTOMATIC, "rr_attempt", "rr_lineage"}
LIBRARIES = ("polars", "pandas", "arrow")

_SIMPLE = {
    bool: pl.Boolean, float: pl.Float64, str: pl.String, bytes: pl.Binary, dt.date: pl.Date, dt.time: pl.Time,
    dt.timedelta: pl.Duration("us"),
}  # fmt: skip


def column_type(values):
    """The polars type of a column with these values, None among them."""
    values = [value for value in values if value is not None]
    classes = {_kind(value) for value in values}
    if not classes:
        return pl.Null
    if classes == {int}:
        return pl.Int64 if max(values) < 2**63 else pl.UInt64 if min(values) >= 0 else pl.String
    if classes == {int, float}:
        exact = all(abs(value) < 2**53 for value in values if isinstance(value, int))
        return pl.Float64 if exact else pl.String
    if classes == {list}:
        inner = column_type([item for value in values for item in value])
        texts = all(isinstance(item, str | None) for value in values for item in value)
        whole = inner not in (pl.String, pl.UInt64) and not isinstance(inner, pl.List)
        return pl.List(inner) if whole or (inner == pl.String and texts) else pl.String
    if len(classes) > 1 or "other" in classes:
        return pl.String
    only = classes.pop()
    return _SIMPLE.get(only, only)


def _kind(value):
    if isinstance(value, dt.datetime):
        return pl.Datetime("us", "UTC") if value.tzinfo else pl.Datetime("us")
    if isinstance(value, list):
        return list
    if isinstance(value, dt.timedelta):
        return dt.timedelta
    return type(value) if type(value) in _SIMPLE or type(value) is int else "other"


def cell(value, dtype):
    """What the frame has for a value in a column of a type."""
    if value is None:
        return None
    if dtype == pl.String:
        return text_form(value)
    if dtype == pl.Float64:
        return float(value)
    if isinstance(dtype, pl.List):
        return [cell(item, dtype.inner) for item in value]
    return value.astimezone(dt.UTC) if dtype == pl.Datetime("us", "UTC") else value


def types(frame):
    """By column, the polars type that a frame of any of the libraries stands for, categories as text."""
    if isinstance(frame, pl.DataFrame):
        return {name: pl.String if dtype == pl.Categorical else dtype for name, dtype in frame.schema.items()}
    if isinstance(frame, pd.DataFrame):
        return {name: frame[name].dtype for name in frame.columns}
    return dict(zip(frame.column_names, types(pl.from_arrow(frame)).values(), strict=True))  # which renames ""


def rows_of(frame):
    """The rows of a frame of any of the libraries as dicts of plain Python values, what is missing as None."""
    if isinstance(frame, pl.DataFrame):
        return _utc(frame.to_dicts())
    if isinstance(frame, pd.DataFrame):
        columns = {name: [_plain(value) for value in frame[name]] for name in frame.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _utc(frame.to_pylist())


def _utc(rows):
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value):
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, pd.Timedelta):
        value = value.to_pytimedelta()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC)
    return value


def same_cell(found, expected, library, dtype):
    """Whether a cell is as expected; pandas knows no difference between missing and NaN, nor between date and time."""
    if library == "pandas":
        if isinstance(expected, float) and math.isnan(expected):
            expected = None
        if isinstance(found, float) and math.isnan(found):
            found = None
        if dtype == pl.Date and expected is not None:
            expected = dt.datetime.combine(expected, dt.time())
    if isinstance(found, float) and isinstance(expected, float):
        return np.float64(found).tobytes() == np.float64(expected).tobytes() or (
            math.isnan(found) and math.isnan(expected)
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(
            same_cell(one, other, "", dtype) for one, other in zip(found, expected, strict=True)
        )
    return type(found) is type(expected) and found == expected


PANDAS = {
    pl.Boolean: ("bool", "boolean"),
    pl.Int64: ("int64", "Int64"),
    pl.UInt64: ("uint64", "UInt64"),
    pl.Float64: ("float64", "float64"),
    pl.Date: ("datetime64[us]", "datetime64[us]"),
    pl.Datetime("us"): ("datetime64[us]", "datetime64[us]"),
    pl.Datetime("us", "UTC"): ("datetime64[us, UTC]", "datetime64[us, UTC]"),
    pl.Duration("us"): ("timedelta64[us]", "timedelta64[us]"),
}
"""By polars type, the pandas type without and with missing values."""


def pandas_type(dtype, *, missing, category):
    """The name of the pandas type of a column."""
    if category:
        return "category"
    if dtype == pl.String:
        return "str" if int(pd.__version__[0]) >= 3 else "object"
    return PANDAS.get(dtype, ("object", "object"))[missing]
