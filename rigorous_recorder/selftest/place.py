"""The place of a self-test: a folder of its own in the folder to try, and its processes; both are gone afterwards.

What one leaves that is killed is removed by the next one in that folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from ..store import files, layout
from ..store.machine import Machine, here, lives, same_boot

if TYPE_CHECKING:
    from types import TracebackType

WORKER: Final = "rigorous_recorder.selftest.worker"
PATIENCE: Final = 30.0
"""Seconds after which a process of a trial hangs."""
PREFIX: Final = ".rigorous-recorder-selftest-"
OWNER: Final = "process"
"""The file that says whose folder it is: the fields of `Machine`, as JSON."""
MOST: Final = 1 << 12
"""Bytes that are read of it."""
_decoder: Final = msgspec.json.Decoder(Machine)
_PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120


class WorkerError(OSError):
    """A process of a trial failed, or did not answer in time."""


class Place:
    """Where a self-test works.

    Attributes:
        folder: The folder to try.
        path: The folder in it that is the self-test's own.
        quick: Whether to do a tenth of the rounds.

    Raises:
        OSError: The folder is not there, or nothing can be made in it.
    """

    def __init__(self, folder: str, *, quick: bool = False) -> None:
        self.folder = folder
        self.quick = quick
        self.path = f"{folder}/{PREFIX}{layout.new_id()[:12]}"
        self._processes: list[subprocess.Popen[str]] = []
        for name in files.names(folder):  # says that it is not there, or no folder
            if name.startswith(PREFIX) and _was_killed(f"{folder}/{name}"):
                shutil.rmtree(f"{folder}/{name}", ignore_errors=True)  # perhaps it is not ours to remove
        files.make_folder(self.path)
        try:
            self._sign()
        except BaseException:
            _remove(self.path)
            raise

    def _sign(self) -> None:
        descriptor = files.create(f"{self.path}/{OWNER}")
        try:
            files.write_at(descriptor, msgspec.json.encode(here()), 0)
        finally:
            files.close(descriptor)

    def __enter__(self) -> Self:
        """The place itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes and remove the folder; a second Ctrl-C waits until that is done."""
        with _undisturbed():
            self.end_processes()
            _remove(self.path)

    def rounds(self, many: int) -> int:
        """So many rounds, or when it is to be quick, a tenth of them."""
        return max(2, many // 10) if self.quick else many

    def new_folder(self, name: str) -> str:
        """A new folder in the place."""
        path = f"{self.path}/{name}"
        files.make_folder(path)
        return path

    def start(self, role: str, *arguments: object) -> subprocess.Popen[str]:
        """Start a process of a trial; see `worker.py` for the roles."""
        search = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(  # noqa: S603  (this interpreter, our module)
            [sys.executable, "-P", "-m", WORKER, role, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
            start_new_session=True,  # Ctrl-C in the terminal is for this process, which ends the others
        )
        self._processes.append(process)
        return process

    def together(self, role: str, count: int, *arguments: object) -> list[Any]:
        """What `count` processes of one role say, which begin their work at the same moment."""
        processes = [self.start(role, *arguments) for _ in range(count)]
        for process in processes:
            ready(process)
        for process in processes:
            assert process.stdin is not None  # a pipe, as `start` made it
            process.stdin.write("go\n")
            process.stdin.flush()
        return [answer(process) for process in processes]

    def end_processes(self) -> None:
        """Kill what still runs, and wait until it is gone."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def _was_killed(folder: str) -> bool:
    """Whether this is the place of a self-test of this host and boot whose process is gone; not where that cannot be told."""
    try:
        machine = _decoder.decode(files.read_all(f"{folder}/{OWNER}", MOST))
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):  # there is none yet, or it is somebody else's
        return False
    return same_boot(machine.boot, machine.host) and lives(machine, 0.0) is False


def _remove(folder: str) -> None:
    """Remove a folder. The helper of a process that was killed may just be finishing a pack in it, and then ends."""
    deadline = time.monotonic() + PATIENCE
    while files.is_folder(folder):
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def ready(process: subprocess.Popen[str]) -> None:
    """Wait until a process has imported what it needs.

    Raises:
        WorkerError: It failed before.
    """
    assert process.stdout is not None  # a pipe, as `start` made it
    if _in_time(process, process.stdout.readline).strip() != "ready":
        raise _failed(process)


def answer(process: subprocess.Popen[str]) -> Any:
    """What a process says at its end.

    Raises:
        WorkerError: It failed, or did not end in time.
    """
    try:
        said, complaint = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise WorkerError(f"a process did not end within {PATIENCE:.0f} s") from None
    if process.returncode:
        raise WorkerError(_last_line(complaint) or f"a process ended with {process.returncode}")
    return json.loads(said.splitlines()[-1])


def _in_time(process: subprocess.Popen[str], read: Any) -> str:
    """What a read from a process gives; one that hangs is killed, which ends the read."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        return str(read())
    finally:
        timer.cancel()


def _failed(process: subprocess.Popen[str]) -> WorkerError:
    process.kill()
    _, complaint = process.communicate()
    return WorkerError(_last_line(complaint) or "a process could not be started")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


class _undisturbed:  # noqa: N801  (used as a word: with _undisturbed())
    """Within, Ctrl-C and SIGTERM are not heard; where signals cannot be set (another thread), as ever."""

    def __enter__(self) -> None:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
