"""Executors of all kinds behind one interface, and the tasks that the tests have them do.

The tasks stand here, and not in the test's file, because workers that do not fork import them by their name.
"""

import importlib.util
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import children

from rigorous_recorder.errors import ClosedError

HERE = Path(__file__).resolve().parent
WORKERS = 2
HANG = 60
"""Seconds after which what does not come counts as a hang."""


class Executor:
    """Has workers, which do tasks until `close()`.

    Attributes:
        processes: Whether they are processes.
        again: Whether a task is done again whose worker was killed.
        waits: Whether it waits forever for the result of such a task.
        raises: Whether a task may raise.
    """

    processes = True
    again = False
    waits = False
    raises = True

    def map(self, function, tasks):
        """Call a function with the arguments of each task, many at once; the results in order, or what one raised."""
        raise NotImplementedError

    def close(self):
        """End the workers, which have nothing to do."""

    def end(self):
        """End the workers, also where one has spoiled the others."""
        self.close()


class Futures(Executor):
    def __init__(self, method):
        self.pool = ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(method))

    def map(self, function, tasks):
        futures = [self.pool.submit(function, *task) for task in tasks]
        done = wait(futures, timeout=HANG)
        assert not done.not_done, "it hangs"
        return [future.result() for future in futures]

    def close(self):
        self.pool.shutdown()


class Threads(Futures):
    processes = False

    def __init__(self):
        self.pool = ThreadPoolExecutor(WORKERS)


class Pool(Executor):
    waits = True

    def __init__(self, method):
        self.pool = multiprocessing.get_context(method).Pool(WORKERS)

    def map(self, function, tasks):
        return self.pool.starmap_async(function, tasks, chunksize=1).get(HANG)

    def close(self):
        self.pool.close()
        self.pool.join()

    def end(self):
        self.pool.terminate()
        self.pool.join()


class Joblib(Executor):
    def __init__(self, backend):
        import joblib

        self.processes = backend != "threading"
        # which is multiprocessing.Pool, and now and then hangs in ending it when a task has raised (joblib 1.6)
        self.waits = backend == "multiprocessing"
        self.raises = not self.waits
        self.delayed = joblib.delayed
        self.parallel = joblib.Parallel(WORKERS, backend=backend, batch_size=1)
        self.parallel.__enter__()

    def map(self, function, tasks):
        return self.parallel(self.delayed(function)(*task) for task in tasks)

    def close(self):
        self.parallel.__exit__(None, None, None)


class Ray(Executor):
    again = True

    def __init__(self):
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        self.folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the names of sockets may not be long
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own
            import ray

            self.ray = ray
            ray.init(
                num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000,
                _temp_dir=self.folder, logging_level="ERROR",
            )  # fmt: skip

    def map(self, function, tasks):
        remote = self.ray.remote(function)
        return self.ray.get([remote.remote(*task) for task in tasks], timeout=HANG)

    def close(self):
        self.ray.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


class Dask(Executor):
    again = True

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own
            import dask
            import distributed

            self.folder = tempfile.mkdtemp(prefix="dask-", dir="/tmp")
            dask.config.set({"temporary-directory": self.folder})
            self.cluster = distributed.LocalCluster(
                n_workers=WORKERS, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs="CRITICAL"
            )
            self.client = distributed.Client(self.cluster)

    def map(self, function, tasks):
        futures = [self.client.submit(function, *task, pure=False) for task in tasks]
        return [future.result(timeout=HANG) for future in futures]

    def close(self):
        self.client.close()
        self.cluster.close()
        shutil.rmtree(self.folder, ignore_errors=True)


EXECUTORS = {
    "futures fork": lambda: Futures("fork"),
    "futures spawn": lambda: Futures("spawn"),
    "futures forkserver": lambda: Futures("forkserver"),
    "threads": Threads,
    "pool fork": lambda: Pool("fork"),
    "pool spawn": lambda: Pool("spawn"),
    "pool forkserver": lambda: Pool("forkserver"),
    "joblib loky": lambda: Joblib("loky"),
    "joblib threading": lambda: Joblib("threading"),
    "joblib multiprocessing": lambda: Joblib("multiprocessing"),
    "ray": Ray,
    "dask": Dask,
}
MODULES = {"ray": "ray", "dask": "distributed"}
"""What has to be installed for an executor; `make test-workers` installs it."""


def missing(name):
    """The name of the library that an executor needs and that is not there, else None."""
    module = MODULES.get(name)
    return module if module is not None and importlib.util.find_spec(module) is None else None


@contextmanager
def importable():
    """Workers that do not fork import the tasks, and the package, by these paths."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


# ---- tasks -------------------------------------------------------------------------------------------------------------


def record(keeper, task, count):
    """Record below a keeper of the task's own, and one record below the keeper that was handed over; gives the process."""
    own = keeper.sub_record_keeper(task=task, process=os.getpid())
    for n in range(count):
        own.add_record(n=n)
    own.add_records(n=range(count, 2 * count))
    keeper.add_record(done=task)
    return os.getpid()


def record_in_thread(keeper, task):
    """Record below the keeper that was handed over, with the thread's name."""
    keeper.add_record(task=task, process=os.getpid(), thread=threading.get_ident())
    time.sleep(0.001)  # so that the others come in between
    return os.getpid()


def edit(keeper, task):
    """Record, then set data of the own level, and of the one that was handed over, which all tasks do."""
    own = keeper.sub_record_keeper(task=task, state="running")
    own.add_record(n=task)
    own["state"] = "over"
    del own["task"]
    keeper.update({"last": task, f"by {task}": True})
    keeper.sync()


def commit(keeper, task):
    """Commit what is pending, and what is added."""
    keeper.pending_record["pending"] = task
    keeper.commit_record(task=task)


def fail(keeper, count):
    """Record, then raise."""
    for n in range(count):
        keeper.add_record(n=n)
    raise ZeroDivisionError(f"after {count} records")


def refuse(keeper, n):
    """Add what cannot be stored."""
    keeper.add_record(n=n, lock=threading.Lock())


def why_not(keeper):
    """What adding a record raises, as text."""
    try:
        keeper.add_record(n=-1)
    except ClosedError as error:
        return str(error)
    return "it was added"


def record_late(handle, n):
    """Unpickle a handle only now, and record."""
    pickle.loads(handle).add_record(n=n)


def begun_of(gate):
    """The file that is there when a task waits for the gate: before, its keeper may not even be pickled."""
    return gate.with_suffix(".begun")


def record_behind(gate, keeper, n):
    """Say that it was begun, and record when a file is there."""
    begun_of(gate).touch()
    deadline = time.monotonic() + HANG
    while not gate.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    keeper.add_record(n=n)


def read(keeper):
    """Read what is below a keeper, without recording."""
    return sorted(record["n"] for record in keeper.records), keeper["lr"]


GRANDCHILD = """
import pickle, sys
keeper = pickle.load(sys.stdin.buffer)
keeper.sub_record_keeper(by="grandchild").add_record(n=3)
keeper["edited"] = "by the grandchild"
"""


def hand_on(keeper, task):
    """Hand a keeper of the task's own to threads, and to a process of its own."""
    own = keeper.sub_record_keeper(task=task)
    own.add_record(by="worker", n=0)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: own.sub_record_keeper(by="thread").add_record(n=n), (1, 2)))
    subprocess.run([sys.executable, "-c", GRANDCHILD], input=pickle.dumps(own), check=True, timeout=HANG)


def record_until_killed(keeper, path):
    """Count how often `add_record` returned until this process is killed; when done again, add one record."""
    counters = children.Counters(path)
    if counters[children.READY]:
        keeper.sub_record_keeper(again=True).add_record(n=-1)
        return
    counters[children.READY] = os.getpid()

    def kill():
        while counters[children.CALLS] < 500:
            time.sleep(0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    own = keeper.sub_record_keeper(again=False)
    for n in range(100_000_000):
        own.add_record(n=n)
        counters[children.CALLS] = n + 1
