"""Golden collections: what earlier releases wrote is read as it was recorded, by each way to read, and by the second reader."""

import json
import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest
import second_reader

from rigorous_recorder import ExperimentCollection

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import generate  # noqa: E402

VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if (path / "study").exists())


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of a golden collection, and what is expected of it."""
    shutil.copytree(GOLDEN / request.param / "study", tmp_path / "study")
    version = request.param.removesuffix("-compacted")  # of which the same is expected
    expected = json.loads((GOLDEN / version / "expected.json").read_text(encoding="utf-8"))
    with generate.reading(tmp_path / "study"):
        yield ExperimentCollection(tmp_path / "study"), expected


def all_records(expected):
    """The expected records of all attempts, in order."""
    return [record for attempt in expected for record in attempt["records"]]


def test_there_is_one_of_each_version():
    assert VERSIONS == ["version-1", "version-1-compacted"]
    packs = list((GOLDEN / "version-1-compacted" / "study" / "packs").glob("*.parquet"))
    assert packs
    assert len(list((GOLDEN / "version-1-compacted").rglob("*.log"))) < len(list((GOLDEN / "version-1").rglob("*.log")))


def test_records_and_attempts(golden):
    collection, expected = golden
    assert generate.tell(collection) == expected
    assert [generate.told(dict(record)) for record in collection.records] == all_records(expected)
    assert len(collection) == len(all_records(expected))
    assert {attempt["state"] for attempt in expected} == {"finished", "failed", "killed", "stale"}


def test_the_second_reader(golden):
    collection, expected = golden
    system = os.uname()
    here = os.uname_result((system.sysname, generate.HOST, system.release, system.version, system.machine))
    with mock.patch.object(os, "uname", return_value=here):
        found = second_reader.read(collection.path)
    assert [generate.told(record) for record in found] == all_records(expected)


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_frames(golden, library):
    """As rows, and by the values of some columns of one type; how mixed ones look is the business of other tests."""
    collection, expected = golden
    rows = [dict(record["dict"]) for record in all_records(expected)]
    frame = collection.to_polars() if library == "polars" else collection.to_pandas()
    assert len(frame) == len(rows)
    assert set(frame.columns) >= {key for row in rows for key in row}
    for key in ("experiment_number", "error_number", "step", "k"):
        column = (
            frame[key].to_list()
            if library == "polars"
            else frame[key].astype(object).where(frame[key].notna(), None).tolist()
        )
        assert column == [row.get(key) for row in rows], key
    whole = collection.scan().select("experiment_number").collect()
    assert whole["experiment_number"].to_list() == [row["experiment_number"] for row in rows]


def test_the_format_has_not_changed_unnoticed(tmp_path):
    """What the generator makes today holds the same, in files of the same names but for the sizes of packs."""
    made = generate.generate(tmp_path)
    kept = GOLDEN / "version-1"
    assert made == json.loads((kept / "expected.json").read_text(encoding="utf-8"))

    def names(folder):
        return sorted(str(path.relative_to(folder)).split("-")[0] for path in folder.rglob("*"))

    assert names(tmp_path / "study") == names(kept / "study")
    for path in (kept / "study").rglob("*.log"):
        assert path.read_bytes() == (tmp_path / path.relative_to(kept)).read_bytes(), path


def test_it_can_be_recorded_on(golden):
    collection, expected = golden
    with collection.resume_experiment(1) as experiment:
        experiment.add_record(new=True)
    with collection.new_experiment() as experiment:
        experiment.add_record(new=True)
    assert experiment.number == 1 + max(attempt["number"] for attempt in expected) - 1
    assert len(collection) == len(all_records(expected)) + 2


def test_it_is_small():
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 400_000
