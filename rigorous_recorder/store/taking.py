"""What a compaction takes: one unit, or a compacted pack, in which nothing is wrong; else why it is left as it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from rigorous_recorder.errors import FormatError

from . import files, layout, machine
from .attempt import is_gone
from .columns import Decoded
from .gather import TooWideError
from .holders import is_cut
from .live import read_log
from .names import LEVEL
from .packmeta import PackMeta, kept_events, load_meta
from .packread import read_frame, verify
from .report import DAMAGED, OPEN
from .schema import described
from .truth import untrue, untrue_columns, untrue_levels

if TYPE_CHECKING:
    import polars as pl

    from .packed import Pack
    from .snapshot import UnitPlace

UNVERIFIED: Final = "its last entries were never verified"
WIDE: Final = "it has so many keys that a table of them would be nearly all empty"
NEWER: Final = "of a newer version of the format"


class Left(Exception):  # noqa: N818  (no error: a unit that stays where it is)
    """Why a unit is left as it is."""


def read_unit(place: UnitPlace, ahead: float) -> tuple[PackMeta, pl.DataFrame]:
    """What a pack says of a unit, and its rows, every byte of which a checksum vouches for.

    Args:
        place: Of the unit.
        ahead: Seconds by which this host's clock is ahead of the file server's.

    Raises:
        Left: It must stay as it is; the text says why.
        OSError: It cannot be read.
    """
    return _read_sealed(place) if place.name.sealed else _read_log(place, ahead)


def in_order(pack: Pack) -> bool:
    """Whether all that the footer of a compacted pack tells is so, and its rows can be read.

    Raises:
        FormatError: It is damaged.
        Left: It has a unit of a newer version.
        OSError: It cannot be read.
    """
    metas = [pack.meta(key) for key in pack.units]
    if any(layout.newer(meta.header.version, meta.header.features) for meta in metas):
        raise Left(NEWER)
    frame = read_frame(pack.path)
    return not untrue(pack, frame, frame.schema)


def _read_sealed(place: UnitPlace) -> tuple[PackMeta, pl.DataFrame]:
    try:
        meta = load_meta(place.path)
        if layout.newer(meta.header.version, meta.header.features):
            raise Left(NEWER)
        if meta.header.attempt != place.key.attempt or not verify(place.path):
            raise Left(DAMAGED)
        frame = read_frame(place.path)
        if untrue_columns(place.path, meta.columns, frame.schema) or untrue_levels(meta.runs, frame[LEVEL]):
            raise Left(DAMAGED)
        return described(meta, frame), frame
    except FormatError as error:
        raise Left(DAMAGED) from error


def _read_log(place: UnitPlace, ahead: float) -> tuple[PackMeta, pl.DataFrame]:
    data = read_log(place.path)
    try:
        decoded = Decoded(data, refuse_wide=True)
    except TooWideError as error:
        raise Left(WIDE) from error
    except ValueError as error:
        raise Left(DAMAGED) from error
    header = decoded.header
    if layout.newer(header.version, header.features):
        raise Left(NEWER)
    if decoded.findings or (header.attempt, header.writer, header.n) != place.key:
        raise Left(DAMAGED)
    gone = is_gone(header, decoded.beat, files.modified(place.path), ahead)
    if not gone and not is_cut(data, header):
        raise Left(OPEN)
    if decoded.unverified and not (gone and machine.same_boot(header.boot, header.host)):
        raise Left(UNVERIFIED)
    meta = PackMeta(header, kept_events(decoded.events), decoded.rows, len(data), zlib.crc32(data), decoded.beat)
    return described(meta, decoded.frame), decoded.frame
