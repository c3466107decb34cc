"""Promises that an independent review saw broken once: handles, the user's exception, equal info, lost pending values."""

import json
import multiprocessing
import pathlib
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

from rigorous_recorder import ExperimentCollection, RecorderError, RecorderWarning, RecordKeeper
from rigorous_recorder.errors import NotACollectionError, StoreError
from rigorous_recorder.store import files
from rigorous_recorder.store.background import background
from rigorous_recorder.store.journal import Journal

ELSEWHERE = """
import pickle, sys
keeper = pickle.load(sys.stdin.buffer)
print(type(keeper).__name__, keeper.number, keeper.state)
try:
    keeper.add_record(x=99)
    print("added")
except RuntimeError as error:
    print("refused:", error)
with keeper:
    print("the block of another process ends nothing")
"""


def elsewhere(keeper):
    """What another process says of a keeper that was handed to it."""
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=pickle.dumps(keeper), capture_output=True, check=True, timeout=60
    )
    return ended.stdout.decode().splitlines()


def test_a_closed_experiment_is_closed_in_other_processes(collection):
    with collection.new_experiment(lr=1) as experiment:
        experiment.add_record(x=1)
    for handle in (experiment, collection.experiments[0]):
        kind, refused, _ = elsewhere(handle)
        assert kind == "Experiment 1 finished"
        assert refused.startswith("refused:")
    assert len(collection) == 1


def test_a_running_experiment_is_an_experiment_in_other_processes_and_not_ended_by_them(collection):
    with collection.new_experiment(lr=1) as experiment:
        experiment.add_record(x=1)
        assert elsewhere(experiment)[:2] == ["Experiment 1 running", "added"]
        assert collection.experiments[0].state == "running"
    assert [each["x"] for each in collection] == [1, 99]


def test_a_failing_disk_does_not_hide_the_users_exception(collection, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    def body():
        with collection.new_experiment() as experiment:
            experiment.add_record(x=1)
            monkeypatch.setattr(files, "sync_data", broken)
            raise KeyError("mine")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)  # of the background thread
        with pytest.raises(KeyError, match="mine") as caught:
            body()
    assert "rigorous_recorder" in caught.value.__notes__[0]
    monkeypatch.undo()
    assert [each["x"] for each in collection] == [1]


def test_a_failing_disk_is_raised_when_the_body_ended_well(collection, monkeypatch):
    experiment = collection.new_experiment()
    experiment.add_record(x=1)

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)
        patch.setattr(files, "sync_data", broken)
        with pytest.raises(StoreError):
            experiment.close()
    assert [each["x"] for each in collection] == [1]


def test_values_left_pending_do_not_hide_the_users_exception(collection):
    def body():
        with collection.new_experiment() as experiment:
            experiment.pending_record["x"] = 1
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        body()


def test_equal_info_is_equal_in_any_order(tmp_path):
    collection = ExperimentCollection(tmp_path / "study", retries="same_info")
    numbers = []
    for info in ({"lr": 1, "deep": {"a": 1, "b": 2}}, {"deep": {"b": 2, "a": 1}, "lr": 1}, {"lr": 1.0, "deep": {}}):
        experiment = collection.new_experiment(info)
        numbers.append(experiment.number)
        experiment.close("failed")
    assert numbers == [1, 1, 2]


def test_equal_data_has_an_equal_fingerprint_in_any_order():
    assert RecordKeeper(a={"x": 1, "y": 2}, b=1).fingerprint == RecordKeeper(b=1, a={"y": 2, "x": 1}).fingerprint
    prints = [RecordKeeper(a=value).fingerprint for value in (1, "1", True, 1.0, None, [1], (1,))]
    assert len(set(prints)) == len(prints)


def test_values_pending_in_a_thread_that_ended_are_warned_of(collection):
    experiment = collection.new_experiment()

    def fill():
        experiment.pending_record["lost"] = 1

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    del thread
    with pytest.warns(RecorderWarning, match="lost"):
        experiment.close()


class Meta:
    """Like a tensor that has no values: its `item` raises something of its own."""

    def item(self):
        raise RuntimeError("Cannot copy out of meta tensor; no data!")


@pytest.mark.parametrize("add", ["add_record", "add_records", "level"])
def test_whatever_a_value_raises_it_is_named(add):
    keeper = RecordKeeper()
    keeper.pending_record["a"] = 1
    calls = {
        "add_record": lambda: keeper.add_record(x=Meta()),
        "add_records": lambda: keeper.add_records([{"x": Meta()}]),
        "level": lambda: keeper.update(x=Meta()),
    }
    with pytest.raises(TypeError, match="'x'") as caught:
        calls[add]()
    assert isinstance(caught.value, RecorderError)
    if add == "add_record":
        assert caught.value.record["a"] == 1
    assert len(keeper) == 0


def test_two_columns_of_one_name_are_refused():
    keeper = RecordKeeper()
    with pytest.raises(ValueError, match="'a'"):
        keeper.add_records(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert len(keeper) == 0


@pytest.mark.parametrize("version", ["1e999", '"1"', "null", "[]"])
def test_a_format_that_is_none(tmp_path, version):
    (tmp_path / "format").write_text(f'{{"format": "rigorous_recorder", "version": {version}, "features": []}}')
    with pytest.raises(NotACollectionError):
        ExperimentCollection(tmp_path)


def test_numbers_that_are_no_int(collection):
    with collection.new_experiment() as experiment:
        experiment.add_record(x=1)
    assert len(collection[np.int64(1)]) == 1
    with pytest.raises(KeyError, match=r"records\[3\]"):
        experiment[np.int64(3)]
    with pytest.raises(TypeError):
        collection.resume_experiment("1")


@pytest.mark.parametrize("path", ["a\0b", "\ud800x", ""])
def test_paths_that_cannot_be(path):
    with pytest.raises(NotACollectionError, match="path"):
        ExperimentCollection(path)


def test_a_path_in_bytes(tmp_path):
    assert ExperimentCollection(str(tmp_path / "study").encode()).path == str(tmp_path / "study")


def test_a_pending_record_compares_and_copies_as_what_it_shows():
    pending = RecordKeeper(a=1).pending_record
    pending["x"] = 1
    assert pending == {"a": 1, "x": 1}
    assert not pending != {"a": 1, "x": 1}  # noqa: SIM202  (it is `!=` that is tested)
    assert pending.copy() == json.loads(json.dumps(pending.copy())) == {"a": 1, "x": 1}
    assert pending.setdefault("a", 7) == 1
    assert pending.waiting() == {"x": 1}
    pending.clear()


def test_an_earlier_try_that_finished_counts(collection):
    first = collection.new_experiment()
    first.close("failed")
    second = collection.new_experiment()
    second.close("failed")
    collection.experiments[0].close()
    assert [each.state for each in collection.experiments] == ["finished", "failed"]
    third = collection.new_experiment()
    assert third.number == 2
    third.close()


def test_reversed_records_and_far_indices_of_large_units(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        for number in range(60_000):  # more than 1 MiB, so that it is sealed
            experiment.add_record(number=number)
        live = experiment.records
        assert [each["number"] for each in reversed(live)] == list(range(60_000))[::-1]
    records = collection.records
    assert [each["number"] for each in reversed(records)] == list(range(60_000))[::-1]
    assert [records[index]["number"] for index in (59_999, 0, 30_000)] == [59_999, 0, 30_000]
    assert [each["number"] for each in records[::-20_000]] == [59_999, 39_999, 19_999]


def work(keeper):
    """What a worker of multiprocessing does: records, and returns."""
    keeper.add_record(worker=True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_close_their_files(collection, method):
    with collection.new_experiment() as experiment:
        worker = multiprocessing.get_context(method).Process(target=work, args=(experiment,))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
    sizes = [file.stat().st_size for file in pathlib.Path(collection.path).rglob("*.log")]
    assert len(sizes) == 2
    assert max(sizes) < 8192  # a log that is still open is preallocated
    assert [each["worker"] for each in collection] == [True]


def test_no_thread_can_be_started(collection, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "_thread", None)
    monkeypatch.setattr(background, "_threadless", False)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with collection.new_experiment() as experiment:
            for number in range(20_000):
                experiment.add_record(number=number)
    assert "No background thread" in str(caught[0].message)
    assert len(collection) == 20_000


def test_a_handle_from_before_a_resumption_does_not_end_it(collection):
    old = collection.new_experiment()
    old.close()
    with collection.resume_experiment() as experiment:
        with pytest.raises(RuntimeError, match="resumed"):
            old.close("too late")
        assert experiment.state == "running"
    assert collection.experiments[0].state == "finished"


def test_a_journal_that_cannot_let_go_does_not_keep_the_others_from_a_fork(collection):
    """A child whose journals were not all reset would store into its parent's file."""
    stale = [Journal(collection.path, mode="mmap") for _ in range(50)]
    for journal in stale:
        journal._descriptor = 1_000_000  # no such file is open
    with collection.new_experiment() as experiment:
        experiment.add_record(worker=False)
        worker = multiprocessing.get_context("fork").Process(target=work, args=(experiment,))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        experiment.add_record(worker=False)
    for journal in stale:
        journal._descriptor = -1
    assert sorted(each["worker"] for each in collection) == [False, False, True]
