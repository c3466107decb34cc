"""Pieces: parts of a column as they are gathered from a unit, each of one kind of value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from .kinds import KINDS, TYPES, kind_of, python_list
from .template import BOOL, FLOAT, INT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NUMPY: Final = {BOOL: "?", FLOAT: "f8"}


class Piece:
    """Values of one kind for some rows: `count` from `start` on, or those of `places`.

    Attributes:
        kind: Of all values.
        start, count, places: Which rows.
        values: A NumPy array (numbers, and times as int64), a list, or the one value that all rows share.
    """

    __slots__ = ("count", "kind", "places", "start", "values")

    def __init__(self, kind: str, start: int, count: int, values: Any, places: NDArray[Any] | None = None) -> None:
        self.kind = kind
        self.start = start
        self.count = count
        self.values = values
        self.places = places

    def indices(self) -> NDArray[Any]:
        """The rows, as an array."""
        return np.arange(self.start, self.start + self.count) if self.places is None else self.places

    def where(self) -> Any:
        """The rows, to index an array with."""
        return slice(self.start, self.start + self.count) if self.places is None else self.places

    def numbers(self) -> NDArray[Any]:
        """The values of a piece of bools, ints or floats as an array."""
        values = self.values
        if values.__class__ is list:
            dtype = _NUMPY.get(self.kind) or ("u8" if values[0] >= 2**63 else "i8")
            self.values = values = np.array(values, dtype)
        elif not isinstance(values, np.ndarray):
            dtype = _NUMPY.get(self.kind) or ("u8" if values >= 2**63 else "i8")
            self.values = values = np.full(self.count, values, dtype)
        return values  # type: ignore[no-any-return]

    def tolist(self) -> list[Any]:
        """The values as Python objects."""
        values = self.values
        if values.__class__ is list:
            return values
        if not isinstance(values, np.ndarray):
            return [values] * self.count
        if self.kind in (BOOL, INT, FLOAT):
            return list(values.tolist())
        return python_list(self.series(TYPES[self.kind]))

    def series(self, dtype: Any) -> pl.Series:
        """The values as a column of a type."""
        values = self.values
        if isinstance(values, pl.Series):
            return values
        if isinstance(values, np.ndarray):
            return pl.Series(values * 1000 if dtype == pl.Time else values).cast(dtype)  # polars counts nanoseconds
        if values.__class__ is list:
            return pl.Series(values, dtype=dtype)
        return pl.Series([values], dtype=dtype).new_from_index(0, self.count)


def split(values: list[Any], start: int, places: NDArray[Any] | None) -> list[Piece]:
    """Python values as pieces, one for each kind among them."""
    classes = set(map(type, values))
    if len(classes) == 1:
        kind = KINDS.get(classes.pop())
        if kind is not None and kind != INT:
            return [Piece(kind, start, len(values), values, places)]
        if kind == INT and max(values) < 2**63:
            return [Piece(kind, start, len(values), values, places)]
    kinds = [kind_of(value) for value in values]
    groups: dict[tuple[str, bool], list[int]] = {}
    for place, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        groups.setdefault((kind, kind == INT and value >= 2**63), []).append(place)
    return [_part(kind, values, within, start, places) for (kind, _), within in groups.items()]


def _part(kind: str, values: list[Any], within: Sequence[int], start: int, places: NDArray[Any] | None) -> Piece:
    if len(within) == len(values):
        return Piece(kind, start, len(values), values, places)
    chosen = np.array(within)
    rows = chosen + start if places is None else places[chosen]
    return Piece(kind, start, len(within), [values[place] for place in within], rows)
