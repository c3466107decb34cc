"""The one lock of a process that records, and whether adds can do without it."""

from __future__ import annotations

import sys
import threading
from typing import Final

LOCK: Final = threading.RLock()
"""Guards every slow path of this process, and is held across a fork."""

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a section without calls is atomic. Without the GIL every add takes the lock."""
