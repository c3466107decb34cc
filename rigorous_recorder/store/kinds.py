"""Kinds: which type of column gives a value back exactly, and the values of a column as Python objects. Without NumPy."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import polars as pl

from .template import BOOL, FLOAT, INT, NULL, TEXT

LIST: Final = "list"
OTHER: Final = "other"

TYPES: Final[dict[str, Any]] = {
    NULL: pl.Null,
    BOOL: pl.Boolean,
    FLOAT: pl.Float64,
    TEXT: pl.String,
    "bytes": pl.Binary,
    "date": pl.Date,
    "time": pl.Time,
    "datetime": pl.Datetime("us"),
    "utc": pl.Datetime("us", "UTC"),
    "timedelta": pl.Duration("us"),
}
"""The column type of each kind; an int's is Int64 or UInt64, a list's what its items are, and OTHER has none."""

_LONGEST: Final = dt.timedelta(microseconds=2**63 - 1)

KINDS: Final[dict[type, str]] = {
    type(None): NULL,
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: TEXT,
    bytes: "bytes",
    dt.date: "date",
    list: LIST,
}
"""Classes all of whose values are of one kind."""


def kind_of(value: Any) -> str:
    """The kind of a value: which type of column gives it back exactly, or OTHER."""
    cls = value.__class__
    kind = KINDS.get(cls)
    if kind is not None:
        return kind
    if cls is dt.datetime:
        return "datetime" if value.tzinfo is None else "utc" if value.tzinfo is dt.UTC else OTHER
    if cls is dt.time and value.tzinfo is None:
        return "time"
    if cls is dt.timedelta and -_LONGEST <= value <= _LONGEST:
        return "timedelta"
    return OTHER


def python_list(column: pl.Series) -> list[Any]:
    """A column's values as Python objects, aware times with `datetime.timezone.utc` as records have them."""
    if column.dtype == TYPES["utc"]:
        naive = column.dt.replace_time_zone(None).to_list()
        return [None if value is None else value.replace(tzinfo=dt.UTC) for value in naive]
    if column.dtype == pl.List(TYPES["utc"]):
        return [None if value is None else python_list(value) for value in column]
    return column.to_list()
