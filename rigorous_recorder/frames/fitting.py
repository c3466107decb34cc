"""Fitting: whether what a frame takes at least can be had at all, asked before anything of it is read.

A few kilobytes of equal values stand for any number of rows, honestly or not: `add_records(x=numpy.zeros(10**8))` makes such a
pack as well. So nothing is refused for how much it claims; what is refused is what this process cannot have. Else the system
ends it, or some other process, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rigorous_recorder.errors import TooLargeError
from rigorous_recorder.store.packsource import PackSource

from .available import available

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .materialise import Asked
    from .plan import Column

SMALL: Final = 1 << 26
"""Bytes for which it is not asked whether they are to be had."""
_LEVEL: Final = 4
_WIDEST: Final = 16
_WIDTHS: Final = {pl.Boolean: 1 / 8, pl.Date: 4, pl.String: _WIDEST, pl.Binary: _WIDEST, pl.Null: 0}


def least(asked: Iterable[Asked], own: Sequence[Column]) -> tuple[int, int]:
    """How many rows these parts bring for certain, and the bytes that these take at least: their levels and columns alone.

    The levels of a pack that tells its runs are not read.
    """
    rows, size = 0, 0.0
    for part, where in asked:
        if where is None and part.whole:
            told = isinstance(part.kept, PackSource) and part.kept.runs is not None
            width = sum(_width(part.types[column.key]) for column in own if column.key in part.types)
            rows += part.rows
            size += part.rows * (width if told else _LEVEL + width)
    return rows, int(size)


def _width(dtype: Any) -> float:
    return _WIDTHS.get(dtype.base_type() if hasattr(dtype, "base_type") else dtype, 8)


def refuse_what_does_not_fit(asked: Sequence[Asked], own: Sequence[Column]) -> None:
    """Refuse a frame, or the part of it that is read at once, of which it is certain that it finds no room.

    Raises:
        TooLargeError: It takes more than this process may have.
    """
    if sum(part.rows for part, _ in asked) * (_LEVEL + _WIDEST * len(own)) <= SMALL:  # many parts may have many columns
        return
    rows, size = least(asked, own)
    most = None if size <= SMALL else available()
    if most is not None and size > most:
        raise TooLargeError(
            f"{rows:,} records would take {_shown(size)} at least in a frame, and this process can have {_shown(most)}. "
            "Hint: columns=[...] and under(...) make it smaller, and records are read bit by bit."
        )


def _shown(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
