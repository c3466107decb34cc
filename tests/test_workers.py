"""Recording from the workers of every kind of executor: a keeper is handed over, and all of it is one experiment.

Ray and Dask take part where they are installed: `make test-workers` installs them and runs this file. Spark's executors are
in `test_spark.py`.
"""

import os
import pickle
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path

import children
import executors
import pytest

from rigorous_recorder import ExperimentCollection, RecordKeeper
from rigorous_recorder.errors import ClosedError

pytestmark = [
    pytest.mark.timeout(200),  # a hang is a failure; Ray needs some seconds to start
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # those of Ray and Dask
]
TASKS = 6


@pytest.fixture(scope="module", params=[name for name in executors.EXECUTORS if not executors.missing(name)])
def kind(request):
    """The name of a kind of executor."""
    return request.param


@pytest.fixture(scope="module")
def executor(kind):
    """One for all tests of this file: its workers come from study to study, as those of a cluster do."""
    with executors.importable():
        one = executors.EXECUTORS[kind]()
        yield one
        one.close()


@pytest.fixture
def study(tmp_path):
    return ExperimentCollection(tmp_path / "study")


def own(records, *names):
    """Some values of the records, sorted."""
    return sorted(tuple(record[name] for name in names) for record in records)


def writers(experiment):
    """The writers that have files of an experiment."""
    return {path.name.partition(".")[0] for path in Path(experiment._session.folder).iterdir()}


@pytest.mark.parametrize("name", executors.MODULES)
def test_this_kind_of_executor_takes_part(name):
    """So that one which is not installed is heard of once."""
    missing = executors.missing(name)
    if missing:
        pytest.skip(f"{missing} is not installed: `make test-workers` installs it, and runs this file with it")


def test_all_of_it_is_one_experiment_also_what_the_parent_records_meanwhile(executor, study):
    processes = []
    with study.new_experiment(lr=0.1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        tasks = [(keeper, task, 20) for task in range(TASKS)]
        working = threading.Thread(target=lambda: processes.extend(executor.map(executors.record, tasks)))
        working.start()
        meanwhile = 0
        while working.is_alive():
            experiment.add_record(meanwhile=meanwhile)
            meanwhile += 1
            time.sleep(0.001)
        working.join()
        keeper.add_record(after=True)
    assert len(processes) == TASKS
    assert executor.processes == (os.getpid() not in processes)
    assert len(writers(experiment)) == len({os.getpid(), *processes}), "each process has files of its own"

    (only,) = study.experiments
    assert (only.state, only.number) == ("finished", 1)
    records = list(only.records)
    assert len(records) == TASKS * 41 + meanwhile + 1
    assert all(record["lr"] == 0.1 and record["experiment_number"] == 1 for record in records)
    assert [record["meanwhile"] for record in records if record["meanwhile"] is not None] == list(range(meanwhile))
    assert all(record["model"] == "m" for record in records if record["meanwhile"] is None)
    for task, process in enumerate(processes):
        mine = [record for record in records if record["task"] == task]
        assert [record["n"] for record in mine] == list(range(40)), "in the order in which they were added"
        assert {record["process"] for record in mine} == {process}
    assert own((record for record in records if record["done"] is not None), "done") == [
        (task,) for task in range(TASKS)
    ]

    frame = study.to_polars()
    assert frame.rr.under(task=3, model="m").height == 40
    assert frame.rr.under(model="m").height == TASKS * 41 + 1
    lineages = {f"experiment_number=1,lr=0.1/model=m/task={task},process={one}" for task, one in enumerate(processes)}
    assert set(frame.rr.levels()["rr_lineage"]) >= lineages
    assert {finding.kind for finding in study.verify().findings} <= {"unverified"}, "perhaps, of workers that live"


def test_a_keeper_is_handed_to_many_tasks_of_which_each_worker_does_several_also_at_once(executor, study):
    """Of Dask, several at once in threads of one process."""
    with study.new_experiment(lr=0.1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        processes = executor.map(executors.record_in_thread, [(keeper, task) for task in range(100)])
    records = list(study.records)
    assert own(records, "task") == [(task,) for task in range(100)]
    assert {(record["lr"], record["model"]) for record in records} == {(0.1, "m")}
    assert len(writers(experiment)) == len({os.getpid(), *processes}), "one writer a process, however many tasks"


def test_data_of_levels_that_workers_set(executor, study):
    with study.new_experiment(lr=0.1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        executor.map(executors.edit, [(keeper, task) for task in range(TASKS)])
        keeper.add_record(n=-1)
    records = list(study.records)
    assert own(records, "n") == [(n,) for n in range(-1, TASKS)]
    assert {record["state"] for record in records if record["n"] >= 0} == {"over"}
    assert not any("task" in record for record in records)
    assert all(record[f"by {task}"] is True for task in range(TASKS) for record in records), "all of them see all edits"
    (last,) = {record["last"] for record in records}
    assert last in range(TASKS)
    assert keeper.get("last") == (None if executor.processes else last), "it shows what its own process did"
    assert study.keeper(model="m")["last"] == last == keeper["last"], "and after this what all did"


def test_values_that_are_pending_stay_with_the_process_and_thread_that_set_them(executor, study):
    with study.new_experiment() as experiment:
        experiment.pending_record["pending"] = "parent's"
        executor.map(executors.commit, [(experiment, task) for task in range(TASKS)])
        experiment.commit_record(task=-1)
    expected = [(-1, "parent's"), *((task, task) for task in range(TASKS))]
    assert sorted((record["task"], record["pending"]) for record in study.records) == expected


def test_a_worker_reads_what_all_have_recorded(executor, study):
    with study.new_experiment(lr=0.1) as experiment:
        executor.map(executors.record_in_thread, [(experiment, task) for task in range(TASKS)])
        branch = experiment.sub_record_keeper(n=-1)
        branch.add_records(n=range(3))
        assert executor.map(executors.read, [(branch,)] * TASKS) == [([0, 1, 2], 0.1)] * TASKS
    assert executor.map(executors.read, [(branch,)]) == [([0, 1, 2], 0.1)], "and after the end"


def test_a_worker_hands_its_keeper_on(executor, study):
    with study.new_experiment(lr=0.1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        executor.map(executors.hand_on, [(keeper, task) for task in range(2)])
    records = list(study.records)
    by = ["worker", "thread", "thread", "grandchild"]
    assert own(records, "task", "n", "by") == [(task, n, who) for task in range(2) for n, who in enumerate(by)]
    assert all(
        (record["lr"], record["model"], record["edited"]) == (0.1, "m", "by the grandchild") for record in records
    )


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(kind, executor):
    """The executor, or where an error may spoil it, one of its own for a test."""
    if executor.again or not executor.processes:
        yield executor
        return
    with executors.importable():
        one = executors.EXECUTORS[kind]()
        yield one
        one.end()


def test_the_exception_of_a_worker_fails_the_experiment_and_costs_no_record(fresh, study):
    if not fresh.raises:
        pytest.skip("joblib's multiprocessing can hang when a task has raised, also without a recorder")

    def body():
        with study.new_experiment() as experiment:
            experiment.add_record(n=-1)
            fresh.map(executors.fail, [(experiment, 5)])

    with pytest.raises(ZeroDivisionError, match="after 5 records"):
        body()
    assert own(study.records, "n") == [(n,) for n in range(-1, 5)]
    (only,) = study.experiments
    assert only.state == "failed"
    assert only.error is not None
    assert "ZeroDivisionError" in only.error


def test_the_exception_of_a_worker_that_is_caught_leaves_the_experiment_as_it_is(fresh, study):
    if not fresh.raises:
        pytest.skip("joblib's multiprocessing can hang when a task has raised, also without a recorder")
    with study.new_experiment() as experiment:
        with pytest.raises(TypeError, match="'lock'") as caught:
            fresh.map(executors.refuse, [(experiment, 7)])
        error = getattr(caught.value, "cause", caught.value)  # Ray has its own type around it
        assert error.record["n"] == 7
        assert "lock" in str(error.record["lock"]), "from a process its repr"
        assert study.experiments[0].state == "running"
        experiment.add_record(n=0)
    assert own(study.records, "n") == [(0,)]
    assert study.experiments[0].state == "finished"


KILLED = """
import os, sys, threading, time
import children, executors
from rigorous_recorder import ExperimentCollection

if __name__ == "__main__":
    kind, path, counted = sys.argv[1:]
    executor = executors.EXECUTORS[kind]()
    counters = children.Counters(counted)
    with ExperimentCollection(path).new_experiment(lr=0.1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        for task in range(4):
            executor.map(executors.record, [(keeper, task, 20)])
        broken = []

        def work():
            try:
                executor.map(executors.record_until_killed, [(keeper, counted)])
            except BaseException as error:
                broken.append(error)

        waits = threading.Thread(target=work, daemon=True)
        waits.start()
        while not counters[children.READY]:
            time.sleep(0.001)
        worker = os.pidfd_open(counters[children.READY])
        assert children.ended(worker, 60)
        waits.join(1 if executor.waits else 60)
        assert waits.is_alive() == executor.waits
        assert bool(broken) == (not executor.waits and not executor.again), broken
        experiment.add_record(after=True)
    sys.stdout.flush()
    if executor.again:
        executor.end()
    os._exit(0)  # some of them wait for the dead
"""


def test_a_worker_that_is_killed_loses_nothing_for_which_add_record_returned(kind, executor, study, tmp_path):
    if not executor.processes:
        pytest.skip("a thread cannot be killed without its process")
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    paths = os.pathsep.join([str(executors.HERE.parent), str(executors.HERE)])
    command = [children.PYTHON, str(program), kind, study.path, str(tmp_path / "counted")]
    with tempfile.TemporaryDirectory(prefix="rr-", dir="/tmp", ignore_cleanup_errors=True) as left:  # by what is killed
        environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": left}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert ended.returncode == 0, ended.stderr
    returned = children.Counters(tmp_path / "counted")[children.CALLS]
    assert returned >= 500
    records = list(study.records)
    assert all((record["lr"], record["model"] or record["after"]) in {(0.1, "m"), (0.1, True)} for record in records)
    kept = [record["n"] for record in records if record["again"] is False]
    assert kept == list(range(len(kept))), "in order, without a gap"
    assert returned <= len(kept) <= returned + 1
    assert sum(record["again"] is True for record in records) == executor.again
    assert own((record for record in records if record["task"] is not None), "task", "n") == [
        (task, n) for task in range(4) for n in range(40)
    ]
    assert sum(record["after"] is True for record in records) == 1
    assert study.experiments[0].state == "finished"


def test_a_keeper_in_memory_is_refused_with_a_hint(fresh):
    if not (fresh.processes and fresh.raises):
        pytest.skip("threads share it; joblib's multiprocessing can hang when something has raised")
    keeper = RecordKeeper(a=1)
    try:
        fresh.map(executors.commit, [(keeper, 1)])
    except Exception:  # noqa: BLE001  (each has its own kind of error, with ours in it or before it)
        assert "A keeper in memory cannot be handed to another process. Hint: use one of" in traceback.format_exc()
    else:
        pytest.fail("it was handed over")


# ---- one study after the other -----------------------------------------------------------------------------------------


def test_workers_go_on_with_another_experiment_and_with_one_that_is_resumed(executor, study):
    for number in (1, 2):
        with study.new_experiment(number=number) as experiment:
            executor.map(executors.record, [(experiment, task, 5) for task in range(TASKS)])
        (why,) = executor.map(executors.why_not, [(experiment,)])
        assert f"experiment {number} is closed. Hint: collection.resume_experiment({number})" in why
    assert [one.n_records for one in study.experiments] == [TASKS * 11] * 2
    with study.resume_experiment(1) as resumed:
        executor.map(executors.record, [(resumed, task, 5) for task in range(TASKS)])
        (why,) = executor.map(executors.why_not, [(experiment,)])
        assert "experiment 2 is closed" in why
    assert [(one.state, one.n_records) for one in study.experiments] == [
        ("finished", TASKS * 22),
        ("finished", TASKS * 11),
    ]
    assert all(record["number"] == record["experiment_number"] for record in study.records)


def test_a_keeper_that_was_handed_over_in_time_records_on_after_the_end(executor, study):
    """A worker is not told of the end. In the process that has ended it, it is over."""
    with study.new_experiment(lr=0.1) as experiment:
        handle = pickle.dumps(experiment.sub_record_keeper(model="m"))
    if executor.processes:
        executor.map(executors.record_late, [(handle, n) for n in range(TASKS)])
    else:
        with pytest.raises(ClosedError, match="experiment 1 is closed"):
            executor.map(executors.record_late, [(handle, 0)])
    expected = [(n, 0.1, "m") for n in range(TASKS)] if executor.processes else []
    assert own(study.records, "n", "lr", "model") == expected
    assert [(one.state, one.had_error) for one in study.experiments] == [("finished", False)]


def test_tasks_that_still_wait_when_the_experiment_ends_are_refused(study, tmp_path):
    """`ProcessPoolExecutor` pickles what is submitted when a worker is nearly free: those tasks get a closed keeper."""
    gate = tmp_path / "gate"
    with executors.importable(), executors.ProcessPoolExecutor(1) as pool:
        with study.new_experiment() as experiment:
            tasks = [pool.submit(executors.record_behind, gate, experiment, n) for n in range(10)]
            deadline = time.monotonic() + executors.HANG
            while not executors.begun_of(gate).exists():
                assert time.monotonic() < deadline
                time.sleep(0.001)
        gate.touch()
        refused = [n for n, task in enumerate(tasks) if isinstance(task.exception(60), ClosedError)]
    assert refused == list(range(refused[0], 10))
    assert own(study.records, "n") == [(n,) for n in range(refused[0])]
    assert refused[0] > 0
