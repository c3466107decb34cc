"""The benchmarks' tables come where they belong; what they measure is not tested here."""

import importlib.util
from pathlib import Path

import pytest
from programs import ROOT

command = pytest.importorskip("benchmarks.__main__", reason="the benchmarks are not in this copy")
table = pytest.importorskip("benchmarks.table")


def ask(**options):
    """Call the command as the shell would, with a suite that has nothing to do without Spark."""
    defaults = {"quick": True, "scale": 1.0, "runs": 5, "attempts": 0, "folder": None, "markdown": None, "section": ""}
    command.main(only=["spark"], **{**defaults, **options})


@pytest.fixture
def no_spark(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_table_is_printed_as_markdown_where_it_is_asked_for(no_spark, tmp_path, capsys):
    ask(folder=tmp_path, markdown=Path("-"), section="engines")
    printed = capsys.readouterr().out.splitlines()
    (row,) = [line for line in printed if "make bench-engines" in line]
    assert row.startswith("| in Spark, DuckDB and polars | did not run: pyspark is not installed;")
    assert printed[0].startswith("- date: ")
    assert table.line(table.HEADINGS) in printed
    assert not any("┃" in line for line in printed)


def test_the_table_of_a_section_takes_the_place_of_that_one_only(no_spark, tmp_path, capsys):
    document = tmp_path / "performance.md"
    document.write_text("# Top\n\n<!-- benchmarks: begin -->\nall\n<!-- benchmarks: end -->\n\nmiddle\n")
    for _ in range(2):  # the first time it is put at the end
        ask(folder=tmp_path, markdown=document, section="engines")
    text = document.read_text()
    begin, end = table.markers("engines")
    assert text.startswith("# Top\n\n<!-- benchmarks: begin -->\nall\n<!-- benchmarks: end -->\n\nmiddle\n")
    assert text.count(begin) == text.count(end) == text.count("did not run: pyspark") == 1
    assert text.index(begin) < text.index("did not run: pyspark") < text.index(end)
    ask(folder=tmp_path, markdown=document)
    text = document.read_text()
    assert "\nall\n" not in text
    assert text.count("did not run: pyspark") == 2
    assert "measured" in capsys.readouterr().out, "and the terminal has it too"


@pytest.mark.parametrize("section", ["", "engines"])
def test_the_document_has_a_place_for_each_table(section):
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    begin, end = table.markers(section)
    assert text.count(begin) == text.count(end) == 1
    assert text.index(begin) < text.index(end)
