"""Handed over: the plan of a frame, or of a part of it, as bytes, for a process that reads the rows somewhere else.

What is in them is data and no code: msgpack, and Arrow's IPC format for values and types. Units go by their place on disk;
only those that are in memory, or may still grow, go as the bytes that were read. Levels that no unit refers to stay out.
"""

from __future__ import annotations

import os
import zlib
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from rigorous_recorder.errors import FormatError
from rigorous_recorder.store.layout import UnitName
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.snapshot import UnitPlace

from .keepers import Table
from .part import Part
from .plan import Column, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LAYOUT: Final = 2
"""Of the bytes: both processes must have the same."""

QUICK: Final = 1
"""How hard zlib tries: a log has pages of zeros behind its last record."""


class _Unit(msgspec.Struct, array_like=True):
    """A part; the attributes of `Part` and of its place, and `types` as a place in `_Handed.types`."""

    folder: bytes | None
    file: str
    pack: bytes
    name: list[Any]
    grows: bool
    rows: int
    locals: list[int]
    levels: list[int]
    lost: int | None
    whole: bool
    types: int
    exact: list[str]
    log: bytes | None


class _Handed(msgspec.Struct, array_like=True):
    """A plan. Columns have their places for names, since users' names are anything."""

    layout: int
    columns: list[tuple[str, str, bool, bool]]  # name, key, inherited, own
    dtypes: bytes
    table: bytes
    height: int
    types: list[tuple[list[str], bytes]]  # keys, and the types of their columns
    units: list[_Unit]


def encode(plan: Plan) -> bytes:
    """The plan as bytes."""
    used = sorted(
        {row for part in plan.parts for row in (*part.levels.values(), -1 if part.lost is None else part.lost)}
    )
    used = used[1:] if used and used[0] < 0 else used
    places = {row: place for place, row in enumerate(used)} | {-1: -1}
    types: dict[tuple[tuple[str, Any], ...], int] = {}
    units = [_unit(part, places, types.setdefault(tuple(part.types.items()), len(types))) for part in plan.parts]
    inherited = [plan.table[column.name].gather(used) for column in plan.columns if column.inherited]
    return msgspec.msgpack.encode(
        _Handed(
            LAYOUT,
            [(column.name, column.key, column.inherited, column.own) for column in plan.columns],
            _dtypes(plan.schema.values()),
            _ipc(inherited),
            len(used),
            [([key for key, _ in each], _dtypes(dtype for _, dtype in each)) for each in types],
            units,
        )
    )


def decode(data: bytes) -> Plan:
    """The plan that `encode` made bytes of.

    Raises:
        FormatError: They are of another release.
    """
    try:
        handed = msgspec.msgpack.decode(data, type=_Handed)
    except msgspec.ValidationError as error:
        raise _other(error) from error
    if handed.layout != LAYOUT:
        raise _other(f"layout {handed.layout} instead of {LAYOUT}")
    columns = tuple(
        Column(name, key, dtype, inherited, own)
        for (name, key, inherited, own), dtype in zip(handed.columns, _read_dtypes(handed.dtypes), strict=True)
    )
    table = pl.read_ipc(handed.table)
    inherited = [column.name for column in columns if column.inherited]
    makers = {name: partial(table.to_series, place) for place, name in enumerate(inherited)}
    types = [dict(zip(keys, _read_dtypes(dtypes), strict=True)) for keys, dtypes in handed.types]
    return Plan(columns, Table(handed.height, makers), tuple(_part(unit, types) for unit in handed.units))


def _other(what: object) -> FormatError:
    return FormatError(
        f"The plan of a frame comes from another release ({what}). "
        "Hint: install the same rigorous-recorder and polars on the driver and on all executors."
    )


def _unit(part: Part, places: dict[int, int], types: int) -> _Unit:
    kept = part.kept if part.place is None or part.grows else None
    assert kept is None or isinstance(kept, LogSource)  # packs are on disk, and do not grow
    return _Unit(
        None if part.place is None else os.fsencode(part.place.folder),
        "" if part.place is None else part.place.file,
        b"" if part.place is None else os.fsencode(part.place.pack),
        [] if part.place is None else [*part.place.name],
        part.grows,
        part.rows,
        list(part.levels),
        [places[row] for row in part.levels.values()],
        None if part.lost is None else places[part.lost],
        part.whole,
        types,
        sorted(part.exact),
        None if kept is None else zlib.compress(kept.data, QUICK),
    )


def _part(unit: _Unit, types: Sequence[dict[str, Any]]) -> Part:
    place = None
    if unit.folder is not None:
        place = UnitPlace(os.fsdecode(unit.folder), UnitName(*unit.name), unit.file, os.fsdecode(unit.pack))
    return Part(
        None if unit.log is None else LogSource(zlib.decompress(unit.log)),
        place,
        unit.grows,
        unit.rows,
        dict(zip(unit.locals, unit.levels, strict=True)),
        unit.lost,
        unit.whole,
        types[unit.types],
        frozenset(unit.exact),
    )


def _ipc(columns: Iterable[pl.Series]) -> bytes:
    """Columns, named by their places."""
    file = BytesIO()
    pl.DataFrame([column.alias(str(place)) for place, column in enumerate(columns)]).write_ipc(file, compression="zstd")
    return file.getvalue()


def _dtypes(dtypes: Iterable[Any]) -> bytes:
    return _ipc(pl.Series([], dtype=dtype) for dtype in dtypes)


def _read_dtypes(data: bytes) -> list[Any]:
    return pl.read_ipc(data).dtypes
