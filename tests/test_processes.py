"""Many processes at once: each writes its own files, the union is exact, and readers see it grow."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import time

import children
import joblib
import plan
import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import background

pytestmark = pytest.mark.timeout(100)  # a hang is a failure
WRITERS = 16

WRITER = """
import sys, time
from rigorous_recorder import ExperimentCollection
import children
path, mode, who, count, start = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
children.shrink(16384)
if who >= 3:
    sys.executable = ""  # three sealing helpers are enough for two cores
collection = ExperimentCollection(path, journal=mode, sync_interval=0.05)
time.sleep(max(0.0, start - time.time()))
with collection.new_experiment(who=who) as experiment:
    part = experiment.sub_record_keeper(name="k0")
    for call in range(count):
        part.add_record(children.make(who, call, 0, "k0", children.PADS[call % 3]))
        if call % 100 == 0:
            time.sleep(0.005)
"""

READER = """
import sys, time
from pathlib import Path
from rigorous_recorder import ExperimentCollection
import children
path, stop = sys.argv[1], Path(sys.argv[2])
collection = ExperimentCollection(path)
before, rounds = {}, 0
last = False
while not last:
    last = stop.exists()  # once more after all are finished
    now = {}
    for record in collection.records if Path(path, "format").exists() else ():
        assert children.right(record), record
        assert record["thread"] == record["who"]
        assert record["call"] == now.get(record["thread"], 0), "no prefix"
        now[record["thread"]] = record["call"] + 1
    for who, count in before.items():
        assert now[who] >= count, f"{who}: {count} records were there, now {now[who]}"
    before = now
    rounds += 1
print(rounds, sum(before.values()))
"""

PATHS = {**children.ENVIRONMENT, "PYTHONPATH": f"{children.ROOT}:{children.ROOT}/tests"}


def start(code, *arguments):
    """Start Python code in a process of its own."""
    command = [children.PYTHON, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=PATHS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Wait for a process, which must not fail, and give what it printed."""
    out, error = process.communicate(timeout=plan.rounds(120, 3600))
    assert process.returncode == 0, error
    return out


@pytest.mark.timeout(plan.rounds(100, 3600))
@pytest.mark.parametrize(
    "shard", plan.shards("test_many_processes_and_two_live_readers", ci=1, long=1, within=2), ids=repr
)
def test_many_processes_and_two_live_readers(tmp_path, journal, shard, reached):
    writers = plan.rounds(WRITERS, 64)
    count = shard.rounds // writers
    collection = ExperimentCollection(tmp_path / "study", journal=journal)
    stop = tmp_path / "stop"
    readers = [start(READER, collection.path, stop) for _ in range(2)]
    at = time.time() + 2
    try:
        for process in [start(WRITER, collection.path, journal, who, count, at) for who in range(writers)]:
            finish(process)
    finally:
        stop.touch()
        read = [finish(process).split() for process in readers]
    assert all(int(total) == writers * count for _, total in read)
    assert all(int(rounds) > 0 for rounds, _ in read)
    assert collection.experiment_numbers == tuple(range(1, writers + 1))
    experiments = collection.experiments
    assert {one.info["who"] for one in experiments} == set(range(writers))
    for one in experiments:
        assert (one.state, one.n_records) == ("finished", count)
        assert [record["call"] for record in one.records] == list(range(count))
    reached(writers * count)


# ---- one experiment, its keeper handed over ------------------------------------------------------------------------


def work(keeper, who, count):
    """What a worker does with a keeper that was handed to it."""
    own = keeper.sub_record_keeper(name=f"k{who}")
    for call in range(count):
        own.add_record(children.make(who, call, 0, f"k{who}", ""))
    keeper.add_record(summary=who)
    keeper.sync()
    return who


def check_union(collection, workers, count):
    """See to it that each worker's records are there once, in order, below the model that was handed over."""
    (experiment,) = collection.experiments
    assert experiment.state == "finished"
    records = list(experiment.records)
    assert all(record["model"] == "m" and record["lr"] == 0.1 for record in records if record["late"] is None)
    found = {who: [] for who in range(workers)}
    for record in records:
        if record["thread"] is not None:
            assert children.right(record)
            found[record["thread"]].append(record["call"])
    assert found == {who: list(range(count)) for who in range(workers)}
    assert sorted(record["summary"] for record in records if record["summary"] is not None) == list(range(workers))
    assert [record["late"] for record in records if record["late"] is not None] == [True]
    assert len(records) == workers * count + workers + 1


def in_pool(method):
    def run(keeper, workers, count):
        with multiprocessing.get_context(method).Pool(4) as pool:
            pool.starmap(work, [(keeper, who, count) for who in range(workers)])

    return run


def in_processes(method):
    def run(keeper, workers, count):
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=work, args=(keeper, who, count)) for who in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0

    return run


def in_futures(method):
    def run(keeper, workers, count):
        with concurrent.futures.ProcessPoolExecutor(4, mp_context=multiprocessing.get_context(method)) as pool:
            assert list(pool.map(work, [keeper] * workers, range(workers), [count] * workers)) == list(range(workers))

    return run


def in_joblib(backend):
    def run(keeper, workers, count):
        joblib.Parallel(n_jobs=4, backend=backend)(joblib.delayed(work)(keeper, who, count) for who in range(workers))

    return run


WAYS = {
    "pool fork": in_pool("fork"),
    "pool spawn": in_pool("spawn"),
    "pool forkserver": in_pool("forkserver"),
    "processes fork": in_processes("fork"),
    "processes spawn": in_processes("spawn"),
    "futures fork": in_futures("fork"),
    "futures spawn": in_futures("spawn"),
    "joblib loky": in_joblib("loky"),
    "joblib threading": in_joblib("threading"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_keeper_is_handed_to_workers(collection, monkeypatch, way):
    monkeypatch.setenv("PYTHONPATH", PATHS["PYTHONPATH"])  # spawned workers import this file
    workers = 4 if "spawn" in way or "server" in way else WRITERS
    with collection.new_experiment(lr=0.1) as experiment:
        WAYS[way](experiment.sub_record_keeper(model="m"), workers, 500)
        experiment.add_record(late=True)
    check_union(collection, workers, 500)


def test_numbers_stay_unique_and_contiguous_under_contention(tmp_path, journal):
    code = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
for _ in range(10):
    with collection.new_experiment() as experiment:
        experiment.add_record(n=experiment.number)
"""
    collection = ExperimentCollection(tmp_path / "study", journal=journal)
    for process in [start(code, collection.path, journal) for _ in range(WRITERS)]:
        finish(process)
    assert collection.experiment_numbers == tuple(range(1, 10 * WRITERS + 1))
    assert all(record["n"] == record["experiment_number"] for record in collection.records)
    assert len(collection) == 10 * WRITERS


WORKER = """
import resource, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from rigorous_recorder import ExperimentCollection

def work(keeper, number):
    keeper.add_record(number=number)
    return len(__import__("os").listdir("/proc/self/fd"))

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
    collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
    with ProcessPoolExecutor(1, mp_context=get_context(sys.argv[3])) as pool:
        files = []
        for number in range(200):
            with collection.new_experiment() as experiment:
                files.append(pool.submit(work, experiment, number).result())
        first = collection.resume_experiment(1)
        pool.submit(work, first, -1).result()
        first.close()
    print(max(files))
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_sees_more_experiments_than_a_process_may_have_files(tmp_path, journal, start):
    program = tmp_path / "program.py"
    program.write_text(WORKER)
    ended = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "study"), journal, start],
        capture_output=True, text=True, timeout=200, env={**os.environ, "PYTHONPATH": str(children.ROOT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 150  # a mapped journal has two descriptors
    collection = ExperimentCollection(tmp_path / "study")
    assert sorted(record["number"] for record in collection.records) == [-1, *range(200)]


def test_a_journal_that_rests_goes_on(collection):
    """Its file is closed while nothing is added; what comes next is in another unit, and defines its levels anew."""
    with collection.new_experiment(lr=1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        keeper.add_record(x=0)
        for number in range(1, 4):
            experiment._journal.rest()
            experiment._journal.rest()
            assert experiment._journal.map is None
            keeper.add_record(x=number)
            experiment.sub_record_keeper(n=number).add_records(x=[10, 20])
        experiment._journal.rest()
    records = list(collection.records)
    assert [record["x"] for record in records] == [0, 1, 10, 20, 2, 10, 20, 3, 10, 20]
    assert all(record["lr"] == 1 and (record["model"] == "m" or record["n"]) for record in records)
    assert collection.experiments[0].state == "finished"


def test_a_worker_whose_experiment_is_over_closes_its_file(tmp_path, journal, monkeypatch):
    monkeypatch.setattr(background, "QUIET", 0.2)
    collection = ExperimentCollection(tmp_path / "study", journal=journal, sync_interval=0.05)
    with collection.new_experiment() as experiment:
        experiment.add_record(x=0)
        monkeypatch.setattr(type(experiment._session), "may_rest", True)  # as in a worker
        deadline = time.monotonic() + 20
        while experiment._journal.map is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        experiment.add_record(x=1)
    assert [record["x"] for record in collection.records] == [0, 1]
