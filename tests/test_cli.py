"""The command line: what goes where, and with which exit code it ends, for who pipes it on or runs it from a script."""

import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

import children
import pytest
import studies

import rigorous_recorder
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store.report import HARMED, CompactionReport

COMMAND = [sys.executable, "-m", "rigorous_recorder"]


def command(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=children.ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def on_a_terminal(*arguments):
    """A command whose errors go to a terminal, and its output into a pipe; its exit code, output and errors."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={**children.ENVIRONMENT, "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 1 << 16):
                said += part
        except OSError:  # EIO: nobody holds the other end any more
            pass
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out.decode(), said.decode()


MADE = """
import sys
import tempfile
from rigorous_recorder import ExperimentCollection
for number in range(5):
    with ExperimentCollection(sys.argv[1]).new_experiment(number=number) as experiment:
        experiment.add_records(n=range(50))
"""


@pytest.fixture
def collection(tmp_path):
    """A collection of five experiments of one unit each, by a process that is gone."""
    assert children.run(MADE, tmp_path / "study").returncode == 0
    return ExperimentCollection(tmp_path / "study")


def test_the_version():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"rigorous_recorder {rigorous_recorder.__version__}\n",
        "",
    )


def test_a_command_is_asked_for():
    assert command().returncode == 2
    assert command("nothing").returncode == 2


@pytest.mark.parametrize("name", ["verify", "compact"])
@pytest.mark.parametrize("there", ["nothing", "an empty folder", "dots", "a file", "something else"])
def test_where_there_is_no_collection(tmp_path, name, there):
    path = tmp_path / "here"
    if there == "a file":
        path.write_text("text")
    elif there != "nothing":
        path.mkdir()
    if there in ("dots", "something else"):
        (path / (".hidden" if there == "dots" else "letter.txt")).write_text("text")
    before = sorted(tmp_path.rglob("*"))
    done = command(name, path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    if name == "verify":
        assert done.stdout.startswith(f"{path}: no collection here\n")
        assert done.stderr == ""
        assert not ExperimentCollection(path).verify().ok if there in ("nothing", "an empty folder", "dots") else True
    else:
        assert done.stdout == ""
        assert str(path) in done.stderr


def test_one_without_its_format_file_is_one(collection):
    Path(collection.path, "format").unlink()
    assert command("verify", collection.path).returncode == 0
    assert command("compact", collection.path).returncode == 0


def test_compact_of_what_is_whole(collection):
    done = command("compact", collection.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Compacted 5 units into 1 pack")
    done = command("compact", collection.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "There was nothing to compact.\n", "")


def test_compact_of_what_is_running(collection):
    """What is left since it runs is no harm."""
    with collection.new_experiment():
        done = command("compact", collection.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Left 1 as they are: the experiment is running" in done.stdout


@pytest.mark.parametrize("what", ["a log", "a pack"])
def test_compact_of_what_is_damaged(collection, what):
    """It does the rest, says what it left, and so often."""
    if what == "a pack":
        studies.at_once(collection.path)
    file = next(Path(collection.path).rglob("*.log" if what == "a log" else "*.parquet"))
    data = bytearray(file.read_bytes())
    data[4200 if what == "a log" else -20] ^= 1
    file.write_bytes(data)
    for turn in range(2):
        done = command("compact", collection.path)
        assert done.returncode == 1
        assert f"Left 1 as they are: damaged ({file}" in done.stdout.replace("The pack ", "")
        assert done.stdout.startswith("Compacted 4 units" if turn == 0 and what == "a log" else "There was nothing")
        assert done.stderr == (
            f"1 left since damaged, or not to be read. Hint: rigorous-recorder verify {collection.path} tells what.\n"
        )
    assert command("verify", collection.path).returncode == 1


def test_what_counts_as_harm():
    report = CompactionReport()
    for why in (*HARMED, "the experiment is running, or stale and not closed"):
        report.leave(why, "a file", 2)
    assert report.harmed == 2 * len(HARMED)


@pytest.mark.parametrize("name", ["compact", "verify"])
def test_the_progress_goes_to_the_terminal_and_not_into_the_pipe(collection, name):
    code, out, said = on_a_terminal(name, collection.path)
    assert code == 0
    assert out.startswith({"compact": "Compacted 5 units", "verify": f"{collection.path}: sound\n"}[name])
    assert "\x1b" not in out, "no bar, no colours"
    assert {"compact": "compacting", "verify": "reading every byte"}[name] in said


@pytest.mark.parametrize("name", ["compact", "verify"])
def test_a_full_output_is_an_error_of_one_line(collection, name):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, name, collection.path], env=children.ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "The output cannot be written: No space left on device. Hint: where does it go?\n"
    assert collection.verify().ok


@pytest.mark.parametrize("name", ["compact", "verify"])
def test_the_hint_is_for_who_reads(tmp_path, collection, name):
    """Nobody who looks for a collection is told to choose a new folder for one."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("text")
    Path(collection.path, "format").write_text("letter")
    for path in ("/etc", tmp_path / "other", tmp_path / "other" / "letter.txt", collection.path):
        done = command(name, path)
        assert done.returncode == 1
        assert f"{done.stdout}{done.stderr}".rstrip().endswith("Hint: is the path right?")
        assert "choose" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["compact", "verify"])
def test_a_format_file_that_cannot_be_read_is_named(tmp_path, name):
    if os.geteuid() != 0:
        path = studied(tmp_path / "study")
        (path / "format").chmod(0)
        done = command(name, path)
    else:  # root reads all, so somebody else asks
        with tempfile.TemporaryDirectory() as open_to_all:
            os.chmod(open_to_all, 0o755)
            path = studied(Path(open_to_all, "study"))
            path.chmod(0o755)
            (path / "format").chmod(0)
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, name, path],
                env=children.ENVIRONMENT, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            done.stderr = (path.parent / "said").read_text()
    assert done.returncode == 1
    assert "Permission denied. Hint: may this user read it?" in done.stderr
    assert str(path / "format") in done.stderr
    assert "Traceback" not in done.stderr


AS_NOBODY = """
import os, sys
from rigorous_recorder.cli import app
name, path = sys.argv[1:]
try:
    app([name, path + "/format/nothing"])  # all that is needed is imported: nobody may not read the interpreter's folder
except SystemExit as end:
    assert end.code == 1
sys.stderr.flush()
os.dup2(os.open(path + "/../said", os.O_WRONLY | os.O_CREAT), 2)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
app([name, path])
"""


def studied(path):
    with ExperimentCollection(path).new_experiment() as experiment:
        experiment.add_record(x=1)
    return Path(path)


def test_compact_names_all_that_is_damaged(collection):
    for log in Path(collection.path).rglob("*.log"):
        data = bytearray(log.read_bytes())
        data[4200] ^= 1
        log.write_bytes(data)
    done = command("compact", collection.path)
    assert done.returncode == 1
    assert done.stdout.count(".log") == 3
    assert "and 2 more)." in done.stdout
    report = collection.compact(progress=False)
    assert set(report.named["damaged"]) == set(map(str, Path(collection.path).rglob("*.log")))
