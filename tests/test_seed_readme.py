"""The code of the original's README runs as printed (its one typo aside), twice in one folder, and counts right."""

import re
import warnings
from pathlib import Path
from statistics import mean

import pytest

from rigorous_recorder import ExperimentCollection

SEED_README = Path(__file__).resolve().parents[2] / "shared" / "seed-readme.md"
MISSING = f"THE ORIGINAL'S README IS NOT THERE, SO ITS CODE WAS NOT RUN: no file {SEED_README}"
TRAINING, TESTING = 2 * 1000, 2 * 50
SIX_KEYS = {
    "experiment_number",
    "error_number",
    "had_error",
    "experiment_start_time",
    "experiment_end_time",
    "experiment_duration",
}


def examples():
    """The two examples that use the library, with the typo corrected: a keeper of its own, and a collection."""
    if not SEED_README.exists():
        warnings.warn(MISSING, stacklevel=2)
        pytest.skip(MISSING)
    blocks = re.findall(r"^```python\n(.*?)^```$", SEED_README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    using = [block for block in blocks if "from rigorous_recorder import" in block]
    assert len(using) == 2
    return [block.replace("episode_data.add_record", "episode_keeper.add_record") for block in using]


def run(source):
    namespace = {}
    exec(compile(source, "seed-readme.md", "exec"), namespace)
    return namespace


@pytest.mark.filterwarnings("default:THE ORIGINAL'S README")
def test_keepers_without_a_collection():
    small, _ = examples()
    names = run(small)
    expected = [{"experiment": 1, "episode": 1, "x": each, "y": each} for each in (1, 2, 3)]
    for keeper in ("keeper", "experiment_keeper", "episode_keeper"):
        assert list(names[keeper].records) == expected


@pytest.mark.filterwarnings("default:THE ORIGINAL'S README")
def test_the_study_runs_twice_in_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, big = examples()
    for runs in (1, 2):
        names = run(big)
        check_names(names, runs)
        assert capsys.readouterr().out.strip() == str(names["all_records"][0])
    check_disk(ExperimentCollection("records/my_study"))


def check_names(names, runs):
    """What the example leaves in its variables, against sums of our own."""
    records = names["all_records"]
    assert len(records) == runs * (TRAINING + TESTING)

    first = records[0]
    assert isinstance(first, dict)
    assert set(first) == SIX_KEYS | {"model", "training", "index", "loss"}
    assert first["experiment_number"] == 1
    assert first["testing"] is None
    assert "testing" not in first

    training = [each for each in list(records) if "loss" in each and each["index"] < 500]
    assert len(training) == len(names["records_first_half_of_time"]) == runs * TRAINING // 2
    assert names["first_half_average_loss"] == pytest.approx(mean(each["loss"] for each in training))
    for model in ("model1", "model2"):
        own = [each["loss"] for each in training if each["model"] == model]
        assert len(own) == runs * TRAINING // 4
        assert names[f"model_{model[-1]}_first_half_loss"] == pytest.approx(mean(own))


def check_disk(collection):
    """What somebody finds who opens the folder afterwards."""
    assert collection.experiment_numbers == (1, 2)
    assert [(each.number, each.state) for each in collection.experiments] == [(1, "finished"), (2, "finished")]
    for number in (1, 2):
        records = list(collection[number])
        assert len(records) == TRAINING + TESTING
        for each in records:
            assert each["experiment_number"] == number
            assert (each["error_number"], each["had_error"]) == (0, False)
            assert each["experiment_duration"] == pytest.approx(
                each["experiment_end_time"] - each["experiment_start_time"], abs=0.05
            )
        for model in ("model1", "model2"):
            of_model = [each for each in records if each["model"] == model]
            assert [each["index"] for each in of_model if each["training"]] == list(range(1000))
            assert [each["index"] for each in of_model if each["testing"]] == list(range(50))
            assert all(0 <= each["accuracy"] < 1 for each in of_model if each["testing"])
