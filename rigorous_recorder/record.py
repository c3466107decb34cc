"""`Record`, one row as a dict with everything it inherits, and `Records`, all of them as a lazy sequence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Final, Protocol, overload

from .errors import DamageWarning, FormatError, UnknownIndexError, shortened, warn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Record(dict[str, Any]):
    """A record: a dict of all own and inherited values, the nearest winning, whose missing keys read as None.

    `in`, `keys()`, equality, `json.dumps` and `copy` are those of dict. It is a copy: changing it changes no file.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> None:
        """None: a key that this record does not have."""

    def copy(self) -> Record:
        """A shallow copy, a Record as well."""
        return Record(self)


BACKWARDS: Final = 8192
"""Records that are built at a time to be given in reverse order."""


def merge_columns(
    levels: Iterable[int], bases: Mapping[int, Any], keys: list[str], columns: list[Any]
) -> Iterator[Record]:
    """Records from columns of own values, each on top of a copy of what its level inherits.

    A copy and one store per key is the fastest way there is (270 ns with two keys, `to_dicts` of the flat frame 1,319),
    so it is spelled out for the few keys that most records have.
    """
    match keys:
        case [a]:
            for level, x in zip(levels, *columns, strict=True):
                record = Record(bases[level])
                record[a] = x
                yield record
        case [a, b]:
            for level, x, y in zip(levels, *columns, strict=True):
                record = Record(bases[level])
                record[a] = x
                record[b] = y
                yield record
        case [a, b, c]:
            for level, x, y, z in zip(levels, *columns, strict=True):
                record = Record(bases[level])
                record[a] = x
                record[b] = y
                record[c] = z
                yield record
        case _:
            for level, *values in zip(levels, *columns, strict=True):
                record = Record(bases[level])
                record.update(zip(keys, values, strict=True))
                yield record


def merge_records(
    levels: Iterable[int], bases: Mapping[int, Any], owns: Iterable[Mapping[str, Any]]
) -> Iterator[Record]:
    """The same from dicts of own values."""
    for level, own in zip(levels, owns, strict=True):
        record = Record(bases[level])
        record.update(own)
        yield record


class Part(Protocol):
    """What `Records` is made of: some rows, in order, of one unit."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def chunks(self, start: int, stop: int) -> Iterator[Iterator[Record]]:
        """The rows from `start` to before `stop`, merged, some at a time."""
        ...


def _left_out(error: FormatError, rows: int) -> None:
    """Say which records an iteration does not give: of a file that turns out to be damaged; the others are whole."""
    warn(f"{error} Up to {rows:,} records of it are left out.", DamageWarning)


class Records(Sequence[Record]):
    """All records of a collection, an experiment or a branch, in order; each is built when it is asked for.

    Fixed when it is made: what is recorded or edited later does not show. `len`, an index, a slice and an iteration
    build no record that they do not return. A slice is a `Records` too.
    """

    __slots__ = ("_indices", "_parts", "_starts")

    def __init__(self, parts: Iterable[Part], _indices: range | None = None) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *accumulate(len(part) for part in self._parts)]
        self._indices = range(self._starts[-1]) if _indices is None else _indices

    def __len__(self) -> int:
        """The number of records."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        """One record, or a slice of them.

        Raises:
            IndexError: There is no such record.
            TypeError: The index is neither int nor slice.
        """
        if isinstance(index, slice):
            return Records(self._parts, self._indices[index])
        try:
            row = self._indices[index]
        except IndexError:
            raise UnknownIndexError(f"There is no record {index}: there are {len(self)}.") from None
        except TypeError:
            raise TypeError(
                f"Records are numbered, and {index!r} is no number. Hint: under(...) picks a branch, and a record's values "
                "are read as record['key']."
            ) from None
        number = bisect_right(self._starts, row) - 1
        offset = row - self._starts[number]
        return next(chain.from_iterable(self._parts[number].chunks(offset, offset + 1)))

    def __iter__(self) -> Iterator[Record]:
        """The records in order, built some thousand at a time."""
        if self._indices.step != 1:
            return map(self.__getitem__, range(len(self)))
        return chain.from_iterable(self._chunks())  # in C: a generator would cost each record 100 ns more

    def _chunks(self) -> Iterator[Iterator[Record]]:
        indices = self._indices
        for number, part in enumerate(self._parts):
            first, last = self._starts[number], self._starts[number + 1]
            start, stop = max(indices.start, first) - first, min(indices.stop, last) - first
            if start < stop:
                try:
                    yield from part.chunks(start, stop)
                except FormatError as error:
                    _left_out(error, stop - start)

    def __reversed__(self) -> Iterator[Record]:
        """The records from the last to the first."""
        if self._indices.step != 1:
            yield from self[::-1]
            return
        for number in reversed(range(len(self._parts))):
            first, last = self._starts[number], self._starts[number + 1]
            start, stop = max(self._indices.start, first) - first, min(self._indices.stop, last) - first
            for high in range(stop, start, -BACKWARDS):
                low = max(start, high - BACKWARDS)
                try:
                    records = list(chain.from_iterable(self._parts[number].chunks(low, high)))
                except FormatError as error:
                    _left_out(error, high - low)
                    continue
                yield from reversed(records)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a Records or list of equal records in the same order."""
        if not isinstance(other, (Records, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """How many there are, and the first."""
        shown = f": {shortened(repr(self[0]), 500)}{', ...' if len(self) > 1 else ''}" if len(self) else ""
        return f"<{len(self)} records{shown}>"
