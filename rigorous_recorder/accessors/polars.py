"""`.rr` on polars frames, eager and lazy."""

from __future__ import annotations

import os
import weakref
from functools import partial
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ..branches import ATTEMPT_KEY
from ..columns import LINEAGE_KEY
from ..errors import HandleError
from .base import Accessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .lineages import Under

_COLUMN_FILTER: Final = "df.filter(pl.col({}) == ...)"


class EagerAccessor(Accessor[pl.DataFrame, pl.DataFrame]):
    """`.rr` on a polars DataFrame."""

    _FILTERING = _COLUMN_FILTER

    def _names(self) -> list[str]:
        return self._frame.columns

    def _under(self, under: Under) -> pl.DataFrame:
        frame = self._frame
        for column in under:
            frame = frame.filter(_meant(frame[column], partial(under.decide, column)))
        return frame

    def _counts(self) -> list[tuple[str | None, int]]:
        return _counts(self._frame.lazy())

    def _table(self, columns: Sequence[pl.Series]) -> pl.DataFrame:
        return _table(columns, self._frame.schema[LINEAGE_KEY])

    def _drop(self, names: list[str]) -> pl.DataFrame:
        return self._frame[[name for name in self._frame.columns if name not in names]]

    def _latest(self, steps: Sequence[str]) -> pl.DataFrame:
        return self._frame.filter(_is_latest(steps, self._frame.schema))


class LazyAccessor(Accessor[pl.LazyFrame, pl.DataFrame]):
    """`.rr` on a polars LazyFrame."""

    _FILTERING = _COLUMN_FILTER

    def _names(self) -> list[str]:
        return self._frame.collect_schema().names()

    def _under(self, under: Under) -> pl.LazyFrame:
        frame = self._frame
        for column in under:
            decide = _Lineages(self._frame, under) if column == LINEAGE_KEY else partial(under.values, column)
            frame = frame.filter(_elementwise(column, _Mask(decide)))
        return frame

    def _counts(self) -> list[tuple[str | None, int]]:
        return _counts(self._frame)

    def _table(self, columns: Sequence[pl.Series]) -> pl.DataFrame:
        return _table(columns, self._frame.collect_schema()[LINEAGE_KEY])

    def _drop(self, names: list[str]) -> pl.LazyFrame:
        return self._frame.drop(_named(names))

    def _latest(self, steps: Sequence[str]) -> pl.LazyFrame:
        return self._frame.filter(_is_latest(steps, self._frame.collect_schema()))


class _Mask:
    """The function in a lazy frame's filter: for each row of a batch whether the value of a column is meant.

    The filter is elementwise, so that polars pushes it down into a scan, which then skips what has no row, and streams.
    A scan in Python gets a pickled copy of it. That is only its number, under which this one is found: a copy of all that
    it refers to would hold the frame, and take cloudpickle.
    """

    def __init__(self, decide: Callable[[list[Any]], list[bool]]) -> None:
        self._decide = decide
        self._number = next(_numbers)
        _masks[self._number] = self

    def __call__(self, given: Any) -> pl.Series:
        try:
            return _meant(given if isinstance(given, pl.Series) else given[0], self._decide)
        except Exception as error:
            notes = getattr(error, "__notes__", ())
            if notes:  # of an error in a lazy frame polars hands on the text alone
                error.args = (" ".join([str(error), *notes]),)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _mask, (os.getpid(), self._number)


def _elementwise(column: str, mask: _Mask) -> pl.Expr:
    """The mask as an expression: by the function that hands it over as it is, without a closure that only cloudpickle knows.

    In polars 2 that is `pl.map_batches`; before, the method is, and the function cannot be elementwise.
    """
    if "is_elementwise" in signature(pl.map_batches).parameters:
        return pl.map_batches([column], mask, pl.Boolean, is_elementwise=True)
    return pl.col(column).map_batches(mask, pl.Boolean, is_elementwise=True)


_numbers: Final = count()
_masks: Final[weakref.WeakValueDictionary[int, _Mask]] = weakref.WeakValueDictionary()


def _mask(process: int, number: int) -> _Mask:
    found = _masks.get(number) if process == os.getpid() else None
    if found is None:
        raise HandleError(
            "A pickled lazy frame on which under was called can be read only in the process that pickled it, and only while "
            "the lazy frame itself is there. Hint: keep that one, collect before pickling, or call under after it."
        )
    return found


class _Lineages:
    """Decides on the lineages of one batch of a lazy frame after the other.

    A key that a batch lacks may be in another one; only where the batches so far lack a key are all lineages of the
    frame looked at, to refuse a key that none has.
    """

    def __init__(self, frame: pl.LazyFrame, under: Under) -> None:
        self._frame = frame
        self._under = under
        self._looked = False

    def __call__(self, texts: list[str | None]) -> list[bool]:
        self._under.learn(texts)
        # No lock: the thread that waits for the inner query may be given another batch of the outer one meanwhile.
        if self._under.unseen and not self._looked:
            self._looked = True
            try:
                self._under.learn(_distinct(self._frame))
                self._under.check()
            except BaseException:
                self._looked = False
                raise
        return self._under.lineages(texts)


def _meant(series: pl.Series, decide: Callable[[list[Any]], list[bool]]) -> pl.Series:
    """For each row whether its value is meant, decided on the distinct values."""
    values = series.unique().to_list()
    meant = [value for value, is_meant in zip(values, decide(values), strict=True) if is_meant]
    return series.is_in(meant, nulls_equal=True)


def _is_latest(steps: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.Expr:
    without = [_named([LINEAGE_KEY, *steps]).is_null()]
    numbers = [step for step in steps if schema[step].is_float()]
    if numbers:
        without.append(_named(numbers).is_nan().fill_null(value=False))
    return pl.any_horizontal(without) | pl.struct(_named([ATTEMPT_KEY, LINEAGE_KEY, *steps])).is_last_distinct()


def _named(names: Sequence[str]) -> pl.selectors.Selector:
    """The columns of these very names, some of which `pl.col` takes for patterns."""
    return pl.selectors.by_name(*names)


def _distinct(frame: pl.LazyFrame) -> list[str | None]:
    return frame.select(pl.col(LINEAGE_KEY).unique()).collect()[LINEAGE_KEY].to_list()


def _counts(frame: pl.LazyFrame) -> list[tuple[str | None, int]]:
    counted = frame.group_by(LINEAGE_KEY, maintain_order=True).len("rr_records").collect()
    return list(zip(counted[LINEAGE_KEY].to_list(), counted["rr_records"].to_list(), strict=True))


def _table(columns: Sequence[pl.Series], lineage: pl.DataType) -> pl.DataFrame:
    made = {column.name: column.cast(pl.Categorical) if column.dtype == pl.String else column for column in columns}
    return pl.DataFrame(made).with_columns(pl.col(LINEAGE_KEY).cast(lineage))
