"""The names of folders and files in a collection: the grammar, in both directions. Nothing here touches the disk.

    format                                   what this folder is (JSON)
    notes/<W>.<n>.log                        edits of the root level
    000007.2/                                a claim: experiment number and try, made by mkdir
        <A>/                                 an attempt, 32 hex digits
            <W>.<n>.log                      unit n of writer W, W being 32 hex digits
            <W>.<n>-<rows>-<len>-<crc>.parquet   the same unit, sealed: its rows, bytes and CRC-32
        <A>.deleted                          the attempt of this id was deleted: nothing of it is read
    packs/<P>-<len>-<crc>.parquet            many units, compacted: the pack's id, bytes and CRC-32
    trash/000007.2-<A>/                      what there is of a deleted attempt
    .tmp-<W>-<k>                             a file in the making, beside its target

Names must match exactly; others are ignored, so that nothing put into the folder can mislead a reader.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import FormatError

FORMAT_FILE: Final = "format"
NOTES: Final = "notes"
PACKS: Final = "packs"
TRASH: Final = "trash"
FORMAT_VERSION: Final = 1
MAX_NUMBER: Final = 10**15
"""Experiments' numbers, rows and bytes are below it."""
MAX_TRY: Final = 10**9
"""Tries, and the numbers of a writer's units, are below it."""

_CLAIM: Final = re.compile(r"(?P<number>\d{6,15})\.(?P<attempt>[1-9]\d{0,8})", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LOG: Final = re.compile(r"(?P<writer>[0-9a-f]{32})\.(?P<n>[1-9]\d{0,8})\.log", re.ASCII)
_PACK: Final = re.compile(
    r"(?P<writer>[0-9a-f]{32})\.(?P<n>[1-9]\d{0,8})-(?P<rows>0|[1-9]\d{0,14})-(?P<size>[1-9]\d{0,14})-(?P<crc>[0-9a-f]{8})\.parquet",
    re.ASCII,
)
_PACKED: Final = re.compile(r"(?P<id>[0-9a-f]{32})-(?P<size>[1-9]\d{0,14})-(?P<crc>[0-9a-f]{8})\.parquet", re.ASCII)
_TEMPORARY: Final = re.compile(r"\.tmp-[0-9a-f]{32}-\d{1,9}", re.ASCII)
_DELETED: Final = re.compile(r"(?P<attempt>[0-9a-f]{32})\.deleted", re.ASCII)
_GENERATION_DIGITS: Final = 8
_YOUNGEST: Final = 16**_GENERATION_DIGITS - 1


class ClaimName(NamedTuple):
    """A claimed experiment number and which try of it this is, both from 1."""

    number: int
    attempt: int


class UnitName(NamedTuple):
    """The name of a unit: its writer (32 hex digits), its position n in the writer's log, and where it is sealed."""

    writer: str
    n: int
    rows: int | None = None
    size: int | None = None
    crc: int | None = None

    @property
    def sealed(self) -> bool:
        """Whether this names a pack rather than a log."""
        return self.rows is not None


class PackedName(NamedTuple):
    """The name of a pack of many units: its id (32 hex digits), its size in bytes and its CRC-32."""

    id: str
    size: int
    crc: int

    @property
    def generation(self) -> int:
        """0 for a pack of logs and sealed units, else more than that of any pack that it was made of."""
        return _YOUNGEST - int(self.id[:_GENERATION_DIGITS], 16)


def newer(version: int, features: list[str]) -> bool:
    """Whether something is of a newer version of the format than this release knows."""
    return version > FORMAT_VERSION or bool(features)


def new_id() -> str:
    """A random id of 128 bits as 32 hex digits, for a writer, an attempt or a collection."""
    return os.urandom(16).hex()


def claim_name(number: int, attempt: int) -> str:
    """The folder name of a claim."""
    return f"{number:06d}.{attempt}"


@lru_cache(maxsize=1 << 16)  # each new experiment lists all there are: 2.2 us each without this, 0.06 with it
def parse_claim(name: str) -> ClaimName | None:
    """The claim that a folder name stands for, or None."""
    match = _CLAIM.fullmatch(name)
    if match is None:
        return None
    claim = ClaimName(int(match["number"]), int(match["attempt"]))
    return claim if claim_name(*claim) == name else None


def is_id(name: str) -> bool:
    """Whether a name is an id of ours: 32 lower-case hex digits."""
    return _ID.fullmatch(name) is not None


def require_id(name: str) -> None:
    """Refuse to make a path of what is no id: nothing that a file says may lead out of the collection.

    Raises:
        FormatError: It is none.
    """
    if not is_id(name):
        raise FormatError(f"{name[:40]!r} is no id, so that no path is made of it. Hint: verify the collection.")


def is_claim(number: int, attempt: int) -> bool:
    """Whether a number and a try are such as the name of a claim can say."""
    return 0 <= number < MAX_NUMBER and 1 <= attempt < MAX_TRY


def is_unit(writer: str, n: int) -> bool:
    """Whether a writer's id and a number are such as the name of a unit can say."""
    return is_id(writer) and 1 <= n < MAX_TRY


def log_name(writer: str, n: int) -> str:
    """The file name of a unit's log."""
    return f"{writer}.{n}.log"


def pack_name(writer: str, n: int, rows: int, size: int, crc: int) -> str:
    """The file name of a sealed unit."""
    return f"{writer}.{n}-{rows}-{size}-{crc:08x}.parquet"


def packed_id(generation: int) -> str:
    """A random id for a pack of many units. It comes, in the order of names, before those of earlier generations.

    Raises:
        ValueError: There is no such generation.
    """
    if not 0 <= generation <= _YOUNGEST:
        raise ValueError(f"there is no generation {generation}")
    return f"{_YOUNGEST - generation:0{_GENERATION_DIGITS}x}{new_id()[_GENERATION_DIGITS:]}"


def packed_name(pack: str, size: int, crc: int) -> str:
    """The file name of a pack of many units."""
    return f"{pack}-{size}-{crc:08x}.parquet"


def parse_packed(name: str) -> PackedName | None:
    """The pack of many units that a file name stands for, or None."""
    match = _PACKED.fullmatch(name)
    return None if match is None else PackedName(match["id"], int(match["size"]), int(match["crc"], 16))


def deleted_name(attempt: str) -> str:
    """The name of the file in a claim that says that an attempt was deleted."""
    return f"{attempt}.deleted"


def parse_deleted(name: str) -> str | None:
    """The id of the attempt that a file in a claim says was deleted, or None."""
    match = _DELETED.fullmatch(name)
    return None if match is None else match["attempt"]


def temporary_name(writer: str, k: int) -> str:
    """The name of a file in the making, beside its target."""
    return f".tmp-{writer}-{k}"


def is_temporary(name: str) -> bool:
    """Whether this names a file in the making."""
    return _TEMPORARY.fullmatch(name) is not None


def parse_unit(name: str) -> UnitName | None:
    """The unit that a file name stands for, log or pack, or None."""
    match = _LOG.fullmatch(name)
    if match is not None:
        return UnitName(match["writer"], int(match["n"]))
    match = _PACK.fullmatch(name)
    if match is not None:
        return UnitName(match["writer"], int(match["n"]), int(match["rows"]), int(match["size"]), int(match["crc"], 16))
    return None
