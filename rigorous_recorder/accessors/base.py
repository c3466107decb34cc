"""What `.rr` offers on every kind of frame; how each library does it is in `pandas` and `polars`."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..branches import ATTEMPT_KEY
from ..columns import LINEAGE_KEY, columns_of
from ..errors import InvalidCallError, UnknownKeyError, nearest
from ..levels import AUTOMATIC
from .lineages import Under, check_text, need
from .outline import Tree, level_keys, table, tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from ..keeper import RecordKeeper

Frame = TypeVar("Frame")
"""The frame that the accessor stands on."""
Table = TypeVar("Table")
"""A frame in memory of the same library."""


class Accessor(ABC, Generic[Frame, Table]):
    """Branches of the tree out of a flat frame. Reads the columns `rr_lineage` and `rr_attempt`, and keeps nothing.

    Args:
        frame: The flat frame, as `to_pandas()`, `to_polars()` or `scan()` made it, or any part of one.
    """

    _FILTERING = "filter"
    """How a frame of this library is filtered by a value of the column `{}`."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        """What there is, for whoever looks at it."""
        names = ", ".join(name for name in dir(self) if not name.startswith("_"))
        return f"<.rr of a {type(self._frame).__name__}: {names}>"

    def under(self, branch: RecordKeeper | str | None = None, /, **keys: Any) -> Frame:
        """The rows of a branch, in their order.

        Each key must match at some level of the lineage, also where a nearer level or the record overrides it. Numbers
        compare by value, booleans only with booleans, text only with text; a list, set or array is any-of; so is a tuple,
        which also matches its equal; None means that no level sets the key; a callable gets each value. The automatic
        keys and `rr_attempt` match their columns.

        Args:
            branch: A keeper (its attempt and its lineage, and all below), or the text of a lineage.
            **keys: What some level must have for each key.

        Raises:
            KeyError: No level has a key, or the frame has no `rr_lineage`. Of a LazyFrame, the former when it is collected.
            TypeError: The branch is neither keeper nor text.
            ValueError: The values wanted for a key can be gone over only once (a generator).
        """
        return self._under(Under(branch, keys, self._names(), self._FILTERING))

    def levels(self) -> Table:
        """The distinct lineages, a row each: their keys as columns, `rr_lineage`, and `rr_records`, their number.

        Where several levels have a key, the nearest counts. The columns have the types that inherited keys have in a flat
        frame of these rows, text as categories. A LazyFrame reads its lineages for this.

        Raises:
            KeyError: The frame has no `rr_lineage`.
        """
        return self._table(table(self._counted()))

    def tree(self, n: int = 5) -> Tree:
        """The tree of the levels, with their keys and the number of records at and below each, as text that prints well.

        Args:
            n: Of many levels with the same parent, the first and the last n are shown.

        Raises:
            KeyError: The frame has no `rr_lineage`.
            ValueError: n is no int, or not positive.
        """
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
            raise InvalidCallError(
                f"A tree shows the first and last n levels, and n={n!r}. Hint: n is an int, at least 1."
            )
        return tree(self._counted(), operator.index(n))

    @property
    def inherited(self) -> list[str]:
        """The columns whose keys some level has, and the automatic ones. Those of `rr_` are neither these nor own."""
        names = self._names()
        of_levels = {*AUTOMATIC, *columns_of(level_keys(self._counted()), names)}
        return [name for name in names if name in of_levels]

    @property
    def own(self) -> list[str]:
        """The columns of the records' own keys."""
        others = {LINEAGE_KEY, ATTEMPT_KEY, *self.inherited}
        return [name for name in self._names() if name not in others]

    def drop_inherited(self) -> Frame:
        """The frame without the inherited columns. What they held is still in `rr_lineage`, and `under` works on.

        A column that levels and records share is inherited: with it go the values that records had of their own.
        """
        return self._drop(self.inherited)

    def latest(self, *steps: str) -> Frame:
        """Of rows with equal attempt, lineage and step the last, in their order: what counts after a resume.

        Rows without a step (it is missing, or NaN) and rows without a lineage all stay. Siblings with equal data have equal
        lineages: where both have a step, only the last row of the two stays. Give such siblings a key that tells them apart,
        or name a further column here that does.

        Args:
            *steps: The column, or columns, that number the steps.

        Raises:
            KeyError: The frame lacks a column.
            ValueError: No column is named.
        """
        if not steps:
            raise InvalidCallError("latest needs the column that numbers the steps. Hint: latest('step').")
        names = self._names()
        for column in (LINEAGE_KEY, ATTEMPT_KEY):
            need(column, names)
        for step in steps:
            if step not in names:
                raise UnknownKeyError(f"This frame has no column {step!r}.{nearest(step, names)}")
        return self._latest([step for step in dict.fromkeys(steps) if step not in (LINEAGE_KEY, ATTEMPT_KEY)])

    def _counted(self) -> dict[str | None, int]:
        need(LINEAGE_KEY, self._names())
        counts = self._counts()
        for text, _ in counts:
            if text is not None:
                check_text(text)  # what is no text may be unhashable
        return dict(counts)

    @abstractmethod
    def _names(self) -> list[str]:
        """The columns."""

    @abstractmethod
    def _under(self, under: Under) -> Frame:
        """The rows that are meant."""

    @abstractmethod
    def _counts(self) -> list[tuple[str | None, int]]:
        """The number of rows of each distinct lineage, in order of first appearance."""

    @abstractmethod
    def _table(self, columns: Sequence[pl.Series]) -> Table:
        """A frame in memory with these columns; its `rr_lineage` is of the type that it has here."""

    @abstractmethod
    def _drop(self, names: list[str]) -> Frame:
        """The frame without some columns."""

    @abstractmethod
    def _latest(self, steps: Sequence[str]) -> Frame:
        """The last rows of each attempt, lineage and step, and the rows that have no step.

        Each step is named once, and none of them is the attempt or the lineage.
        """
