"""Listing: the names in a folder in which others make, rename and remove files meanwhile.

A single listing is not enough: a file that is renamed meanwhile can be missed under both of its names (53 of 96 listings at
an extreme rate). So a folder is listed again until nothing is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from . import files, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layout import ClaimName

ROUNDS: Final = 100
"""A folder in which something is new after so many listings is read as it is then."""


class Unlisted(NamedTuple):
    """A folder that is there and cannot be listed, for want of a permission or by a disk that fails: it costs its content.

    Attributes:
        folder: Its path.
        why: What the system said.
        errno: The number of that.
        claim: The claim that it is, or that it is under; None for the compacted packs and the notes.
    """

    folder: str
    why: str
    errno: int | None
    claim: ClaimName | None = None

    @classmethod
    def of(cls, folder: str, error: OSError, claim: ClaimName | None = None) -> Unlisted:
        """The folder that could not be listed."""
        return cls(folder, error.strerror or str(error), error.errno, claim)

    @property
    def sentence(self) -> str:
        """What a warning says of it."""
        return f"{self.folder} cannot be listed: {self.why}. What is in it is not known, and not read."

    def hides(self, folder: str) -> bool:
        """Whether there may be more of a folder of the same collection here: it is in this one, or units of it are in packs."""
        return folder == self.folder or folder.startswith(f"{self.folder}/") or self.folder.endswith(f"/{layout.PACKS}")

    @property
    def error(self) -> OSError:
        """The error for who cannot do without what is in it."""
        return OSError(self.errno, self.why, self.folder)


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
