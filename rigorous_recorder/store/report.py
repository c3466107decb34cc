"""The report on a compaction: what was done, what was left and why. Crosses from the compacting process as JSON."""

from __future__ import annotations

from typing import Final

import msgspec

DAMAGED: Final = "damaged"
UNREADABLE: Final = "it cannot be read"
UNLISTED: Final = "the folder cannot be listed"
OPEN: Final = "a process may still write to it"
OTHER: Final = "it differs from what is in the packs under the same name"
HARMED: Final = (DAMAGED, UNREADABLE, UNLISTED)
"""Why something was left that is not as it should be; all other reasons go, or harm nothing."""

SHOWN: Final = 3
"""Paths that the text names for each reason."""
_STEPS: Final = ("bytes", "KB", "MB", "GB")


class CompactionReport(msgspec.Struct):
    """What a compaction did.

    Attributes:
        units: How many units went into new packs: pieces of logs, of sealed packs and of smaller compacted packs.
        packs: How many packs were written.
        written: Bytes of these packs.
        removed: How many files were removed, since all that is in them is in packs.
        freed: Bytes of these files, leftovers of killed processes among them.
        leftovers: How many of these files were such leftovers.
        waiting: How many files are still there only because readers on a network file system may be about to open them. The
            first compaction after `wait` seconds removes them.
        wait: Seconds until all of those may go.
        left: By reason, how many units or packs were left as they are.
        named: By reason, the paths of these with how many each stands for; where nothing is harmed, of the first three.
    """

    units: int = 0
    packs: int = 0
    written: int = 0
    removed: int = 0
    freed: int = 0
    leftovers: int = 0
    waiting: int = 0
    wait: float = 0.0
    left: dict[str, int] = {}
    named: dict[str, dict[str, int]] = {}

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.units or self.packs or self.removed)

    @property
    def harmed(self) -> int:
        """How many units, packs and folders were left since they are damaged, or cannot be read."""
        return sum(self.left.get(why, 0) for why in HARMED)

    def leave(self, why: str, path: str, count: int = 1) -> None:
        """Note what is left as it is; what harms is met by several looks, and counts once."""
        named = self.named.setdefault(why, {})
        if why in HARMED and path in named:
            return
        self.left[why] = self.left.get(why, 0) + count
        if why in HARMED or len(named) < SHOWN:
            named[path] = count

    def __str__(self) -> str:
        """A sentence for each thing that there is to say."""
        lines = []
        if self.idle:
            lines.append("There was nothing to compact.")
        if self.units:
            lines.append(
                f"Compacted {counted(self.units, 'unit')} into {counted(self.packs, 'pack')} of {size(self.written)}."
            )
        if self.removed:
            lines.append(f"Removed {counted(self.removed, 'file')} of {size(self.freed)}.")
        if self.waiting:
            lines.append(
                f"{counted(self.waiting, 'file')} that nobody needs any more will be removed by the first compaction in "
                f"{self.wait / 60:.0f} minutes or later: readers on other hosts may not see the new packs yet."
            )
        lines += [f"Left {number:,} as they are: {why} ({self._examples(why)})." for why, number in self.left.items()]
        return "\n".join(lines)

    def _examples(self, why: str) -> str:
        """The first of what was left for a reason, and how many more."""
        shown = list(self.named[why].items())[:SHOWN]
        more = self.left[why] - sum(count for _, count in shown)
        return ", ".join(path for path, _ in shown) + (f" and {more:,} more" if more > 0 else "")

    __repr__ = __str__


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """A number of bytes in the unit that fits."""
    value = float(number)
    for unit in _STEPS[:-1]:
        if value < 1000:  # noqa: PLR2004  (SI)
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} {_STEPS[-1]}"
