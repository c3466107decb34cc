"""`.rr` is there whichever library is imported first, and importing us imports none of them."""

import pytest
from programs import run

CHECK = """
import pandas as pd, polars as pl
for frame in (pd.DataFrame({"rr_lineage": ["a=1", "a=2"]}), pl.DataFrame({"rr_lineage": ["a=1", "a=2"]})):
    assert frame.rr.under(a=1).shape == (1, 1)
assert pl.LazyFrame({"rr_lineage": ["a=1"]}).rr.under(a=1).collect().shape == (1, 1)
finders = [finder for finder in sys.meta_path if type(finder).__module__.startswith("rigorous_recorder")]
assert not finders, "it removes itself"
"""
START = "import sys, warnings; warnings.simplefilter('error')\n"


@pytest.mark.parametrize(
    "first",
    [
        "import rigorous_recorder, pandas, polars",
        "import rigorous_recorder, polars, pandas",
        "import pandas, rigorous_recorder, polars",
        "import polars, rigorous_recorder, pandas",
        "import polars, pandas, rigorous_recorder",
        "import rigorous_recorder; from pandas import DataFrame; from polars import col",
        "import rigorous_recorder, pandas.core.frame, polars.dataframe",
        "import rigorous_recorder, narwhals, duckdb, pyarrow",
    ],
)
def test_whichever_is_imported_first(first):
    run(f"{START}{first}\n{CHECK}")


def test_importing_us_imports_nothing_heavy_and_is_quick():
    code = """
import sys, time
from rigorous_recorder import concat, under
heavy = {"pandas", "polars", "numpy", "narwhals", "pyarrow", "duckdb"} & set(sys.modules)
assert not heavy, heavy
from rigorous_recorder.accessors import on_import
sys.meta_path.remove(on_import._finder)
times = []
for _ in range(5):
    start = time.perf_counter()
    on_import.install()
    times.append(time.perf_counter() - start)
    sys.meta_path.remove(on_import._finder)
assert min(times) < 0.001, times
"""
    run(code)


def test_a_probe_does_not_use_up_the_chance():
    run(
        f"""{START}
import importlib.util, rigorous_recorder
for _ in range(3):
    for name in ("pandas", "polars", "pandas.core", "nowhere"):
        importlib.util.find_spec(name) if name != "pandas.core" else None
{CHECK}"""
    )


def test_other_finders_that_ask_all_finders():
    run(
        f"""{START}
import importlib.util, rigorous_recorder
class Asks:
    asking = False
    def find_spec(self, name, path=None, target=None):
        if self.asking or name not in ("pandas", "polars"):
            return None
        self.asking = True
        try:
            return importlib.util.find_spec(name)
        finally:
            self.asking = False
sys.meta_path.insert(0, Asks())
{CHECK}"""
    )


def test_one_loader_for_all_modules(tmp_path):
    """As in applications that are packed into one file; a probe must not make the next module the library."""
    (tmp_path / "early.py").write_text("")
    run(
        f"""{START}
import importlib.util, rigorous_recorder
from importlib.machinery import PathFinder
class Shared:
    loaders = {{}}
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not hasattr(spec.loader, "get_code") or spec.origin.endswith(".so"):
            return None
        self.loaders[name], spec.loader = spec.loader, self
        return spec
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        self.loaders[module.__name__].exec_module(module)
shared = Shared()
sys.meta_path.insert(1, shared)
sys.path.append({str(tmp_path)!r})
importlib.util.find_spec("pandas"), importlib.util.find_spec("pandas"), importlib.util.find_spec("polars")
import early
assert not {{"pandas", "polars"}} & set(sys.modules)
import polars
assert "pandas" not in sys.modules
{CHECK}"""
    )


def test_an_import_that_fails_leaves_the_chance(tmp_path):
    (tmp_path / "pandas.py").write_text("raise ValueError('broken')")
    run(
        f"""{START}
import rigorous_recorder
sys.path.insert(0, {str(tmp_path)!r})
try:
    import pandas
except ValueError as error:
    assert str(error) == "broken"
sys.path.pop(0)
sys.path_importer_cache.clear()
{CHECK}"""
    )


def test_a_library_that_we_cannot_extend_is_a_warning_and_still_imported(tmp_path):
    (tmp_path / "polars.py").write_text("version = 99")
    run(
        f"""
import sys, warnings, rigorous_recorder
sys.path.insert(0, {str(tmp_path)!r})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import polars
assert polars.version == 99
(one,) = caught
assert "polars has no `.rr`: AttributeError" in str(one.message), one.message
assert issubclass(one.category, rigorous_recorder.RecorderWarning)
"""
    )


def test_threads_that_import_at_once():
    run(
        f"""{START}
import threading, importlib, rigorous_recorder
names = ["pandas", "polars", "numpy", "rigorous_recorder.collection", "pandas", "polars"]
threads = [threading.Thread(target=importlib.import_module, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
{CHECK}"""
    )


def test_again_and_reloaded():
    run(
        f"""{START}
import importlib, rigorous_recorder, pandas, polars
from rigorous_recorder.accessors import on_import
kept = pandas.DataFrame.rr, polars.DataFrame.rr, polars.LazyFrame.rr
on_import.install()
importlib.reload(rigorous_recorder)
importlib.reload(on_import).install()
assert (pandas.DataFrame.rr, polars.DataFrame.rr, polars.LazyFrame.rr) == kept
{CHECK}"""
    )


def test_a_module_is_what_it_would_be_without_us():
    code = f"""{START}
import rigorous_recorder, pandas
assert pandas.__spec__.loader is pandas.__loader__
assert "exec_module" not in vars(pandas.__loader__)
assert pandas.__spec__.origin.endswith("__init__.py")
assert pandas.__path__
"""
    run(code)
