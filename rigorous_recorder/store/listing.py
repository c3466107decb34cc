"""Listing: the names in a folder in which others make, rename and remove files meanwhile.

A single listing is not enough: a file that is renamed meanwhile can be missed under both of its names (53 of 96 listings at
an extreme rate). So a folder is listed again until nothing is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import files

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 100
"""A folder in which something is new after so many listings is read as it is then."""


def names_until_settled(folder: str) -> Iterator[str]:
    """Each name in a folder once, those of the first listing first. A folder that is not there has none.

    Raises:
        OSError: It cannot be listed.
    """
    seen: set[str] = set()
    for turn in range(ROUNDS if files.is_folder(folder) else 0):
        try:
            names = files.names(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        fresh = [name for name in names if name not in seen]
        if turn and not fresh:
            return
        seen.update(fresh)
        yield from fresh
