"""Which process on which host this is: what a unit's header says of its writer, and what tells the dead from the living."""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple


class Machine(NamedTuple):
    """A process, so that another one can find out whether it still lives.

    Attributes:
        boot: Id of this boot of the machine; another boot means that the process is gone.
        host: The host's name.
        namespace: Of process ids: the same number means another process in another container.
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

    0 where the system does not tell (no /proc): then only the process id is known.
    """
    text = _text(f"/proc/{pid}/stat")
    if text:
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X", "x") else int(fields[19])
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  (a link that is no path)
    except OSError:
        return ""


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


def lives(machine: Machine) -> bool | None:
    """Whether a process is alive: True or False when this host can tell, None when it ran elsewhere.

    Another boot of the same host means that it is gone; another pid namespace of the same boot cannot be looked into.
    """
    if machine.host != _constant[1]:
        return None
    if machine.boot != _constant[0]:
        return False
    if machine.namespace != _constant[2]:
        return None
    alive = start_of(machine.pid) in (machine.pid_start, 0)
    if not alive:
        _gone.setdefault(machine, time.monotonic())
    return alive


_gone: Final[dict[Machine, float]] = {}


def found_gone(machine: Machine, since: float) -> bool:
    """Whether a process of this boot was found to be gone at `since` (of the monotonic clock) or later, and not before.

    Then it may have written its last word after somebody read its files, and before he looked whether it lives.
    """
    return _gone.get(machine, -1.0) >= since
