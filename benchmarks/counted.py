"""Counts what the real code asks of the file system: each call of `store/files.py`, by kind, and its bytes."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl

from rigorous_recorder.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = {
    "list": ("names",),
    "read": ("read_all", "open_read", "read_at"),
    "look": (
        "size", "modified", "mark", "changed", "signature", "is_folder", "exists", "file_system", "free_space", "removed",
    ),
    "make": ("make_folder", "create", "link", "rename", "open_write"),
    "write": ("write_at", "preallocate", "extend", "truncate", "touch"),
    "sync": ("sync_data", "sync_file", "sync_folder"),
    "remove": ("remove", "remove_folder"),
}  # fmt: skip
"""The kinds of requests, each a round trip to a file server, and the functions that make one. Closing, mapping and what else
a client does by itself are none."""

OF_PACK = 2
"""Requests for a pack that polars opens by itself: its end and its columns."""
KIND_OF = {name: kind for kind, functions in KINDS.items() for name in functions}
ENTRIES, BYTES_READ, BYTES_WRITTEN = "entries", "bytes read", "bytes written"
REQUESTS = (*KINDS, ENTRIES, BYTES_READ, BYTES_WRITTEN)

Counts = dict[str, int]


class Meter:
    """What was asked since it was made, of all threads or of this one alone."""

    def __init__(self, before: Callable[[str], None] | None = None, *, others: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self._before = before
        self._thread = None if others else threading.get_ident()
        self._inside = threading.local()

    def read(self) -> Counts:
        """All counts, those of nothing included."""
        return {name: self.counts[name] for name in REQUESTS}

    def counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A function of `files` that is counted, unless another one that is counted calls it."""
        kind = KIND_OF[name]

        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(self._inside, "call", False) or self._thread not in (None, threading.get_ident()):
                return real(*arguments, **options)
            self._inside.call = True
            try:
                if self._before is not None:
                    self._before(kind)
                self.counts[kind] += 1
                result = real(*arguments, **options)
            finally:
                self._inside.call = False
            if name == "names":
                self.counts[ENTRIES] += len(result)
            elif name in ("read_all", "read_at"):
                self.counts[BYTES_READ] += len(result)
            elif name == "write_at":
                self.counts[BYTES_WRITTEN] += len(arguments[1])
            return result

        return call

    def scanning(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A function of polars that opens packs by their paths."""

        def call(source: Any, *arguments: Any, **options: Any) -> Any:
            paths = source if isinstance(source, list) else [source]
            self.counts["read"] += OF_PACK * sum(isinstance(path, str) for path in paths)
            return real(source, *arguments, **options)

        return call


@contextmanager
def metered(before: Callable[[str], None] | None = None, *, others: bool = True) -> Iterator[Meter]:
    """Count while in here.

    Args:
        before: Called before each request, with its kind.
        others: Whether other threads' requests count.
    """
    meter = Meter(before, others=others)
    kept = {name: getattr(files, name) for name in KIND_OF}
    scans = {name: getattr(pl, name) for name in ("scan_parquet", "read_parquet", "read_parquet_schema")}
    try:
        for name, real in kept.items():
            setattr(files, name, meter.counting(name, real))
        for name, real in scans.items():
            setattr(pl, name, meter.scanning(real))
        yield meter
    finally:
        for name, real in kept.items():
            setattr(files, name, real)
        for name, real in scans.items():
            setattr(pl, name, real)
