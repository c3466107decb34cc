"""The recorder's side of the sealing helper: starts the process, hands it logs, and hears which were sealed.

Used by the recorder's background thread. Nothing here blocks for longer than it is told to, and nothing raises: a log
that is not sealed is a normal state.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

MODULE: Final = "rigorous_recorder.store.sealer"
_PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
_ANSWER: Final = 1 << 16
"""Bytes to read at a time."""
_MOST_ANSWERS: Final = 4
"""Readings at a time: what never stops talking must not keep the background thread from the disk."""
TURN: Final = 0.02
"""Seconds for which one waiter keeps the others from the pipes."""
_MOST_PENDING: Final = 1 << 20
"""Bytes of requests that wait here when the pipe is full."""


def module_command(module: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module of ours in another process of this interpreter, and its environment."""
    search = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: what lies in the working folder is not imported
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": os.pathsep.join(search)}


class SealingHelper:
    """A helper process, started at the first request, and again when one died or went idle.

    Attributes:
        pending: The absolute paths handed over and not answered yet.
        kept: The absolute paths that were answered but not sealed, and why.
        unanswered: The absolute paths that a process died over before it answered.
    """

    def __init__(self) -> None:
        """No process is started yet."""
        self.pending: set[str] = set()
        self.kept: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent = b""
        self._heard = b""
        self._lock = threading.RLock()  # the background thread and whoever closes an experiment both come here

    @property
    def started(self) -> bool:
        """Whether there is a process, as far as is known here."""
        return self._process is not None

    def submit(self, path: str) -> bool:
        """Ask for a log to be sealed.

        Returns:
            Whether the request is on its way; else the log simply stays.
        """
        path = os.path.abspath(path)  # noqa: PTH100  (the helper may have another folder)
        if "\n" in path:
            return False
        with self._lock:
            self.poll()
            if self._process is None and not self._start():
                return False
            if len(self._unsent) > _MOST_PENDING:
                return False
            self._unsent += os.fsencode(path) + b"\n"
            self.pending.add(path)
            self.unanswered.discard(path)
            self._send()
            return self._process is not None

    def poll(self) -> None:
        """Take the answers that are there, and send what did not fit into the pipe before."""
        with self._lock:
            self._hear(0.0)
            self._send()

    def wait(self, paths: Iterable[str], seconds: float) -> bool:
        """Wait until paths are answered.

        Returns:
            Whether all are; False when time is over or the process died before.
        """
        wanted = set(map(os.path.abspath, paths))
        end = time.monotonic() + seconds
        while wanted & self.pending:
            left = end - time.monotonic()
            if self._process is None or left <= 0:
                return False
            with self._lock:
                self._send()
                self._hear(min(left, TURN))
        return not wanted & self.unanswered

    def forget(self) -> None:
        """In a forked child: close this side of the pipes and leave the process to the parent."""
        self._lock = threading.RLock()
        process, self._process = self._process, None
        self.pending, self._unsent, self._heard = set(), b"", b""
        _leaving.clear()
        if process is None:
            return
        _close(process)
        process.returncode = 0  # nobody's child here: neither wait for it nor warn about it

    def finish(self, seconds: float) -> None:
        """End the input of the process, and wait so long for it to seal what it has; it goes on with the rest alone."""
        self.wait(self.pending, seconds)
        with self._lock:
            self._send()
            self._let_go()

    # ---- the process ------------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        import subprocess  # 4 ms that a run too short to be sealed does not pay

        if not sys.executable:
            return False
        command, environment = module_command(MODULE)
        try:
            process = subprocess.Popen(  # noqa: S603  (this interpreter, our module)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for the recorder
                bufsize=0,
            )
            try:
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None  # both were asked for
                    os.set_blocking(pipe.fileno(), False)
            except BaseException:  # a KeyboardInterrupt, say: nobody may wait for pipes that block
                _leave(process)
                raise
        except (OSError, ValueError):
            return False
        self._process = process
        return True

    def _let_go(self) -> None:
        """Close the pipes and forget the process; what it has not answered stays unsealed. It is reaped when it ends."""
        process, self._process = self._process, None
        self.unanswered |= self.pending
        self.pending.clear()
        self._unsent, self._heard = b"", b""
        if process is not None:
            _leave(process)
        _reap()

    def _send(self) -> None:
        """Write as much of the requests as fits into the pipe."""
        if not self._unsent or self._process is None or self._process.stdin is None:
            return
        try:
            self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._let_go()

    def _hear(self, seconds: float) -> None:
        """Take answers, and wait for the first of them at most so long."""
        for _ in range(_MOST_ANSWERS):
            if self._process is None or self._process.stdout is None:
                return
            pipe = self._process.stdout.fileno()
            try:
                if seconds > 0 and os.name != "nt":
                    select.select([pipe], [], [], seconds)
                heard = os.read(pipe, _ANSWER)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                heard = b""
            seconds = 0.0
            if not heard:  # it ended: idle, or killed
                self._let_go()
                return
            *lines, self._heard = (self._heard + heard).split(b"\n")
            for line in lines:
                self._note(os.fsdecode(line))

    def _note(self, line: str) -> None:
        """Take one answer: "ok <path>", or "kept <path> <reason>" in which the path may have spaces."""
        word, _, rest = line.partition(" ")
        if word == "ok":
            self.pending.discard(rest)
            return
        path = next((path for path in self.pending if rest.startswith(path + " ")), None)
        if path is not None:
            self.pending.discard(path)
            self.kept[path] = rest[len(path) + 1 :]


_leaving: Final[list[int]] = []
"""Processes that were let go and may still be at work."""


def _leave(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a process, which ends then, and see to it that it is reaped."""
    _close(process)
    _leaving.append(process.pid)
    process.returncode = 0  # else Popen warns that it still runs


def _reap() -> None:
    """Take notice of the processes that have ended since, so that they do not stay zombies."""
    for pid in list(_leaving):
        try:
            if os.name == "nt" or os.waitpid(pid, os.WNOHANG)[0]:
                _leaving.remove(pid)
        except OSError:  # not ours: this is a forked child
            _leaving.remove(pid)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
