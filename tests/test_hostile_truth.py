"""Packs of our grammar whose footers tell of their rows what is not so: verify says it, compaction takes nothing of them."""

import shutil

import polars as pl
import pytest
from crafted import ROWS, recompact, reseal, study

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store.report import DAMAGED, CompactionReport

COLUMNS = {
    "one left out": lambda columns: columns.remove(["index", "int"]),
    "one more": lambda columns: columns.append(["zzz", "int"]),
    "of another type": lambda columns: columns.__setitem__(1, ["index", "float"]),
    "in another order": lambda columns: columns.reverse(),
    "of lists": lambda columns: columns.__setitem__(1, ["index", "list:int"]),
}


def suspect(path):
    return [one for one in ExperimentCollection(path).verify().findings if one.kind == "suspect"]


def files(path):
    return {file: file.read_bytes() for file in path.rglob("*.parquet")}


@pytest.mark.parametrize("change", COLUMNS.values(), ids=COLUMNS)
def test_a_compacted_pack_that_tells_columns_that_are_not_so(tmp_path, change):
    path = tmp_path / "study"
    study(path)
    pack = recompact(path, lambda data: change(data[2]))
    (finding,) = suspect(path)
    assert (finding.file, finding.records) == (f"packs/{pack.name}", 2 * ROWS)
    assert "its columns are others than its footer tells" in finding.sentence
    keep_both(path, pack)


@pytest.mark.parametrize("runs", [[7, ROWS], [1, 1, 2, ROWS - 1], [0, ROWS]], ids=str)
def test_a_compacted_pack_that_tells_levels_that_are_not_so(tmp_path, runs):
    path = tmp_path / "study"
    study(path)
    pack = recompact(path, lambda data: data[1][0][6].__setitem__(3, runs))
    (finding,) = suspect(path)
    assert (finding.records, "other levels" in finding.sentence) == (ROWS, True)
    keep_both(path, pack)


def keep_both(path, pack):
    """A compaction with reason to merge: it leaves the pack, says why, and takes what is right."""
    before = pack.read_bytes()
    collection = ExperimentCollection(path)
    with collection.new_experiment() as experiment:
        experiment.add_record(index=-1)
    for again in (1, 2):
        report = collection.compact(progress=False)
        assert report.left == {DAMAGED: 1}, again
        assert list(report.named[DAMAGED]) == [str(pack)]
        assert report.units == (1 if again == 1 else 0)
    assert pack.read_bytes() == before
    assert [experiment.n_records for experiment in collection.experiments] == [ROWS, ROWS, 1]


@pytest.mark.parametrize("change", COLUMNS.values(), ids=COLUMNS)
def test_a_sealed_unit_that_tells_columns_that_are_not_so(tmp_path, change):
    path = tmp_path / "study"
    study(path, compacted=False)
    pack = reseal(path, lambda data: change(data[6]))
    (finding,) = suspect(path)
    assert (finding.file, finding.records) == (str(pack.relative_to(path)), ROWS)
    assert "its columns are others than its footer tells" in finding.sentence
    stays(path, pack)


def test_a_sealed_unit_that_tells_levels_that_are_not_so(tmp_path):
    path = tmp_path / "study"
    study(path, compacted=False)
    pack = reseal(path, lambda data: data.__setitem__(7, [1, 1, 2, ROWS - 1]))
    (finding,) = suspect(path)
    assert "other levels" in finding.sentence
    stays(path, pack)


def stays(path, pack):
    before = pack.read_bytes()
    for units in (1, 0):
        report = ExperimentCollection(path).compact(progress=False)
        assert (report.units, report.left, list(report.named[DAMAGED])) == (units, {DAMAGED: 1}, [str(pack)])
    assert pack.read_bytes() == before
    assert [len(experiment) for experiment in ExperimentCollection(path).experiments] == [ROWS, ROWS]


def test_a_pack_that_is_not_true_is_no_reason_to_remove_another_copy(tmp_path):
    """Both say that they hold the same log; the one that counts by its name tells of columns that it has not."""
    path = tmp_path / "study"
    study(path, 1, compacted=False)
    (sealed,) = path.glob("0*/*/*.parquet")
    kept = sealed.read_bytes()
    ExperimentCollection(path).compact(progress=False)
    assert not sealed.exists()
    shutil.copytree(path, tmp_path / "copy")
    pack = recompact(path, lambda data: COLUMNS["one left out"](data[2]))
    sealed.parent.mkdir(parents=True)
    sealed.write_bytes(kept)
    report = ExperimentCollection(path).compact(progress=False)
    assert report.left == {DAMAGED: 1}
    assert sealed.read_bytes() == kept
    assert pack.exists()


def test_what_is_true_is_taken_and_removed(tmp_path):
    """The other way round: what the tests above refuse is nothing that our own packs have."""
    path = tmp_path / "study"
    study(path, compacted=False)
    collection = ExperimentCollection(path)
    with collection.new_experiment():
        pass
    assert collection.compact(progress=False).left == {}
    assert collection.verify().findings == ()
    assert [len(experiment) for experiment in collection.experiments] == [ROWS, ROWS, 0]


def test_an_attempt_that_stands_under_two_numbers_stays_where_it_is(tmp_path):
    """A pack has an attempt under one number: of a folder that somebody copied both are left, and said."""
    path = tmp_path / "study"
    study(path, compacted=False)
    shutil.copytree(path / "000001.1", path / "000005.1")
    before = files(path / "000001.1") | files(path / "000005.1")
    collection = ExperimentCollection(path)
    numbers = [experiment.number for experiment in collection.experiments]
    for units in (1, 0):
        report = collection.compact(progress=False)
        assert report.units == units
        assert report.left == {"the same attempt stands under another number, too": 2}
    assert files(path / "000001.1") | files(path / "000005.1") == before
    assert [experiment.number for experiment in collection.experiments] == numbers == [1, 2, 5]


def test_a_pack_of_rows_that_polars_refuses_does_not_stop_a_compaction(tmp_path):
    path = tmp_path / "study"
    study(path)
    null = pl.lit(None, dtype=pl.UInt32)
    pack = recompact(path, lambda data: None, lambda frame: frame.with_columns(rr_level=null))
    keep_both(path, pack)


def test_a_report_names_the_first_of_what_it_left_and_how_many_more():
    report = CompactionReport()
    for path in "abcdea":
        report.leave(DAMAGED, path)
    report.leave("busy", "x", 7)
    assert str(report).splitlines()[1:] == [
        "Left 5 as they are: damaged (a, b, c and 2 more).",
        "Left 7 as they are: busy (x).",
    ]
    assert report.harmed == 5
