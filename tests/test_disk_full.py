"""A full or failing disk: a clear error at the call, all that was acknowledged is safe, and recording goes on afterwards."""

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings

import children
import plan
import pytest

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderWarning
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import files
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.background import background

FILL = """
import errno, json, os, resource, signal, sys, time, warnings
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import StoreError
path, mode, free = sys.argv[1], sys.argv[2], sys.argv[3]
from rigorous_recorder.store.background import background
background.helper.submit = lambda path: None  # packs of what is added here take next to no room
warnings.simplefilter("ignore")
collection = ExperimentCollection(path, journal=mode)
experiment = collection.new_experiment()
if free.isdigit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(free), resource.RLIM_INFINITY))
added, errors = [], []
def add(count, make):
    failed = 0
    for i in range(count):
        number = len(added) + 1000000 * len(errors)
        try:
            make(number)
            added.append(number)
        except StoreError as error:
            assert error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT), error
            assert "Hint" in str(error) and "safe" in str(error), error
            errors.append(str(error))
            failed += 1
            if failed == 3:
                return
pad = "x" * int(sys.argv[5])
add(10**5, lambda n: experiment.add_record(n=n, pad=pad))
assert errors, "the disk is not full"
add(50, lambda n: experiment.add_record(n=n))
before = len(added)
assert [record["n"] for record in experiment.records] == added
if sys.argv[4] == "go on":
    if free.isdigit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        os.remove(free)
    add(5000, lambda n: experiment.add_record(n=n, pad="y" * 300))
    assert len(added) == before + 5000, errors[-1]
try:
    experiment.close()
    closed = ""
except StoreError as error:
    closed = str(error)
assert [record["n"] for record in collection.records] == added
print(json.dumps([added, collection.experiments[0].state, closed]))
"""


def check_full(ended):
    """See to it that the child had no complaint; what it printed."""
    assert ended.returncode == 0, f"{ended.returncode}: {ended.stderr}"
    added, state, closed = json.loads(ended.stdout)
    assert (state, closed) == ("finished", ""), closed
    return added


@pytest.mark.parametrize("shard", plan.shards("test_a_limit_on_the_size_of_files", ci=1, long=1, within=8), ids=repr)
@pytest.mark.parametrize("then", ["go on", "close"])
@pytest.mark.parametrize("limit", [70_000, 72_000])  # less than the smallest unit, so that smaller ones are no way out
def test_a_limit_on_the_size_of_files(tmp_path, journal, limit, then, shard, reached):
    for nth in range(shard.rounds):
        collection = ExperimentCollection(tmp_path / f"{nth}", journal=journal)
        added = check_full(children.run(FILL, collection.path, journal, limit + 331 * nth, then, 300 + 17 * nth))
        assert [record["n"] for record in collection.records] == added
    reached(shard.rounds)


def in_a_mount(mount, *arguments, code=FILL):
    """Run a child in a mount namespace of its own, in which a small file system is mounted; skips where that is refused."""
    script = mount + ' && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", children.PYTHON, "-c", code, *map(str, arguments)]
    allowed = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, timeout=60)
    if allowed.returncode:
        pytest.skip(f"NOT TESTED, mounting is refused here: {allowed.stderr.strip()}")
    return subprocess.run(command, env=children.ENVIRONMENT, capture_output=True, text=True, timeout=120)


@pytest.mark.privileged
@pytest.mark.parametrize("shard", plan.shards("test_a_disk_that_is_really_full", ci=1, long=2, within=8), ids=repr)
@pytest.mark.parametrize("then", ["go on", "close"])
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_is_really_full(tmp_path, journal, kind, then, shard, reached):
    dice = random.Random(f"{journal} {kind} {then} {shard.seed}")
    for nth in range(shard.rounds):
        disk = tmp_path / f"disk{nth}"
        disk.mkdir()
        if kind == "tmpfs":
            mount = f"mount -t tmpfs -o size=4m tmpfs {disk}"
        else:
            if not shutil.which("mkfs.ext4"):
                pytest.skip("NOT TESTED: there is no mkfs.ext4")
            image = tmp_path / "image"
            image.unlink(missing_ok=True)
            with image.open("wb") as file:
                file.truncate(24 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
            mount = f"mount -o loop {image} {disk}"
        ballast = f"{disk}/ballast"
        size = (2 << 20 if kind == "tmpfs" else 8 << 20) - dice.randrange(1 << 18)
        mount += f" && head -c {size} /dev/zero > {ballast}"
        check_full(in_a_mount(mount, f"{disk}/study", journal, ballast, then, dice.randrange(250, 500)))
    reached(shard.rounds)


# ---- the n-th call fails ------------------------------------------------------------------------------------------

FUNCTIONS = [
    "close", "create", "duplicate", "link", "make_folder", "make_folders", "map_private", "map_shared", "names", "preallocate",
    "remove", "rename", "sync_data", "sync_file", "sync_folder", "touch", "truncate", "write_at",
]  # fmt: skip
ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR, errno.ESTALE]


class Failing:
    """A function of `store/files.py` whose n-th call fails."""

    def __init__(self, monkeypatch, name, n, number):
        self.real, self.calls, self.n, self.number = getattr(files, name), 0, n, number
        self.name = name
        monkeypatch.setattr(files, name, self)

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.n:
            if self.name == "close":
                self.real(*arguments)  # Linux closes it all the same
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*arguments)

    @property
    def failed(self):
        return self.calls >= self.n


def record_all(collection, acknowledged, errors):
    """A whole study in small: begin, records through several units, a block, an edit, a sync, the end. Errors are noted."""

    def attempt(work, number=None):
        try:
            work()
            if number is not None:
                acknowledged.append(number)
        except OSError as error:
            errors.append(error)

    try:
        experiment = collection.new_experiment(a=1)
    except OSError as error:
        errors.append(error)
        return
    keeper = experiment
    for number in range(60):
        if number == 20:
            attempt(experiment.sync)
        if number == 30:
            attempt(lambda: experiment.update(edited=1))
        if number == 40:
            try:
                keeper = experiment.sub_record_keeper(name=1)
            except OSError as error:
                errors.append(error)
        attempt(lambda n=number, keeper=keeper: keeper.add_record(n=n, pad="x" * 200), number)
    attempt(lambda: experiment.add_records(n=[100, 100, 100]), 100)
    attempt(experiment.close)
    attempt(experiment.close)


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", 1024)
    monkeypatch.setattr(journals, "SIZES", (2048, 4096))
    monkeypatch.setattr("sys.executable", "")
    monkeypatch.setattr(background.helper, "submit", lambda path: False)  # one may run since an earlier test


@pytest.mark.parametrize("turn", ERRORS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_nth_call_of_each_function_fails(ram, journal, monkeypatch, small_units, name, turn, reached):
    bare = []
    for n in itertools.count(1):
        path = ram / f"{n}"
        acknowledged, errors = [], []
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", RecorderWarning)  # of the background thread
            failing = Failing(patch, name, n, turn)
            try:
                collection = ExperimentCollection(path, journal=journal, sync_interval=30)
            except OSError as error:
                errors.append(error)
            else:
                record_all(collection, acknowledged, errors)
        bare += [(n, error) for error in errors if not isinstance(error, StoreError)]
        collection = ExperimentCollection(path, journal=journal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            found = [record["n"] for record in collection.records] if path.exists() else []
        assert set(acknowledged) <= set(found), f"call {n} of {name}: {sorted(set(acknowledged) - set(found))} are lost"
        assert [number for number in found if number < 100] == sorted({number for number in found if number < 100})
        assert found.count(100) in (0, 3)
        extra = set(found) - set(acknowledged)
        assert len(extra) <= len(errors)
        if not errors:
            assert extra == set()
            assert len(acknowledged) == 61
        with collection.new_experiment() as experiment:  # the disk works again
            experiment.add_record(n=-1)
        assert collection[-1][-1]["n"] == -1
        if not failing.failed:
            break
        assert n < 300
    reached(n)
    assert bare == [], "errors that are not the recorder's own, without a hint"


class Faulty:
    """Calls of a function of `os` by `store/files.py`, of which the n-th fails, or moves fewer bytes than asked.

    Lower than `Failing`: what `store/files.py` makes of it is part of the test.
    """

    def __init__(self, monkeypatch, name, n, fault):
        self.real, self.calls, self.n, self.fault = getattr(os, name), 0, n, fault
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments, **keywords):
        if sys._getframe(1).f_code.co_filename != files.__file__:
            return self.real(*arguments, **keywords)
        self.calls += 1
        if self.calls != self.n:
            return self.real(*arguments, **keywords)
        if self.fault != "short":
            raise OSError(self.fault, os.strerror(self.fault))
        descriptor, what, offset = arguments
        return self.real(descriptor, what // 2 or 1 if isinstance(what, int) else what[: len(what) // 2 or 1], offset)


def test_the_nth_write_is_short(ram, monkeypatch, small_units, reached):
    """As at a signal, or on a disk that is nearly full: the rest is written by the next call."""
    for n in itertools.count(1):
        collection = ExperimentCollection(ram / f"{n}", journal="write", sync_interval=30)
        acknowledged, errors = [], []
        with monkeypatch.context() as patch:
            faulty = Faulty(patch, "pwrite", n, "short")
            record_all(collection, acknowledged, errors)
        assert errors == []
        assert [record["n"] for record in collection.records] == [*range(60), 100, 100, 100]
        if faulty.calls < n:
            break
        assert n < 400
    assert n > 100
    reached(n)


READING = ["fstat", "listdir", "lstat", "open", "pread"]


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.EACCES, "short"], ids=str)
@pytest.mark.parametrize("name", READING)
def test_the_nth_call_of_a_reader_fails(ram, monkeypatch, small_units, name, fault, reached):
    """A reader says that it could not read, or reads all: never does it take for missing what it could not look at."""
    if fault == "short" and name != "pread":
        pytest.skip("only reads can be short")
    collection = ExperimentCollection(ram / "study", journal="write", sync_interval=30)
    acknowledged, errors = [], []
    record_all(collection, acknowledged, errors)
    record_all(collection, acknowledged, errors)
    collection.add_notes(note=1)
    whole, states = list(collection.records), [(one.number, one.state) for one in collection.experiments]
    assert (len(whole), len(states)) == (126, 2)
    for n in itertools.count(1):
        told, found, seen = [], None, None
        with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            faulty = Faulty(patch, name, n, fault)
            try:
                found = list(ExperimentCollection(ram / "study").records)
                seen = [(one.number, one.state) for one in ExperimentCollection(ram / "study").experiments]
            except StoreError as error:
                told.append(str(error))
        told += [str(warning.message) for warning in caught]
        assert told or (found, seen) == (whole, states), f"call {n} of {name} failed, and not a word"
        if fault == "short":
            assert told == []
        if faulty.calls < n:
            break
        assert n < 400
    assert n > 1
    reached(n)


# ---- the disk does not confirm -----------------------------------------------------------------------------------


def test_a_failed_fdatasync_is_remembered(collection, monkeypatch):
    experiment = collection.new_experiment()
    experiment.add_record(i=0)
    failing = Failing(monkeypatch, "sync_data", 1, errno.EIO)
    deadline = time.monotonic() + 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)
        while not failing.failed:  # by this call, or by the background thread before it
            assert time.monotonic() < deadline
            experiment.add_record(i=1)
            with contextlib.suppress(StoreError):
                experiment.sync()
    calls = failing.calls
    for _ in range(3):  # a second fsync may succeed although pages were dropped
        with pytest.raises(StoreError, match="confirm"):
            experiment.sync()
    assert failing.calls == calls
    experiment.add_record(i=2)
    with pytest.raises(StoreError, match="confirm"):
        experiment.close()
    assert collection.records[0]["i"] == 0
    assert collection.records[-1]["i"] == 2
    assert collection.experiments[0].state == "finished"
    with collection.new_experiment() as another:
        another.add_record(i=3)
    assert collection[-1][0]["i"] == 3


def test_the_background_thread_warns_once_of_a_disk_that_fails(collection, journal):
    code = """
import errno, sys, time
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import files
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2], sync_interval=0.01)
experiment = collection.new_experiment()
def fail(descriptor):
    raise OSError(errno.EIO, "Input/output error")
real, files.sync_data = files.sync_data, fail
deadline = time.monotonic() + 20
while experiment._journal.failure is None and time.monotonic() < deadline:
    experiment.add_record(i=1)
    time.sleep(0.01)
time.sleep(0.2)
files.sync_data = real
try:
    experiment.close()
except OSError as error:
    print("told:", error)
"""
    ended = children.run(code, collection.path, journal)
    assert ended.returncode == 0, ended.stderr
    assert "told:" in ended.stdout
    assert ended.stderr.count("Warning") == 1
    assert "disk" in ended.stderr
    assert len(collection) > 0


# ---- no permission ---------------------------------------------------------------------------------------------------

NOBODY = """
import os, sys, tempfile, warnings
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import StoreError
warnings.simplefilter("ignore")
with tempfile.TemporaryDirectory() as folder:  # imports what is imported late
    other = ExperimentCollection(folder + "/x")
    with other.new_experiment() as experiment:
        experiment.add_record(a=1)
    list(other.records), other.experiments, other.add_notes(b=1)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
REFUSED = """
collection = ExperimentCollection(sys.argv[1])
for work in (
    collection.new_experiment,
    lambda: collection.add_notes(a=1),
    lambda: collection.resume_experiment(1),
    lambda: collection.keepers()[0].update(a=2),
    ExperimentCollection(sys.argv[1] + "/../new").new_experiment,
):
    try:
        work()
        print("no error")
    except StoreError as error:
        assert error.errno in {numbers}, error
        assert {says!r} in str(error), error
assert [record["i"] for record in collection.records] == list(range(10))
assert collection.experiments[0].state == "finished"
print("read")
"""


@pytest.mark.privileged
def test_a_folder_in_which_one_may_not_write(collection, tmp_path):
    with collection.new_experiment() as experiment:
        experiment.add_records(i=range(10))
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            if "pytest" not in str(folder):
                pytest.skip(f"NOT TESTED: nobody cannot enter {folder}")
            folder.chmod(0o755)
    ended = children.run(NOBODY + REFUSED.format(numbers=(1, 13, 30), says="ermission"), collection.path)
    assert (ended.returncode, ended.stdout) == (0, "read\n"), ended.stderr


READ_ONLY = """
import sys
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import StoreError
"""


@pytest.mark.privileged
def test_a_read_only_file_system(collection, tmp_path):
    with collection.new_experiment() as experiment:
        experiment.add_records(i=range(10))
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    refused = REFUSED.format(numbers=(30,), says="the file system is read-only")
    ended = in_a_mount(mount, collection.path, code=READ_ONLY + refused)
    assert (ended.returncode, ended.stdout) == (0, "read\n"), ended.stderr
