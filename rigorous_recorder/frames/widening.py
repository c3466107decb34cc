"""Widening: the one column type that holds the values of several units exactly, and the columns of units brought to it."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from rigorous_recorder.exact import decode_exact
from rigorous_recorder.store.kinds import LIST, OTHER, TYPES, kind_of, python_list
from rigorous_recorder.store.template import INT, NULL, TEXT
from rigorous_recorder.store.text import text_form
from rigorous_recorder.values import EXACT_INTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

Bounds = tuple[int, int] | None
"""The lowest and the highest of some ints; None where there are none."""


class Typed(msgspec.Struct, frozen=True):
    """What is to be known of a column before it is read.

    Attributes:
        dtype: Its polars type in its unit.
        bounds: Finds the lowest and the highest of its ints, or of the ints in its lists.
    """

    dtype: Any
    bounds: Callable[[], Bounds]


def common_type(columns: Iterable[Typed]) -> Any:
    """The narrowest type that holds the values of all columns exactly; text where there is none."""
    columns = list(columns)
    types = {column.dtype for column in columns} - {pl.Null()}
    if len(types) <= 1:
        return types.pop() if types else pl.Null()
    if all(dtype == pl.List for dtype in types):
        inner = common_type(Typed(column.dtype.inner, column.bounds) for column in columns if column.dtype == pl.List)
        return pl.String() if inner == pl.String and types != {pl.List(pl.String), pl.List(pl.Null)} else pl.List(inner)
    ints = [column for column in columns if column.dtype == pl.Int64]
    if types == {pl.Int64(), pl.UInt64()} and all(low >= 0 for low, _ in _bounds(ints)):
        return pl.UInt64()
    if types == {pl.Int64(), pl.Float64()} and all(max(-low, high) < EXACT_INTS for low, high in _bounds(ints)):
        return pl.Float64()
    return pl.String()


def _bounds(columns: Iterable[Typed]) -> Iterable[tuple[int, int]]:
    return (bounds for column in columns if (bounds := column.bounds()) is not None)


def bounds_of(column: pl.Series) -> Bounds:
    """The lowest and the highest int in a column of ints, or of lists of them."""
    if column.dtype == pl.List:
        column = column.explode()
    low, high = column.min(), column.max()
    return None if low is None or high is None else (low, high)  # type: ignore[return-value]


def widened(column: pl.Series, exact: pl.Series | None, dtype: Any) -> pl.Series:
    """A unit's column in a type that holds all its values, as `common_type` found it.

    Args:
        column: The unit's.
        exact: Its companion, with the exact encoding of values that are not as in the column.
        dtype: The polars type to bring it to.
    """
    if column.dtype == dtype:
        return column
    if column.dtype == pl.Null:
        return pl.Series(column.name, [None], dtype=dtype).new_from_index(0, len(column))
    return _texts(column, exact) if dtype == pl.String else column.cast(dtype)


def _texts(column: pl.Series, exact: pl.Series | None) -> pl.Series:
    """The text that stands for each value; where the column has not the value itself, its companion has."""
    if exact is None and column.dtype in (pl.Int64, pl.UInt64, pl.Boolean):
        return column.cast(pl.String)  # as JSON writes them
    values = python_list(column)
    if exact is not None:
        places = exact.is_not_null().arg_true()
        for place, encoded in zip(places.to_list(), exact.gather(places).to_list(), strict=True):
            values[place] = decode_exact(encoded)
    texts = [None if value is None else text_form(value) for value in values]
    return pl.Series(column.name, texts, dtype=pl.String)


# ---- columns of level data ---------------------------------------------------------------------------------------


class Inherited:
    """One key's values at the levels of a frame, on their way to a column."""

    def __init__(self, values: list[Any], places: Sequence[int], rows: int) -> None:
        """The values of the levels that have the key, the rows of these levels, and how many levels there are."""
        self._values = values
        self._places = places
        self._rows = rows
        self._plain = [_in_frames(value) for value in values]
        self._kinds = set(map(kind_of, self._plain)) - {NULL}

    @cached_property
    def _column(self) -> pl.Series:
        return _column(self._plain, self._places, self._rows)

    @cached_property
    def dtype(self) -> Any:
        """The narrowest type that holds all values; found without making the column where that is possible."""
        return _simple(self._plain, self._kinds) or self._column.dtype

    @property
    def settled(self) -> bool:
        """Whether any of the values would give the same type."""
        return (
            len(self._kinds) <= 1
            and LIST not in self._kinds
            and (self.dtype not in (pl.String, pl.UInt64) or self._kinds in ({TEXT}, {OTHER}))
        )

    def typed(self) -> Typed:
        """Its type."""
        return Typed(self.dtype, lambda: bounds_of(self._column))

    def column(self, dtype: Any) -> pl.Series:
        """The column, in a type that holds all its values."""
        if dtype != pl.String:
            return widened(self._column, None, dtype)
        texts = [None if value is None else text_form(value) for value in self._values]
        return widened(_column(texts, self._places, self._rows), None, dtype)


_SIMPLE: Final[dict[str, Any]] = {
    kind: dtype() if isinstance(dtype, type) else dtype
    for kind, dtype in (TYPES | {INT: pl.Int64}).items()
    if kind != NULL
}


def _column(values: list[Any], places: Sequence[int], rows: int) -> pl.Series:
    """Values at some places as a column of the narrowest type that holds them all.

    Most keys have values of one kind throughout: polars makes their column from a list, and NumPy, which the general way
    brings, and which polars gets `numpy.ma` for, need not be imported (30 and 10 ms).
    """
    dtype = _simple(values, set(map(kind_of, values)) - {NULL})
    if dtype == pl.Null:
        return pl.Series([None], dtype=pl.Null).new_from_index(0, rows)
    if dtype is not None:
        spread: list[Any] = [None] * rows
        for place, value in zip(places, values, strict=True):
            spread[place] = value
        return pl.Series(spread, dtype=dtype)
    import numpy as np

    from rigorous_recorder.store.columns import column_of

    return column_of(values, np.array(places, "i8"), rows)


def _simple(values: Iterable[Any], kinds: Collection[str]) -> Any:
    """The type of a column of values of one kind, whose kinds are given; None where these alone do not say it."""
    kind = next(iter(kinds)) if len(kinds) == 1 else NULL
    if kind == INT and not all(value is None or -(2**63) <= value < 2**63 for value in values):
        return None
    return _SIMPLE.get(kind) if kinds else pl.Null()


def _in_frames(value: Any) -> Any:
    """A level's value as a record would have it: aware times in UTC."""
    if value.__class__ is dt.datetime and value.tzinfo is not None:
        try:
            return value.astimezone(dt.UTC)
        except OverflowError:  # within a day of the years 1 and 9999
            return value
    return value
