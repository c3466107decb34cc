"""The compacting process: `python -m rigorous_recorder.store.compactor PATH`. It tells how far it is, a JSON object a line.

A process of its own, because polars hangs in forked children of a process that used it. It ends when nobody listens any
more; what it has done by then counts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, Final

import msgspec

from rigorous_recorder.errors import RecorderError

EVERY: Final = 0.05
"""Seconds between two words on how far it is."""


def main(path: str) -> None:
    """Compact the collection at a path."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this hears it, and stops this by closing the pipe
    from .compact import compact

    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= EVERY or done == total:
            told = now
            _say({"done": done, "total": total})

    try:
        _say({"report": compact(path, tell=tell)})
    except BrokenPipeError:
        return
    except RecorderError as error:
        _say({"refused": str(error), "kind": type(error).__name__})
    except OSError as error:
        _say({"refused": error.strerror or str(error), "kind": "OSError", "errno": error.errno, "file": error.filename})


def _say(what: dict[str, Any]) -> None:
    data = msgspec.json.encode(what) + b"\n"
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main(sys.argv[1])
