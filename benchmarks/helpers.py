"""Finds the helper processes of one run, whatever session they are in: all inherit a mark in their environment."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, sleep

MARK = "RR_BENCHMARK_RUN"  # set to a different text for every run


def _stats(mark: str) -> list[list[str]]:
    """The fields of /proc/PID/stat from the third on, of all processes with that mark but this one."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            # one that ended and was not waited for has no environment any more, but still its times and its parent
            ours = wanted in (process / "environ").read_bytes().split(b"\0") or int(fields[1]) == os.getpid()
        except OSError:
            continue
        if ours and int(process.name) != os.getpid():
            found.append(fields)
    return found


def cpu_seconds() -> float:
    """Processor time, user and system, of the helpers of this worker that have not been waited for."""
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in _stats(os.environ[MARK]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for_end(mark: str, seconds: float = 60.0) -> None:
    """Return when no process of that run is left, so that none disturbs the next one."""
    deadline = perf_counter() + seconds
    while _stats(mark) and perf_counter() < deadline:
        sleep(0.01)
