"""Our errors: they survive the way to another process with all that they say, whatever the record held that was refused."""

import copy
import datetime as dt
import decimal
import inspect
import os
import pickle
import re
import shutil
import threading
import uuid
from collections import OrderedDict, namedtuple
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from programs import ELSEWHERE, run_killed, stable, wait_until_sealed

from rigorous_recorder import ExperimentCollection, RecorderError, RecordKeeper, errors
from rigorous_recorder.store.background import background

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, (RecorderError, errors.RecorderWarning))
]
Point = namedtuple("Point", "x y")  # noqa: PYI024  (a class as users have them)


class Angry:
    """Whose every method raises."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no repr")


class Slotted:
    """With slots and no state."""

    __slots__ = ("x",)


def made(cls):
    """An error of each class, as the package makes it."""
    if issubclass(cls, OSError):
        return cls(28, "the record cannot be stored: No space left. Hint: free space", "/study")
    if "key" in inspect.signature(cls.__init__).parameters:
        return cls("The fact. Hint: do.", key="loss")
    return cls("The fact. Hint: do.")


@pytest.mark.parametrize("cls", sorted(CLASSES, key=lambda cls: cls.__name__))
def test_every_error_survives_pickle_with_all_that_it_says(cls):
    error = made(cls)
    if isinstance(error, RecorderError):
        error.record = {"x": 1, "loss": 0.5}
        error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is cls
        assert str(again) == str(error)
        assert again.args == error.args
        for name in ("key", "record", "errno", "strerror", "filename", "__notes__"):
            assert getattr(again, name, "none") == getattr(error, name, "none")


KEPT = [
    1, 0.5, 2 + 1j, "text", b"bytes", None, [1, [2]], {"a": {"b": (1,)}}, {1, 2}, frozenset({1}), dt.date(2026, 1, 2),
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(1), decimal.Decimal("1.5"), uuid.UUID(int=1), Path("a/b"),
    np.float64(0.5), np.int8(3), OrderedDict(a=1), Point(1, 2), int, len, inspect.signature, 2**70, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", KEPT, ids=stable)
def test_what_can_be_sent_is_sent_as_it_is(value):
    error = errors.UnstorableTypeError("no", key="x")
    error.record = {"x": value}
    again = pickle.loads(pickle.dumps(error)).record["x"]
    assert type(again) is type(value)
    assert again == value


def test_arrays_are_sent_as_they_are():
    error = errors.ClosedError("no")
    error.record = {"x": np.arange(5), "y": np.zeros((2, 3), "f4")}
    again = pickle.loads(pickle.dumps(error)).record
    assert again["x"].tolist() == [0, 1, 2, 3, 4]
    assert again["y"].shape == (2, 3)


def test_of_what_cannot_be_sent_the_repr_is():
    lock = threading.Lock()
    local = type("Local", (), {})
    circle = [lock]
    circle.append(circle)
    bad = [lock, [1, lock], {"a": lock}, (lambda: 1), local, local(), Slotted(), (n for n in ()), open, circle]
    bad += [lock.acquire, RecordKeeper(a=1), inspect]
    for value in bad:
        with pytest.raises(RecorderError) as caught:
            RecordKeeper().add_record({"good": 1, "bad": value, **({value: 1} if value is lock else {})})
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.record["good"] == 1
        try:
            expected = pickle.loads(pickle.dumps(value))
        except (TypeError, AttributeError, pickle.PicklingError, RecorderError):
            expected = repr(value)
        else:
            expected = again.record["bad"] if type(expected) is type(again.record["bad"]) else expected
        assert again.record["bad"] == expected
        assert str(again) == str(caught.value)
        assert caught.value.record["bad"] is value, "here it is what it was"
    error = errors.ClosedError("no")
    error.record = {"bad": Angry()}
    assert pickle.loads(pickle.dumps(error)).record == {"bad": "<Angry, whose repr raises RuntimeError>"}


@pytest.mark.parametrize("value", [threading.Lock(), type("Local", (), {})(), np.longdouble(1)], ids=stable)
def test_an_error_has_a_cause_that_can_be_sent(value):
    """Dask sends the cause too, by tblib, and where that fails only the error's repr."""
    for refuse in (RecordKeeper().add_record, RecordKeeper):
        with pytest.raises(TypeError, match="'bad'") as caught:
            refuse(bad=value)
        cause = caught.value.__cause__
        assert str(pickle.loads(pickle.dumps(cause))) == str(cause) == type(value).__qualname__


def refused(path):
    """Work that records a lock."""
    with ExperimentCollection(path).new_experiment() as experiment:
        experiment.add_record(step=1, lock=threading.Lock())


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_an_executor_shows_our_error(tmp_path, start):
    says = r"'lock' is of type _thread.lock.*Hint"
    with (
        ProcessPoolExecutor(1, mp_context=get_context(start)) as pool,
        pytest.raises(errors.UnstorableTypeError, match=says) as caught,
    ):
        pool.submit(refused, tmp_path / "study").result(60)
    assert caught.value.key == "lock"
    assert caught.value.record["step"] == 1
    assert caught.value.record["lock"].startswith("<unlocked _thread.lock object")


# ---- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [3, "text", [1], dict], ids=repr)
def test_level_data_that_is_no_mapping_is_not_called_a_record(tmp_path, given):
    collection = ExperimentCollection(tmp_path / "study")
    keeper = RecordKeeper()
    ways = (RecordKeeper, keeper.sub_record_keeper, keeper.update, collection.new_experiment, collection.add_notes)
    for way in ways:
        with pytest.raises(TypeError, match=r"^The data of a level is keys and their values.*Hint: ") as caught:
            way(given)
        assert isinstance(caught.value, RecorderError)
        assert "record" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_key_with_a_lone_surrogate_is_said_to_be_one():
    keeper = RecordKeeper()
    ways = (
        lambda: keeper.add_record({"a\ud800": 1}),
        lambda: keeper.add_records({"a\ud800": [1]}),
        lambda: keeper.add_records([{"a\ud800": 1}]),
        lambda: keeper.update({"a\ud800": 1}),
    )
    for way in ways:
        with pytest.raises(TypeError, match=r"^The key 'a\\ud800' holds a lone surrogate, .*Hint: "):
            way()
    keeper.add_record({"a\ud800".encode("utf-8", "replace").decode(): 1})  # as the hint says
    assert list(keeper) == [{"a?": 1}]


def test_a_folder_is_no_saved_tree(tmp_path):
    with pytest.raises(errors.FormatError, match=r"is a folder.*Hint: ExperimentCollection\("):
        RecordKeeper.load_from(tmp_path)
    with pytest.raises(FileNotFoundError):
        RecordKeeper.load_from(tmp_path / "nothing")


@pytest.mark.parametrize("wrong", ["1", None, [1], True, float("nan"), 0, -1, 4000])
def test_a_sync_interval_that_is_none_is_refused_in_our_words(tmp_path, wrong):
    with pytest.raises(errors.InvalidCallError, match=f"^sync_interval={re.escape(repr(wrong))} is no number"):
        ExperimentCollection(tmp_path / "study", sync_interval=wrong)
    for right in (1, 0.5, np.float32(0.5), np.int64(2)):
        ExperimentCollection(tmp_path / "study", sync_interval=right)


@pytest.mark.parametrize("sealed", [False, True])
def test_reading_on_when_the_folder_was_removed(tmp_path, sealed, monkeypatch):
    if not sealed:
        monkeypatch.setattr(background.helper, "submit", lambda path: False)  # else it seals while the folder goes
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.add_records(n=np.random.default_rng(0).random(200_000))
    if sealed:
        wait_until_sealed()
    records = collection.records
    shutil.rmtree(collection.path)
    ways = (
        list,
        lambda each: each[5],
        lambda each: each[-1],
        lambda each: next(reversed(each)),
        lambda each: each[3:5][0],
    )
    for read in ways:
        with pytest.raises(RecorderError, match=r"(moved or removed|moved or cleaned up)"):
            read(records)


def test_what_no_checksum_vouches_for_is_told_without_guessing_why(tmp_path):
    code = f"{ELSEWHERE}\nimport sys\nfrom rigorous_recorder import ExperimentCollection\n"
    code += "experiment = ExperimentCollection(sys.argv[1], sync_interval=3600).new_experiment()\n"
    code += "for n in range(5): experiment.add_record(n=n)"
    run_killed(code, tmp_path / "study")
    for log in (tmp_path / "study").rglob("*.log"):
        os.utime(log, (0, 0))  # the last sign of life of its writer
    says = (
        "entries were added after the last checksum, by a process of another boot or host that is gone.*if that machine"
    )
    with pytest.warns(errors.DamageWarning, match=says):
        assert len(ExperimentCollection(tmp_path / "study")) == 5
