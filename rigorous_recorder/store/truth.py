"""Truth: whether what a pack's footer tells of its rows is so. Only verifying and compacting ask, since it needs the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .names import LEVEL
from .schema import told_runs, understood

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from .packed import Pack


def untrue_columns(path: str, columns: list[tuple[str, str]] | None, schema: Mapping[str, Any]) -> str:
    """What is not so of the columns that the footer of the pack at a path tells, as a sentence; empty when all of it is.

    Args:
        path: Of the pack.
        columns: What the footer tells; None for nothing, which is true.
        schema: The columns that the file has.

    Raises:
        FormatError: A pack has no such columns.
    """
    if columns is None:
        return ""
    told = understood(path, columns)
    if list(told.items()) == list(schema.items()):
        return ""
    other = [name for name in {**schema, **told} if schema.get(name) != told.get(name)]
    which = ", ".join(repr(name[:40]) for name in other[:3]) or "in another order"
    return f"its columns are others than its footer tells: {which}{' and more' if len(other) > 3 else ''}"  # noqa: PLR2004


def untrue_levels(runs: list[int] | None, levels: pl.Series) -> str:
    """What is not so of the runs that a footer tells, as a sentence; empty when all of it is, or nothing is told."""
    if runs is None or told_runs(runs).equals(levels):
        return ""
    return "its rows are of other levels than its footer tells"


def untrue(pack: Pack, frame: pl.DataFrame, schema: Mapping[str, Any]) -> str:
    """What is not so of what the footer of a compacted pack tells, as a sentence; empty when all of it is.

    Args:
        pack: The pack.
        frame: Its rows, of which only the levels are needed.
        schema: The columns that the file has.

    Raises:
        FormatError: What it says of a unit cannot be decoded.
    """
    wrong = untrue_columns(pack.path, pack.columns if pack.rows else None, schema)
    for key, place in pack.units.items():
        runs = pack.meta(key).runs
        if not wrong and runs:
            wrong = untrue_levels(runs, frame[LEVEL].slice(pack.firsts[place], pack.rows_of(key)))
    return wrong
