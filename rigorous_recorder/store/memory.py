"""Memory: many small objects made at once, without Python's garbage collector going over them again and again."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unhurried() -> Iterator[None]:
    """No garbage collection within: a million dicts cost up to 1.2 us each with it, and 0.3 us without."""
    global _paused  # noqa: PLW0603  (as the collector is, one of the process)
    was_enabled = gc.isenabled()
    gc.disable()
    _paused = _paused or was_enabled
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            _paused = False


_paused = False
"""Whether a thread has it off that will put it on again."""


def _after_fork_in_child() -> None:
    global _paused  # noqa: PLW0603
    if _paused:  # by a thread that there is none of here
        gc.enable()
        _paused = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def settled() -> Iterator[None]:
    """The same, for what will stay: the objects made within are old at once, and no young collection goes over them.

    Importing polars makes 100,000 objects. Collections while they are made take a tenth of its time, and as long again
    the first ones afterwards, unless they are moved to the oldest generation, as freezing and thawing does without looking
    at them. Where somebody has frozen objects, they are left alone.
    """
    with unhurried():
        yield
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
