"""The sealing helper: a process that seals the logs named on its standard input, and answers on its standard output.

`python -m rigorous_recorder.store.sealer`. A process of its own, because polars hangs in forked children of a process
that used it, and because sealing in a thread starves behind the recording one. It never complains to a terminal.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_SECONDS: Final = 10.0
"""After so long without a request the helper ends; the next request starts another."""
NICE: Final = 10
LINE: Final = 1 << 16
"""Bytes to read at a time."""


def main() -> None:
    """Serve requests until the input ends or is silent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # what sealing makes, it frees by itself
    os.environ["POLARS_MAX_THREADS"] = "1"
    with suppress(OSError, AttributeError):
        os.nice(NICE)
    for path in _requests():
        _answer(_sealed(path))


def _requests() -> Iterator[str]:
    """The paths that are asked for, one a line."""
    rest = b""
    while True:
        if os.name != "nt" and not select.select([0], [], [], IDLE_SECONDS)[0]:
            return
        more = os.read(0, LINE)
        if not more:
            return
        *lines, rest = (rest + more).split(b"\n")
        yield from (os.fsdecode(line) for line in lines if line)


def _sealed(path: str) -> str:
    """Seal one log; the answer."""
    from . import layout

    unit = layout.parse_unit(path.rpartition("/")[2])
    if unit is None or unit.sealed:
        return f"kept {path} not the name of a log"
    try:
        from .pack import seal_or_why

        pack, why = seal_or_why(path)
    except FileNotFoundError:
        return f"kept {path} not there"
    except Exception as error:  # noqa: BLE001  (whatever it is, the log stays and the next one gets its turn)
        return f"kept {path} {type(error).__name__}: {error}".replace("\n", " ")
    return f"ok {path}" if pack is not None else f"kept {path} {why}"


def _answer(line: str) -> None:
    """Tell the recorder; when it has gone or does not listen any more, what it asked for is finished all the same."""
    data = os.fsencode(line) + b"\n"
    with suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


if __name__ == "__main__":
    # PanicException (polars) is a BaseException. Logs simply stay logs.
    with suppress(BaseException):
        main()
    os._exit(0)
