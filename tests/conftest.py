"""What all tests share: the Hypothesis profiles, the journal modes, a collection, the plan's rows, what did not run."""

import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import plan
import pytest
from hypothesis import settings

import rigorous_recorder
from rigorous_recorder import ExperimentCollection

# No deadlines: the tests fsync and start processes. `ci` and `small` repeat the same examples, so that they fail for a reason.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("small", max_examples=50, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("long", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev"))

LOG = os.environ.get("RELIABILITY_LOG")
"""Where the outcome of each test of the plan is noted, a JSON object a line; see `plan.py`."""


@pytest.hookimpl(tryfirst=True)  # before the markers are selected by
def pytest_collection_modifyitems(config, items):
    for item in items:
        key = plan.row_of(item.nodeid)
        if key is not None:
            item.add_marker(pytest.mark.row(key=key))
        if os.geteuid() != 0 and item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason="NOT TESTED, it needs root: it mounts a small file system"))
    if LOG and os.environ.get("RESUME") and os.path.exists(LOG):
        passed = {test for test, entry in plan.load(LOG).items() if entry["outcome"] == "passed"}
        done = [item for item in items if item.nodeid in passed]
        items[:] = [item for item in items if item.nodeid not in passed]
        config.hook.pytest_deselected(items=done)


# Of the session, since it is only a word: Hypothesis refuses fixtures that it would have to renew for each example.
@pytest.fixture(scope="session", params=["mmap", "write"])
def journal(request):
    """How the journal is written; for `ExperimentCollection(path, journal=...)`."""
    return request.param


@pytest.fixture
def collection(tmp_path, journal):
    """An empty collection, once for each way to write the journal."""
    return ExperimentCollection(tmp_path / "study", journal=journal)


@pytest.fixture
def ram(tmp_path):
    """A folder in memory where there is one: these tests sync thousands of times, and no power is cut."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def reached(record_property):
    """Notes how many rounds of its row of the plan a test has done."""
    return lambda count: record_property("reached", count)


# ---- what ran, and what did not ----------------------------------------------------------------------------------------

_unprivileged = {}


def pytest_runtest_logreport(report):
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return  # the controller gets it as well
    if report.skipped and "privileged" in report.keywords:
        _unprivileged[report.nodeid] = _why(report)
    if report.when == "call" or report.outcome != "passed":
        _note(report)


def _note(report):
    key = plan.row_of(report.nodeid)
    if not LOG or key is None:
        return
    entry = {
        "test": report.nodeid,
        "row": key,
        "outcome": report.outcome,
        "why": _why(report),
        "reached": sum(count for name, count in report.user_properties if name == "reached"),
        "seconds": round(report.duration, 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": f"rigorous_recorder {rigorous_recorder.__version__}, Python {platform.python_version()}, "
        f"Linux {platform.release().partition('-')[0]}",
    }
    with open(LOG, "a", encoding="utf-8") as file:  # at once: a long run may be stopped
        file.write(json.dumps(entry) + "\n")


def _why(report):
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
    return text.strip().rpartition("\n")[2].removeprefix("Skipped: ").replace("|", "/")


def pytest_terminal_summary(terminalreporter):
    """Say loudly what a skip would only whisper."""
    seed_readme = Path(__file__).resolve().parents[2] / "shared" / "seed-readme.md"
    if not seed_readme.exists():
        terminalreporter.section("the original's README was not run", red=True, bold=True)
        terminalreporter.line(f"tests/test_seed_readme.py needs {seed_readme}, which is not there.")
    if _unprivileged:
        terminalreporter.section(f"{len(_unprivileged)} PRIVILEGED TESTS DID NOT RUN", red=True, bold=True)
        for nodeid, why in sorted(_unprivileged.items()):
            key = plan.row_of(nodeid)
            terminalreporter.line(f"{plan.ROWS[key].name if key else 'no row of the plan'}: {nodeid}: {why}")
