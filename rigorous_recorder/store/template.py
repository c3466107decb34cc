"""Templates: what records of one byte layout have in common, so that NumPy can find and read many of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import unit as u

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FLOAT: Final = "float"
INT: Final = "int"
BOOL: Final = "bool"
TEXT: Final = "text"
NULL: Final = "null"

_ANY: Final = b"\0"
_SAME: Final = b"\xff"
_NUMBERS: Final = {
    0xCA: (FLOAT, ">f4"),
    0xCB: (FLOAT, ">f8"),
    0xCC: (INT, ">u1"),
    0xCD: (INT, ">u2"),
    0xCE: (INT, ">u4"),
    0xCF: (INT, ">u8"),
    0xD0: (INT, ">i1"),
    0xD1: (INT, ">i2"),
    0xD2: (INT, ">i4"),
    0xD3: (INT, ">i8"),
}
"""MessagePack's numbers: the first byte, and what follows it."""


class Field(msgspec.Struct, frozen=True):
    """One key of a template: where its value is in each record, or the value itself where all have the same.

    Attributes:
        key: The key.
        kind: FLOAT, INT or BOOL, which are read from the records, TEXT or NULL, which all share.
        offset: Of the value from the start of the record.
        dtype: NumPy's, in the byte order of MessagePack.
        value: What all records share.
    """

    key: str
    kind: str
    offset: int = 0
    dtype: str = ""
    value: str | None = None


class Template:
    """Records of `size` bytes that agree with `pattern` in all bits of `mask`.

    Attributes:
        size: Bytes of a record, the switch of its level included.
        head: What stands before each record: its mark, and its length if it is long.
        switch: Whether each begins with the switch to its level.
        mask, pattern: Which bits are the same in all, and what they are.
        fields: Its keys.
    """

    __slots__ = ("_mask", "_pattern", "_tiles", "fields", "head", "mask", "pattern", "size", "switch")

    def __init__(self, mask: bytes, pattern: bytes, fields: list[Field], *, switch: bool) -> None:
        self.size = len(mask)
        self.head = (
            bytes((self.size,)) if self.size <= u.SHORT_MAX else u.pack_entry(u.LONG, bytes(self.size))[: u.ENTRY_HEAD]
        )
        self.mask = mask
        self.pattern = pattern
        self.fields = fields
        self.switch = switch
        self._mask = int.from_bytes(mask)
        self._pattern = int.from_bytes(pattern)
        self._tiles: tuple[NDArray[Any], NDArray[Any]] | None = None

    def fits(self, record: bytes) -> bool:
        """Whether a record is of this layout."""
        return len(record) == self.size and int.from_bytes(record) & self._mask == self._pattern

    def tiles(self, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mask and pattern of at least so many entries in a row, their marks included."""
        import numpy as np

        if self._tiles is None or len(self._tiles[0]) < rows * (self.size + len(self.head)):
            self._tiles = (
                np.frombuffer((_SAME * len(self.head) + self.mask) * rows, "u1"),
                np.frombuffer((self.head + self.pattern) * rows, "u1"),
            )
        return self._tiles


class _Irregular(Exception):  # noqa: N818  (no error: the way out of a record that templates do not cover)
    pass


def compile_template(record: bytes) -> Template | None:
    """The template of a record, or None where it holds what only a full decoder can read (containers, times, bytes)."""
    try:
        return _Compiler(record).template()
    except (_Irregular, IndexError, UnicodeDecodeError):
        return None


class _Compiler:
    """Walks one record and notes for each of its bytes whether it is structure or value."""

    __slots__ = ("mask", "position", "record")

    def __init__(self, record: bytes) -> None:
        self.record = record
        self.position = 0
        self.mask = bytearray()

    def template(self) -> Template:
        switch = self.record[0] == u.SWITCH
        if switch:
            self._take(1, _SAME)
            self._take(u.SWITCH_SIZE - 1, _ANY)
        head = self._take(1, _SAME)[0]
        if 0x80 <= head <= 0x8F:  # noqa: PLR2004  (MessagePack's fixmap)
            count = head & 0x0F
        elif head == 0xDE:  # noqa: PLR2004  (map 16)
            count = int.from_bytes(self._take(2, _SAME))
        else:
            raise _Irregular
        fields = [self._field() for _ in range(count)]
        if self.position != len(self.record) or len({field.key for field in fields}) != count:
            raise _Irregular
        mask = bytes(self.mask)
        pattern = bytes(a & b for a, b in zip(self.record, mask, strict=True))
        return Template(mask, pattern, fields, switch=switch)

    def _take(self, size: int, mask: bytes) -> bytes:
        taken = self.record[self.position : self.position + size]
        if len(taken) < size:
            raise _Irregular
        self.position += size
        self.mask += mask * size
        return taken

    def _text(self) -> str | None:
        """The text at the position, whose bytes are structure; None where something else stands there."""
        head = self.record[self.position]
        if 0xA0 <= head <= 0xBF:  # noqa: PLR2004  (fixstr)
            self._take(1, _SAME)
            return self._take(head & 0x1F, _SAME).decode()
        if head == 0xD9:  # noqa: PLR2004  (str 8; longer texts do not fit a short entry)
            self._take(1, _SAME)
            return self._take(self._take(1, _SAME)[0], _SAME).decode()
        return None

    def _field(self) -> Field:
        key = self._text()
        if key is None:
            raise _Irregular
        head, offset = self.record[self.position], self.position
        if head in _NUMBERS:
            kind, dtype = _NUMBERS[head]
            self._take(1, _SAME)
            self._take(int(dtype[2:]), _ANY)
            return Field(key, kind, offset + 1, dtype)
        if head <= 0x7F:  # noqa: PLR2004  (positive fixint)
            self._take(1, b"\x80")
            return Field(key, INT, offset, "u1")
        if head >= 0xE0:  # noqa: PLR2004  (negative fixint)
            self._take(1, b"\xe0")
            return Field(key, INT, offset, "i1")
        if head in (0xC2, 0xC3):
            self._take(1, b"\xfe")
            return Field(key, BOOL, offset, "u1")
        if head == 0xC0:  # noqa: PLR2004  (nil)
            self._take(1, _SAME)
            return Field(key, NULL)
        text = self._text()
        if text is None:
            raise _Irregular
        return Field(key, TEXT, value=text)


def _integers(raw: NDArray[Any]) -> NDArray[Any]:
    if raw.dtype.itemsize == 8 and raw.dtype.kind == "u" and len(raw) and int(raw.max()) >= 2**63:  # noqa: PLR2004
        return raw.astype("u8")
    return raw.astype("i8")


_READ: Final[dict[str, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    FLOAT: lambda raw: raw.astype("f8"),
    INT: _integers,
    BOOL: lambda raw: raw == 0xC3,  # noqa: PLR2004  (MessagePack's true)
}


def read_field(field: Field, data: bytes | memoryview, start: int, stride: int, count: int) -> NDArray[Any]:
    """The values of a field in `count` records, of which the first starts at `start`, and each `stride` bytes on."""
    import numpy as np

    raw: NDArray[Any] = np.ndarray((count,), field.dtype, data, start + field.offset, (stride,))
    return _READ[field.kind](raw)
