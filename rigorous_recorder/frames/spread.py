"""Spread: the inherited columns of a polars frame, from the few levels to all rows, each in the fastest way there is for it."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .materialise import Rows

_NUMPY: Final = (pl.Int64(), pl.UInt64(), pl.Float64())
"""Types whose columns are spread over short runs by NumPy and taken over by polars without a copy."""

_NO_LITERAL: Final = (pl.List, pl.Binary)
LONG: Final = 10_000
"""Rows: chunks so long on average are worth being looked at one by one."""
_MOST: Final = 1024
"""Levels between the lowest and the highest of a chunk of which each is looked at."""


class _Chunk(NamedTuple):
    """Rows that lie together in the columns that were read.

    Attributes:
        size: How many.
        numbers: Of each row's level, the local number, less the lowest.
        rows: Of each local number from the lowest to the highest, the row in the table of levels; -1 for one that does not
            occur.
    """

    size: int
    numbers: pl.Series
    rows: list[int]


class Spread:
    """Columns of the table of levels, spread over rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._chunks = _chunks(rows)

    @cached_property
    def _used(self) -> list[int]:
        """The rows of the table that have rows in the frame, and maybe some that have none."""
        if self._chunks is None:
            return list(self._rows.runs.used.tolist())
        return sorted({row for chunk in self._chunks for row in chunk.rows if row >= 0})

    def column(self, values: pl.Series) -> pl.Series | pl.Expr:
        """The values of one column for all rows; a literal where they are all the same."""
        present = values.gather(self._used)
        if _constant(present):
            return pl.lit(present.first(), dtype=values.dtype)
        if self._chunks and len(self._chunks) * LONG <= self._rows.height:
            return _by_chunks(values, self._chunks, dict(zip(self._used, _identities(present), strict=True)))
        if values.dtype in _NUMPY and not present.null_count():
            return pl.Series(values.name, self._rows.runs.spread(values.fill_null(0).to_numpy()))
        return values.gather(self._rows.index)


def _chunks(rows: Rows) -> list[_Chunk] | None:
    """The chunks of the rows; None where the levels of one are many, or unknown."""
    chunks = []
    for part, levels in rows.stretches:
        start = 0
        for size in levels.chunk_lengths():
            numbers = levels.slice(start, size)
            start += size
            if not size:
                continue
            low: Any = numbers.min()
            high: Any = numbers.max()
            if high - low >= _MOST or not all(number in part.levels for number in range(low, high + 1)):
                return None
            if low:
                numbers = numbers - low
            chunks.append(_Chunk(size, numbers, [part.levels[number] for number in range(low, high + 1)]))
    return chunks


def _by_chunks(values: pl.Series, chunks: Sequence[_Chunk], identities: Mapping[int, Any]) -> pl.Series:
    """A column in the chunks of the columns that were read; those that have one value throughout share its memory.

    Of 3 M rows in 15 packs, a number that is one per experiment takes 3 MB instead of 24, and 0.5 ms instead of 8: fresh
    memory is what takes the time.
    """
    longest = max(chunk.size for chunk in chunks)
    shared: dict[Any, pl.Series] = {}
    pieces = []
    for chunk in chunks:
        found = {identities[row]: row for row in chunk.rows if row >= 0}
        if len(found) == 1:
            ((identity, row),) = found.items()
            if identity not in shared:
                shared[identity] = values.new_from_index(row, longest)
            pieces.append(shared[identity].head(chunk.size))
        else:
            here = values.gather(pl.Series([None if row < 0 else row for row in chunk.rows], dtype=pl.UInt32))
            pieces.append(here.gather(chunk.numbers))
    return pl.concat(pieces, rechunk=False)


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
