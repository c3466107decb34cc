"""The plan of a flat frame: its columns and their types, its table of levels, and the units that its rows come from.

A plan is made from what a reading knows of levels and from the footers of packs; logs are decoded, since they say
nothing about their columns. It reads no rows: `materialise.py` does that, for all units or for one.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl
from msgspec.structs import replace

from rigorous_recorder.branches import ATTEMPT_KEY
from rigorous_recorder.columns import LINEAGE_KEY, column_names, named
from rigorous_recorder.errors import DamageWarning, InvalidCallError, RecorderError, UnknownKeyError, nearest, warn
from rigorous_recorder.levels import AUTOMATIC
from rigorous_recorder.store.attempt import RUNNING, STALE
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.memory import unhurried
from rigorous_recorder.store.names import EXACT, column_key
from rigorous_recorder.store.snapshot import open_unit, why_gone

from .keepers import Keepers, Table, inherited_keys
from .part import Part, warn_lacking
from .widening import common_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rigorous_recorder.branches import Branch, Condition
    from rigorous_recorder.levels import LevelId
    from rigorous_recorder.parts import UnitView
    from rigorous_recorder.reading import AttemptView, View
    from rigorous_recorder.store.replay import Finding
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


class Column(msgspec.Struct, frozen=True):
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


class Plan(msgspec.Struct, frozen=True, eq=False, dict=True):
    """What a frame will be.

    Attributes:
        columns: In order.
        table: The levels, with the inherited columns under their names in the frame.
        parts: In the order of the rows.
    """

    columns: tuple[Column, ...]
    table: Table
    parts: tuple[Part, ...]

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """By name, the polars type of each column."""
        return {column.name: column.dtype for column in self.columns}

    def released(self) -> Plan:
        """The same plan without what takes memory: what it needs is opened again where it is then."""
        return replace(self, parts=tuple(part.released() for part in self.parts))

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
        chosen = named("columns", columns)
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
    view.check(conditions, branches)
    with unhurried():  # 30,000 levels are as many dicts
        return _plan(view, conditions, branches)


def _plan(view: View, conditions: Sequence[Condition], branches: Sequence[Branch]) -> Plan:
    chosen = [(attempt, attempt.allowed(conditions, branches)) for attempt in view.attempts]
    scope = [(attempt, allowed) for attempt, allowed in chosen if allowed is None or allowed] or chosen
    keepers = Keepers()
    every, parts = [], []
    for attempt, allowed in scope:
        rows = keepers.add(attempt)
        running = attempt.course is None or attempt.course.state in (RUNNING, STALE)
        last = {unit.header.writer: unit for unit in attempt.units} if running else {}
        for unit in attempt.units:
            part = _part(unit, rows, grows=unit is last.get(unit.header.writer)) if unit.rows else None
            if part is not None:
                every.append(part)
                parts.append(
                    _restricted(part, None if allowed is None else {rows[one] for one in allowed & rows.keys()})
                )
    on_disk = all(attempt.place is not None for attempt, _ in scope)
    columns, table = _columns([attempt for attempt, _ in scope], keepers, every, on_disk=on_disk)
    return Plan(columns, table, tuple(part for part in parts if not part.empty))


def _part(unit: UnitView, rows: Mapping[LevelId | None, int], *, grows: bool) -> Part | None:
    """A unit with all its rows; None, with a warning, where it cannot be read any more."""
    where = unit.place.path if unit.place else "A tree in memory"
    try:
        opened = _opened(unit)
    except (RecorderError, OSError) as error:
        warn_lacking(unit.place, unit.rows, error)
        return None
    if opened is None:
        assert unit.place is not None  # what is in memory does not go
        warn_lacking(unit.place, unit.rows, why_gone(unit.place))
        return None
    source, schema, findings = opened
    for finding in findings:
        warn(f"{where}: {finding.sentence}.", DamageWarning)
    if (
        source.rows > unit.rows
    ):  # a log that grew since the levels were read: a key of its new rows alone does not count
        schema = _filled(source, schema, unit.rows)
    levels = {local: rows[level] for local, level in unit.locals.items()}
    exact = frozenset(name.removeprefix(EXACT) for name in schema if name.startswith(EXACT))
    types = {key: dtype for name, dtype in schema.items() if (key := column_key(name)) is not None}
    return Part(source, unit.place, grows, unit.rows, levels, rows[None], True, types, exact)


def _filled(source: UnitSource, schema: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The columns that have values in the first rows, and their types; of a log column by column, since it may be wide."""
    whole = None if isinstance(source, LogSource) else source.frame()
    columns = ((source.frame([name]) if whole is None else whole)[name].head(rows) for name in schema)
    return {column.name: column.dtype for column in columns if column.null_count() < rows}


def _opened(unit: UnitView) -> tuple[UnitSource, dict[str, Any], list[Finding]] | None:
    """A unit, its columns, and what decoding it found wrong beyond what reading it did; None where it is gone."""
    source: UnitSource | None = unit.source
    if source is None and unit.place is not None:
        source = open_unit(unit.place)
    if source is None:
        return None
    known = len(source.findings)
    schema = source.schema()
    return source, schema, source.findings[known:]


def _restricted(part: Part, allowed: set[int] | None) -> Part:
    """The part with the rows of some levels only; whole where these are all that it defines, as `records` has it."""
    return part if allowed is None or allowed.issuperset(part.levels.values()) else part.at(allowed)


class _Used:
    """The rows of the table of levels that records refer to: read only where a column's type depends on it."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = parts

    @cached_property
    def rows(self) -> set[int]:
        """These rows. NumPy, which takes 30 ms to import, is for this and for short runs only."""
        import numpy as np

        from .stretches import looked_up

        found: set[int] = set()
        for part in self._parts:
            cut = part.cut()
            if cut is not None:
                found.update(piece.row for piece in cut.pieces)
                continue
            try:
                locals_ = np.unique(np.asarray(part.source.levels())[: part.rows])
            except (RecorderError, OSError):  # a damaged pack, of which its reading will tell
                continue
            found.update(looked_up(part, locals_).tolist())
        return found


def _columns(
    attempts: list[AttemptView], keepers: Keepers, parts: list[Part], *, on_disk: bool
) -> tuple[tuple[Column, ...], Table]:
    """The columns of the frame, and the table of levels."""
    inherited = inherited_keys(attempts)
    own: dict[str, list[Part]] = {}
    for part in parts:
        for key in part.types:
            own.setdefault(key, []).append(part)
    names = _names([*inherited, *own])
    columns: list[Column] = []
    makers: dict[str, Callable[[], pl.Series]] = {}

    def add_ours(key: str, dtype: Any) -> None:
        columns.append(Column(key, key, dtype, inherited=True, own=False))
        makers[key] = lambda: keepers.ours(key).column(dtype)

    if on_disk:
        add_ours("experiment_number", pl.Int64())
    used = _Used(parts)
    noted = {key for attempt in attempts for key in attempt.notes}  # which no record may have as they are
    for key in inherited:
        values = keepers.inherited(key)
        dtype = values.dtype
        overridden = key in noted and keepers.inherited(key, keepers.defined).dtype != dtype
        if (
            key in own or overridden or not values.settled
        ):  # what all levels with records override makes no text of numbers
            values = keepers.inherited(key, used.rows)
            dtype = common_type([values.typed(), *(part.typed(key) for part in own.get(key, ()))])
            if dtype == pl.Null:
                values = keepers.inherited(key, keepers.defined)
                dtype = values.dtype
        columns.append(Column(names[key], key, dtype, inherited=True, own=key in own))
        makers[names[key]] = partial(values.column, dtype)
    for key in AUTOMATIC[1:] if on_disk else ():
        add_ours(key, AUTOMATIC_TYPES[key])
    for key in (ATTEMPT_KEY, LINEAGE_KEY):
        add_ours(key, pl.String())
    for key, users in own.items():
        if key not in inherited:
            dtype = common_type(part.typed(key) for part in users)
            columns.append(Column(names[key], key, dtype, inherited=False, own=True))
    return tuple(columns), Table(len(keepers), makers)


def _names(keys: Iterable[str]) -> dict[str, str]:
    """By user's key the column's name, with a warning for each that differs."""
    named = column_names(keys)
    for key, name in named.items():
        if name != key:
            warn(
                f"The key {key!r} has the name of a column that frames get from the recorder, so it is the column {name!r}. "
                "Records keep it."
            )
    return named
