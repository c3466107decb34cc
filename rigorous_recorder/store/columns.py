"""Columns: the rows of a unit as one polars frame that gives back every value exactly, and records from such a frame.

Of each key the frame has a column of the narrowest type that holds all its values, and where a value of that column is
not the record's own in value and type (an explicit None, an int among floats, a dict) a sparse companion has the exact
one. Null in both means that the record lacks the key.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rigorous_recorder import values as v
from rigorous_recorder.errors import FormatError
from rigorous_recorder.exact import encode_exact

from . import unit as u
from .gather import Gathered
from .kinds import LIST, OTHER, TYPES, kind_of
from .names import EXACT, LEVEL, column_key, column_name
from .pieces import Piece, split
from .template import FLOAT, INT, NULL, TEXT
from .text import text_form
from .walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from .replay import Event, Finding, Replay
    from .unit import Header

_NONE: Final = encode_exact(None)
MOST_TEXT: Final = 1 << 32
"""Characters of a column: more are of a block that says of a few long values that millions of rows have them."""


class Decoded:
    """A unit, decoded.

    Attributes:
        header, events, rows, findings, unverified: As of `replay.Replay`.
        beat: The writer's last sign of life in it, in seconds since the epoch.
        levels: The local level number of each row (uint32).
        wide: Whether there are so many keys that columns of them would be nearly all empty cells.
    """

    def __init__(self, data: bytes | memoryview, *, refuse_wide: bool = False) -> None:
        """Decode the unit in `data`.

        Args:
            data: Of the unit's log.
            refuse_wide: Whether to stop as soon as it turns out to be wide.

        Raises:
            ValueError: The header is damaged, so nothing can be read.
            TooWideError: It is wide, and that is to be refused.
        """
        walk = Walk(data)
        gathered = Gathered(walk, refuse_wide=refuse_wide)
        self.header: Header = walk.header
        self.beat = u.unpack_beat(data[: u.PAGE], walk.header)
        self.events: list[Event] = walk.events
        self.rows: int = walk.rows
        self.unverified: int = walk.unverified
        self.findings: list[Finding] = [*walk.findings, *gathered.findings]
        self.levels: NDArray[Any] = gathered.levels
        self.wide = gathered.wide
        self._columns = gathered.columns

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows as columns: `rr_level`, its keys in order of first appearance, then the companions."""
        companions = []
        columns = [self._level()]
        for key, kinds in self._columns.items():
            column, exact = _Column(kinds, self.rows).built()
            columns.append(column.alias(column_name(key)))
            if exact is not None:
                companions.append(exact.alias(EXACT + key))
        return pl.DataFrame(columns + companions)

    def select(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns of the frame. Of a wide unit, the others are not made."""
        if not self.wide:
            return self.frame.select(names)
        made: dict[str, pl.Series] = {LEVEL: self._level()}
        for name in names:
            key = name.removeprefix(EXACT) if name.startswith(EXACT) else column_key(name)
            if key is not None and name not in made:
                column, exact = _Column(self._columns[key], self.rows).built()
                made[column_name(key)] = column.alias(column_name(key))
                if exact is not None:
                    made[EXACT + key] = exact.alias(EXACT + key)
        return pl.DataFrame([made[name] for name in names])

    def schema(self) -> dict[str, Any]:
        """The columns of the frame and their types. Of a wide unit, from its values alone, without the empty cells."""
        if not self.wide:
            return dict(self.frame.schema)
        schema: dict[str, Any] = {LEVEL: pl.UInt32()}
        companions: dict[str, Any] = {}
        for key, kinds in self._columns.items():
            column, exact = _Column(*_without_gaps(kinds)).built()
            schema[column_name(key)] = column.dtype
            if exact is not None:
                companions[EXACT + key] = exact.dtype
        return schema | companions

    def _level(self) -> pl.Series:
        return pl.Series(LEVEL, self.levels, dtype=pl.UInt32)


def _without_gaps(kinds: dict[str, list[Piece]]) -> tuple[dict[str, list[Piece]], int]:
    """The same values, in as many rows as there are of them."""
    rows = 0
    moved: dict[str, list[Piece]] = {}
    for kind, pieces in kinds.items():
        for piece in pieces:
            moved.setdefault(kind, []).append(Piece(kind, rows, piece.count, piece.values))
            rows += piece.count
    return moved, rows


def unit_frame(unit: bytes | memoryview | Replay) -> pl.DataFrame:
    """The rows of a unit as columns: `rr_level`, its keys in order of first appearance, then the companions.

    Raises:
        ValueError: The unit's header is damaged.
    """
    return Decoded(unit if isinstance(unit, (bytes, memoryview)) else unit.data).frame


def column_of(values: list[Any], places: NDArray[Any] | None, rows: int) -> pl.Series:
    """Python values as a column of the narrowest type that holds them all, or of text, without its companion.

    Args:
        values: Those that are there.
        places: Their rows; None when they are those of all rows.
        rows: How many rows the column has; the others are null.
    """
    kinds: dict[str, list[Piece]] = {}
    for piece in split(values, 0, places) if values else ():
        kinds.setdefault(piece.kind, []).append(piece)
    return _Column(kinds, rows).built()[0]


class _Column:
    """One key's values on the way to a column: the pieces by kind, and what its companion will hold."""

    __slots__ = ("exact_rows", "exact_values", "kinds", "rows")

    def __init__(self, kinds: dict[str, list[Piece]], rows: int) -> None:
        self.kinds = dict(kinds)
        self.rows = rows
        self.exact_rows: list[NDArray[Any]] = []
        self.exact_values: list[bytes] = []

    def built(self) -> tuple[pl.Series, pl.Series | None]:
        """The column, and its companion where it needs one."""
        for piece in self.kinds.pop(NULL, ()):
            self._keep(piece.indices(), [_NONE] * piece.count)
        column = self._column()
        if not self.exact_values:
            return column, None
        exact = pl.Series(self.exact_values, dtype=pl.Binary)
        return column, _spread(exact, np.concatenate(self.exact_rows), self.rows)

    def _keep(self, rows: NDArray[Any], encoded: list[bytes]) -> None:
        if encoded:
            self.exact_rows.append(rows)
            self.exact_values.extend(encoded)

    def _column(self) -> pl.Series:
        kinds = set(self.kinds)
        if not kinds:
            return pl.Series([None], dtype=pl.Null).new_from_index(0, self.rows)
        column = None
        if kinds == {INT}:
            column = self._ints()
        elif kinds == {INT, FLOAT}:
            column = self._widened()
        elif kinds == {LIST}:
            column = self._lists()
        elif len(kinds) == 1 and OTHER not in kinds:
            kind = kinds.pop()
            column = _assemble(self.kinds[kind], TYPES[kind], self.rows)
        return self._texts() if column is None else column

    def _ints(self) -> pl.Series | None:
        """Int64, else UInt64; None where neither holds all."""
        low = min(int(piece.numbers().min()) for piece in self.kinds[INT])
        high = max(int(piece.numbers().max()) for piece in self.kinds[INT])
        if high < 2**63:
            return _assemble(self.kinds[INT], pl.Int64, self.rows)
        return _assemble(self.kinds[INT], pl.UInt64, self.rows) if low >= 0 else None

    def _widened(self) -> pl.Series | None:
        """Float64 with the ints in the companion; None where a float cannot hold one of them."""
        widened = []
        for piece in self.kinds[INT]:
            numbers = piece.numbers()
            floats = numbers.astype("f8")
            if (np.abs(floats) >= v.EXACT_INTS).any():
                return None
            widened.append(Piece(FLOAT, piece.start, piece.count, floats, piece.places))
        for piece in self.kinds[INT]:
            self._keep(piece.indices(), list(map(v.encode_record, piece.numbers().tolist())))
        return _assemble([*self.kinds[FLOAT], *widened], pl.Float64, self.rows)

    def _lists(self) -> pl.Series | None:
        """A List of one type; None where the items have none."""
        inner = _item_type(
            kind for piece in self.kinds[LIST] for value in piece.tolist() for kind in _item_kinds(value)
        )
        if inner is None:
            return None
        dtype, mixed = inner
        pieces = []
        for piece in self.kinds[LIST]:
            lists = piece.tolist()
            if mixed:
                odd = [place for place, items in enumerate(lists) if any(item.__class__ is int for item in items)]
                if any(abs(item) >= v.EXACT_INTS for place in odd for item in lists[place] if item.__class__ is int):
                    return None
                self._keep(piece.indices()[odd], [encode_own(lists[place]) for place in odd])
                lists = [[None if item is None else float(item) for item in items] for items in lists]
            try:
                series = _list_series(lists, dtype)
            except (OverflowError, TypeError):  # ints beyond 63 bits
                return None
            pieces.append(Piece(LIST, piece.start, piece.count, series, piece.places))
        return _assemble(pieces, pl.List(dtype), self.rows)

    def _texts(self) -> pl.Series:
        """Values of no common type as text, each but the texts themselves in the companion as well."""
        pieces, size = [], 0
        for kind, found in self.kinds.items():
            for piece in found:
                values = piece.tolist()
                if kind != TEXT:
                    self._keep(piece.indices(), [encode_own(value) for value in values])
                    values = [text_form(value) for value in values]
                size += sum(map(len, values))
                if size > MOST_TEXT:
                    raise FormatError(f"Values of many types, as text, would take more than {MOST_TEXT:,} characters.")
                pieces.append(Piece(TEXT, piece.start, piece.count, values, piece.places))
        return _assemble(pieces, pl.String, self.rows)


# ---- from pieces to series -------------------------------------------------------------------------------------------


def _assemble(pieces: list[Piece], dtype: Any, rows: int) -> pl.Series:
    """One column from the pieces of its rows; rows in none are null."""
    if dtype in (pl.Float64, pl.Int64, pl.UInt64, pl.Boolean):
        return _assemble_numbers(pieces, dtype, rows)
    series = [piece.series(dtype) for piece in pieces]
    whole = series[0] if len(series) == 1 else pl.concat(series, rechunk=True)
    if _in_order(pieces, rows):
        return whole
    return _spread(whole, np.concatenate([piece.indices() for piece in pieces]), rows)


def _in_order(pieces: list[Piece], rows: int) -> bool:
    """Whether the pieces follow each other and leave no row out."""
    following = 0
    for piece in pieces:
        if piece.places is not None or piece.start != following:
            return False
        following += piece.count
    return following == rows


_NUMPY: Final[dict[Any, str]] = {pl.Float64: "f8", pl.Int64: "i8", pl.UInt64: "u8", pl.Boolean: "?"}


def _assemble_numbers(pieces: list[Piece], dtype: Any, rows: int) -> pl.Series:
    numbers = np.zeros(rows, _NUMPY[dtype])
    for piece in pieces:
        numbers[piece.where()] = piece.numbers()
    if sum(piece.count for piece in pieces) == rows:
        return pl.Series(numbers)
    present = np.zeros(rows, "?")
    for piece in pieces:
        present[piece.where()] = True
    return pl.select(pl.when(pl.Series(present)).then(pl.Series(numbers))).to_series()


def _spread(values: pl.Series, places: NDArray[Any], rows: int) -> pl.Series:
    """A column of so many rows with the values at their places, and null elsewhere."""
    order = np.full(rows, -1, "i8")
    order[places] = np.arange(len(places))
    index = pl.Series(order)
    return values.gather(pl.select(pl.when(index >= 0).then(index)).to_series())


# ---- lists -----------------------------------------------------------------------------------------------------------


def _item_kinds(value: list[Any]) -> Iterable[str]:
    classes = set(map(type, value))
    if classes == {float}:
        return (FLOAT,)
    return {kind_of(item) for item in value}


def _item_type(kinds: Iterable[str]) -> tuple[Any, bool] | None:
    """The type of the items of all lists, and whether ints among them become floats; None where they have none."""
    found = set(kinds) - {NULL}
    if not found:
        return pl.Null, False
    if found == {INT}:
        return pl.Int64, False
    if found == {INT, FLOAT}:
        return pl.Float64, True
    if len(found) == 1 and (kind := found.pop()) in TYPES:
        return TYPES[kind], False
    return None


def _list_series(lists: list[list[Any]], dtype: Any) -> pl.Series:
    """Lists as a column: by one flat column, since polars makes a series of each list (10 us)."""
    lengths = np.fromiter(map(len, lists), "u4", len(lists))
    flat = pl.Series("items", [item for items in lists for item in items], dtype=dtype)
    owner = pl.Series("row", np.repeat(np.arange(len(lists), dtype="u4"), lengths))
    grouped = pl.DataFrame([owner, flat]).group_by("row", maintain_order=True).agg("items")["items"]
    places = np.flatnonzero(lengths)
    if len(places) == len(lists):
        return grouped
    empty = pl.Series([[]], dtype=pl.List(dtype)).new_from_index(0, len(lists))
    return pl.select(pl.coalesce(_spread(grouped, places, len(lists)), empty)).to_series()


# ---- companions ------------------------------------------------------------------------------------------------------


def encode_own(value: Any) -> bytes:
    """A value as `exact.decode_exact` will give it back; what is nested too deep to be gone over, as it is."""
    try:
        return v.encode_record(value) if _is_plain(value) else encode_exact(value)
    except RecursionError:
        return v.encode_record(value)


def _is_plain(value: Any) -> bool:
    """Whether MessagePack has this value itself."""
    cls = value.__class__
    if cls is list:
        return all(_is_plain(item) for item in value)
    if cls is dict:
        return all(key.__class__ is str for key in value) and all(_is_plain(item) for item in value.values())
    return cls in v.SCALARS or kind_of(value) == "utc"
