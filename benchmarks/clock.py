"""What a worker measures with: the clock, processor time, resident memory, and what lies on disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from time import perf_counter, sleep

from benchmarks import helpers
from benchmarks.workloads import MIB, Measured


def _cpu_seconds() -> float:
    """Processor time, user and system, of this process and of its helpers, those still at work included."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + helpers.cpu_seconds()


class Stopwatch:
    """Starts when it is made, after the imports."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()
        self._start = perf_counter()

    def read(self) -> Measured:
        """Seconds so far, processor seconds with those of helpers, this process's highest resident bytes."""
        total = perf_counter() - self._start
        return {"total": total, "cpu": _cpu_seconds() - self._cpu, "peak": _highest_memory()}


def _highest_memory() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def resident_memory() -> tuple[int, int]:
    """Resident bytes of this process: (anonymous, of files). Counted page by page; /proc/self/status only estimates."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(text.split()[0]) * 1024 for name, _, text in (line.partition(":") for line in lines)}
    return sizes["Anonymous"], sizes["Rss"] - sizes["Anonymous"]


def files_of(folder: str) -> list[os.DirEntry[str]]:
    """All files below a folder; one that vanishes meanwhile (a log just sealed) is left out."""
    found = []
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                found.append(entry)
    return found


def size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def unsealed(folder: str) -> list[int]:
    """The sizes in bytes of the logs that are not sealed (yet)."""
    return [size_of(entry) for entry in files_of(folder) if entry.name.endswith(".log")]


def wait_until_sealed(folder: str, seconds: float = 60.0) -> None:
    """Return when no log of 1 MiB or more is left (smaller ones stay, by design): part of the time of saving."""
    deadline = perf_counter() + seconds
    while left := [size for size in unsealed(folder) if size >= MIB]:
        if perf_counter() > deadline:
            message = f"{len(left)} logs, {sum(left)} bytes, still not sealed {seconds:.0f} s after the end"
            raise TimeoutError(message)
        sleep(0.002)


def on_disk(folder: str) -> Measured:
    """Bytes of a collection as it lies there, and how many of them are logs."""
    return {"disk": sum(map(size_of, files_of(folder))), "disk_logs": sum(unsealed(folder))}
