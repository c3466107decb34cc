"""Deletion: what is deleted is not read, its number is not given again, and the trash holds it until it is emptied."""

import contextlib
import errno
import itertools
import os
import shutil
from pathlib import Path

import programs
import pytest
import second_reader
import studies
import units

from rigorous_recorder import ExperimentCollection
from rigorous_recorder import session as sessions
from rigorous_recorder.errors import ClosedError, DeletedError, RecorderError, StoreError
from rigorous_recorder.store import compact as compacting
from rigorous_recorder.store import deletion, layout, pack
from rigorous_recorder.store.packed import open_pack

REST = [1, 1, 2, 2, 4, 4]

STALE = f"""{programs.ELSEWHERE}
import os, sys
from pathlib import Path
from rigorous_recorder import ExperimentCollection
experiment = ExperimentCollection(sys.argv[1], sync_interval=3600).new_experiment()  # no heart beats
experiment.add_record(n=5)
experiment.sync()
for file in Path(sys.argv[1]).rglob("*.log"):
    os.utime(file, (1, 1))
os._exit(0)
"""


def study(path):
    """Four experiments of two records each, the last of which failed."""
    collection = ExperimentCollection(path, journal="write")
    for number in range(1, 5):
        experiment = collection.new_experiment(number=number)
        experiment.add_records(n=[number, number], row=[0, 1])
        experiment.close(error="failed" if number == 4 else None)
    return collection


def numbers(collection):
    return [each["n"] for each in collection.records]


@pytest.mark.parametrize("compacted", ["not", "before", "after", "around"])
def test_what_is_deleted_is_gone_and_can_be_restored(tmp_path, compacted):
    collection = study(tmp_path / "study")
    path = Path(collection.path)
    before = studies.facts(path)
    if compacted in ("before", "around"):
        studies.at_once(path)
    one = collection.experiments[2]
    assert one.number == 3
    one.delete()
    if compacted in ("after", "around"):
        studies.at_once(path)
        assert studies.at_once(path).idle
    files_ = studies.inventory(path)
    one.delete()
    assert studies.inventory(path) == files_
    assert numbers(collection) == REST
    assert len(collection) == 6
    assert collection.experiment_numbers == (1, 2, 4)
    assert collection.to_polars().height == 6
    assert [each.number for each in collection.experiments] == [1, 2, 4]
    assert len(collection[3]) == 0
    assert [each["n"] for each in second_reader.read(path)] == REST
    with pytest.raises(IndexError):
        collection.resume_experiment(3)
    # what docs/format.md says of restoring
    if compacted == "before":
        studies.at_once(path)  # now what was in packs is in the trash
    (trash,) = (path / "trash").iterdir()
    claim, _, attempt = trash.name.partition("-")
    assert any(layout.parse_unit(file.name) for file in trash.iterdir())
    trash.rename(path / claim / attempt)
    (path / claim / f"{attempt}.deleted").unlink()
    assert studies.same_facts(studies.quiet_facts(path), before)
    studies.at_once(path)
    assert studies.same_facts(studies.quiet_facts(path), before)


@pytest.mark.parametrize("compacted", [False, True], ids=["logs", "packs"])
def test_emptying_the_trash_brings_nothing_back(tmp_path, compacted):
    collection = study(tmp_path / "study")
    path = Path(collection.path)
    if compacted:
        studies.at_once(path)
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    collection.experiments[2].delete()
    deleted = next(path.glob("0*/*.deleted")).name.removesuffix(".deleted")
    shutil.rmtree(path / "trash")
    assert numbers(collection) == REST
    studies.at_once(path)
    assert not (path / "trash").exists()
    assert numbers(collection) == REST
    assert all(deleted not in open_pack(file).claims for file in studies.packs(path))
    shutil.copytree(copy, path, dirs_exist_ok=True)  # as a merge brings it back
    assert numbers(collection) == REST
    studies.at_once(path)
    assert numbers(collection) == REST


def test_compaction_comes_to_rest_while_the_pack_of_what_was_deleted_has_to_wait(tmp_path):
    """On a network file system the old pack stays for an hour: its other units were written anew by each compaction."""
    collection = study(tmp_path / "study")
    studies.at_once(collection.path)
    collection.experiments[2].delete()
    report = compacting.compact(collection.path, grace=3600)
    assert (report.units, report.packs, report.removed, report.waiting) == (3, 1, 0, 1)
    report = compacting.compact(collection.path, grace=3600)
    assert (report.units, report.packs, report.removed, report.waiting) == (0, 0, 0, 1)
    assert studies.at_once(collection.path).removed == 1
    assert len(studies.packs(collection.path)) == 1
    assert numbers(collection) == REST


@pytest.mark.parametrize("retries", ["always", "same_info", "never"])
@pytest.mark.parametrize("compacted", [False, True], ids=["logs", "packs"])
def test_the_number_is_not_given_again(tmp_path, compacted, retries):
    study(tmp_path / "study")
    collection = ExperimentCollection(tmp_path / "study", retries=retries)
    if compacted:
        studies.at_once(collection.path)
    collection.experiments[-1].delete()
    if compacted:
        studies.at_once(collection.path)
    for folder in (tmp_path / "study").glob("0*"):
        os.utime(folder, (1, 1))  # an empty claim that is old is nobody's otherwise
    with collection.new_experiment(number=4) as experiment:
        assert experiment.number == 5
        assert experiment.error_number == 0


def test_what_runs_is_not_deleted(tmp_path):
    collection = study(tmp_path / "study")
    experiment = collection.new_experiment()
    with pytest.raises(ClosedError, match=r"Experiment 4 is running, in this process. Hint"):
        experiment.delete()
    with pytest.raises(ClosedError, match="running"):
        collection.experiments[-1].delete()
    experiment.close()
    experiment.delete()
    assert numbers(collection) == [1, 1, 2, 2, 3, 3, 4, 4]
    programs.run(STALE, collection.path)
    assert collection.experiments[-1].state == "stale"
    with pytest.raises(ClosedError, match=r"stale: process \d+ of the host 'another-host'.*close\(error="):
        collection.experiments[-1].delete()
    collection.experiments[-1].close(error="gone")
    collection.experiments[-1].delete()
    assert numbers(collection) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("before", [True, False], ids=["before the word", "after the word"])
def test_a_resumption_at_the_same_time(tmp_path, monkeypatch, before):
    """Either it is not deleted, and what is recorded is there; or the resumption is refused."""
    collection = study(tmp_path / "study")
    resumed = []

    def resumes(real):
        def call(*arguments):
            result = real(*arguments)
            if not resumed:
                resumed.append(None)
                with contextlib.suppress(RecorderError):
                    resumed[0] = ExperimentCollection(collection.path).resume_experiment(1)
            return result

        return call

    name = "make_folders" if before else "sync_file"
    monkeypatch.setattr(deletion.files, name, resumes(getattr(deletion.files, name)))
    deletes = pytest.raises(ClosedError, match="still records into it") if before else contextlib.nullcontext()
    with deletes:
        collection.experiments[0].delete()
    if before:
        resumed[0].add_record(n=1)
        resumed[0].close()
    assert bool(resumed[0]) is before
    assert numbers(collection)[:4] == ([1, 1, 1, 2] if before else [2, 2, 3, 3])


def test_a_resumption_looks_for_the_word_when_its_log_is_there(tmp_path, monkeypatch):
    collection = study(tmp_path / "study")
    folder = Path(collection.experiments[0]._session.folder)
    before, seen = set(folder.iterdir()), []

    def is_deleted(place):
        seen.append({path.name for path in set(folder.iterdir()) - before if path.suffix == ".log"})
        return True

    monkeypatch.setattr(sessions, "is_deleted", is_deleted)
    with pytest.raises(DeletedError, match="The attempt of experiment 1 was deleted"):
        collection.resume_experiment(1)
    assert seen[0], "a deletion that looks now sees nobody"
    assert collection.open_experiments == ()
    assert set(folder.iterdir()) == before


def test_a_resumption_into_what_is_deleted_is_refused(tmp_path):
    collection = study(tmp_path / "study")
    one = collection.experiments[0]
    keeper = collection.keeper(experiment_number=1)
    studies.at_once(collection.path)
    one.delete()
    with pytest.raises(DeletedError, match="was deleted"):
        keeper.update(late=True)
    assert numbers(collection) == [2, 2, 3, 3, 4, 4]
    with pytest.raises(DeletedError, match="was deleted"):
        list(one.records)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("compacted", [False, True], ids=["logs", "packs"])
def test_a_kill_at_every_system_call_of_a_deletion(tmp_path, compacted, after):
    made = study(tmp_path / "made")
    if compacted:
        studies.at_once(made.path)
        with made.resume_experiment(3) as experiment:
            experiment.add_record(n=3)
    everything = numbers(made)
    for at in itertools.count(1):
        path = tmp_path / f"{at}"
        shutil.copytree(made.path, path)
        collection = ExperimentCollection(path)
        one = collection.experiments[2]
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = studies.Fault(monkeypatch, at, after=after)
            try:
                one.delete()
            except studies.Killed:
                assert fault.dead
        assert numbers(collection) in (everything, REST), at
        again = collection.experiments[2]
        if again.number == 3:
            again.delete()
        studies.at_once(path)
        assert numbers(collection) == REST, at
        assert units.same([each["n"] for each in second_reader.read(path)], REST)
        held = [layout.parse_unit(file.name).n for file in (path / "trash").glob("*/*")]
        assert len(held) == 1 + compacted, at
        if not fault.dead:
            break
    assert at > 10


FAULTS = {
    "killed before": (None, False),
    "killed after": (None, True),
    **{
        errno.errorcode[one]: (one, False) for one in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.ESTALE, errno.EINTR)
    },
}


def outcome_of(last, error, at, *, after):
    """Try a deletion whose n-th call fails; how it ended, and whether there was an n-th call."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault = studies.Fault(monkeypatch, at, error, after=after)
        try:
            last.delete()
        except studies.Killed:
            return "killed", True
        except StoreError as caught:
            assert (caught.errno, "Hint: " in str(caught)) == (error, True)  # noqa: PT017
            return "refused", True
    return "done", fault.left <= 0


def next_number(path, ram):
    """The number and try that a new experiment would get; in a copy."""
    copy = ram / "copy"
    shutil.copytree(path, copy)  # with its times
    with ExperimentCollection(copy).new_experiment() as experiment:
        claim = experiment._session.place.claim
    shutil.rmtree(copy)
    return tuple(claim)


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("where", ["log", "sealed", "compacted", "resumed"])
def test_every_call_of_a_deletion_may_fail(ram, where, what, reached):
    """It is whole or deleted, its number is given again only as that of a failed one that is there, and deleting goes on.

    It is the last that goes, and it has failed: were its claim taken for an empty one, the next would get its number.
    """
    made = study(ram / "made")
    if where == "sealed":
        assert pack.seal(str(next(Path(made.path).glob("000004.1/*/*.log"))))
    elif where != "log":
        studies.at_once(made.path)
    if where == "resumed":  # some of it is in a pack, some in a log
        experiment = made.resume_experiment(4)
        experiment.add_record(n=4)
        experiment.close("failed")
    error, after = FAULTS[what]
    everything, rest = numbers(made), [1, 1, 2, 2, 3, 3]
    outcomes, going = set(), True
    at = 0
    while going:
        at += 1
        path = ram / f"{at}"
        shutil.copytree(made.path, path)
        for claim in path.glob("0*"):
            os.utime(claim, (1, 1))  # an empty claim that is old is nobody's
        collection = ExperimentCollection(path)
        last = collection.experiments[-1]
        outcome, going = outcome_of(last, error, at, after=after)
        found = numbers(collection)
        assert found in (everything, rest), at
        assert outcome != "done" or found == rest, at
        outcomes.add((outcome, found == rest))
        assert next_number(path, ram) == ((5, 1) if found == rest else (4, 2)), at
        last.delete()
        studies.at_once(path)
        assert numbers(collection) == rest, at
        assert next_number(path, ram) == (5, 1), at
        assert units.same([each["n"] for each in second_reader.read(path)], rest)
        held = [layout.parse_unit(file.name)[:2] for file in (path / "trash").glob("*/*")]
        assert len(held) == len(set(held)) == (2 if where == "resumed" else 1), "each unit of it is there, once"
        assert collection.verify().ok, collection.verify()
        shutil.rmtree(path)
    assert outcomes >= {("killed" if error is None else "refused", gone) for gone in (False, True)} | {("done", True)}
    assert at > 20
    reached(at)
