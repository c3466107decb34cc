"""`PendingRecord`, the record that a keeper and thread are filling bit by bit, in different places of a program."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .keeper import RecordKeeper


class PendingRecord(dict[str, Any]):
    """The record that a keeper and thread are filling bit by bit: its own values, and behind them the inherited ones.

    Missing keys read as None. Setting and deleting concern the pending record alone.
    """

    __slots__ = ("__weakref__", "_keeper")

    def __init__(self, keeper: RecordKeeper) -> None:
        super().__init__()
        self._keeper = keeper

    def __missing__(self, key: str) -> Any:
        """The inherited value, or None."""
        return self._keeper.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The pending or inherited value, or `default`."""
        return dict.__getitem__(self, key) if dict.__contains__(self, key) else self._keeper.get(key, default)

    def _merged(self) -> dict[str, Any]:
        return {**self._keeper.merged, **{key: dict.__getitem__(self, key) for key in dict.keys(self)}}

    def __contains__(self, key: object) -> bool:
        """Whether the key is pending or inherited."""
        return dict.__contains__(self, key) or key in self._keeper.merged

    def __iter__(self) -> Iterator[str]:
        """The inherited and pending keys."""
        return iter(self._merged())

    def __len__(self) -> int:
        """The number of inherited and pending keys."""
        return len(self._merged())

    def keys(self) -> Any:
        """The inherited and pending keys."""
        return self._merged().keys()

    def values(self) -> Any:
        """The inherited and pending values."""
        return self._merged().values()

    def items(self) -> Any:
        """The inherited and pending items."""
        return self._merged().items()

    def __eq__(self, other: object) -> bool:
        """Whether the other mapping shows the same."""
        return self._merged() == other

    __hash__ = None

    def __repr__(self) -> str:
        """The inherited and pending items."""
        return f"PendingRecord({self._merged()!r})"

    def __ne__(self, other: object) -> bool:
        """Whether the other mapping shows something else."""
        return not self == other

    def __reversed__(self) -> Iterator[str]:
        """The inherited and pending keys, the last first."""
        return reversed(self._merged())

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The pending or inherited value; without one, `default`, which is then pending."""
        if key not in self:
            self[key] = default
        return self[key]

    def copy(self) -> dict[str, Any]:
        """The inherited and pending items as a plain dict."""
        return self._merged()

    def __del__(self) -> None:
        """Values that end with their thread or keeper are not lost without a word: closing warns of them."""
        if dict.__len__(self):
            self._keeper._session.drop(self.waiting())

    def take(self) -> dict[str, Any]:
        """The pending values alone, which are cleared."""
        values = dict(dict.items(self))
        dict.clear(self)
        return values

    def waiting(self) -> dict[str, Any]:
        """The pending values alone."""
        return dict(dict.items(self))


class Pendings(threading.local):
    """A keeper's pending record in each thread."""

    record: PendingRecord
