"""Self-test: whether a file system keeps what recording relies on, tried with real processes in a folder on it.

A row for each thing that is tried, with a verdict and a sentence. What it makes in the folder it removes, also when it is
interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from .place import Place
from .trials import NOT_SAFE, OK, SLOWER, TRIALS, Row, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["NOT_SAFE", "OK", "SLOWER", "Row", "selftest", "selftest_command"]

INTERRUPTED: Final = 130
"""The exit code of a command that was interrupted, as shells have it."""
_STYLES: Final = {OK: "green", SLOWER: "yellow", NOT_SAFE: "bold red"}


def selftest(folder: str, *, quick: bool = False) -> Iterator[Row]:
    """Try a file system; gives a row as soon as its trial is over.

    Args:
        folder: On the file system to try. It must be there, and is as it was when the iterator is exhausted or closed, but for
            what a self-test left there that was killed: that is gone.
        quick: Whether to do a tenth of the rounds.
    """
    try:
        place = Place(folder, quick=quick)
    except OSError as error:
        yield refused("folder", error)
        return
    with place:
        for name, trial in TRIALS:
            try:
                row = trial(place)
            except OSError as error:
                row = refused(name, error)
            finally:
                place.end_processes()
            yield row


def selftest_command(folder: os.PathLike[str], *, quick: bool = False) -> int:
    """Try the file system of a folder and print a line for each trial.

    Returns:
        The exit code: 0 when recording there is safe, 1 when something is not, 130 when it was interrupted.
    """
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=True)
    path = os.path.abspath(os.fsdecode(folder))  # noqa: PTH100  (`Path.absolute` keeps "..")
    _print(out, path, "bold")
    rows = []
    try:
        with _term_as_interrupt():
            trials = selftest(path, quick=quick)
            try:
                for row in trials:
                    rows.append(row)
                    _print_row(out, row)
            finally:
                trials.close()  # type: ignore[attr-defined]  # a generator: removes what it made
    except KeyboardInterrupt:
        _print(out, "interrupted; the folder is as it was", "yellow")
        return INTERRUPTED
    unsafe = sum(row.verdict == NOT_SAFE for row in rows)
    slower = sum(row.verdict == SLOWER for row in rows)
    if unsafe:
        _print(out, f"{unsafe} of {len(rows)} NOT safe: do not record here.", "bold red")
        return 1
    _print(out, f"Recording here is safe{', if slower than on a local disk' if slower else ''}.", "bold green")
    return 0


def _print_row(out: Console, row: Row) -> None:
    from rich.text import Text

    out.print(Text.assemble((f"{row.verdict:<8}", _STYLES[row.verdict]), f"  {row.name:<8}  {row.sentence}"))
    sys.stdout.flush()


def _print(out: Console, text: str, style: str) -> None:
    from rich.text import Text

    out.print(Text(text, style))


@contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end things as Ctrl-C does, so that what was made is removed."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
