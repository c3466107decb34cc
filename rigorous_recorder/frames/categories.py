"""Categories: which columns of a frame are categorical."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import polars as pl

from rigorous_recorder.branches import ATTEMPT_KEY
from rigorous_recorder.columns import LINEAGE_KEY, named
from rigorous_recorder.errors import InvalidCallError, UnknownKeyError, nearest

if TYPE_CHECKING:
    from .plan import Plan

Categories = str | Collection[str]
"""One of the words of `WORDS`, or the names of the columns."""

WORDS: Final = ("text", "all", "none")
_ALWAYS: Final = frozenset({ATTEMPT_KEY, LINEAGE_KEY})


def chosen(plan: Plan, categories: Categories, *, only_text: bool) -> frozenset[str]:
    """The names of the plan's columns that are to be categorical; the two that describe where a row comes from always.

    Args:
        plan: Of the frame.
        categories: "text" for inherited text, "all" for everything inherited, "none", or the names of columns.
        only_text: Whether the library has categories of text only.

    Raises:
        UnknownKeyError: There is no such column.
        InvalidCallError: It is none of these words, or a column named is of a type that has no categories.
    """
    able = {
        column.name
        for column in plan.columns
        if column.dtype == pl.String or not (only_text or column.dtype in (pl.List, pl.Binary, pl.Null))
    }
    inherited = {column.name for column in plan.columns if column.inherited}
    text = {column.name for column in plan.columns if column.dtype == pl.String}
    if isinstance(categories, str):
        if categories not in WORDS:
            raise InvalidCallError(
                f"categories={categories!r} is unknown. Hint: it is one of {', '.join(map(repr, WORDS))}, or a list of keys."
            )
        picked = {"text": inherited & text, "all": inherited & able, "none": set()}[categories]
        return frozenset(picked | (text & _ALWAYS))
    names = named("categories", categories)
    for name in names:
        if name not in plan.schema:
            raise UnknownKeyError(f"The frame has no column {name!r} for categories=.{nearest(name, plan.schema)}")
        if name not in able:
            what = "has categories of text only" if only_text else "has no categories of such values"
            raise InvalidCallError(
                f"The column {name!r} is {plan.schema[name]}, and the library {what}. Hint: leave it out of categories=."
            )
    return frozenset({*names, *(text & _ALWAYS)})
