"""The test plan is what is documented: its tests exist, and `docs/reliability.md` shows its table."""

import ast
import json
import re
import subprocess
import sys
import tomllib

import plan
import pytest
from programs import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def functions(path):
    """The names of the test functions in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("test", sorted({test for row in plan.ROWS.values() for test in row.tests}))
def test_the_tests_of_the_plan_exist(test):
    file, _, function = test.partition("::")
    assert function in functions(ROOT / "tests" / file)
    assert plan.row_of(f"tests/{test}[mmap-0]") is not None


def test_the_page_shows_the_plan():
    assert plan.table() in PAGE, f"docs/reliability.md wants this table:\n{plan.table()}"


def test_the_page_links_to_what_is_there():
    for target in set(re.findall(r"\]\(([^)#]+)\)", PAGE)):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("long", [False, True])
def test_a_figure_is_divided_among_its_shards(monkeypatch, long):
    monkeypatch.setattr(plan, "LONG", long)
    monkeypatch.setattr(plan, "SMALL", False)
    shards = plan.shards("test_acknowledged_records_survive_a_kill", ci=3, long=7, within=2)
    assert len(shards) == (7 if long else 3)
    figure = plan.ROWS["kill"].tests["test_kill.py::test_acknowledged_records_survive_a_kill"][long]
    assert 0 <= 2 * sum(shard.rounds for shard in shards) - figure < 2 * len(shards) + 2


def test_what_was_reached_is_told(tmp_path):
    """Of the log of several runs the last outcome of each test counts, and what did not run is named with its reason."""
    test = "tests/test_kill.py::test_acknowledged_records_survive_a_kill"
    entry = {
        "row": "kill",
        "reached": 100,
        "seconds": 60.0,
        "at": "2026-01-02T03:04:05+00:00",
        "versions": "Python 3.11.7",
        "why": "",
    }
    entries = [
        {**entry, "test": f"{test}[mmap-0]", "outcome": "failed", "why": "assert 1 == 2", "reached": 0},
        {**entry, "test": f"{test}[mmap-0]", "outcome": "passed"},
        {**entry, "test": f"{test}[mmap-1]", "outcome": "passed", "at": "2026-01-03T03:04:05+00:00"},
        {**entry, "test": f"{test}[mmap-2]", "outcome": "skipped", "why": "NOT TESTED: no mkfs", "reached": 0},
    ]
    (tmp_path / "log").write_text("".join(json.dumps(one) + "\n" for one in entries))
    told = subprocess.run(
        [sys.executable, ROOT / "tests" / "plan.py", tmp_path / "log"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in told.splitlines() if f"{plan.ROWS['kill'].total(long=True)}" in line)
    assert "| 200 | 2 | 3.0 | 2026-01-02 to 2026-01-03 |" in line
    assert "1 x test_acknowledged_records_survive_a_kill skipped: NOT TESTED: no mkfs" in line
    assert told.count("not run") >= len(plan.ROWS) - 1
    assert "Python 3.11.7" in told


def test_each_mutant_changes_a_text_that_is_there_once():
    mutants = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
    for mutant in mutants:
        text = (ROOT / "rigorous_recorder" / mutant["file"]).read_text(encoding="utf-8")
        assert text.count(mutant["old"]) == 1, mutant["name"]
        assert mutant["old"] != mutant["new"]
        for file in re.findall(r"test_\w+\.py", mutant["tests"]):
            assert (ROOT / "tests" / file).exists(), file
    assert len({mutant["name"] for mutant in mutants}) == len(mutants)
