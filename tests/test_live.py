"""A log that is written while it is read: nothing is missing before anything that is read of it, wherever the reader was."""

import contextlib
import random
import zlib

import numpy as np
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


def copied(dice, states, size):
    """A copy that was made while a file went through states: each eight bytes of it are of any of them, as they come."""
    full = -(-size // 8) * 8
    words = np.stack([np.frombuffer(state[:size].ljust(full, b"\0"), np.uint64) for state in states])
    chosen = np.random.default_rng(dice.randrange(1 << 30)).integers(len(states), size=words.shape[1])
    return words[chosen, np.arange(words.shape[1])].tobytes()[:size]


@pytest.mark.parametrize("seed", range(8))
def test_copies_whose_bytes_are_of_no_one_moment(keeper, monkeypatch, seed):
    """Of an entry that is just being added there is the mark and not all that was written before it, and the other way round.

    So a reader beside a writer at full speed had 6545295408.0 for 6545295409.0, in one of 76,000 readings.
    """
    collection = ExperimentCollection(keeper._session.path)
    dice = random.Random(seed)
    states, counts, log, count, overhead, full = [], [], "", 0, 46, 0
    while len(states) < 60:
        length = dice.choice([0, 0, 0, 30, 300, 1000])
        journal = keeper._session.journal
        if journal.map and 300 < journal._end - journal.pos < 1000 and dice.random() < 0.7:
            length = journal._end - journal.pos - overhead  # the block will be full to its last byte
        before = journal.pos
        keeper.add_record(n=count, square=float(count * count), long="x" * length)
        if length >= 300 and journal.pos > before:
            overhead = journal.pos - before - length
        full += journal.pos == journal._end
        count += 1
        if dice.random() < 0.1:
            keeper.sync()
        if dice.random() < 0.4:
            log = log or keeper._session.journal.path
            states.append(files.read_all(log))
            counts.append(count)
    assert keeper._session.journal.path == log, "the first unit is full"
    assert full, "no block was full to its last byte, behind which the next one begins"
    real = files.read_all
    for _ in range(150):
        begin = dice.randrange(len(states) - 4)
        between = begin + dice.randrange(4)
        end = between + dice.randrange(len(states) - between)
        copies = [
            copied(dice, states[begin : between + 1], len(states[begin])),
            copied(dice, states[between : end + 1], len(states[between])),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(
                files,
                "read_all",
                lambda path, limit=None, left=copies: real(path, limit) if path != log else left.pop(0)[:limit],
            )
            found = [*collection.records]
        assert [record["n"] for record in found] == list(range(len(found)))
        assert all(record["square"] == float(record["n"] ** 2) for record in found)
        assert all(set(record["long"]) <= {"x"} for record in found)
        assert counts[begin] <= len(found) <= counts[between]
        assert copies == []


def test_an_entry_that_goes_on_behind_what_the_file_was_when_it_was_opened(keeper, monkeypatch):
    """In `write()` mode a file grows: its reader asks for its size, and then it has the mark of an entry that is longer."""
    collection = ExperimentCollection(keeper._session.path)
    keeper.add_record(n=0)
    log = keeper._session.journal
    before = log.pos
    keeper.add_record(n=1, long="x" * 200)
    real, sizes = files.read_all, [before + 20, None]
    monkeypatch.setattr(
        files, "read_all", lambda path, limit=None: real(path, limit or (sizes.pop(0) if path == log.path else None))
    )
    assert [record["n"] for record in collection.records] == [0, 1]
    assert sizes == []


def test_the_first_block_is_begun_in_the_middle_of_a_copy(keeper, monkeypatch):
    """Of its head there is the half, in a copy of which nothing can be said, and no entry is known to be there."""
    keeper.add_record(n=0)
    log = keeper._session.journal.path
    data = files.read_all(log)
    copies = [data[: u.PAGE + 8].ljust(len(data), b"\0"), data]
    with monkeypatch.context() as patch:
        patch.setattr(files, "read_all", lambda path, limit=None: copies.pop(0))
        found = read_log(log)
    assert found == data[: u.PAGE].ljust(len(data), b"\0")
    assert copies == []
    assert read_log(log) == data


def test_where_the_last_block_begins(keeper):
    log = keeper._session.journal
    for _ in range(100):
        keeper.add_record(pad="x" * 50)
        data = files.read_all(log.path)
        header = u.unpack_header(data[: u.PAGE])
        assert last_block(data, header) == u.PAGE + (log.pos - u.PAGE) // BLOCK * BLOCK
        assert read_log(log.path) == data
    assert last_block(data[: u.PAGE], header) == last_block(data[: u.PAGE] + bytes(BLOCK), header) == 0
    keeper.add_record(pad="x" * 5 * BLOCK)  # its block is larger, and what stands in it begins none
    data = files.read_all(log.path)
    begun = last_block(data, header)
    assert u.unpack_block(data, begun).span > 1
    assert zlib.crc32(read_log(log.path)) == zlib.crc32(data)
