"""Compacted packs: which units of which attempts a Parquet file of many units holds, and at which rows. Without polars.

Its footer has the text `RRPACK2 <crc32> <base64>`, as that of a sealed unit has `RRPACK1` (see `packmeta.py`): a
MessagePack array, deflated, with the attempts and the units, one behind the other as their rows are.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from rigorous_recorder.errors import FormatError

from . import files, layout
from . import unit as u
from .layout import ClaimName
from .listing import Unlisted, names_until_settled
from .memory import unhurried
from .packmeta import (
    MOST_COLUMNS,
    MOST_EVENTS,
    MOST_RUNS,
    NO_ROWS,
    PackMeta,
    arrow_schema,
    beyond,
    described,
    footer_text,
    is_extent,
    read_footer,
    wrong,
)
from .parquetrows import parquet_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARK: Final = "RRPACK2"
MOST_KNOWN: Final = 256
"""Packs whose footers are kept in memory: a pack is never changed, and each new experiment looks for the last one."""
GUESS: Final = 1 << 16
"""Bytes to read at first from a pack's end: the footer of a thousand units takes about as many."""
MOST_UNITS: Final = 1 << 17
"""Units that a pack may claim; eight times what a compaction puts into one."""


class Key(NamedTuple):
    """Which unit: the attempt's id, the writer's, and its number there."""

    attempt: str
    writer: str
    n: int


class Identity(NamedTuple):
    """What a unit holds: its rows, and the bytes and CRC-32 of the log that it was. Equal ones are the same unit."""

    rows: int
    log_size: int
    log_crc: int


class _Details(msgspec.Struct, array_like=True, frozen=True):
    header: u.Header
    events: list[tuple[int, bytes, int]]
    beat: float
    runs: list[int] | None = None


class _Unit(msgspec.Struct, array_like=True, frozen=True):
    """A unit of a pack; its details are decoded when they are asked for."""

    attempt: int
    writer: str
    n: int
    rows: int
    log_size: int
    log_crc: int
    details: msgspec.Raw


class _Footer(msgspec.Struct, array_like=True, frozen=True):
    attempts: list[tuple[str, int, int]]
    units: list[_Unit]
    columns: list[tuple[str, str]] | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_footer_decoder: Final = msgspec.msgpack.Decoder(_Footer)
_details_decoder: Final = msgspec.msgpack.Decoder(_Details)


def packed_text(units: Iterable[tuple[ClaimName, PackMeta]]) -> str:
    """The text for the footer of a pack of these units, given with the claims of their attempts, in the order of their rows."""
    attempts: dict[tuple[str, int, int], int] = {}
    packed: list[_Unit] = []
    columns = None
    for claim, meta in units:
        header = meta.header
        place = attempts.setdefault((header.attempt, *claim), len(attempts))
        details = msgspec.Raw(_encoder.encode(_Details(header, meta.events, meta.beat, meta.runs)))
        packed.append(_Unit(place, header.writer, header.n, meta.rows, meta.log_size, meta.log_crc, details))
        columns = meta.columns if meta.rows else columns  # those that have rows have the same
    return footer_text(MARK, _encoder.encode(_Footer(list(attempts), packed, columns)))


class Pack:
    """A compacted pack by its footer.

    Attributes:
        path: Of the file.
        name: What its name says.
        text: In which Arrow describes the columns: packs that have the same have the same columns.
        columns: Name and type of each, as `schema.py` writes them; None where it does not say.
        claims: By attempt id, the claim that it was under.
        units: By key, the place of each unit among them.
        firsts: By place, the unit's first row.
        rows: Of all units.
    """

    def __init__(self, path: str) -> None:
        """The pack at a path; its length and its footer are checked, not its columns.

        Raises:
            FormatError: It is no pack of ours, or is damaged.
            OSError: It cannot be read.
        """
        name = layout.parse_packed(path.rpartition("/")[2])
        if name is None:
            raise FormatError(f"{path} has not the name of a pack of many units.")
        footer = read_footer(path, name.size, GUESS)
        data = described(footer, MARK.encode())
        if data is None:
            raise FormatError(f"The pack {path} has a damaged footer, or was written by another program.")
        try:
            with unhurried():
                if beyond(data, {0: MOST_UNITS, 1: MOST_UNITS, 2: MOST_COLUMNS}):
                    raise FormatError(f"The pack {path} claims more than {MOST_UNITS:,} units, or too many columns.")
                said = _footer_decoder.decode(data)
                if lie := _lie(said, footer):
                    raise FormatError(f"The pack {path} is damaged: {lie}.")
                self._units = said.units
                attempts = [attempt for attempt, _, _ in said.attempts]
                self.units = {Key(attempts[one.attempt], one.writer, one.n): at for at, one in enumerate(self._units)}
        except (ValueError, msgspec.MsgspecError, RecursionError, IndexError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"The pack {path} has a footer that cannot be read: {error}.") from error
        self.path = path
        self.name = name
        self.text = arrow_schema(footer)
        self.columns = said.columns
        self.claims = {attempt: ClaimName(number, try_) for attempt, number, try_ in said.attempts}
        self.firsts = list(accumulate((one.rows for one in self._units), initial=0))
        self.rows = self.firsts[-1]

    @cached_property
    def by_claim(self) -> dict[ClaimName, list[str]]:
        """The attempts under each claim."""
        found: dict[ClaimName, list[str]] = {}
        for attempt, claim in self.claims.items():
            found.setdefault(claim, []).append(attempt)
        return found

    @cached_property
    def by_attempt(self) -> dict[str, list[Key]]:
        """The units of each attempt."""
        found: dict[str, list[Key]] = {}
        for key in self.units:
            found.setdefault(key.attempt, []).append(key)
        return found

    def rows_of(self, key: Key) -> int:
        """How many rows a unit has."""
        return self._units[self.units[key]].rows

    def identity(self, key: Key) -> Identity:
        """What a unit holds."""
        one = self._units[self.units[key]]
        return Identity(one.rows, one.log_size, one.log_crc)

    def has_more(self, key: Key, other: Pack) -> bool:
        """Whether it has more of a unit than another pack, which was made of a copy of the log while that was written."""
        return self.identity(key) != other.identity(key) and self._extent(key) > other._extent(key)

    def _extent(self, key: Key) -> tuple[int, int]:
        try:
            meta = self.meta(key)
        except FormatError:  # whoever reads it will say what is wrong
            return -1, 0
        return meta.rows, len(meta.events)

    def meta(self, key: Key) -> PackMeta:
        """What the pack says of a unit.

        Raises:
            FormatError: It cannot be decoded, or is of another unit.
        """
        one = self._units[self.units[key]]
        try:
            if beyond(one.details, {1: MOST_EVENTS, 3: 2 * MOST_RUNS}):
                raise FormatError(
                    f"The pack {self.path} has a unit of more than {MOST_EVENTS:,} events, or too many runs."
                )
            details = _details_decoder.decode(one.details)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise FormatError(f"The pack {self.path} has a unit that cannot be read: {error}.") from error
        header = details.header
        if (header.attempt, header.writer, header.n) != key:
            raise FormatError(f"The pack {self.path} holds another unit than its footer says.")
        columns = self.columns if one.rows else NO_ROWS
        meta = PackMeta(
            header, details.events, one.rows, one.log_size, one.log_crc, details.beat, columns, details.runs
        )
        if lie := wrong(meta):
            raise FormatError(f"The pack {self.path} has a damaged unit: {lie}.")
        return meta


def _lie(said: _Footer, footer: bytes) -> str:
    """What no pack of ours says in what a footer says, as the end of a sentence: ids become paths, and rows places."""
    for attempt, number, try_ in said.attempts:
        if not layout.is_id(attempt) or not layout.is_claim(number, try_):
            return f"it has an attempt {attempt[:40]!r} under the number {number}, try {try_}"
    if len({attempt for attempt, _, _ in said.attempts}) < len(said.attempts):
        return "it has an attempt twice"
    for one in said.units:
        if not 0 <= one.attempt < len(said.attempts) or not layout.is_unit(one.writer, one.n):
            return f"it has a unit {one.n} of the writer {one.writer[:40]!r}, of its attempt {one.attempt}"
        if not is_extent(one.rows, one.log_size, one.log_crc):
            return f"it has a unit of {one.rows} rows, and of a log of {one.log_size} bytes"
    if len({(one.attempt, one.writer, one.n) for one in said.units}) < len(said.units):
        return "it has a unit twice"
    rows, there = sum(one.rows for one in said.units), parquet_rows(footer)
    return "" if rows == there else f"its units have {rows:,} rows, where Parquet's metadata have {there}"


_known: Final[dict[str, tuple[tuple[int, ...], Pack]]] = {}


def open_pack(path: str) -> Pack:
    """The pack at a path, whose footer is read once while the file stays the same.

    Raises:
        FormatError: It is no pack of ours, or is damaged.
        OSError: It cannot be read.
    """
    signature = files.signature(path)
    known = _known.get(path)
    if known is not None and known[0] == signature:
        return known[1]
    pack = Pack(path)
    while len(_known) >= MOST_KNOWN:
        _known.pop(next(iter(_known)), None)
    _known[path] = signature, pack
    return pack


def pack_rows(path: str) -> int | None:
    """How many rows a pack has by its name, or, of a compacted one, by its footer; None for another name.

    Raises:
        FormatError: It is a compacted pack, and damaged.
        OSError: It cannot be read.
    """
    file = path.rpartition("/")[2]
    if layout.parse_packed(file):
        return open_pack(path).rows
    name = layout.parse_unit(file)
    return None if name is None else name.rows


class Packs:
    """All compacted packs of a collection at one moment.

    Attributes:
        packs: In the order of their names. Of several that hold a unit the one with the most of it counts, then the first.
        damage: A sentence for each file that cannot be read, or for the folder if it cannot be listed.
        unlisted: Their folder, if it cannot be listed.
    """

    def __init__(self, packs: list[Pack], damage: list[str], unlisted: Unlisted | None = None) -> None:
        self.packs = packs
        self.damage = damage
        self.unlisted = unlisted

    def attempts(self, claims: Iterable[ClaimName] | None = None) -> Iterator[tuple[ClaimName, str]]:
        """The attempts that have units here, of all claims or of some, with the claim."""
        wanted = None if claims is None else list(claims)
        for pack in self.packs:
            of_pack = pack.by_claim
            for claim in of_pack if wanted is None else wanted:
                for attempt in of_pack.get(claim, ()):
                    if self.claim(attempt) == claim:
                        yield claim, attempt

    def claim(self, attempt: str) -> ClaimName | None:
        """The claim that an attempt was under by the first pack that has units of it."""
        return next((pack.claims[attempt] for pack in self.packs if attempt in pack.claims), None)

    def units(self, attempt: str) -> dict[tuple[str, int], Pack]:
        """By writer and number, the pack that counts for each unit of an attempt: the first of those with the most of it."""
        found: dict[tuple[str, int], Pack] = {}
        for pack in self.packs:
            for key in pack.by_attempt.get(attempt, ()):
                before = found.get(key[1:])
                if before is None or pack.has_more(key, before):
                    found[key[1:]] = pack
        return found

    def holding(self, key: Key) -> Iterator[Pack]:
        """The packs that hold a unit, the one that counts first."""
        holding = [pack for pack in self.packs if key in pack.units]
        most = next((pack for pack in holding if not any(other.has_more(key, pack) for other in holding)), None)
        return iter(holding if most is None else [most, *(pack for pack in holding if pack is not most)])


def list_packs(path: str) -> Packs:
    """The compacted packs of the collection at a path, listed again until nothing is new."""
    found: dict[str, Pack] = {}
    wrong: dict[str, str] = {}
    folder = f"{path}/{layout.PACKS}"
    unlisted = None
    try:
        for name in filter(layout.parse_packed, names_until_settled(folder)):
            try:
                found[name] = open_pack(f"{folder}/{name}")
            except (FormatError, OSError) as error:
                if files.exists(f"{folder}/{name}"):
                    wrong[name] = (
                        str(error) if isinstance(error, FormatError) else f"{folder}/{name} cannot be read: {error}."
                    )
    except OSError as error:
        unlisted = Unlisted.of(folder, error)
    damage = [*([] if unlisted is None else [unlisted.sentence]), *(wrong[name] for name in sorted(wrong))]
    return Packs([found[name] for name in sorted(found)], damage, unlisted)
