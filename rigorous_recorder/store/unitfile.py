"""The file of a new unit: made under a temporary name, as large as there is room for, named when its header is in it."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import DeletedError
from . import files, layout, machine, refusals
from . import unit as u
from .modes import MAPPED

if TYPE_CHECKING:
    from collections.abc import Iterator

MINIMUM: Final = 64 << 10
"""The smallest unit in bytes that is tried when the disk has no room for a larger one."""

FOLDERS: Final = 100
"""Times that a folder which goes again and again is made, since compactions remove those that they emptied."""


class UnitFile(msgspec.Struct, frozen=True):
    """A unit without entries.

    Attributes:
        n: Which one of its writer it is, from 1.
        memory: Its bytes: the mapped file, or a copy in memory that is written to the file bit by bit.
        descriptor: Of its file; -1 in memory.
        temporary: The name under which the file was made; "" in memory.
        path: The name that it shall get; "" in memory.
        salt: What its blocks repeat.
        blocks: How many blocks it has room for.
    """

    n: int
    memory: Any
    descriptor: int
    temporary: str
    path: str
    salt: int
    blocks: int


class UnitMaker:
    """Makes the unit files of one writer.

    Attributes:
        writer: Its id, 32 hex digits.
    """

    __slots__ = ("_attempt", "_block_size", "_folder", "_mode", "_sizes", "_start", "_temporaries", "writer")

    def __init__(self, folder: str | None, mode: str, attempt: str, sizes: tuple[int, ...], block_size: int) -> None:
        """The maker of a new writer; for the arguments see `Journal`."""
        self.writer = layout.new_id()
        self._folder = folder
        self._mode = mode
        self._attempt = attempt
        self._sizes = sizes
        self._block_size = block_size
        self._start = 0.0
        self._temporaries: Iterator[int] = itertools.count(1)

    def size(self, n: int) -> int:
        """The size planned for unit n in bytes."""
        return self._sizes[min(n, len(self._sizes)) - 1]

    def make(self, n: int, span: int) -> UnitFile:
        """Create the file of unit n under a temporary name, smaller than planned when the disk has no room for that.

        Args:
            n: Which unit of the writer, from 1.
            span: The least number of blocks it must have room for.

        Raises:
            DeletedError: The attempt was deleted.
            OSError: There is no room even for a small one; nothing is left of it.
        """
        wanted = self.size(n)
        while True:
            blocks = max(wanted // self._block_size, span)
            try:
                return self._make(n, blocks)
            except DeletedError:
                raise
            except OSError:
                wanted //= 2
                if wanted < max(MINIMUM, self._block_size) or blocks == span:
                    raise

    def _make(self, n: int, blocks: int) -> UnitFile:
        now = time.time()
        self._start = self._start or now
        salt = int.from_bytes(os.urandom(4), "little") | 1
        here = machine.here()
        page = u.pack_header(
            u.Header(
                version=layout.FORMAT_VERSION, features=[], writer=self.writer, n=n, attempt=self._attempt,
                block=self._block_size, salt=salt, boot=here.boot, host=here.host, namespace=here.namespace, pid=here.pid,
                pid_start=here.pid_start, time=now, start=self._start,
            )
        )  # fmt: skip
        size = u.unit_size(blocks, self._block_size)
        if self._folder is None:
            memory = files.map_private(size)
            memory[: u.PAGE] = page
            return UnitFile(n, memory, -1, "", "", salt, blocks)
        descriptor = -1
        while descriptor < 0:
            temporary = f"{self._folder}/{layout.temporary_name(self.writer, next(self._temporaries))}"
            with contextlib.suppress(FileExistsError):  # of a child that was forked just here, and goes on
                descriptor = self._create_file(temporary)
        try:
            if self._mode == MAPPED:
                files.preallocate(descriptor, size)
                memory = files.map_shared(descriptor, size)
            else:
                files.write_at(descriptor, page, 0)
                memory = files.map_private(size)
            memory[: u.PAGE] = page
        except BaseException:
            files.close(descriptor)
            with contextlib.suppress(FileNotFoundError):  # ext4 leaves the blocks allocated when preallocation fails
                files.remove(temporary)
            raise
        path = f"{self._folder}/{layout.log_name(self.writer, n)}"
        return UnitFile(n, memory, descriptor, temporary, path, salt, blocks)

    def _create_file(self, path: str) -> int:
        """Create a file in our folder, and that folder too if it is one of an attempt that was emptied by a compaction.

        Such a folder may go again before there is something in it. A copy may have left out the claim above it as well.
        """
        for _ in range(FOLDERS):
            try:
                return files.create(path)
            except FileNotFoundError:
                assert self._folder is not None  # in memory there are no files
                claim = self._folder.rpartition("/")[0]
                if not self._attempt:
                    raise
                if files.exists(f"{claim}/{layout.deleted_name(self._attempt)}"):
                    raise refusals.deleted(self._folder) from None
                if not files.is_folder(claim):
                    if not self._was_compacted(claim.rpartition("/")[0]):
                        raise  # somebody has removed it
                    files.make_folders(claim)
                with contextlib.suppress(FileExistsError):
                    files.make_folder(self._folder)
                files.sync_folder(claim)
        return files.create(path)

    def _was_compacted(self, collection: str) -> bool:
        from .packed import list_packs  # which a recorder has no need of

        return list_packs(collection).claim(self._attempt) is not None


def give_name(temporary: str, path: str) -> bool:
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
