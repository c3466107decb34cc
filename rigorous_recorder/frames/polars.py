"""Polars: the flat frame as a polars DataFrame."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from .categories import Categories, chosen
from .materialise import materialise
from .runs import CATEGORICAL

if TYPE_CHECKING:
    from collections.abc import Collection

    from .materialise import Rows
    from .plan import Plan

_NUMPY: Final = (pl.Int64(), pl.UInt64(), pl.Float64())
"""Types whose columns are spread over the rows by NumPy (1 ms for 3 M) and taken over by polars without a copy."""

_NO_LITERAL: Final = (pl.List, pl.Binary)
LONG: Final = 10_000
"""Rows: so long runs of a category are faster made one by one (3 M rows in 0.5 ms, by an index 7)."""


def to_polars(plan: Plan, categories: Categories = "text") -> pl.DataFrame:
    """Make the frame of a plan.

    Raises:
        UnknownKeyError, InvalidCallError: `categories` names a column that is not there, or is no text.
    """
    categorical = chosen(plan, categories, only_text=True)
    return polars_frame(materialise(plan), categorical)


def polars_frame(rows: Rows, categorical: Collection[str]) -> pl.DataFrame:
    """The frame of rows that were read, with categories in the columns named."""
    spread = _Spread(rows)
    columns: dict[str, pl.Series | pl.Expr] = {}
    for column in rows.plan.columns:
        dtype = pl.Categorical() if column.name in categorical else column.dtype
        if column.own:
            columns[column.name] = rows.merged(column).cast(dtype)
        else:
            columns[column.name] = spread.column(rows.plan.table[column.name].cast(dtype))
    return _frame(columns, rows.runs.rows)


def _frame(columns: dict[str, pl.Series | pl.Expr], rows: int) -> pl.DataFrame:
    """A frame of columns, some of them a literal, which polars keeps as one value until something needs the rows."""
    series = {name: column for name, column in columns.items() if isinstance(column, pl.Series)}
    literal = [column.alias(name) for name, column in columns.items() if isinstance(column, pl.Expr)]
    if not literal:
        return pl.DataFrame(series)
    if not series:
        series = {"rows": pl.Series([None]).new_from_index(0, rows)}
    return pl.DataFrame(series).with_columns(literal).select(list(columns))


class _Spread:
    """Columns of the table of levels, spread over the rows, each in the fastest way that there is for it."""

    def __init__(self, rows: Rows) -> None:
        self._runs = rows.runs
        self._used = pl.Series(rows.runs.used)
        self._height = rows.plan.table.height

    @cached_property
    def _index(self) -> pl.Series:
        """The row of the table for each row of the frame."""
        return pl.Series(self._runs.spread(np.arange(self._height, dtype="u4")))

    def column(self, values: pl.Series) -> pl.Series | pl.Expr:
        """The values of one column for all rows; a literal where they are all the same."""
        present = values.gather(self._used)
        if _constant(present):
            return pl.lit(present.first(), dtype=values.dtype)
        if values.dtype in _NUMPY and not present.null_count():
            return pl.Series(values.name, self._runs.spread(values.fill_null(0).to_numpy()))
        runs = self._runs.levels
        if len(runs) and len(runs) * LONG <= self._runs.rows and values.dtype in (pl.Categorical, pl.Boolean):
            return pl.concat(
                [values.new_from_index(level, length) for level, length in zip(runs, self._runs.lengths, strict=True)]
            )
        return values.gather(self._index)


def _constant(values: pl.Series) -> bool:
    """Whether all values are the same, to the bit, and polars has a literal for them."""
    if not len(values) or values.dtype in _NO_LITERAL or values.n_unique() > 1:
        return False
    if values.dtype != pl.Float64 or values.null_count():
        return True
    bits = values.to_numpy().view("i8")  # n_unique takes 0.0 and -0.0 for one, and all NaN
    return bool((bits == bits[0]).all()) and not values.is_nan().any()


def table_frame(table: pl.DataFrame) -> pl.DataFrame:
    """The table of runs as `runs.runs_table` gives it, with categories."""
    return table.with_columns(pl.col(CATEGORICAL).cast(pl.Categorical()))
