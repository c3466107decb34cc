"""What the distinct lineages of a frame say together: the table of levels, and the printed tree."""

from __future__ import annotations

import datetime as dt
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..branches import ATTEMPT_KEY
from ..columns import LINEAGE_KEY, RECORDS_KEY, column_names
from ..errors import shortened
from ..lineage import value_text
from .lineages import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MAX_LINES: Final = 200
"""Lines of a tree after which levels are no longer opened, whatever was asked for."""
MAX_WIDTH: Final = 100
"""Characters of a level's text in a tree."""
_MARKS: Final = re.compile("%(2C|2F|3D|25)")


class Column(NamedTuple):
    """The values of one key, and the type that holds all of them exactly.

    Attributes:
        name: Of the column.
        kind: "bool", "int", "uint", "float", "text", "bytes", "datetime", "utc", "date", "time" or "timedelta".
        cells: Of this kind; None is missing.
    """

    name: str
    kind: str
    cells: list[Any]


_KINDS: Final = {
    bool: "bool", str: "text", bytes: "bytes", dt.datetime: "datetime", dt.date: "date", dt.time: "time",
    dt.timedelta: "timedelta", float: "float", int: "int",
}  # fmt: skip
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def level_keys(texts: Iterable[str | None]) -> list[str]:
    """All keys that some level has, in order of first appearance."""
    lineages = parsed(text for text in texts if text is not None)
    return list(dict.fromkeys(key for levels in lineages for level in levels for key in level))


def table(counts: Mapping[str | None, int]) -> list[Column]:
    """The table of the levels: a row per lineage, with the nearest value of each key, the lineage and its records.

    Args:
        counts: The number of records of each lineage; None stands for those that have none.
    """
    of_text = iter(parsed(text for text in counts if text is not None))
    lineages = [[] if text is None else next(of_text) for text in counts]
    merged = [{key: value for level in levels for key, value in level.items()} for levels in lineages]
    names = column_names((key for row in merged for key in row), (ATTEMPT_KEY, LINEAGE_KEY, RECORDS_KEY))
    columns = [typed(name, [row.get(key) for row in merged]) for key, name in names.items()]
    return [
        *columns,
        Column(LINEAGE_KEY, "text", list(counts)),
        Column(RECORDS_KEY, "int", list(counts.values())),
    ]


def typed(name: str, values: list[Any]) -> Column:
    """A column of the narrowest type that holds all values exactly; of text, as in a lineage, where none does."""
    kind = _kind([value for value in values if value is not None])
    if kind is None:
        return Column(name, "text", [None if value is None else _as_text(value) for value in values])
    if kind == "float":
        values = [None if value is None else float(value) for value in values]
    return Column(name, kind, values)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)


def _kind(values: list[Any]) -> str | None:
    classes = {value.__class__ for value in values}
    if not classes:
        return "text"
    if classes == {int, float}:
        return "float" if all(int(float(value)) == value for value in values if value.__class__ is int) else None
    if len(classes) > 1:
        return None
    kind = _KINDS.get(classes.pop())
    fits = _FITS.get(kind or "")
    return fits(values) if fits is not None else kind


def _int_kind(values: list[int]) -> str | None:
    if min(values) >= -(2**63) and max(values) < 2**63:
        return "int"
    return "uint" if min(values) >= 0 and max(values) < 2**64 else None


def _datetime_kind(values: list[dt.datetime]) -> str | None:
    aware = {value.tzinfo is not None for value in values}
    return None if len(aware) > 1 else "utc" if aware.pop() else "datetime"


def _time_kind(values: list[dt.time]) -> str | None:
    return None if any(value.tzinfo is not None for value in values) else "time"


def _timedelta_kind(values: list[dt.timedelta]) -> str | None:
    return "timedelta" if all(abs(value // _MICROSECOND) < 2**63 for value in values) else None


_FITS: Final[dict[str, Callable[[list[Any]], str | None]]] = {
    "int": _int_kind,
    "datetime": _datetime_kind,
    "time": _time_kind,
    "timedelta": _timedelta_kind,
}


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
        return sum(1 + node.size() for node in self.below.values())


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
    waiting = deque([top])
    while waiting:
        node = waiting.popleft()
        below = _ends(list(node.below.values()), n)
        if node is not top and lines + len(below) > MAX_LINES:
            break
        lines += len(below)
        opened.add(node)
        waiting.extend(below)
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
