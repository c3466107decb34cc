"""Copies of a collection: made while it is written, merged, copied again; each is its own, together they are the union."""

import itertools
import random
import shutil
import subprocess
import time
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

import children
import plan
import pytest
import second_reader

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.store import compact as compacting
from rigorous_recorder.store import pack

WRITER = """
import random, sys, time
from pathlib import Path
from rigorous_recorder import ExperimentCollection
import children
path, mode, seed, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
children.shrink(1024)
collection = ExperimentCollection(path, journal=mode, sync_interval=0.02)
dice = random.Random(seed)
call = 0
while not stop.exists():
    with collection.new_experiment(host=seed, version=0) as experiment:
        keeper = experiment.sub_record_keeper(name="k0")
        for _ in range(dice.randrange(1, 300)):
            keeper.add_record(children.make(seed, call, 0, "k0", dice.choice(children.PADS)))
            call += 1
            if dice.random() < 0.05:
                experiment["version"] = call
                time.sleep(0.002)
print(call)
"""


def copy(source, target):
    """As `cp -r`: what goes away meanwhile, since it is sealed, is not copied this time. Whether all was copied."""
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except shutil.Error as error:
        assert all("No such file" in why for *_, why in error.args[0]), error  # noqa: PT017
        return False
    return True


def of(collection):
    """The records of a collection, counted, whatever is their order."""
    return Counter((each["thread"], each["call"], each["version"]) for each in collection.records)


@pytest.mark.parametrize(
    "shard",
    plan.shards("test_copies_made_while_it_is_written_merge_to_the_union", ci=1, long=13, within=2),
    ids=repr,
)
def test_copies_made_while_it_is_written_merge_to_the_union(tmp_path, journal, shard, reached):
    """Two machines record at once, under equal numbers; their folders are copied into one again and again."""
    dice = random.Random(f"{journal} {shard.seed}")
    stop, merged = tmp_path / "stop", tmp_path / "merged"
    sources = [tmp_path / "host1", tmp_path / "host2"]
    environment = {**children.ENVIRONMENT, "PYTHONPATH": f"{children.ROOT}:{children.ROOT}/tests"}
    writers = [
        subprocess.Popen(
            [children.PYTHON, "-c", WRITER, source, journal, str(seed), stop],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        for seed, source in enumerate(sources)
    ]  # fmt: skip
    try:
        while not all((source / "format").exists() for source in sources):
            assert all(writer.poll() is None for writer in writers)
        before = 0
        for nth in range(shard.rounds):
            source = dice.choice(sources)
            if nth % 5 == 4:  # by way of another copy
                copy(source, tmp_path / f"copy{nth}")
                source = tmp_path / f"copy{nth}"
            copy(source, merged)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamageWarning)  # a file that is copied while it grows may end anywhere
                found = list(ExperimentCollection(merged).records)
            assert len(found) >= before, "what was there is not there any more"
            assert all(each["host"] == each["thread"] for each in found if children.right(each))
            before = len(found)
    finally:
        stop.touch()
        counts = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    for source in dice.sample(sources, 2):
        while not copy(source, merged):  # the program waits for its helper, but not for ever
            time.sleep(0.1)
    whole = ExperimentCollection(merged)
    assert all(map(children.right, whole.records))
    assert of(whole) == sum((of(ExperimentCollection(source)) for source in sources), Counter())
    assert sorted((thread, call) for thread, call, _ in of(whole)) == [
        (thread, call) for thread, count in enumerate(counts) for call in range(count)
    ]
    assert {one.state for one in whole.experiments} == {"finished"}
    reached(shard.rounds)


def test_copies_edited_apart_are_merged_in_any_order(tmp_path, journal):
    source = ExperimentCollection(tmp_path / "source", journal=journal)
    with source.new_experiment(lr=1) as experiment:
        experiment.sub_record_keeper(model="m").add_record(x=1)
    copies = []
    for name in "abc":
        copy(source.path, tmp_path / name)
        copies.append(ExperimentCollection(tmp_path / name, journal=journal))
        copies[-1].keeper(model="m").update(v=name, **{name: True})
        copies[-1].experiments[0].update(lr=name)
    assert [one.records[0]["v"] for one in copies] == ["a", "b", "c"]
    assert source.records[0]["v"] is None
    results = []
    for order in itertools.permutations(copies):
        target = tmp_path / "".join(Path(one.path).name for one in order)
        for one in order:
            copy(one.path, target)
        results.append([dict(each) for each in ExperimentCollection(target).records])
    assert all(result == results[0] for result in results)
    assert [results[0][0][name] for name in "abc"] == [True] * 3


def test_a_copy_that_is_open_beside_its_original_is_another_collection(tmp_path, journal):
    """Both have attempts of the same ids: what is read and edited is that of the folder that was asked for."""
    first = ExperimentCollection(tmp_path / "first", journal=journal)
    with first.new_experiment(v=0) as experiment:
        experiment.add_record(x=1)
        experiment.sync()
        copy(first.path, tmp_path / "second")
        second = ExperimentCollection(tmp_path / "second", journal=journal)
        experiment.add_record(x=2)
        assert [each["x"] for each in second.experiments[0].records] == [1]
        assert second.open_experiments == ()
    held = [one.experiments[0] for one in (first, second)]
    held[1].update(v=2)
    assert [each["v"] for each in first.records] == [0, 0]
    assert [each["v"] for each in second.records] == [2]
    assert [each["x"] for each in held[1].records] == [1]


@pytest.mark.parametrize("first", ["sealed", "compacted", "both"])
@pytest.mark.parametrize("then", ["a log", "sealed", "compacted"])
@pytest.mark.parametrize("more", [True, False], ids=["records", "only its end"])
def test_a_copy_that_was_packed_before_the_unit_was_full_hides_nothing(tmp_path, journal, first, then, more):
    """The machine that has the copy settles it and packs it; then the whole comes, as a log or packed as well."""
    path, early = tmp_path / "study", tmp_path / "early"
    collection = ExperimentCollection(path, journal=journal)
    experiment = collection.new_experiment(a=1)
    experiment.add_records(n=range(5))
    experiment.sync()
    shutil.copytree(path, early)
    (log,) = early.rglob("*.log")
    if first != "compacted":
        copied = tmp_path / "log"
        shutil.copyfile(log, copied)
        assert pack.seal(str(log))
        if first == "both":
            shutil.copyfile(copied, log)
    if first != "sealed":
        with mock.patch.object(compacting, "read_course", return_value=None):  # it is known to be dead there
            compacting.compact(str(early), grace=0)
    if more:
        experiment.add_record(n=5)
    experiment.close()
    if then == "sealed":
        assert pack.seal(str(next(path.rglob("*.log"))))
    elif then == "compacted":
        compacting.compact(str(path), grace=0)
    for file in early.rglob("*.*"):
        target = path / file.relative_to(early)
        if file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    whole = list(range(6 if more else 5))

    def check():
        merged = ExperimentCollection(path)
        assert [record["n"] for record in merged.records] == whole
        assert merged.to_polars()["n"].to_list() == whole
        assert merged.experiments[0].state == "finished"
        assert [record["n"] for record in second_reader.read(path)] == whole

    check()
    for _ in range(3):
        report = compacting.compact(str(path), grace=0)
        check()
    assert report.packs == 0, "it comes to rest"
