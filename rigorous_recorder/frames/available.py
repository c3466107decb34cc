"""Available: how much memory this process may have, as far as the system tells (Linux)."""

from __future__ import annotations

import re
from typing import Final

_CGROUPS: Final = "/sys/fs/cgroup"


def available() -> int | None:
    """Bytes of memory that this process may have at most beside what it cannot give back; None where the system does not tell.

    The least of: what the machine has left, with its swap (proc_meminfo(5)); what its control groups (version 2) may have less
    what they have taken for memory of processes, since the rest is cache, and given back, with the swap that they may take; and
    the limits on its address space and its data (getrlimit(2)). What this process has itself may all be free, since allocators
    keep what they were given back: so it counts as if it was, and more than this is not to be had.
    """
    status = _text("/proc/self/status")
    own = ((_number(status, "RssAnon") or 0) + (_number(status, "VmSwap") or 0)) << 10
    free, swap = _of_machine()
    groups = [one + own for one in _of_groups(swap)]
    found = groups + _of_limits() if free is None else [free + swap + own, *groups, *_of_limits()]
    return max(0, min(found)) if found else None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  (pathlib takes 4 ms to import)
            return file.read(1 << 16)
    except OSError:
        return ""


def _number(text: str, name: str) -> int | None:
    match = re.search(rf"^{name}:?\s+(\d+)", text, flags=re.MULTILINE)
    return None if match is None else int(match[1])


def _of_machine() -> tuple[int | None, int]:
    """Bytes that are available in memory, and in the swap."""
    text = _text("/proc/meminfo")
    free, swap = _number(text, "MemAvailable"), _number(text, "SwapFree")
    return None if free is None else free << 10, (swap or 0) << 10


def _of_groups(swap: int) -> list[int]:
    """What each control group has left, of so many bytes of swap that the machine has what it may take."""
    line = next((line for line in _text("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    if line is None:
        return []
    path, found = line[3:].rstrip("/"), []
    while True:
        most = _text(f"{_CGROUPS}{path}/memory.max").strip()
        taken = _number(_text(f"{_CGROUPS}{path}/memory.stat"), "anon")
        if most.isdigit() and taken is not None:
            found.append(int(most) - taken + min(swap, _swap_left(f"{_CGROUPS}{path}", swap)))
        if not path:
            return found
        path = path.rpartition("/")[0]


def _swap_left(group: str, swap: int) -> int:
    most, taken = (_text(f"{group}/memory.swap.{name}").strip() for name in ("max", "current"))
    return max(0, int(most) - int(taken)) if most.isdigit() and taken.isdigit() else swap


def _of_limits() -> list[int]:
    try:
        import resource
    except ImportError:  # not on this system
        return []
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return [limit for limit in limits if limit != resource.RLIM_INFINITY]
