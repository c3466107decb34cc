"""Orders of steps that nothing shows but an accident at the wrong moment, which each test makes happen."""

import errno
import os
from pathlib import Path

import children
import pytest
import units

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import FormatError
from rigorous_recorder.store import files, pack, packmeta
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.snapshot import list_units, open_unit

ROWS = [{"i": i, "pad": "x" * (i % 7)} for i in range(50)]

CRASH = """
import ctypes, os, sys
from rigorous_recorder import ExperimentCollection
experiment = ExperimentCollection(sys.argv[1], journal="mmap", sync_interval=3600).new_experiment()
keeper = experiment.sub_record_keeper(name=1)
other = experiment.sub_record_keeper(name=2)
keeper.add_record(i=0)
journal = experiment._journal
journal.sync()
page = 4096
def until(place):
    while True:
        left = place - journal.pos
        if left < 150:
            break
        keeper.add_record(i=1, pad="x" * 60)
    keeper.add_record(pad="x" * (left - 8))
until((journal.pos // page + 1) * page - 3)  # the next mark stands at the end of a page, its record in the next
at = journal.pos
assert page - 5 < at % page < page - 1, at % page
inode = str(os.stat(journal.path).st_ino)
for line in open("/proc/self/maps"):  # the name there is that of the file when it was mapped
    if line.split()[4] == inode:
        address = int(line.split("-")[0], 16)
start = address + (at // page + 1) * page
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), page, 0) == 0
print(journal.path, at, flush=True)
(keeper if sys.argv[2] == "same" else other).add_record(i=2, pad="y" * int(sys.argv[3]))
"""


@pytest.mark.parametrize("size", [40, 200, 1000])
@pytest.mark.parametrize("keeper", ["same", "other"])
@pytest.mark.parametrize("pure", ["0", "1"], ids=["compiled", "pure"])
def test_a_crash_between_a_record_and_its_mark_stores_nothing(tmp_path, keeper, size, pure):
    """The page behind the mark cannot be written: the process dies in the middle of storing the record."""
    ended = children.run(
        CRASH, tmp_path / "study", keeper, size, env={**children.ENVIRONMENT, "RIGOROUS_RECORDER_PURE": pure}
    )
    assert ended.returncode == -11, ended.stderr
    path, at = ended.stdout.split()
    data = Path(path).read_bytes()
    assert data[int(at)] == 0, "the mark of a record that is not there"
    assert all("y" not in (each["pad"] or "") for each in ExperimentCollection(tmp_path / "study").records)


def test_at_no_moment_a_file_holds_half_a_record(tmp_path, monkeypatch):
    """In write() mode after each single write: what whoever reads, or is there after a kill, finds."""
    collection = ExperimentCollection(tmp_path / "study", journal="write", sync_interval=3600)
    experiment = collection.new_experiment()
    path, real, seen = experiment._journal.path, files.write_at, []

    def watched(descriptor, data, offset):
        real(descriptor, data, offset)
        source = LogSource(Path(path).read_bytes())
        for record in source.records():
            assert record["sum"] == record["i"] + len(record["pad"]), record
        assert source.findings == []
        seen.append(offset)

    monkeypatch.setattr(files, "write_at", watched)
    for i in range(100):
        experiment.add_record(i=i, pad="x" * (i * 7 % 400), sum=i + i * 7 % 400)
    experiment.add_records([{"i": i, "pad": "", "sum": i} for i in range(100, 150)])
    assert len(seen) > 200
    monkeypatch.undo()
    experiment.close()


def test_what_is_not_written_as_it_was_meant_is_no_pack(tmp_path, monkeypatch):
    """A disk or a controller that changes a bit: the log stays, and nothing takes its place."""
    path, real = units.write(tmp_path, [(1, row) for row in ROWS]), files.write_at
    for place in range(4, 2000, 37):

        def damaging(descriptor, data, offset, place=place):
            changed = bytearray(data)
            changed[place % len(changed)] ^= 1
            real(descriptor, bytes(changed), offset)

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_at", damaging)
            with pytest.raises(FormatError):
                pack.seal(path)
        assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert pack.seal(path)


def test_a_damaged_footer_is_noticed(tmp_path):
    path = pack.seal(units.write(tmp_path, [(1, row) for row in ROWS]))
    data = Path(path).read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    for place in range(len(data) - 8 - length, len(data) - 8, 3):
        changed = bytearray(data)
        changed[place] ^= 8
        Path(path).write_bytes(changed)
        with pytest.raises(FormatError):
            packmeta.load_meta(path)


def test_a_unit_that_a_listing_misses_under_both_of_its_names_is_found(tmp_path, monkeypatch):
    path, real, listed = units.write(tmp_path, [(1, row) for row in ROWS]), files.names, []
    units.write(tmp_path, [(1, row) for row in ROWS], units.header(n=2))

    def names(folder):
        found = real(folder)
        listed.append(found)
        if (
            len(listed) == 1
        ):  # the directory is read in parts: the log is gone in one, and the pack not there yet in another
            pack.seal(path)
            found.remove(os.path.basename(path))
        return found

    monkeypatch.setattr(files, "names", names)
    places, _ = list_units(str(tmp_path))
    assert [place.name.n for place in places] == [1, 2]
    assert len(listed) > 1


def test_a_unit_that_is_sealed_between_listing_and_reading_is_read(tmp_path):
    path = units.write(tmp_path, [(1, row) for row in ROWS])
    (place,), _ = list_units(str(tmp_path))
    pack.seal(path)
    assert open_unit(place).records() == ROWS


def test_of_a_log_and_its_pack_the_pack_counts_once(tmp_path):
    path = units.write(tmp_path, [(1, row) for row in ROWS])
    data = Path(path).read_bytes()
    sealed = pack.seal(path)
    Path(path).write_bytes(data)
    places, _ = list_units(str(tmp_path))
    assert [place.file for place in places] == [os.path.basename(sealed)]


def test_old_bytes_of_another_unit_are_never_taken_for_new_ones(tmp_path):
    """Preallocated blocks may hold what was there before, on file systems that do not zero them after a power cut."""
    new = units.build([(1, {"i": i}) for i in range(3)], units.header(block=1024))
    old = units.build([(1, {"i": -1, "pad": "x" * 200}) for _ in range(20)], units.header(block=1024, salt=0x0DD))
    data = new[: u.PAGE + 1024] + old[u.PAGE + 1024 :]
    assert len(LogSource(old).records()) == 20
    assert [record["i"] for record in LogSource(data).records()] == [0, 1, 2]


@pytest.mark.parametrize("call", ["preallocate", "map_shared", "write_at"])
def test_a_unit_that_finds_no_room_leaves_no_file(tmp_path, monkeypatch, call):
    journal = "write" if call == "write_at" else "mmap"
    collection = ExperimentCollection(tmp_path / "study", journal=journal, sync_interval=3600)
    with collection.new_experiment() as experiment:

        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files, call, full)
            with pytest.raises(OSError, match="No space"):
                experiment.add_records(text=["x" * 1_000_000])
        assert list(Path(collection.path).rglob(".tmp*")) == []
        experiment.add_record(i=1)
    assert [each["i"] for each in collection] == [1]


def test_a_fork_while_the_background_holds_its_lock_does_not_hang_the_child(tmp_path, journal):
    code = """
import os, signal, sys, threading
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store.background import background
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
with collection.new_experiment() as experiment:
    held, done = threading.Event(), threading.Event()
    def hold():
        with background._lock:
            held.set()
            done.wait(60)
    threading.Thread(target=hold).start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        experiment.add_record(child=True)
        assert background._thread.is_alive()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    done.set()
    assert status == 0, status
"""
    ended = children.run(code, tmp_path / "study", journal)
    assert ended.returncode == 0, ended.stderr
    assert [each["child"] for each in ExperimentCollection(tmp_path / "study")] == [True]


def test_a_collection_that_was_just_made_is_one_after_a_power_cut(tmp_path, monkeypatch):
    """Its file `format` is whole before it has its name."""
    order = []
    for name in ("write_at", "sync_file", "link", "sync_folder"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *args, real=real, name=name: (order.append(name), real(*args))[1])
    ExperimentCollection(tmp_path / "study").add_notes(a=1)
    first = order.index("write_at")
    assert order[first : first + 4] == ["write_at", "sync_file", "link", "sync_folder"]
