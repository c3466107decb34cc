"""When the sealing helper is started: not for little, not in a run's first second, and at the latest when a run is over."""

import time

import children
import pytest

from rigorous_recorder.store import full

MIB = 1 << 20

PROGRAM = """
import sys, time
from pathlib import Path
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import full
from rigorous_recorder.store.background import background

full.START_AFTER = float(sys.argv[2])
collection = ExperimentCollection(sys.argv[1], sync_interval=0.02)
experiment = collection.new_experiment()

def add(size):
    "About so many bytes, a thousand in each record."
    for i in range(size // 1000):
        experiment.add_record(i=i, text="x" * 980)

def packs():
    return len(list(Path(sys.argv[1]).rglob("*.parquet")))

def wait(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, f"waited in vain, {background.helper.started=}, {packs()=}"
        time.sleep(0.01)
"""


def run(code, path, start_after):
    ended = children.run(PROGRAM + code, str(path), str(start_after))
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def test_little_is_not_sealed_however_long_the_run_takes(tmp_path):
    run(
        """
add(300_000)  # the first unit is full
time.sleep(0.3)
assert not background.helper.started and not packs()
experiment.close()
assert not background.helper.started
""",
        tmp_path / "study",
        0.0,
    )


def test_what_is_closed_is_let_go(tmp_path):
    """Ten thousand experiments of a few hundred kilobytes must not stay in memory for units that wait for no helper."""
    run(
        """
import gc, weakref
journals = weakref.WeakSet()
for _ in range(4):
    journals.update(background._journals)
    add(300_000)
    time.sleep(0.1)
    experiment.close()
    experiment = collection.new_experiment()
gc.collect()
assert len(journals) <= 1  # that of which the background thread has just seen to
""",
        tmp_path / "study",
        0.0,
    )


def test_full_units_are_sealed_while_the_run_goes_on(tmp_path):
    run(
        """
add(3_000_000)
wait(packs)
add(12_000_000)
wait(lambda: packs() > 2)  # a helper that is there hears of each full unit
assert experiment.state == "running"
""",
        tmp_path / "study",
        0.0,
    )


def test_a_run_that_is_over_soon_starts_the_helper_when_it_closes(tmp_path):
    run(
        """
add(12_000_000)
time.sleep(0.3)
assert not background.helper.started and not packs()
experiment.close()
assert background.helper.started
wait(lambda: packs() == 3)
""",
        tmp_path / "study",
        600,
    )


def test_the_helper_is_started_though_nothing_is_to_be_synced_for_long(tmp_path):
    """The thread that sleeps until the next sync, an hour here, wakes for it."""
    run(
        """
experiment.close()
experiment = ExperimentCollection(sys.argv[1], sync_interval=3600).new_experiment()
add(12_000_000)
wait(packs)
""",
        tmp_path / "study",
        0.5,
    )


# ---- the units that wait ---------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path):
    """Makes a file of so many bytes."""

    def make(name, size):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        return str(path)

    return make


def test_they_wait_until_there_is_enough_and_a_second_has_gone(unit):
    units, journal = full.FullUnits(), object()
    units.add(journal, [], 1.0)
    assert units.due == float("inf")
    units.add(journal, [unit("a", 64 << 10)], 2.0)
    assert units.due == float("inf")
    assert units.take(1000.0, started=False) == []
    units.add(journal, [unit("b", 2 * MIB)], 5.0)
    assert units.due == 3.0  # a second after the first of them
    assert units.take(2.5, started=False) == []
    assert [path[-1] for path in units.take(3.0, started=False)] == ["a", "b"]
    assert units.take(1000.0, started=True) == []


def test_each_journal_counts_for_itself_and_is_forgotten_alone(unit):
    units, one, other = full.FullUnits(), object(), object()
    units.add(one, [unit("a", MIB - 1)], 1.0)
    units.add(other, [unit("b", MIB - 1)], 1.0)
    assert units.due == float("inf")
    units.add(other, [unit("c", 1)], 9.0)
    assert units.due == 2.0
    units.forget(other)
    units.forget(other)
    assert units.due == float("inf")
    assert [path[-1] for path in units.take(1.0, started=True)] == ["a"]


def test_a_unit_that_was_sealed_meanwhile_counts_as_large(tmp_path):
    units = full.FullUnits()
    units.add(object(), [str(tmp_path / "gone")], time.monotonic())
    assert units.due < float("inf")
