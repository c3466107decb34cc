"""The README keeps its word: its Python runs in order, shows what it says, and its links and commands exist."""

import ast
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SHOWS = re.compile(r"#\s*->\s*(?P<value>.+)$")


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(source, namespace):
    """Execute a block, which must show what it says.

    An expression followed by `# -> value`, there or on the next line, must have that value, and the other lines that are
    comments must be what is printed.
    """
    with redirect_stdout(StringIO()) as printed:
        run_expressions(source, namespace)
    comments = [line for line in source.splitlines() if line.startswith("# ") and not SHOWS.match(line)]
    assert printed.getvalue().splitlines() == [line.removeprefix("# ") for line in comments]


def run_expressions(source, namespace):
    def shows(value, text):
        assert repr(value) == text

    namespace["_shows"] = shows
    exec(compile(with_checks(source), "README.md", "exec"), namespace)


def with_checks(source):
    """The block's tree, in which what is shown is an argument of `_shows(value, text)`."""
    lines = source.splitlines()
    checked = 0
    tree = ast.parse(source)
    # What is shown may stand in a deeper block (an except), so expressions are wrapped where they are.
    for node in ast.walk(tree):
        if not isinstance(node, ast.Expr):
            continue
        here, following = lines[node.end_lineno - 1], (lines[node.end_lineno : node.end_lineno + 1] or [""])[0]
        shown = SHOWS.search(here) or (SHOWS.match(following.strip()))
        if shown:
            checked += 1
            call = ast.Call(ast.Name("_shows", ast.Load()), [node.value, ast.Constant(shown["value"])], [])
            node.value = ast.copy_location(call, node.value)
    assert checked == len(re.findall(r"#\s*->", source)), "a shown value belongs to no expression"
    return ast.fix_missing_locations(tree)


def test_all_python_of_the_readme_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    sources = blocks("python")
    assert sources
    for source in sources:
        run(source, namespace)


def test_all_python_of_the_readme_runs_twice_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(compile("\n".join(blocks("python")), "README.md", "exec"), {})


@pytest.mark.parametrize("source", ["1 + 1  # -> 3\n", "print(2)\n# 3\n", "print(2)\n", "# 3\n"])
def test_a_wrong_value_would_be_noticed(source):
    with pytest.raises(AssertionError):
        run(source, {})


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (CHECKOUT / target).exists()


def test_the_commands_exist():
    commands = re.findall(r"^make ([a-z-]+)", "".join(blocks("bash")), flags=re.MULTILINE)
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert commands == ["demo", "test"]
    for command in commands:
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
