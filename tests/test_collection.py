"""A collection as a folder to read: its path, its records, its notes, and what a wrong folder says."""

import copy
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from rigorous_recorder import Experiment, ExperimentCollection, Record, RecorderError, RecorderWarning, Records


def record(collection, *xs, **info):
    """Record one experiment with these x."""
    with collection.new_experiment(info) as experiment:
        for x in xs:
            experiment.add_record(x=x)
    return experiment


def xs(records):
    """The x of all records."""
    return [each["x"] for each in records]


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_a_collection_is_cheap_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    collection = ExperimentCollection("records/study")
    assert collection.path == str(tmp_path / "records" / "study")
    assert not (tmp_path / "records").exists()
    monkeypatch.chdir("/")
    record(collection, 1)
    assert ExperimentCollection(tmp_path / "records/../records/study/").path == collection.path
    assert xs(ExperimentCollection(tmp_path / "records/study")) == [1]


def test_the_folder_is_made_by_the_first_note(collection):
    collection.add_notes(machine="gpu")
    assert Path(collection.path).is_dir()
    assert len(collection) == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda collection: collection.records,
        len,
        list,
        lambda collection: collection.experiments,
        lambda collection: collection.experiment_numbers,
        lambda collection: collection[3],
        lambda collection: collection.keepers(),
        lambda collection: collection.under(model="m").records,
    ],
    ids=["records", "len", "list", "experiments", "experiment_numbers", "[3]", "keepers", "under"],
)
def test_a_missing_folder_reads_as_empty_with_one_warning(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    collection = ExperimentCollection("nowhere")
    with pytest.warns(RecorderWarning) as caught:
        result = read(collection)
    assert not result
    assert len(caught) == 1
    assert str(tmp_path / "nowhere") in str(caught[0].message)
    assert caught[0].filename == __file__
    assert not (tmp_path / "nowhere").exists(), "reading writes nothing"


def test_an_empty_collection_does_not_warn(collection, tmp_path):
    collection.add_notes(x=1)
    assert not collection.records
    assert collection
    assert collection.under(x=1)
    (tmp_path / "empty").mkdir()
    assert list(ExperimentCollection(tmp_path / "empty")) == []


def foreign(path):
    (path / "data").mkdir(parents=True)
    (path / "data" / "weights.bin").write_bytes(b"1")
    return path / "data"


def newer(path, **changes):
    folder = path / "newer"
    folder.mkdir(parents=True)
    said = {"format": "rigorous_recorder", "version": 1, "features": [], "id": "0" * 32, **changes}
    (folder / "format").write_text(json.dumps(said))
    return folder


def a_file(path):
    (path / "file").write_text("text")
    return path / "file"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_file, "file.*is a file"),
        (lambda path: a_file(path) / "below", "is a file"),
        (foreign, "something else.*weights.bin"),
        (lambda path: newer(path, version=2), "version 2.*upgrade"),
        (lambda path: newer(path, features=["future"]), "future.*upgrade"),
        (lambda path: newer(path, format="zarr"), "something else"),
        (lambda path: newer(path, version="x"), "something else"),
        (lambda path: newer(path, features=None), "something else"),
    ],
)
def test_wrong_paths(tmp_path, make, says):
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=says) as caught:
        ExperimentCollection(path)
    assert isinstance(caught.value, RecorderError)
    assert "Hint:" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_that_turns_wrong_after_it_was_opened(tmp_path):
    collection = ExperimentCollection(tmp_path / "later")
    (tmp_path / "later").write_text("text")
    for use in (collection.new_experiment, lambda: collection.add_notes(x=1), lambda: collection.records):
        with pytest.raises(ValueError, match="is a file"):
            use()


def test_two_collections_are_merged_by_copying_folders(tmp_path):
    first, second = (ExperimentCollection(tmp_path / name) for name in ("laptop", "cluster"))
    record(first, 1, 2, where="laptop")
    record(second, 3, where="cluster")
    record(second, 4, where="cluster")
    first.add_notes(a=1)
    second.add_notes(b=2)
    shutil.copytree(second.path, first.path, dirs_exist_ok=True)
    assert sorted(xs(first)) == [1, 2, 3, 4]
    assert {(each["x"], each["where"], each["experiment_number"]) for each in first} == {
        (1, "laptop", 1), (2, "laptop", 1), (3, "cluster", 1), (4, "cluster", 2),
    }  # fmt: skip
    assert all(each["a"] == 1 and each["b"] == 2 for each in first)
    assert len(first.experiments) == 3
    assert first.experiment_numbers == (1, 2)
    assert xs(first.under(where="cluster")) == [3, 4]
    record(first, 5)
    assert first.experiment_numbers == (1, 2, 3)


def test_strange_files_do_no_harm(collection):
    record(collection, 1)
    for name in ("000009", "000002.1", "notes.txt", ".DS_Store", "000001.1/hello", "000001.1/" + "f" * 32):
        Path(collection.path, name).mkdir()
    Path(collection.path, "000003.1").write_text("a file")
    os.symlink(collection.path, Path(collection.path, "000004.1"))
    assert xs(collection) == [1]
    assert collection.experiment_numbers == (1,)
    assert len(collection.experiments) == 1


# ---- records ---------------------------------------------------------------------------------------------------------


def test_records_by_experiment_number(collection):
    with pytest.raises(IndexError, match="no experiment"), pytest.warns(RecorderWarning):
        collection[-1]
    record(collection, 1, 2)
    record(collection)
    record(collection, 3)
    assert [xs(collection[number]) for number in (1, 2, 3, -1, -2, -3)] == [[1, 2], [], [3], [3], [], [1, 2]]
    assert [len(collection[number]) for number in (0, 4, 99)] == [0, 0, 0]
    assert isinstance(collection[1], Records)
    for wrong in (-4, -99):
        with pytest.raises(IndexError, match="there are 3"):
            collection[wrong]
    for wrong in ("1", 1.0, slice(1), None, True):
        with pytest.raises(TypeError, match=r"no number.*under"):
            collection[wrong]


def test_records_are_fixed_at_the_call(collection):
    with collection.new_experiment(lr=1) as experiment:
        experiment.add_record(x=1)
        before, of_keeper, experiments = collection.records, experiment.records, collection.experiments
        experiment.add_record(x=2)
        experiment["lr"] = 2
        assert before == of_keeper
        assert [(each["x"], each["lr"], each["had_error"]) for each in before] == [(1, 1, None)]
        assert xs(experiment.records) == [1, 2]
        assert experiments[0].n_records == 1
    record(collection, 3)
    assert xs(before) == [1]
    assert experiments[0].state == "running"
    assert (len(experiments), len(collection.experiments)) == (1, 2)


def test_records_are_a_sequence(collection):
    record(collection, *range(300))
    record(collection, *range(300, 700))
    every = list(range(700))
    records = collection.records
    assert isinstance(records, Records)
    assert len(records) == len(collection) == 700
    assert xs(records) == xs(collection) == xs(iter(records)) == every
    assert xs(reversed(records)) == every[::-1]
    for index in (0, 1, 299, 300, 699, -1, -700, -400):
        assert records[index]["x"] == every[index]
    bounds = (None, 0, 1, 299, 300, 301, 699, 700, 9999, -1, -300, -9999)
    for start in bounds:
        for stop in bounds:
            for step in (None, 1, 7, -1, -250):
                part = records[start:stop:step]
                assert xs(part) == every[start:stop:step]
                assert len(part) == len(every[start:stop:step])
    assert xs(records[100:600][50:][::2][:3]) == every[100:600][50:][::2][:3]
    for index in (700, -701):
        with pytest.raises(IndexError, match="there are 700"):
            records[index]
    with pytest.raises(TypeError, match="under"):
        records["x"]
    assert records[5] in records
    assert records.index(records[5]) == 5
    assert records.count({"x": -1}) == 0
    assert records == list(records)
    assert records != list(records)[1:]
    assert records != xs(records)
    assert "700 records" in repr(records)


def test_a_record_is_a_dict_whose_missing_keys_read_none(collection):
    record(collection, 1, 2, lr=0.1, nested={"a": [1]})
    first, second = collection
    first["nested"]["a"].append(2)
    assert second["nested"] == {"a": [1]}
    one = collection.records[0]
    assert isinstance(one, Record)
    assert isinstance(one, dict)
    assert one["never"] is None
    assert "never" not in one
    assert one.get("never", 7) == 7
    assert list(one) == list(one.keys()) == list(dict(one))
    assert json.loads(json.dumps(one)) == dict(one) == one
    for twin in (one.copy(), copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert twin == one
        assert isinstance(twin, Record)
        assert twin["never"] is None
    one["nested"]["a"].append(2)
    one["lr"] = 7
    assert collection.records[0]["nested"] == {"a": [1]}, "changing it changes no file"
    records = collection.records
    records[0]["nested"]["a"].append(2)
    assert records[0]["nested"] == {"a": [1]}, "and no other record"
    assert collection.experiments[0].data["nested"] == {"a": [1]}


def test_the_keys_own_and_inherited(collection):
    with collection.new_experiment(a=1, b=1, c=1) as experiment:
        experiment.sub_record_keeper(b=2, c=2).add_record(c=3, d=None)
    one = collection.records[0]
    assert (one["a"], one["b"], one["c"], one["d"]) == (1, 2, 3, None)
    assert "d" in one


# ---- experiments -----------------------------------------------------------------------------------------------------


def test_experiments_are_a_sequence(collection):
    record(collection, 1, lr=0.1)
    record(collection, 2, lr=0.2)
    experiments = collection.experiments
    assert [one.info for one in experiments] == [{"lr": 0.1}, {"lr": 0.2}]
    assert all(isinstance(one, Experiment) for one in experiments)
    assert [one.number for one in experiments[::-1]] == [2, 1]
    assert experiments[-1].number == 2
    assert xs(experiments[1]) == [2]
    assert "Experiment 1 finished, 1 records" in repr(experiments)
    with pytest.raises(IndexError, match="there are 2"):
        experiments[2]
    with pytest.raises(RecorderError, match="resume_experiment"):
        experiments[0].add_record(x=1)


def test_repetitions_of_one_configuration_have_equal_fingerprints(collection):
    for lr in (0.1, 0.2, 0.1):
        record(collection, 1, lr=lr, layers=(1, 2))
    first, second, third = (one.fingerprint for one in collection.experiments)
    assert first == third != second
    with collection.new_experiment(layers=(1, 2), lr=0.1) as running:
        assert running.fingerprint == first


# ---- as an object ----------------------------------------------------------------------------------------------------


def test_a_collection_pickles_to_itself(collection):
    record(collection, 1)
    twin = pickle.loads(pickle.dumps(collection))
    assert (twin.path, twin.retries, xs(twin)) == (collection.path, collection.retries, [1])
    assert twin != collection
    assert len({twin, collection}) == 2
    assert repr(collection.path) in repr(collection)


def test_gone_names_say_their_successor(collection):
    for name in ("all_records", "number_of_records", "reload", "where", "keeper_for"):
        with pytest.raises(AttributeError, match=f"{name} went away.*Hint:"):
            getattr(collection, name)
    with pytest.raises(AttributeError, match="recrods"):
        _ = collection.recrods


def test_nothing_is_printed(collection, capfd):
    record(collection, 1)
    collection.resume_experiment().close()
    collection.new_experiment().close(error="failed")
    collection.add_notes(note=1)
    list(collection)
    assert capfd.readouterr() == ("", "")


def test_wrong_options_name_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'sometimes'.*'always', 'same_info', 'never'"):
        ExperimentCollection(tmp_path, retries="sometimes")
    with pytest.raises(ValueError, match=r"'disk'.*'mmap'"):
        ExperimentCollection(tmp_path, journal="disk")
    with pytest.raises(ValueError, match="sync_interval"):
        ExperimentCollection(tmp_path, sync_interval=0)
    with pytest.raises(TypeError, match="retries"):
        ExperimentCollection(tmp_path, retrie="never")
    for name in ("quiet", "extension"):
        with pytest.raises(AttributeError, match=f"{name}=.*went away"):
            ExperimentCollection(tmp_path, **{name: True})


def test_several_open_at_once(collection, tmp_path):
    other = ExperimentCollection(tmp_path / "other")
    first, second, third = collection.new_experiment(), collection.new_experiment(), other.new_experiment()
    assert collection.open_experiments == (first, second)
    assert other.open_experiments == (third,)
    assert ExperimentCollection(collection.path).open_experiments == (first, second)
    first.add_record(x=1)
    second.add_record(x=2)
    second.close()
    assert collection.open_experiments == (first,)
    first.close()
    third.close()
    assert [[one["x"] for one in collection[number]] for number in (1, 2)] == [[1], [2]]
