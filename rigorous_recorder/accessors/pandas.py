"""`.rr` on pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..branches import ATTEMPT_KEY
from ..columns import LINEAGE_KEY
from .base import Accessor
from .lineages import check_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from .lineages import Under


class PandasAccessor(Accessor[pd.DataFrame, pd.DataFrame]):
    """`.rr` on a pandas DataFrame."""

    _FILTERING = "df[df[{}] == ...]"

    def _names(self) -> list[str]:
        return list(self._frame.columns)

    def _under(self, under: Under) -> pd.DataFrame:
        mask = np.ones(len(self._frame), dtype=bool)
        for column in under:
            codes, values = _codes(self._frame[column])
            values = [*values, None]  # at the end, where the code -1 of what is missing finds it
            codes = codes.astype(np.intp)  # once, as each use would: 6 to 8 ms instead of 10 for 3 M rows
            meant = np.zeros(len(values), dtype=bool)
            meant[codes] = True
            used = np.flatnonzero(meant)  # a filtered frame still has the categories of all rows there once were
            meant[used] = under.decide(column, [values[place] for place in used])
            mask &= meant.take(codes)
        return self._frame[mask]

    def _counts(self) -> list[tuple[str | None, int]]:
        codes, values = _codes(self._frame[LINEAGE_KEY])
        numbers = np.bincount(codes.astype(np.intp) + 1, minlength=len(values) + 1)
        return [(values[code] if code >= 0 else None, int(numbers[code + 1])) for code in pd.unique(codes).tolist()]

    def _table(self, columns: Sequence[pl.Series]) -> pd.DataFrame:
        from ..frames.pandas import levels_frame

        made = levels_frame(columns)
        made[LINEAGE_KEY] = made[LINEAGE_KEY].astype(self._frame[LINEAGE_KEY].dtype)
        return made

    def _drop(self, names: list[str]) -> pd.DataFrame:
        return self._frame.drop(columns=names)

    def _latest(self, steps: Sequence[str]) -> pd.DataFrame:
        codes = {column: _numbered(self._frame[column]) for column in (ATTEMPT_KEY, LINEAGE_KEY, *steps)}
        superseded = pd.DataFrame(codes).duplicated(keep="last").to_numpy()
        for column in (LINEAGE_KEY, *steps):
            superseded = superseded & (codes[column] >= 0)
        return self._frame[~superseded]


def _codes(series: pd.Series[Any]) -> tuple[NDArray[Any], list[Any]]:
    """The distinct values, and for each row the place of its value among them; -1 where it is missing."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return np.asarray(series.cat.codes), series.cat.categories.tolist()
    try:
        codes, values = pd.factorize(series)
    except (TypeError, NotImplementedError):  # lists have no hash
        for value in series.dropna() if series.name == LINEAGE_KEY else ():
            check_text(value)
        raise
    return codes, values.tolist()


def _numbered(series: pd.Series[Any]) -> NDArray[Any]:
    """For each row a number that is equal where the values are; -1 where there is none, or NaN."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return np.asarray(series.cat.codes)
    try:
        codes, _ = pd.factorize(series)
    except (TypeError, NotImplementedError):  # lists; Arrow's
        codes, _ = pd.factorize(series.astype("object").map(_hashable))
    if getattr(series.dtype, "kind", "") == "f":  # Arrow's and the nullable floats may hold NaN beside what is missing
        codes = np.where(np.isnan(series.to_numpy("f8", na_value=np.nan)), -1, codes)
    return codes


def _hashable(value: Any) -> Any:
    """A value that is equal where the given one is, and can be put into a table: tuples in the place of lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    return tuple((key, _hashable(item)) for key, item in value.items()) if isinstance(value, dict) else value
