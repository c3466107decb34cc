"""Every system call of the store, one function each: the one place where tests make calls fail.

Nothing else in `rigorous_recorder` calls `os` or opens files for the store. Tests replace functions of this module by
failing ones; so the others are called as `files.name(...)`, never imported by name.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import suppress
from typing import Final

FOLDER_MODE: Final = 0o777
FILE_MODE: Final = 0o666
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)

MAPPABLE: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems known to honour preallocation, so that a store into a map cannot meet a full disk (SIGBUS)."""


SPARSE: Final = 1 << 30
"""A file of more bytes than this that is mostly a hole is none of ours, and reading it would only fill the memory."""


def make_folder(path: str, made: list[None] | None = None) -> None:
    """Create one folder; FileExistsError when it is there: `mkdir` is atomic everywhere, and is how numbers are claimed.

    Args:
        path: Of the folder.
        made: Gets an element when this call has made it, even if a KeyboardInterrupt comes out: no Python runs between the
            two. Who were to look afterwards could not tell it from another process's.
    """
    ([] if made is None else made).extend(map(os.mkdir, (path,), (FOLDER_MODE,)))


def make_folders(path: str) -> None:
    """Create a folder and its parents where they are missing, and bring their names to disk."""
    missing = []
    while not os.path.isdir(path):  # noqa: PTH112
        missing.append(path)
        path = os.path.dirname(path)  # noqa: PTH120
    for folder in reversed(missing):
        with suppress(FileExistsError):
            make_folder(folder)
        sync_folder(os.path.dirname(folder))  # noqa: PTH120


def create(path: str) -> int:
    """Create a file for reading and writing and return its descriptor; FileExistsError when it is there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOEXEC | _NOFOLLOW, FILE_MODE)


def open_read(path: str) -> int:
    """Open a file for reading, following no link and waiting for no pipe, and return its descriptor."""
    return os.open(path, os.O_RDONLY | _CLOEXEC | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0))


def open_write(path: str) -> int:
    """Open an existing file of our own for writing and return its descriptor."""
    return os.open(path, os.O_RDWR | _CLOEXEC | _NOFOLLOW)


def preallocate(descriptor: int, size: int, start: int = 0) -> None:
    """Reserve `size` bytes of a file from `start` on. OSError with ENOSPC, EDQUOT or EFBIG when they are not to be had."""
    os.posix_fallocate(descriptor, start, size)


def extend(descriptor: int, size: int, start: int) -> None:
    """Make a file longer by `size` zeros from its end `start` on, for which there is then room on the disk.

    Raises:
        OSError: There is no room; the file may have become longer by a part of them.
    """
    try:
        preallocate(descriptor, size, start)
    except AttributeError:  # not on this system
        write_at(descriptor, bytes(size), start)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # nor on this file system
            raise
        write_at(descriptor, bytes(size), start)


def map_shared(descriptor: int, size: int) -> mmap.mmap:
    """Map the first `size` bytes of a file for writing, shared with every other process that reads the file."""
    return mmap.mmap(descriptor, size)


def populate(memory: mmap.mmap, offset: int, size: int) -> bool:
    """Have pages of a map ready for writing, so that the stores into them meet no page fault (madvise(2), Linux 5.14).

    Returns:
        Whether the system could do it; where it cannot, the stores fault one by one.
    """
    try:
        memory.madvise(_POPULATE_WRITE, offset, size)
    except (OSError, ValueError, AttributeError):
        return False
    return True


_POPULATE_WRITE: Final = 23


def map_private(size: int) -> mmap.mmap:
    """`size` bytes of memory that a forked child gets a copy of (the default of mmap would share them)."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | getattr(mmap, "MAP_ANONYMOUS", 0))
    return mmap.mmap(-1, size)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, in one call where the system takes it in one."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        count = os.pwrite(descriptor, data[written:], offset + written)
        if count == 0:
            raise OSError(errno.EIO, "the file system takes no more bytes")
        written += count


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes at `offset`; fewer only at the end of the file."""
    parts = []
    while size > 0:
        part = os.pread(descriptor, min(size, 1 << 30), offset)
        if not part:
            break
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_all(path: str, limit: int | None = None) -> bytes:
    """The content of a regular file, at most `limit` bytes of it. FileNotFoundError, or OSError for links and pipes."""
    descriptor = open_read(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        size = status.st_size if limit is None else min(limit, status.st_size)
        if size > SPARSE and getattr(status, "st_blocks", size) * 512 < size // 2:
            raise OSError(errno.EFBIG, "the file is a hole of many bytes", path)
        return read_at(descriptor, size, 0)
    finally:
        os.close(descriptor)


def truncate(descriptor: int, size: int) -> None:
    """Cut a file to `size` bytes."""
    os.ftruncate(descriptor, size)


def sync_data(descriptor: int) -> None:
    """Return when the file's data is on disk. `fdatasync` releases the GIL; `mmap.flush` holds it (85 of 93 ms)."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def sync_file(descriptor: int) -> None:
    """Return when the file's data and metadata are on disk."""
    os.fsync(descriptor)


def sync_folder(path: str) -> None:
    """Return when the names in a folder are on disk: without it a new or renamed file is missing after a power cut."""
    if os.name == "nt":
        return  # Windows cannot open folders, and its file systems journal names by themselves
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def duplicate(descriptor: int) -> int:
    """A second descriptor of the same file, that stays valid when the first is closed."""
    return os.dup(descriptor)


def removed(descriptor: int) -> bool:
    """Whether an open file has no name any more: what is written into it is nowhere to be found."""
    return os.fstat(descriptor).st_nlink == 0


def close(descriptor: int) -> None:
    """Close a descriptor."""
    os.close(descriptor)


def rename(source: str, target: str) -> None:
    """Give a file its final name, replacing what has it."""
    os.replace(source, target)  # noqa: PTH105


def link(source: str, target: str) -> None:
    """Give a file a second name; FileExistsError when something has it: a rename that never replaces."""
    os.link(source, target)


def remove(path: str) -> None:
    """Remove a file."""
    os.unlink(path)  # noqa: PTH108


def remove_folder(path: str) -> None:
    """Remove an empty folder."""
    os.rmdir(path)  # noqa: PTH106


def touch(path: str) -> None:
    """Set a file's modification time to the file server's now: the heartbeat."""
    os.utime(path)


def names(path: str) -> list[str]:
    """The names in a folder, sorted; FileNotFoundError when there is none."""
    return sorted(os.listdir(path))  # noqa: PTH208


def size(path: str) -> int:
    """The size of a file in bytes."""
    return os.lstat(path).st_size


def free_space(path: str) -> int:
    """Bytes that this user may still write on the file system that holds a path."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def modified(path: str) -> float:
    """The modification time, in seconds since the epoch by the file server's clock."""
    return os.lstat(path).st_mtime


Mark = tuple[int, int, int]
"""What a folder is recognised by: its device, its inode, and when an entry of it last changed, in nanoseconds."""


def mark(folder: str) -> Mark:
    """The mark of a folder."""
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino, status.st_mtime_ns


def changed(path: str) -> float:
    """When a file last changed or got its name, in seconds since the epoch by the file server's clock."""
    status = os.lstat(path)
    return max(status.st_mtime, status.st_ctime)


def signature(path: str) -> tuple[int, ...]:
    """Numbers that change when another file is there, or the file is another: inode, bytes, time of modification."""
    status = os.lstat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_folder(path: str) -> bool:
    """Whether the path is a folder, and no link to one. OSError when that cannot be told: it is not taken for missing."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def exists(path: str) -> bool:
    """Whether something has this name, be it a broken link."""
    return os.path.lexists(path)


def file_system(path: str) -> str:
    """The type of the file system that holds a path ("ext4", "nfs4"), or "" where that is unknown.

    From `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the last mount whose mount point is the longest prefix.
    """
    try:
        descriptor = open_read("/proc/self/mountinfo")
        try:
            mounts = read_at(descriptor, 1 << 24, 0)
        finally:
            close(descriptor)
    except OSError:
        return ""
    global _kinds  # noqa: PLW0603
    kinds = _kinds if _kinds[0] == mounts else (mounts, {})
    _kinds = kinds
    try:
        device = os.stat(path).st_dev  # noqa: PTH116
    except OSError:  # it is not there yet
        return _mounted(mounts, path)
    if device not in kinds[1]:
        kinds[1][device] = _mounted(mounts, path)
    return kinds[1][device]


_kinds: tuple[bytes, dict[int, str]] = b"", {}
"""What mountinfo said last, and the file system on each device that was asked for since: each new attempt asks again."""


def _mounted(mounts: bytes, path: str) -> str:
    target = os.path.realpath(path) + "/"
    best, kind = -1, ""
    for line in os.fsdecode(mounts).splitlines():
        fields, _, rest = line.partition(" - ")
        point = (
            fields.split(" ")[4]
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
        )
        prefix = point if point.endswith("/") else point + "/"
        if target.startswith(prefix) and len(prefix) >= best:
            best, kind = len(prefix), rest.split(" ")[0]
    return kind
