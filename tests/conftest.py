"""What all tests share: the Hypothesis profiles, the journal modes, a collection, the skip of privileged tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from rigorous_recorder import ExperimentCollection

# No deadlines: the tests fsync and start processes. `ci` repeats the same examples, so that it fails for a reason.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("long", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev"))


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason="needs root: it mounts a small file system"))


# Of the session, since it is only a word: Hypothesis refuses fixtures that it would have to renew for each example.
@pytest.fixture(scope="session", params=["mmap", "write"])
def journal(request):
    """How the journal is written; for `ExperimentCollection(path, journal=...)`."""
    return request.param


@pytest.fixture
def collection(tmp_path, journal):
    """An empty collection, once for each way to write the journal."""
    return ExperimentCollection(tmp_path / "study", journal=journal)


def pytest_terminal_summary(terminalreporter):
    """Say loudly what a skip would only whisper: the original's README was not at hand."""
    seed_readme = Path(__file__).resolve().parents[2] / "shared" / "seed-readme.md"
    if not seed_readme.exists():
        terminalreporter.section("the original's README was not run", red=True, bold=True)
        terminalreporter.line(f"tests/test_seed_readme.py needs {seed_readme}, which is not there.")
