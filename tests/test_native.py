"""The compiled hot path writes what the one in Python writes, takes what is common, and leaves everything else to it."""

import math
import os
import sys
import threading
from unittest import mock

import children
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import ROOT
from strategies import floats, ints, small, texts

from rigorous_recorder import RecordKeeper, accelerator, adding
from rigorous_recorder.store import replay
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.lock import GIL

compiled = pytest.mark.skipif(accelerator.native is None, reason="the hot path was not compiled, or is not wanted")

plain = st.none() | st.booleans() | small | ints | floats | texts | st.text(max_size=300)
anything = (
    plain | st.binary(max_size=5) | st.lists(small, max_size=3) | st.just(2**70) | st.just("\ud800") | st.just(object())
)
keys = st.sampled_from(["x", "y", "loss", "é"]) | texts
records = st.dictionaries(keys, anything, max_size=4) | st.dictionaries(st.text(max_size=3), plain, max_size=40)


def test_it_is_compiled_where_it_can_be():
    """Without this, a compiler that fails would only make everything slower, and no test would say so."""
    if os.environ.get("RIGOROUS_RECORDER_PURE"):
        assert accelerator.native is None
    elif os.environ.get("CI") == "true" and sys.implementation.name == "cpython" and GIL:
        assert accelerator.native is not None


def entries(keeper):
    """The bytes of all entries of a keeper in memory."""
    units = keeper._journal.memory()
    return [unit[u.PAGE + u.BLOCK_HEAD :] for unit in units]


def outcome(add, record):
    """What an add gives, the class and text of its error."""
    try:
        return add(record)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@compiled
@given(st.lists(records, max_size=6))
def test_the_c_writes_the_bytes_that_python_writes(rows):
    ours, reference = RecordKeeper(a=1), RecordKeeper(a=1)
    mine, theirs = [ours.sub_record_keeper(b=b) for b in range(2)], [reference.sub_record_keeper(b=b) for b in range(2)]
    for place, row in enumerate(rows):
        assert outcome(mine[place % 2].add_record, row) == outcome(theirs[place % 2]._add_in_python, row)
    assert entries(ours) == entries(reference)


@compiled
@given(
    st.lists(st.dictionaries(st.sampled_from(["x", "y", "record_", "é"]), plain, min_size=1, max_size=3), max_size=5)
)
def test_keywords_and_pending_values_are_the_same_records(rows):
    keeper, reference = RecordKeeper(), RecordKeeper()
    for row in rows:
        keeper.add_record(**row)
        for key, value in row.items():
            keeper.pending_record[key] = value
        keeper.commit_record()
        assert len(dict.keys(keeper.pending_record)) == 0
        reference._add_in_python(row)
        reference._add_in_python(row)
    assert entries(keeper) == entries(reference)


@compiled
def test_it_takes_what_is_common_without_python(monkeypatch):
    keeper = RecordKeeper()
    one, two = keeper.sub_record_keeper(n=1), keeper.sub_record_keeper(n=2)
    for each in (one, two):
        each.add_record(first=1)  # defines the level
        assert dict.__len__(each.pending_record) == 0

    def refuse(*_, **__):
        pytest.fail("this was left to Python")

    for name in ("_add_in_python", "_commit_in_python", "_find_pending"):
        monkeypatch.setattr(adding.Adding, name, refuse)
    for each in (one, two, one):
        each.add_record({"x": 0.5, "y": -1, "name": "é", "ok": True, "none": None, "large": 2**64 - 1})
        each.add_record(x=math.nan, y=-(2**63))
        each.pending_record["x"] = 7
        each.commit_record()
    monkeypatch.undo()
    found = [(record["n"], record["x"]) for record in keeper.records if record["first"] is None]
    assert repr(found) == repr([(n, x) for n in (1, 2, 1) for x in (0.5, math.nan, 7)])


@compiled
def test_numpy_floats_are_taken_and_other_subclasses_keep_their_meaning(monkeypatch):
    np = pytest.importorskip("numpy")

    class Celsius(float):
        """A float of somebody's own."""

    keeper = RecordKeeper()
    keeper.add_record(first=1)
    keeper.add_record(x=Celsius(1.5), y=True)
    monkeypatch.setattr(adding.Adding, "_add_in_python", None)
    keeper.add_record(x=np.float64(2.5))
    monkeypatch.undo()
    assert [record["x"] for record in keeper.records] == [None, 1.5, 2.5]


@compiled
def test_pending_values_of_another_thread_are_not_taken():
    keeper = RecordKeeper()
    keeper.pending_record["mine"] = 1

    def other():
        keeper.add_record(theirs=1)
        keeper.pending_record["theirs"] = 2
        keeper.commit_record()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert dict.__len__(keeper.pending_record) == 1
    keeper.commit_record()
    assert [dict(record) for record in keeper.records] == [{"theirs": 1}, {"theirs": 2}, {"mine": 1}]


@compiled
def test_the_memory_of_a_journal_can_be_closed_and_is_freed():
    """The C holds the memory of the current unit only: a map that is exported cannot be closed."""
    keeper = RecordKeeper()
    journal = keeper._journal
    with pytest.raises(BufferError):
        journal.map.close()
    memory = journal.map
    journal.close("done")
    assert journal.map is None
    memory.close()


@compiled
@given(st.data())
def test_the_c_walks_a_unit_as_python_does(data):
    """Whole units, cut ones, and ones with bytes that are wrong: the same records, events and findings."""
    rows = data.draw(st.lists(st.dictionaries(keys, plain | st.binary(max_size=400), max_size=3), max_size=30))
    root = RecordKeeper()
    keepers = [root.sub_record_keeper(n=n) for n in range(3)]
    for place, row in enumerate(rows):
        keepers[place % 3].add_record(row)
        if place % 5 == 4:
            root.add_records(x=range(place))
    (unit,) = root._journal.memory()
    damaged = bytearray(unit[: data.draw(st.integers(u.PAGE, len(unit)))])
    for place in data.draw(st.lists(st.integers(u.PAGE, len(unit) - 1), max_size=4)):
        if place < len(damaged):
            damaged[place] = data.draw(st.integers(0, 255))
    found = []
    for native in (accelerator.native, None):
        with mock.patch.object(replay, "native", native):
            found.append(replay.Replay(bytes(damaged)))
    mine, theirs = ([getattr(each, name) for name in each.__slots__ if name != "header"] for each in found)
    assert mine == theirs


def test_without_the_c_everything_is_in_python(tmp_path):
    program = """
import sys
from rigorous_recorder import ExperimentCollection, RecordKeeper
assert not any(name.endswith("_native") for name in sys.modules)
with ExperimentCollection(sys.argv[1]).new_experiment() as experiment:
    for i in range(100):
        experiment.add_record(i=i)
        experiment.pending_record["j"] = i
        experiment.commit_record()
assert len(ExperimentCollection(sys.argv[1])) == 200
"""
    ended = children.run(program, tmp_path / "study", env={**children.ENVIRONMENT, "RIGOROUS_RECORDER_PURE": "1"})
    assert ended.returncode == 0, ended.stderr


def test_the_source_of_the_c_is_part_of_the_package():
    assert (ROOT / "rigorous_recorder" / "_native.c").exists()
