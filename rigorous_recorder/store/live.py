"""Live: the bytes of a log that somebody may be writing while it is read."""

from __future__ import annotations

from . import files
from . import unit as u
from .replay import vouched_end


def read_log(path: str) -> bytes:
    """The log at a path, whole up to where its writer was when it was read: each entry of it, and nothing missing before one.

    A copy takes time, and its bytes are not of one moment: the writer may pass it, so that it has entries of a block and lacks
    some before them; and it may have the mark of an entry, which is written last, and not yet all that was written before it
    (kernels copy with `rep movsb`, which keeps no order). But what it has of marks and of heads of blocks was written before
    it ended. So it is taken twice: the first copy says what there is, and the second one has it.

    Raises:
        OSError: It cannot be read.
    """
    first = files.read_all(path)
    try:
        header = u.unpack_header(first[: u.PAGE])
    except ValueError:  # whoever reads it will say so
        return first
    last = last_block(first, header)
    head = u.unpack_block(first, last) if last else None
    if head is not None and last == u.PAGE and vouched_end(first, head, last) == len(first):
        return first  # a short one that was closed: a checksum is about all of it
    second = files.read_all(path)  # an entry of which the first has the mark may go on behind its end
    if first == second:
        return first
    if head is None:
        return second[: u.PAGE].ljust(len(second), b"\0")
    begins = last + u.BLOCK_HEAD
    noted = max(used for used, _ in head.slots)
    ends = _known_end(first, second, max(begins, last + noted))
    following = last + head.span * header.block
    if second[following : following + len(_salt(header))] == _salt(header):  # a block was begun there meanwhile
        ends = min(ends, following)
    return b"".join((second[:last], first[last:begins], second[begins:ends], bytes(max(0, len(second) - ends))))


def last_block(data: bytes, header: u.Header) -> int:
    """Where the last block that was begun starts in the bytes of a log; 0 where there is none."""
    for index in range((len(data) - u.PAGE - u.BLOCK_HEAD) // header.block, -1, -1):
        if u.block_at(data, header, index) is not None:
            return u.PAGE + index * header.block
    return 0


def _salt(header: u.Header) -> bytes:
    """What a block begins with; it is odd, so no end entry, which may stand there too, begins like it."""
    return header.salt.to_bytes(4, "little")


def _known_end(first: bytes, second: bytes, position: int) -> int:
    """Where the entries end of which the first copy has the mark, from a position on; the second has their lengths."""
    while position < min(len(first), len(second)) and first[position]:
        mark = second[position]
        if 0 < mark <= u.SHORT_MAX:
            position += 1 + mark
        elif mark in u.KINDS and position + u.ENTRY_HEAD <= len(second):
            position += u.ENTRY_HEAD + u.entry_length(second, position)
        else:  # no entry of this format: whoever reads it will say so
            return len(second)
    return min(position, len(second))
