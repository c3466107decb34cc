"""Forks at any moment: the child is a writer of its own, and nothing that it does harms its parent."""

import textwrap
import time

import children
import pytest

pytestmark = pytest.mark.timeout(100)  # a hang is a failure


def run(code, *arguments):
    """Run code in a fresh process; a hang is an error after a minute. Gives what it printed."""
    ended = children.run(
        "import os, sys, threading, time\nfrom rigorous_recorder import ExperimentCollection\n" + textwrap.dedent(code),
        *arguments,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


FORK = """
from rigorous_recorder.store.attempt import read_course
from rigorous_recorder.store.snapshot import attempt_units
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
with collection.new_experiment(a=1) as experiment:
    child_keeper = experiment.sub_record_keeper(m=1)
    for i in range(10):
        child_keeper.add_record(who="parent", i=i)
    child_keeper.pending_record["left"] = "parent's"
    pid = os.fork()
    if pid == 0:
        assert experiment.open is None if hasattr(experiment, "open") else True
        assert collection.open_experiments == ()
        assert experiment._session.may_rest, "nobody tells a worker when the experiment is over"
        for i in range(500):
            child_keeper.add_record(who="child", i=i)
            experiment.add_record(who="child root", i=i)
        child_keeper["edited"] = "by the child"
        child_keeper.sub_record_keeper(deeper=1).add_records(who="grandchild", i=range(500))
        {before_leaving}
    else:
        for i in range(10, 500):
            child_keeper.add_record(who="parent", i=i) if i > 10 else child_keeper.commit_record(who="parent", i=i)
        assert os.waitpid(pid, 0)[1] == 0
        assert experiment.state == "running", experiment.state
        place = experiment._session.place
        assert read_course(place, attempt_units(place), time.monotonic()).state == "running", "the child has ended it"
        child_keeper.add_record(who="parent", i=500)
"""


@pytest.mark.parametrize(
    "leaving",
    ["os._exit(0)", "sys.exit(0)", "pass", "experiment.sync(); os._exit(0)", "experiment.close(); os._exit(0)"],
)
def test_a_fork_inside_the_block(collection, journal, leaving):
    run(FORK.replace("{before_leaving}", leaving), collection.path, journal)
    (experiment,) = collection.experiments
    assert experiment.state == "finished"
    records = list(experiment.records)
    for who, count in {"parent": 501, "child": 500, "child root": 500, "grandchild": 500}.items():
        assert [record["i"] for record in records if record["who"] == who] == list(range(count)), who
    left = [record for record in records if record["left"] is not None]
    assert [(record["who"], record["i"]) for record in left] == [("parent", 10)]
    assert all(record["edited"] == "by the child" for record in records if record["m"] == 1)
    assert all(record["a"] == 1 for record in records)


def test_forks_while_threads_add(collection, journal):
    run(
        """
        sys.setswitchinterval(1e-5)
        collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2], sync_interval=0.01)
        with collection.new_experiment() as experiment:
            stop = []
            counts = [0, 0, 0]
            def add(thread):
                keeper = experiment.sub_record_keeper(t=thread)
                while not stop:
                    keeper.add_record(who=f"thread {thread}", i=counts[thread])
                    counts[thread] += 1
            threads = [threading.Thread(target=add, args=[t]) for t in range(3)]
            for thread in threads:
                thread.start()
            for fork in range(15):
                pid = os.fork()
                if pid == 0:
                    for i in range(20):
                        experiment.add_record(who=f"fork {fork}", i=i)
                    experiment.sync()
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.append(1)
            for thread in threads:
                thread.join()
            experiment.add_record(counts=counts)
        """,
        collection.path,
        journal,
    )
    records = list(collection.records)
    (counts,) = [record["counts"] for record in records if record["counts"]]
    for thread, count in enumerate(counts):
        assert [record["i"] for record in records if record["who"] == f"thread {thread}"] == list(range(count))
    for fork in range(15):
        assert [record["i"] for record in records if record["who"] == f"fork {fork}"] == list(range(20))


@pytest.mark.parametrize("used", ["recorder", "polars"])
def test_a_fork_of_a_parent_that_has_used_polars_does_not_hang(collection, journal, used):
    """Polars itself hangs in such a child; the recorder must not touch it there, for recording or reading."""
    run(
        """
        import polars as pl
        import children
        children.shrink(65536)
        collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
        def record(who):
            with collection.new_experiment(who=who) as experiment:
                for i in range(20_000):
                    experiment.add_record(i=i, pad="x" * 50)
                experiment.add_records(i=range(20_000, 30_000))
        record("first")
        frame = pl.DataFrame({"a": range(100_000)}).group_by("a").len().sort("a")
        if sys.argv[3] == "recorder":
            assert len(list(collection.records)) == 30_000
        pid = os.fork()
        if pid == 0:
            record("child")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        record("parent")
        """.replace("import children", "sys.path.insert(0, sys.argv[4]); import children"),
        collection.path,
        journal,
        used,
        children.ROOT / "tests",
    )
    for number, who in enumerate(["first", "child", "parent"], 1):
        assert collection.experiments[number - 1].info == {"who": who}
        assert [record["i"] for record in collection[number]] == list(range(30_000))


def test_a_forked_child_that_is_killed_leaves_the_parents_records_whole(collection, journal):
    run(
        """
        import signal
        collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
        with collection.new_experiment() as experiment:
            for child in range(10):
                experiment.add_record(who="parent", i=child)
                pid = os.fork()
                if pid == 0:
                    i = 0
                    while True:
                        experiment.add_record(who=f"child {child}", i=i)
                        i += 1
                time.sleep(0.02)
                os.kill(pid, signal.SIGKILL)
                assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        """,
        collection.path,
        journal,
    )
    (experiment,) = collection.experiments
    assert experiment.state == "finished"
    records = list(experiment.records)
    assert [record["i"] for record in records if record["who"] == "parent"] == list(range(10))
    for child in range(10):
        numbers = [record["i"] for record in records if record["who"] == f"child {child}"]
        assert numbers == list(range(len(numbers)))


def test_a_child_outlives_the_parents_experiment(collection, journal):
    run(
        """
        collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
        hear, say = os.pipe()
        with collection.new_experiment() as experiment:
            experiment.add_record(who="parent")
            if os.fork() == 0:
                os.close(say)
                experiment.add_record(who="child")
                os.read(hear, 1)  # until the parent is gone
                experiment.add_record(who="child, late")
                experiment.sync()
                with open(sys.argv[1] + ".done", "w"):
                    os._exit(0)
        """,
        collection.path,
        journal,
    )
    deadline = time.monotonic() + 30
    while not children.Path(collection.path + ".done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sorted(record["who"] for record in collection.records) == ["child", "child, late", "parent"]
    assert collection.experiments[0].state == "finished"


def test_exec_takes_the_process_away(collection, journal):
    run(
        """
        collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
        experiment = collection.new_experiment()
        for i in range(100):
            experiment.add_record(i=i)
        os.execv(sys.executable, [sys.executable, "-c", "import os; assert len(os.listdir('/proc/self/fd')) <= 5"])
        """,
        collection.path,
        journal,
    )
    (experiment,) = collection.experiments
    assert [record["i"] for record in experiment.records] == list(range(100))
    assert experiment.state == "killed"


def test_a_fork_has_its_own_copy_of_a_tree_in_memory():
    out = run(
        """
        from rigorous_recorder import RecordKeeper
        root = RecordKeeper(a=1)
        for i in range(100):
            root.add_record(i=i)
        pid = os.fork()
        for i in range(100, 200):
            root.add_record(i=i, child=pid == 0)
        if pid:
            os.waitpid(pid, 0)
        assert [record["i"] for record in root.records] == list(range(200))
        assert all(record["child"] == (pid == 0) for record in root.records[100:])
        print("whole")
        """
    )
    assert out.split() == ["whole", "whole"]


INSIDE = """
import itertools, threading
import children
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import files
children.shrink(512)
sys.executable = ""
names = [name for name in dir(files) if getattr(getattr(files, name), "__module__", "") == files.__name__]
real = {name: getattr(files, name) for name in names}
path, mode, when, child_goes_on = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "True"
main = threading.get_ident()
forks = 0
for at in itertools.count():
    calls, pid, who, inside, refused = itertools.count(), None, "parent", False, False
    collection = ExperimentCollection(f"{path}/{at}", journal=mode, sync_interval=3600)
    experiment = collection.new_experiment()
    keepers = [experiment.sub_record_keeper(name=n) for n in range(2)]

    def fork():
        global pid, who
        pid = os.fork()
        if pid:
            return
        who = "child"
        if not child_goes_on:
            for i in range(60):
                keepers[i % 2].add_record(who=who, i=i, under=i % 2, pad="z" * (i % 5) * 50)
            experiment.sync()
            os._exit(0)

    def wrapped(name):
        def call(*arguments, **keywords):
            mine = inside and pid is None and threading.get_ident() == main and next(calls) == at
            if mine and when == "before":
                fork()
            result = real[name](*arguments, **keywords)
            if mine and when == "after":
                fork()
            return result
        return call

    for name in names:
        setattr(files, name, wrapped(name))
    inside = True
    for i in range(60):
        try:
            keepers[i % 2].add_record(who=who, i=i, under=i % 2, pad="y" * (i % 4) * 60)
        except StoreError:
            assert who == "child" and not refused, at
            refused = True
    inside = False
    for name in names:
        setattr(files, name, real[name])
    if who == "child":
        experiment.sync()
        os._exit(0)
    if pid is None:
        break
    forks += 1
    assert os.waitpid(pid, 0)[1] == 0, at
    experiment.close()
    records = list(collection.records)
    assert all(record["under"] == record["name"] for record in records), at
    found = {one: [record["i"] for record in records if record["who"] == one] for one in ("parent", "child")}
    # the add that forked returns in both: in the child it is refused, or stored once more
    assert sorted(set(found["parent"])) == list(range(60)), (at, found)
    assert len(found["parent"]) <= 60 + child_goes_on, (at, found)
    assert found["child"] == list(range(60 - len(found["child"]), 60)), (at, found)
    assert child_goes_on or len(found["child"]) == 60, (at, found)
    assert [one.state for one in collection.experiments] == ["finished"]
print(forks)
"""


@pytest.mark.parametrize("child_goes_on", [False, True], ids=["child records anew", "child goes on"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fork_at_any_system_call_of_an_add(ram, journal, when, child_goes_on, reached):
    """As a signal handler or a finalizer may: the child leaves its parent's file alone, wherever the add was.

    The add itself, which then goes on in two processes, is exact in the parent; the child may be told that it was refused.
    """
    forks = run(
        "sys.path.insert(0, sys.argv[5])\n" + INSIDE, ram, journal, when, child_goes_on, children.ROOT / "tests"
    )
    assert int(forks) > (4 if journal == "mmap" else 100)
    reached(int(forks))
