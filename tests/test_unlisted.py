"""A folder that cannot be listed, for want of a permission or by a disk that fails, costs its content, and nothing else."""

import errno
import os
import sys
import warnings
from pathlib import Path

import children
import pytest
import studies
from test_delete import numbers, study
from test_disk_full import NOBODY

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import files


class Unlistable:
    """Makes the listing of folders fail, as the system does it."""

    def __init__(self, monkeypatch):
        self.folders, self.number = set(), errno.EIO
        real = os.listdir

        def listdir(path="."):
            if sys._getframe(1).f_code.co_filename == files.__file__ and str(path) in self.folders:
                raise OSError(self.number, os.strerror(self.number), path)
            return real(path)

        monkeypatch.setattr(os, "listdir", listdir)

    def __call__(self, *paths, number=errno.EIO):
        self.folders, self.number = set(map(str, paths)), number
        return self


@pytest.fixture
def unlist(monkeypatch):
    return Unlistable(monkeypatch)


@pytest.fixture
def collection(tmp_path):
    made = study(tmp_path / "study")
    made.add_notes(note=1)
    return made


def attempt(collection, number):
    """The folder of an experiment's attempt."""
    return next(Path(collection.path).glob(f"{number:06d}.1/*"))


def told(collection, *folders, why="Input/output error"):
    """See to it that a reading warns of these folders, once of each, and of nothing else; what it reads."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = numbers(collection)
    (warning,) = caught
    assert issubclass(warning.category, DamageWarning)
    expected = [f"{folder} cannot be listed: {why}. What is in it is not known, and not read." for folder in folders]
    assert str(warning.message) == " ".join(expected)
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert len(collection) == len(found)
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert collection.to_polars()["n"].to_list() == found
    return found


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("what", ["the attempt", "the claim"])
def test_the_rest_is_read(collection, unlist, what, number):
    folder = attempt(collection, 2) if what == "the attempt" else attempt(collection, 2).parent
    unlist(folder, number=number)
    assert told(collection, folder, why=os.strerror(number)) == [1, 1, 3, 3, 4, 4]
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert [one.number for one in collection.experiments] == [1, 3, 4]
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert collection.experiment_numbers == (1, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [each["n"] for each in collection[3]] == [3, 3], "it has nothing to do with this one"
    unlist()
    assert numbers(collection) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_the_notes(collection, unlist):
    folder = Path(collection.path, "notes")
    unlist(folder)
    assert told(collection, folder) == [1, 1, 2, 2, 3, 3, 4, 4]
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert collection.records[0]["note"] is None
    with pytest.raises(StoreError, match="the notes cannot be stored"):
        collection.add_notes(note=2)  # they might have a lower version than those that are there
    with collection.new_experiment() as experiment:
        experiment.add_record(n=5)
    unlist()
    assert [each["note"] for each in collection.records] == [1] * 9


def test_the_packs(collection, unlist):
    """Of what is in them nothing is read, nor is anything else called lost."""
    studies.at_once(collection.path)
    with collection.resume_experiment(3) as experiment:
        experiment.add_record(n=3)
    folder = Path(collection.path, "packs")
    unlist(folder)
    assert told(collection, folder) == [3]
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert collection.experiment_numbers == (3,)


@pytest.mark.parametrize("what", ["the attempt", "the claim"])
def test_one_that_is_in_packs_in_part(collection, unlist, what):
    """The folder has a later unit, the packs the one before it: what is in packs is read, and none is said to be lost."""
    studies.at_once(collection.path)
    with collection.resume_experiment(3) as experiment:
        experiment.add_record(n=30)
    folder = attempt(collection, 3) if what == "the attempt" else attempt(collection, 3).parent
    unlist(folder)
    assert told(collection, folder) == [1, 1, 2, 2, 3, 3, 4, 4]
    report = collection.verify()
    assert [(one.kind, one.fails) for one in report.findings] == [("unknown", True)]
    keeper = collection.under(experiment_number=3)
    with pytest.warns(DamageWarning, match="cannot be listed"):
        assert len(keeper.records) == 2


SMALL = """
import sys
from rigorous_recorder import ExperimentCollection
import children
children.shrink(1024)
sys.executable = ""  # nobody seals
with ExperimentCollection(sys.argv[1]).new_experiment() as experiment:
    for n in range(150):
        experiment.add_record(n=n, text="x" * 50)
"""


@pytest.mark.parametrize("what", ["the attempt", "the claim", "the packs"])
def test_what_is_missed_there_is_not_called_lost(tmp_path, unlist, what):
    """The first unit of a writer is in one place, the others are in the other: which one can be listed tells of a gap."""
    environment = {**children.ENVIRONMENT, "PYTHONPATH": f"{children.ROOT}:{children.ROOT}/tests"}
    assert children.run(SMALL, tmp_path / "study", env=environment).returncode == 0
    collection = ExperimentCollection(tmp_path / "study")
    folder = attempt(collection, 1)
    logs = sorted(folder.glob("*.log"))
    assert len(logs) > 1
    for log in logs[1:] if what == "the packs" else logs[:1]:
        log.rename(tmp_path / log.name)
    studies.at_once(collection.path)
    folder.mkdir(exist_ok=True)
    for log in tmp_path.glob("*.log"):
        log.rename(folder / log.name)
    whole = numbers(collection)
    assert whole == list(range(150))
    hidden = {"the attempt": folder, "the claim": folder.parent, "the packs": Path(collection.path, "packs")}[what]
    unlist(hidden)
    found = told(collection, hidden)
    assert found
    assert found == (whole[-len(found) :])
    assert len(found) < len(whole)
    assert [one.kind for one in collection.verify().findings] == ["unknown"]


def test_what_was_deleted_stays_deleted(collection, unlist):
    """The word that it is stands in the claim; it can be looked for where that cannot be listed."""
    studies.at_once(collection.path)
    collection.experiments[2].delete()
    unlist(Path(collection.path, "000003.1"))
    assert told(collection, Path(collection.path, "000003.1")) == [1, 1, 2, 2, 4, 4]
    report = collection.verify()
    assert report.records == 6
    assert [one.file for one in report.findings] == ["000003.1"]


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", ["always", "same_info", "never"])
@pytest.mark.parametrize("compacted", [False, True], ids=["logs", "packs"])
@pytest.mark.parametrize("what", ["the attempt", "the claim"])
def test_a_number_whose_state_is_not_known_is_not_given_again(collection, unlist, what, compacted, retries):
    """The highest failed, and would be tried again; while it cannot be looked at, nothing says so."""
    if compacted:
        studies.at_once(collection.path)
        with collection.resume_experiment(4) as experiment:
            experiment.add_record(n=4)
        collection.experiments[-1].close("failed")
    folder = attempt(collection, 4) if what == "the attempt" else attempt(collection, 4).parent
    for claim in Path(collection.path).glob("0*"):
        os.utime(claim, (1, 1))  # an empty claim that is old is nobody's otherwise
    unlist(folder)
    with ExperimentCollection(collection.path, retries=retries).new_experiment(number=4) as experiment:
        assert (experiment.number, experiment._session.place.claim.attempt) == (5, 1)
    unlist()
    assert collection.experiment_numbers == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("retries", ["always", "same_info", "never"])
@pytest.mark.parametrize("without_claims", [False, True], ids=["claims", "no claims"])
def test_no_number_is_given_while_those_that_are_taken_are_not_known(collection, unlist, retries, without_claims):
    """As where a copy has left out the claims, which were empty: then the packs alone tell which numbers there are."""
    studies.at_once(collection.path)
    path = Path(collection.path)
    for claim in path.glob("0*"):
        if without_claims:
            claim.rmdir()
    before = sorted(path.rglob("*"))
    copy = ExperimentCollection(collection.path, retries=retries)
    for folder in (path / "packs", path):
        unlist(folder)
        with pytest.raises(StoreError, match=r"the folder cannot be listed|no experiment can be begun") as caught:
            copy.new_experiment(number=4)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(folder))
        assert sorted(path.rglob("*")) == before
    unlist()
    with copy.new_experiment() as experiment:
        assert experiment.number == (4 if retries == "always" else 5)


# ---- who writes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["the attempt", "the claim"])
def test_what_cannot_be_looked_at_is_not_changed(collection, unlist, what):
    """Deleting, closing and resuming need to know all of it; those of others are as always."""
    folder = attempt(collection, 2) if what == "the attempt" else Path(collection.path, "000002.1")
    one = collection.experiments[1]
    unlist(folder)
    for work, says in (
        (one.delete, "experiment 2 cannot be deleted"),
        (lambda: one.close("no good"), "experiment 2 cannot be closed"),
        (lambda: collection.resume_experiment(2), "experiment 2 cannot be resumed"),
    ):
        with pytest.raises(StoreError, match=says) as caught:
            work()
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(folder))
    with pytest.warns(DamageWarning, match="cannot be listed"):
        three = next(each for each in collection.experiments if each.number == 3)
    three.delete()
    unlist(attempt(collection, 4))
    with pytest.raises(StoreError, match="experiment 4 cannot be resumed"):
        collection.resume_experiment()
    unlist()
    assert numbers(collection) == [1, 1, 2, 2, 4, 4]
    assert [each.state for each in collection.experiments] == ["finished", "finished", "failed"]


@pytest.mark.parametrize("what", ["the attempt", "the claim", "the packs", "the trash"])
def test_compaction_leaves_it(collection, unlist, tmp_path, what):
    """It does the rest, says what it left, and comes to rest; when the folder can be listed again all is there."""
    if what in ("the packs", "the trash"):
        studies.at_once(collection.path)
        with collection.resume_experiment(2) as experiment:
            experiment.add_record(n=2, row=2)
    if what == "the trash":
        collection.experiments[2].delete()
    folder = {
        "the attempt": attempt(collection, 2) if what == "the attempt" else None,
        "the claim": Path(collection.path, "000002.1"),
        "the packs": Path(collection.path, "packs"),
        "the trash": next(Path(collection.path, "trash").glob("*"), None) if what == "the trash" else None,
    }[what]
    before = studies.facts(collection.path)
    unlist(folder)
    for turn in range(3):
        report = studies.at_once(collection.path)
        assert report.left["the folder cannot be listed"] >= 1
        assert str(folder) in report.named["the folder cannot be listed"]
        assert report.idle or turn == 0
    units = len(list(Path(collection.path).glob("0*/*/*.log")))
    assert units == (0 if what == "the trash" else 1)
    unlist()
    assert studies.same_facts(studies.quiet_facts(collection.path), before)
    assert studies.at_once(collection.path).left == {}
    assert studies.same_facts(studies.quiet_facts(collection.path), before)
    assert len(studies.packs(collection.path)) == 1


# ---- verify ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["attempt", "claim", "packs", "notes"])
def test_verify_names_it(collection, unlist, what):
    if what == "packs":
        studies.at_once(collection.path)
    folder = {
        "attempt": next(Path(collection.path).glob("000002.1/*"), None),
        "claim": Path(collection.path, "000002.1"),
    }.get(what, Path(collection.path, what))
    unlist(folder)
    report = collection.verify()
    assert not report.ok
    assert [(one.kind, one.file, one.records, one.fails) for one in report.findings] == [
        ("unknown", str(folder.relative_to(collection.path)), None, True)
    ]
    assert (
        report.findings[0].sentence == "a folder that cannot be listed (Input/output error): what is in it is not known"
    )
    assert report.records == {"notes": 8, "packs": 0}.get(what, 6)
    unlist()
    assert collection.verify().ok


# ---- for real --------------------------------------------------------------------------------------------------------


READING = """
path, hidden = sys.argv[1:]
os.chmod(path + "/" + hidden, 0)  # one's own folder
warnings.simplefilter("always")
collection = ExperimentCollection(path)
with warnings.catch_warnings(record=True) as caught:
    print([each["n"] for each in collection.records])
    print(collection.experiment_numbers)
print(*{str(one.message) for one in caught}, sep="|")
with collection.new_experiment() as experiment:
    print(experiment.number)
for one in collection.verify().findings:
    print(one.kind, one.file)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes nobody, who may not read")
@pytest.mark.parametrize("what", ["attempt", "claim"])
def test_a_folder_without_permissions(collection, tmp_path, what):
    """The system's own refusal, of listing and of all that is below."""
    for path in (tmp_path / "study").rglob("*"):
        os.chown(path, 65534, 65534)
    os.chown(collection.path, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            if "pytest" not in str(folder):
                pytest.skip(f"NOT TESTED: nobody cannot enter {folder}")
            folder.chmod(0o755)
    hidden = attempt(collection, 4) if what == "attempt" else attempt(collection, 4).parent
    relative = str(hidden.relative_to(collection.path))
    code = NOBODY.replace("list(other.records)", "list(other.records), other.verify(), other.to_polars()")
    ended = children.run(code + READING, collection.path, relative)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "[1, 1, 2, 2, 3, 3]",
        "(1, 2, 3)",
        f"{hidden} cannot be listed: Permission denied. What is in it is not known, and not read.",
        "5",
        f"unknown {relative}",
    ]
