"""Several hosts on one folder: real processes that the kernel gives another host name, boot, process ids and clock.

What no namespace can differ in, the wall clock, is shifted in the program, before the library is imported: the times of
files stay those of the file system, as on a file server.
"""

import time
import uuid
import warnings
from pathlib import Path

import hosts
import pytest
from hosts import DIFFERENCES, NAME, READING, STATES, live, making, refused, states, until

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.store import machine

pytestmark = pytest.mark.privileged


@pytest.fixture
def make(tmp_path):
    with making(tmp_path) as made:
        yield made


@pytest.fixture
def study(tmp_path):
    return ExperimentCollection(tmp_path / "study")


@pytest.fixture
def wait(monkeypatch):
    """Lets time pass for this process, as a reader: its clock goes on, and when it booted stays as it was."""
    real = time.time
    booted = machine.booted()

    def passed(seconds):
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        monkeypatch.setattr(machine, "booted", lambda: booted)

    return passed


# ---- numbers ---------------------------------------------------------------------------------------------------------

MONTH = 30 * 86_400
"""Seconds: more than any of these hosts has been up."""

CLAIMING = (
    READING
    + """
print(json.dumps("ready"), flush=True)
sys.stdin.readline()
numbers = []
for nth in range(int(sys.argv[3])):
    with collection.new_experiment(host=machine.here().host, nth=nth) as experiment:
        experiment.add_record(nth=nth)
    numbers.append(experiment.number)
print(json.dumps(numbers))
"""
)


@pytest.mark.parametrize("clocks", [(0, 0, 0), (0, MONTH, -MONTH)], ids=["one clock", "clocks a month apart"])
def test_no_number_is_given_twice_and_none_is_left_out(make, study, clocks):
    """Three hosts, two programs on each, all at once: what each remembers of its own last number is no guide."""
    each = 10
    # of names of their own: a machine of one's name whose clock is behind by more than one is up is taken for one before
    # this boot (docs/decisions/019), and this one may have booted lately
    others = [make(f"host{n}", boot=str(uuid.uuid4())) for n in range(len(clocks))]
    programs = [host.start(CLAIMING, study.path, shift, each) for host, shift in zip(others, clocks, strict=True)]
    programs += [make("another pid namespace").start(CLAIMING, study.path, shift, each) for shift in clocks]
    assert [program.hear() for program in programs] == ["ready"] * len(programs)
    for program in programs:
        program.tell()
    claimed = [program.hear() for program in programs]
    count = each * len(programs)
    assert sorted(number for numbers in claimed for number in numbers) == list(range(1, count + 1))
    assert all(numbers == sorted(numbers) for numbers in claimed)
    assert study.experiment_numbers == tuple(range(1, count + 1))
    assert set(states(study)) == {"finished"}
    assert len(study.records) == count
    assert all(one.duration >= 0 for one in study.experiments)


def test_a_number_that_another_host_took_is_not_guessed(make, study):
    """Who ended the last one well itself tries the next number without looking; by then another host has failed with it."""
    elsewhere = make()
    failing = READING + "experiment = collection.new_experiment()\nexperiment.close('bad')\nprint(experiment.number)"
    finishing = READING + "collection.new_experiment().close()\nprint(collection.experiments[-1].number)"
    with study.new_experiment() as experiment:
        assert experiment.number == 1
    assert elsewhere.ask(failing, study.path, 3600) == 2
    with study.new_experiment() as experiment:
        assert experiment.number == 2
    assert elsewhere.ask(finishing, study.path, -3600) == 3
    with study.new_experiment() as experiment:
        assert experiment.number == 4
    study.experiments[-1].close("no good after all")
    assert elsewhere.ask(finishing, study.path, 0) == 4
    assert [(one.number, one.state, one.error_number) for one in study.experiments] == [
        (1, "finished", 0), (2, "failed", 1), (2, "finished", 0), (3, "finished", 0), (4, "failed", 1), (4, "finished", 0),
    ]  # fmt: skip


# ---- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_another_host_records_runs_until_it_is_silent_for_five_minutes(make, study, wait, what):
    host = make(what)
    program, _ = live(host, study)
    assert states(study) == ["running"]
    (one,) = study.experiments
    assert (one.had_error, one.end_time, one.n_records) == (None, None, 100)
    assert [len(study.under(had_error=value).records) for value in (True, False, None)] == [0, 0, 100]
    refused(one.delete, "running")
    refused(lambda: study.resume_experiment(1), "running")
    assert study.compact().units == 0, "its log is still written"
    with study.new_experiment() as other:
        assert other.number == 2, "its number is not free"
    host.close()  # nobody here can tell
    assert states(study) == ["running", "finished"]
    wait(240)
    assert states(study) == ["running", "finished"]
    wait(310)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)  # of records that its last sync may have missed
        assert states(study) == ["stale", "finished"]
        one = study.experiments[0]
        assert (one.had_error, one.n_records) == (None, 100)
        refused(one.delete, "stale")
        refused(lambda: study.resume_experiment(1), "stale")
        assert study.compact().units <= 1, "that of the second"
        assert [each["i"] for each in study[1]] == list(range(100))
        one.close("the node is gone")
        (one, other) = study.experiments
        assert (one.state, one.had_error, one.error) == ("failed", True, "the node is gone")
        assert [len(study.under(had_error=value).records) for value in (True, False)] == [100, 0]
        with study.resume_experiment(1) as again:
            again.add_record(i=100)
        assert states(study) == ["finished", "finished"]
        assert [each["i"] for each in study[1]] == list(range(101))
        assert [len(study.under(had_error=value).records) for value in (True, False)] == [0, 101]
    assert program.process.wait(hosts.TIMEOUT) != 0


@pytest.mark.parametrize("what", DIFFERENCES)
def test_compaction_and_cleaning_leave_what_another_host_writes(make, study, what):
    """A machine of the same name was taken for an earlier boot of this one, and what it recorded then was lost."""
    program, _ = live(make(what), study)
    for _ in range(3):
        assert study.compact().units == 0
    program.tell()
    program.end()
    assert study.compact().units == 1
    assert [each["i"] for each in study.records] == list(range(200))
    assert states(study) == ["finished"]


@pytest.mark.parametrize("clocks", [(0, MONTH), (-MONTH, 0), (0, -MONTH)], ids=str)
def test_of_two_machines_of_one_name_whose_clocks_differ_neither_takes_the_other_for_its_past(make, study, clocks):
    """By the clock of one, the other was silent since before it booted itself: what it still wrote was compacted, and lost."""
    writing, compacting = (make("a machine of the same name") for _ in clocks)
    program, _ = live(writing, study, clocks[0])
    compact = READING + (  # in the process whose clock is wrong
        "from rigorous_recorder.store.compact import compact\nprint(json.dumps(compact(sys.argv[1], grace=0).units))"
    )
    assert compacting.ask(compact, study.path, clocks[1]) == 0
    program.tell()
    program.end()
    assert compacting.ask(compact, study.path, clocks[1]) == 1
    assert [each["i"] for each in study.records] == list(range(200))


@pytest.mark.parametrize("clocks", [(0, MONTH), (-MONTH, 0), (0, -MONTH)], ids=str)
def test_nor_does_a_claim_try_the_others_number_again(make, study, clocks):
    writing, claiming = (make("a machine of the same name") for _ in clocks)
    program, told = live(writing, study, clocks[0])
    begin = READING + "with collection.new_experiment() as experiment:\n    print(json.dumps(experiment.number))"
    assert (told["number"], claiming.ask(begin, study.path, clocks[1])) == (1, 2)
    program.tell()
    program.end()
    assert states(study) == ["finished", "finished"]


def test_a_time_namespace_is_no_other_life(make, study):
    """There a process has another start time, by which it was taken for one that had got its id since."""
    for ours in (True, False):
        elsewhere = make(NAME, pids=False, clock=1000)
        program, _ = live(make("another pid namespace") if not ours else elsewhere, study)
        assert states(study)[-1] == "running"
        assert elsewhere.ask(STATES, study.path, 0)[-1] == "running"
        assert study.compact().units <= 1
        program.tell()
        program.end()
        assert states(study)[-1] == "finished"
    assert [each["i"] for each in study.records] == [*range(200), *range(200)]


AS_NOBODY = """
import os
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""


def open_to_all(folder):
    """Let everybody into a folder of the tests'."""
    for above in (folder, *folder.parents):
        if not above.stat().st_mode & 0o001:
            if "pytest" not in str(above):
                pytest.skip(f"NOT TESTED: nobody cannot enter {above}")
            above.chmod(0o755)


def test_a_process_that_proc_hides_is_not_taken_for_dead(make, study, tmp_path):
    """Where many users share a machine, /proc is often mounted so that nobody sees the processes of others."""
    open_to_all(tmp_path)
    host = make("shared", boot=str(uuid.uuid4()), proc="hidepid=2")
    reading = STATES + AS_NOBODY + "print(json.dumps([one.state for one in collection.experiments]))"
    program, told = live(host, study)
    hidden = f"{AS_NOBODY}\nimport os\nprint(int(os.path.exists('/proc/{told['pid']}')))"
    assert host.ask(hidden) == 0, "nothing is hidden: this test proves nothing"
    assert host.run(reading, study.path, 0) == '["running"]\n' * 2
    assert host.run(reading, study.path, 310) == '["running"]\n["stale"]\n', (
        "as on another host, its signs of life tell"
    )
    program.kill()
    assert host.run(reading, study.path, 0) == '["killed"]\n' * 2


def test_one_that_is_killed_is_known_to_be_dead_on_its_host_alone(make, study):
    here, there = make(NAME, pids=False), make("there", boot=str(uuid.uuid4()))
    for host, other in ((here, there), (there, here)):
        program, _ = live(host, study)
        program.kill()
        assert other.ask(STATES, study.path, 0)[-1] == "running"
        assert host.ask(STATES, study.path, 0)[-1] == "killed"
        numbers = host.ask(READING + "with collection.new_experiment() as e: pass\nprint(e.number)", study.path, 0)
        assert numbers == study.experiment_numbers[-1], "on its own host the number is tried again"
    assert study.experiment_numbers == (1, 2)


@pytest.mark.parametrize("boot", [None, str(uuid.UUID(int=1))], ids=["another pid namespace", "another boot"])
def test_the_same_number_of_a_process_is_another_process_elsewhere(make, study, boot):
    """Neither is a dead one alive since its number lives elsewhere, nor a living one dead since it does not."""
    host, other, empty = make(NAME, boot=None), make(NAME, boot=boot), make(NAME, boot=boot)
    for _ in range(3):  # its number is to be one that the others have not had yet
        host.run("")
    program, told = live(host, study)
    waiting = "import json, os, sys\nprint(json.dumps(os.getpid()), flush=True)\nsys.stdin.readline()"
    while (twin := other.start(waiting).hear()) < told["pid"]:
        pass
    assert twin == told["pid"]
    while int(empty.run("import os\nprint(os.getpid())")) < told["pid"]:
        pass
    assert other.ask(STATES, study.path, 0) == empty.ask(STATES, study.path, 0) == ["running"]
    program.kill()
    assert host.ask(STATES, study.path, 0) == ["killed"]
    for elsewhere in (other, empty):
        assert elsewhere.ask(STATES, study.path, 0) == ["running"]
    if boot is None:  # else the host with the later clock has booted later, too
        assert other.ask(STATES, study.path, 310) == empty.ask(STATES, study.path, 310) == ["stale"]


def test_what_ran_before_this_host_booted_was_killed(make, study, monkeypatch):
    """The one thing here that is told and not done: that the machine went down and booted since."""
    host = make("another boot of the same name")
    live(host, study)
    host.close()
    assert states(study) == ["running"]
    now = time.time() + 60  # by whatever clock, later than all that it wrote
    monkeypatch.setattr(machine, "booted", lambda: now)
    assert states(study) == ["killed"]
    with study.new_experiment() as experiment:
        assert experiment.number == 1


# ---- words of others -------------------------------------------------------------------------------------------------


def test_a_user_on_another_host_closes_what_runs(make, study):
    """His word counts, also against the later end of the process itself, whose records stay."""
    program, _ = live(make(), study)
    closing = READING + "collection.experiments[0].close('the wrong data')"
    make("elsewhere-too", boot=str(uuid.uuid4())).run(closing, study.path, -3600)
    assert states(study) == ["failed"]
    program.tell()
    program.end()
    (one,) = study.experiments
    assert (one.state, one.error, one.n_records) == ("failed", "the wrong data", 200)
    assert one.duration >= 0


def test_resumed_on_another_host(make, study):
    """With a clock that is an hour behind; then again, an hour ahead."""
    first, _ = live(make(), study)
    first.tell()
    first.end()
    resuming = (
        READING
        + """
with collection.resume_experiment(1) as experiment:
    experiment["resumed"] = experiment.get("resumed", 0) + 1
    experiment.add_record(i=1000)
    assert experiment.state == "running"
    print(json.dumps([one.state for one in collection.experiments]))
"""
    )
    for shift in (-3600, 3600):
        assert make().ask(resuming, study.path, shift) == ["running"]
        assert states(study) == ["finished"]
    assert sorted(each["i"] for each in study.records) == [*range(200), 1000, 1000]
    assert {each["resumed"] for each in study.records} == {2}, "the later edit wins, whatever the clock says"


def test_a_reader_whose_clock_is_an_hour_ahead_takes_it_for_stale_and_harms_nothing(make, study):
    program, _ = live(make(), study)
    ahead = make("ahead", boot=str(uuid.uuid4()))
    assert ahead.ask(STATES, study.path, 3600) == ["stale"]
    harming = (
        READING
        + """
from rigorous_recorder.errors import ClosedError
import warnings
warnings.simplefilter("ignore")
refused = 0
for work in (collection.experiments[0].delete, lambda: collection.resume_experiment(1)):
    try:
        work()
    except ClosedError:
        refused += 1
with collection.new_experiment() as experiment:
    number = experiment.number
print(json.dumps([refused, collection.compact().units, number]))
"""
    )
    assert ahead.ask(harming, study.path, 3600) == [2, 1, 2], "of the two units it compacts its own"
    assert states(study) == ["running", "finished"]
    program.tell()
    program.end()
    assert states(study) == ["finished", "finished"]
    assert len(study[1]) == 200


# ---- one experiment, several hosts -----------------------------------------------------------------------------------

SHRINK = """
from rigorous_recorder.store import full, journal
journal.SIZES = (1 << 16, 1 << 18)
full.SEAL_FROM, full.START_AFTER = 1 << 17, 0.0
journal.Journal.__init__.__kwdefaults__["block_size"] = 4096
"""
BOTH = (
    READING
    + SHRINK
    + """
import os, pickle, select
mine, handed = sys.argv[3:5]
if mine == "begins":
    experiment = keeper = collection.new_experiment(shared=True)
    keeper = experiment.sub_record_keeper(model="m")
    with open(handed + ".part", "wb") as file:
        pickle.dump(keeper, file)
    os.rename(handed + ".part", handed)
else:
    with open(handed, "rb") as file:
        keeper = pickle.load(file)
i = 0
print(json.dumps("ready"), flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(500):
        keeper.add_record(who=mine, i=i)
        i += 1
    time.sleep(0.005)
if mine == "begins":
    experiment.close()
else:
    keeper.sync()
print(json.dumps(i))
"""
)
COMPACTING = (
    READING
    + """
import select, warnings
warnings.simplefilter("error")
units = 0
while not select.select([sys.stdin], [], [], 0.05)[0]:
    units += collection.compact().units
print(json.dumps(units))
"""
)


def seen(study):
    """How many records of each writer there are: each once, in order, from the first on."""
    found = {}
    for each in study.records:
        found.setdefault(each["who"], []).append(each["i"])
    for who, numbers in found.items():
        assert numbers == list(range(len(numbers))), f"of {who} something is missing, or there twice"
    return {who: len(numbers) for who, numbers in found.items()}


@pytest.mark.parametrize("what", ["everything", "another pid namespace", "a machine of the same name"])
def test_two_hosts_record_one_experiment_that_a_third_reads_and_a_fourth_compacts(make, study, tmp_path, what):
    handed = tmp_path / "handed"
    first = make(what).start(BOTH, study.path, 0, "begins", handed)
    assert first.hear() == "ready"
    other_host = make(what)
    second = other_host.start(BOTH, study.path, 1800, "goes on", handed)
    assert second.hear() == "ready"
    compacting = make("compacting", boot=str(uuid.uuid4())).start(COMPACTING, study.path, 0)
    before, rounds = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while rounds < 8 or min(before.values()) < 20_000:
            now = seen(study)
            assert all(now.get(who, 0) >= count for who, count in before.items()), "what was there is gone"
            assert states(study) == ["running"]
            before, rounds = now, rounds + 1
    told = {}
    for who, program in (("goes on", second), ("begins", first)):
        program.tell()
        told[who] = program.hear()
        program.end()
    assert seen(study) == told
    ours = 0
    while units := study.compact().units:
        ours += units
    compacting.tell()
    assert ours + compacting.hear() >= 2, "each writer has one unit at least"
    compacting.end()
    assert seen(study) == told
    assert not list(Path(study.path).glob("0*/*/*")), "all of it is in packs"
    assert states(study) == ["finished"]
    assert len({view.header.writer for view in _headers(study)}) == 2


def _headers(study):
    from rigorous_recorder.store.snapshot import list_collection, open_unit

    for _, units in list_collection(study.path).attempts:
        for place in units:
            yield open_unit(place)


def test_a_worker_on_another_host_that_goes_down_costs_the_experiment_nothing(make, study, tmp_path):
    handed = tmp_path / "handed"
    first = make().start(BOTH, study.path, 0, "begins", handed)
    assert first.hear() == "ready"
    worker = make("worker", boot=str(uuid.uuid4()))
    second = worker.start(BOTH, study.path, 0, "goes on", handed)
    assert second.hear() == "ready"
    until(lambda: seen(study).get("goes on", 0) > 2000, "recording by the worker")
    worker.close()
    left = seen(study)["goes on"]
    assert states(study) == ["running"], "its state is that of who began it"
    first.tell()
    count = first.hear()
    first.end()
    assert seen(study) == {"begins": count, "goes on": left}
    assert states(study) == ["finished"]
    with study.new_experiment() as experiment:
        assert experiment.number == 2


def test_the_hosts_of_these_tests_are_others_to_the_library(make):
    """Or these tests prove nothing."""
    asking = "import json\nfrom rigorous_recorder.store import machine\nprint(json.dumps(machine.here()))"
    ours = tuple(machine.here())
    differing = {
        what: [a == b for a, b in zip(make(what).ask(asking)[:3], ours[:3], strict=True)] for what in DIFFERENCES
    }
    assert differing == {
        "another name": [True, False, True],
        "another boot of the same name": [False, True, True],
        "another pid namespace": [True, True, False],
        "a machine of the same name": [False, True, False],
        "everything": [False, False, False],
    }
