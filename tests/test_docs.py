"""The documentation of frames keeps its word: its Python runs in order and shows what it says."""

import pytest
from programs import ROOT
from test_readme import blocks, run

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


def test_no_other_page_has_python():
    """One that comes to have some gets a test above."""
    pages = {each.relative_to(DOCS).as_posix(): each.read_text(encoding="utf-8") for each in DOCS.rglob("*.md")}
    assert [name for name, text in sorted(pages.items()) if blocks("python", text)] == [
        "frames.md",
        "lineage.md",
        "spark.md",
    ]
