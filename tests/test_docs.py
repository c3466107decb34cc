"""The documentation of frames keeps its word: its Python runs in order and shows what it says."""

import ast
import importlib.util
import os
import subprocess
import sys
import tempfile

import pytest
from programs import ROOT
from test_readme import blocks, run, with_checks

from rigorous_recorder import ExperimentCollection

DOCS = ROOT / "docs"


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def study(path):
    """The flat frame of the study that the text describes."""
    collection = ExperimentCollection(path)
    for lr in (0.1, 0.01):
        with collection.new_experiment(lr=lr) as experiment:
            for model in ("cnn", "mlp"):
                for training, steps in ((True, 3), (False, 1)):
                    keeper = experiment.sub_record_keeper(model=model).sub_record_keeper(training=training)
                    keeper.add_records(step=range(steps), loss=[1 / (step + 1) for step in range(steps)])
    return collection.to_polars()


def test_all_python_of_the_page_on_lineages_runs_and_shows_what_it_says(tmp_path):
    namespace = {"df": study(tmp_path / "study")}
    sources = blocks("python", page("lineage.md"))
    assert len(sources) == 8
    for source in sources:
        run(source, namespace)


def test_all_python_of_the_page_on_frames_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    sources = blocks("python", page("frames.md"))
    assert sources
    for source in sources:
        run(source, namespace)


def test_all_python_of_the_page_on_spark_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    """In the session of `make test-spark`, where there is Spark."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: `make test-spark` installs it and runs this")
    from test_spark import started

    monkeypatch.chdir(tmp_path)
    namespace = {}
    sources = blocks("python", page("spark.md"))
    assert len(sources) == 5
    with started():
        for source in sources:
            run(source, namespace)


WORKERS = blocks("python", page("workers.md"))
SHOWS = """
def _shows(value, text):
    assert repr(value) == text, f"{value!r}, and the page says {text}"
    print("shown")
"""


@pytest.mark.parametrize("source", WORKERS[1:], ids=[source.splitlines()[0] for source in WORKERS[1:]])
def test_a_program_of_the_page_on_workers_shows_what_it_says(tmp_path, source):
    """Each with the work that all of them hand out, as a program, since workers that do not fork import it."""
    for library in ("distributed", "ray", "joblib"):
        if library in source.splitlines()[0] and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: `make test-workers` installs it, and runs this")
    program = tmp_path / "study.py"
    program.write_text("\n".join([SHOWS, WORKERS[0], ast.unparse(with_checks(source))]), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="rr-", dir="/tmp") as folder:  # the names of sockets may not be long
        temporary = {"TMPDIR": folder, "RAY_TMPDIR": folder}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **temporary}
        command = [sys.executable, str(program)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("shown") == source.count("# ->") > 0


def test_no_other_page_has_python():
    """One that comes to have some gets a test above."""
    pages = {each.relative_to(DOCS).as_posix(): each.read_text(encoding="utf-8") for each in DOCS.rglob("*.md")}
    assert [name for name, text in sorted(pages.items()) if blocks("python", text)] == [
        "frames.md",
        "lineage.md",
        "spark.md",
        "workers.md",
    ]
