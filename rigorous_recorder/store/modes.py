"""How what is added comes into a unit's file: through a shared map where the file system allows it, else by `write()`."""

from __future__ import annotations

import os
from typing import Final

from . import files

MEMORY: Final = "memory"
MAPPED: Final = "mmap"
WRITTEN: Final = "write"


def best_mode(folder: str) -> str:
    """How units are best written in a folder: mapped where the file system is known to allow it."""
    return MAPPED if hasattr(os, "posix_fallocate") and files.file_system(folder) in files.MAPPABLE else WRITTEN
