"""Spread: inherited values from the few levels to all rows of a polars frame, each in the fastest way there is for it."""

from __future__ import annotations

import struct
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from .part import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .materialise import Rows

_NUMPY: Final = (pl.Int64(), pl.UInt64(), pl.Float64())
"""Types whose columns are spread over short runs by NumPy and taken over by polars without a copy."""

_NO_LITERAL: Final = (pl.List, pl.Binary)
LONG: Final = 10_000
"""Rows: where pieces are so long on average, columns are made of them."""


FEW: Final = 64
"""Pieces that are made however short they are, since that takes less than importing NumPy."""


class Spread:
    """Columns of a frame: those of the table of levels, spread over its rows, and the own ones cut alike.

    Where rows of one level lie in long stretches, all columns are cut into pieces of one level each. Pieces of a column that
    have the same value share their memory: of 3 M rows of 30 levels, a number that has 3 values takes 2.4 MB, one that has 10
    takes 8, instead of 24, and writing fresh memory is what takes the time. Otherwise NumPy writes out the runs of levels.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._nothing = all(column.own for column in rows.plan.columns)

    @cached_property
    def _pieces(self) -> list[Piece] | None:
        return _pieces(self._rows)

    @cached_property
    def _long(self) -> bool:
        return self._pieces is not None and len(self._pieces) * LONG <= self._rows.height

    @cached_property
    def _used(self) -> list[int]:
        """The rows of the table that have rows in the frame."""
        if self._pieces is None:
            return list(self._rows.runs.used.tolist())
        return sorted({piece.row for piece in self._pieces})

    def own(self, values: pl.Series) -> pl.Series:
        """A column that has a value for each row."""
        if self._nothing or not self._pieces or not self._long:
            return values
        cut, start = [], 0
        for piece in self._pieces:
            cut.append(values.slice(start, piece.size))
            start += piece.size
        return pl.concat(cut, rechunk=False)

    def inherited(self, values: pl.Series) -> pl.Series | pl.Expr:
        """The values of a column of the table for all rows; a literal where they are all the same."""
        present = values[self._used]  # `gather` would plan a query for it, 0.1 ms
        if _constant(present):
            return pl.lit(present.first(), dtype=values.dtype)
        if self._pieces:
            return self._in_pieces(values, dict(zip(self._used, _identities(present), strict=True)))
        if values.dtype in _NUMPY and not present.null_count():
            return pl.Series(values.name, self._rows.runs.spread(values.fill_null(0).to_numpy()))
        return values.gather(self._rows.index)

    def _in_pieces(self, values: pl.Series, identities: Mapping[int, Any]) -> pl.Series:
        pieces = self._pieces or []
        sizes: dict[Any, int] = {}
        for row, size in pieces:
            sizes[identities[row]] = max(size, sizes.get(identities[row], 0))
        shared: dict[Any, pl.Series] = {}
        for row, _ in pieces:
            identity = identities[row]
            if identity not in shared:
                shared[identity] = values.new_from_index(row, sizes[identity])
        return pl.concat([shared[identities[row]].head(size) for row, size in pieces], rechunk=not self._long)


def _pieces(rows: Rows) -> list[Piece] | None:
    """The rows in pieces; None where these would be short."""
    pieces: list[Piece] = []
    most = rows.height // LONG + FEW
    for part, cut, levels, sizes in rows.stretches:
        if cut is not None:
            pieces += _cut_at(cut.pieces, sizes)
            if len(pieces) > most:
                return None
            continue
        start = 0
        for size in levels.chunk_lengths():
            chunk = levels.slice(start, size)
            start += size
            cuts = [0, *((chunk.slice(1) != chunk.head(size - 1)).arg_true() + 1).to_list(), size] if size else []
            if len(pieces) + len(cuts) - 1 > most:
                return None
            numbers = chunk.gather(cuts[:-1]).to_list()
            for number, (low, high) in zip(numbers, pairwise(cuts), strict=True):
                row = part.levels.get(number, part.lost)
                assert row is not None  # rows of levels that do not belong into the frame are not in it
                pieces.append(Piece(row, high - low))
    return pieces


def _cut_at(pieces: Iterable[Piece], sizes: Iterable[int]) -> Iterator[Piece]:
    """Pieces that end where chunks do: polars copies columns that are in other chunks than others of their frame."""
    chunks = iter(sizes)
    left = next(chunks, 0)
    for row, size in pieces:
        rest = size
        while left and left < rest:
            yield Piece(row, left)
            rest -= left
            left = next(chunks, 0)
        yield Piece(row, rest)
        left = left - rest or next(chunks, 0) if left else 0


def _identities(values: pl.Series) -> list[Any]:
    """Something for each value that is equal only where the values are the same to the bit."""
    if values.dtype == pl.Float64:
        return [None if value is None else struct.pack("d", value) for value in values.to_list()]
    return list(range(len(values))) if values.dtype == pl.List else values.to_list()


def _constant(values: pl.Series) -> bool:
    """Whether all values are the same, to the bit, and polars has a literal for them."""
    if not len(values) or values.dtype in _NO_LITERAL or values.n_unique() > 1:
        return False
    if values.dtype != pl.Float64 or values.null_count():
        return True
    return len(set(_identities(values))) == 1 and not values.is_nan().any()
