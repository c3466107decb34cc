"""Edits of level data through `keepers` and `keeper`: by any process, at any time, merged in any order of copying."""

import itertools
import shutil
import threading
from pathlib import Path

import pytest
from programs import run, run_killed, wait_until_sealed

from rigorous_recorder import Experiment, ExperimentCollection, RecorderError

EDITING = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
"""


def record(collection, *models, **info):
    """Record one experiment with a record below each model."""
    with collection.new_experiment(info) as experiment:
        for model in models:
            experiment.sub_record_keeper(model=model).sub_record_keeper(training=True).add_record(x=1)
    return experiment


def edit(collection, statement):
    """Edit in another process."""
    run(EDITING + statement, collection.path)


def test_keepers_are_the_topmost_levels_at_which_all_conditions_hold(collection):
    record(collection, "m1", "m2", lr=1)
    record(collection, "m1", lr=2)
    assert [keeper.lineage for keeper in collection.keepers()] == [
        "experiment_number=1,lr=1",
        "experiment_number=2,lr=2",
    ]
    assert [keeper.lineage for keeper in collection.keepers(model="m1")] == [
        "experiment_number=1,lr=1/model=m1",
        "experiment_number=2,lr=2/model=m1",
    ]
    (both,) = collection.keepers(lr=1, training=True, model="m2")
    assert both.lineage == "experiment_number=1,lr=1/model=m2/training=true"
    assert dict(both.data) == {"training": True}
    assert collection.keepers(lr=3) == ()
    assert isinstance(collection.keepers(lr=1)[0], Experiment)
    assert collection.keeper(lr=2).number == 2
    assert collection.keeper(lr=2, training=True).parent["model"] == "m1"
    assert isinstance(collection.keeper(lr=2, model="m1").parent, Experiment)
    assert collection.under(lr=2).keeper(model="m1").lineage == "experiment_number=2,lr=2/model=m1"
    assert collection.keeper(collection.keepers(lr=1)[0].lineage).number == 1


def test_keeper_is_exactly_one(collection):
    record(collection, "m1", "m2", lr=1)
    with pytest.raises(KeyError, match=r"2 keepers have training=True: .*model=m1/.*; .*model=m2/.*Hint") as caught:
        collection.keeper(training=True)
    assert isinstance(caught.value, RecorderError)
    with pytest.raises(KeyError, match=r"No keeper has model='m3'"):
        collection.keeper(model="m3")
    assert collection.keeper().number == 1
    record(collection, *(f"m{number}" for number in range(10)), lr=3)
    with pytest.raises(KeyError, match=r"^2 keepers are there: "):
        collection.keeper()
    with pytest.raises(KeyError, match="and 7 more"):
        collection.keeper(training=True)


def test_an_edit_of_what_is_closed(collection):
    record(collection, "resnet18", lr=1)
    keeper = collection.keeper(experiment_number=1, model="resnet18")
    keeper.update(model="resnet50")
    keeper["note"] = "mislabelled"
    collection.experiments[0]["lr"] = 0.5
    del collection.keeper(training=True)["training"]
    (one,) = ExperimentCollection(collection.path).records
    assert (one["model"], one["note"], one["lr"], one["training"]) == ("resnet50", "mislabelled", 0.5, None)
    assert keeper["model"] == "resnet50"
    assert collection.experiments[0].info == {"lr": 0.5}
    assert collection.experiments[0].state == "finished"
    with pytest.raises(RuntimeError, match="resume_experiment"):
        keeper.add_record(x=2)
    with pytest.raises(RuntimeError, match="resume_experiment"):
        keeper.sub_record_keeper(x=2)
    with pytest.raises(ValueError, match="had_error"):
        keeper["had_error"] = True


def test_a_live_keeper_can_be_edited_after_its_end(collection):
    experiment = record(collection, "m1")
    child = experiment.children[0]
    child["model"] = "m2"
    experiment["note"] = 1
    (one,) = collection.records
    assert (one["model"], one["note"]) == ("m2", 1)


def test_a_live_keeper_shows_its_own_and_readers_see_everybodys(collection):
    with collection.new_experiment(lr=1) as experiment:
        keeper = experiment.sub_record_keeper(model="m1")
        keeper.add_record(x=1)
        edit(collection, "collection.keeper(model='m1').update(model='theirs', note='n')")
        assert keeper["model"] == "m1"
        keeper.add_record(x=2)
        assert [(each["model"], each["note"]) for each in collection] == [("theirs", "n")] * 2
        assert [(each["model"], each["note"]) for each in keeper.records] == [("theirs", "n")] * 2


def test_an_edit_made_after_reading_another_wins(collection):
    held = record(collection, "m1").children[0]
    edit(collection, "collection.keeper(model='m1').update(model='b')")
    edit(collection, "collection.keeper(model='b').update(model='c', note='theirs')")
    assert collection.records[0]["model"] == "c"
    keeper = collection.keeper(model="c")
    assert (keeper["model"], keeper["note"]) == ("c", "theirs")
    keeper["model"] = "mine"
    del keeper["note"]
    one = collection.records[0]
    assert (one["model"], "note" in one) == ("mine", False)
    assert held.data.keys() == {"model"}


def test_a_keeper_that_is_asked_for_again_is_up_to_date(collection):
    record(collection, "m1")
    first = collection.keeper(model="m1")
    edit(collection, "collection.keeper(model='m1').update(model='b')")
    assert collection.keeper(model="b")["model"] == "b"
    collection.keeper(model="b").update(model="c")
    assert collection.records[0]["model"] == "c"
    assert first.records[0]["model"] == "c"


def test_edits_of_one_key_by_several_processes_at_once(collection):
    record(collection, "m1", "m2")
    statement = """
for number in range(10):
    for keeper in collection.keepers(training=True):
        keeper[sys.argv[2]] = number
        keeper["last"] = sys.argv[2]
"""
    names = ["p", "q", "r"]
    threads = [threading.Thread(target=run, args=(EDITING + statement, collection.path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in collection:
        assert [one[name] for name in names] == [9, 9, 9]
        assert one["last"] in names
    for keeper in collection.keepers(training=True):
        keeper["last"] = "mine"
    assert [each["last"] for each in collection] == ["mine"] * 2


def test_an_edit_is_safe_from_a_kill(collection):
    record(collection, "m1")
    run_killed(EDITING + "collection.keeper(model='m1').update(model='m2')", collection.path)
    assert collection.records[0]["model"] == "m2"


def test_edits_are_merged_in_any_order_of_copying(tmp_path):
    """Four copies of a study are edited apart, then put together in every order: the same comes out each time."""
    source = ExperimentCollection(tmp_path / "source")
    record(source, "m1", lr=1)
    source.keeper(model="m1")["v"] = "first"
    copies = []
    for name in "abc":
        shutil.copytree(source.path, tmp_path / name)
        copies.append(tmp_path / name)
    edit(ExperimentCollection(copies[0]), "collection.keeper(model='m1').update(v='a', only_a=1)")
    edit(
        ExperimentCollection(copies[1]),
        "collection.keeper(model='m1').update(v='b1'); collection.keeper(v='b1').update(v='b2')",
    )
    edit(ExperimentCollection(copies[2]), "del collection.keeper(model='m1')['v']; collection.experiments[0]['lr'] = 2")
    edit(ExperimentCollection(copies[2]), "collection.experiments[0].close(error='found later')")
    results = []
    for order in itertools.permutations(copies):
        target = tmp_path / ("merged" + "".join(path.name for path in order))
        for path in order:
            shutil.copytree(path, target, dirs_exist_ok=True)
        merged = ExperimentCollection(target)
        results.append((list(merged), [repr(one) for one in merged.experiments], merged.experiments[0].error))
    assert all(result == results[0] for result in results)
    (one,) = results[0][0]
    assert (one["v"], one["only_a"], one["lr"], one["had_error"]) == ("b2", 1, 2, True), "the highest version wins"


def test_edits_outlive_sealing_and_resuming(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment(lr=1) as experiment:
        keeper = experiment.sub_record_keeper(model="m1")
        for number in range(40_000):
            keeper.add_record(x=number, pad="p" * 30)
        keeper["model"] = "m2"
        keeper.add_records(x=range(100_000))
    wait_until_sealed()
    assert list(Path(collection.path).rglob("*.parquet")), "close() has what is large sealed"
    collection.keeper(model="m2").update(model="m3")
    del experiment, keeper
    with collection.resume_experiment() as experiment:
        assert experiment.children[0]["model"] == "m3"
        experiment.children[0].add_record(x=-1)
        experiment.children[0]["model"] = "m4"
    collection.experiments[0]["lr"] = 2
    records = collection.records
    assert (len(records), len(collection.under(model="m4", lr=2))) == (140_001, 140_001)
    assert [records[row]["model"] for row in (0, 39_999, 40_000, -1)] == ["m4"] * 4


def test_many_experiments_are_edited_in_one_go(tmp_path):
    """Files are not held open for what was edited."""
    code = """
import resource, sys
from rigorous_recorder import ExperimentCollection
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
collection = ExperimentCollection(sys.argv[1])
for number in range(80):
    with collection.new_experiment(number=number) as experiment:
        experiment.add_record(x=1)
for keeper in collection.keepers():
    keeper["note"] = "corrected"
assert [each["note"] for each in collection] == ["corrected"] * 80
"""
    run(code, tmp_path / "study")


def test_threads_edit_closed_experiments_at_once(collection):
    for number in range(4):
        record(collection, "m", number=number)

    def work(number):
        keeper = collection.keeper(number=number)
        try:
            for value in range(25):
                keeper["v"] = value
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    errors = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [each["v"] for each in collection] == [24] * 4


def test_the_last_edit_wins_whichever_handle_it_comes_from(collection):
    """Several objects stand for one level: the experiment itself, and those that reading gave, which may be old."""
    experiment = collection.new_experiment(lr=1)
    experiment.add_record(x=1)
    handle = collection.experiments[-1]
    handle["note"] = "one"
    handle["note"] = "two"
    assert experiment.get("note") == "two", "a live keeper shows what its own process did"
    experiment["note"] = "three"
    assert collection.records[0]["note"] == experiment["note"] == "three"
    handle["note"] = "four"
    assert collection.records[0]["note"] == experiment["note"] == "four"
    experiment.close()
    first, second = collection.keeper(experiment_number=1), collection.keeper(experiment_number=1)
    first["note"] = "five"
    first["note"] = "six"
    second["note"] = "seven"
    assert collection.records[0]["note"] == second["note"] == "seven"
    run(
        "import sys; from rigorous_recorder import ExperimentCollection as C; k = C(sys.argv[1]).keeper(experiment_number=1)\n"
        "for n in range(5): k['note'] = n",
        collection.path,
    )
    del second["note"]
    assert "note" not in collection.records[0]
    first.update(note="eight")
    assert collection.records[0]["note"] == "eight"
