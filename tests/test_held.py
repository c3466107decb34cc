"""What is held while its attempt is deleted, or compacted, by somebody else: an error that says so; or it is read on."""

import os
import pickle
import shutil
from pathlib import Path

import children
import pytest
import studies

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.errors import ClosedError, DeletedError, RecorderError
from rigorous_recorder.store import pack

WHERE = ["log", "large logs", "sealed", "compacted"]
LARGE = 120_000
"""Records of one experiment that are in more than one log, one of which is larger than what is kept in memory."""

DELETE = """
import sys
from rigorous_recorder import ExperimentCollection
ExperimentCollection(sys.argv[1]).experiments[0].delete()
"""


def elsewhere(code, *arguments):
    """Run code in another process: this one knows nothing of it."""
    done = children.run(code, *arguments)
    assert done.returncode == 0, done.stderr


MADE = """
import sys
from rigorous_recorder import ExperimentCollection
sys.executable = ""  # nobody seals
for _ in range(2):
    with ExperimentCollection(sys.argv[1]).new_experiment(a=1) as experiment:
        keeper = experiment.sub_record_keeper(b=2)
        for n in range(int(sys.argv[2])):
            keeper.add_record(n=n, text="x" * 8)
"""


@pytest.fixture
def study(tmp_path):
    """Makes a collection of two experiments that are in logs, in packs of one unit or in one of many."""

    def made(where):
        elsewhere(MADE, tmp_path / "study", LARGE if where == "large logs" else 10)
        collection = ExperimentCollection(tmp_path / "study")
        if where == "sealed":
            assert all(pack.seal(str(log)) for log in Path(collection.path).rglob("*.log"))
        if where == "compacted":
            studies.at_once(collection.path)
        return collection

    return made


def is_kept(where):
    """Whether all of it was in memory when it was read."""
    return where == "log"


def deleted_error(collection):
    says = r"The attempt of experiment 1 was deleted. Hint: .* is in .*trash/000001\.1-[0-9a-f]{32}: "
    return pytest.raises(DeletedError, match=says)


@pytest.mark.parametrize("then", ["", "compacted", "emptied"])
@pytest.mark.parametrize("where", WHERE)
def test_records_of_what_was_deleted(study, where, then):
    collection = study(where)
    held = [collection.records, collection[1], collection.keeper(experiment_number=1, b=2).records]
    last = collection[2]
    elsewhere(DELETE, collection.path)
    if then:
        studies.at_once(collection.path)
    if then == "emptied":
        shutil.rmtree(Path(collection.path, "trash"))
    for records in held:
        if is_kept(where) or (where == "compacted" and not then):  # the pack is there as it was
            assert [each["n"] for each in records[:10]] == list(range(10))
            continue
        for work in (
            lambda records=records: list(records),
            lambda records=records: list(reversed(records))[-1],
            lambda records=records: records[len(records[: LARGE // 2 + 5]) - 1 if where == "large logs" else 3],
        ):
            with deleted_error(collection):
                work()
    assert [each["n"] for each in last[:10]] == list(range(10)), "the other is as it was"
    assert len(collection) == len(last)


@pytest.mark.parametrize("where", WHERE)
def test_a_keeper_of_what_was_deleted(study, where):
    collection = study(where)
    one, keeper = collection.experiments[0], collection.keeper(experiment_number=1, b=2)
    elsewhere(DELETE, collection.path)
    for work in (
        lambda: keeper.records,
        lambda: len(keeper),
        lambda: list(one),
        lambda: one.children,
        keeper.to_polars,
        one.scan,
        lambda: keeper.update(c=1),
        lambda: one.close("no good"),
    ):
        with deleted_error(collection):
            work()
    assert (one.state, one.n_records) == ("finished", len(collection)), "as it was when it was read"
    assert dict(keeper.merged)["b"] == 2
    one.delete()  # nothing more happens
    assert collection.experiment_numbers == (2,)


def test_one_that_this_process_recorded(tmp_path):
    """It knows no facts by heart: those of what was deleted are none, and its repr says why."""
    collection = ExperimentCollection(tmp_path / "study")
    experiment = collection.new_experiment(a=1)
    keeper = experiment.sub_record_keeper(b=2)
    keeper.add_record(n=1)
    experiment.close()
    experiment.delete()
    assert repr(experiment) == "<Experiment 1 deleted, {'a': 1}>"
    for name in ("state", "n_records", "had_error", "end_time"):
        with deleted_error(collection):
            getattr(experiment, name)
    assert dict(keeper.merged) == {"experiment_number": 1, "a": 1, "b": 2}
    assert keeper.lineage == "experiment_number=1,a=1/b=2"
    for work in (lambda: keeper.add_record(n=2), lambda: keeper.sub_record_keeper(c=3)):
        with pytest.raises(ClosedError, match=r"^experiment 1 was deleted$"):
            work()


def test_a_handed_over_keeper_of_what_was_deleted(tmp_path):
    """In a process that knows nothing of the deletion, also with the folder gone."""
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.add_record(n=1)
        (tmp_path / "keeper").write_bytes(pickle.dumps(experiment.sub_record_keeper(worker=1)))
    experiment.delete()
    code = """
import pickle, sys
keeper = pickle.load(open(sys.argv[1], "rb"))
for work in (lambda: keeper.add_record(n=1), lambda: keeper.add_records(n=[1]), lambda: keeper.records):
    try:
        work()
    except FileNotFoundError as error:
        print(type(error).__name__, error.filename)
"""
    done = children.run(code, tmp_path / "keeper")
    assert done.stdout == f"DeletedError {experiment._session.folder}\n" * 3, done.stderr


@pytest.mark.parametrize("then", ["", "compacted"])
@pytest.mark.parametrize("where", WHERE)
def test_a_scan_of_what_was_deleted(study, where, then):
    """A frame lacks what cannot be read, and says why."""
    collection = study(where)
    whole, lazy = len(collection), collection.scan()
    elsewhere(DELETE, collection.path)
    if then:
        studies.at_once(collection.path)
    if is_kept(where) or (where == "compacted" and not then):
        assert lazy.collect().height == whole
        return
    says = r"^The attempt of experiment 1 was deleted\. Hint: .*\. The frame lacks its [\d,]+ rows\.$"
    with pytest.warns(DamageWarning, match=says):
        assert len(collection) <= lazy.collect().height < whole


def test_what_is_gone_otherwise_is_not_called_deleted(study):
    collection = study("large logs")
    records = collection.records
    shutil.rmtree(Path(collection.path, "000001.1"))
    with pytest.raises(RecorderError, match=r"was there and is gone\. Hint: was the collection moved") as caught:
        list(records)
    assert not isinstance(caught.value, DeletedError)


@pytest.mark.parametrize("where", WHERE)
def test_what_was_compacted_is_read_on(study, where):
    """The same records, from where they are now; and once more when these packs have gone into others."""
    collection = study(where)
    keeper, one = collection.keeper(experiment_number=1, b=2), collection.experiments[0]
    held, part, lazy = collection.records, keeper.records, collection.scan()
    before = [dict(each) for each in held]
    places = {part._place.path for part in held._parts}
    walk = iter(held)
    for _ in range(3):
        next(walk)
    with collection.new_experiment() as experiment:
        experiment.sub_record_keeper(b=2).add_records(n=range(10), text="y")
    for _ in range(2):
        assert studies.at_once(collection.path).packs or where == "compacted"
        with collection.resume_experiment(3) as experiment:
            experiment.add_record(n=1, text="y")
    studies.at_once(collection.path)
    assert not any(map(os.path.exists, places)), "they are somewhere else now"
    assert [dict(each) for each in held] == before
    assert [dict(each) for each in reversed(held)] == before[::-1]
    assert dict(held[-1]) == before[-1]
    assert [dict(each) for each in walk] == before[3:]
    assert [each["n"] for each in part] == [each["n"] for each in before[: len(part)]]
    assert lazy.collect()["n"].to_list() == [each["n"] for each in before]
    assert len(keeper) == len(part)
    assert (one.n_records, len(one.records)) == (len(part), len(part))
    keeper.update(b=3)
    assert {each["b"] for each in collection[1]} == {3}
