"""Compaction as a user asks for it: the compacting process is started here, listened to, and shown as a bar of progress."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import errors
from .errors import RecorderError, StoreError, hint_for, storing
from .store.helper import module_command
from .store.report import CompactionReport  # noqa: TC001  (msgspec reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE: Final = "rigorous_recorder.store.compactor"


class _Message(msgspec.Struct):
    """A line that the process says: how far it is, or at its end what it did or why it could not."""

    done: int = 0
    total: int = 0
    report: CompactionReport | None = None
    refused: str = ""
    kind: str = ""
    errno: int | None = None
    file: str | None = None


def compact(path: str, *, progress: bool | None = None) -> CompactionReport:
    """Compact the collection at a path in a process of its own, and wait for it.

    Args:
        path: Of the collection.
        progress: Whether to show a bar; on terminals and in notebooks by default.

    Raises:
        RecorderError: As `store.compact.compact`, and when the process ended before it was done.
    """
    command, environment = module_command(MODULE)
    if not command[0]:
        raise RecorderError(
            "The Python interpreter is not known (sys.executable), so that no process can be started to compact."
        )
    with (
        storing("no process can be started to compact", path),
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603  (this interpreter, our module)
            [*command, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=environment
        ) as process,
        _bar(progress) as show,
    ):
        assert process.stdout is not None  # it is a pipe
        try:
            for line in process.stdout:
                message = _decoder.decode(line)
                if message.report is not None:
                    return message.report
                _refuse(message, path)
                show(message.done, message.total)
        except BaseException:
            process.terminate()  # it may stop at any moment
            raise
        process.wait()
        said.seek(0)
        why = said.read().decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {process.returncode}"
    raise RecorderError(f"The compaction of {path} ended before it was done ({why}). Hint: call compact() again.")


_decoder: Final = msgspec.json.Decoder(_Message)


def _refuse(message: _Message, path: str) -> None:
    """Raise what the process could not do, if that is what it says."""
    if not message.refused:
        return
    if message.kind == "OSError":
        raise StoreError(
            message.errno,
            f"the collection cannot be compacted: {message.refused}. Nothing is lost. Hint: {hint_for(message.errno)}",
            message.file or path,
        )
    kind: type[RecorderError] = getattr(errors, message.kind, RecorderError)
    raise kind(message.refused)


@contextlib.contextmanager
def _bar(progress: bool | None) -> Iterator[Any]:
    """What shows how far it is: a bar, or nothing."""
    if progress is False or (progress is None and not _watched()):
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("compacting"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _watched() -> bool:
    """Whether somebody looks on: a terminal, or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
