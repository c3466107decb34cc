"""Parquet: the flat frame as one file, or a folder of files, for other programs; it is no part of the store."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from rigorous_recorder.errors import StoreError, storing
from rigorous_recorder.store import files, layout

from .categories import chosen
from .materialise import materialise
from .polars import polars_frame
from .scan import batches, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from .plan import Plan


def to_parquet(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write the frame of a plan: a temporary file or folder beside the target, fsync, rename, fsync of the folder above.

    A path that ends with a separator, or is a folder, becomes a folder of files, in whose order the rows are; a group of
    units is in memory at a time.

    Raises:
        StoreError: The disk refused, or the folder is not empty; an older file of that name is as it was.
    """
    given = os.fspath(path)
    target = os.path.abspath(given)  # noqa: PTH100
    above = os.path.dirname(target)  # noqa: PTH120
    temporary = f"{above}/{layout.temporary_name(layout.new_id(), 1)}"
    as_folder = given.endswith(("/", os.sep)) or files.is_folder(target)
    with storing("the Parquet files cannot be written" if as_folder else "the Parquet file cannot be written", target):
        if as_folder:
            _check_free(target)
        try:
            if as_folder:
                _write_folder(plan, temporary)
            else:  # the streaming engine writes what the next units are read beside
                _write(temporary, lambda to: scan(plan).sink_parquet(to, compression="zstd"))
            files.rename(temporary, target)
        except BaseException:
            with suppress(OSError):  # what is on its way says more
                _remove(temporary)
            raise
        files.sync_folder(above)


def _check_free(target: str) -> None:
    """Refuse, before anything is written, what a new folder could not replace."""
    if files.exists(target) and not (files.is_folder(target) and not files.names(target)):
        what = "is a folder that is not empty" if files.is_folder(target) else "is a file or a link"
        hint = "Hint: remove it, or choose another name."
        raise StoreError(errno.EEXIST, f"the Parquet files cannot be written: {target} {what}. {hint}", target)


def _write_folder(plan: Plan, folder: str) -> None:
    files.make_folder(folder)
    categorical = chosen(plan, "text", only_text=True)
    number = 0
    for frame in batches(plan.released(), categorical, None, None, None, None):
        _write_part(folder, number, frame)
        number += 1
    if not number:
        _write_part(folder, 0, polars_frame(materialise(plan, []), categorical))
    files.sync_folder(folder)


def _write_part(folder: str, number: int, frame: pl.DataFrame) -> None:
    _write(f"{folder}/part-{number:05d}.parquet", lambda to: frame.write_parquet(to, compression="zstd"))


def _write(path: str, write: Callable[[str], object]) -> None:
    """Write a new file and bring it to disk."""
    descriptor = files.create(path)
    try:
        write(path)
        files.sync_file(descriptor)
    finally:
        files.close(descriptor)


def _remove(path: str) -> None:
    if not files.is_folder(path):
        files.remove(path)
        return
    for name in files.names(path):
        files.remove(f"{path}/{name}")
    files.remove_folder(path)
