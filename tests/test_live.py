"""A log that is written while it is read: nothing is missing before anything that is read of it, wherever the reader was."""

import contextlib
import random
import zlib

import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import files, pack
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.live import last_block, read_log

BLOCK = 4096


@pytest.fixture
def keeper(tmp_path, journal, monkeypatch):
    monkeypatch.setattr(journals, "SIZES", (16 * BLOCK, 64 * BLOCK))
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", BLOCK)
    with ExperimentCollection(tmp_path / "study", journal=journal).new_experiment() as experiment:
        yield experiment.sub_record_keeper(model="m")


def passed(monkeypatch, path, split, write):
    """Have the next reading of a file get to a byte, then something be written, and then read on."""
    real, left = files.read_all, [write]

    def read_all(which, limit=None):
        if which != path or not left:
            return real(which, limit)
        first = real(which, split)
        left.pop()()
        return first + real(which)[len(first) :]

    monkeypatch.setattr(files, "read_all", read_all)
    return left


@pytest.mark.parametrize("way", ["records", "to_polars", "seal"])
@pytest.mark.parametrize("more", [1, 40, 90, 1500])
def test_the_writer_passes_the_reader(keeper, monkeypatch, more, way):
    """At the end of what is there, at all places before, and behind; one block, two, and a unit further."""
    collection = ExperimentCollection(keeper._session.path)
    dice = random.Random(more)
    count = 0

    def add(number):
        nonlocal count
        for _ in range(number):
            keeper.add_record(n=count, pad="x" * 50)
            count += 1

    passings = 0
    for turn in range(12):
        add(dice.randrange(5, 90))
        keeper.sync()
        log = keeper._session.journal
        split = log.pos + 1 if turn % 3 else dice.randrange(u.PAGE, log.pos + BLOCK)
        with monkeypatch.context() as patch:
            left = passed(patch, log.path, split, lambda: add(more))
            if way == "seal":
                with contextlib.suppress(FileNotFoundError):  # the helper was first, once the unit was full
                    pack.seal(log.path)  # nobody does while it is written; it would still lose nothing
            elif way == "records":
                found = [record["n"] for record in collection.records]
                assert found == list(range(len(found)))
            else:
                found = collection.to_polars()["n"].to_list()
                assert found == list(range(len(found)))
            passings += not left
        assert [record["n"] for record in collection.records] == list(range(count))
    assert passings == 12


def test_where_the_last_block_begins(keeper):
    log = keeper._session.journal
    for _ in range(100):
        keeper.add_record(pad="x" * 50)
        data = files.read_all(log.path)
        assert last_block(data) == u.PAGE + (log.pos - u.PAGE) // BLOCK * BLOCK
        assert read_log(log.path) == data
    assert last_block(b"") == last_block(b"x" * 9000) == last_block(data[: u.PAGE]) == 0
    keeper.add_record(pad="x" * 5 * BLOCK)  # its block is larger, and what stands in it begins none
    data = files.read_all(log.path)
    begun = last_block(data)
    assert u.unpack_block(data, begun).span > 1
    assert zlib.crc32(read_log(log.path)) == zlib.crc32(data)
