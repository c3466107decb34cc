"""Pandas: the flat frame as a pandas DataFrame, from NumPy arrays and category codes; pyarrow is not needed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl

from rigorous_recorder.store.kinds import python_list

from .categories import Categories, chosen
from .materialise import materialise
from .runs import CATEGORICAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from .materialise import Rows
    from .plan import Column, Plan

_NUMBERS: Final[dict[Any, str]] = {pl.Int64(): "i8", pl.UInt64(): "u8", pl.Float64(): "f8", pl.Boolean(): "?"}
_TIMES: Final[dict[Any, str]] = {
    pl.Date(): "M8[us]",
    pl.Datetime("us"): "M8[us]",
    pl.Datetime("us", "UTC"): "M8[us]",
    pl.Duration("us"): "m8[us]",
}
_DAY: Final = 86_400_000_000
"""Microseconds."""
TEXT_TYPE: Final = int(pd.__version__.partition(".")[0]) >= 3  # noqa: PLR2004
"""Whether pandas has a type of its own for text by default."""
NOTHING: Final = np.iinfo("i8").min
"""NaT, as an int."""


def to_pandas(plan: Plan, categories: Categories = "text") -> pd.DataFrame:
    """Make the frame of a plan.

    Raises:
        UnknownKeyError, InvalidCallError: `categories` names a column that is not there, or has no categories.
    """
    return pandas_frame(materialise(plan), chosen(plan, categories, only_text=False))


def pandas_frame(rows: Rows, categorical: Collection[str]) -> pd.DataFrame:
    """The frame of rows that were read, with categories in the columns named.

    Each column is an array of its own that nothing else holds, so pandas need not copy it (14 to 180 ms for 3 M rows).
    """
    used = rows.runs.used
    columns = {}
    for column in rows.plan.columns:
        as_category = column.name in categorical
        if column.own:
            series = rows.merged(column)
            columns[column.name] = _category(series) if as_category else _array(series)
        else:
            columns[column.name] = _inherited(rows, column, used, as_category=as_category)
    return pd.DataFrame(columns, index=pd.RangeIndex(rows.height), copy=False)


def table_frame(table: pl.DataFrame) -> pd.DataFrame:
    """The table of runs as `runs.runs_table` gives it, with categories."""
    columns = {name: _category(table[name]) if name in CATEGORICAL else _array(table[name]) for name in table.columns}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.height), copy=False)


def levels_frame(columns: Iterable[pl.Series]) -> pd.DataFrame:
    """Columns of level data as a frame, text as categories."""
    made = {column.name: _category(column) if column.dtype == pl.String else _array(column) for column in columns}
    return pd.DataFrame(made, copy=False)


# ---- columns that are the levels' alone ----------------------------------------------------------------------------


def _inherited(rows: Rows, column: Column, used: NDArray[Any], *, as_category: bool) -> Any:
    """A column spread over the rows from the table of levels."""
    values = rows.plan.table[column.name]
    present = values.gather(used)
    if as_category:
        category = _category(present)
        codes = np.full(len(values), -1, category.codes.dtype)
        codes[used] = category.codes
        return pd.Categorical.from_codes(rows.runs.spread(codes), dtype=category.dtype, validate=False)
    if values.dtype == pl.List:  # a list for each row: who changes one changes no other
        return _array(values.gather(pl.Series(rows.runs.spread(np.arange(len(values), dtype="u4")))))
    if values.dtype not in _NUMBERS:
        index = np.zeros(len(values), "u4")
        index[used] = np.arange(len(used), dtype="u4")
        return _array(present).take(rows.runs.spread(index))
    missing = values.is_null().to_numpy()
    numbers = rows.runs.spread(_filled(values))
    if not missing[used].any() or values.dtype == pl.Float64:
        return numbers
    return _nullable(numbers, rows.runs.spread(missing))


# ---- any column ------------------------------------------------------------------------------------------------------


def _filled(values: pl.Series) -> NDArray[Any]:
    """Numbers or bools as an array that can be written to, with NaN or anything else where they are missing."""
    if values.null_count() and values.dtype != pl.Float64:
        values = values.fill_null(value=False if values.dtype == pl.Boolean else 0)
    array = np.empty(len(values), _NUMBERS[values.dtype])
    start = 0
    for chunk in values.get_chunks():
        stop = start + len(chunk)
        array[start:stop] = chunk.to_numpy()
        start = stop
    return array


def _nullable(numbers: NDArray[Any], missing: NDArray[Any]) -> Any:
    if numbers.dtype == bool:
        return pd.arrays.BooleanArray(numbers, missing)
    return pd.arrays.IntegerArray(numbers, missing)


def _array(values: pl.Series) -> Any:
    """A column of a polars type as an array for pandas."""
    dtype = values.dtype
    if dtype in _NUMBERS:
        missing = values.is_null().to_numpy() if values.null_count() else np.zeros(0, "?")
        numbers = _filled(values)
        return numbers if not missing.any() or dtype == pl.Float64 else _nullable(numbers, missing)
    if dtype in _TIMES:
        return _times(values)
    if dtype == pl.String:
        return _texts(values)
    array = np.empty(len(values), object)
    array[:] = python_list(values)
    return array


def _times(values: pl.Series) -> Any:
    numbers = values.to_physical().cast(pl.Int64)
    if values.dtype == pl.Date:
        numbers = numbers * _DAY
    array = np.array(numbers.fill_null(NOTHING).to_numpy(), copy=True).view(_TIMES[values.dtype])
    if values.dtype == pl.Datetime("us", "UTC"):
        return pd.DatetimeIndex(array).tz_localize(dt.UTC).array
    return array


def _texts(values: pl.Series) -> Any:
    """Text in the type that this pandas has for it by default: `str` from 3.0 on, object before."""
    array = np.array(values.to_list(), dtype=object)
    if TEXT_TYPE:
        return pd.array(array, dtype="str")
    return array


def _category(values: pl.Series) -> pd.Categorical:
    """A column as categories, sorted, of the values that occur. Of floats, NaN is missing, and -0.0 and 0.0 are one, 0.0."""
    if values.dtype == pl.Float64:
        values = pl.select(
            pl.when(values == 0.0).then(0.0).otherwise(values.fill_nan(None)).alias(values.name)
        ).to_series()
    distinct = values.drop_nulls().unique().sort()
    codes = values.replace_strict(distinct, pl.arange(len(distinct), eager=True, dtype=pl.Int64), default=-1)
    kind = next(kind for kind in ("i1", "i2", "i4", "i8") if len(distinct) <= np.iinfo(kind).max)
    categories = pd.Index(_array(distinct))
    return pd.Categorical.from_codes(codes.fill_null(-1).to_numpy().astype(kind), categories, validate=False)
