"""Studies for the tests of compaction: collections with everything in them, and what is to be read of them."""

import os
import threading
import warnings
from pathlib import Path

import programs

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.session import sessions
from rigorous_recorder.store import files, pack
from rigorous_recorder.store.compact import compact

LEFT = """
import sys
from rigorous_recorder import ExperimentCollection
sys.executable = ""
experiment = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment(why="killed")
for n in range(20):
    experiment.sub_record_keeper(model=n).add_record(n=n, text=f"t{n}")
experiment.sync()
"""


def varied(path, journal="write"):
    """A collection with units of many kinds: of other columns, without records, resumed, edited, sealed, killed, noted."""
    collection = ExperimentCollection(path, journal=journal)
    collection.add_notes(study="varied")
    for number in range(6):
        with collection.new_experiment(number=number, lr=number / 8) as experiment:
            for name in ("a", "b"):
                keeper = experiment.sub_record_keeper(model=name, episode=number)
                for step in range(12):
                    keeper.add_record(step=step, loss=step / 4 if number % 2 else step)
                keeper.add_records(step=range(20, 25), note=["x", None, (1, 2), b"\0", {"d": 1.5}])
    with collection.new_experiment(empty=True):
        pass
    for number in (2, 3):
        with collection.resume_experiment(number) as experiment:
            experiment.add_record(step=99, late=True)
    failing = collection.new_experiment(fails=True)
    failing.add_record(step=1, loss=0.5)
    failing.close(error="boom")
    programs.run_killed(LEFT, path, journal)
    collection.keeper(experiment_number=1, model="a").update(model="renamed", extra=[1, 2])
    for session in list(sessions.values()):
        session.close_editor()
    for path_ in sorted(Path(path).glob("00000[45].1/*/*.log")):
        assert pack.seal(str(path_)) is not None
    return collection


FACTS = ("number", "state", "error", "error_number", "start_time", "end_time", "duration", "n_records", "info")


def facts(path):
    """All that is read of a collection: its records, its frame, its experiments."""
    collection = ExperimentCollection(path)
    records = [dict(each) for each in collection.records]
    assert len(collection) == len(records)
    frame = collection.to_polars()
    assert frame.height == len(records)
    experiments = [tuple(getattr(one, name) for name in FACTS) for one in collection.experiments]
    assert collection.experiment_numbers == tuple(sorted({one[0] for one in experiments}))
    return records, experiments, frame


def same_facts(left, right):
    """Whether two of these are the same."""
    return left[:2] == right[:2] and left[2].equals(right[2]) and left[2].columns == right[2].columns


def inventory(path):
    """The paths of all files of a collection but those of its notes."""
    return sorted(
        os.path.relpath(file, path)
        for file in map(str, Path(path).rglob("*"))
        if os.path.isfile(file) and "/notes/" not in file
    )


def packs(path):
    """The paths of its compacted packs."""
    return sorted(map(str, Path(path, "packs").glob("*.parquet")))


def at_once(path, **options):
    """Compact in this process, without grace."""
    return compact(str(path), grace=0, **options)


class Killed(BaseException):
    """This process has been killed, as far as the disk can tell."""


class Fault:
    """Makes the n-th system call of the store fail, or kills: then no later call does anything either."""

    def __init__(self, monkeypatch, at, error=None, *, after=False):
        self.left = at
        self.calls = 0
        self.dead = False
        for name, function in vars(files).copy().items():
            if (
                getattr(function, "__module__", "") == files.__name__
                and callable(function)
                and not isinstance(function, type)
            ):
                monkeypatch.setattr(files, name, self._wrapped(function, error, after))

    def _wrapped(self, function, error, after):
        def call(*arguments, **keywords):
            if threading.current_thread() is not threading.main_thread():
                return function(*arguments, **keywords)  # what an earlier test left open is no part of this
            if self.dead:
                raise Killed
            self.left -= 1
            self.calls += 1
            if self.left:
                return function(*arguments, **keywords)
            if error is not None:
                raise OSError(error, os.strerror(error), "a file")
            self.dead = True
            if after:
                function(*arguments, **keywords)
            raise Killed

        return call


def quiet_facts(path):
    """The facts, where no warning may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return facts(path)
