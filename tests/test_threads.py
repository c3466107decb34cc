"""Threads that add at once, switching every microsecond: nothing is lost, doubled, or put below another keeper."""

import inspect
import itertools
import re
import signal
import struct
import sys
import textwrap
import threading
import time
import weakref

import children
import plan
import pytest

from rigorous_recorder import DamageWarning, ExperimentCollection, RecordKeeper, adding
from rigorous_recorder.adding import Adding
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.lock import GIL

with_gil = pytest.mark.skipif(not GIL, reason="without the GIL every add takes the lock: there is no such section")


@pytest.fixture(autouse=True)
def switch_every_microsecond():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=[512, 65536], ids=["small units", "usual units"])
def block(request, monkeypatch):
    """The size of a block; small ones make the slow path as frequent as the fast one."""
    if request.param == 512:
        monkeypatch.setattr(journals, "SIZES", (8 << 10, 64 << 10))
        monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", 512)
        monkeypatch.setattr(sys, "executable", "")  # no sealing helper: these units are too many and too small for it
    return request.param


def run(works):
    """Run functions in threads that start together, and raise what one of them raises."""
    barrier = threading.Barrier(len(works))
    errors = []

    def start(work):
        try:
            barrier.wait(30)
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=start, args=[work], daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def adder(thread, keepers, count, *, long=False):
    """A thread's work: records that say which of its adds they are and below which keeper they belong."""

    def work():
        for i in range(count):
            n = i % len(keepers)
            if long and i % 10 == 0:
                keepers[n].add_record({"t": thread, "i": i, "under": n, "pad": "x" * 400})
            else:
                keepers[n].add_record({"t": thread, "i": i, "under": n})

    return work


def check(records, threads, count):
    """See to it that all records of so many threads are there once, in each thread's order, and below their keepers."""
    found = [[] for _ in range(threads)]
    for record in records:
        if record["t"] is not None:
            found[record["t"]].append(record["i"])
            assert record["under"] == record["name"], record
    for numbers in found:
        assert numbers == list(range(count)), f"{len(numbers)} of {count}, {len(set(numbers))} different"


@pytest.mark.parametrize("shape", ["one keeper", "siblings", "a keeper per thread"])
@pytest.mark.parametrize("threads", [4, 8])
def test_every_add_of_every_thread_is_stored(collection, block, threads, shape):
    count = 16_000 // threads if block == 512 else 40_000 // threads
    with collection.new_experiment() as experiment:
        siblings = [experiment.sub_record_keeper(name=n) for n in range(3)]
        own = [experiment.sub_record_keeper(name=0) for _ in range(threads)]
        keepers = {
            "one keeper": lambda _: siblings[:1],
            "siblings": lambda _: siblings,
            "a keeper per thread": lambda t: own[t : t + 1],
        }
        run([adder(t, keepers[shape](t), count, long=block == 512) for t in range(threads)])
        check(experiment.records, threads, count)
    check(collection.records, threads, count)


@pytest.mark.parametrize("shard", plan.shards("test_eight_threads", ci=1, long=20, within=2), ids=repr)
def test_eight_threads(collection, shard, reached):
    """As many adds as make what is rare likely."""
    count = shard.rounds // 8
    with collection.new_experiment() as experiment:
        siblings = [experiment.sub_record_keeper(name=n) for n in range(1 + shard.seed % 3)]
        run([adder(t, siblings, count) for t in range(8)])
    check(collection.records, 8, count)
    reached(8 * count)


@pytest.mark.parametrize("threads", [4, 8])
def test_every_add_is_stored_in_memory(threads):
    root = RecordKeeper()
    siblings = [root.sub_record_keeper(name=n) for n in range(3)]
    run([adder(t, siblings, 40_000 // threads, long=True) for t in range(threads)])
    check(root.records, threads, 40_000 // threads)


def test_adds_while_all_else_goes_on(collection, block):  # noqa: C901  (each part is a thread's work)
    count, rounds = 4000, 100
    with collection.new_experiment(version=0) as experiment:
        siblings = [experiment.sub_record_keeper(name=n, version=0) for n in range(3)]

        def make_keepers():
            for i in range(rounds):
                child = siblings[i % 3].sub_record_keeper(child=i)
                child.add_record(kind="child", of=i)
                child.sub_record_keeper(grandchild=i).add_record(kind="grandchild", of=i)

        def edit():
            for i in range(rounds):
                siblings[i % 3]["version"] = i
                experiment.update(version=i)

        def add_blocks():
            for i in range(rounds):
                siblings[i % 3].add_records(block=i, row=range(20))

        def fill_pending():
            for i in range(rounds):
                siblings[0].pending_record["pending"] = i
                time.sleep(0)
                siblings[0].pending_record["again"] = i
                siblings[0].commit_record()

        def sync():
            for _ in range(rounds // 5):
                experiment.sync()

        def read():
            before = 0
            for _ in range(3):
                now = len(experiment.records)
                assert now >= before
                before = now

        adders = [adder(t, siblings, count) for t in range(4)]
        run([*adders, make_keepers, edit, add_blocks, fill_pending, fill_pending, sync, read])
    records = list(collection.records)
    check([record for record in records if record["child"] is None], 4, count)
    assert [r["row"] for r in records if r["block"] is not None] == list(range(20)) * rounds
    for kind in ("child", "grandchild"):
        found = [record for record in records if record["kind"] == kind]
        assert [record["of"] for record in found] == list(range(rounds))
        assert all(record["of"] == record["child"] and record["of"] % 3 == record["name"] for record in found)
        assert all(record["grandchild"] == (record["of"] if kind == "grandchild" else None) for record in found)
    pending = sorted(record["pending"] for record in records if record["pending"] is not None)
    assert pending == sorted([*range(rounds)] * 2)
    assert all(record["again"] == record["pending"] for record in records)
    last = {n: max(range(n, rounds, 3)) for n in range(3)}
    assert all(record["version"] == last[record["name"]] for record in records)


def test_closing_while_threads_add_keeps_what_was_added(collection, block):
    experiment = collection.new_experiment()
    siblings = [experiment.sub_record_keeper(name=n) for n in range(2)]
    added = [0] * 4

    def add(thread):
        try:
            for i in range(1_000_000):
                siblings[i % 2].add_record({"t": thread, "i": i, "under": i % 2})
                added[thread] = i + 1
        except RuntimeError as error:
            assert "closed" in str(error)  # noqa: PT017  (each thread is to be told)

    def close():
        time.sleep(0.05)
        experiment.close()

    run([*(lambda t=t: add(t) for t in range(4)), close])
    found = [[r["i"] for r in collection.records if r["t"] == t] for t in range(4)]
    assert found == [list(range(count)) for count in added]
    assert collection.experiments[0].state == "finished"


def test_many_experiments_at_once_in_one_process(collection):
    def work(thread):
        for _ in range(5):
            with collection.new_experiment(t=thread) as experiment:
                for i in range(200):
                    experiment.add_record(i=i)

    run([lambda t=t: work(t) for t in range(6)])
    experiments = collection.experiments
    assert [one.number for one in experiments] == list(range(1, 31))
    for one in experiments:
        assert [record["i"] for record in one.records] == list(range(200))
    assert collection.open_experiments == ()


# ---- the section without calls ------------------------------------------------------------------------------------

SECTION = "e = p + 1 + size\n"


@with_gil
def test_this_test_can_fail_a_call_inside_the_section_loses_records(collection, monkeypatch):
    if collection._options.mode == "write":
        pytest.skip("in write mode every add takes the lock")
    source = textwrap.dedent(inspect.getsource(Adding.add_record))
    careless = re.sub(f"( +){re.escape(SECTION)}", rf"\1{SECTION}\1(lambda: None)()\n", source)
    assert careless.count("lambda") == 1, "the section reads otherwise now: adapt this test"
    names = dict(vars(adding))
    exec("from __future__ import annotations\n" + careless, names)
    monkeypatch.setattr(RecordKeeper, "add_record", names["add_record"])
    for _ in range(20):
        try:
            with collection.new_experiment() as experiment:
                only = [experiment.sub_record_keeper(name=0)]
                run([adder(t, only, 5000) for t in range(4)])
            check(collection[-1], 4, 5000)
        except (AssertionError, DamageWarning, KeyError, TypeError, ValueError, struct.error):
            return
    pytest.fail("400,000 adds with a call in the section, and nothing was lost: the other tests prove nothing")


FINALIZER = """
import gc, itertools, sys
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import files
from rigorous_recorder.store.logsource import LogSource

collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
came, hidden, numbers = 0, [], itertools.count()

class Recording:
    def __init__(self):
        self.me = self  # garbage that only a collection finds

    def __del__(self):
        global came
        number = next(numbers)
        inside = sys._getframe(1).f_code.co_name == "add_record"
        other.add_record(t=1, i=number, under=1)
        if inside:
            came += 1
            # what whoever finds the file after a kill at this moment reads
            records = LogSource(files.read_all(experiment._journal.path)).records()
            if not any(record.get("t") == 1 and record["i"] == number for record in records):
                hidden.append(number)

with collection.new_experiment() as experiment:
    only, other = (experiment.sub_record_keeper(name=n) for n in range(2))
    kept = []

    def main():
        for i in range(300):
            record = {"t": 0, "i": i, "under": 0}
            gc.disable()
            gc.collect()
            Recording()
            kept.append(slice(0, i))  # takes the slice that the interpreter keeps for the next one who needs one
            gc.set_threshold(gc.get_count()[0] + i % 4)  # one of the next objects made starts a collection
            gc.enable()
            only.add_record(record)

    main()
    gc.set_threshold(700)
    gc.collect()
assert came or sys.argv[2] == "write", "this test did not test anything"
assert hidden == [], f"{len(hidden)} of {came} acknowledged, but behind an entry without its mark: a kill would have lost them"
"""


@with_gil
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only Python 3.11 collects garbage wherever an object is made")
def test_a_finalizer_that_records_inside_the_section_is_not_lost(collection, journal):
    """The slice in the section is an object; when it is made, garbage may be collected, and finalizers run."""
    pure = {**children.ENVIRONMENT, "RIGOROUS_RECORDER_PURE": "1"}  # in the C no object is made
    ended = children.run(FINALIZER, collection.path, journal, env=pure)
    assert ended.returncode == 0, ended.stderr
    records = list(collection.records)
    check([record for record in records if record["t"] == 0], 1, 300)
    assert [record["i"] for record in records if record["t"] == 1] == list(range(300))
    assert all(record["under"] == record["name"] for record in records)


def test_a_signal_handler_may_record(collection, block):
    """Jobs note that they are about to be stopped: the handler runs between any two steps of an add on the main thread."""
    numbers = itertools.count()
    with collection.new_experiment() as experiment:
        siblings = [experiment.sub_record_keeper(name=n) for n in range(3)]

        def note(*_):
            siblings[2].add_record({"t": 1, "i": next(numbers), "under": 2})
            signal.setitimer(signal.ITIMER_REAL, 0.0003)  # not before: handlers would pile up on a slow machine

        before = signal.signal(signal.SIGALRM, note)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0003)
            deadline = time.monotonic() + 0.7
            i = 0
            while time.monotonic() < deadline or i < 1000:
                siblings[i % 2].add_record({"t": 0, "i": i, "under": i % 2})
                i += 1
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first: the handler sets the timer again
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    records = list(collection.records)
    check([record for record in records if record["t"] == 0], 1, i)
    assert [record["i"] for record in records if record["t"] == 1] == list(range(next(numbers)))
    assert all(record["under"] == record["name"] for record in records)


def test_a_collection_object_is_shared_by_threads(tmp_path, journal):
    collection = ExperimentCollection(tmp_path / "study", journal=journal)

    def note(thread):
        for i in range(5):
            collection.add_notes({f"note{thread}": i})

    run([lambda t=t: note(t) for t in range(4)])
    with collection.new_experiment() as experiment:
        experiment.add_record(a=1)
    (record,) = collection.records
    assert [record[f"note{t}"] for t in range(4)] == [4] * 4


def test_a_finalizer_of_a_keeper_may_record(collection, block):
    """An episode that goes out of scope is noted at the root: the journal must not drop the last keeper while it switches."""
    with collection.new_experiment() as experiment:

        def gone(number):
            for j in range(3):
                experiment.add_record(gone=number, j=j, pad="x" * 150)

        for number in range(300):
            episode = experiment.sub_record_keeper(n=number)
            weakref.finalize(episode, gone, number)
            episode.add_record(v=number)
            if number % 7 == 0:
                episode.add_record(v=number, pad="y" * 300)
            del episode
            for _ in range(
                10 if block == 512 else 0
            ):  # levels without records, until a block ends while it is the last keeper
                experiment.sub_record_keeper(filler="z" * 40)
        experiment.add_record(last=True)
    records = list(collection.records)
    assert [record["v"] for record in records if record["pad"] is None and record["v"] is not None] == list(range(300))
    assert all(record["v"] == record["n"] for record in records if "v" in record)
    assert [(record["gone"], record["j"]) for record in records if "gone" in record] == [
        (number, j) for number in range(300) for j in range(3)
    ]
