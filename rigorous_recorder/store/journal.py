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
import errno
import itertools
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import ClosedError, StoreError, hint_for
from . import files, layout, machine
from . import unit as u
from .cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY: Final = "memory"
MAPPED: Final = "mmap"
WRITTEN: Final = "write"

SIZES: Final = (256 << 10, 2 << 20, 8 << 20)
"""Sizes of a writer's first, second and later units in bytes. Few packs keep the overhead on disk under 0.1 %; what closing
waits for is the sealing of one unit."""
PAD: Final = 64 << 10
"""Bytes by which `write()` mode makes a file longer ahead at a time."""
MINIMUM: Final = 64 << 10
"""The smallest unit in bytes that is tried when the disk has no room for a larger one."""

FOLDERS: Final = 100
"""Times that a folder which goes again and again is made, since compactions remove those that they emptied."""

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a section without calls is atomic. Without the GIL every add takes the lock."""

LOCK: Final = threading.RLock()
"""Guards every slow path of this process, and is held across a fork."""

_journals: Final[weakref.WeakSet[Journal]] = weakref.WeakSet()


def best_mode(folder: str) -> str:
    """How units are best written in a folder: mapped where the file system is known to allow it."""
    return MAPPED if hasattr(os, "posix_fallocate") and files.file_system(folder) in files.MAPPABLE else WRITTEN


class Retired(NamedTuple):
    """A unit that is full: to be brought to the disk by its descriptor, then sealed."""

    path: str
    descriptor: int


class Journal(Cursor):
    """The log of one writer in one folder, or in memory when `folder` is None.

    Attributes:
        locked: Whether every add takes the lock: in `write()` mode, and without the GIL.
        writer: This process's writer id, 32 hex digits.
        owner: Whoever made the journal; `owner.unit_opened(journal)` tells it of a new file, and `owner.may_rest` says
            whether `rest` may be called while nothing is added.
    """

    __slots__ = (
        "__weakref__", "_block", "_busy", "_descriptor", "_end", "_folder_dirty", "_headed", "_index", "_last", "_left",
        "_level_bytes", "_n", "_next_level", "_padded", "_populates", "_reserve", "_retired", "_salt", "_slot",
        "_slotted", "_span", "_start", "_sync_lock", "_synced", "_temporaries", "_version", "_written", "attempt",
        "block_size", "closed", "failure", "folder", "locals", "locked", "mode", "owner",
        "path", "sequence", "sizes", "units", "writer",
    )  # fmt: skip

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
        self.folder = folder
        self.mode = mode
        self.attempt = attempt
        self.owner = owner
        self.sizes = sizes
        self.block_size = block_size
        self.locked = mode == WRITTEN or not GIL
        self._populates = block_size % u.PAGE == 0
        self.closed = ""
        self.failure: StoreError | None = None
        self._sync_lock = threading.RLock()
        self._fresh()
        _journals.add(self)

    def _fresh(self) -> None:
        """Become a writer that has written nothing."""
        self.writer = layout.new_id()
        self.map = None
        self.pos = self.limit = 0
        self.keeper = None
        self.token = None
        self.path = ""
        self.sequence: Iterator[int] = itertools.count(1)
        self.locals: dict[tuple[str, int], int] = {}
        self.units: list[tuple[Any, int]] = []
        self._next_level: Iterator[int] = itertools.count(1)
        self._descriptor = -1
        self._n = self._version = 0
        self._temporaries: Iterator[int] = itertools.count(1)
        self._start = 0.0
        self._block = self._index = self._span = self._last = self._salt = 0
        self._end = self._written = self._padded = 0
        self._reserve = u.RESERVE
        self._slot = self._slotted = self._synced = self._level_bytes = 0
        self._retired: list[Retired] = []
        self._folder_dirty = False
        self._busy = 0
        self._headed = True
        self._left: list[int] = []

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
            StoreError: There is no room on the disk; nothing was added.
        """
        size = u.ENTRY_HEAD + len(payload)
        if kind == u.LEVEL:
            self._level_bytes += size
        while not self.locked:
            if self.put_here(kind, payload, token):
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

    def _put_locked(self, entry: bytes, keeper: Any, token: object) -> bool:
        """Add an entry, and with a record its level in force; False when it does not fit, or into this unit not any more.

        The memory is always ahead of the file: whatever interrupts between the two, the next write brings the file up.
        """
        mark, body, size = entry[0], entry[1:], len(entry)
        last = self.keeper  # kept until the end: a finalizer of it might record
        # from here to the flush there is no call: whoever interrupts sees the entry whole or not at all
        p = self.pos
        e = p + size
        if e > self._end or (token is not None and self.token is not token):
            return False
        self.pos = e
        if keeper is not None:
            self.keeper = keeper
        self.map[p + 1 : e] = body
        self.map[p] = mark
        del last
        if self.mode != WRITTEN:
            return True
        try:
            self._flush()
        except OSError as error:
            if self.pos == e and self._written < e:  # else somebody who interrupted has added behind it, and it stays
                self.map[p:e] = bytes(size)
                self.pos = p
                self.keeper = None
                self._wipe(self._written, min(e, self._padded))
            raise self._refused(error) from error
        return True

    def _flush(self) -> None:
        """In `write()` mode: bring the file up to `pos`, in two calls, and one more for a new block.

        A signal handler may record, sync or close in the middle of this. So what is written, where and into which file is
        taken at one moment, in lines without a call: written late, it is what stands there already. Entries never change,
        nor does the start of a block's header; its slots do, and are written by `_checksum` alone.
        """
        if self.mode != WRITTEN or self.map is None:
            return
        self._busy += 1  # from here on no descriptor is closed
        try:
            while self._written < self.pos or not self._headed:
                if self.pos + self._reserve > self._padded:
                    self._pad(self._version)
                b""[0:0]
                version, descriptor, block, headed = self._version, self._descriptor, self._block, self._headed
                start, stop = self._written, self.pos
                head = self.map[block : block + u.SLOTS[0]]
                data = self.map[start:stop]
                if not headed:
                    files.write_at(descriptor, head, block)
                if data:
                    # the first mark last: a kill may cut a write at the end of a page, and a reader may see half of one
                    files.write_at(descriptor, data[1:], start + 1)
                    files.write_at(descriptor, data[:1], start)
                if version == self._version:
                    self._headed = True
                    if self._written < stop:  # noqa: PLR1730  (`max` would be a call)
                        self._written = stop
        finally:
            self._busy -= 1
            self._close_left()

    def _wipe(self, start: int, stop: int) -> None:
        """In `write()` mode: put zeros where part of an entry may stand that was refused, and never acknowledged."""
        with contextlib.suppress(OSError):
            files.write_at(self._descriptor, bytes(stop - start), start)
        if self._written > start:  # somebody who interrupted has written there
            self._written = start
            self._flush()

    def _pad(self, version: int) -> None:
        """In `write()` mode: make the file longer ahead of the entries, so that there is room for its end on a full disk.

        Not by writing zeros where the system has another way: they might come after the entry of a signal handler.
        """
        descriptor, start = self._descriptor, self._padded
        end = self.pos + self._reserve
        for target in (end + PAD, end):
            try:
                files.extend(descriptor, target - start, start)
            except OSError:
                if target == end and version == self._version and end > self._padded:
                    raise
            else:
                if version == self._version and self._padded < target:
                    self._padded = target
                return

    def _close_left(self) -> None:
        """Close the descriptors that were done with while somebody who was interrupted still had them in hand."""
        while self._left and not self._busy:
            descriptor = self._left.pop()
            files.close(descriptor)

    def _close_descriptor(self, descriptor: int) -> None:
        self._left.append(descriptor)
        self._close_left()

    # ---- blocks and units --------------------------------------------------------------------------------------------

    def make_room(self, size: int) -> None:
        """See to it that an entry of `size` bytes fits at `pos`: finish the block, begin the next, in a new unit if need be.

        Can be interrupted anywhere: what it did is done again by the next call.

        Raises:
            ClosedError: The journal is closed.
            StoreError: There is no room on the disk. What was added before is safe, and smaller entries may still fit.
        """
        with LOCK:
            while True:
                if self.closed:
                    raise ClosedError(self.closed)
                if self.pos + size <= self._end and (self.locked or self.limit):
                    return
                version = self._version
                self.limit = 0  # from here on everybody comes here, and waits for the lock
                try:
                    self._checksum()
                    span = u.blocks_for(size, self.block_size)
                    if self.map is not None and self._index + self._span + span <= self._last:
                        self._begin_block(version, self._index + self._span, span)
                    else:
                        self._open_unit(version, span)
                        return  # the levels come first there, and the caller has to come back for the rest
                except OSError as error:
                    raise error if isinstance(error, StoreError) else self._refused(error) from error
                finally:
                    if not self.locked:
                        self.limit = self._end

    # A signal handler that records can run inside each of the following, and do the same work. So each prepares all it
    # needs, and then switches in a section without calls, unless the version shows that somebody else has switched.

    def _checksum(self) -> None:
        """Note in the block's header how far it is used, with a checksum, in the slot that does not hold the latest note."""
        self._flush()
        version, pos, block = self._version, self.pos, self._block
        start = block + u.BLOCK_HEAD
        if self.map is None or pos <= start or pos == self._slotted:
            return
        self._flush()  # what came in between
        descriptor = self._descriptor
        slot = u.pack_slot(pos - block, u.checksum(self._salt, self._index, self._span, self.map[start:pos]))
        if version != self._version or pos <= self._slotted:
            return
        mine = self._slot
        self._slot = 1 - mine  # whoever interrupts from here on takes the other one, which this does not overwrite
        offset = block + u.SLOTS[mine]
        self.map[offset : offset + 8] = slot  # eight aligned bytes are one store: no kill leaves half of them
        if self.mode == WRITTEN:
            self._busy += 1
            try:
                files.write_at(descriptor, slot, offset)
            finally:
                self._busy -= 1
                self._close_left()
        if version == self._version:  # less than somebody who interrupted has noted: it is noted again
            self._slotted = pos

    def _begin_block(self, version: int, index: int, span: int) -> None:
        offset = u.PAGE + index * self.block_size
        head = u.pack_block(self._salt, index, span)
        if self.mode == MAPPED and span == 1 and self._populates:
            # 16 pages at once: a fault for each in its turn takes a third more, and takes it from single calls
            self._populates = files.populate(self.map, offset, self.block_size)
        end, start = offset + span * self.block_size, offset + u.BLOCK_HEAD
        last = self.keeper  # kept until the end: were it freed in between, a finalizer of it might record
        if self._version != version or (self._span and self.pos not in (self._slotted, self._block + 32)):
            return
        self.map[offset : offset + 16] = head[:16]  # one store, as above; the slots behind are zeros already
        self._version = version + 1
        self._block, self._index, self._span = offset, index, span
        self._slot = self._slotted = 0
        self.keeper = None
        self._end, self.pos = end, start
        self._written, self._headed = start, False
        del last

    def _open_unit(self, version: int, span: int) -> None:
        """Open the next unit, with room for levels and behind them a block of that span, and retire the one before.

        Levels that took room in the unit before are defined again in this one. Twice their room lets a chain of levels that
        is larger than any unit come to its end: each unit has more room than the one before.
        """
        n = self._n
        levels = u.blocks_for(self._level_bytes, self.block_size)
        if span > 1 or levels >= self.sizes[min(n + 1, len(self.sizes)) - 1] // self.block_size:
            span += 2 * levels
        token = object()
        retired = [Retired(self.path, self._descriptor)]
        named = False
        while not named:
            n += 1
            memory, descriptor, temporary, salt, blocks = self._create(n, span)
            path = f"{self.folder}/{layout.log_name(self.writer, n)}" if self.folder is not None else ""
            try:
                if self.owner is not None:
                    self.owner.unit_opened(self)
                named = self.folder is None or self._name(temporary, path)
            except BaseException:
                self._abandon(memory, descriptor, temporary)
                raise
            if self._version != version:  # somebody interrupted and has opened a unit
                self._abandon(memory, descriptor, temporary)
                return
            if not named:
                self._abandon(memory, descriptor, temporary)
        if self.folder is not None:
            with contextlib.suppress(OSError):  # a second name of it, that readers ignore
                files.remove(temporary)
        self._checksum()  # in `write()` mode whoever interrupted may have added to the block that is left here
        old = [(self.map, self.pos)]
        if self._version != version or (self._span and self.pos not in (self._slotted, self._block + u.BLOCK_HEAD)):
            self._abandon(memory, descriptor, temporary)
            return
        if self.map is None:
            old, retired = [], []
        if self.folder is None:
            self.units += old
        else:
            self._retired += retired
        self.map, self._descriptor, self.path, self._salt, self._n = memory, descriptor, path, salt, n
        self.token, self._last = token, blocks
        self._padded, self._headed = u.PAGE, True
        self._version = version + 1
        self._index = self._span = self._block = 0
        self.pos = self._end = self._slotted = self._level_bytes = 0
        self._begin_block(version + 1, 0, 1)
        if self.folder is not None and old:
            old[0][0].close()

    def _name(self, temporary: str, path: str) -> bool:
        """Give a unit its name, now that its header is in it; False when there is a unit of that name.

        By a link, which unlike a rename never replaces what may be in use. Whoever interrupted may have made the other unit,
        or it is left from when this was interrupted: then it is one without entries, and the next number is as good.
        """
        try:
            files.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if files.exists(path):
                return False
            files.rename(temporary, path)
        return True

    def _abandon(self, memory: Any, descriptor: int, temporary: str) -> None:
        """Let go of a new unit that will not be used; if it has its name already, as one without entries."""
        memory.close()
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # it may keep its zeros then
                files.truncate(descriptor, u.PAGE)
            self._close_descriptor(descriptor)
            with contextlib.suppress(OSError):
                files.remove(temporary)

    def _create(self, n: int, span: int) -> tuple[Any, int, str, int, int]:
        """Create the file of unit n under a temporary name, smaller than planned when the disk has no room for that."""
        wanted = self.sizes[min(n, len(self.sizes)) - 1]
        while True:
            blocks = max(wanted // self.block_size, span)
            try:
                return *self._new_unit(n, blocks), blocks
            except OSError:
                wanted //= 2
                if wanted < max(MINIMUM, self.block_size) or blocks == span:
                    raise

    def _new_unit(self, n: int, blocks: int) -> tuple[Any, int, str, int]:
        now = time.time()
        self._start = self._start or now
        salt = int.from_bytes(os.urandom(4), "little") | 1
        here = machine.here()
        page = u.pack_header(
            u.Header(
                version=layout.FORMAT_VERSION, features=[], writer=self.writer, n=n, attempt=self.attempt,
                block=self.block_size, salt=salt, boot=here.boot, host=here.host, namespace=here.namespace, pid=here.pid,
                pid_start=here.pid_start, time=now, start=self._start,
            )
        )  # fmt: skip
        size = u.unit_size(blocks, self.block_size)
        if self.folder is None:
            memory = files.map_private(size)
            memory[: u.PAGE] = page
            return memory, -1, "", salt
        temporary = f"{self.folder}/{layout.temporary_name(self.writer, next(self._temporaries))}"
        descriptor = self._create_file(temporary)
        try:
            if self.mode == MAPPED:
                files.preallocate(descriptor, size)
                memory = files.map_shared(descriptor, size)
                memory[: u.PAGE] = page
            else:
                files.write_at(descriptor, page, 0)
                memory = files.map_private(size)
        except BaseException:
            files.close(descriptor)
            with contextlib.suppress(FileNotFoundError):  # ext4 leaves the blocks allocated when preallocation fails
                files.remove(temporary)
            raise
        self._folder_dirty = True
        return memory, descriptor, temporary, salt

    def _create_file(self, path: str) -> int:
        """Create a file in our folder, and that folder too if it is one of an attempt that was emptied by a compaction.

        Such a folder may go again before there is something in it.
        """
        for _ in range(FOLDERS):
            try:
                return files.create(path)
            except FileNotFoundError:
                assert self.folder is not None  # in memory there are no files
                claim = self.folder.rpartition("/")[0]
                if not self.attempt or files.exists(f"{claim}/{layout.deleted_name(self.attempt)}"):
                    raise
                with contextlib.suppress(FileExistsError):
                    files.make_folder(self.folder)
                files.sync_folder(claim)
        return files.create(path)

    def _refused(self, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        return StoreError(
            error.errno,
            f"the system refused to store: {reason}. Everything added before is safe; this was not stored. "
            f"Hint: {hint_for(error.errno)}",
            self.folder or "memory",
        )

    # ---- to the disk, and the end ------------------------------------------------------------------------------------

    def sync(self, *, idle: bool = False) -> list[str]:
        """Return when all that was added before the call is on disk: survives a power cut. Gives the units retired since.

        Args:
            idle: Whether nothing need be done when nothing was added since the last sync.

        Raises:
            StoreError: The disk refused, now or at an earlier call: a second fsync may succeed although pages were
                dropped at the first (https://wiki.postgresql.org/wiki/Fsync_Errors).
        """
        if self.folder is None:
            return []
        if idle and self.pos == self._synced and not self._retired and not self._folder_dirty:
            return []
        # LOCK first and let go of it: a signal handler that syncs may hold it already, and whoever holds the other lock must
        # never wait for it.
        with LOCK:
            if self.failure is not None:
                raise self.failure
            retired = list(self._retired)
            folder_dirty, self._folder_dirty = self._folder_dirty, False
            current = -1
            try:
                self._checksum()
                self._beat()
                synced = self.pos
                current = files.duplicate(self._descriptor) if self._descriptor >= 0 else -1
            except OSError as error:
                self.failure = self._unsafe(error)
                raise self.failure from error
        self._busy += 1  # a signal handler that syncs must not close what is just being synced
        try:
            with self._sync_lock:
                return self._sync(retired, current, folder_dirty=folder_dirty, synced=synced)
        except OSError as error:
            self.failure = self._unsafe(error)
            raise self.failure from error
        finally:
            self._busy -= 1
            self._close_left()
            if current >= 0:
                files.close(current)

    def _sync(self, retired: list[Retired], current: int, *, folder_dirty: bool, synced: int) -> list[str]:
        """Bring these files to disk; the paths of those units among the retired that nobody else has brought there."""
        assert self.folder is not None
        paths = []
        for unit in retired:
            if unit in self._retired:
                files.sync_data(unit.descriptor)
        if current >= 0:
            files.sync_data(current)
            if files.removed(current) and not self._compacted():
                raise OSError(errno.ENOENT, "the file was removed")
        if folder_dirty:
            files.sync_folder(self.folder)
        self._synced = synced
        for unit in retired:
            with contextlib.suppress(ValueError):  # somebody who synced meanwhile has closed it already
                self._retired.remove(unit)
                self._close_descriptor(unit.descriptor)
                paths.append(unit.path)
        return paths

    def _compacted(self) -> bool:
        """Whether the current unit is elsewhere now: it was closed, and compacted before it was brought to disk here."""
        from .snapshot import find_unit

        assert self.folder is not None  # in memory nothing is brought to disk
        return bool(self.closed) and find_unit(self.folder, self.writer, self._n) is not None

    def beat(self) -> None:
        """Give a sign of life, for readers here (in the unit) and on other hosts (its modification time).

        Raises:
            OSError: The disk refused.
        """
        with LOCK:
            self._beat()
        if self.path:
            files.touch(self.path)

    def _beat(self) -> None:
        if self.map is None or self.folder is None:
            return
        descriptor, beat = self._descriptor, u.pack_beat(time.time())
        self.map[u.BEAT : u.PAGE] = beat
        if self.mode == WRITTEN:
            self._busy += 1
            try:
                files.write_at(descriptor, beat, u.BEAT)
            finally:
                self._busy -= 1
                self._close_left()

    def _unsafe(self, error: OSError) -> StoreError:
        return StoreError(
            error.errno,
            f"the disk failed to confirm what was recorded: {error.strerror or error}. "
            + (
                "Hint: was the folder moved or removed?"
                if error.errno == errno.ENOENT
                else "It is safe from a crash of this program, not from one of the machine. "
                "Hint: check the disk, and copy the collection elsewhere"
            ),
            self.folder,
        )

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
                self._end += u.RESERVE
                if not self._put_locked(entry, None, None):
                    raise

    @property
    def opened(self) -> bool:
        """Whether it has written any unit."""
        return self._n > 0

    def rest(self) -> None:
        """Let go of the current unit and its file as if it was full; the next entry opens another.

        Raises:
            StoreError: The disk refused.
        """
        with LOCK:
            memory, used = self.map, self.pos
            if self.folder is None or self.closed or memory is None:
                return
            self.limit = 0
            try:
                self._checksum()
                last, retired = self.keeper, [Retired(self.path, self._descriptor)]
                if self.map is not memory or self.pos not in (self._slotted, self._block + u.BLOCK_HEAD):
                    return  # somebody interrupted and records
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
            self.sync()

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
        self._fresh()
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
