"""What the distinct lineages of a frame say together: the table of levels, and the printed tree."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..branches import ATTEMPT_KEY
from ..columns import LINEAGE_KEY, RECORDS_KEY, column_names
from ..errors import shortened
from .lineages import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import polars as pl

MAX_LINES: Final = 200
"""Lines of a tree after which levels are no longer opened, whatever was asked for."""
MAX_DEPTH: Final = 20
"""Levels below each other after which a tree is no longer opened: each takes four characters of indent."""
MAX_WIDTH: Final = 100
"""Characters of a level's text in a tree."""
_MARKS: Final = re.compile("%(2C|2F|3D|25)")


def level_keys(texts: Iterable[str | None]) -> list[str]:
    """All keys that some level has, in order of first appearance."""
    lineages = parsed(text for text in texts if text is not None)
    return list(dict.fromkeys(key for levels in lineages for level in levels for key in level))


def table(counts: Mapping[str | None, int]) -> list[pl.Series]:
    """The table of the levels: a row per lineage, with the nearest value of each key, the lineage and its records.

    The columns of keys are widened as those of a flat frame are.

    Args:
        counts: The number of records of each lineage; None stands for those that have none.
    """
    import polars as pl

    of_text = iter(parsed(text for text in counts if text is not None))
    lineages = [[] if text is None else next(of_text) for text in counts]
    merged = [{key: value for level in levels for key, value in level.items()} for levels in lineages]
    names = column_names((key for row in merged for key in row), (ATTEMPT_KEY, LINEAGE_KEY, RECORDS_KEY))
    return [
        *(_column(key, merged).alias(name) for key, name in names.items()),
        pl.Series(LINEAGE_KEY, list(counts), dtype=pl.String),
        pl.Series(RECORDS_KEY, list(counts.values()), dtype=pl.Int64),
    ]


def _column(key: str, merged: Sequence[Mapping[str, Any]]) -> pl.Series:
    """The values of a key, in the narrowest type that holds all of them exactly; of text where there is none."""
    import polars as pl

    from ..frames.widening import Inherited
    from ..store.text import text_form

    places = [place for place, row in enumerate(merged) if key in row]
    values = [merged[place][key] for place in places]
    try:
        inherited = Inherited(values, places, len(merged))
        return inherited.column(inherited.dtype)
    except OverflowError:  # an int beyond 64 bits, which no level of ours has, but a text may
        texts = [None if row.get(key) is None else text_form(row[key]) for row in merged]
        return pl.Series(texts, dtype=pl.String)


# ---- the tree ----------------------------------------------------------------------------------------------------


class Tree(str):
    """The text of a tree, which shows itself when it is the last thing in a cell or at a prompt."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The text itself, without quotes."""
        return str(self)


class _Node:
    """A level in the tree: how many records there are at and below it, and the levels directly below."""

    __slots__ = ("below", "records", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.records = 0
        self.below: dict[str, _Node] = {}

    def size(self) -> int:
        """The number of levels below."""
        found, waiting = 0, [self]
        while waiting:
            below = waiting.pop().below.values()
            found += len(below)
            waiting.extend(below)
        return found


def tree(counts: Mapping[str | None, int], n: int) -> Tree:
    """The tree of the levels with their keys and the number of records at and below each.

    Args:
        counts: The number of records of each lineage; None stands for those that have none.
        n: Of more than 2 n levels with the same parent, the first and the last n are shown.
    """
    top = _Node("")
    for text, records in counts.items():
        node = top
        for part in ["(no lineage)"] if text is None else text.split("/"):
            node = node.below.setdefault(part, _Node(part))
            node.records += records
    if not top.below:
        return Tree("(no records)")
    lines = list(_lines(top, n, _opened(top, n)))
    width = max(len(text) for text, _ in lines)
    digits = max(len(number) for _, number in lines)
    shown = [f"{text:<{width}}  {number:>{digits}}".rstrip() for text, number in lines]
    return Tree("\n".join([shown[0] + (" record" if lines[0][1] == "1" else " records"), *shown[1:]]))


def _opened(top: _Node, n: int) -> set[_Node]:
    """The nodes whose children are shown: from the top down, until there are lines enough."""
    opened: set[_Node] = set()
    lines = 0
    waiting = deque([(top, 0)])
    while waiting:
        node, depth = waiting.popleft()
        below = _ends(list(node.below.values()), n)
        if node is not top and lines + len(below) > MAX_LINES:
            break
        lines += len(below)
        opened.add(node)
        if depth + 1 < MAX_DEPTH:
            waiting.extend((one, depth + 1) for one in below)
    return opened


def _ends(nodes: Sequence[_Node], n: int) -> list[_Node]:
    return list(nodes) if len(nodes) <= 2 * n + 1 else [*nodes[:n], *nodes[len(nodes) - n :]]


def _lines(node: _Node, n: int, opened: set[_Node], prefix: str | None = None) -> Iterator[tuple[str, str]]:
    """The lines below a node: the level's text behind its branches, and its number of records."""
    below = list(node.below.values())
    shown = _ends(below, n)
    hidden = below[n : len(below) - n] if len(shown) < len(below) else []
    for place, child in enumerate(shown):
        if hidden and place == n:
            branch = "" if prefix is None else prefix + "├── "
            yield f"{branch}… {len(hidden):,} more", f"{sum(each.records for each in hidden):,}"
        last = place == len(shown) - 1
        branch, deeper = (
            ("", "") if prefix is None else (prefix + "├└"[last] + "── ", prefix + ("    " if last else "│   "))
        )
        more = "" if child in opened or not child.below else f" (… {child.size():,} levels below)"
        yield branch + _readable(child.text) + more, f"{child.records:,}"
        if child in opened:
            yield from _lines(child, n, opened, deeper)


def _readable(text: str) -> str:
    """A level's text for people: without the encoding of `,`, `/`, `=` and `%`, which a lineage needs to be taken apart."""
    text = _MARKS.sub(lambda match: chr(int(match[1], 16)), text.replace(",", ", "))
    return shortened(text or "(no data)", MAX_WIDTH)
