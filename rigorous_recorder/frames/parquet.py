"""Parquet: the flat frame as one file for other programs; it is no part of the store."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from rigorous_recorder.errors import storing
from rigorous_recorder.store import files, layout

from .scan import scan

if TYPE_CHECKING:
    from .plan import Plan


def to_parquet(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write the frame of a plan: temporary file beside the target, fsync, rename, fsync of the folder.

    Raises:
        StoreError: The disk refused; an older file of that name is as it was.
    """
    target = os.path.abspath(os.fspath(path))  # noqa: PTH100
    folder = os.path.dirname(target)  # noqa: PTH120
    with storing("the Parquet file cannot be written", target):
        temporary = f"{folder}/{layout.temporary_name(layout.new_id(), 1)}"
        descriptor = files.create(temporary)
        try:
            try:
                scan(plan).sink_parquet(temporary, compression="zstd")  # a group of units at a time
                files.sync_file(descriptor)
            finally:
                files.close(descriptor)
            files.rename(temporary, target)
        except BaseException:
            with suppress(OSError):  # what is on its way says more
                files.remove(temporary)
            raise
        files.sync_folder(folder)
