"""What a process still records into is not deleted, and the error names the process; what nobody has open any more is."""

import os
import pickle
import socket
import sys
import time
from pathlib import Path

import children
import pytest
from hosts import Program, until
from test_delete import numbers, study

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import ClosedError, DeletedError
from rigorous_recorder.session import sessions
from rigorous_recorder.store import background, deletion
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.holders import is_cut

WORKER = """
import json, os, pickle, sys
keeper = pickle.load(open(sys.argv[1], "rb"))
print(os.getpid(), flush=True)
for line in sys.stdin:
    word, _, value = line.strip().partition(" ")
    said = "ok"
    try:
        if word == "add":
            keeper.add_record(n=int(value))
        else:
            getattr(keeper._session.journal, word)()
    except Exception as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps(said), flush=True)
"""
BEGINNER = """
import json, os, sys
from rigorous_recorder import ExperimentCollection
import children
if sys.argv[3] == "small":
    children.shrink(1024)
    sys.executable = ""  # nobody seals
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
experiment = collection.new_experiment()
experiment.add_record(n=5)
print(os.getpid(), flush=True)
for line in sys.stdin:
    if line == "close\\n":
        experiment.close()
    else:
        for n in range(int(line)):
            experiment.add_record(n=n, text="x" * 100)
        experiment.sync()
    print(1, flush=True)
"""


def started(code, *arguments):
    """A program that says its process id first; the two."""
    program = Program([children.PYTHON, "-c", code, *map(str, arguments)])
    return program, program.hear()


def beginner(path, journal, size="large"):
    """A program of another process that has begun an experiment."""
    before = sys.path
    assert any(Path(folder, "children.py").exists() for folder in before)
    code = f"import sys; sys.path.append({str(Path(children.__file__).parent)!r})\n{BEGINNER}"
    return started(code, path, journal, size)


def ask(program, line):
    program.tell(line)
    return program.hear()


@pytest.fixture
def held(tmp_path, journal):
    """A study whose third experiment is closed, and the program that has a keeper of it, with its process id."""
    collection = study(tmp_path / "study")
    experiment = ExperimentCollection(collection.path, journal=journal).resume_experiment(3)
    (tmp_path / "keeper").write_bytes(pickle.dumps(experiment.sub_record_keeper(worker=1)))
    program, pid = started(WORKER, tmp_path / "keeper")
    experiment.close()
    yield collection, program, pid
    program.kill()


def third(collection):
    (one,) = (each for each in collection.experiments if each.number == 3)
    return one


def refused(one, pid, host=None):
    """See to it that an experiment is not deleted, that the error says who holds it, and that all of it stays."""
    before = sorted(map(str, Path(one._session.path).rglob("*")))
    records = list(one.records)
    with pytest.raises(
        ClosedError, match=f"cannot be deleted: process {pid} of the host '{host or socket.gethostname()}'"
    ):
        one.delete()
    assert sorted(map(str, Path(one._session.path).rglob("*"))) == before, "nothing is left of the try"
    assert list(one.records) == records


def test_a_worker_that_records_into_it(held):
    """The experiment is over, and a worker has a keeper of it: while its log is open it is refused, whatever else is."""
    collection, worker, pid = held
    assert ask(worker, "add 30") == "ok"
    refused(third(collection), pid)
    assert ask(worker, "add 31") == "ok"
    assert [each["n"] for each in collection[3]] == [3, 3, 30, 31]
    assert ask(worker, "rest") == "ok"
    third(collection).delete()
    assert numbers(collection) == [1, 1, 2, 2, 4, 4]
    for _ in range(2):
        kind, sentence = ask(worker, "add 32")
        assert kind == "DeletedError"
        assert "The attempt of experiment 3 was deleted. Hint: until the trash is emptied" in sentence
    (trash,) = Path(collection.path, "trash").iterdir()
    assert str(trash) in sentence
    assert numbers(collection) == [1, 1, 2, 2, 4, 4]
    assert not [file for file in trash.iterdir() if file.name.startswith(".tmp")]


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_a_worker_that_is_gone(held, how):
    collection, worker, pid = held
    assert ask(worker, "add 30") == "ok"
    refused(third(collection), pid)
    worker.kill() if how == "is killed" else worker.end()
    third(collection).delete()
    assert numbers(collection) == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize("moment", ["before the word", "after the word", "after the look"])
def test_a_worker_that_opens_its_log_meanwhile(held, monkeypatch, moment):
    """Either it is not deleted and what is added is there, or the worker is told; the one that can give way does."""
    collection, worker, pid = held
    folder, told = Path(third(collection)._session.folder), []

    def telling(real):
        def call(*arguments):
            result = real(*arguments) if moment != "after the look" else None
            if not told:
                before = len(list(folder.glob("*.log")))
                worker.tell("add 30")
                if moment == "before the word":
                    told.append(worker.hear())
                else:
                    told.append(until(lambda: len(list(folder.glob("*.log"))) > before, "the log"))
            return result if moment != "after the look" else real(*arguments)

        return call

    name = {"before the word": "make_folders", "after the word": "sync_file", "after the look": "rename"}[moment]
    monkeypatch.setattr(deletion.files, name, telling(getattr(deletion.files, name)))
    if moment == "after the look":
        third(collection).delete()
        assert worker.hear()[0] == "DeletedError"
        assert numbers(collection) == [1, 1, 2, 2, 4, 4]
        return
    with pytest.raises(ClosedError, match=f"process {pid} of the host"):
        third(collection).delete()
    if moment == "after the word":
        assert worker.hear() == "ok", "it waited until the word was taken back"
    assert [each["n"] for each in collection[3]] == [3, 3, 30]
    assert not any(Path(collection.path, "trash").iterdir())


def test_one_that_a_user_closed_while_it_is_written(tmp_path, journal):
    """As somebody does who takes it for dead: it is not, and goes on."""
    collection = study(tmp_path / "study")
    program, pid = beginner(collection.path, journal)
    one = collection.experiments[-1]
    with pytest.raises(
        ClosedError, match=f"Experiment 4 is running: process {pid} of the host '{socket.gethostname()}'"
    ):
        one.delete()
    one.close(error="it hangs")
    refused(collection.experiments[-1], pid)
    assert ask(program, "3") == 1
    assert ask(program, "close") == 1
    collection.experiments[-1].delete()
    assert numbers(collection) == [1, 1, 2, 2, 3, 3, 4, 4]
    program.end()


def test_full_logs_that_nobody_sealed_hold_nothing(tmp_path, journal):
    """They keep their zeros; that their writer has let go is seen by its last one."""
    collection = ExperimentCollection(tmp_path / "study")
    program, pid = beginner(collection.path, journal, "small")
    assert ask(program, "300") == 1
    assert ask(program, "close") == 1
    logs = [log.read_bytes() for log in Path(collection.path).rglob("*.log")]
    cut = [is_cut(data, u.unpack_header(data[: u.PAGE])) for data in logs]
    assert len(logs) > 3
    assert cut.count(True) == 1
    assert Path(f"/proc/{pid}").exists()
    collection.experiments[0].delete()
    assert numbers(collection) == []
    program.end()


def test_the_edits_of_this_process_hold_nothing(tmp_path):
    """It lets go of them itself; but those by another path of the folder it knows nothing of, and are a process's."""
    collection = study(tmp_path / "study")
    collection.keeper(experiment_number=3).update(edited=True)
    one = third(collection)
    assert one._session._editor is not None
    one.delete()
    assert numbers(collection) == [1, 1, 2, 2, 4, 4]
    (tmp_path / "link").symlink_to(collection.path)
    linked = ExperimentCollection(tmp_path / "link")
    linked.keeper(experiment_number=2).update(edited=True)
    two = collection.experiments[1]
    refused(two, os.getpid())
    sessions[linked.experiments[1]._session.folder].close_editor()
    two.delete()
    assert numbers(collection) == [1, 1, 4, 4]


def test_edits_of_what_this_process_began_are_let_go_of(tmp_path, journal, monkeypatch):
    """As by a worker, a while after the last: else nobody else could delete it until this process ends."""
    monkeypatch.setattr(background, "QUIET", 0.05)
    collection = ExperimentCollection(tmp_path / "study", journal=journal, sync_interval=0.02)
    with collection.new_experiment() as experiment:
        experiment.add_record(n=1)
    experiment["edited"] = True
    editor = experiment._session._editor
    deleting = f"""
from rigorous_recorder import ExperimentCollection
ExperimentCollection({collection.path!r}).experiments[0].delete()
"""
    until(lambda: editor.map is None, "letting go of the edits")
    done = children.run(deleting)
    assert done.returncode == 0, done.stderr
    assert collection.experiment_numbers == ()


@pytest.mark.parametrize("lately", [True, False], ids=["lately", "long ago"])
def test_a_log_whose_writer_cannot_be_told(held, lately):
    """Its header is damaged. While it changes somebody may be at it."""
    collection, worker, _ = held
    assert ask(worker, "add 30") == "ok"
    assert ask(worker, "sync") == "ok"
    worker.kill()
    (log,) = (
        log for log in Path(third(collection)._session.folder).glob("*.log") if b"\0" * 4096 in log.read_bytes()[-8192:]
    )
    data = bytearray(log.read_bytes())
    data[40] ^= 1
    log.write_bytes(data)
    if not lately:
        os.utime(log, (time.time() - 400,) * 2)
    with pytest.warns(match="cannot be read"):
        one = third(collection)
    if lately:
        with pytest.raises(ClosedError, match="a process whose log has a damaged header"):
            one.delete()
        assert log.exists()
    else:
        one.delete()
        assert numbers(collection) == [1, 1, 2, 2, 4, 4]


def test_a_deleted_error_is_one_of_the_system(tmp_path):
    assert issubclass(DeletedError, FileNotFoundError)
    collection = study(tmp_path / "study")
    one, keeper = collection.experiments[0], collection.keeper(experiment_number=1)
    one.delete()
    with pytest.raises(DeletedError, match="The attempt of experiment 1 was deleted") as caught:
        keeper.update(late=True)
    assert caught.value.filename == one._session.folder
