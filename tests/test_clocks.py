"""Clocks that jump: the order is by writer and sequence, the last edit wins, and times are never taken for an order."""

import time

import plan
import pytest
from programs import own

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import journal as journals

TEN_YEARS = 10 * 365.25 * 86_400
[SHARD] = plan.shards("test_the_order_is_kept_whatever_the_clock_says", ci=1, long=1)


@pytest.fixture
def clock(monkeypatch):
    """A clock that can be set; `time.time()` of this process."""
    real, jumped = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jumped[0])
    return jumped


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", 1024)
    monkeypatch.setattr(journals, "SIZES", (4096, 4096))
    monkeypatch.setattr("sys.executable", "")


def test_the_order_is_kept_whatever_the_clock_says(collection, clock, reached):
    with collection.new_experiment(v=-1) as experiment:
        keeper = experiment.sub_record_keeper(w=-1)
        for jump in range(SHARD.rounds):
            clock[0] += TEN_YEARS * (-1) ** jump * (1 + jump % 3)
            experiment["v"] = jump
            keeper.update(w=jump)
            for i in range(40):
                keeper.add_record(jump=jump, i=i, pad="x" * 40)
            experiment.sync()
            assert experiment.state == "running"
            assert collection.experiments[0].state == "running"
    assert own(collection.records) == [
        {"v": SHARD.rounds - 1, "w": SHARD.rounds - 1, "jump": jump, "i": i, "pad": "x" * 40}
        for jump in range(SHARD.rounds)
        for i in range(40)
    ]
    (one,) = collection.experiments
    assert one.state == "finished"
    assert one.end_time >= one.start_time
    assert one.duration >= 0
    reached(SHARD.rounds)


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_resumptions_and_later_edits_go_on_whatever_the_clock_says(collection, clock, sign):
    collection.add_notes(note=0)
    for attempt in range(4):
        with collection.new_experiment(attempt=attempt) as experiment:
            experiment.add_record(x=attempt)
        clock[0] += sign * TEN_YEARS
        assert experiment.number == attempt + 1
    collection.experiments[1].close(error="found later")
    with collection.resume_experiment(1) as experiment:
        experiment.add_record(x=10)
    clock[0] -= sign * 3 * TEN_YEARS
    with collection.resume_experiment(1) as experiment:
        experiment.add_record(x=20)
    for value in range(3):
        clock[0] -= sign * TEN_YEARS
        collection.keeper(experiment_number=3).update(late=value)
        collection.add_notes(note=value)
    fresh = ExperimentCollection(collection.path)
    # the runs of an attempt are in the order of their writers' clocks, as docs/format.md says; all else by number
    assert sorted(each["x"] for each in fresh[1]) == [0, 10, 20]
    assert [each["x"] for number in (2, 3, 4) for each in fresh[number]] == [1, 2, 3]
    assert [one.state for one in fresh.experiments] == ["finished", "failed", "finished", "finished"]
    assert all(one.duration >= 0 for one in fresh.experiments)
    assert {each["note"] for each in fresh.records} == {2}
    assert fresh[3][0]["late"] == 2
