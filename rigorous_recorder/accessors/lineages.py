"""`under` on frames: which distinct lineages, and which distinct values of a column, are meant. Knows no frame library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..branches import (
    ATTEMPT_DIGITS,
    ATTEMPT_KEY,
    Demand,
    check_branch,
    demand,
    is_under,
    same,
    wants_none,
    without_notes,
)
from ..columns import LINEAGE_KEY
from ..errors import FormatError, InvalidCallError, UnknownKeyError, nearest
from ..levels import AUTOMATIC
from ..lineage import parse_lineages
from ..values import short

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ..keeper import RecordKeeper


def need(column: str, names: Collection[str]) -> None:
    """See to it that a frame has a column of ours.

    Raises:
        UnknownKeyError: It has not; the message says how to come by it.
        InvalidCallError: It has two.
    """
    if list(names).count(column) > 1:
        raise InvalidCallError(f"This frame has several columns `{column}`. Hint: drop all but one.")
    if column not in names:
        alike = [name for name in names if str(name).startswith(column)]
        found = f" It has {', '.join(map(repr, alike))}: rename the one that is meant." if alike else ""
        lineage = ", or pass lineage=True there" if column.startswith("rr_") else ""
        raise UnknownKeyError(
            f"This frame has no `{column}` column.{found} Hint: make it with to_pandas() or to_polars(){lineage}, "
            "and keep the column where columns are chosen."
        )


def check_text(value: Any) -> None:
    """See to it that a value of the column of lineages is text.

    Raises:
        FormatError: It is not.
    """
    if not isinstance(value, str):
        raise FormatError(
            f"`{LINEAGE_KEY}` holds what is no lineage: {short(value)} is no text. Hint: the column must stay as "
            "to_pandas() or to_polars() made it."
        )


def parsed(texts: Iterable[str]) -> list[list[dict[str, Any]]]:
    """The levels of each lineage.

    Raises:
        FormatError: One is no lineage, or no text.
    """
    texts = list(texts)
    try:
        for text in texts:
            check_text(text)
            text.encode()  # a lone surrogate in it, or spelled out in a JSON text, is in no file, and in no column of text
        return parse_lineages(texts)
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"`{LINEAGE_KEY}` holds what is no lineage: {error}. Hint: the column must stay as to_pandas() or "
            "to_polars() made it."
        ) from error


class Under:
    """One call of `under` on a frame.

    It is told the distinct lineages of the frame (`learn`), and then says for each whether it is meant; so every text
    is read once, however many rows have it, and however often a lazy frame asks.

    Args:
        branch: A keeper, the text of a lineage, or None.
        keys: What some level must have for each key.
        names: The frame's columns.
        filtering: How this kind of frame is filtered by a value of the column `{}`, for the message.

    Raises:
        TypeError: The branch is neither keeper nor text.
        UnknownKeyError: A column of ours is missing.
        InvalidCallError: The values wanted for a key can be gone over only once.
    """

    def __init__(
        self, branch: RecordKeeper | str | None, keys: Mapping[str, Any], names: Collection[str], filtering: str
    ) -> None:
        need(LINEAGE_KEY, names)
        self._names = names
        self._filtering = filtering
        self._text: str | None = None
        self._given: str | None = branch if isinstance(branch, str) else None
        self._tops: dict[str, None] = {}
        self._demands: dict[str, Demand] = {}
        self._by_column: dict[str, list[Demand]] = {}
        self._known: set[str] = {ATTEMPT_KEY, *AUTOMATIC}
        self._unseen: set[str] = set()
        self._meant: dict[str | None, bool] = {}
        if branch is not None:
            self._restrict(branch)
        for key, wanted in keys.items():
            self._add(key, wanted)

    def _restrict(self, branch: RecordKeeper | str) -> None:
        from ..collection_view import branch_of

        chosen = branch_of(branch)
        self._text = branch if isinstance(branch, str) else branch.lineage
        if chosen.attempt is not None:
            self._add(ATTEMPT_KEY, chosen.attempt[:ATTEMPT_DIGITS])

    def _add(self, key: str, wanted: Any) -> None:
        if key == ATTEMPT_KEY or (key in AUTOMATIC and (key in self._names or key != AUTOMATIC[0])):
            need(key, self._names)
            self._by_column.setdefault(key, []).append(demand(key, wanted))
            return
        self._demands[key] = demand(key, wanted)
        if not wants_none(wanted):
            self._unseen.add(key)

    @property
    def unseen(self) -> bool:
        """Whether there is a key, of conditions or of the text of the branch, that no lineage learnt so far has."""
        return bool(self._unseen) or (self._given is not None and not any(self._meant.values()))

    def learn(self, texts: Iterable[str | None]) -> None:
        """Take note of lineages of the frame; None stands for rows that have none."""
        texts = list(texts)
        for text in texts:
            if text is not None:
                check_text(text)  # what is no text may be unhashable
        new = [text for text in dict.fromkeys(texts) if text not in self._meant]
        if None in new:
            self._meant[None] = self._text is None and self._picks([])
            new.remove(None)
        present = [text for text in new if text is not None]
        lineages = parsed(present)
        for level in {id(level): level for levels in lineages for level in levels}.values():  # lineages share levels
            self._known.update(level)
        for levels in lineages:
            self._tops.update(dict.fromkeys(levels[0]))
            if len(levels) > 1 and AUTOMATIC[0] in levels[1]:  # the first are the notes
                self._tops.update(dict.fromkeys(levels[1]))
        for text, levels in zip(present, lineages, strict=True):
            meant = self._text is None or any(is_under(own, self._text) for own in (text, without_notes(text)))
            self._meant[text] = meant and self._picks(levels)
        self._unseen -= self._known

    def _picks(self, levels: Sequence[Mapping[str, Any]]) -> bool:
        return all(one.holds([level[key] for level in levels if key in level]) for key, one in self._demands.items())

    def check(self) -> None:
        """See to it that some level has each key, once all lineages are learnt. A frame without any has no unknown keys.

        Raises:
            UnknownKeyError: None has it; the message names the nearest, or says that it is a record's own key.
        """
        if not self._meant.keys() - {None}:
            return
        if self._given is not None:
            check_branch(self._given, self._tops)
        if not self._unseen:
            return
        key = min(self._unseen)
        if key in self._names:
            raise UnknownKeyError(
                f"{key!r} is a column, but the key of no level of these rows. "
                f"Hint: under picks branches; pick values with {self._filtering.format(repr(key))}."
            )
        raise UnknownKeyError(f"No level has the key {key!r}.{nearest(key, self._known)}")

    def lineages(self, texts: Iterable[str | None]) -> list[bool]:
        """Which of the lineages, all of them learnt before, are meant."""
        return [self._meant[text] for text in texts]

    def values(self, column: str, values: Iterable[Any]) -> list[bool]:
        """Which distinct values of a column are meant; None and NaN are missing."""
        present = [[] if value is None or same(value, math.nan) else [value] for value in values]
        return [all(one.holds(value) for one in self._by_column[column]) for value in present]

    def decide(self, column: str, values: Sequence[Any]) -> list[bool]:
        """Which of all the distinct values of a column are meant: `learn`, `check` and `lineages`, or `values`.

        Raises:
            UnknownKeyError: No level has a key.
        """
        if column != LINEAGE_KEY:
            return self.values(column, values)
        self.learn(values)
        self.check()
        return self.lineages(values)

    def __iter__(self) -> Iterator[str]:
        """The columns that decide, that of the lineages first."""
        if self._text is not None or self._demands:
            yield LINEAGE_KEY
        yield from self._by_column
