"""The recorder never harms the run: whatever disk or helper do, there is an error that says what is safe, or it goes on."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import children
import pytest

from rigorous_recorder import ExperimentCollection

BEGIN = """
import errno, json, os, resource, shutil, signal, sys, threading, time, warnings
from rigorous_recorder import ExperimentCollection
from rigorous_recorder import session as sessions
from rigorous_recorder import experiment as experiments
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import files, full
from rigorous_recorder.store import journal as journals
path, mode = sys.argv[1], sys.argv[2]
collection = ExperimentCollection(path, journal=mode, sync_interval=0.02)

def memory():
    "Bytes of this process that are nobody else's."
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

released = threading.Event()

def hang(*_):
    "As a disk, or a file server, that does not answer."
    hanging.set()
    released.wait()

hanging = threading.Event()
"""


def run(code, *arguments, returncode=0, timeout=60):
    """Run a program to its end; a hang or a signal is a failure. Gives what it printed and what it complained of."""
    ended = children.run(BEGIN + code, *arguments, timeout=timeout)
    assert ended.returncode == returncode, f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout, ended.stderr


# ---- a disk that hangs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True], ids=["never closed", "a worker's"])
def test_a_disk_that_hangs_at_exit_does_not_hold_the_program(collection, journal, closed):
    _, complaint = run(
        """
sessions.EXIT_WAIT = experiments.EXIT_WAIT = 1.0
experiment = collection.new_experiment()
for i in range(1000):
    experiment.add_record(i=i)
if sys.argv[3] == "True":  # it is not ours to end, but its file is to be closed
    experiments.open_experiments.clear()
files.sync_data = hang
experiment.add_record(i=1000)
hanging.wait(20)
print(time.time())
""",
        collection.path,
        journal,
        closed,
    )
    assert "the disk d" in complaint
    assert "Traceback" not in complaint
    (experiment,) = collection.experiments
    assert experiment.state == "killed"
    assert [record["i"] for record in experiment.records] == list(range(1001))


def test_a_disk_that_hangs_does_not_hold_the_run(collection, journal):
    """The thread that syncs waits for the disk; what is recorded is in the system's memory meanwhile."""
    out, _ = run(
        """
experiment = collection.new_experiment()
real, files.sync_data = files.sync_data, lambda descriptor: (hang(), real(descriptor))
experiment.add_record(i=0)
assert hanging.wait(20)
before = memory()
for i in range(1, 150_000):
    experiment.add_record(i=i)
print(memory() - before)
released.set()
experiment.close()
""",
        collection.path,
        journal,
    )
    assert int(out) < 30 << 20
    (experiment,) = collection.experiments
    assert experiment.state == "finished"
    assert experiment.n_records == 150_000


# ---- a folder that goes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_the_folder_goes_while_it_is_recorded(collection, journal, how):
    """The unit that is open takes records until it is full; the next call says what happened, and so do sync and close."""
    out, complaint = run(
        """
warnings.simplefilter("ignore")
experiment = collection.new_experiment()
for i in range(1000):
    experiment.add_record(i=i)
experiment.sync()
shutil.rmtree(path) if sys.argv[3] == "removed" else os.rename(path, path + " elsewhere")
told = []
before = memory()
i = 1000
while len(told) < 1000 and i < 200_000:
    try:
        experiment.add_record(i=i)
    except StoreError as error:
        told.append(str(error))
    i += 1
assert told and all("moved or removed" in one for one in told[:3]), told[:3]
assert memory() - before < 30 << 20, memory() - before
for work in (experiment.sync, experiment.close):
    try:
        work()
        print(work.__name__, "said nothing")
    except StoreError as error:
        told.append(str(error))
other = ExperimentCollection(path + " anew", journal=mode)
with other.new_experiment() as experiment:
    experiment.add_record(i=-1)
print(json.dumps([record["i"] for record in other.records]))
""",
        collection.path,
        journal,
        how,
    )
    said, found = out.splitlines()[:-1], json.loads(out.splitlines()[-1])
    assert found == [-1]
    assert said == [] or how == "moved"
    assert "Traceback" not in complaint
    if how == "moved":
        kept = [record["i"] for record in ExperimentCollection(collection.path + " elsewhere").records]
        assert kept[:1000] == list(range(1000))


@pytest.mark.privileged
def test_a_permission_that_is_lost(tmp_path, journal):
    """As `nobody`: the next unit cannot be made, until the permission is back; nothing that was added is lost."""
    folder = tmp_path / "open to all"
    folder.mkdir()
    for one in (folder, *folder.parents):
        if not one.stat().st_mode & 0o001:
            one.chmod(one.stat().st_mode | 0o055)
    folder.chmod(0o777)
    out, _ = run(
        """
warnings.simplefilter("ignore")
sys.executable = ""
with ExperimentCollection(path + "-first").new_experiment() as experiment:  # imports what is imported late
    experiment.add_record(i=0)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
experiment = collection.new_experiment()
added, told = [], []
def add(count):
    for i in range(count):
        try:
            experiment.add_record(i=len(added))
            added.append(len(added))
        except StoreError as error:
            told.append(str(error))
            if len(told) == 100:
                return
add(1000)
os.chmod(experiment._session.folder, 0o500)
add(100_000)
assert told and all("may this user write there" in one for one in told), told[:2]
os.chmod(experiment._session.folder, 0o700)
count = len(told)
add(1000)
assert len(told) == count, told[-1]
experiment.close()
assert [record["i"] for record in collection.records] == added
print(len(added), len(told))
""",
        folder / "study",
        journal,
    )
    added, told = map(int, out.split())
    assert added >= 2000
    assert told > 0


# ---- the sealing helper -----------------------------------------------------------------------------------------------

HELPERS = {
    "there is none": None,
    "it cannot be started": "/nonexistent/python",
    "it ends at once": "#!/bin/sh\nexit 1\n",
    "it is killed at once": "#!/bin/sh\nkill -9 $$\n",
    "it talks nonsense": '#!/bin/sh\nwhile read line; do echo what is "$line"; done\n',
    "it takes no requests": "#!/bin/sh\nexec sleep 25\n",
    "it never ends its answers": "#!/bin/sh\nexec timeout 25 yes yes yes\n",
}


@pytest.mark.parametrize("helper", HELPERS)
def test_a_sealing_helper_that_fails_costs_nothing_but_the_sealing(tmp_path, helper):
    program = HELPERS[helper] or ""
    if program.startswith("#!"):
        path = tmp_path / "helper"
        path.write_text(program)
        path.chmod(0o755)
        program = str(path)
    out, complaint = run(
        """
sessions.EXIT_WAIT = experiments.EXIT_WAIT = 1.0
sys.executable = sys.argv[3]
journals.SIZES = (256 << 10,)
full.START_AFTER = 0.0
before = memory()
with collection.new_experiment() as experiment:
    for i in range(100_000):
        experiment.add_record(i=i)
        if i % 10_000 == 0:
            time.sleep(0.03)
print(memory() - before)
""",
        tmp_path / "study",
        "mmap",
        program,
    )
    assert complaint == ""
    assert int(out) < 30 << 20
    collection = ExperimentCollection(tmp_path / "study")
    assert [record["i"] for record in collection.records] == list(range(100_000))
    assert collection.experiments[0].state == "finished"
    assert list(Path(collection.path).rglob("*.parquet")) == []


def test_a_helper_that_is_killed_again_and_again(tmp_path):
    """By the OOM killer, say: what it was about to seal stays a log, or is a pack; each record is there once."""
    program = (
        BEGIN
        + """
journals.SIZES = (256 << 10,)
full.START_AFTER = 0.0
with collection.new_experiment() as experiment:
    for i in range(200_000):
        experiment.add_record(i=i)
        if i % 5_000 == 0:
            time.sleep(0.03)
"""
    )
    process = subprocess.Popen(
        [children.PYTHON, "-c", program, tmp_path / "study", "mmap"], env=children.ENVIRONMENT, stderr=subprocess.PIPE
    )
    killed, deadline = 0, time.monotonic() + 100
    while process.poll() is None:
        assert time.monotonic() < deadline, "the recorder hangs"
        for pid in children.offspring(process.pid):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.15)
    assert (process.returncode, process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert killed > 1
    assert [record["i"] for record in ExperimentCollection(tmp_path / "study").records] == list(range(200_000))


# ---- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["ENOSPC", "EIO"])
def test_a_disk_that_refuses_everything_fills_no_memory(collection, journal, number):
    """A run that ignores the errors: each call says the same, and nothing piles up for later."""
    out, _ = run(
        """
warnings.simplefilter("ignore")
experiment = collection.new_experiment()
def refuse(*_, **__):
    number = getattr(errno, sys.argv[3])
    raise OSError(number, os.strerror(number))
for name in ("create", "preallocate", "extend", "write_at", "sync_data", "sync_file", "sync_folder", "touch"):
    setattr(files, name, refuse)
keeper = experiment.sub_record_keeper(a=1) if mode == "mmap" else experiment
refused = stored = 0
def add(count):
    global refused, stored
    for i in range(count):
        try:
            keeper.add_record(i=i, pad="x" * 100)
            stored += 1
        except StoreError as error:
            refused += 1
            assert "safe" in str(error) and "Hint" in str(error), error
while refused < 1000:
    add(1000)
before = memory()
add(1000)
print(refused, stored, memory() - before)
try:
    experiment.close()
except StoreError as error:
    print(error)
""",
        collection.path,
        journal,
        number,
    )
    refused, stored, grown = map(int, out.splitlines()[0].split())
    assert refused >= 2000
    assert grown < 2 << 20
    assert "could not be closed well" in out or "failed to confirm" in out
    assert len(collection) == stored
