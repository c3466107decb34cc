"""What one attempt costs in system calls, and that a number guessed without looking is the number that looking gives."""

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter

import children
import pytest
import studies

from rigorous_recorder import ExperimentCollection, reading
from rigorous_recorder.errors import RecorderWarning, StoreError
from rigorous_recorder.store import claim, files, latest, layout, machine
from rigorous_recorder.store.attempt import read_course
from rigorous_recorder.store.background import background
from rigorous_recorder.store.snapshot import attempt_units, list_units, look_into


@pytest.fixture
def calls(monkeypatch):
    """How often which function of `store/files.py` was called, by thread, and the folders that were listed."""
    counts = {"main": Counter(), "others": Counter(), "listed": []}

    def counting(name, real):
        def call(*arguments):
            thread = "main" if threading.current_thread() is threading.main_thread() else "others"
            counts[thread][name] += 1
            if name == "names":
                counts["listed"].append(arguments[0])
            return real(*arguments)

        return call

    for name in ("sync_data", "sync_file", "sync_folder", "names", "make_folder", "read_all", "touch"):
        monkeypatch.setattr(files, name, counting(name, getattr(files, name)))
    return counts


def finish_one(collection, **info):
    """An experiment of some records that ends well; its number."""
    with collection.new_experiment(**info) as experiment:
        for x in range(100):
            experiment.add_record(x=x)
    return experiment.number


def in_another_process(collection, line):
    """Run a line on the same collection in another process."""
    code = (
        f"import sys\nfrom rigorous_recorder import ExperimentCollection\nc = ExperimentCollection(sys.argv[1])\n{line}"
    )
    ended = children.run(code, collection.path)
    assert ended.returncode == 0, ended.stderr


def test_an_attempt_syncs_no_more_than_it_promises(collection, calls):
    """Twice the file; three folders, in which its name and those above it stand; and the background syncs nothing."""
    finish_one(collection)
    for kept in ("main", "others"):
        calls[kept].clear()
    calls["listed"].clear()
    for _ in range(5):
        finish_one(collection)
    assert calls["main"]["sync_data"] + calls["main"]["sync_file"] == 5 * 2
    assert calls["main"]["sync_folder"] == 5 * 3
    assert calls["others"]["sync_data"] + calls["others"]["sync_folder"] == 0
    assert calls["listed"] == [], "the cost of an attempt must not grow with their number"
    assert calls["main"]["make_folder"] == 5 * 2
    assert collection.experiment_numbers == (1, 2, 3, 4, 5, 6)


def test_the_first_of_a_process_looks(collection, calls):
    finish_one(collection)
    in_another_process(collection, "with c.new_experiment() as e: e.add_record(x=1)")
    assert finish_one(collection) == 3
    assert str(collection.path) in calls["listed"]


@pytest.mark.parametrize("coarse", [False, True], ids=["fine clock", "clock that stands"])
def test_others_may_claim_in_between(collection, monkeypatch, coarse):
    """Even when nothing shows that they have: the number that was guessed is there then."""
    if coarse:
        monkeypatch.setattr(files, "mark", lambda folder: (1, 2, 3))
    for number in (1, 3, 5):
        assert finish_one(collection) == number
        in_another_process(collection, "with c.new_experiment() as e: e.add_record(x=1)")
    assert collection.experiment_numbers == (1, 2, 3, 4, 5, 6)


def test_a_number_that_came_by_copying_counts(collection):
    finish_one(collection)
    shutil.copytree(f"{collection.path}/000001.1", f"{collection.path}/000041.1")
    assert finish_one(collection) == 42


def test_a_number_that_was_removed_is_not_skipped(collection):
    assert [finish_one(collection) for _ in range(3)] == [1, 2, 3]
    shutil.rmtree(f"{collection.path}/000003.1")
    assert finish_one(collection) == 3


def test_a_collection_that_was_removed_begins_anew(collection):
    assert [finish_one(collection) for _ in range(3)] == [1, 2, 3]
    shutil.rmtree(collection.path)
    assert finish_one(collection) == 1


@pytest.mark.parametrize("where", ["here", "here, afterwards", "in another process"])
def test_after_a_failure_the_number_is_tried_again(collection, where):
    assert finish_one(collection) == 1
    if where == "here":
        with pytest.raises(ValueError, match="bad"), collection.new_experiment():
            raise ValueError("bad")
    elif where == "here, afterwards":
        with collection.new_experiment() as experiment:
            pass
        experiment.close("bad after all")
    else:
        finish_one(collection)
        in_another_process(collection, "c.experiments[-1].close('bad after all')")
    assert finish_one(collection) == 2
    assert [(one.number, one.state) for one in collection.experiments] == [
        (1, "finished"),
        (2, "failed"),
        (2, "finished"),
    ]
    assert finish_one(collection) == 3


def test_an_open_one_is_not_guessed_from(collection):
    first = collection.new_experiment()
    second = collection.new_experiment()
    first.close()
    assert latest.next_claim(str(collection.path)) is None
    assert finish_one(collection) == 3
    second.close("bad")
    assert finish_one(collection) == 4, "a failed one is tried again only while it is the highest"


def test_same_info_looks_further_back(tmp_path):
    collection = ExperimentCollection(tmp_path / "study", retries="same_info")
    with pytest.raises(ValueError, match="bad"), collection.new_experiment(lr=1):
        raise ValueError("bad")
    assert finish_one(collection, lr=2) == 2
    assert finish_one(collection, lr=1) == 1


def test_a_forked_child_and_its_parent_guess_alike(collection):
    finish_one(collection)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = finish_one(collection)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert {code, finish_one(collection)} == {2, 3}


ENDS = """
import sys
from rigorous_recorder import ExperimentCollection
with ExperimentCollection(sys.argv[1]).new_experiment() as experiment:
    experiment.add_record(x=1)
    print("recorded", flush=True)
    sys.stdin.readline()
"""


def recording(code, collection):
    """A program that has recorded, and waits to be told to end."""
    program = subprocess.Popen(
        [sys.executable, "-c", code, collection.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(children.ROOT)},
    )  # fmt: skip
    assert program.stdout.readline() == "recorded\n"
    return program


@pytest.mark.parametrize("who", ["reader", "claimer"])
def test_one_that_ends_between_reading_and_looking_was_not_killed(collection, monkeypatch, who):
    """It was running when its file was read, and its process was gone when somebody looked."""
    program = recording(ENDS, collection)
    real = machine.start_of

    def look(pid):
        if pid == program.pid and program.poll() is None:
            program.communicate("end\n")
        return real(pid)

    monkeypatch.setattr(machine, "start_of", look)
    if who == "reader":
        (one,) = collection.experiments
        assert (one.state, one.n_records) == ("finished", 1)
    else:
        assert finish_one(collection) == 2, "it was taken for killed, and its number for free"
    assert program.returncode == 0


SEVERAL = """
import sys
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import journal
journal.SIZES = (1 << 16, 1 << 16)
opened = [ExperimentCollection(sys.argv[1]).new_experiment() for _ in range(3)]
for experiment in opened:
    experiment.add_record(x="x")
print("recorded", flush=True)
sys.stdin.readline()
for experiment in opened:
    for _ in range(900):
        experiment.add_record(x="x" * 300)
    experiment.close()
"""


def test_several_that_end_between_listing_and_reading_were_not_killed(collection, monkeypatch):
    """What they recorded in further files was not listed; that their process is gone is known when the first one is read."""
    program = recording(SEVERAL, collection)
    real = reading.list_collection

    def listed(path, claims=None):
        listing = real(path, claims)
        if program.poll() is None:
            program.communicate("end\n")
        return listing

    monkeypatch.setattr(reading, "list_collection", listed)
    view = reading.read_collection(collection.path)
    assert [(one.course.state, one.rows) for one in view.attempts] == [("finished", 901)] * 3
    assert program.returncode == 0


@pytest.mark.parametrize(("what", "number"), [("damaged", 2), ("missing", 2), ("killed", 1)])
def test_the_number_of_one_whose_end_cannot_be_read_is_not_given_again(collection, what, number):
    """It seems killed, and may have finished, if a unit is damaged or missing in between; if none is, it was killed."""
    code = SEVERAL.replace("range(3)", "range(1)").replace("range(900)", "range(2000)")
    if what == "killed":
        code = code.replace("    experiment.close()", "    experiment.sync(); import os; os._exit(0)")
    program = recording(code, collection)
    program.communicate("end\n")
    assert program.returncode == 0
    (place,) = look_into(collection.path, layout.ClaimName(1, 1)).attempts
    units = list_units(place.folder)[0]
    assert len(units) > 3
    if what == "damaged":  # the last one, in which the end stands
        data = bytearray(files.read_all(units[-1].path))
        data[20 if units[-1].path.endswith(".log") else -20] ^= 1
        with open(units[-1].path, "wb") as file:
            file.write(data)
    elif what == "missing":
        os.remove(units[1].path)
        os.remove(units[-1].path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)
        assert finish_one(collection) == number


def test_whether_it_lives_is_asked_once(collection, monkeypatch):
    """A process may end its attempt and be gone between two answers, and what was read of it before is no word of it."""
    experiment = collection.new_experiment()
    place, asked = experiment._session.place, []

    def lives(_who, _sign):
        asked.append(None)
        return len(asked) == 1

    monkeypatch.setattr(machine, "lives", lives)
    assert read_course(place, attempt_units(place), time.monotonic()).state == "running"
    assert len(asked) == 1
    monkeypatch.undo()
    experiment.close()


def test_a_killed_one_is_read_once_more_and_then_known(collection, calls):
    program = recording(ENDS, collection)
    program.kill()
    program.communicate()
    reads = []
    for _ in range(3):
        before = calls["main"]["read_all"]
        assert [one.state for one in collection.experiments] == ["killed"]
        reads.append(calls["main"]["read_all"] - before)
    assert reads == [5, 3, 3], "the file `format`, and the log twice"


MOUNTS = "22 1 8:1 / / rw - ext4 /dev/vda rw\n{}"


def test_what_is_mounted_later_is_seen(tmp_path, monkeypatch):
    """The table is looked through once while it stays the same, and again for a file system mounted over the folder."""
    (tmp_path / "study").mkdir()
    texts = [MOUNTS.format(""), MOUNTS.format(f"23 22 0:44 / {tmp_path} rw - nfs4 server:/x rw\n"), MOUNTS.format("")]
    for text, kind in zip(texts, ["ext4", "nfs4", "ext4"], strict=True):
        monkeypatch.setattr(files, "read_at", lambda *_, text=text: text.encode())
        for _ in range(2):
            assert files.file_system(str(tmp_path / "study")) == kind
        assert files.file_system(str(tmp_path / "study" / "not there")) == kind


def test_the_thread_sleeps_while_experiments_come_and_go(collection, calls):
    """Nothing wakes it for a begin: it would sync what the begin syncs, at the same time."""
    finish_one(collection)
    with background._lock:
        planned = background._sleeps_until
    for _ in range(5):
        finish_one(collection)
    assert background._wake.empty()
    assert background._sleeps_until >= planned
    assert calls["others"]["touch"] <= 1


def test_a_claim_that_nothing_shows_is_met_by_mkdir(collection):
    """Somebody has just claimed the number that is guessed: then it is looked, and the next is taken."""
    finish_one(collection)
    stat = os.stat(collection.path)
    os.mkdir(f"{collection.path}/{layout.claim_name(2, 1)}")
    os.utime(collection.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert latest.next_claim(str(collection.path)) == (2, 1)
    assert finish_one(collection) == 3


# ---- who is alive; with real namespaces in test_hosts.py ---------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-1, 0, 1], ids=["before", "as", "after"])
def test_another_boot_of_which_there_is_a_sign_since_this_one_is_another_machine(monkeypatch, seconds):
    monkeypatch.setattr(machine, "booted", lambda: 1000.0)
    other = machine.here()._replace(boot="another boot")
    assert machine.lives(other, 1000.0 + seconds) is (False if seconds < 0 else None)


def test_this_host_booted_before_this_process_began():
    assert (
        0 < machine.booted() <= time.time() - machine.here().pid_start / os.sysconf("SC_CLK_TCK") + 1 < time.time() + 1
    )


BEHIND = """
import os, sys, time
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import machine
other, now = machine.here()._replace(boot="another boot"), time.time()
machine.here = lambda: other
time.time = lambda: now - 3600
experiment = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment()
experiment.add_record(x=1)
experiment.sync()
os._exit(0)
"""


def test_another_boot_whose_clock_is_behind_keeps_what_it_writes(collection, journal, monkeypatch):
    """By its own clock it went silent before this host booted; by the file server's it writes now."""
    now = time.time()
    assert children.run(BEHIND, collection.path, journal).returncode == 0
    monkeypatch.setattr(machine, "booted", lambda: now - 1800)
    assert studies.at_once(str(collection.path)).units == 0
    monkeypatch.setattr(machine, "booted", lambda: now + 3600)
    assert studies.at_once(str(collection.path)).units == 1


def test_a_process_that_proc_hides_is_neither_dead_nor_alive(monkeypatch):
    monkeypatch.setattr(machine, "_text", lambda path: "")

    def kill(pid, number):
        if pid > 7:
            raise PermissionError if pid == 8 else ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    one = machine.here()._replace(pid_start=5)
    assert [machine.lives(one._replace(pid=pid), 0.0) for pid in (7, 8, 9)] == [None, None, False]
    monkeypatch.setattr(machine, "_text", lambda path: "" if "/7/" not in path else f"7 (x) S{' 0' * 18} 12345")
    unknown = one._replace(pid_start=0)  # it could not tell when it started; of 7 the system can
    assert machine.lives(unknown._replace(pid=7), 0.0) is None, "it, or another that got its id"
    monkeypatch.setattr(machine, "_text", lambda path: "")  # nowhere does the system tell
    assert [machine.lives(unknown._replace(pid=pid), 0.0) for pid in (7, 8, 9)] == [True, True, False]


@pytest.mark.parametrize("pid", [-1, 0, 1 << 31, 1 << 70], ids=str)
def test_a_number_that_is_none_of_a_process_is_asked_of_nobody(monkeypatch, pid):
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail(f"kill({pid})"))
    assert machine.start_of(pid) is None


@pytest.mark.parametrize("retries", ["always", "same_info", "never"])
def test_claims_that_no_listing_shows_yet_count_as_running(tmp_path, monkeypatch, retries):
    """A client of a file server may show an old listing for a minute; it made a claim fail after a thousand tries."""
    collection = ExperimentCollection(tmp_path / "study", retries=retries)
    with pytest.raises(ValueError, match="bad"), collection.new_experiment(lr=1):
        raise ValueError("bad")
    there = {"always": ["000001.2"], "same_info": ["000001.2", "000002.1"], "never": ["000002.1", "000003.1"]}[retries]
    for name in there:
        os.mkdir(f"{collection.path}/{name}")
    names, waits = files.names, []
    monkeypatch.setattr(files, "names", lambda path: [name for name in names(path) if name not in there])
    monkeypatch.setattr(time, "sleep", waits.append)
    number = finish_one(collection, lr=1)
    assert number == {"always": 2, "same_info": 3, "never": 4}[retries]
    assert waits == [], "who meets a rival waits for nothing"


def test_after_many_rivals_in_a_row_it_is_looked_again_after_a_wait(collection, monkeypatch):
    finish_one(collection)
    for number in range(2, 2 + 2 * claim.IN_A_ROW):
        os.mkdir(f"{collection.path}/{number:06d}.1")
    names, make, waits, tried = files.names, claim._make, [], []
    monkeypatch.setattr(files, "names", lambda path: [name for name in names(path) if name < "000002"])
    monkeypatch.setattr(latest, "next_claim", lambda path: None)
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(claim, "_make", lambda path, one, failures: tried.append(one) or make(path, one, failures))
    assert finish_one(collection) == 2 + 2 * claim.IN_A_ROW
    assert len(tried) == len({*tried}), "what was met once is not tried again"
    assert [wait <= claim.PAUSE * 2**nth for nth, wait in enumerate(waits)] == [True, True]


def test_what_was_met_is_not_tried_again_when_the_highest_number_failed(tmp_path, monkeypatch):
    """The listing is still the old one after the wait, and says that the failed number is to be tried again."""
    collection = ExperimentCollection(tmp_path / "study")
    with pytest.raises(ValueError, match="bad"), collection.new_experiment():
        raise ValueError("bad")
    last = 2 * claim.IN_A_ROW
    there = {"000001.2", *(f"{number:06d}.1" for number in range(2, last))}
    for name in there:
        os.mkdir(f"{collection.path}/{name}")
    names, make, tried = files.names, claim._make, []
    monkeypatch.setattr(files, "names", lambda path: [name for name in names(path) if name not in there])
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(claim, "_make", lambda path, one, failures: tried.append(one) or make(path, one, failures))
    assert finish_one(collection) == last
    again = [one for one in tried if one == (1, 2)]
    assert len(tried) - len(again) == len({*tried} - {(1, 2)}), "each new number is tried once"
    assert len(again) <= 1 + len(tried) // claim.IN_A_ROW, "the failed one once after each look"


def test_a_folder_in_which_all_numbers_are_taken_is_given_up(collection, monkeypatch):
    finish_one(collection)
    waits = []
    monkeypatch.setattr(files, "make_folder", lambda *arguments: (_ for _ in ()).throw(FileExistsError()))
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(StoreError, match=r"no number could be claimed .*Hint: check the folder"):
        collection.new_experiment()
    assert len(waits) == claim.ROUNDS
    assert 60 < sum(waits) < claim.ROUNDS * claim.LONGEST_PAUSE
