"""Polars: the flat frame as a polars DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .categories import Categories, chosen
from .materialise import materialise
from .runs import CATEGORICAL
from .spread import Spread

if TYPE_CHECKING:
    from collections.abc import Collection

    from .materialise import Rows
    from .plan import Plan


def to_polars(plan: Plan, categories: Categories = "text") -> pl.DataFrame:
    """Make the frame of a plan.

    Raises:
        UnknownKeyError, InvalidCallError: `categories` names a column that is not there, or is no text.
    """
    categorical = chosen(plan, categories, only_text=True)
    return polars_frame(materialise(plan), categorical)


def polars_frame(rows: Rows, categorical: Collection[str]) -> pl.DataFrame:
    """The frame of rows that were read, with categories in the columns named."""
    spread = Spread(rows)
    columns: dict[str, pl.Series | pl.Expr] = {}
    for column in rows.plan.columns:
        dtype = pl.Categorical() if column.name in categorical else column.dtype
        if column.own:
            own = rows.merged(column)
            columns[column.name] = spread.own(own if own.dtype == dtype else own.cast(dtype))
        else:
            columns[column.name] = spread.inherited(rows.plan.table[column.name].cast(dtype))
    return _frame(columns, rows.height)


def _frame(columns: dict[str, pl.Series | pl.Expr], rows: int) -> pl.DataFrame:
    """A frame of columns, some of them a literal, which polars keeps as one value until something needs the rows.

    The users' names come last: polars takes some for patterns.
    """
    named = {f"c{place}": column for place, column in enumerate(columns.values())}
    series = [column.alias(name) for name, column in named.items() if isinstance(column, pl.Series)]
    has_literal = len(series) < len(named)
    counted = [] if series else ["rows"]
    if counted:
        series = [pl.Series("rows", [None]).new_from_index(0, rows)]
    frame = series[0].to_frame()  # 0.1 ms, and a frame of a dict 0.2, the first time in a process
    if series[1:]:
        frame.hstack(series[1:], in_place=True)
    if has_literal:  # else they are in order, and a selection takes half a millisecond
        selected = [column.alias(name) if isinstance(column, pl.Expr) else name for name, column in named.items()]
        frame = frame.select(*selected, *counted)
    if counted:
        frame = frame.drop("rows")  # which keeps their number
    frame.columns = list(columns)
    return frame


def table_frame(table: pl.DataFrame) -> pl.DataFrame:
    """The table of runs as `runs.runs_table` gives it, with categories."""
    return table.with_columns(pl.col(CATEGORICAL).cast(pl.Categorical()))
