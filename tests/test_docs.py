"""The documentation of frames keeps its word: its Python runs in order and shows what it says."""

import re
from contextlib import redirect_stdout
from io import StringIO

from flat import flat_row, polars_frame
from programs import ROOT
from test_readme import run

LINEAGE = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")


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
    blocks = re.findall(r"^```python\n(.*?)^```$", LINEAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        printed = StringIO()
        with redirect_stdout(printed):
            run(block, namespace)
        shown = "".join(line[2:] + "\n" for line in block.splitlines() if line.startswith("# ") and "->" not in line)
        assert printed.getvalue() == shown
