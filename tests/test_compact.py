"""Compaction: what is read does not change by it, whatever happens meanwhile."""

import errno
import itertools
import os
import shutil
import time
import warnings
from pathlib import Path

import polars as pl
import programs
import pytest
import second_reader
import studies
import units
from typer.testing import CliRunner

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderError, cli
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import compact as compacting
from rigorous_recorder.store import files, layout, removal, snapshot, taking
from rigorous_recorder.store.packed import Key, open_pack


@pytest.fixture(scope="session")
def made(tmp_path_factory, journal):
    """A varied study, to be copied, and what is read of it."""
    path = tmp_path_factory.mktemp("made") / "study"
    studies.varied(path, journal)
    return path, studies.facts(path)


@pytest.fixture
def study(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made[0], tmp_path / "study")
    return tmp_path / "study", made[1]


@pytest.fixture(scope="session")
def small_made(tmp_path_factory):
    """A small study, for tests that do the same for each system call."""
    path = tmp_path_factory.mktemp("small") / "study"
    collection = ExperimentCollection(path, journal="write")
    for number in range(3):
        with collection.new_experiment(number=number) as experiment:
            experiment.add_records(step=range(5), loss=0.5 if number else "none")
    studies.at_once(path)
    with collection.resume_experiment(2) as experiment:
        experiment.add_records(step=range(5), loss=0.25)
    with collection.new_experiment(number=3) as experiment:
        experiment.add_records(step=range(5), loss=0.125)
    with collection.new_experiment(number=4) as experiment:
        experiment.add_record(step=1)
    collection.experiments[-1].delete()
    return path, studies.facts(path)


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_what_is_read_is_the_same_and_the_files_are_few(study):
    path, before = study
    count = len(studies.inventory(path))
    report = studies.at_once(path)
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert report.units == report.removed == count - 1
    assert report.left == {}
    assert {name.partition("/")[0] for name in studies.inventory(path)} == {"format", "packs"}
    assert not list(path.glob("0*/*"))
    assert len(list(path.glob("0*"))) == 9
    assert len(studies.packs(path)) == report.packs == 5  # one for each set of columns
    assert units.same(second_reader.read(path), before[0])


def test_a_second_call_does_nothing_and_says_so(study):
    path, before = study
    studies.at_once(path)
    files_ = studies.inventory(path)
    report = studies.at_once(path)
    assert report.idle
    assert str(report) == "There was nothing to compact."
    assert studies.inventory(path) == files_
    assert studies.same_facts(studies.quiet_facts(path), before)


def test_packs_are_bounded_and_small_ones_are_merged(tmp_path, monkeypatch):
    path = tmp_path / "study"
    collection = ExperimentCollection(path, journal="write")
    lengths = []
    for batch in range(4):
        for number in range(6):
            with collection.new_experiment(number=number, batch=batch) as experiment:
                experiment.add_records(step=range(20), loss=0.5)
        log = max(map(os.path.getsize, path.glob("0*/*/*.log")))
        monkeypatch.setattr(compacting, "TARGET", 8 * log)
        before = studies.facts(path)
        studies.at_once(path)
        assert studies.same_facts(studies.quiet_facts(path), before)
        assert studies.at_once(path).idle
        assert all(len(open_pack(pack).units) <= 8 for pack in studies.packs(path))
        lengths.append(len(studies.packs(path)))
    assert lengths == [1, 2, 3, 4]  # 6, 8 + 4, 8 + 8 + 2, 8 + 8 + 8 or nearly so


def test_large_units_without_rows(tmp_path, monkeypatch):
    """A process that is killed leaves all that it had preallocated."""
    path = tmp_path / "study"
    for _ in range(3):
        programs.run_killed(
            "import sys\nfrom rigorous_recorder import ExperimentCollection\n"
            "ExperimentCollection(sys.argv[1], journal='mmap').new_experiment()",
            path,
        )
    monkeypatch.setattr(compacting, "TARGET", 300_000)
    before = studies.facts(path)
    assert studies.at_once(path).units == 3
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert studies.at_once(path).idle


def test_the_grace_keeps_what_readers_may_be_about_to_open(study, monkeypatch):
    path, before = study
    count = len(studies.inventory(path))
    report = compacting.compact(str(path), grace=3600)
    assert report.removed == 0
    assert report.waiting == report.units == count - 1
    assert 3590 < report.wait <= 3600
    assert "in 60 minutes or later" in str(report)
    assert studies.same_facts(studies.quiet_facts(path), before)
    files_ = studies.inventory(path)
    again = compacting.compact(str(path), grace=3600)
    assert again.units == again.packs == again.removed == 0
    assert studies.inventory(path) == files_
    monkeypatch.setattr(removal, "server_now", lambda _path, now=removal.server_now: now(_path) + 3601)
    assert compacting.compact(str(path), grace=3600).removed == count - 1
    assert studies.same_facts(studies.quiet_facts(path), before)


def test_the_grace_is_an_hour_where_names_are_cached(study, monkeypatch):
    path, _ = study
    assert compacting.default_grace(str(path)) == 0
    monkeypatch.setattr(files, "file_system", lambda _path: "nfs4")
    assert compacting.default_grace(str(path)) == 3600


def test_what_runs_or_is_open_is_left(tmp_path, journal):
    path = tmp_path / "study"
    collection = ExperimentCollection(path, journal=journal)
    running = collection.new_experiment(a=1)
    running.add_record(x=1)
    with collection.new_experiment(a=2) as experiment:
        experiment.add_record(x=2)
    collection.keeper(experiment_number=2).update(edited=True)  # this process keeps the log of its edits open
    before = studies.facts(path)
    report = studies.at_once(path)
    assert report.left == {compacting.RUNNING_STILL: 1, taking.OPEN: 1}
    assert report.units == 1
    assert studies.same_facts(studies.quiet_facts(path), before)
    running.add_record(x=3)
    running.close()
    collection.keeper(experiment_number=2).update(edited="again")
    assert [each["x"] for each in collection.records] == [1, 3, 2]
    assert collection[2][0]["edited"] == "again"


def test_killed_attempts_keep_their_end(study):
    path, before = study
    killed = next(one for one in before[1] if one[1] == "killed")
    assert killed[5] > killed[4]
    studies.at_once(path)
    assert next(one for one in studies.facts(path)[1] if one[1] == "killed") == killed


def asked(path):
    """Answers to questions that are about some rows of some units."""
    collection = ExperimentCollection(path)
    scan = collection.scan()
    lazy = [
        scan.filter(pl.col("model") == "b").select("step", "loss", "model"),
        scan.filter(pl.col("episode") > 2, pl.col("step") > 10).select("step", "note", "rr_lineage"),
        scan.filter(pl.col("experiment_number") == 3),
        scan.filter(pl.col("loss") == 1.25).select("loss"),
        scan.head(7),
        scan.select(pl.len()),
    ]
    views = [
        collection.under(model="b"),
        collection.under(experiment_number=[2, 5], model="b"),
        collection.under(episode=lambda episode: episode % 2 == 1),
        collection.under(experiment_number=3),
        collection.under(experiment_number=77),
    ]
    frames = [*(one.collect() for one in lazy), *(view.to_polars() for view in views)]
    records = [[dict(each) for each in view.records] for view in views]
    keepers = [dict(keeper.merged) for keeper in collection.keepers(model="b")]
    return frames, records, keepers, [dict(collection.records[place]) for place in (0, 17, -1)]


def test_questions_to_what_is_compacted(study):
    path, _ = study
    before = asked(path)
    studies.at_once(path)
    after = asked(path)
    assert before[1:] == after[1:]
    for left, right in zip(before[0], after[0], strict=True):
        assert left.equals(right)
        assert left.schema == right.schema
    assert [frame.height for frame in before[0]][:3] == [102, 36, 35]


# ---- recording goes on -----------------------------------------------------------------------------------------------


def test_resuming_editing_and_beginning_after_a_compaction(study, journal):
    path, before = study
    studies.at_once(path)
    collection = ExperimentCollection(path, journal=journal)
    with collection.resume_experiment(2) as experiment:
        experiment.add_record(step=100, later=1)
    collection.keeper(experiment_number=1, model="renamed").update(model="again")
    with collection.new_experiment(fresh=True) as experiment:
        assert experiment.number == 8  # the killed one is tried again
        assert experiment.error_number == 0
        experiment.add_record(step=0)
    assert len(collection) == len(before[0]) + 2
    assert collection[2][-1]["later"] == 1
    assert len(collection.under(model="again").records) == 17
    programs.wait_until_sealed()
    now = studies.facts(path)
    for session in [one._session for one in collection.experiments]:
        session.close_editor()
    assert studies.at_once(path).left == {}
    assert studies.same_facts(studies.quiet_facts(path), now)
    assert not list(path.glob("0*/*"))


def test_a_resumption_that_fails_leaves_the_claim(study, monkeypatch):
    path, _ = study
    studies.at_once(path)
    collection = ExperimentCollection(path)
    monkeypatch.setattr(files, "create", lambda _path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(StoreError):
        collection.resume_experiment(8)
    monkeypatch.undo()
    assert (path / "000008.2").is_dir()
    assert collection.experiment_numbers[-1] == 8


def test_numbers_are_not_given_again_when_a_copy_left_out_empty_folders(study):
    path, before = study
    studies.at_once(path)
    for folder in path.glob("0*"):
        folder.rmdir()
    assert studies.same_facts(studies.quiet_facts(path), before)
    with ExperimentCollection(path).new_experiment() as experiment:
        assert experiment.number == 8
        assert (path / "000008.3").is_dir()


def test_what_was_opened_before_is_read_after_it(study):
    path, before = study
    collection = ExperimentCollection(path)
    scan = collection.scan()
    records = collection.records
    iterator = iter(records)
    first = [dict(next(iterator)) for _ in range(3)]
    studies.at_once(path)
    assert first + [dict(each) for each in iterator] == before[0]
    assert [dict(each) for each in records] == before[0]
    assert dict(records[-1]) == before[0][-1]
    assert scan.collect().equals(before[2])
    with collection.new_experiment() as experiment:
        experiment.add_record(step=5, loss=0.5)
    for pack in studies.packs(path):
        assert open_pack(pack).rows >= 0
    scan = collection.scan()
    records = collection.records
    expected = [dict(each) for each in records]
    studies.at_once(path)  # now packs go
    assert [dict(each) for each in records] == expected
    assert scan.collect().height == len(expected)


def test_a_pack_that_goes_between_opening_and_reading(study, monkeypatch):
    """The worst moment: the file is removed when polars is about to open it."""
    path, before = study
    collection = ExperimentCollection(path)
    plan = collection._plan()
    from rigorous_recorder.frames import materialise

    real, asked = materialise.read_frames, []

    def late(wanted):
        if not asked:
            asked.append(True)
            studies.at_once(path)
        return real(wanted)

    monkeypatch.setattr(materialise, "read_frames", late)
    from rigorous_recorder.frames.polars import to_polars

    assert to_polars(plan).equals(before[2])
    assert asked


def test_a_listing_that_misses_a_file_under_both_names(study, monkeypatch):
    """One listing can miss what is renamed and removed meanwhile, also when nothing else is in the folder."""
    path, before = study
    names, missed = files.names, set()

    def late(folder):
        found = names(folder)
        if folder in missed or not any(name.endswith((".log", ".parquet")) for name in found):
            return found
        missed.add(folder)
        return []

    monkeypatch.setattr(files, "names", late)
    assert studies.same_facts(studies.quiet_facts(path), before)
    missed.clear()
    studies.at_once(path)
    missed.clear()
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert missed


# ---- kills and disks -------------------------------------------------------------------------------------------------


def copied(made, folder):
    shutil.copytree(made[0], folder)
    return folder


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_every_system_call(small_made, tmp_path, after):
    for at in itertools.count(1):
        path = copied(small_made, tmp_path / f"{at}")
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = studies.Fault(monkeypatch, at, after=after)
            try:
                studies.at_once(path)
            except studies.Killed:
                assert fault.dead
        assert studies.same_facts(studies.quiet_facts(path), small_made[1]), at
        studies.at_once(path)
        assert studies.same_facts(studies.quiet_facts(path), small_made[1]), at
        assert not list(path.glob("0*/*/*")), at
        assert len(studies.packs(path)) == 2, at
        shutil.rmtree(path)
        if not fault.dead:
            break
    assert at > 60


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.ESTALE], ids=["ENOSPC", "EIO", "ESTALE"])
def test_every_system_call_may_fail(small_made, tmp_path, error):
    for at in itertools.count(1):
        path = copied(small_made, tmp_path / f"{at}")
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = studies.Fault(monkeypatch, at, error)
            try:
                studies.at_once(path)
            except OSError as caught:
                assert caught.errno == error  # noqa: PT017
            except RecorderError:
                assert error == errno.EIO
        assert studies.same_facts(studies.quiet_facts(path), small_made[1]), at
        studies.at_once(path)
        assert studies.same_facts(studies.quiet_facts(path), small_made[1]), at
        assert len(studies.packs(path)) == 2, at
        shutil.rmtree(path)
        if fault.left > 0:
            break
    assert at > 60


class Calls:
    """Notes the calls of the store in their order, with the paths that they are about."""

    def __init__(self, monkeypatch):
        self.made = []
        self._paths = {}
        for name in ("create", "open_read", "sync_file", "sync_folder", "rename", "remove"):
            monkeypatch.setattr(files, name, self._noted(name, getattr(files, name)))

    def _noted(self, name, function):
        def call(what, *rest):
            result = function(what, *rest)
            if name in ("create", "open_read"):
                self._paths[result] = what
            self.made.append((name, rest[0] if name == "rename" else self._paths.get(what, what)))
            if name == "rename":
                self._paths = {key: rest[0] if path == what else path for key, path in self._paths.items()}
            return result

        return call


def test_nothing_goes_before_its_pack_is_on_disk(study, monkeypatch):
    """File, name, and the name of the folder, in this order, and then the sources: else a power cut takes both."""
    path, _ = study
    calls = Calls(monkeypatch)
    studies.at_once(path)
    made = calls.made
    gone = min(at for at, (name, what) in enumerate(made) if name == "remove" and not what.startswith(f"{path}/.tmp"))
    renamed = [at for at, (name, _) in enumerate(made) if name == "rename"]
    assert len(renamed) == len(studies.packs(path))
    for at in renamed:
        before = [name for name, what in made[:at] if ".tmp-" in what and name in ("create", "sync_file", "open_read")]
        assert before[-3:] == ["create", "sync_file", "open_read"]  # written, on disk, read back
        assert at < made.index(("sync_folder", f"{path}/packs"), at) < made.index(("sync_folder", str(path)), at) < gone


def test_packs_of_others_are_brought_to_disk_before_anything_goes(study, monkeypatch):
    path, _ = study
    compacting.compact(str(path), grace=3600)
    calls = Calls(monkeypatch)
    report = studies.at_once(path)
    assert report.removed
    assert report.packs == 0
    gone = [
        at for at, (name, what) in enumerate(calls.made) if name == "remove" and not what.startswith(f"{path}/.tmp")
    ]
    assert calls.made.index(("sync_folder", f"{path}/packs")) < calls.made.index(("sync_folder", str(path))) < gone[0]
    synced = [what for name, what in calls.made[: gone[-1]] if name == "sync_file"]
    assert set(studies.packs(path)) <= set(synced)


# ---- copies ----------------------------------------------------------------------------------------------------------


def merge(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)


def test_two_machines_compact_the_same_and_are_merged(study, tmp_path):
    path, before = study
    other = tmp_path / "other"
    shutil.copytree(path, other)
    untouched = tmp_path / "untouched"
    shutil.copytree(path, untouched)
    for each in (path, other):
        studies.at_once(each)
    for source in (other, untouched, other):
        merge(source, path)
        assert studies.same_facts(studies.quiet_facts(path), before)
        assert units.same(second_reader.read(path), before[0])
    studies.at_once(path)
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert {name.partition("/")[0] for name in studies.inventory(path)} == {"format", "packs"}
    assert studies.at_once(path).idle


def test_the_same_pack_twice(study):
    path, before = study
    studies.at_once(path)
    for pack in studies.packs(path):
        folder, name = os.path.split(pack)
        shutil.copy(pack, f"{folder}/{layout.new_id()[:-1]}f{name[32:]}")
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert units.same(second_reader.read(path), before[0])
    count = len(studies.packs(path))
    studies.at_once(path)
    studies.at_once(path)
    assert len(studies.packs(path)) < count
    assert studies.same_facts(studies.quiet_facts(path), before)


# ---- damage ----------------------------------------------------------------------------------------------------------


def flip(path, at):
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1
    Path(path).write_bytes(data)


def test_damaged_units_stay(study):
    path, _ = study
    logs = sorted(map(str, path.glob("00000[16].1/*/*.log")))
    sealed = min(map(str, path.glob("0*/*/*.parquet")))
    flip(logs[0], 4096 + 60)
    flip(sealed, 60)
    kept = {file: Path(file).read_bytes() for file in (logs[0], sealed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        before = [dict(each) for each in ExperimentCollection(path).records[:40]]
    report = studies.at_once(path)
    assert report.left == {compacting.DAMAGED: 2}
    assert "damaged (" in str(report)
    assert {file: Path(file).read_bytes() for file in kept} == kept
    with pytest.warns(DamageWarning):
        assert [dict(each) for each in ExperimentCollection(path).records[:40]] == before
    assert studies.at_once(path).removed == 0


def test_a_pack_that_is_damaged_makes_nothing_go(study):
    path, before = study
    compacting.compact(str(path), grace=3600)  # the sources are still there
    count = len(studies.inventory(path))
    for pack in studies.packs(path):
        flip(pack, 30)
    report = studies.at_once(path)
    assert report.removed == 0
    assert report.left[compacting.DAMAGED] > 0
    assert len(studies.inventory(path)) == count
    for pack in studies.packs(path):
        os.remove(pack)
    assert studies.same_facts(studies.quiet_facts(path), before)


def test_a_pack_whose_footer_is_damaged_is_passed_over(study):
    path, before = study
    compacting.compact(str(path), grace=3600)
    pack = studies.packs(path)[0]
    flip(pack, -100)
    with pytest.warns(DamageWarning, match="damaged footer"):
        records = [dict(each) for each in ExperimentCollection(path).records]
    assert records == before[0]


def test_a_log_that_may_be_open_stays(study):
    """It differs from what is in the pack, if only by a zero; as one does whose writer has it open."""
    path, _ = study
    log = min(path.glob("000001.1/*/*.log"))
    data = log.read_bytes()
    studies.at_once(path)
    log.parent.mkdir()
    log.write_bytes(data + b"\0")
    report = studies.at_once(path)
    assert report.left == {removal.OPEN: 1}
    assert log.exists()


def test_a_removal_needs_the_pack_that_readers_take(study):
    """Of two packs with a unit only the first counts; another one being whole does not make a source go."""
    path, _ = study
    compacting.compact(str(path), grace=3600)
    for pack in studies.packs(path):
        folder, name = os.path.split(pack)
        first = f"{folder}/{'0' * 32}{name[32:]}" if pack == studies.packs(path)[0] else None
        if first:
            shutil.copy(pack, first)
            flip(first, 30)
            held = set(open_pack(pack).units)
    logs = {Key(one.parent.name, *layout.parse_unit(one.name)[:2]) for one in path.glob("0*/*/*.*")}
    assert held & logs
    studies.at_once(path)
    left = {Key(one.parent.name, *layout.parse_unit(one.name)[:2]) for one in path.glob("0*/*/*.*")}
    assert left == held & logs


# ---- leftovers -------------------------------------------------------------------------------------------------------


def test_old_files_in_the_making_go(study):
    path, before = study
    folder = next(path.glob("000001.1/*"))
    old, new, ready, live = (folder / layout.temporary_name(layout.new_id(), k) for k in range(4))
    old.write_bytes(b"half a pack")
    new.write_bytes(b"half a pack")
    ready.write_bytes(units.build([], units.header(host="elsewhere")))
    dead = units.header(host=os.uname().nodename, boot="another boot")
    live.write_bytes(units.build([], dead))
    (path / "packs").mkdir()
    packs = path / "packs" / layout.temporary_name(layout.new_id(), 0)
    packs.write_bytes(b"PAR1")
    for file in (old, ready, live, packs):
        os.utime(file, (1, 1))
    report = studies.at_once(path)
    assert report.leftovers == 3
    assert [file.exists() for file in (old, new, ready, live, packs)] == [False, True, True, False, False]
    assert studies.same_facts(studies.quiet_facts(path), before)


# ---- the interface ---------------------------------------------------------------------------------------------------


def test_compact_of_a_collection(study):
    path, before = study
    collection = ExperimentCollection(path)
    report = collection.compact(progress=True)
    assert report.units
    assert str(report).startswith("Compacted ")
    assert collection.compact().idle
    assert studies.same_facts(studies.quiet_facts(path), before)


def test_compact_says_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="There is no collection"):
        ExperimentCollection(tmp_path / "none").compact()
    with ExperimentCollection(tmp_path / "some").new_experiment():
        pass
    (tmp_path / "some" / "packs").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be compacted"):
        ExperimentCollection(tmp_path / "some").compact()
    monkeypatch.setattr("rigorous_recorder.compaction.MODULE", "rigorous_recorder.store.no_such_module")
    with pytest.raises(RecorderError, match="ended before it was done"):
        ExperimentCollection(tmp_path / "some").compact()


def test_the_command(study):
    path, _ = study
    ran = CliRunner().invoke(cli.app, ["compact", str(path)])
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("Compacted ")
    ran = CliRunner().invoke(cli.app, ["compact", str(path / "none")])
    assert ran.exit_code == 1
    assert "There is no collection" in ran.output
    assert "compact" in programs.run(
        "import runpy, sys; sys.argv = ['x', '--help']; runpy.run_module('rigorous_recorder', run_name='__main__')"
    )


def test_an_interrupted_begin_leaves_no_gap_in_listing(study):
    """A folder that a compaction emptied and another process makes again is neither damage nor an attempt."""
    path, before = study
    studies.at_once(path)
    attempt = next(iter(open_pack(studies.packs(path)[0]).claims.items()))
    os.mkdir(snapshot.attempt_folder(str(path), attempt[1], attempt[0]))
    assert studies.same_facts(studies.quiet_facts(path), before)


def only_packs(path):
    """Three experiments, the second of which failed, compacted, without the folders that are empty then."""
    collection = ExperimentCollection(path, retries="never")
    for n in range(1, 4):
        experiment = collection.new_experiment(n=n)
        experiment.add_record(x=n)
        experiment.close(error="failed" if n == 2 else None)
    studies.at_once(path)
    for claim in path.glob("0*"):
        claim.rmdir()
    return collection


def test_failures_that_are_only_in_packs_are_tried_again(tmp_path):
    only_packs(tmp_path / "study")
    again = ExperimentCollection(tmp_path / "study", retries="same_info").new_experiment(n=2)
    assert (again.number, again.error_number) == (2, 0)
    again.close()
    assert [one.number for one in ExperimentCollection(tmp_path / "study").experiments] == [1, 2, 2, 3]


def test_a_number_that_came_in_a_pack_is_not_given_again(tmp_path):
    """To who has just begun and ended the number before it, and has no reason to look."""
    only_packs(tmp_path / "other")
    collection = ExperimentCollection(tmp_path / "study")
    collection.new_experiment().close()
    (tmp_path / "study" / "packs").mkdir()
    os.utime(tmp_path / "study", ns=(files.mark(collection.path)[2],) * 2)
    collection.new_experiment().close()
    mark = files.mark(collection.path)[2]
    for pack in (tmp_path / "other" / "packs").iterdir():
        shutil.copyfile(pack, tmp_path / "study" / "packs" / pack.name)
    assert files.mark(collection.path)[2] == mark
    with collection.new_experiment() as experiment:
        assert experiment.number == 4


def test_the_number_of_what_is_in_a_damaged_pack_is_not_given_again(tmp_path):
    path = tmp_path / "study"
    collection = ExperimentCollection(path)
    for _ in range(3):
        with collection.new_experiment() as experiment:
            experiment.add_record(x=1)
    studies.at_once(path)
    for pack in (path / "packs").iterdir():
        content = bytearray(pack.read_bytes())
        content[-20] ^= 1
        pack.write_bytes(content)
    for claim in path.glob("0*"):
        os.utime(claim, (0, 0))
    with pytest.warns(DamageWarning):
        len(collection)
    experiment = ExperimentCollection(path).new_experiment()
    assert experiment.number == 4
    experiment.close()


def test_who_is_just_beginning_is_waited_for_by_the_clock_of_the_file_server(tmp_path, monkeypatch):
    collection = ExperimentCollection(tmp_path / "study")
    collection.new_experiment().close()
    (tmp_path / "study" / "000002.1" / layout.new_id()).mkdir(parents=True)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 120)
    experiment = ExperimentCollection(tmp_path / "study").new_experiment()
    assert experiment.number == 3
    experiment.close()
