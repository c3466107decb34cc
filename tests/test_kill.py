"""Recorders that are killed at any moment: what was acknowledged is there, whole, and at most one call more per thread."""

import random
import signal
import textwrap
import time

import children
import plan
import pytest
import units
from children import ADDED, BEGUN, CALLS, CLOSED, EDITS, NUMBER

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store.snapshot import list_claims, list_units, open_unit

IN_A_ROW = 12
"""Kills in one collection: all take the same number."""


@pytest.fixture(scope="module")
def server():
    """Forks recorders."""
    server = children.Server()
    yield server
    server.stop()


def check_calls(records, counters):
    """See to it that what was recovered is what was acknowledged and at most one call more per thread, in order."""
    rows = {0: [], 1: []}
    for record in records:
        assert children.right(record), record
        rows[record["thread"]].append((record["call"], record["row"]))
    for thread, found in rows.items():
        assert found == sorted(set(found)), "records are doubled or out of order"
        calls = [call for call, row in found if row == 0]
        assert calls == list(range(len(calls))), "calls are missing in the middle"
        acknowledged = counters[CALLS + thread]
        assert acknowledged <= len(calls) <= acknowledged + 1
        sizes = [0] * len(calls)
        for call, row in found:
            assert row == sizes[call], "a block is incomplete"
            sizes[call] += 1
        assert set(sizes) <= {1, 3, 30}


def kill_many(server, path, mode, shard, **options):
    """Kill so many recorders of a shard, a dozen in each collection."""
    for first in range(0, shard.rounds, IN_A_ROW):
        folder = path / f"{first}"
        folder.mkdir()
        seed = f"{mode} {shard.seed} {first}"
        kill_in_a_row(server, folder, mode, seed, kills=min(IN_A_ROW, shard.rounds - first), **options)


def kill_in_a_row(server, path, mode, seed, *, kills, seal=False, longest=0.03):
    """Kill recorder after recorder of one collection, and check each; at the end one that is not killed."""
    dice = random.Random(seed)
    collection = ExperimentCollection(path / "study", journal=mode)
    for nth in range(1, kills + 1):
        counts = f"{path}/counts{nth}"
        block = dice.choice((4096, 16384) if seal else (512, 1024, 4096))
        child, counters = server.start(
            what="record",
            path=collection.path,
            mode=mode,
            seed=dice.randrange(1 << 30),
            counters=counts,
            block=block,
            seal=seal,
        )
        time.sleep(dice.random() * longest)
        server.kill(child, counts, dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        experiment = collection.experiments[-1]
        assert (experiment.state, experiment.number, experiment.error_number) == ("killed", 1, nth)
        assert experiment.had_error is True
        assert experiment.end_time >= experiment.start_time
        records = experiment.records
        assert len(records) == experiment.n_records
        check_calls(records, counters)
        assert counters[NUMBER] == 1
        assert all(counters[EDITS] <= record["version"] <= counters[EDITS] + 1 for record in records)
    with collection.new_experiment() as experiment:
        assert experiment.number == 1
    assert [one.had_error for one in collection.experiments] == [True] * kills + [False]


@pytest.mark.parametrize(
    "shard", plan.shards("test_acknowledged_records_survive_a_kill", ci=5, long=16, within=2), ids=repr
)
def test_acknowledged_records_survive_a_kill(server, tmp_path, journal, shard, reached):
    kill_many(server, tmp_path, journal, shard)
    reached(shard.rounds)


@pytest.mark.parametrize(
    "shard",
    plan.shards("test_acknowledged_records_survive_a_kill_while_units_are_sealed", ci=1, long=4, within=2),
    ids=repr,
)
def test_acknowledged_records_survive_a_kill_while_units_are_sealed(server, tmp_path, journal, shard, reached):
    kill_many(server, tmp_path, journal, shard, seal=True, longest=1.2)
    reached(shard.rounds)


@pytest.mark.parametrize(
    "shard", plan.shards("test_a_kill_of_who_resumes_loses_nothing", ci=1, long=4, within=2), ids=repr
)
def test_a_kill_of_who_resumes_loses_nothing(server, tmp_path, journal, shard, reached):
    """One attempt that is killed and resumed again and again: all its runs are there, in their order."""
    dice = random.Random(f"{journal} {shard.seed}")
    for first in range(0, shard.rounds, IN_A_ROW):
        collection = ExperimentCollection(tmp_path / f"{first}", journal=journal)
        runs, before = [], 0
        for nth in range(min(IN_A_ROW, shard.rounds - first)):
            counts = f"{tmp_path}/counts{first}-{nth}"
            child, counters = server.start(
                what="record", path=collection.path, mode=journal, seed=dice.randrange(1 << 30), counters=counts,
                block=dice.choice((512, 4096)), seal=False, resume=nth > 0,
            )  # fmt: skip
            time.sleep(dice.random() * 0.02)
            server.kill(child, counts)
            (experiment,) = collection.experiments
            assert (experiment.state, experiment.number, experiment.error_number) == ("killed", 1, 1)
            records = list(experiment.records)
            runs.append((before, len(records), counters))
            before = len(records)
            for start, stop, of_run in runs:
                check_calls(records[start:stop], of_run)
    reached(shard.rounds)


@pytest.mark.parametrize("shard", plan.shards("test_a_kill_of_who_seals_loses_nothing", ci=1, long=4), ids=repr)
def test_a_kill_of_who_seals_loses_nothing(server, tmp_path, shard, reached):
    dice = random.Random(shard.seed)
    rows = [{"i": i, "pad": children.PADS[i % 4]} for i in range(500)]
    between = 0
    for nth in range(shard.rounds):
        folder = tmp_path / f"{nth}"
        folder.mkdir()
        for n in range(1, 13):
            units.write(folder, [(1, row) for row in rows], units.header(n=n))
        counts = f"{tmp_path}/counts{nth}"
        child, counters = server.start(what="seal", path=str(folder), counters=counts, block=65536, seal=False)
        deadline = time.monotonic() + 60
        wait_for, finished = dice.randrange(11), dice.random() * 0.01
        while counters[CLOSED] < wait_for:
            assert time.monotonic() < deadline, "the sealer hangs"
            time.sleep(0.0005)
        time.sleep(finished)
        server.kill(child, counts)
        places, strange = list_units(str(folder))
        assert (len(places), strange) == (12, [])
        assert all(open_unit(place).records() == rows for place in places)
        assert counters[CLOSED] <= sum(place.name.sealed for place in places)
        between += counters[CLOSED] < 12
    assert between
    reached(shard.rounds)


@pytest.mark.parametrize(
    "shard", plan.shards("test_a_kill_while_experiments_are_begun_and_closed", ci=1, long=10, within=2), ids=repr
)
def test_a_kill_while_experiments_are_begun_and_closed(server, tmp_path, journal, shard, reached):
    dice = random.Random(f"{journal} {shard.seed}")
    collection = ExperimentCollection(tmp_path / "study", journal=journal)
    before = 0
    for nth in range(shard.rounds):
        counts = f"{tmp_path}/counts{nth}"
        child, counters = server.start(
            what="close", path=collection.path, mode=journal, counters=counts, block=512, seal=False
        )
        time.sleep(dice.random() * 0.06)
        server.kill(child, counts)
        experiments = list(collection.experiments)[before:]
        # an experiment in the making that has no begin entry yet is nobody's
        experiments = [one for one in experiments if one.start_time is not None]
        assert counters[BEGUN] <= len(experiments) <= counters[BEGUN] + 1
        for place, experiment in enumerate(experiments):
            assert all(map(children.right, experiment.records))
            assert [record["call"] for record in experiment.records] == list(range(experiment.n_records))
            if place < counters[CLOSED]:
                assert (experiment.state, experiment.n_records) == ("finished", 20)
            else:
                assert experiment.state in ("killed", "finished")
        if experiments and counters[BEGUN] == len(experiments):
            assert experiments[-1].n_records - counters[ADDED] in (0, 1)
        before = len(collection.experiments)
    # who is killed between claiming a number and beginning leaves a number without an experiment
    numbers = sorted({claim.number for claim in list_claims(collection.path)})
    assert numbers == list(range(1, len(numbers) + 1))
    reached(shard.rounds)


# ---- other ways to end ----------------------------------------------------------------------------------------------

ENDINGS = {
    "os._exit(3)": (3, "killed"),
    "os.abort()": (-signal.SIGABRT, "killed"),
    "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)": (-signal.SIGTERM, "killed"),
    "os.kill(os.getpid(), signal.SIGSEGV); time.sleep(30)": (-signal.SIGSEGV, "killed"),
    "raise ValueError('wrong')": (1, "failed"),
    "raise KeyboardInterrupt": (-signal.SIGINT, "interrupted"),
    "sys.exit(0)": (0, "finished"),
    "sys.exit()": (0, "finished"),
    "sys.exit(2)": (2, "failed"),
    "sys.exit('a reason')": (1, "failed"),
    "raise BaseException('rare')": (1, "failed"),
    "pass": (0, "finished"),
}

BODY = """
import os, signal, sys, time
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
with collection.new_experiment(a=1) as experiment:
    for i in range(1000):
        experiment.add_record(i=i)
    {ending}
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_other_end(collection, journal, ending):
    code, state = ENDINGS[ending]
    for number in (1, 2):
        ended = children.run(BODY.format(ending=ending), collection.path, journal)
        assert ended.returncode == code, ended.stderr
        experiment = collection.experiments[-1]
        assert experiment.state == state
        assert [record["i"] for record in experiment.records] == list(range(1000))
        again = state in ("killed", "failed", "interrupted")
        assert (experiment.number, experiment.error_number) == ((1, number) if again else (number, 0))
        if state == "failed":
            assert experiment.error.split(":")[0] in (ending if "raise" in ending else "SystemExit")
            assert "rigorous_recorder" not in ended.stderr, "the traceback is not the user's own"


@pytest.mark.parametrize("thread", [False, True])
def test_an_experiment_open_at_interpreter_exit_has_failed(collection, journal, thread):
    code = textwrap.dedent("""
        import sys, threading
        from rigorous_recorder import ExperimentCollection
        first = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment()
        second = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment()
        def work(experiment):
            for i in range(5000):
                experiment.add_record(i=i)
        for experiment in (first, second):
            if sys.argv[3] == "True":
                threading.Thread(target=work, args=[experiment]).start()
            else:
                work(experiment)
    """)
    ended = children.run(code, collection.path, journal, thread)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [(one.number, one.state, one.error, one.n_records) for one in collection.experiments] == [
        (1, "failed", "never closed", 5000),
        (2, "failed", "never closed", 5000),
    ]


def test_daemon_threads_that_record_at_interpreter_exit_do_no_harm(collection, journal):
    code = textwrap.dedent("""
        import sys, threading, time
        from rigorous_recorder import ExperimentCollection
        experiment = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment()
        def work():
            i = 0
            while True:
                experiment.add_record(i=i)
                i += 1
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
    """)
    ended = children.run(code, collection.path, journal)
    assert ended.returncode == 0, ended.stderr
    (experiment,) = collection.experiments
    assert experiment.state == "failed"
    assert [record["i"] for record in experiment.records] == list(range(experiment.n_records))
