"""The examples do what the demo promises, and the demo fails when something is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rigorous_recorder import ExperimentCollection

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name, folder):
    return subprocess.run([sys.executable, EXAMPLES / name, folder], capture_output=True, text=True, timeout=120)


def test_the_calls_of_the_readme_twice_in_one_folder(tmp_path):
    for runs in (1, 2):
        finished = example("readme_calls.py", tmp_path / "rooms")
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        assert f"the first of {runs * 2100} records" in finished.stdout
        assert len(ExperimentCollection(tmp_path / "rooms").records) == runs * 2100


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the whole demo printed, and the folder that it made."""
    parent = tmp_path_factory.mktemp("demo")
    finished = example("demo.py", parent)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    (folder,) = parent.iterdir()
    return finished.stdout, folder


def test_the_demo_shows_failures_kills_and_what_was_recovered(demo):
    printed, folder = demo
    acknowledged = json.loads((folder / "acknowledged.json").read_text())
    assert acknowledged >= 1000
    collection = ExperimentCollection(folder / "study")
    (killed,) = [each for each in collection.experiments if each.state == "killed"]
    (failed,) = [each for each in collection.experiments if each.state == "failed"]
    assert killed.n_records - acknowledged in {0, 1}
    assert failed.number == 3
    assert failed.error_number == 1
    assert "diverged" in str(failed.error)
    assert f"{acknowledged} records acknowledged, {killed.n_records} recovered" in printed
    assert "Nothing that was acknowledged is lost." in printed


def test_the_report_fails_when_records_are_missing(demo, tmp_path):
    _, folder = demo
    (tmp_path / "study").symlink_to(folder / "study")
    acknowledged = json.loads((folder / "acknowledged.json").read_text())
    (tmp_path / "acknowledged.json").write_text(json.dumps(acknowledged + 2))
    finished = example("report.py", tmp_path)
    assert finished.returncode == 1
    assert "were acknowledged" in finished.stderr


@pytest.mark.parametrize("name", ["demo.py", "digits_study.py", "readme_calls.py", "report.py"])
def test_without_a_folder_the_usage_is_told(name):
    finished = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert "Usage: python examples/" in finished.stderr
