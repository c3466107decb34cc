"""The plan of a flat frame: its columns and their types, its table of levels, and the units that its rows come from.

A plan is made from what a reading knows of levels and from the footers of packs; logs are decoded, since they say
nothing about their columns. It reads no rows: `materialise.py` does that, for all units or for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rigorous_recorder.branches import ATTEMPT_KEY
from rigorous_recorder.errors import DamageWarning, InvalidCallError, RecorderError, UnknownKeyError, nearest, warn
from rigorous_recorder.levels import AUTOMATIC
from rigorous_recorder.reading import KEEP
from rigorous_recorder.store import files
from rigorous_recorder.store.attempt import RUNNING, STALE
from rigorous_recorder.store.columns import EXACT, column_key, column_name
from rigorous_recorder.store.memory import unhurried
from rigorous_recorder.store.snapshot import AGAIN, open_unit
from rigorous_recorder.store.source import LogSource, PackSource

from .keepers import LINEAGE_KEY, OURS, Keepers, inherited_keys
from .widening import Typed, bounds_of, common_type

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rigorous_recorder.branches import Branch, Condition
    from rigorous_recorder.levels import LevelId
    from rigorous_recorder.reading import AttemptView, UnitView, View
    from rigorous_recorder.store.replay import Finding
    from rigorous_recorder.store.snapshot import UnitPlace
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

SPARSE: Final = 4
"""Local level numbers up to so many times their count (and a few thousand) are looked up in a table."""


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
        kept: The unit, unless it is to be opened again when it is needed.
        place: Where it is; None in memory.
        grows: Whether somebody may still be writing it.
        rows: How many rows it had when it was read; it may have grown since.
        levels: By local level number, the row in the table of levels; -1 for a level that does not belong into the frame.
        lost: The row of the table for records whose level no unit defines; None when they do not belong into the frame.
        whole: Whether all rows belong into the frame.
        types: By key, the polars type of the unit's own column.
        exact: The keys that have a companion column with exact values.
    """

    kept: UnitSource | None
    place: UnitPlace | None
    grows: bool
    rows: int
    levels: Mapping[int, int]
    lost: int | None
    whole: bool
    types: Mapping[str, Any]
    exact: frozenset[str]

    @property
    def source(self) -> UnitSource:
        """The unit; of a released part, read anew each time."""
        opened = self.opened().kept
        assert opened is not None  # that is what opening is for
        return opened

    def opened(self) -> Part:
        """The part with its unit at hand, from where it is now.

        Raises:
            RecorderError: The unit is gone.
        """
        if self.kept is not None and not (isinstance(self.kept, PackSource) and not files.exists(self.kept.path)):
            return self
        assert self.place is not None  # only units with a place are let go of
        source = open_unit(self.place)
        if source is None:
            raise RecorderError(
                f"{self.place.path} was there and is gone. Hint: was the collection moved or cleaned up?"
            )
        return replace(self, kept=source)

    def released(self) -> Part:
        """The part without what takes memory. A log that may grow is kept: later it might have other types."""
        large = isinstance(self.kept, LogSource) and self.place is not None and len(self.kept.data) > KEEP
        return replace(self, kept=None) if large and not self.grows else self

    def at(self, rows: Collection[int]) -> Part:
        """The part with the rows only of levels that have these rows in the table of levels."""
        levels = {local: row if row in rows else -1 for local, row in self.levels.items()}
        lost = self.lost if self.lost in rows else None
        if levels == self.levels and lost == self.lost:
            return self
        return replace(self, levels=levels, lost=lost, whole=False)

    @property
    def empty(self) -> bool:
        """Whether no record of it can belong into the frame."""
        return self.lost is None and all(row < 0 for row in self.levels.values())

    def typed(self, key: str) -> Typed:
        """The type of a key's column in this unit."""
        return Typed(self.types[key], lambda: bounds_of(self.source.frame()[column_name(key)]))

    def looked_up(self, locals_: NDArray[Any]) -> NDArray[Any]:
        """The rows in the table of levels of local level numbers; -1 where one does not belong into the frame."""
        other = -1 if self.lost is None else self.lost
        known = np.array(sorted(self.levels), "i8")
        rows = np.array([self.levels[local] for local in known.tolist()], "i8")
        if not len(known):
            return np.full(len(locals_), other)
        highest = int(known[-1])
        found: NDArray[Any]
        if highest < SPARSE * len(known) + 4096:
            table = np.full(highest + 2, other)
            table[known] = rows
            found = table[np.minimum(locals_, highest + 1)]
        else:
            places = np.minimum(np.searchsorted(known, locals_), len(known) - 1)
            found = np.where(known[places] == locals_, rows[places], other)
        return found


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
    except RecorderError as error:
        warn(f"{error} The frame lacks its {unit.rows:,} rows.", DamageWarning)
        return None
    if opened is None:
        warn(f"{where} was there and is gone. The frame lacks its {unit.rows:,} rows.", DamageWarning)
        return None
    source, schema, findings = opened
    for finding in findings:
        warn(f"{where}: {finding.sentence}.", DamageWarning)
    if (
        source.rows > unit.rows
    ):  # a log that grew since the levels were read: a key of its new rows alone does not count
        frame = source.frame().head(unit.rows)
        schema = {name: dtype for name, dtype in schema.items() if frame[name].null_count() < unit.rows}
    levels = {local: rows[level] for local, level in unit.locals.items()}
    exact = frozenset(name.removeprefix(EXACT) for name in schema if name.startswith(EXACT))
    types = {key: dtype for name, dtype in schema.items() if (key := column_key(name)) is not None}
    return Part(source, unit.place, grows, unit.rows, levels, rows[None], True, types, exact)


def _opened(unit: UnitView) -> tuple[UnitSource, dict[str, Any], list[Finding]] | None:
    """A unit, its columns, and what decoding it found wrong beyond what reading it did; None where it is gone.

    The last record of a live log may have been copied in the middle of a store. So what cannot be decoded is read again,
    until the same is wrong twice.
    """
    source: UnitSource | None = unit.source
    if source is None and unit.place is not None:
        source = open_unit(unit.place)
    findings: list[Finding] = []
    for _ in range(AGAIN):
        if source is None:
            return None
        before, known = findings, len(source.findings)
        schema = source.schema()
        findings = source.findings[known:]
        opened = source, schema, findings
        if not findings or findings == before or unit.place is None:
            break
        source = open_unit(unit.place)
    return opened


def _restricted(part: Part, allowed: set[int] | None) -> Part:
    """The part with the rows of some levels only; whole where these are all that it defines, as `records` has it."""
    return part if allowed is None or allowed.issuperset(part.levels.values()) else part.at(allowed)


class _Used:
    """The rows of the table of levels that records refer to: read only where a column's type depends on it."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = parts

    @cached_property
    def rows(self) -> set[int]:
        """These rows."""
        found: set[int] = set()
        for part in self._parts:
            locals_ = np.unique(np.asarray(part.source.levels())[: part.rows])
            found.update(part.looked_up(locals_).tolist())
        return found


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
    used = _Used(parts)
    for key in inherited:
        values = keepers.inherited(key)
        dtype = values.typed().dtype
        if key in own or not values.settled:  # a value that every level with records overrides makes no text of numbers
            values = keepers.inherited(key, used.rows)
            dtype = common_type([values.typed(), *(part.typed(key) for part in own.get(key, ()))])
            if dtype == pl.Null:
                values = keepers.inherited(key, keepers.defined)
                dtype = values.typed().dtype
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
