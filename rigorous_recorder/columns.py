"""The columns of a flat frame that are ours, and the names of users' keys beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .branches import ATTEMPT_KEY
from .errors import InvalidCallError
from .levels import AUTOMATIC

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LINEAGE_KEY: Final = "rr_lineage"
"""The column with each record's lineage."""
RECORDS_KEY: Final = "rr_records"
"""The column with the number of records of a lineage, in the table of levels."""
OURS: Final = frozenset({*AUTOMATIC, ATTEMPT_KEY, LINEAGE_KEY})
"""The columns that we add. A user's key of one of these names has another name in frames."""


def column_names(keys: Iterable[str], ours: Collection[str] = OURS) -> dict[str, str]:
    """By user's key the column's name: the key, with `_` behind it as often as it takes where a column of ours has that name.

    Args:
        keys: Of the frame, in order.
        ours: The names that are taken.
    """
    names = dict.fromkeys(keys)
    named: dict[str, str] = {}
    taken: set[str] = set()
    for key in names:
        name = key
        while name in ours or (name != key and (name in names or name in taken)):
            name += "_"
        named[key] = name
        taken.add(name)
    return named


def columns_of(keys: Collection[str], columns: Iterable[str]) -> dict[str, str]:
    """By column of a frame that `column_names` named, the level's key that it stands for.

    The frame has the columns of levels before those of records. So of several that a renamed key may have, as `rr_attempt_`
    and `rr_attempt__`, the first is the level's, if it is not another key of levels itself.

    Args:
        keys: Of levels.
        columns: The names of the frame's columns, in order.
    """
    renamed = {ATTEMPT_KEY, LINEAGE_KEY} & set(keys)  # levels have no automatic keys of the user
    found: dict[str, str] = {}
    for name in columns:
        key = str(name).rstrip("_")
        if name in keys and name not in (ATTEMPT_KEY, LINEAGE_KEY):
            found[name] = name
        elif name != key and key in renamed:
            found[name] = key
            renamed.remove(key)
    return found


def named(argument: str, names: object) -> list[str]:
    """The names of columns that were given for an argument, as a list.

    Raises:
        InvalidCallError: They are no collection of texts.
    """
    if isinstance(names, str):
        raise InvalidCallError(f"{argument}={names!r} is a text. Hint: {argument}=[{names!r}].")
    try:
        listed = list(names)  # type: ignore[call-overload]
    except TypeError:
        listed = [names]
        found = repr(names)
    else:
        found = next((repr(name) for name in listed if not isinstance(name, str)), "")
    if found:
        raise InvalidCallError(
            f"{argument}= takes the names of columns, and was given {found}. Hint: a list of texts, as {argument}=['loss']."
        )
    return [str(name) for name in listed]
