"""Hostile names: what a user calls things names no file, and what lies in the folder leads nowhere outside of it."""

import os
from pathlib import Path

import pytest

from rigorous_recorder import ExperimentCollection, RecorderError, RecorderWarning
from rigorous_recorder.store import layout
from rigorous_recorder.store.pack import seal

NAMES = [
    "../x",
    "..",
    "/etc/passwd",
    "a/b",
    "a\0b",
    "a=b",
    "a\nb",
    "n" * 300,
    "*",
    "~",
    "$HOME",
    "%00",
    "CON",
    " ",
    "-rf",
    "é\u202e",
]


def everything(folder):
    """All paths below a folder, with their contents."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        found[str(path)] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_given_by_a_user_name_no_file(tmp_path, journal, name):
    """As a key, a value, info, a note, an error: it comes back as it was, and all files are called as the format says."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("untouched")
    before = everything(outside)
    collection = ExperimentCollection(outside.parent / "study", journal=journal)
    collection.add_notes({name: name})
    with collection.new_experiment({name + "1": name}) as experiment:
        keeper = experiment.sub_record_keeper({name + "2": name})
        keeper.add_record({name + "3": name})
        keeper.add_records({name + "3": [name]})
        keeper[name + "4"] = name
    for log in Path(collection.path).rglob("*.log"):
        seal(str(log))
    experiment.close(error=name)
    for record in collection.records:
        assert [record[name + end] for end in ("", "1", "2", "3", "4")] == [name] * 5
    assert collection.experiments[0].error == name
    assert len(collection.under(**{name + "2": name})) == 2
    assert sorted(os.listdir(tmp_path)) == ["outside", "study"]
    assert everything(outside) == before
    for path in Path(collection.path).rglob("*"):
        ours = path.name in ("format", "notes") or layout.parse_unit(path.name) or layout.parse_claim(path.name)
        assert ours or layout.is_id(path.name), path


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("..", "../x", "/etc/passwd", ".")], ids=ascii)
def test_a_collection_may_be_called_anything_that_a_folder_may(tmp_path, journal, name):
    try:
        collection = ExperimentCollection(f"{tmp_path}/{name}", journal=journal)
        with collection.new_experiment() as experiment:
            experiment.add_record(x=1)
    except (RecorderError, OSError) as error:
        assert isinstance(error, RecorderError)  # noqa: PT017
        assert "Hint" in str(error)  # noqa: PT017
        assert len(name) == 300 or "\0" in name
        assert os.listdir(tmp_path) == []
    else:
        assert [each["x"] for each in collection] == [1]
        assert os.listdir(tmp_path) == [name.partition("/")[0]]


PLACES = ["claim", "attempt", "unit", "notes", "pack"]


@pytest.mark.parametrize("place", PLACES)
def test_links_lead_nowhere(tmp_path, journal, place):
    """A link in the place of anything of ours is neither followed nor written through, whoever reads, records or seals."""
    outside, study = tmp_path / "outside", tmp_path / "study"
    theirs = ExperimentCollection(outside / "theirs", journal=journal)
    theirs.add_notes(theirs=True)
    with theirs.new_experiment() as experiment:
        experiment.add_record(theirs=True)
    attempt = next(Path(theirs.path).glob("000001.1/*"))
    unit = next(attempt.glob("*.log"))
    collection = ExperimentCollection(study, journal=journal)
    with collection.new_experiment() as experiment:
        experiment.add_record(ours=True)
    mine = next(study.glob("000001.1/*"))
    link, target = {
        "claim": (study / "000002.1", attempt.parent),
        "attempt": (study / "000001.1" / ("a" * 32), attempt),
        "unit": (mine / unit.name, unit),
        "notes": (study / "notes", Path(theirs.path) / "notes"),
        "pack": (mine / layout.pack_name("a" * 32, 1, 1, 1000, 1), unit),
    }[place]
    link.symlink_to(target)
    before = everything(outside)
    for use in (
        lambda: list(collection.records),
        lambda: list(collection.experiments),
        lambda: collection.add_notes(ours=True),
        collection.to_polars,
        lambda: collection.resume_experiment(1).close(),
        lambda: collection.new_experiment().close(),
        lambda: seal(str(link)),
    ):
        try:
            use()
        except (RecorderError, OSError, RecorderWarning):
            continue
    assert everything(outside) == before
    try:
        found = list(collection.records)
    except (RecorderError, RecorderWarning):
        found = []
    assert not any(record["theirs"] for record in found)
