"""The self-test: it passes here, sees a file system that does not keep its word, and leaves nothing behind however it ends."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import children
import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.selftest import NOT_SAFE, OK, SLOWER, selftest, trials
from rigorous_recorder.selftest.place import OWNER, PREFIX, Place, WorkerError
from rigorous_recorder.store import files, machine, modes

NAMES = ["room", "names", "folders", "numbers", "journal", "kill", "cut", "readers", "clock"]
COMMAND = [sys.executable, "-m", "rigorous_recorder", "selftest"]


def command(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=children.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def test_it_passes_here(tmp_path):
    rows = list(selftest(str(tmp_path), quick=True))
    assert [row.name for row in rows] == NAMES
    assert [row for row in rows if row.verdict not in (OK, SLOWER)] == []
    assert all(row.sentence for row in rows)
    assert os.listdir(tmp_path) == []


def test_the_command(tmp_path):
    done = command(tmp_path, "--quick")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    first, *rows, last = done.stdout.splitlines()
    assert first == str(tmp_path)
    assert [re.match(r"(ok|slower|NOT safe) +(\w+) ", row)[2] for row in rows] == NAMES
    assert last.startswith("Recording here is safe")
    assert os.listdir(tmp_path) == []


def test_the_whole_command_beside_what_is_there(tmp_path):
    """All rounds, in a folder of the user's with a collection in it, given as a relative path: nothing of it is touched."""
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.add_records(n=range(100))
    (tmp_path / "letter.txt").write_text("dear")
    before = {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    done = command(".", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    first, *rows, last = done.stdout.splitlines()
    assert first == str(tmp_path)
    found = [re.match(r"(ok|slower) +(\w+) +(.*)", row) for row in rows]
    assert [each[2] for each in found] == NAMES
    sentences = {each[2]: each[3] for each in found}
    rounds = {name: list(map(int, re.findall(r"\d+", sentences[name].replace(",", "")))) for name in NAMES}
    assert rounds["folders"] == [4, 300]
    assert rounds["numbers"] == [4, 80, 1, 80]
    killed, acknowledged, there = rounds["kill"]
    assert killed == 20
    assert 0 < acknowledged <= there <= acknowledged + killed
    assert rounds["cut"] == [100]
    processes, readings, written = rounds["readers"]
    assert processes == 2
    assert readings > 0
    assert written > 0
    assert last in ("Recording here is safe.", "Recording here is safe, if slower than on a local disk.")
    after = {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    assert after == before
    assert collection.verify().ok


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes nobody, who may not write")
def test_a_folder_in_which_one_may_not_write(tmp_path):
    code = """
import os, sys
import msgspec, numpy, polars, rich.console, rich.text  # as nobody it may not read where these are
from rigorous_recorder.selftest import selftest_command
os.setuid(65534)
sys.exit(selftest_command(sys.argv[1]))
"""
    for above in [tmp_path, *tmp_path.parents][:-2]:
        above.chmod(above.stat().st_mode | 0o755)
    done = children.run(code, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"NOT safe +folder +Permission denied", done.stdout), done.stdout
    assert done.stdout.endswith("1 of 1 NOT safe: do not record here.\n")
    assert os.listdir(tmp_path) == []


def test_a_command_without_a_folder():
    assert command().returncode == 2


def test_a_file_system_that_may_not_be_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAPPABLE", frozenset())
    assert modes.best_mode(str(tmp_path)) == modes.WRITTEN
    with Place(str(tmp_path), quick=True) as place:
        for trial in (trials.journals, trials.kills):
            row = trial(place)
            assert row.verdict == (SLOWER if row.name == "journal" else OK), row
            assert "write()" in row.sentence or row.name == "kill"


def broken_link(source, target):
    if os.path.exists(target):
        os.unlink(target)
    os.link(source, target)


# each: what a file system does wrong, in this process, and the trial that must see it
LIES = {
    "a link replaces": ("names", "link", broken_link),
    "a file is made anew": ("names", "create", lambda path: os.open(path, os.O_RDWR | os.O_CREAT, 0o666)),
    "a rename does nothing": ("names", "rename", lambda source, target: None),
    "what is written is cut": ("names", "write_at", lambda descriptor, data, at: os.pwrite(descriptor, data[:-1], at)),
    "the clock is behind": ("clock", "modified", lambda path: os.lstat(path).st_mtime - 1000),
    "the clock is ahead": ("clock", "modified", lambda path: os.lstat(path).st_mtime + 1000),
    "no room": ("room", "free_space", lambda path: 1000),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_file_system_that_does_not_keep_its_word(tmp_path, monkeypatch, lie):
    name, function, broken = LIES[lie]
    with Place(str(tmp_path), quick=True) as place:
        monkeypatch.setattr(files, function, broken)
        try:
            row = dict(trials.TRIALS)[name](place)
        except OSError as error:
            row = trials.refused(name, error)
        monkeypatch.undo()
    assert (row.name, row.verdict) == (name, NOT_SAFE), row


@pytest.mark.parametrize(
    ("lost", "problem"),
    [(1, "were acknowledged, and"), (0, "")],
)
def test_records_that_were_acknowledged_and_are_gone(tmp_path, lost, problem):
    """A writer that acknowledges before it stores, as a file system makes one of it that loses what was written."""
    code = """
import sys
from rigorous_recorder import ExperimentCollection
keeper = ExperimentCollection(sys.argv[1]).new_experiment().sub_record_keeper(level="below")
for i in range(100):
    keeper.add_record(i=i, square=float(i * i))
"""
    assert children.run(code, tmp_path / "study").returncode == 0
    said, there = trials._after_a_kill(str(tmp_path / "study"), 100 + lost)
    assert (problem in said, bool(said), there) == (True, bool(lost), 100)


def test_folders_that_are_made_twice(tmp_path, monkeypatch):
    with Place(str(tmp_path), quick=True) as place:
        monkeypatch.setattr(place, "together", lambda *arguments: [[*range(30)], [3], [], []])
        assert trials.folders(place).verdict == NOT_SAFE
        monkeypatch.setattr(place, "together", lambda *arguments: [[1, 2], [2, 3]])
        assert trials.numbers(place).verdict == NOT_SAFE


def test_what_readers_see_that_is_wrong_is_said(tmp_path):
    """They end at once then, before they are told to."""
    with Place(str(tmp_path), quick=True) as place:
        with ExperimentCollection(f"{place.path}/readers").new_experiment() as experiment:
            experiment.add_record(i=7, square=0.0)
        assert trials.readers(place) == ("readers", NOT_SAFE, "a record was not as it was written")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 1), (signal.SIGTERM, 5), (signal.SIGHUP, 6)])
def test_it_leaves_nothing_when_it_is_interrupted(tmp_path, number, after):
    """After some rows, in the middle of the next trial, whose processes are gone as well."""
    with subprocess.Popen([*COMMAND, tmp_path], env=children.ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(1 + after):
            process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode in (130, 0), said
    assert "interrupted" in said or process.returncode == 0
    assert os.listdir(tmp_path) == []
    deadline = time.monotonic() + 20  # one that was just being started sees that nobody will say go, and ends
    while subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).stdout:
        assert time.monotonic() < deadline, "a process goes on"
        time.sleep(0.1)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_or_is_none(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        done = command(path)
        assert (done.returncode, done.stderr) == (1, "")
        assert "NOT safe  folder" in done.stdout
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("options", "sentence"), [("ro", "Read-only file system"), ("size=1m", "MB are free"), ("size=16k", "")]
)
def test_a_read_only_and_a_full_file_system(tmp_path, options, sentence):
    line = 'mount -t tmpfs -o "$0" none "$1" && "${@:2}"; code=$?; ls -A "$1"; exit $code'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", line, options, tmp_path, *COMMAND, tmp_path, "--quick"],
        env=children.ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT safe" in done.stdout
    assert sentence in done.stdout
    assert "Traceback" not in done.stderr
    assert done.stdout.strip().endswith("do not record here.")  # and nothing that `ls` lists


def test_a_process_that_fails_says_why(tmp_path):
    with Place(str(tmp_path), quick=True) as place:
        with pytest.raises(WorkerError, match="NotADirectoryError"):
            place.together("race", 1, f"{__file__}/x", 3)
        row = trials.refused("folders", WorkerError("a process did not end within 30 s"))
    assert row == ("folders", NOT_SAFE, "a process did not end within 30 s.")
    assert os.listdir(tmp_path) == []


def test_what_a_helper_still_writes_is_removed_as_well(tmp_path, monkeypatch):
    """A process that was killed has a helper, which finishes the pack that it has in hand and then ends."""
    real, late = shutil.rmtree, []

    def rmtree(path):
        if not late:
            late.append(path)
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        real(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with Place(str(tmp_path), quick=True) as place:
        path = place.path
    assert late == [path]
    assert os.listdir(tmp_path) == []


def test_what_a_killed_one_left_is_removed_by_the_next_and_what_a_living_one_has_stays(tmp_path):
    killed = subprocess.Popen([*COMMAND, str(tmp_path)], env=children.ENVIRONMENT, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not [*tmp_path.glob(f"{PREFIX}*/{OWNER}")] and time.monotonic() < until:
        time.sleep(0.01)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    with Place(str(tmp_path), quick=True):
        assert left.exists(), "its process lives"
    killed.kill()
    killed.wait()
    me = machine.here()
    others = [
        "[1, 2",
        "[" * 4000,
        [*me[:3], "../x", 5],
        [*me[:3], 2**40],
        ["another boot", *me[1:]],
        [me[0], "another host", *me[2:]],
    ]
    for place, other in enumerate(others):
        (tmp_path / f"{PREFIX}{place}").mkdir()
        (tmp_path / f"{PREFIX}{place}" / OWNER).write_text(other if isinstance(other, str) else json.dumps(other))
    strange = {entry.name for entry in tmp_path.iterdir()} - {left.name}
    with Place(str(tmp_path), quick=True) as place:
        assert {entry.name for entry in tmp_path.iterdir()} == {os.path.basename(place.path), *strange}
    assert {entry.name for entry in tmp_path.iterdir()} == strange
