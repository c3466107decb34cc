"""How many rows a Parquet file says that it has, read from its metadata without polars.

They are a struct of Thrift's compact protocol, of which the rows are the third field
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Final

_NUM_ROWS: Final = 3
"""The number of the field."""
_I64: Final = 6
_NUMBERS: Final = (4, 5, _I64)
_BINARY: Final = 8
_LIST: Final = 9
_STRUCT: Final = 12
_FIXED: Final = {1: 0, 2: 0, 3: 1, 7: 8}
"""Bytes of a field that is true, that is false, of a byte, of a float."""
_BOOLS: Final = (1, 2)
"""In a list each of them takes a byte."""
_MANY: Final = 15
"""The length of a list that is longer, or as long, stands behind its head."""
_MORE: Final = 0x80
_DEEPEST: Final = 8
"""Structs and lists within each other in what stands before the rows; Parquet's own have three."""


_known: Final[list[bytes]] = []
"""What footers of the same columns begin with, up to the number of rows: gone over once, it is where it is in all of them."""
_MOST_KNOWN: Final = 8
_LONGEST_KNOWN: Final = 1 << 16


def parquet_rows(footer: bytes) -> int | None:
    """How many rows the file has by its footer, which begins with the metadata; None where that is not found.

    It takes 3 us for each column the first time.
    """
    try:
        for known in _known:
            if footer.startswith(known):
                return _signed(footer, len(known))
        at, number = 0, 0
        while footer[at]:
            head = footer[at]
            step, at = (head >> 4, at + 1) if head >> 4 else _varint(footer, at + 1)
            number += step
            if number == _NUM_ROWS:
                if head & 15 != _I64:
                    return None
                if at <= _LONGEST_KNOWN:
                    _known[:] = [footer[:at], *_known[: _MOST_KNOWN - 1]]
                return _signed(footer, at)
            at = _behind(footer, at, head & 15, 0)
    except (IndexError, ValueError):
        return None
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of several bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        part = data[at]
        at += 1
        value |= (part & ~_MORE) << shift
        if part < _MORE:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _signed(data: bytes, at: int) -> int:
    value, _ = _varint(data, at)
    return (value >> 1) ^ -(value & 1)


def _behind(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where the value of a kind ends that starts at a place.

    Raises:
        IndexError: It leaves the data.
        ValueError: It is none.
    """
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if kind in _FIXED:
        at += _FIXED[kind]
    elif kind in _NUMBERS:
        _, at = _varint(data, at)
    elif kind == _BINARY:
        length, at = _varint(data, at)
        at += length
    elif kind == _LIST:
        at = _behind_list(data, at, depth)
    elif kind == _STRUCT:
        while data[at]:
            head = data[at]
            at = at + 1 if head >> 4 else _varint(data, at + 1)[1]
            at = _behind(data, at, head & 15, depth + 1)
        at += 1
    else:
        raise ValueError(f"a value of the kind {kind}")
    return at


def _behind_list(data: bytes, at: int, depth: int) -> int:
    head = data[at]
    count, at = (head >> 4, at + 1) if head >> 4 < _MANY else _varint(data, at + 1)
    for _ in range(count):
        data[at]  # one that claims more items than there are bytes ends here
        at = at + 1 if head & 15 in _BOOLS else _behind(data, at, head & 15, depth + 1)
    return at
