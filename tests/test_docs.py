"""The documentation of frames keeps its word: its Python runs in order and shows what it says."""

from flat import flat_row, polars_frame
from programs import ROOT
from test_readme import blocks, run

DOCS = ROOT / "docs"


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def study():
    """The flat frame of the study that the text describes."""
    rows = []
    for number, lr in ((1, 0.1), (2, 0.01)):
        for model in ("cnn", "mlp"):
            for training, steps in ((True, 3), (False, 1)):
                levels = [{"experiment_number": number, "lr": lr}, {"model": model}, {"training": training}]
                automatic = {
                    "experiment_number": number,
                    "error_number": 0,
                    "had_error": False,
                    "experiment_duration": 1.0,
                }
                rows += [
                    flat_row(levels, f"{number:012x}", automatic, {"step": step, "loss": 1 / (step + 1)})
                    for step in range(steps)
                ]
    frame = polars_frame(rows)
    others = [name for name in frame.columns if name not in ("experiment_number", "lr", "model", "training")]
    return frame.select("experiment_number", "lr", "model", "training", *others)


def test_all_python_of_the_page_on_lineages_runs_and_shows_what_it_says():
    namespace = {"df": study()}
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


def test_no_other_page_has_python():
    """One that comes to have some gets a test above."""
    pages = {each.relative_to(DOCS).as_posix(): each.read_text(encoding="utf-8") for each in DOCS.rglob("*.md")}
    assert [name for name, text in sorted(pages.items()) if blocks("python", text)] == ["frames.md", "lineage.md"]
