"""What the tests of the interface share: programs that run in a fresh interpreter, and keepers of each kind."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from rigorous_recorder import ExperimentCollection, RecordKeeper
from rigorous_recorder.store.background import background

ROOT = Path(__file__).resolve().parents[1]

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
"""The last line of a program that ends by SIGKILL."""

ELSEWHERE = """
import time
from rigorous_recorder.store import machine
machine._constant = (machine._constant[0], "another-host", machine._constant[2])
real_time = time.time
time.time = lambda: real_time() - 1000
"""
"""The first lines of a program that writes as if it ran on another host, a thousand seconds ago."""


def run(code, *arguments, returncode=0):
    """Run code with these `sys.argv[1:]`; its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == returncode, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_killed(code, *arguments):
    """Run code that is killed by SIGKILL at its end."""
    return run(f"{code}\n{KILLED}", *arguments, returncode=-signal.SIGKILL)


def wait_until_sealed():
    """Return when the sealing helper of this process has answered all that it was asked."""
    assert background.helper.wait(background.helper.pending, 60), background.helper.unanswered


@contextmanager
def root_keeper(kind, path, /, **data):
    """A root: in "memory", or an experiment in the journal mode "mmap" or "write"."""
    if kind == "memory":
        yield RecordKeeper(data)
        return
    with ExperimentCollection(path, journal=kind).new_experiment(data) as keeper:
        yield keeper


def own(records):
    """Records as plain dicts without the automatic keys."""
    automatic = ("experiment_", "error_", "had_error")
    return [{key: value for key, value in each.items() if not key.startswith(automatic)} for each in records]


def stable(value):
    """An id of a parameter that is the same in every process: without addresses, and whatever the order of a set."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return re.sub(r"\{([^{}:]*)\}", lambda match: "{" + ", ".join(sorted(match[1].split(", "))) + "}", text)
