"""Gather: from a walked unit to the values of each key, by stretches, by groups of one layout, and one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from rigorous_recorder import values as v
from rigorous_recorder.exact import decode_exact

from . import unit as u
from .blocks import block_columns, block_rows
from .kinds import LIST, OTHER, kind_of
from .memory import unhurried
from .notes import UNDECODABLE, type_notes, undecodable, undecodable_block
from .pieces import Piece, split
from .series import DATE, MICROSECONDS, NUMBERS, RANGES, VALUE, Stored, unstore
from .template import NULL, TEXT, Field, Template, compile_template, read_field
from .walk import Block, Loose, Stretch, Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .replay import Finding

LEAST_GROUP: Final = 16
"""Records: a layout that fewer share is not worth the NumPy calls."""
MOST_MISSES: Final = 6
"""After so many layouts that hardly any record shares, records of that length are decoded one by one."""
SAMPLE: Final = 64
"""Records that are tried before all are; so are all of a group that is not larger."""
LONGEST_LAYOUT: Final = 4096
"""Bytes: longer records are decoded one by one."""


_CONTAINERS: Final = frozenset({dict, list})
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode


MOST_CELLS: Final = 1 << 25
"""Rows times keys up to which a unit is made a table of, however much of it is empty.

At this many cells that are all but empty (5,793 rows, each with a key of its own) sealing takes 8 s and 0.7 GB with
floats, 1.3 GB with text, and the pack is 40 times the log.
"""
PER_VALUE: Final = 4
"""Cells for each value, or byte of the log, that are fine beyond that: such a table costs what it holds."""


class TooWideError(Exception):
    """A unit has so many distinct keys for its rows that a table of them would be nearly all empty cells."""


class Gathered:
    """The values of a unit by key.

    Attributes:
        rows: How many there are.
        levels: The local level number of each (uint32).
        columns: By key, in order of first appearance, and by kind: the pieces.
        values: How many values there are so far.
        findings: Records that could not be decoded; they count as records without keys.
    """

    def __init__(self, walk: Walk, *, refuse_wide: bool = False) -> None:
        """Gather all of a unit's values.

        Args:
            walk: Over the unit.
            refuse_wide: Whether to stop as soon as it turns out to be wide.

        Raises:
            TooWideError: It is wide, and that is to be refused.
        """
        self._walk = walk
        self._refuse_wide = refuse_wide
        self.values = 0
        self.rows = walk.rows
        self.levels: NDArray[Any] = walk.levels()
        self.findings: list[Finding] = []
        self._notes = type_notes(walk.events)
        self._noted = {key for kinds in self._notes.values() for key in kinds}
        self._pieces: dict[str, dict[str, list[Piece]]] = {}
        self._first: dict[str, tuple[int, int]] = {}
        loose = []
        for piece in walk.pieces:
            if isinstance(piece, Stretch):
                self._stretch(piece)
            elif isinstance(piece, Block):
                self._block(piece)
            elif isinstance(piece, Loose):
                loose.append(np.arange(piece.row, piece.row + piece.last - piece.first))
        if loose:
            self._loose(np.concatenate(loose))
        self.columns = {key: self._pieces[key] for key in sorted(self._pieces, key=self._first.__getitem__)}

    @property
    def wide(self) -> bool:
        """Whether a table of all keys would be large and nearly all empty."""
        enough = PER_VALUE * max(self.values, len(self._walk.data))
        return len(self._pieces) * self.rows > max(MOST_CELLS, enough)

    def _add(self, key: str, position: int, piece: Piece) -> None:
        if not piece.count:
            return
        first = piece.start if piece.places is None else int(piece.places.min())
        known = self._first.get(key)
        if known is None or (first, position) < known:
            self._first[key] = (first, position)
        self.values += piece.count
        kinds = self._pieces.get(key)
        if kinds is None:
            kinds = self._pieces[key] = {}
            if self._refuse_wide and self.wide:  # what is full, stretches and blocks, was counted before
                raise TooWideError
        kinds.setdefault(piece.kind, []).append(piece)

    def _add_values(self, key: str, position: int, values: list[Any], start: int, places: NDArray[Any] | None) -> None:
        for piece in split(values, start, places):
            self._add(key, position, piece)

    def _add_text(self, key: str, position: int, values: list[Any], start: int, places: NDArray[Any] | None) -> None:
        """As `_add_values`, for single records, whose texts may be times, and whose dicts may have other keys than texts."""
        if not _CONTAINERS.isdisjoint(map(type, values)):
            values = [v.with_text_keys(value, 1) for value in values]
        if key in self._noted:
            rows = np.arange(start, start + len(values)) if places is None else places
            kinds = [self._notes.get(level, {}).get(key) for level in self.levels[rows].tolist()]
            values = [v.revive(value, kind) if kind else value for value, kind in zip(values, kinds, strict=True)]
        self._add_values(key, position, values, start, places)

    # ---- stretches and groups ---------------------------------------------------------------------------------------

    def _stretch(self, stretch: Stretch) -> None:
        for position, field in enumerate(stretch.template.fields):
            if field.dtype:
                values = read_field(field, self._walk.data, stretch.start, stretch.stride, stretch.count)
                self._add(field.key, position, Piece(field.kind, stretch.row, stretch.count, values))
            else:
                self._shared(field, position, stretch.row, stretch.count, None)

    def _shared(self, field: Field, position: int, row: int, count: int, places: NDArray[Any] | None) -> None:
        if field.kind == TEXT and field.key in self._noted:
            self._add_text(field.key, position, [field.value] * count, row, places)
        else:
            self._add(field.key, position, Piece(field.kind, row, count, field.value, places))

    def _loose(self, rows: NDArray[Any]) -> None:
        walk = self._walk
        skip = walk.switches(walk.starts) * u.SWITCH_SIZE
        starts = walk.starts + skip
        lengths = walk.stops - starts
        order = np.argsort(lengths, kind="stable")
        bounds = np.flatnonzero(np.diff(lengths[order])) + 1
        left = []
        for group in np.split(order, bounds):
            length = int(lengths[group[0]])
            rest = group
            if len(group) >= LEAST_GROUP and 0 < length <= LONGEST_LAYOUT:
                rest = self._group(group, length, starts, rows)
            if len(rest):
                left.append(rest)
        if left:
            chosen = np.sort(np.concatenate(left))
            self._decode(rows[chosen], starts[chosen], walk.stops[chosen])

    def _group(self, group: NDArray[Any], length: int, starts: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
        """Take the records of one length by their layouts; those that are left over."""
        data = self._walk.data
        windows = np.ndarray((len(data) - length + 1,), f"V{length}", data, 0, (1,))
        misses = 0
        while len(group) >= LEAST_GROUP and misses < MOST_MISSES:
            at = int(starts[group[0]])
            template = compile_template(bytes(data[at : at + length]))
            if template is None or template.switch:
                break
            sample = group[:: max(1, len(group) // SAMPLE)]
            if np.count_nonzero(_fitting(_bytes_of(windows[starts[sample]]), template)) < SAMPLE // LEAST_GROUP:
                misses += 1
                group = np.roll(group, -1)  # the next try takes another
                continue
            records = _bytes_of(windows[starts[group]])
            fit = _fitting(records, template)
            self._layout(template, records if fit.all() else records[fit], rows[group[fit]])
            group = group[~fit]
        return group

    def _layout(self, template: Template, records: NDArray[Any], rows: NDArray[Any]) -> None:
        for position, field in enumerate(template.fields):
            if field.dtype:
                values = read_field(field, records.data, 0, template.size, len(rows))
                self._add(field.key, position, Piece(field.kind, int(rows[0]), len(rows), values, rows))
            else:
                self._shared(field, position, int(rows[0]), len(rows), rows)

    # ---- one by one -------------------------------------------------------------------------------------------------

    def _decode(self, rows: NDArray[Any], starts: NDArray[Any], stops: NDArray[Any]) -> None:
        view = memoryview(self._walk.data)
        bounds = list(zip(starts.tolist(), stops.tolist(), strict=True))
        with unhurried():
            try:
                records = [_decode(view[start:stop]) for start, stop in bounds]
            except UNDECODABLE:  # keys that are no texts, or no record at all
                records = [self._careful(view[start:stop], start) for start, stop in bounds]
            self._records(records, 0, rows, notes=True)

    def _careful(self, payload: memoryview, start: int) -> dict[str, Any]:
        try:
            return v.decode_record(payload)
        except UNDECODABLE as error:
            self.findings.append(undecodable(start, start + len(payload), error))
            return {}

    def _records(
        self, records: Sequence[dict[str, Any]], start: int, rows: NDArray[Any] | None, *, notes: bool
    ) -> None:
        """Take records that are dicts already."""
        if not records:
            return
        add = self._add_text if notes else self._add_values
        keys = list(records[0])
        if all(list(record) == keys for record in records):
            for position, key in enumerate(keys):
                add(key, position, [record[key] for record in records], start, rows)
            return
        columns: dict[str, tuple[list[int], list[Any]]] = {}
        positions: dict[str, int] = {}
        for place, record in enumerate(records):
            for position, (key, value) in enumerate(record.items()):
                column = columns.get(key)
                if column is None:
                    column = columns[key] = ([], [])
                    positions[key] = position
                column[0].append(place)
                column[1].append(value)
        for key, (places, values) in columns.items():
            chosen = np.array(places)
            add(key, positions[key], values, 0, chosen + start if rows is None else rows[chosen])

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        try:
            if block.event.kind == u.ROWS:
                self._records(block_rows(block.event.payload), block.row, None, notes=False)
                return
            count, columns = block_columns(block.event.payload)
            taken = [_column_pieces(column, block.row, count) for column in columns]
        except UNDECODABLE as error:
            self.findings.append(undecodable_block(block.event, error))
            return
        for position, (column, pieces) in enumerate(zip(columns, taken, strict=True)):
            for piece in pieces:
                self._add(column.name, position, piece)


def _bytes_of(windows: NDArray[Any]) -> NDArray[Any]:
    """Byte strings of one length as rows of bytes."""
    return windows.view("u1").reshape(len(windows), -1)


def _fitting(records: NDArray[Any], template: Template) -> NDArray[Any]:
    """Which of the records, one a row, are of a layout."""
    mask, pattern = np.frombuffer(template.mask, "u1"), np.frombuffer(template.pattern, "u1")
    fit: NDArray[Any] = ((records & mask) == pattern).all(axis=1)
    return fit


_WIDE: Final = {"?": "?", "Q": "u8", "e": "f8", "f": "f8", "d": "f8"}
_KIND: Final = {"?": "bool", "e": "float", "f": "float", "d": "float"}


def _column_pieces(column: Stored, row: int, count: int) -> list[Piece]:
    """A column of a block as pieces.

    Raises:
        ValueError: The column is damaged.
    """
    if column.code == VALUE:
        value = decode_exact(column.data)
        kind = kind_of(value)
        return [Piece(kind, row, count, [value] * count if kind in (LIST, OTHER) else value)]
    if column.code not in NUMBERS and column.code != DATE and column.code not in MICROSECONDS:
        return split(unstore(column, count), row, None)
    code = column.code if column.code in NUMBERS else "q"
    numbers = np.frombuffer(column.data, np.dtype(code).newbyteorder("<"))
    if len(numbers) != count or len(column.missing) not in (0, count):
        raise ValueError(f"the column {column.name!r} should hold {count} values and does not")
    kind = _KIND.get(column.code, "int") if column.code in NUMBERS else column.code
    if column.code in RANGES and count:
        low, high = RANGES[column.code]
        held = numbers[~np.frombuffer(column.missing, "?")] if column.missing else numbers
        if len(held) and not (low <= held.min() and held.max() <= high):
            raise ValueError(f"the column {column.name!r} holds times outside the years 1 to 9999")
    wide = numbers.astype(_WIDE.get(code, "i8"))
    if code == "Q" and int(wide.max(initial=0)) < 2**63:
        wide = wide.astype("i8")
    if not column.missing:
        return [Piece(kind, row, count, wide)]
    missing = np.frombuffer(column.missing, "?")
    present, absent = np.flatnonzero(~missing), np.flatnonzero(missing)
    return [
        Piece(kind, row, len(present), wide[present], present + row),
        Piece(NULL, row, len(absent), None, absent + row),
    ]
