"""When the sealing helper is started: not for little, not in a run's first second, and at the latest when a run is over."""

import children
import pytest

from rigorous_recorder.store import full, helper

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


@pytest.mark.parametrize("size", [300_000, 600_000])
@pytest.mark.parametrize("seconds", [0, 0.05], ids=["at once", "later"])
def test_what_is_closed_is_let_go(tmp_path, seconds, size):
    """Ten thousand experiments of some hundred kilobytes stay in memory neither for a helper nor for a heartbeat."""
    run(
        f"""
import gc, weakref
journals = weakref.WeakSet()
for _ in range(20):
    journals.update(background._journals)
    add({size})
    time.sleep({seconds})
    experiment.close()
    experiment = collection.new_experiment()
time.sleep(0.1)
gc.collect()
assert len(journals) <= 1, len(journals)  # that of which the background thread has just seen to
""",
        tmp_path / "study",
        600,
    )


def test_small_experiments_stay_logs_though_there_is_a_helper(tmp_path):
    run(
        """
add(3_000_000)
wait(packs)
experiment.close()
assert background.helper.wait(background.helper.pending, 30)
before = packs()
for _ in range(5):
    with collection.new_experiment() as experiment:
        add(300_000)
        time.sleep(0.1)
assert background.helper.started and not background.helper.pending
assert packs() == before
""",
        tmp_path / "study",
        0.0,
    )


def test_units_that_the_user_syncs_are_sealed(tmp_path):
    """The background thread, which is held back here, finds that they are on disk already."""
    run(
        """
background._take_due = list
add(12_000_000)
experiment.sync()
wait(lambda: packs() == 3)
""",
        tmp_path / "study",
        0.0,
    )


@pytest.mark.parametrize("quiet", [False, True])
def test_units_of_what_rests_are_sealed_though_nobody_closes_it(tmp_path, quiet):
    """A worker that is given one experiment after the other closes none of them; their last units are sealed as well."""
    run(
        f"""
import os
from rigorous_recorder.store import background as backgrounds
backgrounds.MOST_OPEN, backgrounds.QUIET = (64, 0.1) if {quiet} else (1, 600)
experiments = [experiment] + [collection.new_experiment() for _ in range(3)]
pid = os.fork()
if not pid:
    for experiment in experiments:
        add(3_500_000)
    experiments = experiment = None
    wait(lambda: packs() >= (12 if {quiet} else 9))  # of each the 64 KiB, the 2 MiB, and what came after
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
""",
        tmp_path / "study",
        0.0,
    )


def test_a_disk_that_hangs_holds_no_experiment_on_another(tmp_path):
    """Not while the sizes of its full units are looked up, either."""
    run(
        """
import os, threading
from rigorous_recorder.store import files
hangs, real = threading.Event(), files.size

def size(path):
    if path.startswith(sys.argv[1] + "/"):
        hangs.set()
        time.sleep(3600)
    return real(path)

files.size = size
healthy = ExperimentCollection(sys.argv[1] + "2").new_experiment()
add(300_000)
assert hangs.wait(30)
for i in range(10_000):
    healthy.add_record(i=i, text="x" * 980)
print("went on", flush=True)
os._exit(0)
""",
        tmp_path / "study",
        0.0,
    )


def test_an_interrupt_while_the_helper_is_started_leaves_nobody_waiting(tmp_path):
    run(
        """
import os
from rigorous_recorder import session as sessions
sessions.EXIT_WAIT = 60.0
real, times = os.set_blocking, []

def interrupted(descriptor, blocking):
    times.append(descriptor)
    if len(times) == 1:
        raise KeyboardInterrupt
    return real(descriptor, blocking)

os.set_blocking = interrupted
add(3_000_000)
start = time.monotonic()
try:
    experiment.close()
except KeyboardInterrupt:
    experiment.close()
assert time.monotonic() - start < 5 and len(times) == 3
wait(packs)
""",
        tmp_path / "study",
        600,
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


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_pipes_that_the_system_refuses_raise_nothing(tmp_path, monkeypatch, error):
    def refused(descriptor, blocking):
        raise error

    monkeypatch.setattr("os.set_blocking", refused)
    sealing = helper.SealingHelper()
    assert not sealing.submit(str(tmp_path / "log"))
    assert (sealing.started, sealing.pending) == (False, set())


# ---- the units that wait ---------------------------------------------------------------------------------------------


@pytest.fixture
def units():
    return full.FullUnits()


def test_they_wait_until_there_is_enough_and_a_second_has_gone(units):
    journal = object()
    units.add(journal, [], 0, 1.0)
    assert units.due == float("inf")
    units.add(journal, ["a"], 64 << 10, 2.0)
    assert units.due == float("inf")
    assert units.take(1000.0, started=False) == []
    units.add(journal, ["b"], 2 * MIB, 5.0)
    assert units.due == 3.0  # a second after the first of them
    assert units.take(2.5, started=False) == []
    assert units.take(3.0, started=False) == ["a", "b"]
    assert units.take(1000.0, started=True) == []


def test_who_has_packs_gets_more_at_once(units):
    journal = object()
    units.add(journal, ["a"], MIB, 1.0)
    assert units.take(1.0, started=True) == ["a"]
    units.add(journal, ["b"], 10, 7.0)
    assert units.due == 8.0
    assert units.take(7.0, started=True) == ["b"]


def test_each_journal_counts_for_itself_and_is_forgotten_alone(units):
    one, other = object(), object()
    units.add(one, ["a"], MIB - 1, 1.0)
    units.add(other, ["b"], MIB - 1, 1.0)
    assert units.due == float("inf")
    assert units.take(9.0, started=True) == []
    units.add(other, ["c"], 1, 9.0)
    assert units.due == 2.0
    assert units.take(9.0, started=True) == ["b", "c"]
    units.add(other, ["d"], 1, 9.0)
    units.forget(other)
    units.forget(other)
    assert units.take(99.0, started=True) == []


def test_what_is_left_is_sealed_if_it_is_enough_and_then_forgotten(units):
    little, much = object(), object()
    units.add(little, ["a"], MIB - 1, 1.0)
    units.add(much, ["b"], MIB, 1.0)
    for journal in (little, much, object()):
        units.leave(journal)
    assert units.take(1.0, started=True) == ["b"]
    assert units._waiting == {}


def test_a_log_of_which_the_disk_does_not_tell_counts_as_large(tmp_path):
    (tmp_path / "log").write_bytes(bytes(10))
    assert full.size_of([str(tmp_path / "log")]) == 10
    assert full.size_of([str(tmp_path / "log"), str(tmp_path / "gone")]) == 10 + MIB
    assert full.size_of([str(tmp_path / "log" / "below")]) == MIB
