"""The tree as data: levels with their parents, their own data and its edits. No records, no files.

A level's id is the writer that made it and a number; the id of an attempt's topmost level is the attempt and 0. What
several writers say of a level is merged key by key: the highest stamp wins, in whatever order it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from .exact import copied, decode_exact, encode_exact, storable
from .lineage import canonical
from .values import SCALARS, encode_record

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

LevelId = tuple[str, int]

ROOT: Final[LevelId] = ("", 0)
"""The id of a collection's root level, which holds its notes."""

AUTOMATIC: Final = (
    "experiment_number", "error_number", "had_error", "experiment_start_time", "experiment_end_time", "experiment_duration",
)  # fmt: skip
"""The six keys that every experiment adds to its records."""


class Stamp(NamedTuple):
    """Which of several edits of a key wins: the highest, compared in this order.

    Attributes:
        version: 1 + the highest version of the key that the editor saw.
        time: Of the edit, in seconds since the epoch.
        writer: Who edited.
        sequence: Number of the edit within its writer.
    """

    version: int
    time: float
    writer: str
    sequence: int


UNEDITED: Final = Stamp(0, 0.0, "", 0)


class Level:
    """One level: its parent, its own data, and for each key that was ever edited the stamp of the edit that counts."""

    __slots__ = ("data", "id", "parent", "stamps")

    def __init__(self, level: LevelId, parent: LevelId | None) -> None:
        self.id = level
        self.parent = parent
        self.data: dict[str, Any] = {}
        self.stamps: dict[str, Stamp] = {}

    def set(self, key: str, value: Any, stamp: Stamp) -> None:
        """Give a key a value, unless a later edit of it is known."""
        if stamp >= self.stamps.get(key, UNEDITED):
            self.data[key] = value
            if stamp.version:
                self.stamps[key] = stamp

    def delete(self, key: str, stamp: Stamp) -> None:
        """Take a key away, unless a later edit of it is known."""
        if stamp >= self.stamps.get(key, UNEDITED):
            self.data.pop(key, None)
            self.stamps[key] = stamp


class Levels:
    """All levels of one attempt (or of one tree in memory), as far as they are known."""

    def __init__(self) -> None:
        self.by_id: dict[LevelId, Level] = {}
        self._pending: list[tuple[LevelId, Stamp, dict[str, Any], list[str]]] = []

    def __contains__(self, level: LevelId) -> bool:
        return level in self.by_id

    def __iter__(self) -> Iterator[Level]:
        """All levels, parents before their children."""
        seen: set[LevelId | None] = {None}
        for one, level in self.by_id.items():
            if level.parent in seen:  # as nearly all are
                if one not in seen:
                    seen.add(one)
                    yield level
                continue
            above = self.up(one, seen)
            seen.update(above)
            yield from (self.by_id[up] for up in reversed(above))

    def define(
        self, level: LevelId, parent: LevelId | None, data: Mapping[str, Any], stamps: Mapping[str, Stamp]
    ) -> Level:
        """Take note of a level as one unit defines it. Units may repeat a level, each with the edits known to it."""
        known = self.by_id.get(level)
        if known is None:
            known = self.by_id[level] = Level(level, parent)
        for key, value in data.items():
            known.set(key, value, stamps.get(key, UNEDITED))
        for key, stamp in stamps.items():
            if key not in data:
                known.delete(key, stamp)
        return known

    def edit(self, level: LevelId, stamp: Stamp, values: Mapping[str, Any], deleted: Iterable[str]) -> None:
        """Take note of an edit. Of a level that is not known (its unit is lost), nothing can be said."""
        known = self.by_id.get(level)
        if known is None:
            return
        for key, value in values.items():
            known.set(key, value, stamp)
        for key in deleted:
            known.delete(key, stamp)

    def up(self, level: LevelId, until: Container[LevelId | None] = ()) -> list[LevelId]:
        """The ids from this level up to the topmost known one, or to before one of `until`.

        A circle, which only damage can make, is cut.
        """
        path: dict[LevelId, None] = {}
        current: LevelId | None = level
        while current is not None and current in self.by_id and current not in path and current not in until:
            path[current] = None
            current = self.by_id[current].parent
        return list(path)

    def chain(self, level: LevelId) -> list[LevelId]:
        """The ids from the topmost known level down to this one."""
        return self.up(level)[::-1]

    def datas(self, level: LevelId) -> list[dict[str, Any]]:
        """The own data of each level from the top down to this one."""
        return [self.by_id[one].data for one in self.chain(level)]

    def below(self, tops: Iterable[LevelId]) -> set[LevelId]:
        """The given levels, as far as they are known, and all levels below them."""
        children: dict[LevelId, list[LevelId]] = {}
        for level in self.by_id.values():
            if level.parent is not None:
                children.setdefault(level.parent, []).append(level.id)
        found: set[LevelId] = set()
        waiting = [top for top in tops if top in self.by_id]
        while waiting:
            level_id = waiting.pop()
            if level_id not in found:
                found.add(level_id)
                waiting += children.get(level_id, ())
        return found


def merge(datas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several levels' data in one dict, the later wins; values are copies."""
    return {
        key: value if value.__class__ in SCALARS else copied(value) for data in datas for key, value in data.items()
    }


def fingerprint(data: Mapping[str, Any]) -> str:
    """The super-hash of level data less the automatic keys: equal data, equal fingerprint, on any machine.

    super-hash gets one text, in which keys are sorted and 1, "1", True and 1.0 differ: it walks objects by structure and
    caches by `id`, and a plain text is what it cannot get wrong.
    """
    from super_hash import super_hash

    return str(super_hash(canonical({key: value for key, value in data.items() if key not in AUTOMATIC})))


# ---- as entries of a unit ----------------------------------------------------------------------------------------


def pack_level(
    local: int,
    level: LevelId,
    parent: int | None,
    data: Mapping[str, Any],
    stamps: Mapping[str, Stamp],
    writer: str,
) -> bytes:
    """The payload of a level entry.

    [local number, maker or nil for this writer, number, parent's local number or nil, data, stamps or nil]
    """
    maker = None if level[0] == writer else level[0]
    plain_stamps = {key: list(stamp) for key, stamp in stamps.items()} if stamps else None
    for value in data.values():
        if value.__class__ not in SCALARS:
            return encode_exact([local, maker, level[1], parent, data, plain_stamps])
    return encode_record((local, maker, level[1], parent, data, plain_stamps))


def whole(value: Any) -> int:
    """A number that was stored as an int; the int of another may not fit into the memory: 1E+999999999 is a Decimal."""
    if value.__class__ is not int:
        raise ValueError(f"{value.__class__.__name__} where a whole number should be")
    return int(value)


def moment(value: Any) -> float:
    """Seconds that were stored as a number."""
    if value.__class__ not in (int, float):
        raise ValueError(f"{value.__class__.__name__} where a time should be")
    return float(value)


class LevelEntry(msgspec.Struct, frozen=True):
    """A level as a unit defines it."""

    local: int
    level: LevelId
    parent: int | None
    data: dict[str, Any]
    stamps: dict[str, Stamp]


def unpack_level(payload: bytes, writer: str) -> LevelEntry:
    """Read a level entry of a unit of `writer`.

    Raises:
        ValueError: It is damaged.
    """
    try:
        local, maker, number, parent, data, stamps = decode_exact(payload)
        level = (writer if maker is None else str(maker), whole(number))
        return LevelEntry(
            _local(local),
            level,
            None if parent is None else _local(parent),
            {str(key): storable(value) for key, value in data.items()},
            {str(key): _stamp(*stamp) for key, stamp in (stamps or {}).items()},
        )
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a level entry: {error}") from error


def _local(number: Any) -> int:
    """A local level number as it was read: records name theirs in 32 bits."""
    local = whole(number)
    if not 0 <= local < 2**32:
        raise ValueError(f"{local} cannot be a local level number")
    return local


def _stamp(version: Any, time: Any, writer: Any, sequence: Any) -> Stamp:
    """A stamp as it was read, of fields that can be compared."""
    return Stamp(whole(version), moment(time), str(writer), whole(sequence))


def pack_edit(local: int, stamp: Stamp, values: Mapping[str, Any], deleted: Iterable[str]) -> bytes:
    """The payload of an edit entry: [local number, version, time, sequence, values, deleted keys]."""
    return encode_exact([local, stamp.version, stamp.time, stamp.sequence, dict(values), list(deleted)])


class EditEntry(msgspec.Struct, frozen=True):
    """An edit of a level's data."""

    local: int
    stamp: Stamp
    values: dict[str, Any]
    deleted: list[str]


def unpack_edit(payload: bytes, writer: str) -> EditEntry:
    """Read an edit entry of a unit of `writer`.

    Raises:
        ValueError: It is damaged.
    """
    try:
        local, version, time, sequence, values, deleted = decode_exact(payload)
        stamp = Stamp(whole(version), moment(time), writer, whole(sequence))
        return EditEntry(
            _local(local),
            stamp,
            {str(key): storable(value) for key, value in values.items()},
            [str(key) for key in deleted],
        )
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not an edit entry: {error}") from error
