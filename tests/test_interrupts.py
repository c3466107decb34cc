"""KeyboardInterrupt at any point: what returned is stored, at most one call more per interrupt, and recording goes on."""

import itertools
import json
import sys
import threading
import time
import traceback
from collections import Counter

import children
import plan
import pytest

from rigorous_recorder import ExperimentCollection, RecordKeeper
from rigorous_recorder.interrupts import PATIENCE, finish_first
from rigorous_recorder.store import files
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.attempt import read_course
from rigorous_recorder.store.background import background
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.snapshot import attempt_units, list_claims, look_into

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
"""A file that was being opened when the interrupt came is closed later, by whoever collects the garbage."""
BLOCK = 1024


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """New blocks after a few records, and new units after a few blocks."""
    monkeypatch.setattr(journals, "SIZES", (4 * BLOCK, 8 * BLOCK))
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", BLOCK)
    monkeypatch.setattr(sys, "executable", "")  # no sealing helper: the checks read the logs
    monkeypatch.setattr(background.helper, "submit", lambda path: False)  # one may run since an earlier test


def interrupted(operation, after):
    """Call a function and raise KeyboardInterrupt at its n-th place where Python looks for signals. Whether it came to that."""
    return interrupt_of(operation, after)[1] is not None


def interrupt_of(operation, after, again=None):
    """The same, giving whether there is such a place, and the KeyboardInterrupt that came out, or None: a finalizer drops it.

    Python looks for signals when a Python function begins and when a C function has returned; a profile function is
    called there, and what it raises comes out there. The lock-free section of `add_record` has no such place.

    After `again` more calls of functions of ours comes a second one. A function that raised is not called again, so that one
    is raised by a trace function.
    """
    left, left_again, reached = after, again, False

    def profile(_frame, event, _argument):
        nonlocal left, reached
        if event in ("call", "c_return"):
            if left == 0:
                reached = True
                sys.setprofile(None)
                if again is not None:
                    sys.settrace(trace)
                raise KeyboardInterrupt
            left -= 1

    def trace(frame, _event, _argument):
        nonlocal left_again
        if "rigorous_recorder" not in frame.f_code.co_filename:
            return
        if left_again == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        left_again -= 1

    before = sys.gettrace()
    try:
        sys.setprofile(profile)
        operation()
    except KeyboardInterrupt as interrupt:
        return reached, interrupt
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return reached, None


class Recorder:
    """Adds numbered records of changing sizes below changing keepers, and knows which calls returned."""

    def __init__(self, root):
        self.root = root
        self.keepers = [root.sub_record_keeper(name=n) for n in range(3)]
        self.numbers = itertools.count()
        self.returned = set()
        self.tried = 0

    def call(self, number, keeper, size):
        """One add; `number` is noted once it returned."""
        self.tried = number + 1
        under = self.keepers.index(keeper)
        if size == "block":
            keeper.add_records([{"n": number, "under": under, "row": row} for row in range(5)])
        else:
            keeper.add_record({"n": number, "under": under, "pad": "x" * size})
        self.returned.add(number)

    def go(self, kind):
        """One operation of a kind, with a number of its own where it adds records."""
        number = next(self.numbers)
        keeper = self.keepers[number % 3]
        if kind == "keeper":
            self.root.sub_record_keeper(name=7, made=number).add_record({"n": number, "under": 7})
            self.returned.add(number)
            self.tried = number + 1
        elif kind == "edit":
            keeper["edited"] = number
        elif kind == "sync":
            self.root.sync()
        elif kind == "roll":
            for _ in range(12):
                self.call(number, self.keepers[number % 3], (5, 60, 300, "block")[number % 4])
                number = next(self.numbers)
        else:
            self.call(number, keeper, kind)

    def check(self, records, interrupts):
        """See to it that all that returned is there, once and below its keeper, and at most one more per interrupt."""
        rows = {}
        for record in records:
            assert record["under"] == record["name"], record
            rows.setdefault(record["n"], []).append(record["row"])
        assert all(found in ([None], [0, 1, 2, 3, 4]) for found in rows.values()), "doubled, or half a block"
        assert list(rows) == sorted(rows), "out of order"
        assert self.returned <= set(rows), sorted(self.returned - set(rows))
        assert len(set(rows) - self.returned) <= interrupts
        assert max(rows) <= self.tried


def check_file(journal):
    """See to it that whoever reads the current unit at this moment finds it whole."""
    source = LogSource(files.read_all(journal.path))
    records = source.records()
    assert source.findings == []
    assert all("n" in record for record in records)


def lock_is_free():
    """Whether other threads can take the recorder's lock."""
    got = []

    def take():
        got.append(journals.LOCK.acquire(timeout=10))
        if got[0]:
            journals.LOCK.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


@pytest.mark.parametrize("kind", [5, 300, "block", "keeper", "edit", "sync", "roll"])
def test_an_interrupt_at_every_place_of_a_call(collection, kind):
    interrupts = 0
    with collection.new_experiment() as experiment:
        recorder = Recorder(experiment)
        for number in range(3):
            recorder.call(next(recorder.numbers), recorder.keepers[number], 40)
        for after in itertools.count():
            came = interrupted(lambda: recorder.go(kind), after)
            interrupts += came
            # a short record of another keeper comes behind, where the interrupted one may have left something
            recorder.call(next(recorder.numbers), recorder.keepers[after % 3], 1)
            check_file(experiment._journal)
            if not came or after > 6000:
                break
            if after % 50 == 0:
                assert lock_is_free()
        assert lock_is_free()
        recorder.check(experiment.records, interrupts)
    assert interrupts > 5
    recorder.check(collection.records, interrupts)
    assert collection.experiments[0].state == "finished"


def test_an_interrupt_at_every_place_of_a_call_in_memory():
    root = RecordKeeper()
    recorder = Recorder(root)
    interrupts = 0
    for after in range(0, 900, 2):
        interrupts += interrupted(lambda: recorder.go("roll"), after)
    assert interrupts > 100
    recorder.check(root.records, interrupts)


def test_an_interrupt_at_every_place_of_a_begin_and_a_close(collection):
    """An interrupted experiment may be there or not; whatever is there can be read, and the next one works."""
    for after in itertools.count(0, 7):
        with collection.new_experiment():
            pass  # else the number of the interrupted one is tried again, and each try looks at all before it
        made = []

        def begin_and_close(made=made):
            made.append(collection.new_experiment(a=1))
            made[0].add_record(b=2)
            made.append("added")
            made[0].close()
            made.append("closed")

        came, _ = interrupt_of(begin_and_close, after)
        if made:
            made[0].close()  # once more, as a user would
        if "added" in made:
            attempt = next(one for one in collection.experiments if one._session.place.id == made[0]._session.place.id)
            assert [record["b"] for record in attempt.records] == [2]
            assert attempt.state == "finished"
        if not came:
            break
    assert after > 100
    with collection.new_experiment() as experiment:
        experiment.add_record(last=True)
    assert collection[-1][-1]["last"]
    assert lock_is_free()
    # one that was begun and not handed over yet is either ended, or known, so that it can be closed and is at exit
    running = {
        one._session.place.id for one in collection.experiments if one.state == "running" and one.start_time is not None
    }
    assert running <= {one._session.place.id for one in collection.open_experiments}
    for one in collection.open_experiments:
        one.close("interrupted while it began")


def came_before_the_first_line(interrupt):
    """Whether an interrupt came where no line of ours could catch it: where a function begins that would have caught it."""
    while interrupt is not None:
        *_, last, _ = traceback.extract_tb(interrupt.__traceback__)  # the last of all is what raised it
        ours = last.filename.endswith(("experiment.py", "interrupts.py"))
        if ours and last.name in ("__enter__", "__exit__", "finish_first"):
            return True
        interrupt = interrupt.__context__
    return False


@pytest.mark.parametrize("again", [None, 3, 20], ids=lambda again: "once" if again is None else f"again {again}")
@pytest.mark.parametrize("looks", [False, True], ids=["number guessed", "number looked up"])
def test_an_interrupt_at_every_place_of_a_with(tmp_path, journal, looks, again):
    """What is interrupted while it begins has ended or does not exist; what is interrupted while it ends has ended."""
    states, unhandled = Counter(), 0
    for after in itertools.count(0, 1 if again is None else 23):
        collection = ExperimentCollection(tmp_path / str(after), journal=journal)
        with collection.new_experiment():
            pass
        if looks:
            (tmp_path / str(after) / "something").touch()

        def block(collection=collection):
            with collection.new_experiment(a=1) as experiment:
                experiment.add_record(b=2)

        reached, interrupt = interrupt_of(block, after, again)
        handled = not came_before_the_first_line(interrupt)
        if not handled:
            unhandled += 1
            for one in collection.open_experiments:
                one.close(KeyboardInterrupt())
        assert collection.open_experiments == (), f"at place {after} it stays open"
        for claim in list_claims(collection.path)[1:]:
            for attempt in look_into(collection.path, claim)[0]:
                course = read_course(attempt, attempt_units(attempt), time.monotonic())
                assert course is not None or not handled, f"at place {after} an attempt is left without a begin"
                states[course.state if course is not None else "nothing"] += 1
                assert not handled or not [name for name in files.names(attempt.folder) if name.startswith(".tmp-")]
        if not reached:
            break
    assert set(states) <= {"interrupted", "finished", "nothing"}
    assert states["interrupted"] > 1
    assert states["finished"] > 1
    assert unhandled <= max(6, sum(states.values()) / 4), (unhandled, states)
    assert lock_is_free()


def test_many_interrupts_in_a_row_are_let_out(collection):
    """Somebody who presses Ctrl-C again and again is not kept waiting for a disk that hangs."""
    experiment = collection.new_experiment()
    calls = []

    def hangs():
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish_first(hangs)
    assert len(calls) == PATIENCE
    experiment.close()


IN_A_STORM = 200
"""Interrupts in one process."""

STORM = """
import itertools, json, random, signal, sys, time
from rigorous_recorder import ExperimentCollection
import children
children.shrink(int(sys.argv[3]))
sys.executable = ""
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2], sync_interval=0.02)
dice = random.Random(int(sys.argv[4]))
armed, interrupts, wanted = False, 0, int(sys.argv[5])
returned = []

def interrupt(*_):
    global armed, interrupts
    if armed:
        armed = False
        interrupts += 1
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
def alarm(*_):
    signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.002 * dice.random())
    signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGALRM, alarm)
experiment = collection.new_experiment(edited=-1)
keepers = [experiment.sub_record_keeper(name=n) for n in range(3)]
number = 0
signal.setitimer(signal.ITIMER_REAL, 0.001)
while interrupts < wanted:
    try:
        armed = True
        while True:
            number += 1
            under, kind = dice.randrange(3), dice.random()
            if kind < 0.9:
                keepers[under].add_record({"n": number, "under": under, "pad": "x" * dice.choice((0, 30, 100, 400))})
            elif kind < 0.96:
                keepers[under].add_records(n=number, under=under, row=range(5))
            elif kind < 0.98:
                keepers[under] = experiment.sub_record_keeper(name=under)
                continue
            elif kind < 0.999:
                experiment["edited"] = number
                continue
            else:
                experiment.sync()
                continue
            returned.append(number)
    except KeyboardInterrupt:
        pass
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 0)
if sys.argv[6] == "close":
    experiment.close()
print(json.dumps([returned, interrupts]), flush=True)
if sys.argv[6] == "kill":
    signal.raise_signal(signal.SIGKILL)
"""


@pytest.mark.parametrize("ending", ["close", "kill"])
@pytest.mark.parametrize("block", [512, 65536])
@pytest.mark.parametrize("shard", plan.shards("test_a_storm_of_interrupts", ci=1, long=4, within=8), ids=repr)
def test_a_storm_of_interrupts(collection, journal, block, shard, ending, reached):
    for first in range(0, shard.rounds, IN_A_STORM):
        wanted = min(IN_A_STORM, shard.rounds - first)
        seed = 1000 * shard.seed + first
        environment = {**children.ENVIRONMENT, "PYTHONPATH": f"{children.ROOT}:{children.ROOT}/tests"}
        ended = children.run(STORM, collection.path, journal, block, seed, wanted, ending, env=environment)
        assert ended.returncode == (0 if ending == "close" else -9), ended.stderr
        returned, interrupts = json.loads(ended.stdout)
        rows = {}
        for record in collection[-1] if ending == "close" else collection.experiments[-1].records:
            assert record["under"] == record["name"], record
            rows.setdefault(record["n"], []).append(record["row"])
        assert all(found in ([None], [0, 1, 2, 3, 4]) for found in rows.values())
        assert list(rows) == sorted(rows)
        assert set(returned) <= set(rows)
        assert len(set(rows) - set(returned)) <= interrupts
        assert collection.experiments[-1].state == ("finished" if ending == "close" else "killed")
        assert interrupts == wanted
    reached(shard.rounds)


ALL_CALLS = (
    "create", "preallocate", "map_shared", "map_private", "write_at", "link", "remove", "truncate", "close", "duplicate",
    "sync_data", "sync_folder", "extend", "populate",
)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ALL_CALLS)
def test_a_handler_that_records_at_any_system_call_of_an_add(tmp_path, journal, monkeypatch, name, when):
    """As a signal handler may: at the n-th call of that kind, whichever of the adds of a run makes it."""
    monkeypatch.setattr(journals, "SIZES", (2 * 512, 4 * 512))
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", 512)
    monkeypatch.setattr(background.helper, "submit", lambda path: False)
    real = getattr(files, name)
    main = threading.get_ident()
    for at in range(30):
        calls, busy = itertools.count(), []

        def interrupted(*args, at=at, calls=calls, busy=busy):
            mine = threading.get_ident() == main and not busy and next(calls) == at
            if not mine:
                return real(*args)
            busy.append(True)
            if when == "before":
                note()
            result = real(*args)
            if when == "after":
                note()
            return result

        collection = ExperimentCollection(tmp_path / f"study{at}", journal=journal, sync_interval=3600)
        experiment = collection.new_experiment()
        keepers = [experiment.sub_record_keeper(name=n) for n in range(2)]

        def note(keepers=keepers):
            for i in range(40):
                keepers[1].add_record(t=1, i=i, pad="x" * (i % 3) * 90)

        with monkeypatch.context() as patched:
            patched.setattr(files, name, interrupted)
            for i in range(60):
                keepers[0].add_record(t=0, i=i, pad="y" * (i % 4) * 60)
        experiment.close()
        records = list(collection.records)
        assert [record["i"] for record in records if record["t"] == 0] == list(range(60))
        assert [record["i"] for record in records if record["t"] == 1] == (list(range(40)) if busy else [])
        assert all(record["t"] == record["name"] for record in records)
        if not busy:
            break  # there are not so many calls
    assert at or name in NEVER.get(journal, ()), "this call was never interrupted"


NEVER = {
    "mmap": (
        "extend",
        "truncate",
        "map_private",
        "write_at",
        "populate",
        "sync_data",
        "sync_folder",
        "duplicate",
        "close",
    ),
    "write": ("preallocate", "map_shared", "populate", "truncate", "sync_data", "sync_folder", "duplicate", "close"),
}
"""What adds do not call: blocks of 512 bytes are not populated, and syncing is the other thread's."""
