"""Prefix: whether one state of a unit is the beginning of another, as that of a copy that was made while it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..exact import encode_exact
from .packmeta import kept_events
from .packsource import PackSource

if TYPE_CHECKING:
    from .packed import Key, Pack
    from .source import UnitSource

ROWS: Final = 4096
"""Rows that are compared at a time, or fewer of many columns: so many that they have about `CELLS` values."""
CELLS: Final = 1 << 20


def begins_with(longer: UnitSource, shorter: UnitSource) -> bool:
    """Whether a state of a unit begins with another one: every entry and every record of it, bit by bit, in the same order.

    Compared are the header, the entries, and of each record its level and its values; not how they are stored, nor the order
    of a record's keys, which a pack does not keep.

    Raises:
        FormatError: One of them is damaged.
        OSError: One of them cannot be read.
    """
    events = kept_events(shorter.events)
    more = longer.events[len(events) :]
    if (
        longer.header != shorter.header
        or shorter.rows > longer.rows
        or kept_events(longer.events[: len(events)]) != events
        or (more and more[0].row < shorter.rows)
        or shorter.findings
    ):
        return False
    longer, shorter = longer.loaded(), shorter.loaded()
    step = max(1, min(ROWS, CELLS // max(1, longer.width, shorter.width)))
    same = all(
        _rows(longer, start, min(start + step, shorter.rows)) == _rows(shorter, start, min(start + step, shorter.rows))
        for start in range(0, shorter.rows, step)
    )
    return same and not shorter.findings  # some are met only where a record is decoded


def _rows(source: UnitSource, start: int, stop: int) -> list[tuple[int, bytes]]:
    """Levels and records of some rows, the latter in exact form."""
    records = source.records(start, stop)
    exact = (encode_exact(sorted(record.items())) for record in records)
    return list(zip(map(int, source.levels(start, stop)), exact, strict=True))


def pack_begins_with(pack: Pack, key: Key, shorter: UnitSource) -> bool:
    """Whether what a compacted pack has of a unit begins with another state of it.

    Raises:
        FormatError: One of them is damaged.
        OSError: One of them cannot be read.
    """
    return begins_with(PackSource(pack.path, pack, key), shorter)
