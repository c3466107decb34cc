"""Compactors, sealers, writers and readers at once, and compactors that are really killed: every record is read once."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import children
import plan
import pytest
import studies

from rigorous_recorder import ExperimentCollection

COMMON = """
import json, os, random, sys, time, warnings
warnings.simplefilter("error")
from pathlib import Path
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import compact as compacting, files, pack, taking
path, stop, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
compacting.TARGET = 40_000
rounds = 0
def going():
    return not stop.exists()
"""
WRITER = (
    COMMON
    + """
sys.executable = ""
collection = ExperimentCollection(path, journal=dice.choice(["mmap", "write"]), retries="never")
done = Path(path + f".done{seed}")
record = 0
while going():
    own = [one.number for one in collection.experiments if one.info.get("seed") == seed]
    again = own and dice.random() < 0.4
    with collection.resume_experiment(dice.choice(own)) if again else collection.new_experiment(seed=seed) as experiment:
        for _ in range(dice.choice((1, 5, 30))):
            experiment.add_record(id=f"{seed}-{record}", value=record if dice.random() < 0.9 else 0.5)
            record += 1
    if dice.random() < 0.3:
        collection.keeper(experiment_number=experiment.number).update(edits=record)
    done.with_suffix(f".new{seed}").write_text(str(record))
    os.replace(done.with_suffix(f".new{seed}"), done)
    rounds += 1
    time.sleep(0.02)
"""
)
COMPACTOR = (
    COMMON
    + """
wanted = int(sys.argv[4])
while rounds < wanted and going():
    report = compacting.compact(path, grace=0)
    assert set(report.left) <= {compacting.RUNNING_STILL, taking.OPEN}, report
    rounds += 1
"""
)
SEALER = (
    COMMON
    + """
while going():
    try:
        logs = sorted(Path(path).glob("0*/*/*.log"))
    except FileNotFoundError:  # raised by glob itself: a compaction removed a folder at which it was looking
        continue
    for log in logs:
        try:
            if dice.random() < 0.2 and taking.is_cut(data := files.read_all(str(log)), pack.Decoded(data).header):
                pack.seal(str(log))
                rounds += 1
        except FileNotFoundError:
            pass
    time.sleep(0.01)
"""
)
READER = (
    COMMON
    + """
before = set()
while going():
    acknowledged = {done.suffix[5:]: int(done.read_text()) for done in Path(path).parent.glob("*.done?")}
    if len(acknowledged) < 2:
        continue
    collection = ExperimentCollection(path)
    kind = dice.randrange(4)
    if kind == 0:
        ids = [each["id"] for each in collection.records]
    elif kind == 1:
        ids = collection.to_polars()["id"].to_list()
    elif kind == 2:
        scan = collection.scan().select("id", "experiment_number")
        time.sleep(0.05)
        ids = scan.collect()["id"].to_list()
    else:
        records = collection.records
        time.sleep(0.05)
        ids = [records[place]["id"] for place in range(0, len(records), 1)][::-1]
    assert len(set(ids)) == len(ids), ("twice", kind)
    found = set(ids)
    for writer, count in acknowledged.items():
        missing = {f"{writer}-{n}" for n in range(count)} - found
        assert not missing, (kind, sorted(missing))
    assert before <= found, kind
    before = found
    rounds += 1
"""
)
END = "\nprint(json.dumps([rounds, seed]))\n"


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code + END, *map(str, arguments)],
        env=children.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes, seconds):
    """The answers of processes; what one of them complains of is raised here."""
    ended = []
    for process in processes:
        try:
            ended.append((process.communicate(timeout=seconds), process.returncode))
        except subprocess.TimeoutExpired:
            process.kill()
            ended.append((process.communicate(), "hangs"))
    for (_, errors), code in ended:
        assert code == 0, f"{code}\n{errors[-3000:]}"
    return [json.loads(out)[0] for (out, _), _ in ended]


@pytest.mark.parametrize(
    "shard",
    plan.shards("test_compactors_sealers_writers_and_readers_at_once", ci=1, long=10, within=2),
)
def test_compactors_sealers_writers_and_readers_at_once(tmp_path, shard, reached):
    """Two compactors of so many rounds each."""
    rounds = shard.rounds
    path, stop = tmp_path / "study", tmp_path / "stop"
    ExperimentCollection(path).new_experiment().close()
    writers = [start(WRITER, path, stop, seed) for seed in (1, 2)]
    sealers = [start(SEALER, path, stop, 3)]
    readers = [start(READER, path, stop, seed) for seed in (4, 5, 6, 7)]
    compactors = [start(COMPACTOR, path, stop, seed, rounds) for seed in (8, 9)]
    others = writers + sealers + readers
    while any(one.poll() is None for one in compactors) and all(one.poll() is None for one in others):
        time.sleep(0.05)
    stop.touch()
    answers = finish(others + compactors, 60)
    assert answers[-2:] == [rounds, rounds]
    assert all(answers)
    collection = ExperimentCollection(path)
    ids = [each["id"] for each in collection.records]
    assert len(set(ids)) == len(ids) == sum(int((tmp_path / f"study.done{seed}").read_text()) for seed in (1, 2))
    before = studies.facts(path)
    assert studies.at_once(path).left == {}
    studies.at_once(path)
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert not list(path.glob("0*/*"))
    reached(2 * rounds)


KILLED = (
    COMMON
    + """
while True:
    compacting.compact(path, grace=0)
    for n in range(3):
        with ExperimentCollection(path, journal="write", retries="never").new_experiment(n=n) as experiment:
            experiment.add_record(id=f"{seed}-{rounds}-{n}")
    rounds += 1
    print(rounds, flush=True)
"""
)


@pytest.mark.parametrize("shard", plan.shards("test_compactors_that_are_killed", ci=1, long=10))
def test_compactors_that_are_killed(tmp_path, shard, reached):
    """By SIGKILL at random moments, two at a time: what was recorded is there, once, and a compaction cleans up."""
    path = tmp_path / "study"
    ExperimentCollection(path).new_experiment().close()
    dice, expected = random.Random(shard.seed), set()
    for kill in range(shard.rounds):
        pair = [start(KILLED, path, tmp_path / "stop", 2 * kill + one) for one in range(2)]
        for one in pair:
            os.set_blocking(one.stdout.fileno(), True)
            assert one.stdout.readline() == "1\n", one.stderr.read()
        time.sleep(dice.random() * 0.3)
        for one in pair:
            one.send_signal(signal.SIGKILL)
        for place, one in enumerate(pair):
            rounds = 1 + len(one.communicate(timeout=30)[0].split())
            expected |= {f"{2 * kill + place}-{at}-{n}" for at in range(rounds) for n in range(3)}
        ids = [each["id"] for each in ExperimentCollection(path).records]
        assert len(ids) == len(set(ids))
        assert expected <= set(ids)
    before = studies.facts(path)
    studies.at_once(path)
    studies.at_once(path)
    assert studies.same_facts(studies.quiet_facts(path), before)
    assert [file for file in studies.inventory(path) if ".tmp-" not in file and not file.startswith("packs/")] == [
        "format"
    ]
    reached(shard.rounds)
