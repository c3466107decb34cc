"""Whole days of a researcher, as written: correcting a run, an array of jobs, a resumed one, a notebook, cross-validation."""

import math
import os
import shutil
import sqlite3
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import mean

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from programs import ELSEWHERE, run, run_killed

from rigorous_recorder import ExperimentCollection, RecorderWarning

# ---- a mislabelled run -----------------------------------------------------------------------------------------------


def test_a_mislabelled_run_is_corrected_and_found_under_its_new_name_only(collection):
    for number in range(3):
        with collection.new_experiment(lr=0.1 * number) as experiment:
            keeper = experiment.sub_record_keeper(model="resnet18")
            for step in range(10):
                keeper.sub_record_keeper(training=True).add_record(step=step, loss=1 / (step + 1))

    collection.keeper(experiment_number=2, model="resnet18").update(model="resnet50")

    assert len(collection.under(model="resnet50")) == 10
    assert len(collection.under(model="resnet18")) == 20
    assert len(collection.under(experiment_number=2, model="resnet18")) == 0
    for frame in (collection.to_pandas(), collection.to_polars()):
        assert len(frame.rr.under(model="resnet50")) == 10
        assert len(frame.rr.under(model="resnet18", experiment_number=2)) == 0
        assert set(frame.rr.under(model="resnet50")["experiment_number"]) == {2}
    found = collection.scan().rr.under(model="resnet50").select("experiment_number").unique().collect()
    assert found["experiment_number"].to_list() == [2]


# ---- an array of jobs ------------------------------------------------------------------------------------------------

TOGETHER = """
import sys, time
from pathlib import Path

def meet(path, seed, jobs):
    "Return when so many jobs have come here: from then on they record at the same time."
    begun = Path(path).with_name(Path(path).name + " begun")
    begun.mkdir(exist_ok=True)
    (begun / seed).touch()
    until = time.monotonic() + 60
    while len(list(begun.iterdir())) < jobs:
        assert time.monotonic() < until, "the other jobs did not begin"
        time.sleep(0.002)
"""
JOB = f"""
{TOGETHER}
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
with collection.new_experiment(seed=int(sys.argv[2])) as experiment:
    meet(sys.argv[1], sys.argv[2], int(sys.argv[4]))
    for step in range(20):
        experiment.add_record(step=step, loss=1 / (step + 1))
        if sys.argv[3] == "raises" and step == 10:
            raise FloatingPointError("the loss is NaN")
"""
STALE = f"""
{ELSEWHERE}
{TOGETHER}
from rigorous_recorder import ExperimentCollection
experiment = ExperimentCollection(sys.argv[1]).new_experiment(seed=int(sys.argv[2]))
meet(sys.argv[1], sys.argv[2], int(sys.argv[4]))
for step in range(5):
    experiment.add_record(step=step, loss=1 / (step + 1))
experiment.sync()
"""


def job_array(path, first=0):
    """Four jobs at the same time: two good ones, one that raises, one whose node goes away."""
    with ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(run, JOB, path, first, "good", 4),
            threads.submit(run, JOB, path, first + 1, "raises", 4, returncode=1),
            threads.submit(run_killed, STALE, path, first + 2, "stale", 4),
            threads.submit(run, JOB, path, first + 3, "good", 4),
        ]
    for job in jobs:
        job.result()
    for log in Path(path).glob("*/*/*.log"):
        os.utime(log, (time.time() - 1000,) * 2)  # when that node's heart beat last; the others have ended


def good_seeds(collection):
    """The seeds of the records that ended well, by each way to ask, which agree."""
    pandas, polars = collection.to_pandas(), collection.to_polars()
    seeds = [
        sorted(set(pandas[pandas["had_error"] == False]["seed"])),  # noqa: E712
        sorted(set(polars.filter(had_error=False)["seed"])),
        sorted(set(polars.rr.under(had_error=False)["seed"])),
        sorted({each["seed"] for each in collection.under(had_error=False)}),
        collection.sql("select distinct seed from records where had_error = false order by seed")["seed"].to_list(),
    ]
    assert seeds == [seeds[0]] * len(seeds)
    assert len(polars.filter(had_error=False)) == 20 * len(seeds[0])
    return seeds[0]


def test_an_array_of_jobs_of_which_one_raises_and_one_goes_stale(tmp_path):
    job_array(tmp_path / "study")
    collection = ExperimentCollection(tmp_path / "study")
    assert collection.experiment_numbers == (1, 2, 3, 4), "they all ran at once"
    runs = {each.info["seed"]: each for each in collection.experiments}
    assert [runs[seed].state for seed in range(4)] == ["finished", "failed", "stale", "finished"]
    assert good_seeds(collection) == [0, 3]

    runs[2].close(error="node died")
    settled = {each.info["seed"]: each for each in collection.experiments}
    assert (settled[2].state, settled[2].error, settled[2].had_error) == ("failed", "node died", True)
    table = collection.experiments.to_pandas().sort_values("seed")
    assert table["state"].tolist() == ["finished", "failed", "failed", "finished"]
    assert table["n_records"].tolist() == [20, 11, 5, 20]
    errors = collection.experiments.to_polars().sort("seed")["error"].to_list()
    assert errors[1:3] == ["FloatingPointError: the loss is NaN", "node died"]
    assert good_seeds(collection) == [0, 3]
    assert len(collection.to_polars().filter(had_error=True, seed=2)) == 5


def test_the_arrays_of_two_machines_are_merged_by_copying(tmp_path):
    for name, first in (("ours", 0), ("theirs", 10)):
        job_array(tmp_path / name, first)
    (stale,) = (each for each in ExperimentCollection(tmp_path / "ours").experiments if each.state == "stale")
    stale.close(error="node died")
    shutil.copytree(tmp_path / "theirs", tmp_path / "ours", dirs_exist_ok=True)
    collection = ExperimentCollection(tmp_path / "ours")
    assert collection.experiment_numbers == (1, 2, 3, 4)
    assert len({each.info["seed"] for each in collection.experiments}) == 8
    assert good_seeds(collection) == [0, 3, 10, 13]
    frame = collection.to_polars()
    runs = frame.group_by("rr_attempt").agg(pl.col("seed").unique(), pl.len()).sort(pl.col("seed").list.first())
    assert runs["seed"].to_list() == [[0], [1], [2], [3], [10], [11], [12], [13]]
    assert runs["len"].to_list() == [20, 11, 5, 20] * 2
    (stale,) = (each for each in collection.experiments if each.info["seed"] == 12)
    stale.close(error="that node died too")
    assert good_seeds(collection) == [0, 3, 10, 13]
    assert len(collection.to_polars().filter(had_error=True)) == 32


def test_two_machines_folders_with_equal_numbers_are_merged_by_copying(tmp_path):
    for name, seed in (("ours", 0), ("theirs", 10)):
        for shift in range(2):
            run(JOB, tmp_path / name, seed + shift, "good", 1)
    shutil.copytree(tmp_path / "theirs", tmp_path / "ours", dirs_exist_ok=True)
    collection = ExperimentCollection(tmp_path / "ours")
    assert collection.experiment_numbers == (1, 2)
    frame = collection.to_polars()
    runs = frame.group_by("rr_attempt").agg(pl.col("seed").unique(), pl.len())
    assert sorted(seed for (seed,) in runs["seed"]) == [0, 1, 10, 11]
    assert runs["len"].to_list() == [20] * 4
    assert len(frame.filter(experiment_number=1)) == 40
    assert len(frame.rr.under(experiment_number=1, seed=10)) == 20
    with collection.new_experiment(seed=99) as experiment:
        assert experiment.number == 3


# ---- a preempted experiment ------------------------------------------------------------------------------------------

PREEMPTED = """
import sys
from rigorous_recorder import ExperimentCollection
experiment = ExperimentCollection(sys.argv[1]).new_experiment(lr=0.1)
training = experiment.sub_record_keeper(training=True)
for step in range(8):
    training.add_record(step=step, loss=1.0)
"""


@pytest.mark.parametrize("library", ["pandas", "polars", "scan"])
def test_steps_that_a_resumed_experiment_logged_twice_count_once(tmp_path, library):
    run_killed(PREEMPTED, tmp_path / "study")
    collection = ExperimentCollection(tmp_path / "study")
    with collection.resume_experiment() as experiment:  # from the checkpoint of step 5
        training = experiment.children[0]
        for step in range(5, 12):
            training.add_record(step=step, loss=0.5)
    frame = {"pandas": collection.to_pandas, "polars": collection.to_polars, "scan": collection.scan}[library]()
    latest = frame.rr.latest("step")
    rows = latest.collect() if isinstance(latest, pl.LazyFrame) else latest
    assert list(rows["step"]) == list(range(12))
    assert list(rows["loss"]) == [1.0] * 5 + [0.5] * 7
    assert set(rows["had_error"]) == {False}
    (only,) = collection.experiments
    assert (only.state, only.n_records) == ("finished", 15)


# ---- a notebook ------------------------------------------------------------------------------------------------------


def test_a_notebook_session(tmp_path):
    """Without `with`, with a cell that is run twice, an unstorable pending value, and the originals' idioms."""
    collection = ExperimentCollection(tmp_path / "study")

    def cell():
        experiment = collection.new_experiment(lr=0.1)
        keeper = experiment.sub_record_keeper(model="m")
        keeper.pending_record["step"] = 0
        keeper.pending_record["lr"]  # shows what is inherited
        keeper.commit_record()
        return experiment, keeper

    first, _ = cell()
    second, keeper = cell()  # run again before the first was closed
    assert (first.number, second.number) == (1, 2)
    assert [each.number for each in collection.open_experiments] == [1, 2]
    assert collection.to_pandas()["experiment_number"].tolist() == [1, 2]  # reads while both are open

    connection = sqlite3.connect(":memory:")
    keeper.pending_record["step"] = 1
    keeper.pending_record["database"] = connection
    with pytest.raises(TypeError, match=r"'database'.*Connection"):
        keeper.commit_record()
    connection.close()
    keeper.add_record(step=2)  # the refused values do not come back
    assert [dict(record).get("database") for record in keeper.records] == [None, None]

    # the originals: commit with more values, additional_info, push and add
    keeper.commit_record({"step": 3}, additional_info={"note": "late"})
    keeper.push(step=4).add(step=5).commit()
    assert [record["step"] for record in keeper.records] == [0, 2, 3, 4, 5]
    keeper.pending_record["left"] = 1
    with pytest.warns(RecorderWarning, match="not committed"):
        second.close()
    first.close(error="was a mistake")
    assert collection.open_experiments == ()

    frame = collection.to_pandas()
    assert frame[frame["had_error"] == False]["step"].tolist() == [0, 2, 3, 4, 5]  # noqa: E712
    assert "left" not in frame
    assert "1 failed" in repr(collection.experiments[0])
    del keeper, first, second


# ---- cross-validation ------------------------------------------------------------------------------------------------


def one_fold(keeper, fold):
    """What a worker does: many rows at once, one by one, and at the end what came out, as level data."""
    rng = np.random.default_rng(fold)
    keeper.add_records([{"epoch": epoch, "loss": float(rng.random())} for epoch in range(30)])
    keeper.add_records(epoch=np.arange(30, 40), loss=rng.random(10))
    accuracy = 0.8 + fold / 100
    keeper.update(accuracy=accuracy)
    return accuracy


def test_cross_validation_by_joblib(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment(model="svm") as experiment:
        keepers = [experiment.sub_record_keeper(fold=fold) for fold in range(4)]
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(one_fold)(keeper, fold) for fold, keeper in enumerate(keepers))
        experiment["mean_accuracy"] = mean(found)

    lazy = collection.scan().group_by("fold").agg(pl.col("accuracy").first(), pl.len(), pl.col("loss").mean())
    frame = lazy.sort("fold").collect(engine="streaming")
    assert frame["accuracy"].to_list() == found
    assert frame["len"].to_list() == [40] * 4
    assert collection.to_polars()["mean_accuracy"].unique().to_list() == [mean(found)]

    collection.to_parquet(tmp_path / "flat.parquet")
    flat = pd.read_parquet(tmp_path / "flat.parquet")
    assert len(flat.rr.under(fold=[0, 1])) == 80
    assert sorted(flat.rr.under(fold=[0, 1])["fold"].unique()) == [0, 1]


# ---- the seed's averages, four ways ----------------------------------------------------------------------------------


def seed_study(path):
    """The study of the original's README: two models, training and testing, each in its own way of adding records."""
    collection, random = ExperimentCollection(path), Random(7).random
    with collection.new_experiment() as record_keeper:
        model1 = record_keeper.sub_record_keeper(model="model1")
        model2 = record_keeper.sub_record_keeper(model="model2")
        for phase, count, value in (({"training": True}, 1000, "loss"), ({"testing": True}, 50, "accuracy")):
            one, two = model1.sub_record_keeper(phase), model2.sub_record_keeper(phase)
            for index in range(count):
                two.add_record({"index": index, value: random()})
                one.pending_record["index"] = index
                one.pending_record[value] = random()
                one.commit_record()
    return collection


def test_the_seeds_three_averages_four_ways(tmp_path):
    collection = seed_study(tmp_path / "study")
    everybody, one, two = ({}, {"model": "model1"}, {"model": "model2"})

    def by_records(model):
        chosen = [each for each in collection.records if each["training"] and each["index"] < 500]
        return mean(each["loss"] for each in chosen if not model or each["model"] == model["model"])

    pandas, polars = collection.to_pandas(), collection.to_polars()

    def by_pandas(model):
        frame = pandas.rr.under(training=True, **model)
        return frame[frame["index"] < 500]["loss"].mean()

    def by_polars(model):
        return polars.rr.under(training=True, **model).filter(pl.col("index") < 500)["loss"].mean()

    def by_sql(model):
        also = f" and model = '{model['model']}'" if model else ""
        return collection.sql(f'select avg(loss) from records where training and "index" < 500{also}').item()

    for model in (everybody, one, two):
        averages = [way(model) for way in (by_records, by_pandas, by_polars, by_sql)]
        assert all(math.isclose(average, averages[0], rel_tol=1e-12) for average in averages), averages
        assert 0.4 < averages[0] < 0.6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grouped = collection.to_polars().group_by("model", "training").agg(pl.col("loss").mean(), pl.len())
    assert sorted(grouped["len"].to_list()) == [50, 50, 1000, 1000]
