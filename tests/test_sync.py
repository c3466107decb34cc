"""What a power cut leaves, shown without one: a disk that keeps only what was synced, in three ways, is read again."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path

import children
import pytest
from units import vouched

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.store import background, files, pack
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.compact import compact

CUTS = ["names as synced", "names as they are", "names as synced, less the removed ones"]
"""A file's data is what was synced last. Its name may be on disk as of the last sync of its folder, or already as of now,
or removals may be there already and renames not."""


DAMAGED = pytest.mark.filterwarnings("ignore::rigorous_recorder.DamageWarning")
"""For what is read while a sync is missing: what is wrong with it is no news."""


class Disk:
    """Follows the calls of `store/files.py` and knows what is on disk for certain.

    Args:
        monkeypatch: Replaces the functions.
        root: A folder that is on disk, with nothing in it.
        without: A function whose calls have no effect: the mutation that the tests must notice.
        check: Called after each call that changes something.
    """

    def __init__(self, monkeypatch, root, without=None, check=None):
        self.root, self.check = str(root), check
        self.contents, self.names = {}, {}
        self.real = {
            name: getattr(files, name)
            for name in ("create", "sync_data", "sync_file", "sync_folder", "rename", "remove", "link")
        }
        for name, real in self.real.items():
            monkeypatch.setattr(files, name, self.following(name, real, name == without))

    def following(self, name, real, skipped):
        def call(*arguments):
            if skipped:
                return None
            result = real(*arguments)
            if name in ("sync_data", "sync_file"):
                self.note_file(*arguments)
            elif name == "sync_folder":
                self.note_folder(*arguments)
            elif name == "create":
                self.contents.pop(os.fstat(result).st_ino, None)  # the number of a file that was removed
            if self.check is not None and threading.current_thread() is threading.main_thread():
                self.check()
            return result

        return call

    def note_file(self, descriptor):
        status = os.fstat(descriptor)
        self.contents[status.st_ino] = os.pread(descriptor, status.st_size, 0)

    def note_folder(self, path):
        path = os.path.realpath(path)
        self.names[path] = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}

    def note_all(self):
        """Take what is there now for synced."""
        for folder, _, names in os.walk(self.root):
            self.note_folder(folder)
            for name in names:
                descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
                self.note_file(descriptor)
                os.close(descriptor)

    def after_cut(self, target, cut, folder=None):
        """Build what is on disk after a power cut, as a folder."""
        folder = folder or self.root
        target.mkdir()
        now = (
            {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(folder)}
            if os.path.isdir(folder)
            else {}
        )
        names = dict(now) if cut == CUTS[1] else dict(self.names.get(folder, {}))
        if cut == CUTS[2]:
            names = {name: what for name, what in names.items() if name in now}
        for name, (inode, is_folder) in names.items():
            if is_folder:
                self.after_cut(target / name, cut, f"{folder}/{name}")
            else:
                (target / name).write_bytes(self.contents.get(inode, b""))
        return target


@pytest.fixture
def root(tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def read_cuts(disk):
    """For each way to cut the power: the states and the records' numbers that are read afterwards."""
    found = []
    for cut in CUTS:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as aside:
            warnings.simplefilter("ignore", DamageWarning)
            warnings.simplefilter("ignore", UserWarning)  # a collection that is not there at all
            collection = ExperimentCollection(disk.after_cut(Path(aside) / "copy", cut) / "studies" / "mine")
            found.append(
                ([one.state for one in collection.experiments], [record["i"] for record in collection.records])
            )
    return found


def record_through_cuts(tmp_path, root, journal, disk):
    """Begin, record through several units, sync, edit, close; after each step cut the power in three ways."""
    collection = ExperimentCollection(root / "studies" / "mine", journal=journal, sync_interval=3600)
    experiment = collection.new_experiment(a=1)
    for states, _ in read_cuts(disk):
        assert states == ["running"], "the experiment is not on disk when it has begun"
    for i in range(100):
        experiment.add_record(i=i, pad="x" * 100)
    experiment.sync()
    for _, numbers in read_cuts(disk):
        assert numbers[:100] == list(range(100)), "records are not on disk when sync() returns"
    experiment.sub_record_keeper(b=2).add_records(i=range(100, 120))
    experiment.sync()
    for _, numbers in read_cuts(disk):
        assert numbers[:120] == list(range(120))
    experiment.add_record(i=120)
    experiment.close()
    for states, numbers in read_cuts(disk):
        assert (states, numbers) == (["finished"], list(range(121))), "not on disk when close() returns"
    collection.keepers()[0].update(a=2)
    collection.add_notes(note=3)
    for cut in CUTS:
        copy = disk.after_cut(tmp_path / "copy", cut)
        assert {
            (record["a"], record["note"]) for record in ExperimentCollection(copy / "studies" / "mine").records
        } == {(2, 3)}
        shutil.rmtree(copy)


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", 1024)
    monkeypatch.setattr(journals, "SIZES", (4096, 4096))
    monkeypatch.setattr("sys.executable", "")  # no helper: the disk could not follow what another process does
    background.background.helper.finish(0)  # one that an earlier test left


def test_what_was_begun_synced_or_closed_survives_a_power_cut(tmp_path, root, journal, monkeypatch):
    record_through_cuts(tmp_path, root, journal, Disk(monkeypatch, root))


@DAMAGED
@pytest.mark.parametrize("without", ["sync_data", "sync_folder"])
def test_this_test_can_fail_each_sync_is_needed(tmp_path, root, journal, monkeypatch, without):
    disk = Disk(monkeypatch, root, without)
    with pytest.raises(AssertionError, match="not on disk"):
        record_through_cuts(tmp_path, root, journal, disk)


class Overtaken:
    """A lock, just before the first taking of which somebody else does something."""

    def __init__(self, lock, meanwhile):
        self.lock, self.meanwhile = lock, [meanwhile]

    def __enter__(self):
        if self.meanwhile:
            self.meanwhile.pop()()
        return self.lock.__enter__()

    def __exit__(self, *error):
        return self.lock.__exit__(*error)


def test_a_sync_that_overtakes_another_is_as_good(root, journal, monkeypatch):
    """The background thread has begun to sync new units, and the program syncs before it comes to the disk."""
    disk = Disk(monkeypatch, root)
    collection = ExperimentCollection(root / "studies" / "mine", journal=journal, sync_interval=3600)
    experiment = collection.new_experiment()
    for i in range(100):
        experiment.add_record(i=i, pad="x" * 100)
    assert experiment._journal._n > 2

    def meanwhile():
        experiment.sync()
        for _, numbers in read_cuts(disk):
            assert numbers == list(range(100)), "records are not on disk when sync() returns"

    lock = Overtaken(experiment._journal._sync_lock, meanwhile)
    experiment._journal._sync_lock = lock
    experiment.sync()
    assert lock.meanwhile == []
    experiment.close()


@pytest.mark.parametrize("meanwhile", ["a block ends", "a sync", "a sync and a block ends"])
def test_what_was_synced_is_vouched_for_while_the_next_sync_is_under_way(collection, monkeypatch, meanwhile):
    """A power cut may leave the new checksums, and of the bytes that they are about nothing but what was synced before."""
    experiment = collection.new_experiment()
    numbers = iter(range(10**6))

    def add():
        experiment.add_record(i=next(numbers), pad="x" * 30)

    def with_headers(data, later):
        """Bytes as they were, but for the first sector of each block."""
        mixed = bytearray(data.ljust(len(later), b"\0"))
        for first in range(u.PAGE, len(later), 1024):
            mixed[first : first + 512] = later[first : first + 512]
        return bytes(mixed)

    for _ in range(12):  # the entries that the next sync is about come behind the first sector
        add()
    experiment.sync()
    journal = experiment._journal
    path, index, begun, real = Path(journal.path), journal._index, [], files.sync_data
    synced = path.read_bytes()
    before = vouched(synced)
    assert len(before) == 12
    add()

    def slow(descriptor):
        begun.append(path.read_bytes())
        if len(begun) == 1:
            add()
            if "sync" in meanwhile:
                experiment.sync()
            while "ends" in meanwhile and journal._index == index:
                add()
            on_disk = synced if len(begun) == 1 else begun[-1]  # that of a sync in between has returned
            found = vouched(with_headers(on_disk, path.read_bytes()))
            assert before.items() <= found.items(), "what was synced is not vouched for any more"
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_data", slow)
        experiment.sync()
    assert journal.path == str(path), "this test is about one unit"
    now = path.read_bytes()
    assert vouched(begun[0]).items() <= vouched(with_headers(begun[-1], now)).items(), "a sync returned too early"
    experiment.close()


# ---- sealing --------------------------------------------------------------------------------------------------------


def seal_through_cuts(tmp_path, root, journal, monkeypatch, without=None):
    """Seal a unit, and cut the power in three ways after each call that changes something. The number of cuts."""
    collection = ExperimentCollection(root / "studies" / "mine", journal=journal)
    with collection.new_experiment(a=1) as experiment:
        experiment.add_records(i=range(50))
        folder = Path(experiment._session.folder)
    wrong, cuts = [], []

    def check():
        for states, numbers in read_cuts(disk):
            cuts.append(1)
            if (states, numbers) != (["finished"], list(range(50))):
                wrong.append((states, len(numbers)))

    disk = Disk(monkeypatch, root, without, check)
    disk.note_all()
    for path in sorted(folder.glob("*.log")):
        assert pack.seal(str(path)) is not None
    check()
    assert [record["i"] for record in collection.records] == list(range(50))
    assert wrong == [], "a power cut while sealing loses records"
    return len(cuts)


def test_a_power_cut_at_any_point_of_sealing_loses_nothing(tmp_path, root, journal, monkeypatch):
    assert seal_through_cuts(tmp_path, root, journal, monkeypatch) > 9


@DAMAGED
@pytest.mark.parametrize("without", ["sync_file", "sync_folder"])
def test_this_test_can_fail_each_sync_of_a_seal_is_needed(tmp_path, root, journal, monkeypatch, without):
    with pytest.raises(AssertionError, match="loses records"):
        seal_through_cuts(tmp_path, root, journal, monkeypatch, without)


# ---- compaction and deletion ----------------------------------------------------------------------------------------


def compact_through_cuts(root, journal, monkeypatch, without=None):
    """Compact twice, the second time packs too; cut the power after each call that changes something. The number of cuts."""
    path = root / "studies" / "mine"
    collection = ExperimentCollection(path, journal=journal, retries="never")
    wrong, cuts, expected = [], [], []

    def check():
        for states, numbers in read_cuts(disk):
            cuts.append(1)
            if (states, numbers) != (["finished"] * (len(expected) // 20), expected):
                wrong.append((states, len(numbers)))

    disk = Disk(monkeypatch, root, without)
    for first in (0, 40):
        for start in (first, first + 20):
            with collection.new_experiment() as experiment:
                experiment.add_records(i=range(start, start + 20))
            expected += range(start, start + 20)
        disk.note_all()
        disk.check = check
        compact(str(path), grace=0)
        check()
        disk.check = None
    assert not list(path.glob("0*/*"))
    assert wrong == [], "a power cut while compacting loses records"
    return len(cuts)


def test_a_power_cut_at_any_point_of_compacting_loses_nothing(root, journal, monkeypatch):
    assert compact_through_cuts(root, journal, monkeypatch) > 60


@DAMAGED
@pytest.mark.parametrize("without", ["sync_file", "sync_folder"])
def test_this_test_can_fail_each_sync_of_a_compaction_is_needed(root, journal, monkeypatch, without):
    with pytest.raises(AssertionError, match="loses records"):
        compact_through_cuts(root, journal, monkeypatch, without)


# ---- the background thread ------------------------------------------------------------------------------------------


def wait_for(condition, experiment=None):
    """Wait until something has happened; only a hang is a failure."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, (
            "it does not happen",
            background.background._thread,
            experiment and (experiment._journal.failure, experiment._journal._retired),
        )
        time.sleep(0.02)


@pytest.mark.parametrize("count", [1, 100])
def test_the_thread_brings_records_to_disk_without_any_call(tmp_path, root, journal, monkeypatch, count):
    disk = Disk(monkeypatch, root)
    experiment = ExperimentCollection(root / "studies" / "mine", journal=journal, sync_interval=0.1).new_experiment()
    disk.note_folder(root)
    disk.note_folder(root / "studies")
    for i in range(count):
        experiment.add_record(i=i, pad="x" * 100)

    def synced():
        return all(numbers == list(range(count)) for _, numbers in read_cuts(disk))

    def vouched():
        data = Path(experiment._journal.path).read_bytes()
        return pack.Decoded(data).unverified == 0

    wait_for(synced, experiment)
    wait_for(vouched, experiment)
    experiment.close()


def test_an_idle_journal_is_not_synced_again_and_again(root, journal, monkeypatch):
    calls = []
    real = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda descriptor: (calls.append(1), real(descriptor)))
    experiment = ExperimentCollection(root / "study", journal=journal, sync_interval=0.01).new_experiment()
    experiment.add_record(i=1)
    wait_for(lambda: calls)
    experiment.sync()
    time.sleep(0.3)
    before = len(calls)
    time.sleep(0.3)
    assert len(calls) <= before + 1, "an idle experiment keeps the disk busy"
    experiment.close()


def test_the_heart_beats(root, journal, monkeypatch):
    monkeypatch.setattr(background, "HEARTBEAT", 0.05)
    experiment = ExperimentCollection(root / "study", journal=journal, sync_interval=0.02).new_experiment()
    path = experiment._journal.path
    for _ in range(3):
        os.utime(path, (1000, 1000))
        wait_for(lambda: files.modified(path) > time.time() - 60)
    experiment.close()


def test_the_heart_stops_with_the_experiment(root, journal, monkeypatch):
    monkeypatch.setattr(background, "HEARTBEAT", 0.01)
    experiment = ExperimentCollection(root / "study", journal=journal, sync_interval=0.01).new_experiment()
    path = experiment._journal.path
    experiment.close()
    time.sleep(0.1)  # the last beat may be on its way
    os.utime(path, (1000, 1000))
    time.sleep(0.2)
    assert files.modified(path) == 1000


def test_the_folder_rests_when_the_program_has_ended(tmp_path):
    """What comes next may be a copy of it: the exit waits for the sealing of what was recorded."""
    program = """
import sys
from rigorous_recorder import ExperimentCollection
with ExperimentCollection(sys.argv[1]).new_experiment() as experiment:
    for number in range(60_000):
        experiment.add_record(x=number, text="x" * 20)
"""
    path = tmp_path / "study"
    ended = children.run(program, path)
    assert ended.returncode == 0, ended.stderr
    assert list(path.rglob("*.log")) == []
    assert list(path.rglob(".tmp*")) == []
    assert len(ExperimentCollection(path)) == 60_000


def test_a_unit_that_is_full_and_sealed_while_it_is_synced_was_not_removed(collection, monkeypatch):
    """By other threads: one fills the unit, another brings it to disk and hands it to the helper, and its log goes."""
    experiment = collection.new_experiment()
    keeper = experiment.sub_record_keeper(a=1)
    keeper.add_record(n=0)
    journal, sealed, real = experiment._session.journal, [], files.sync_data

    def sync_data(descriptor):
        real(descriptor)
        if not sealed:
            sealed.append(journal.path)
            while journal.path == sealed[0]:
                keeper.add_record(n=1, pad="x" * 1000)
            journal.sync()
            assert pack.seal(sealed[0])

    monkeypatch.setattr(background.background.helper, "submit", lambda path: None)
    monkeypatch.setattr(files, "sync_data", sync_data)
    experiment.sync()
    assert sealed
    assert not os.path.exists(sealed[0])
    experiment.close()
    assert [record["n"] for record in collection.records][:2] == [0, 1]


def test_sync_says_that_the_folder_is_gone(collection):
    experiment = collection.new_experiment()
    experiment.add_record(x=1)
    experiment.sync()
    shutil.rmtree(collection.path)
    experiment.add_record(x=2)
    with pytest.raises(OSError, match=r"removed.*Hint: was the folder moved or removed"):
        experiment.sync()
    with pytest.raises(OSError, match=r"failed to confirm.*removed"):
        experiment.close()
    assert collection.open_experiments == ()


def test_an_experiment_that_fails_at_exit_takes_no_other_with_it(tmp_path):
    program = """
import shutil, sys
from rigorous_recorder import ExperimentCollection
for name in ("first", "second", "third"):
    ExperimentCollection(f"{sys.argv[1]}/{name}").new_experiment().add_record(x=1)
shutil.rmtree(f"{sys.argv[1]}/second")
"""
    ended = children.run(program, tmp_path)
    assert ended.returncode == 0
    assert "failed to confirm what was recorded: the file was removed" in ended.stderr
    assert "/second/" in ended.stderr
    assert "Traceback" not in ended.stderr
    for name in ("first", "third"):
        (one,) = ExperimentCollection(tmp_path / name).experiments
        assert (one.state, one.error, one.n_records) == ("failed", "never closed", 1)


@pytest.mark.parametrize("call", ["truncate", "sync_data", "duplicate", "write_at"])
def test_a_close_that_was_interrupted_is_finished_by_the_next(collection, monkeypatch, call):
    experiment = collection.new_experiment()
    experiment.add_record(x=1)
    real, calls = getattr(files, call), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 1 and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(files, call, interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            experiment.close()
    if calls:
        with contextlib.suppress(RuntimeError):  # refused, or still open: but never forgotten
            experiment.add_record(x=2)
        experiment.close()
    assert experiment._journal.map is None
    assert experiment._journal._descriptor == -1
    with pytest.raises(RuntimeError, match="closed"):
        experiment.add_record(x=3)
    (one,) = collection.experiments
    assert one.state == "finished"
    assert [record["x"] for record in collection.records] in ([1], [1, 2])
