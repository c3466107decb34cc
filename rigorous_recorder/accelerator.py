"""Whether the C of `_native.c` is there and wanted: `native` is the compiled module, or None.

It is compiled at installation where there is a compiler. `RIGOROUS_RECORDER_PURE=1` does without it, as a process without
the GIL does: its sections are atomic by the GIL alone.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final


def _load() -> Any:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not gil or os.environ.get("RIGOROUS_RECORDER_PURE", "0") not in ("", "0"):
        return None
    try:
        from . import _native  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _native


native: Final[Any] = _load()
