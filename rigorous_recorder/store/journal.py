"""The journal: the write-ahead log of one writer, in units; a record is safe from SIGKILL when its mark is set.

`Journal` keeps what the hot path needs (`map`, `pos`, `limit`, `keeper`, `token`) as plain attributes. The section

    p = j.pos; e = p + 1 + n
    if e <= j.limit:
        j.pos = e
        j.map[p + 1 : e] = payload
        j.map[p] = n

contains no call, so that with the GIL no other thread and no signal handler can come between its lines: it needs no
lock (a test holds this with four threads that switch every microsecond). Everything else is the slow path, under one
lock per process, and can be interrupted anywhere and done again.

Slices: Python 3.11 may start a garbage collection where it makes a slice object, and with it run finalizers in the middle
of the section. It keeps one used slice for the next that is made, so a slice just before the section, thrown away, sees to it
that the section makes none.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from ..errors import StoreError
from . import files
from . import unit as u
from .lock import LOCK
from .modes import MEMORY
from .units import Retired, Units

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES: Final = (256 << 10, 2 << 20, 8 << 20)
"""Sizes of a writer's first, second and later units in bytes. Few packs keep the overhead on disk under 0.1 %, and what is left
to be sealed at the end of a program is no more than one unit, mostly."""

_journals: Final[weakref.WeakSet[Journal]] = weakref.WeakSet()


class Journal(Units):
    """The log of one writer in one folder, or in memory when `folder` is None.

    Attributes:
        locked: Whether every add takes the lock: in `write()` mode, and without the GIL.
        writer: This process's writer id, 32 hex digits.
        owner: Whoever made the journal; `owner.unit_opened(journal)` tells it of a new file, `owner.unit_named(journal)` that
            it has its name now, and may refuse it, and `owner.may_rest` says whether `rest` may be called while nothing is
            added.
    """

    __slots__ = ("__weakref__", "_next_level", "locals", "sequence", "writer")

    def __init__(
        self,
        folder: str | None = None,
        *,
        mode: str = MEMORY,
        attempt: str = "",
        owner: Any = None,
        sizes: tuple[int, ...] = SIZES,
        block_size: int = u.BLOCK,
    ) -> None:
        """A journal that has written nothing; its first file is made by the first entry.

        Args:
            folder: Where its files go; None keeps all in memory.
            mode: MEMORY, MAPPED or WRITTEN.
            attempt: Id of the attempt, for the units' headers.
            owner: See the class.
            sizes: Sizes of the first, second and later units in bytes.
            block_size: Size of a block in bytes.
        """
        super().__init__(folder, mode, attempt, owner, sizes, block_size)
        _journals.add(self)

    def _become_new(self) -> None:
        """Become a writer that has written nothing."""
        super()._become_new()
        self.writer = self._maker.writer
        self.sequence: Iterator[int] = itertools.count(1)
        self.locals: dict[tuple[str, int], int] = {}
        self._next_level: Iterator[int] = itertools.count(1)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def new_level(self) -> tuple[str, int]:
        """The id of a level that this writer makes: the writer and a number of its own."""
        return (self.writer, next(self._next_level))

    def local(self, level: tuple[str, int]) -> int:
        """The number that a level has in this writer's units: its own, or for another writer's level the next free one."""
        if level[0] == self.writer:
            return level[1]
        number = self.locals.get(level)
        if number is None:
            with LOCK:
                number = self.locals.setdefault(level, next(self._next_level))
        return number

    # ---- adding ------------------------------------------------------------------------------------------------------

    def put(self, kind: int, payload: bytes, token: object = None) -> bool:
        """Add an entry of a kind from 240 on; it is safe from SIGKILL when this returns.

        Args:
            kind: The entry's mark.
            payload: Its content.
            token: When given, the unit that it must stand in, since that one defines its level.

        Returns:
            Whether it was added: False when another unit than `token` is current.

        Raises:
            ClosedError: The journal is closed.
            DeletedError: The attempt was deleted.
            StoreError: There is no room on the disk; nothing was added.
        """
        size = u.ENTRY_HEAD + len(payload)
        level = size if kind == u.LEVEL else 0
        while not self.locked:
            if self.put_here(kind, payload, token):
                self._level_bytes += level
                return True
            if token is not None and self.token is not token:
                return False
            self.make_room(size)
        entry = u.pack_entry(kind, payload)
        with LOCK:
            while not self._put_locked(entry, None, token):
                if token is not None and self.token is not token:
                    return False
                self.make_room(size)
            self._level_bytes += level
            return True

    def add_locked(self, keeper: Any, record: Any, payload: bytes) -> None:
        """Add a record under the lock; `keeper` has `enter(record)`, `token` and `switch` as a `RecordKeeper` has them."""
        size = u.ENTRY_HEAD + u.SWITCH_SIZE + len(payload)
        with LOCK:
            while True:
                if self.pos + size > self._end:
                    self.make_room(size)
                if keeper.token is not self.token:
                    keeper.enter(record)
                body = keeper.switch + payload
                short = len(body) <= u.SHORT_MAX
                entry = bytes((len(body),)) + body if short else u.pack_entry(u.LONG, body)
                if self._put_locked(entry, keeper, keeper.token):
                    return

    # ---- the end -----------------------------------------------------------------------------------------------------

    def put_end(self, payload: bytes) -> None:
        """Add the end entry, for which the unit keeps room even when the disk is full."""
        entry = u.pack_entry(u.END, payload)
        with LOCK:
            self._reserve = 0
            try:
                self.put(u.END, payload)
            except StoreError:
                if self.map is None or self._index + self._span < self._last or len(entry) > u.RESERVE:
                    raise
                self._end = self._block + self._span * self.block_size + u.RESERVE
                if not self._put_locked(entry, None, None):
                    raise

    def rest(self) -> list[str]:
        """Let go of the current unit and its file as if it was full; the next entry opens another.

        Returns:
            The units retired since the last sync, this one among them if nothing came in between.

        Raises:
            StoreError: The disk refused.
        """
        with LOCK:
            memory, used = self.map, self.pos
            if self.folder is None or self.closed or memory is None:
                return []
            self.limit = 0
            try:
                self._checksum()
                last, retired = self.keeper, [Retired(self.path, self._descriptor)]
                if self.map is not memory or self.pos not in (self._slotted, self._block + u.BLOCK_HEAD):
                    return []  # somebody interrupted and records
                # from here to the `del` there is no call
                used, self.map, self.path, self._descriptor = self.pos, None, "", -1
                self._retired += retired
                self.token = self.keeper = None
                self.pos = self._end = self._block = self._index = self._span = self._last = self._slotted = 0
                self._headed = True
                self._version += 1
                del last
            finally:
                if not self.locked:
                    self.limit = self._end
            memory.close()
            files.truncate(retired[0].descriptor, used)
            return self.sync()

    def close(self, why: str) -> None:
        """Refuse further entries, giving `why`; cut the file to what is used. A second call changes nothing.

        After a KeyboardInterrupt a second call goes on where the first one was.

        Raises:
            OSError: The disk refused; the journal is closed all the same.
        """
        with LOCK:
            self.limit = 0
            self.closed = self.closed or why
            if self.map is None and self._descriptor < 0 and not self._retired:
                return
        finished = True
        try:
            used = self._let_go()
            if self.folder is not None:
                if used:
                    files.truncate(self._descriptor, used)
                self.sync()
        except KeyboardInterrupt:
            finished = False
            raise
        finally:
            if finished:
                descriptor, self._descriptor = self._descriptor, -1
                if descriptor >= 0:
                    self._close_descriptor(descriptor)

    def _let_go(self) -> int:
        """Let go of the memory of the last unit, so that nothing is added any more. Gives the bytes used, 0 for no unit."""
        with LOCK:
            memory = self.map
            if memory is None:
                return 0
            try:
                self._checksum()
            finally:
                used, self._end, self.map = self.pos, 0, None
                if self.folder is None:
                    self.units = [*self.units, (memory, used)]
                else:
                    memory.close()
            return used

    def forked(self) -> None:
        """In a forked child: let go of the parent's file without touching it, and become a writer of one's own."""
        if self.folder is None:
            return
        descriptors = [*(unit.descriptor for unit in self._retired), *self._left, self._descriptor]
        self._sync_lock = threading.RLock()
        version = self._version + 1  # whoever was forked in the middle of a slow path is told so by it
        self._become_new()
        self._version = version
        for descriptor in descriptors:
            if descriptor >= 0:
                with contextlib.suppress(
                    OSError
                ):  # one that cannot be closed must not keep the other journals from this
                    os.close(descriptor)

    def memory(self) -> list[bytes]:
        """The units of a journal in memory, up to what is used, oldest first."""
        with LOCK:
            units = list(self.units)
            if self.map is not None and self.folder is None:
                self._checksum()
                units.append((self.map, self.pos))
            return [bytes(memory[:used]) for memory, used in units]


def _after_fork_in_child() -> None:
    try:
        for journal in list(_journals):
            journal.forked()
    finally:
        LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_after_fork_in_child)
