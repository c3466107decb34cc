"""Which process on which host this is: what a unit's header says of its writer, and what tells the dead from the living."""

from __future__ import annotations

import math
import os
import time
from typing import Final, NamedTuple


class Machine(NamedTuple):
    """A process, so that another one can find out whether it still lives.

    Attributes:
        boot: Id of this boot of the machine; another boot means that the process is gone.
        host: The host's name.
        namespace: Of process ids: the same number means another process in another container. Where the times since boot
            are not those of the kernel, that namespace as well: `pid_start` is one of them.
        pid: Process id.
        pid_start: When the process started, in clock ticks since boot, since process ids are used again.
    """

    boot: str
    host: str
    namespace: str
    pid: int
    pid_start: int


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  (pathlib takes 4 ms to import)
            return file.read().strip()
    except OSError:
        return ""


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)); None when it is gone.

    0 where the system does not tell: there is no /proc, or it hides the processes of others (its option `hidepid`, usual where
    many users share a machine). Then it is only known that some process has this id.
    """
    text = _text(f"/proc/{pid}/stat")
    if text:
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X", "x") else int(fields[19])
    if not 0 < pid < MOST_PIDS:  # what is read from a file may be anything
        return None
    try:
        os.kill(pid, 0)  # whether /proc shows it or not
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


MOST_PIDS: Final = 1 << 31
"""What process ids are below: `pid_t` is a signed int of 32 bits."""


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id")


def _namespace() -> str:
    pids, times = _link("/proc/self/ns/pid"), _link("/proc/self/ns/time")
    return pids if times in ("", KERNELS_TIME) else f"{pids} {times}"


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  (a link that is no path)
    except OSError:
        return ""


KERNELS_TIME: Final = f"time:[{0xEFFFFFFA}]"
"""The time namespace that every process is in unless it was put into another (PROC_TIME_INIT_INO, linux/proc_ns.h)."""


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


_constant: Final = (_boot(), _host(), _namespace())


_here: Machine | None = None


def here() -> Machine:
    """This process."""
    global _here  # noqa: PLW0603  (read once per process: it takes as long as a hundred records)
    pid = os.getpid()
    if _here is None or _here.pid != pid:
        _here = Machine(*_constant, pid, start_of(pid) or 0)
    return _here


def _after_fork_in_child() -> None:
    global _here  # noqa: PLW0603
    _here = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def same_boot(boot: str, host: str) -> bool:
    """Whether a writer ran on this host in this boot, so that what it stored cannot have been torn by a power cut."""
    return (boot, host) == _constant[:2]


def lives(machine: Machine, sign: float) -> bool | None:
    """Whether a process is alive: True or False when this host can tell, None when it ran elsewhere.

    An earlier boot of this host means that it is gone. Another boot of which there is a later sign of life is that of another
    machine of the same name, as containers and machines that were never given one often are; another pid namespace of the
    same boot cannot be looked into.

    Args:
        machine: The process.
        sign: Its last sign of life, in seconds since the epoch.
    """
    if machine.host != _constant[1]:
        return None
    if machine.boot != _constant[0]:
        return None if sign >= booted() else False
    if machine.namespace != _constant[2]:
        return None
    start = start_of(machine.pid)
    alive = start == machine.pid_start
    if start is not None and not alive and 0 in (start, machine.pid_start):
        return None  # it, or another that got its id: one of the starts is not known
    if not alive:
        _gone.setdefault(machine, time.monotonic())
    return alive


def booted() -> float:
    """When this host booted, in seconds since the epoch by its clock as it goes now; long ago where that cannot be told."""
    if " " in _constant[2]:  # in a time namespace that clock starts anywhere
        return -math.inf
    try:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return -math.inf


_gone: Final[dict[Machine, float]] = {}


def found_gone(machine: Machine, since: float) -> bool:
    """Whether a process of this boot was found to be gone at `since` (of the monotonic clock) or later, and not before.

    Then it may have written its last word after somebody read its files, and before he looked whether it lives.
    """
    return _gone.get(machine, -1.0) >= since
