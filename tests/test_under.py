"""`under`: what each kind of wanted value picks, at which level, in which attempts, and what a wrong key says."""

import datetime as dt
import math
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from flat import OLD_POLARS
from programs import run, stable

from rigorous_recorder import CollectionView, RecorderError, RecorderWarning, RecordKeeper


@pytest.fixture
def study(collection):
    return recorded(collection)


def recorded(collection):
    """Two experiments with models in training and testing, and numbered records."""
    number = 0
    for lr in (0.1, 1):
        with collection.new_experiment(lr=lr, flag=lr == 1, name=f"run {lr}") as experiment:
            for model in ("m1", "m2"):
                keeper = experiment.sub_record_keeper(model=model, size=(1, 2), when=dt.date(2026, 1, 2), none=None)
                for key in ("training", "testing"):
                    branch = keeper.sub_record_keeper({key: True})
                    branch.add_record(n=number, loss=0.5)
                    branch.add_record(n=number + 1, lr="overridden", model="own")
                    number += 2
            experiment.add_record(n=number)
            number += 1
    return collection


FIRST, SECOND = set(range(9)), set(range(9, 18))
ALL = FIRST | SECOND
M1 = {0, 1, 2, 3, 9, 10, 11, 12}
M2 = {4, 5, 6, 7, 13, 14, 15, 16}
TRAINING = {0, 1, 4, 5, 9, 10, 13, 14}
NONE = set()


def ns(records):
    """The numbers of the records."""
    numbers = [each["n"] for each in records]
    assert numbers == sorted(numbers), "order stays"
    return set(numbers)


WANTED = [
    ({"lr": 0.1}, FIRST),
    ({"lr": 1}, SECOND),
    ({"lr": 1.0}, SECOND),
    ({"lr": np.float64(0.1)}, FIRST),
    ({"lr": np.int8(1)}, SECOND),
    ({"lr": True}, NONE),
    ({"lr": "1"}, NONE),
    ({"flag": True}, SECOND),
    ({"flag": np.bool_(True)}, SECOND),
    ({"flag": 1}, NONE),
    ({"flag": "true"}, NONE),
    ({"flag": False}, FIRST),
    ({"flag": 0}, NONE),
    ({"model": "m1"}, M1),
    ({"model": "M1"}, NONE),
    ({"model": b"m1"}, NONE),
    ({"model": ["m1", "m2"]}, M1 | M2),
    ({"model": {"m2", "m3"}}, M2),
    ({"model": frozenset({"m2"})}, M2),
    ({"model": np.array(["m2", "m3"])}, M2),
    ({"model": pd.Series(["m2"])}, M2),
    ({"model": pl.Series(["m2"])}, M2),
    ({"model": ("m2",)}, M2),
    ({"model": []}, NONE),
    ({"model": ["m1", None]}, M1 | {8, 17}),
    ({"lr": range(1, 3)}, SECOND),
    ({"lr": np.array([0.1, 7])}, FIRST),
    ({"lr": np.array(0.1)}, FIRST),
    ({"model": None}, {8, 17}),
    ({"model": [None]}, {8, 17}),
    ({"never": None}, ALL),
    ({"never": [None]}, ALL),
    ({"never": [None, 3]}, ALL),
    ({"none": None}, {8, 17}),
    ({"training": None}, ALL - TRAINING),
    ({"model": lambda model: model.endswith("2")}, M2),
    ({"lr": lambda lr: lr < 1}, FIRST),
    ({"lr": math.isnan}, NONE),
    ({"size": [(1, 2)]}, M1 | M2),
    ({"size": (1, 2)}, M1 | M2),
    ({"size": (1, 3)}, NONE),
    ({"model": {"a": "m1", "b": "m3"}.values()}, M1),
    ({"model": {"m2": 1}.keys()}, M2),
    ({"size": [[1, 2]]}, NONE),
    ({"when": dt.date(2026, 1, 2)}, M1 | M2),
    ({"when": dt.date(2026, 1, 3)}, NONE),
    ({"model": "m1", "training": True}, M1 & TRAINING),
    ({"training": True, "lr": 1}, TRAINING & SECOND),
    ({"training": True, "testing": True}, NONE),
    ({"experiment_number": 1}, FIRST),
    ({"experiment_number": [1, 2, 7]}, ALL),
    ({"experiment_number": "1"}, NONE),
    ({"had_error": False}, ALL),
    ({"had_error": True}, NONE),
    ({"had_error": 0}, NONE),
    ({"error_number": 0}, ALL),
    ({"experiment_duration": lambda seconds: seconds >= 0}, ALL),
    ({"experiment_start_time": None}, NONE),
    ({}, ALL),
]
"""What `under` may be asked for, and the numbers of the records that it picks out of the study."""


@pytest.mark.parametrize(("wanted", "expected"), WANTED, ids=stable)
def test_what_is_picked(study, wanted, expected):
    view = study.under(**wanted)
    assert isinstance(view, CollectionView)
    assert ns(view) == ns(view.records) == expected
    assert len(view) == len(view.records) == len(expected)
    assert {one.number for one in view.experiments} == set(view.experiment_numbers)
    assert set(view.experiment_numbers) == {1 for n in expected & FIRST} | {2 for n in expected & SECOND}
    if expected:
        middle = len(expected) // 2
        assert view.records[middle]["n"] == sorted(expected)[middle]
        assert [each["n"] for each in view.records[1:]] == sorted(expected)[1:]


def test_views_chain(study):
    view = study.under(model="m1").under(training=True).under(lr=[0.1])
    assert ns(view) == {0, 1}
    assert ns(view.under(lr=1)) == NONE
    assert ns(study.under(lr=0.1).under("experiment_number=1,lr=0.1,flag=false,name=run 0.1", model="m2")) == {
        4,
        5,
        6,
        7,
    }
    assert view.path == study.path
    assert view
    assert ns(study.under(model="m1")[2]) == M1 & SECOND
    assert ns(study.under(lr=0.1)[-1]) == FIRST
    assert "lr=[0.1]" in repr(view)
    for missing in ("new_experiment", "add_notes", "resume_experiment"):
        assert not hasattr(view, missing)


def test_a_branch_is_a_keeper_or_its_lineage(study):
    for keeper in (*study.keepers(), *study.keepers(model="m1"), *study.keepers(training=True)):
        expected = ns(keeper)
        assert ns(study.under(keeper)) == expected
        assert ns(study.under(keeper.lineage)) == expected
    assert ns(study.under(study.experiments[0])) == FIRST
    assert ns(study.under(study.keeper(lr=0.1), training=True)) == FIRST & TRAINING
    assert ns(study.under("experiment_number=1")) == NONE, "a lineage is the whole text of its levels"
    for wrong in (3, ["a"], {"a": 1}):
        with pytest.raises(TypeError, match=r"keeper or the text.*Hint"):
            study.under(wrong)


def test_a_branch_by_its_lineage_also_with_notes(study):
    lineages = [keeper.lineage for keeper in study.keepers(training=True)]
    study.add_notes(gpu="A100")
    fresh = [keeper.lineage for keeper in study.keepers(training=True)]
    for lineage, keeper in zip(fresh, study.keepers(training=True), strict=True):
        assert ns(study.under(lineage)) == ns(study.under(keeper)) == ns(keeper) != NONE
    assert len(lineages) == len(fresh) == 4
    assert ns(study.under(gpu="A100")) == ALL
    assert ns(study.under(gpu=None)) == NONE
    assert study.keepers(training=True)[0]["gpu"] == "A100"
    assert study.keepers(training=True)[0].merged["gpu"] == "A100"
    assert "gpu" in study.experiments[0]


def test_keepers_in_memory_and_of_other_collections_pick_nothing(study, tmp_path):
    other = type(study)(tmp_path / "other")
    with other.new_experiment(lr=0.1) as experiment:
        assert ns(study.under(experiment)) == NONE
        assert ns(study.under(RecordKeeper(lr=0.1))) == NONE


def test_equal_siblings_are_told_apart_by_keeper_and_not_by_lineage(collection):
    with collection.new_experiment() as experiment:
        twins = [experiment.sub_record_keeper(model="m") for _ in range(2)]
        for number, twin in enumerate(twins):
            twin.add_record(n=number)
    assert [ns(collection.under(twin)) for twin in twins] == [{0}, {1}]
    assert ns(collection.under(twins[0].lineage)) == {0, 1}


def test_the_lineage_of_a_level_is_no_prefix_of_a_longer_name(collection):
    with collection.new_experiment() as experiment:
        for number, model in enumerate(("m", "m1", "m/x", "m,x=1", "%", "")):
            experiment.sub_record_keeper(model=model).sub_record_keeper(deep=1).add_record(n=number)
        keepers = experiment.children
    assert [ns(collection.under(keeper.lineage)) for keeper in keepers] == [{number} for number in range(6)]


def test_attempts_are_a_key(collection):
    ids = []
    for number in range(2):
        experiment = collection.new_experiment()
        experiment.add_record(n=number)
        experiment.close(error="failed")
        (folder,) = Path(collection.path, f"000001.{number + 1}").iterdir()
        ids.append(folder.name[:12])
    assert [ns(collection.under(rr_attempt=one)) for one in ids] == [{0}, {1}]
    assert ns(collection.under(rr_attempt=ids)) == {0, 1}
    assert ns(collection.under(rr_attempt="0" * 12)) == NONE
    assert ns(collection.under(rr_attempt=None)) == NONE
    assert ns(collection.under(experiment_number=1, error_number=2)) == {1}
    assert ns(collection.under(had_error=True)) == {0, 1}
    with collection.new_experiment() as running:
        running.add_record(n=2)
        assert ns(collection.under(had_error=None)) == {2}
        assert ns(collection.under(had_error=[None, True])) == {0, 1, 2}
        assert ns(collection.under(running)) == {2}
    assert ns(collection.under(had_error=False)) == {2}


def test_each_key_holds_at_some_level_also_where_it_is_overridden(collection):
    with collection.new_experiment(stage="outer", a=1) as experiment:
        inner = experiment.sub_record_keeper(stage="inner", a=2)
        inner.add_record(n=0)
        inner.add_record(n=1, stage="own")
        experiment.add_record(n=2)
    assert ns(collection.under(stage="inner")) == {0, 1}
    assert ns(collection.under(stage="outer")) == {0, 1, 2}
    assert ns(collection.under(stage="outer", a=2)) == {0, 1}, "not all at one level"
    assert ns(collection.under(stage="inner").under(a=1)) == {0, 1}
    assert ns(collection.under(stage="own")) == NONE
    assert ns(collection.under(stage=lambda stage: stage == "outer")) == {0, 1, 2}


def test_nan_and_special_values(collection):
    special = [float("nan"), float("inf"), -0.0, 2**64 - 1, b"\x00", "", (), "null", "NaN"]
    with collection.new_experiment() as experiment:
        for number, value in enumerate(special):
            experiment.sub_record_keeper(v=value).add_record(n=number)
    for number, value in enumerate(special):
        assert ns(collection.under(v=[value])) == {number}, value
    assert ns(collection.under(v=0)) == {2}
    assert ns(collection.under(v=float("nan"))) == {0}
    assert ns(collection.under(v=math.inf)) == {1}


def test_what_stands_for_none_means_that_no_level_sets_it(collection):
    with collection.new_experiment() as experiment:
        for number, level in enumerate([{"v": None}, {"v": 1}, {"w": 1}]):
            experiment.sub_record_keeper(level).add_record(n=number)
    for missing in (None, pd.NA, pd.NaT, np.datetime64("NaT"), [pd.NA], pd.Series([pd.NaT])):
        assert ns(collection.under(v=missing)) == {2}
        assert ns(collection.under(never=missing)) == {0, 1, 2}
        assert collection.keeper(collection.keepers(w=1)[0], v=missing)["w"] == 1
    assert ns(collection.under(v=lambda value: value is None)) == {0}


def test_a_signaling_nan_is_compared_with_nothing_that_raises(collection):
    with collection.new_experiment() as experiment:
        for number, value in enumerate([Decimal("sNaN"), Decimal("NaN"), 1.5]):
            experiment.sub_record_keeper(v=value).add_record(n=number)
    assert ns(collection.under(v=1.5)) == {2}
    assert ns(collection.under(v=Decimal("sNaN"))) == {0}
    assert ns(collection.under(v=[Decimal("NaN"), 3])) == {1}


@pytest.mark.parametrize("wanted", [int, [str, 1]], ids=stable)
def test_a_class_is_no_value_and_says_how_to_pick_by_type(study, wanted):
    for under in (study.under, study.keepers, study.keeper, study.to_polars().rr.under, study.scan().rr.under):
        with pytest.raises(
            ValueError, match=r"under\(model=\.\.\.\) was given the class .*Hint: model=lambda value: isinst"
        ):
            under(model=wanted)


def test_an_unknown_key_names_the_nearest(study):
    for read in (
        len,
        list,
        lambda view: view.records,
        lambda view: view.experiments,
        lambda view: view.experiment_numbers,
    ):
        with pytest.raises(KeyError, match=r"^No level has the key 'modle'.*'model'") as caught:
            read(study.under(modle="m1"))
        assert isinstance(caught.value, RecorderError)
    for keepers in (study.keepers, study.keeper):
        with pytest.raises(KeyError, match="'model'"):
            keepers(modle="m1")
    with pytest.raises(KeyError, match="'experiment_number'"):
        len(study.under(experiment_nr=1))
    with pytest.raises(KeyError, match="'never'"):
        len(study.under(never=[1, 2]))


def test_a_key_of_the_records_themselves_says_to_filter(study):
    with pytest.raises(KeyError, match=r"'loss' is a key of the records themselves.*r\['loss'\]"):
        len(study.under(loss=0.5))


def test_errors_of_a_callable_come_through(study):
    with pytest.raises(ZeroDivisionError):
        len(study.under(lr=lambda lr: 1 / 0))


@pytest.mark.parametrize("frame", ["collection", "polars", "pandas", "lazy"])
def test_an_error_of_a_callable_says_over_which_key_and_value(study, frame):
    study.keepers()[0].update(lr="small")
    ways = {
        "collection": lambda **keys: list(study.under(**keys)),
        "polars": study.to_polars().rr.under,
        "pandas": study.to_pandas().rr.under,
        "lazy": lambda **keys: study.scan().rr.under(**keys).collect(),
    }
    hidden = pl.exceptions.ComputeError if OLD_POLARS and frame == "lazy" else TypeError  # polars 1 hides the type
    with pytest.raises(hidden, match="'<' not supported") as caught:
        ways[frame](lr=lambda lr: lr < 0.3)
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert re.search(r"under\(lr=\.\.\.\), for the value 'small' of a level\. Hint: ", said)


@pytest.mark.parametrize("make", [lambda: (m for m in ["m1"]), lambda: iter(["m1"]), lambda: map(str, ["m1"])])
def test_what_can_be_gone_over_only_once_is_refused_at_the_call(study, make):
    for under in (study.under, study.keepers, study.keeper, study.to_polars().rr.under, study.scan().rr.under):
        with pytest.raises(
            ValueError, match=r"under\(model=\.\.\.\) was given .*only once\. Hint: model=list"
        ) as caught:
            under(model=make())
        assert isinstance(caught.value, RecorderError)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            {"experiment_number": 1, "model": "m3"},
            r"of those with experiment_number=1, none has model='m3'.*'m1', 'm2'\.",
        ),
        ({"experiment_number": 3}, r"of all levels, none has experiment_number=3\. Hint: they have 1, 2\."),
        ({"model": "m1", "lr": 7}, r"of those with model='m1', none has lr=7.*0\.1, 1\."),
        ({"lr": 1, "flag": False}, r"of those with lr=1, none has flag=False. Hint: they have True\."),
        ({"model": "m1", "training": None}, r".*none has training=None.* True\."),
    ],
)
def test_no_keeper_says_which_key_matches_nothing_and_what_there_is(study, wanted, says):
    for keeper in study.keepers(model="m1"):
        keeper.update(training=True)
    with pytest.raises(KeyError, match=r"^No keeper has .*: " + says):
        study.keeper(**wanted)


def test_several_or_no_keepers_without_a_key_are_told_without_one(study, tmp_path):
    with pytest.raises(KeyError, match=r"^2 keepers are there: experiment_number=1,lr=0\.1") as caught:
        study.keeper()
    assert "None" not in str(caught.value)
    with pytest.raises(
        KeyError, match=r"^No keeper has the branch 'experiment_number=1,lr=7': there is no such branch"
    ):
        study.keeper("experiment_number=1,lr=7")
    with pytest.raises(
        KeyError, match=r"^No keeper has the branch 'experiment_number=1,lr=0.1.*', model='m3': of the branch"
    ):
        study.keeper(study.keepers()[0], model="m3")
    with (
        pytest.warns(RecorderWarning),
        pytest.raises(KeyError, match=r"^No keeper is there: there is no experiment yet"),
    ):
        type(study)(tmp_path / "empty").keeper()


def test_no_keeper_in_a_branch_or_in_nothing(study, tmp_path):
    with pytest.raises(KeyError, match=r"of those with lr=0\.1, none has model='m3'"):
        study.under(lr=0.1).keeper(model="m3")
    with pytest.raises(KeyError, match=r"of the branch, none has model='m3'.*'m1'\."):
        study.keeper(study.keepers(model="m1")[0], model="m3")
    with pytest.raises(KeyError, match=r"no such branch.*experiment_number=1,lr=0\.1.*; experiment_number=2,lr=1"):
        study.keeper("lr=3")
    with study.new_experiment() as experiment:
        for number in range(9):
            experiment.sub_record_keeper(number=number)
    with pytest.raises(KeyError, match=r"they have 0, 1, 2, 3, 4 and 4 more\."):
        study.keeper(number=10)
    empty = type(study)(tmp_path / "empty")
    with pytest.warns(RecorderWarning), pytest.raises(KeyError, match=r"there is no experiment yet.*Hint"):
        empty.keeper(number=10)


def test_an_empty_collection_has_no_unknown_keys(collection):
    collection.add_notes(gpu=1)
    assert list(collection.under(anything=1)) == []


def test_a_view_is_lazy_and_sees_the_disk_at_each_reading(study):
    view = study.under(model="m3")
    assert ns(view) == NONE
    with study.new_experiment(lr=3) as experiment:
        experiment.sub_record_keeper(model="m3").add_record(n=99)
        assert ns(view) == {99}
    code = """
import sys
from rigorous_recorder import ExperimentCollection
ExperimentCollection(sys.argv[1]).keeper(lr=3, model="m3").update(model="m4")
"""
    run(code, study.path)
    assert ns(view) == NONE
    assert ns(study.under(model="m4")) == {99}


def test_many_records_under_a_branch(collection):
    with collection.new_experiment() as experiment:
        keepers = [experiment.sub_record_keeper(k=number) for number in range(4)]
        for number in range(30_000):
            keepers[number % 3].add_record(n=number)
        keepers[3].add_records(n=range(30_000, 60_000))
    view = collection.under(k=1).records
    assert [each["n"] for each in view] == list(range(1, 30_000, 3))
    assert [each["n"] for each in view[100:9000:77]] == list(range(1, 30_000, 3))[100:9000:77]
    assert view[-1]["n"] == 29_998
    both = collection.under(k=[2, 3]).records
    assert [each["n"] for each in both] == [*range(2, 30_000, 3), *range(30_000, 60_000)]
    assert both[10_000]["n"] == 30_000
