"""The plan of a flat frame: its columns and their types, its table of levels, and the units that its rows come from.

A plan is made from what a reading knows of levels and from the footers of packs; logs are decoded, since they say
nothing about their columns. It reads no rows: `materialise.py` does that, for all units or for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rigorous_recorder.branches import ATTEMPT_KEY
from rigorous_recorder.errors import DamageWarning, InvalidCallError, RecorderError, UnknownKeyError, nearest, warn
from rigorous_recorder.levels import AUTOMATIC
from rigorous_recorder.store.columns import EXACT, column_key, column_name
from rigorous_recorder.store.snapshot import open_unit

from .keepers import LINEAGE_KEY, OURS, Keepers, inherited_keys
from .widening import Typed, bounds_of, common_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rigorous_recorder.branches import Branch, Condition
    from rigorous_recorder.levels import LevelId
    from rigorous_recorder.reading import AttemptView, UnitView, View
    from rigorous_recorder.store.source import UnitSource

AUTOMATIC_TYPES: Final[dict[str, Any]] = {
    "experiment_number": pl.Int64(),
    "error_number": pl.Int64(),
    "had_error": pl.Boolean(),
    "experiment_start_time": pl.Float64(),
    "experiment_end_time": pl.Float64(),
    "experiment_duration": pl.Float64(),
}
"""The types of the automatic columns, whatever an attempt has of them yet."""


@dataclass(frozen=True)
class Column:
    """A column of the frame.

    Attributes:
        name: In the frame.
        key: In records and level data; the same but for a user's key that has the name of a column of ours.
        dtype: The polars type of its values. Whether text becomes a category is decided by who makes the frame.
        inherited: Whether levels have values for it: it is in the table of levels.
        own: Whether records have values of their own for it, which win over inherited ones.
    """

    name: str
    key: str
    dtype: Any
    inherited: bool
    own: bool


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one unit that belong into the frame.

    Attributes:
        source: The unit.
        rows: How many rows it had when it was read; it may have grown since.
        levels: By local level number, the row in the table of levels; only of the levels that belong into the frame.
        lost: The row of the table for records whose level no unit defines; None when they do not belong into the frame.
        whole: Whether all rows belong into the frame.
        types: By key, the polars type of the unit's own column.
        exact: The keys that have a companion column with exact values.
    """

    source: UnitSource
    rows: int
    levels: Mapping[int, int]
    lost: int | None
    whole: bool
    types: Mapping[str, Any]
    exact: frozenset[str]

    def typed(self, key: str) -> Typed:
        """The type of a key's column in this unit."""
        return Typed(self.types[key], lambda: bounds_of(self.source.frame()[column_name(key)]))


@dataclass(frozen=True, eq=False)
class Plan:
    """What a frame will be.

    Attributes:
        columns: In order.
        table: The table of levels: a row for each, with the inherited columns under their names in the frame.
        parts: In the order of the rows.
    """

    columns: tuple[Column, ...]
    table: pl.DataFrame
    parts: tuple[Part, ...]
    schema: Mapping[str, Any] = field(init=False)
    """By name, the polars type of each column."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", {column.name: column.dtype for column in self.columns})

    def select(self, columns: Iterable[str] | None = None, *, lineage: bool = True) -> Plan:
        """The same frame with fewer columns.

        Args:
            columns: The names of those to keep, in the order in which they are to come; None for all.
            lineage: Whether the two columns that describe where a row comes from are among them.

        Raises:
            UnknownKeyError: There is no such column.
            InvalidCallError: One is named twice, or a text is given for the names.
        """
        known = {
            column.name: column for column in self.columns if lineage or column.name not in (ATTEMPT_KEY, LINEAGE_KEY)
        }
        if columns is None:
            return replace(self, columns=tuple(known.values()))
        if isinstance(columns, str):
            raise InvalidCallError(f"columns={columns!r} is a text. Hint: columns=[{columns!r}].")
        chosen = list(columns)
        for name in chosen:
            if name not in known:
                raise UnknownKeyError(f"The frame has no column {name!r}.{nearest(name, known)}")
        if len(set(chosen)) < len(chosen):
            twice = next(name for name in chosen if chosen.count(name) > 1)
            raise InvalidCallError(f"columns= names {twice!r} twice, and a frame has each column once.")
        return replace(self, columns=tuple(known[name] for name in chosen))


def make_plan(view: View, conditions: Sequence[Condition] = (), branches: Sequence[Branch] = ()) -> Plan:
    """Plan the frame of what was read, or of the branch of it that conditions and branches pick.

    A branch has the columns and types of all that was recorded in the attempts that it touches, and if it touches none,
    of everything that was read: they do not depend on which of its rows happen to be there.

    Raises:
        UnknownKeyError: No level has the key of a condition.
    """
    view.check_keys(conditions)
    chosen = [(attempt, attempt.allowed(conditions, branches)) for attempt in view.attempts]
    scope = [(attempt, allowed) for attempt, allowed in chosen if allowed is None or allowed] or chosen
    keepers = Keepers()
    parts = []
    for attempt, allowed in scope:
        rows = keepers.add(attempt)
        for unit in attempt.units:
            part = _part(unit, rows, allowed) if unit.rows else None
            if part is not None:
                parts.append(part)
    on_disk = all(attempt.place is not None for attempt, _ in scope)
    columns, table = _columns([attempt for attempt, _ in scope], keepers, parts, on_disk=on_disk)
    return Plan(columns, table, tuple(part for part in parts if part.levels or part.lost is not None))


def _part(unit: UnitView, rows: Mapping[LevelId | None, int], allowed: set[LevelId] | None) -> Part | None:
    try:
        source = unit.source
        if source is None:
            assert unit.place is not None  # only units with a place are let go of
            source = open_unit(unit.place)
        if source is None:
            warn(f"{unit.place.path if unit.place else ''} was there and is gone: its rows are missing.", DamageWarning)
            return None
        before = len(source.findings)
        schema = source.schema()
    except RecorderError as error:
        warn(f"{error} The frame lacks its {unit.rows:,} rows.", DamageWarning)
        return None
    for finding in source.findings[before:]:
        warn(f"{unit.place.path if unit.place else 'A tree in memory'}: {finding.sentence}.", DamageWarning)
    if (
        source.rows > unit.rows
    ):  # a log that grew since the levels were read: what only its new rows have does not count
        frame = source.frame().head(unit.rows)
        schema = {name: dtype for name, dtype in schema.items() if frame[name].null_count() < unit.rows}
    levels = {local: rows[level] for local, level in unit.locals.items() if allowed is None or level in allowed}
    exact = frozenset(name.removeprefix(EXACT) for name in schema if name.startswith(EXACT))
    types = {key: dtype for name, dtype in schema.items() if (key := column_key(name)) is not None}
    whole = len(levels) == len(unit.locals) and allowed is None
    return Part(source, unit.rows, levels, rows[None] if allowed is None else None, whole, types, exact)


def _columns(
    attempts: list[AttemptView], keepers: Keepers, parts: list[Part], *, on_disk: bool
) -> tuple[tuple[Column, ...], pl.DataFrame]:
    """The columns of the frame, and the table of levels."""
    inherited = inherited_keys(attempts)
    own: dict[str, list[Part]] = {}
    for part in parts:
        for key in part.types:
            own.setdefault(key, []).append(part)
    names = _names([*inherited, *own])
    columns, series = [], []

    def add_ours(key: str, dtype: Any) -> None:
        columns.append(Column(key, key, dtype, inherited=True, own=False))
        series.append(keepers.ours(key).column(dtype).alias(key))

    if on_disk:
        add_ours("experiment_number", pl.Int64())
    for key in inherited:
        values = keepers.inherited(key)
        dtype = common_type([values.typed(), *(part.typed(key) for part in own.get(key, ()))])
        columns.append(Column(names[key], key, dtype, inherited=True, own=key in own))
        series.append(values.column(dtype).alias(names[key]))
    for key in AUTOMATIC[1:] if on_disk else ():
        add_ours(key, AUTOMATIC_TYPES[key])
    for key in (ATTEMPT_KEY, LINEAGE_KEY):
        add_ours(key, pl.String())
    for key, users in own.items():
        if key not in inherited:
            dtype = common_type(part.typed(key) for part in users)
            columns.append(Column(names[key], key, dtype, inherited=False, own=True))
    return tuple(columns), pl.DataFrame({one.name: one for one in series})


def _names(keys: Iterable[str]) -> dict[str, str]:
    """By user's key the column's name: the key, unless that is the name of a column of ours."""
    names = dict.fromkeys(keys)
    named: dict[str, str] = {}
    for key in names:
        name = key
        while name in OURS or (name != key and (name in names or name in named.values())):
            name += "_"
        named[key] = name
        if name != key:
            warn(
                f"The key {key!r} has the name of a column that frames get from the recorder, so it is the column {name!r}. "
                "Records keep it."
            )
    return named
