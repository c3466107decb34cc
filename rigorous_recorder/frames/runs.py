"""The table of runs: one row per attempt, with its state, its info, its times and the fingerprint of its info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rigorous_recorder.branches import ATTEMPT_DIGITS, ATTEMPT_KEY
from rigorous_recorder.errors import warn
from rigorous_recorder.levels import fingerprint

from .widening import Inherited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rigorous_recorder.store.attempt import Course

_FIRST: Final[dict[str, Any]] = {"experiment_number": pl.Int64(), ATTEMPT_KEY: pl.String(), "state": pl.String()}
_LAST: Final[dict[str, Any]] = {
    "error_number": pl.Int64(),
    "had_error": pl.Boolean(),
    "experiment_start_time": pl.Float64(),
    "experiment_end_time": pl.Float64(),
    "experiment_duration": pl.Float64(),
    "n_records": pl.Int64(),
    "error": pl.String(),
    "fingerprint": pl.String(),
}
CATEGORICAL: Final = (ATTEMPT_KEY, "state")


def facts(
    number: int, attempt: str, info: dict[str, Any], course: Course | None, n_records: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the table says of an attempt: what is known of every one, None where that is open, and its info."""
    automatic = {} if course is None else course.automatic(number)
    known = {
        **dict.fromkeys((*_FIRST, *_LAST)),
        **automatic,
        "experiment_number": number,
        ATTEMPT_KEY: attempt[:ATTEMPT_DIGITS],
        "state": None if course is None else course.state,
        "n_records": n_records,
        "error": None if course is None else course.error,
        "fingerprint": fingerprint(info),
    }
    return known, info


def runs_table(attempts: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> pl.DataFrame:
    """The table of runs, with text in the columns of `CATEGORICAL` and wherever the info has it.

    Args:
        attempts: `facts` of each.
    """
    keys = list(dict.fromkeys(key for _, info in attempts for key in info))
    columns: dict[str, pl.Series] = {}

    def add(names: dict[str, Any]) -> None:
        for name, dtype in names.items():
            columns[name] = pl.Series(name, [known[name] for known, _ in attempts], dtype=dtype)

    add(_FIRST)
    for key in keys:
        name = key
        while name in columns or name in _LAST or (name != key and name in keys):
            name += "_"
        if name != key:
            warn(f"The info key {key!r} has the name of a column of the table of runs, so it is the column {name!r}.")
        places = [place for place, (_, info) in enumerate(attempts) if key in info]
        values = Inherited([attempts[place][1][key] for place in places], places, len(attempts))
        columns[name] = values.column(values.typed().dtype)
    add(_LAST)
    return pl.DataFrame(columns)
