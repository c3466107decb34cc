"""Names: what the columns of a unit's frame are called. Imports nothing."""

from __future__ import annotations

from typing import Final

LEVEL: Final = "rr_level"
EXACT: Final = "rr_exact:"
ESCAPE: Final = "rr_key:"
RESERVED: Final = "rr_"


def column_name(key: str) -> str:
    """The column of a key: the key itself, unless it could be taken for a column of ours, or by polars for more than a name.

    polars renames "", and selects by `*` and by `^...$` as by patterns, even where a single column is asked what it has.
    """
    return ESCAPE + key if not key or key == "*" or key.startswith((RESERVED, "^")) else key


def column_key(name: str) -> str | None:
    """The key of a column, or None for a column of ours."""
    if name.startswith(ESCAPE):
        return name[len(ESCAPE) :]
    return None if name.startswith(RESERVED) else name
