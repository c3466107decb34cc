"""Polars: the flat frame as a polars DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from .categories import Categories, chosen
from .materialise import materialise
from .runs import CATEGORICAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .materialise import Rows
    from .plan import Column, Plan

_NUMPY: Final = (pl.Int64(), pl.UInt64(), pl.Float64())
"""Types whose columns are spread over the rows by NumPy (1 ms for 3 M) and taken over by polars without a copy."""


def to_polars(plan: Plan, categories: Categories = "text") -> pl.DataFrame:
    """Make the frame of a plan.

    Raises:
        UnknownKeyError, InvalidCallError: `categories` names a column that is not there, or is no text.
    """
    categorical = chosen(plan, categories, only_text=True)
    return polars_frame(materialise(plan), categorical)


def polars_frame(rows: Rows, categorical: Iterable[str]) -> pl.DataFrame:
    """The frame of rows that were read, with categories in the columns named."""
    categorical = set(categorical)
    index = pl.Series(rows.runs.spread(np.arange(rows.plan.table.height, dtype="u4")))
    columns = {}
    for column in rows.plan.columns:
        dtype = pl.Categorical() if column.name in categorical else column.dtype
        if column.own:
            columns[column.name] = rows.merged(column).cast(dtype)
        else:
            columns[column.name] = _inherited(rows, column, dtype, index)
    return pl.DataFrame(columns)


def _inherited(rows: Rows, column: Column, dtype: Any, index: pl.Series) -> pl.Series:
    values = rows.plan.table[column.name].cast(dtype)
    if dtype in _NUMPY and not values.null_count():
        return pl.Series(column.name, rows.runs.spread(values.to_numpy()))
    return values.gather(index)


def table_frame(table: pl.DataFrame) -> pl.DataFrame:
    """The table of runs as `runs.runs_table` gives it, with categories."""
    return table.with_columns(pl.col(CATEGORICAL).cast(pl.Categorical()))
