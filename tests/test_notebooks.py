"""The notebooks run from top to bottom in a temporary folder, and their files keep what they show."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from programs import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run(path, folder):
    """Run a notebook by the script that `make notebooks` uses; all that is written goes to the folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "IPYTHONDIR": str(folder / "ipython")}
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, str(ROOT / "notebooks" / "run.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows: text that is printed (in however many pieces it came), values, pictures.

    Without warnings: on a new machine matplotlib says that it looks for the fonts.
    """
    shown = [(each.output_type, each.get("name", ""), *sorted(each.get("data", ()))) for each in cell.outputs]
    return [each for each in dict.fromkeys(shown) if each[1] != "stderr"]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["quickstart.ipynb"]


@pytest.mark.parametrize("kept", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_and_shows_what_is_kept(kept, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "notebooks").mkdir()
    copy = tmp_path / "notebooks" / kept.name
    shutil.copy(kept, copy)
    finished = run(copy, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert [kinds(cell) for cell in code_cells(copy)] == [kinds(cell) for cell in code_cells(kept)]


@pytest.mark.parametrize("kept", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_kept_is_one_run_from_the_top_without_errors_warnings_and_paths(kept):
    cells = code_cells(kept)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = [each for cell in cells for each in cell.outputs]
    assert not [each for each in shown if each.output_type == "error" or each.get("name") == "stderr"]
    assert any("image/png" in each.get("data", ()) for each in shown)
    assert "/tmp/" not in str(shown)
    assert str(ROOT) not in str(shown)


def test_a_cell_that_raises_is_an_error_and_changes_no_file(tmp_path):
    path = tmp_path / "wrong.ipynb"
    cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = path.read_bytes()
    finished = run(path, tmp_path)
    assert finished.returncode == 1
    assert "ZeroDivisionError" in finished.stderr
    assert path.read_bytes() == before
