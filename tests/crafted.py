"""Packs as a hostile hand makes them: a part of what a footer says is replaced, and every checksum is made to match again."""

import shutil
import zlib
from pathlib import Path

import msgspec
import polars as pl

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import layout, packmeta
from rigorous_recorder.store.pack import parquet, seal

ROWS = 50


def study(path, attempts=2, *, compacted=True):
    """A collection of finished experiments with fifty records each, compacted or sealed."""
    collection = ExperimentCollection(path)
    for nth in range(attempts):
        with collection.new_experiment(lr=nth) as experiment:
            keeper = experiment.sub_record_keeper(model="m")
            for row in range(ROWS):
                keeper.add_record(index=row)
    if compacted:
        collection.compact(progress=False)
    else:
        for log in Path(path).glob("0*/*/*.log"):
            seal(str(log))
    return ExperimentCollection(path)


def recompact(path, change, frame_change=lambda frame: frame):
    """Change the footer [attempts, units, columns] of the one compacted pack of a study, and its rows; its new path."""
    (old,) = Path(path).glob("packs/*.parquet")
    frame = frame_change(pl.read_parquet(old))
    data = msgspec.msgpack.decode(packmeta.described(packmeta.read_footer(str(old), None), b"RRPACK2"))
    change(data)
    content = parquet(frame, packmeta.footer_text("RRPACK2", msgspec.msgpack.encode(data)), b"RRPACK2")
    old.unlink()
    new = old.with_name(layout.packed_name(layout.parse_packed(old.name).id, len(content), zlib.crc32(content)))
    new.write_bytes(content)
    for name in (entry for entry in Path(path).iterdir() if layout.parse_claim(entry.name)):
        shutil.rmtree(name)
    return new


def reseal(path, change, frame_change=lambda frame: frame):
    """Change the footer [header, events, rows, size, crc, beat, columns, runs] of the first sealed unit; its new path."""
    old = min(Path(path).glob("0*/*/*.parquet"))
    frame = frame_change(pl.read_parquet(old))
    data = msgspec.msgpack.decode(packmeta.described(packmeta.read_footer(str(old), None)))
    change(data)
    content = parquet(frame, packmeta.footer_text("RRPACK1", msgspec.msgpack.encode(data)))
    unit = layout.parse_unit(old.name)
    old.unlink()
    new = old.with_name(layout.pack_name(unit.writer, unit.n, data[2], len(content), zlib.crc32(content)))
    new.write_bytes(content)
    return new
