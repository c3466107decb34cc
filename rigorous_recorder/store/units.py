"""The units of one writer, one behind the other: the next is opened when one is full, and all are brought to the disk."""

from __future__ import annotations

import contextlib
import errno
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ClosedError, DeletedError, RecorderError, StoreError
from . import files, refusals
from . import unit as u
from .current import CurrentUnit
from .lock import GIL, LOCK
from .modes import WRITTEN
from .unitfile import UnitMaker, give_name

if TYPE_CHECKING:
    from .unitfile import UnitFile


class Retired(msgspec.Struct, frozen=True):
    """A unit that is full: to be brought to the disk by its descriptor, then sealed."""

    path: str
    descriptor: int


class Units(CurrentUnit):
    """The units of one writer; the cursor stands in the latest.

    Attributes:
        owner: Whoever made the journal; see `Journal`.
        locked: Whether every add takes the lock.
        closed: Why nothing is added any more; "" while it is open.
        failure: What the disk said when it failed to confirm; no sync succeeds from then on.
        units: The full ones of a journal in memory, and how many bytes of each are used.
    """

    __slots__ = (
        "_attempt", "_level_bytes", "_maker", "_named", "_named_synced", "_retired", "_sizes", "_sync_lock", "_synced",
        "closed", "failure", "locked", "owner", "units",
    )  # fmt: skip

    def __init__(
        self, folder: str | None, mode: str, attempt: str, owner: Any, sizes: tuple[int, ...], block_size: int
    ) -> None:
        """No unit yet; for the arguments see `Journal`."""
        super().__init__(folder, mode, block_size)
        self.owner = owner
        self.locked = mode == WRITTEN or not GIL
        self.closed = ""
        self.failure: StoreError | None = None
        self._attempt = attempt
        self._sizes = sizes
        self._sync_lock = threading.RLock()
        self._become_new()

    def _become_new(self) -> None:
        """Become a writer that has written nothing."""
        self._stand_nowhere()
        self._maker = UnitMaker(self.folder, self.mode, self._attempt, self._sizes, self.block_size)
        self.units: list[tuple[Any, int]] = []
        self._synced = self._level_bytes = 0
        self._retired: list[Retired] = []
        self._named = self._named_synced = 0

    @property
    def opened(self) -> bool:
        """Whether it has written any unit."""
        return self._n > 0

    def within(self, size: int) -> bool:
        """Whether all it has written is in one unit, of fewer bytes than `size`."""
        return self._n == 1 and self.path != "" and self.pos < size

    # ---- the next ----------------------------------------------------------------------------------------------------

    def make_room(self, size: int) -> None:
        """See to it that an entry of `size` bytes fits at `pos`: finish the block, begin the next, in a new unit if need be.

        Can be interrupted anywhere: what it did is done again by the next call.

        Raises:
            ClosedError: The journal is closed.
            DeletedError: The attempt was deleted.
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
                    raise (
                        error if isinstance(error, RecorderError) else refusals.not_stored(error, self.folder)
                    ) from error
                finally:
                    if not self.locked:
                        self.limit = self._end

    def _open_unit(self, version: int, span: int) -> None:
        """Open the next unit, with room for levels and behind them a block of that span, and retire the one before.

        Levels that took room in the unit before are defined again in this one. Twice their room lets a chain of levels that
        is larger than any unit come to its end: each unit has more room than the one before.
        """
        n, maker = self._n, self._maker
        levels = u.blocks_for(self._level_bytes, self.block_size)
        # `levels` is 1 where there were none. That would be too many for a first unit of one block, as an editor's is.
        if span > 1 or (n and levels >= maker.size(n + 1) // self.block_size):
            span += 2 * levels
        token = object()
        retired = [Retired(self.path, self._descriptor)]
        file = self._named_file(version, n, span, maker)
        if file is None:
            return
        n = file.n
        if self.folder is not None:
            self._named += 1
            with contextlib.suppress(OSError):  # a second name of it, that readers ignore
                files.remove(file.temporary)
        self._checksum()  # in `write()` mode whoever interrupted may have added to the block that is left here
        old = [(self.map, self.pos)]
        if self._version != version or (self._span and self.pos not in (self._slotted, self._block + u.BLOCK_HEAD)):
            self._abandon(file, maker)
            return
        if self.map is None:
            old, retired = [], []
        if self.folder is None:
            self.units += old
        else:
            self._retired += retired
        self.map, self._descriptor, self.path = file.memory, file.descriptor, file.path
        self._n, self._salt, self._last = n, file.salt, file.blocks
        self.token = token
        self._padded, self._headed = u.PAGE, True
        self._version = version + 1
        self._index = self._span = self._block = 0
        self.pos = self._end = self._slotted = self._level_bytes = 0
        self._begin_block(version + 1, 0, 1)
        if self.folder is not None and old:
            old[0][0].close()

    def _named_file(self, version: int, n: int, span: int, maker: UnitMaker) -> UnitFile | None:
        """A unit of its name, the first that is free behind n; None when somebody interrupted and has opened one.

        Raises:
            DeletedError: The attempt was deleted; nothing is left of it.
        """
        while True:
            n += 1
            file = maker.make(n, span)
            try:
                if self.owner is not None:
                    self.owner.unit_opened(self)
                named = self.folder is None or give_name(file.temporary, file.path)
                if named and self.owner is not None:
                    self.owner.unit_named(self)
            except BaseException as error:
                self._abandon(file, maker)
                if isinstance(error, DeletedError) and self._maker is maker:
                    with contextlib.suppress(OSError):  # a file without entries, in the trash by now
                        files.remove(file.path)
                raise
            if self._version != version:
                self._abandon(file, maker)
                return None
            if named:
                return file
            self._abandon(file, maker)

    def _abandon(self, file: UnitFile, maker: UnitMaker) -> None:
        """Let go of a new unit that will not be used; if it has its name already, as one without entries.

        Who was forked while its parent opened a unit leaves the file, which is the parent's, as it is.
        """
        file.memory.close()
        if file.descriptor >= 0 and self._maker is maker:
            with contextlib.suppress(OSError):  # it may keep its zeros then
                files.truncate(file.descriptor, u.PAGE)
            self._close_descriptor(file.descriptor)
            with contextlib.suppress(OSError):
                files.remove(file.temporary)

    # ---- to the disk -------------------------------------------------------------------------------------------------

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
        if idle and self.pos == self._synced and not self._retired and self._named == self._named_synced:
            return []
        # LOCK first and let go of it: a signal handler that syncs may hold it already, and whoever holds the other lock must
        # never wait for it.
        with LOCK:
            if self.failure is not None:
                raise self.failure
            retired = list(self._retired)
            named = self._named
            current = -1
            try:
                self._checksum()
                self._beat()
                synced, path = self.pos, self.path
                current = files.duplicate(self._descriptor) if self._descriptor >= 0 else -1
            except OSError as error:
                self.failure = refusals.not_confirmed(error, self.folder)
                raise self.failure from error
        self._busy += 1  # a signal handler that syncs must not close what is just being synced
        paths = []
        try:
            while True:
                with self._sync_lock:
                    overwrites, version, slotted = self._overwrites, self._version, self._slotted
                    paths += self._sync(retired, current, path, named=named, synced=synced)
                with LOCK:
                    if overwrites == self._overwrites:
                        if version == self._version and slotted == self._slotted:
                            self._slot = 1 - self._noted  # this note is on disk, and stays until the next one is
                        return paths
                    # a note took the place of ours while it was on its way, and what it is about may not be on disk yet
        except OSError as error:
            self.failure = refusals.not_confirmed(error, self.folder)
            raise self.failure from error
        finally:
            self._busy -= 1
            self._close_left()
            if current >= 0:
                files.close(current)

    def _sync(self, retired: list[Retired], current: int, path: str, *, named: int, synced: int) -> list[str]:
        """Bring these files to disk; the paths of those units among the retired that nobody else has brought there.

        The current unit may be full meanwhile, synced by somebody else and sealed: then its file may be gone.
        """
        assert self.folder is not None
        paths = []
        for unit in retired:
            if unit in self._retired:
                files.sync_data(unit.descriptor)
        if current >= 0:
            files.sync_data(current)
            if self.path == path and files.removed(current) and not self._compacted():
                raise OSError(errno.ENOENT, "the file was removed")
        if self._named_synced < named:  # else who has brought these names to disk is done with it
            files.sync_folder(self.folder)
            self._named_synced = named
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
        return bool(self.closed) and find_unit(self.folder, self._maker.writer, self._n) is not None

    def beat(self) -> None:
        """Give a sign of life, for readers here (in the unit) and on other hosts (its modification time).

        Raises:
            OSError: The disk refused.
        """
        with LOCK:
            self._beat()
        if self.path:
            files.touch(self.path)
