"""Ending: what is done when the program ends, the last registered first. What records registers here when it is imported.

That may be while the program ends already, when `atexit` takes no more: another one's handler may be the first to record.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from typing import Final

at_exit: Final = ExitStack()
"""Use `@at_exit.callback`."""

atexit.register(at_exit.close)
