"""What the numbers were measured on: the machine, the file system, the versions, the date."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("rigorous-recorder", "msgspec", "polars", "pandas", "numpy", "pyarrow", "duckdb", "pyspark")


def _first(file: str, key: str) -> str:
    """The value of the first line `key ... : value` of a /proc file, or "unknown"."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")


def _memory() -> str:
    text = _first("/proc/meminfo", "MemTotal")
    return f"{int(text.split()[0]) / (1 << 20):.1f} GiB" if text != "unknown" else text


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} {'from this checkout' if library == 'rigorous-recorder' else 'not installed'}"


def _file_system(folder: str) -> str:
    """The type of the longest mount point that holds the folder."""
    best = ("", "unknown")
    real = os.path.realpath(folder)
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split(" ")
        if (real + "/").startswith(mount.rstrip("/") + "/") and len(mount) > len(best[0]):
            best = (mount, kind)
    return best[1]


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not committed"


def load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg()) + " (1, 5, 15 minutes)"


def describe(folder: str) -> dict[str, str]:
    """One line each, in the order in which they are printed."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {_memory()} memory",
        "system": f"{platform.system()} {platform.release()}, data on {_file_system(folder)} ({folder})",
        "Python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "libraries": ", ".join(map(_version, LIBRARIES)),
        "commit": _commit(),
        "load before": load(),
    }
