"""Parts: the rows of one unit as records, merged with what their levels give them, read when they are asked for."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import FormatError, storing
from .exact import copied
from .record import Record, merge_columns, merge_records
from .store.snapshot import open_unit, was_deleted, why_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .levels import LevelId
    from .reading import AttemptView
    from .store import unit as u
    from .store.snapshot import UnitPlace
    from .store.source import UnitSource

CHUNK: Final = 8192
"""Rows that an iteration reads at a time, or fewer of many columns: so many that they have about `CELLS` values."""
CELLS: Final = 1 << 21
FEWEST: Final = 8
"""Rows that an iteration reads at a time of however many columns."""
FEW: Final = 64
"""Rows up to which single dicts are made faster than columns are read."""

_recent: Final[weakref.WeakKeyDictionary[UnitPart, UnitSource]] = weakref.WeakKeyDictionary()
"""The unit that was read last, with its columns in memory: one, so that memory stays bounded."""


class UnitPart:
    """The rows of one unit, or those of them whose level is allowed."""

    __slots__ = ("__weakref__", "_allowed", "_asked", "_attempt", "_locals", "_place", "_positions", "_rows", "_source")

    def __init__(self, attempt: AttemptView, unit: UnitView, allowed: set[LevelId] | None) -> None:
        self._attempt = attempt
        self._place = unit.place
        self._source = unit.source
        self._rows = unit.rows
        self._locals = unit.locals
        self._allowed = None if allowed is None or allowed.issuperset(unit.locals.values()) else allowed
        self._positions: Sequence[int] | None = None
        self._asked = 0

    def source(self) -> UnitSource:
        """The unit, read again where it is now unless it was small enough to keep.

        Raises:
            RecorderError: It is nowhere any more.
        """
        if self._source is not None:
            return self._source
        assert self._place is not None  # only units with a place are let go of
        source = open_unit(self._place)
        if source is None:
            raise why_gone(self._place)
        return source

    def positions(self, source: UnitSource) -> Sequence[int]:
        """The allowed rows."""
        if self._allowed is None:
            return range(self._rows)
        if self._positions is None:
            wanted = {local for local, level in self._locals.items() if level in self._allowed}
            levels = source.levels()
            self._positions = [row for row in range(self._rows) if int(levels[row]) in wanted]
        return self._positions

    def __len__(self) -> int:
        """How many rows are allowed; levels decide alone where they can."""
        if self._allowed is None:
            return self._rows
        if self._allowed.isdisjoint(self._locals.values()):
            return 0
        return len(self._positions) if self._positions is not None else len(self.positions(self.source()))

    def chunks(self, start: int, stop: int) -> Iterator[Iterator[Record]]:
        """The allowed rows from `start` to before `stop`, merged with what they inherit, some thousand at a time.

        Raises:
            DeletedError: The attempt was deleted meanwhile.
            StoreError: The unit's file cannot be read any more.
        """
        with storing("the records cannot be read", self._place.path if self._place is not None else "in memory"):
            try:
                yield from self._chunks(start, stop)
            except (FormatError, OSError) as error:  # of a pack that is gone, as one that is damaged
                if self._place is not None and was_deleted(self._place.folder):
                    raise why_gone(self._place) from error
                raise

    def _chunks(self, start: int, stop: int) -> Iterator[Iterator[Record]]:
        source = _recent.get(self)
        if source is None:
            source = self.source()
            self._asked += 1
            if stop - start >= CHUNK or self._asked > 1:  # who asks for a second row will ask for more
                source = source.loaded()
                _recent.clear()
                _recent[self] = source
        if self._allowed is None and stop - start <= FEW:
            yield self._chunk(source, source.levels(start, stop), start, stop)
            return
        levels = source.levels()
        step = min(CHUNK, max(FEWEST, CELLS // max(source.width, 1)))
        for low in range(start, stop, step):
            high = min(low + step, stop)
            whole = self._allowed is None
            part = levels[low:high] if whole else [levels[row] for row in self.positions(source)[low:high]]
            yield self._chunk(source, part, low, high)

    def _chunk(self, source: UnitSource, part: Sequence[int], start: int, stop: int) -> Iterator[Record]:
        """The rows [start, stop) of those that are allowed, of which the levels are given."""
        whole = self._allowed is None
        rows = range(start, stop) if whole else self.positions(source)[start:stop]
        locals_ = part.tolist() if hasattr(part, "tolist") else [int(level) for level in part]
        inherited = {level: self._attempt.inherited(self._locals.get(level)) for level in set(locals_)}
        bases = {level: base for level, (base, _) in inherited.items()}
        columns = source.columns(start, stop) if whole and stop - start > FEW else None
        if columns is not None:
            merged = merge_columns(locals_, bases, *columns)
        else:
            merged = merge_records(locals_, bases, source.records(start, stop) if whole else _gather(source, rows))
        if not any(shared for _, shared in inherited.values()):
            return merged
        return self._with_copies(merged, locals_, inherited)

    def _with_copies(
        self, merged: Iterator[Record], levels: list[int], inherited: dict[int, tuple[dict[str, Any], tuple[str, ...]]]
    ) -> Iterator[Record]:
        """Each record with values of its own where what it inherits could be changed: lists, dicts, sets."""
        for level, record in zip(levels, merged, strict=True):
            base, shared = inherited[level]
            for key in shared:
                if record[key] is base[key]:
                    record[key] = copied(base[key])
            yield record


def _gather(source: UnitSource, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Some rows of a unit, read in one stretch where they lie close together."""
    if not len(rows):
        return []
    first, last = rows[0], rows[-1] + 1
    if last - first <= 4 * len(rows) + 64:
        stretch = source.records(first, last)
        return [stretch[row - first] for row in rows]
    return [source.records(row, row + 1)[0] for row in rows]


class UnitView(NamedTuple):
    """One unit as it was read: where it is, its content if that is kept, its rows, and its local level numbers."""

    place: UnitPlace | None
    source: UnitSource | None
    header: u.Header
    rows: int
    locals: dict[int, LevelId]

    def sample(self) -> list[dict[str, Any]]:
        """Some records, own keys only."""
        source = self.source if self.source is not None or self.place is None else open_unit(self.place)
        return [] if source is None else source.records(0, min(self.rows, 100))
