"""Our errors: they survive the way to another process with all that they say, whatever the record held that was refused."""

import copy
import datetime as dt
import decimal
import inspect
import pickle
import threading
import uuid
from collections import OrderedDict, namedtuple
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from rigorous_recorder import ExperimentCollection, RecorderError, RecordKeeper, errors

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


@pytest.mark.parametrize("cls", CLASSES)
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


@pytest.mark.parametrize("value", KEPT, ids=repr)
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
