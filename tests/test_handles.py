"""What a pickled keeper becomes where it is unpickled: in its own process, and in workers that had other tasks before."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import ClosedError, DeletedError
from rigorous_recorder.session import sessions

pytestmark = pytest.mark.timeout(100)  # a hang is a failure
HELD = {}
"""What a worker still holds from earlier tasks."""


class Worker:
    """A process that does one task after the other; what a task raises is raised here."""

    def __init__(self, method):
        context = multiprocessing.get_context(method)
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=self._work, args=(there,))
        self.process.start()
        there.close()

    @staticmethod
    def _work(pipe):
        for task, arguments, keywords in iter(pipe.recv, None):
            try:
                pipe.send((task(*arguments, **keywords), None))
            except Exception as error:  # noqa: BLE001
                pipe.send((None, error))

    def __call__(self, task, *arguments, **keywords):
        self.pipe.send((task, arguments, keywords))
        assert self.pipe.poll(60), "the worker hangs"
        result, error = self.pipe.recv()
        if error is not None:
            raise error
        return result

    def stop(self):
        self.pipe.send(None)
        self.process.join(30)
        self.pipe.close()
        assert self.process.exitcode == 0


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start(request, monkeypatch):
    """Starts a worker that keeps what tasks leave in HELD."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    started = []

    def begin():
        started.append(Worker(request.param))
        return started[-1]

    yield begin
    for worker in started:
        worker.stop()


def record(name, keeper, **values):
    """Record, and hold on to the keeper under a name."""
    HELD[name] = keeper
    keeper.add_record(values)


def record_again(name, **values):
    """Record by a keeper that is still held."""
    HELD[name].add_record(values)


def read(path):
    """Read a collection, and hold on to what comes."""
    HELD["read"] = ExperimentCollection(path).experiments
    return [(one.state, one.n_records) for one in HELD["read"]]


def numbers(collection):
    return sorted(record["n"] for record in collection.records)


# ---- in a worker that had other tasks ----------------------------------------------------------------------------------


def test_a_worker_that_has_read_an_attempt_that_runs_records_into_it(collection, start):
    with collection.new_experiment(lr=1) as experiment:
        worker = start()
        assert worker(read, collection.path) == [("running", 0)]
        worker(record, "handed", experiment.sub_record_keeper(m=1), n=1)
        assert worker(read, collection.path) == [("running", 1)]
        worker(record_again, "handed", n=2)
    assert numbers(collection) == [1, 2]
    assert all((record["lr"], record["m"]) == (1, 1) for record in collection.records)


def test_a_worker_from_before_a_resumption_records_into_the_resumed_attempt(collection, start):
    """A forked one has the session of before, which is closed."""
    experiment = collection.new_experiment()
    experiment.close()
    worker = start()
    with pytest.raises(ClosedError, match=r"experiment 1 is closed.*resume_experiment\(1\)"):
        worker(record, "closed", experiment, n=-1)
    with collection.resume_experiment() as resumed:
        worker(record, "resumed", resumed, n=1)
        with pytest.raises(ClosedError, match="experiment 1 is closed"):
            worker(record_again, "closed", n=-1)
        worker(record_again, "resumed", n=2)
    assert numbers(collection) == [1, 2]


def test_a_keeper_of_an_attempt_that_has_ended_is_refused_also_where_a_worker_has_it_open(collection, start):
    worker = start()
    with collection.new_experiment() as experiment:
        keeper = experiment.sub_record_keeper(m=1)
        worker(record, "open", keeper, n=1)
        late = pickle.dumps(keeper)
    for _ in range(2):
        with pytest.raises(ClosedError, match=r"experiment 1 is closed.*resume_experiment\(1\)"):
            worker(record, "closed", keeper, n=-1)
    worker(record_again, "open", n=2)
    worker(record, "late", Late(late), n=3)
    with pytest.raises(ClosedError):
        worker(record_again, "closed", n=-1)
    assert numbers(collection) == [1, 2, 3]
    assert [one.state for one in collection.experiments] == ["finished"]
    assert collection.experiments[0].had_error is False


class Late:
    """Bytes of a handle that become the keeper only in the worker."""

    def __init__(self, handle):
        self.handle = handle

    def __reduce__(self):
        return pickle.loads, (self.handle,)


def test_a_keeper_that_was_opened_for_reading_stays_one_and_disturbs_nothing(collection, start):
    worker, reader = start(), start()
    with collection.new_experiment() as experiment:
        worker(record, "handed", experiment, n=1)
        handle = reader(opened_for_reading, collection.path)
        with pytest.raises(ClosedError, match="opened for reading"):
            worker(record, "read", Late(handle), n=-1)
        assert worker(count, Late(handle)) == 1
        worker(edit, Late(handle), "by the reader")
        worker(record_again, "handed", n=2)
        experiment.add_record(n=3)
    assert numbers(collection) == [1, 2, 3]
    assert {record["note"] for record in collection.records} == {"by the reader"}


def opened_for_reading(path):
    return pickle.dumps(ExperimentCollection(path).experiments[0])


def edit(keeper, note):
    keeper["note"] = note


def count(keeper):
    return len(keeper)


def test_a_worker_goes_from_experiment_to_experiment(collection, start):
    worker = start()
    for number in range(1, 4):
        with collection.new_experiment() as experiment:
            worker(record, number, experiment, n=number)
    assert [[record["n"] for record in collection[number]] for number in (1, 2, 3)] == [[1], [2], [3]]


def test_a_deleted_attempt_takes_no_records_and_says_so(collection, start):
    worker = start()
    experiment = collection.new_experiment()
    handle = Late(pickle.dumps(experiment))
    experiment.close()
    experiment.delete()
    with pytest.raises(DeletedError, match="experiment 1 was deleted"):
        worker(record, "deleted", handle, n=1)
    assert numbers(collection) == []


def test_a_handle_is_small(collection):
    with collection.new_experiment(lr=0.1) as experiment:
        assert len(pickle.dumps(experiment.sub_record_keeper(model="m").sub_record_keeper(training=True))) < 1000


ORPHANS = """
import multiprocessing, os, signal, sys, time
from rigorous_recorder import ExperimentCollection

def work(keeper, parent, n):
    keeper.add_record(n=n, parent="lives")
    while os.getppid() == parent:
        time.sleep(0.001)
    for late in range(100):
        keeper.add_record(n=late, worker=n, parent="is dead")
    with open(f"{sys.argv[1]} {n}", "w"):
        pass

if __name__ == "__main__":
    keeper = ExperimentCollection(sys.argv[1]).new_experiment(lr=0.1).sub_record_keeper(m=1)
    context = multiprocessing.get_context(sys.argv[2])
    for n in range(2):
        context.Process(target=work, args=(keeper, os.getpid(), n)).start()
    while len(keeper) < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_outlive_the_process_that_began_and_was_killed(tmp_path, method):
    program, study = tmp_path / "program.py", tmp_path / "study"
    program.write_text(ORPHANS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, str(program), str(study), method], env=environment, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while not all(Path(f"{study} {n}").exists() for n in range(2)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    collection = ExperimentCollection(study)
    assert [one.state for one in collection.experiments] == ["killed"]
    records = list(collection.records)
    assert all((record["lr"], record["m"], record["had_error"]) == (0.1, 1, True) for record in records)
    assert sorted(record["n"] for record in records if record["parent"] == "lives") == [0, 1]
    for n in range(2):
        assert [record["n"] for record in records if record["worker"] == n] == list(range(100))


# ---- where it began ----------------------------------------------------------------------------------------------------


def test_in_its_own_process_a_handle_becomes_the_keeper_itself(collection):
    with collection.new_experiment() as experiment:
        keeper = experiment.sub_record_keeper(m=1)
        handle = pickle.dumps([experiment, keeper])
        assert pickle.loads(handle) == [experiment, keeper]
    for again in (handle, pickle.dumps([experiment, keeper])):
        assert pickle.loads(again) == [experiment, keeper]
        with pytest.raises(ClosedError, match="experiment 1 is closed"):
            pickle.loads(again)[1].add_record(n=-1)
    with collection.resume_experiment() as resumed:
        pickle.loads(handle)[1].add_record(n=1)
        assert pickle.loads(handle)[0] is resumed
    assert [(record["n"], record["m"]) for record in collection.records] == [(1, 1)]


def test_what_another_process_has_resumed_can_be_handed_back(collection, start):
    first = collection.new_experiment()
    first.close()
    worker = start()
    handle = worker(resume, collection.path)
    there = pickle.loads(handle)
    there.add_record(n=1)
    with pytest.raises(ClosedError, match="experiment 1 is closed"):
        first.add_record(n=-1)
    assert worker(close) == ("finished", 1)
    assert numbers(collection) == [1]
    assert collection.experiments[0].state == "finished"


def resume(path):
    HELD["resumed"] = ExperimentCollection(path).resume_experiment()
    return pickle.dumps(HELD["resumed"])


def close():
    HELD["resumed"].close()
    return HELD["resumed"].state, HELD["resumed"].n_records


# ---- threads -----------------------------------------------------------------------------------------------------------


@contextmanager
def switching():
    """Threads switch as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def unpickle_at_once(handle, threads):
    """Let so many threads unpickle a handle at the same moment; gives all keepers, which have recorded their number."""
    keepers, barrier = [None] * threads, threading.Barrier(threads)

    def work(thread):
        barrier.wait()
        keepers[thread] = pickle.loads(handle)
        keepers[thread].add_record(n=thread)

    started = [threading.Thread(target=work, args=[thread]) for thread in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return keepers


def test_threads_that_unpickle_at_once_share_one_writer(collection):
    with collection.new_experiment() as experiment:
        handle = pickle.dumps(experiment.sub_record_keeper(m=1).sub_record_keeper(k=2))
        folder = Path(experiment._session.folder)
        sessions.pop(str(folder))  # as if this was another process
        before = set(folder.iterdir())
        with switching():
            keepers = unpickle_at_once(handle, 8)
        assert len(set(map(id, keepers))) == 1
        assert len(set(folder.iterdir()) - before) == 1
        assert sessions[str(folder)] is keepers[0]._session is not experiment._session
        keepers[0]._session.close("the worker ends")
    assert numbers(collection) == list(range(8))


def test_a_level_is_never_pickled_half_edited(collection):
    """Executors pickle in a thread of their own, so at any line of an edit."""
    taken = []

    def trace(frame, event, argument):
        if frame.f_code.co_name != "learn":
            return None

        def line(*_):
            sys.settrace(None)
            (*_, (_, data, stamps)) = keeper.__reduce__()[1][-1]
            taken.append((dict(data), dict(stamps)))
            sys.settrace(trace)
            return line

        return line

    with collection.new_experiment() as experiment:
        keeper = experiment.sub_record_keeper(a=0, b=0)
        for value in range(1, 4):
            before = sys.gettrace()
            sys.settrace(trace)
            keeper.update(a=value, b=value)
            sys.settrace(before)
    assert len(taken) > 9
    for data, stamps in taken:
        assert all(data[key] >= stamp.version for key, stamp in stamps.items()), (data, stamps)
