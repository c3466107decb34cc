"""What verifying finds: findings, and the one who says them, by paths relative to the collection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from . import files
from .replay import LOST, UNKNOWN, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .listing import Unlisted

OLD: Final = 3600.0
"""Seconds after which a file in the making was left behind by a process that was killed."""


class Found(NamedTuple):
    """Something that verifying found.

    Attributes:
        file: The path, relative to the collection.
        kind: "unverified": no checksum vouches for it; "suspect": what a checksum or the format says otherwise; "lost": not
            there, or not readable; "unknown": nothing that this release knows, or a folder that cannot be listed.
        start, stop: The byte range [start, stop) in the file; 0 and 0 where it is about no bytes of it.
        sentence: What it is.
        records: How many records it is about; None where that cannot be known.
        fails: Whether the collection is not sound because of it. What does not fail is a remark.
    """

    file: str
    kind: str
    start: int
    stop: int
    sentence: str
    records: int | None = None
    fails: bool = True


class Finder:
    """Takes note of what is not as it should be.

    Attributes:
        path: Of the collection.
        found: What was found so far.
        unlisted: The folders that cannot be listed, some of them several times.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[Found] = []
        self.unlisted: list[Unlisted] = []

    def say(self, path: str, kind: str, sentence: str, *, records: int | None = None) -> None:
        """Say of a whole file or folder what is wrong with it."""
        self.note(path, Finding(kind, 0, 0, sentence, records))

    def remark(self, path: str, kind: str, sentence: str) -> None:
        """Say what is worth saying, and not wrong."""
        self.note(path, Finding(kind, 0, 0, sentence), fails=False)

    def note(self, path: str, finding: Finding, *, fails: bool = True) -> None:
        """Take note of a finding."""
        relative = path.removeprefix(self.path + "/") if path != self.path else "."
        self.found.append(
            Found(relative, finding.kind, finding.start, finding.stop, finding.sentence, finding.records, fails)
        )

    def not_followed(self, path: str) -> None:
        """Something that has a folder's name and is none; it may have been removed since it was listed."""
        if files.exists(path) and not files.is_folder(path):
            self.say(path, LOST, "no folder but a link or file: what it stands for is not read")

    def strange(self, path: str) -> None:
        """A name that is none of ours."""
        if path.rpartition("/")[2].startswith(".tmp-"):
            if self.age(path) > OLD:
                self.remark(
                    path, UNKNOWN, "a file in the making, left by a process that was killed; nothing is lost by it"
                )
            return
        self.remark(path, UNKNOWN, "a name that is none of ours; it is not read")

    def age(self, path: str) -> float:
        """Seconds since a file was modified; 0 where that cannot be told."""
        try:
            return time.time() - files.modified(path)
        except OSError:
            return 0.0


def affected(found: Iterable[Found]) -> int:
    """How many records what fails is about, as far as that is known."""
    return sum(one.records or 0 for one in found if one.fails)
