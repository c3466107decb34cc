"""Live: the bytes of a log that somebody may be writing while it is read."""

from __future__ import annotations

from . import files
from . import unit as u


def read_log(path: str) -> bytes:
    """The log at a path, with nothing missing before anything that is in it.

    It is read from its beginning, as it is written, so the writer may pass: a block would have been read before its last
    records were there, and the next one with records in it, and nothing would tell. But when a block begins, all before it are
    as they will stay; so these are read once more.

    Raises:
        OSError: It cannot be read.
    """
    data = files.read_all(path)
    last = last_block(data)
    if last <= u.PAGE:
        return data
    finished = files.read_all(path, last)
    return finished + data[len(finished) :]


def last_block(data: bytes) -> int:
    """Where the last block that was begun starts in the bytes of a log; 0 where that cannot be known."""
    try:
        header = u.unpack_header(data[: u.PAGE])
    except ValueError:
        return 0
    for index in range((len(data) - u.PAGE - u.BLOCK_HEAD) // header.block, -1, -1):
        if u.block_at(data, header, index) is not None:
            return u.PAGE + index * header.block
    return 0
