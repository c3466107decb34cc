"""The public names, what an import costs, and the layers of the code: who may import whom, and who may do I/O."""

import ast
import inspect
from pathlib import Path

import pytest
from programs import ROOT, run

import rigorous_recorder

PACKAGE = ROOT / "rigorous_recorder"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
WAYS = ("polars", "pandas", "arrow", "parquet", "scan", "spark")
HEAVY = {"pandas", "polars", "numpy", "super_hash", "typer", "rich", "pyarrow", "narwhals", "duckdb"}


def test_all_is_what_is_exported():
    names = rigorous_recorder.__all__
    assert names == sorted(names)
    exported = {
        name
        for name in dir(rigorous_recorder)
        if not name.startswith("_") and name != "annotations" and not inspect.ismodule(getattr(rigorous_recorder, name))
    }
    assert exported == set(names)
    assert rigorous_recorder.__version__ == "2.0.0"
    assert all(getattr(rigorous_recorder, name).__doc__ for name in names)
    assert (PACKAGE / "py.typed").exists()


RECORDING = """
import sys
from rigorous_recorder import ExperimentCollection, RecordKeeper
collection = ExperimentCollection(sys.argv[1])
with collection.new_experiment(lr=0.1) as experiment:
    keeper = experiment.sub_record_keeper(model="m")
    for number in range(1000):
        keeper.add_record(index=number, loss=0.5)
        keeper.pending_record["index"] = number
        keeper.commit_record()
    keeper.add_records(index=range(1000), loss=[0.5] * 1000)
    keeper.add_records({"index": number} for number in range(10))
    keeper["note"] = "warm start"
    assert not set(sys.argv[2:]) & set(sys.modules), sorted(set(sys.argv[2:]) & set(sys.modules))
    experiment.sync()
collection.add_notes(gpu="A100")
assert [each["index"] for each in keeper.records[:5]] == [0, 0, 1, 1, 2]
print(*sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_process_that_only_records_imports_nothing_heavy(tmp_path, mode):
    code = RECORDING.replace("sys.argv[1])", f"sys.argv[1], journal={mode!r})")
    assert run(code, tmp_path / "study", *HEAVY).strip() == ""


def test_recording_imports_nothing_that_the_package_did_not(tmp_path):
    """A child that another thread forks during an import waits for ever for the module's lock."""
    code = RECORDING.replace("with collection", "before = set(sys.modules)\nwith collection", 1)
    late = "print(*sorted(name for name in set(sys.modules) - before if name.startswith('rigorous_recorder')))"
    code = code.replace("    experiment.sync()\n", f"    experiment.sync()\n    {late}\n")
    assert run(code, tmp_path / "study").strip() == ""


def imports(path):
    """The modules that a file imports anywhere but for type checking, as dotted names within the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = ["rigorous_recorder", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def ours(path):
    """The modules of ours that a file imports, relative to the package: "errors", "store.files"."""
    modules = {".".join(Path(name).with_suffix("").parts) for name in FILES}
    return {
        name.removeprefix("rigorous_recorder.")
        for name in imports(path)
        if name.startswith("rigorous_recorder.") and name.removeprefix("rigorous_recorder.") in modules
    }


def test_the_walk_of_imports_sees_something():
    assert {"exact", "lineage"} <= ours(FILES["levels.py"])
    assert {"keeper", "reading", "store.claim"} <= ours(FILES["collection.py"])
    assert "values" in ours(FILES["store/blocks.py"])


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("errors.py", set()),
        ("interrupts.py", set()),
        ("lineage.py", {"errors"}),
        ("record.py", {"errors"}),
        ("plain.py", set()),
        ("values.py", {"errors", "plain"}),
        ("exact.py", {"plain", "values"}),
        ("levels.py", {"errors", "exact", "lineage", "values"}),
    ],
)
def test_the_innermost_modules_import_nothing_of_ours_but_errors(name, allowed):
    assert ours(FILES[name]) <= allowed


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("store/")])
def test_the_store_knows_no_keeper(name):
    allowed = {"errors", "values", "plain", "exact", "lineage", "levels", "accelerator", "interrupts"}
    assert {module for module in ours(FILES[name]) if not module.startswith("store")} <= allowed


LIBRARY = {"accessors/pandas.py": {"pandas", "numpy"}, "accessors/polars.py": {"polars"}}


LENT = {
    "accessors/lineages.py": {"collection_view"},
    "accessors/outline.py": {"frames.widening", "store.text"},
    "accessors/pandas.py": {"frames.pandas"},
    "accessors/unlike.py": {"frames.pandas", "frames.widening", "store.text"},
}
"""A branch's keeper, and what gives the table of levels, and frames put together, the types of a flat frame."""


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("accessors/")])
def test_the_accessors_read_frames_and_know_no_store(name):
    """They get what they know from the frame: nothing of ours that reads or writes files, but the branch of a keeper."""
    allowed = {"branches", "columns", "errors", "levels", "lineage", "values"} | LENT.get(name, set())
    assert {module for module in ours(FILES[name]) if not module.startswith("accessors")} <= allowed
    top = {module.split(".")[0] for module in imports_at_top(FILES[name])}
    assert top & HEAVY <= LIBRARY.get(name, set())


def imports_at_top(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names)
    yield from (node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level)


def test_nothing_of_ours_knows_the_accessors_but_the_public_names():
    knowing = {
        name
        for name, path in FILES.items()
        if not name.startswith("accessors/") and any(module.startswith("accessors") for module in ours(path))
    }
    assert knowing == {"__init__.py"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("frames/")])
def test_frames_are_made_of_what_was_read_and_know_no_keeper(name):
    allowed = {"branches", "columns", "errors", "exact", "levels", "lineage", "reading", "values"}
    assert {module for module in ours(FILES[name]) if not module.startswith(("store", "frames"))} <= allowed


def test_the_methods_that_make_frames_know_what_makes_them_and_nothing_else():
    assert ours(FILES["flat.py"]) <= {f"frames.{way}" for way in WAYS} | {"frames.plan", "store.memory"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("frames/")])
def test_each_frame_library_is_imported_in_its_own_file(name):
    libraries = {module.split(".")[0] for module in imports(FILES[name])} & {"pandas", "pyarrow", "narwhals"}
    assert libraries <= {Path(name).stem, f"py{Path(name).stem}"}  # pyarrow in arrow.py


@pytest.mark.parametrize(
    "name",
    [
        "flat.py",
        "keeper.py",
        "experiment.py",
        "session.py",
        "store/journal.py",
        "store/unit.py",
        "exact.py",
        "plain.py",
        "values.py",
    ],
)
def test_what_records_imports_nothing_heavy_at_its_top(name):
    assert not {module.split(".")[0] for module in imports_at_top(FILES[name])} & HEAVY


OS_CALLS = {
    "open", "read", "write", "pread", "pwrite", "writev", "pwritev", "fsync", "fdatasync", "rename", "replace", "remove",
    "unlink", "rmdir", "mkdir", "makedirs", "link", "symlink", "truncate", "ftruncate", "posix_fallocate", "listdir",
    "scandir", "stat", "fstat", "lstat", "utime", "statvfs", "walk", "removedirs", "dup", "chmod",
}  # fmt: skip
PATH_CALLS = {
    "read_bytes", "read_text", "write_bytes", "write_text", "mkdir", "rmdir", "unlink", "rename", "touch", "iterdir", "glob",
    "rglob", "exists", "is_file", "is_dir", "stat", "hardlink_to", "symlink_to",
}  # fmt: skip
MAY = {
    "store/files.py": OS_CALLS | PATH_CALLS,
    "store/machine.py": {"open", "exists"},  # /proc, which is no store
    "frames/available.py": {"open"},  # the same
    "store/helper.py": OS_CALLS,  # pipes to a process
    "store/sealer.py": OS_CALLS,  # the other end of them
    "store/compactor.py": {"write"},  # the same
    "store/journal.py": {"close"},
    "selftest/place.py": {"shutil.rmtree"},  # of the folder that it made
    "selftest/worker.py": {"write"},  # into a pipe
}


def system_calls(path):
    """The calls of a file that go to the system: open(), os.x(), mmap.mmap(), and methods of Path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        if text in {"open", "mmap.mmap", "mmap"} or text.startswith("shutil."):
            yield text
        elif text.startswith("os.") and text.removeprefix("os.") in OS_CALLS:
            yield text.removeprefix("os.")
        elif (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in PATH_CALLS
            and text.startswith(("Path(", "path."))
        ):
            yield node.func.attr


@pytest.mark.parametrize("name", FILES)
def test_only_files_makes_system_calls(name):
    """The one place where tests inject faults sees every system call of the store."""
    assert set(system_calls(FILES[name])) <= MAY.get(name, set()) | (
        {"mmap.mmap"} if name == "store/files.py" else set()
    )


def test_every_file_says_what_room_it_is():
    for name, path in FILES.items():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, name
        assert len(path.read_text(encoding="utf-8").splitlines()) < 900, name


def test_no_pickle_no_eval():
    for name, path in FILES.items():
        names = {module.split(".")[0] for module in imports(path)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}, name
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        allowed = {"eval"} if name == "store/rows.py" else set()  # of a text made of numbers alone
        assert not calls & {"eval", "exec", "compile", "__import__"} - allowed, name
