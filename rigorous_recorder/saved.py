"""One file for a tree in memory: what `save_to` writes and `load_from` reads. `docs/format.md` has its layout.

The file is the tree's units one behind the other, each with its length and checksum in front.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final

from .errors import FormatError, InvalidCallError, StoreError, hint_for
from .keeper import RecordKeeper, restore
from .reading import read_memory
from .session import Session
from .store import files, layout

MAGIC: Final = b"RRTREE\x01\n"
_UNIT: Final = struct.Struct("<QI")


def save(path: str, keeper: RecordKeeper) -> None:
    """Write a whole tree into one file: temporary file, fsync, rename, fsync of the folder.

    Raises:
        InvalidCallError: The keeper is not the root.
        StoreError: The disk refused; an older file of that name is as it was.
    """
    if keeper.parent is not None:
        raise InvalidCallError("save_to writes a whole tree, and this keeper has a parent. Hint: call it on the root.")
    parts = [MAGIC]
    for unit in keeper._session.journal.memory():
        parts += [_UNIT.pack(len(unit), zlib.crc32(unit)), unit]
    parts.append(_UNIT.pack(0, 0))
    path = os.path.abspath(path)  # noqa: PTH100
    folder = os.path.dirname(path)  # noqa: PTH120
    temporary = f"{folder}/{layout.temporary_name(layout.new_id(), 1)}"
    try:
        descriptor = files.create(temporary)
        try:
            try:
                files.write_at(descriptor, b"".join(parts), 0)
                files.sync_file(descriptor)
            finally:
                files.close(descriptor)
            files.rename(temporary, path)
        except BaseException:
            files.remove(temporary)
            raise
        files.sync_folder(folder)
    except OSError as error:
        raise StoreError(error.errno, f"the tree cannot be saved: {error.strerror}", path) from error


def load(path: str) -> RecordKeeper:
    """Read a file that `save` wrote into a new tree in memory: its units become the first units of the tree's journal.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is another file, a folder, or damaged.
        StoreError: It cannot be read.
    """
    try:
        data = files.read_all(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        if files.is_folder(path):
            raise FormatError(
                f"{path} is a folder, and a saved tree is a file. Hint: ExperimentCollection({path!r}) opens a collection."
            ) from error
        raise StoreError(
            error.errno, f"the tree cannot be read: {error.strerror}. Hint: {hint_for(error.errno)}", path
        ) from error
    units = _units(path, data)
    try:
        attempt = read_memory(units).attempts[0]
    except ValueError as error:
        raise FormatError(f"{path} is damaged: {error}.") from error
    findings = [finding for unit in attempt.units if unit.source is not None for finding in unit.source.findings]
    tops = [level for level in attempt.levels if level.parent is None]
    if findings or len(tops) != 1:
        what = findings[0].sentence if findings else f"it holds {len(tops)} trees, and one is expected"
        raise FormatError(f"{path} is damaged: {what}.")
    session = Session()
    session.journal.units = [(unit, len(unit)) for unit in units]
    return restore(session, None, tops[0].id, tops[0].data, tops[0].stamps)


def _units(path: str, data: bytes) -> list[bytes]:
    if not data.startswith(MAGIC):
        raise FormatError(
            f"{path} is no saved tree. Hint: save_to(path) writes one; a collection is opened as a folder."
        )
    units: list[bytes] = []
    position = len(MAGIC)
    while position + _UNIT.size <= len(data):
        length, crc = _UNIT.unpack_from(data, position)
        position += _UNIT.size
        if length == 0 and crc == 0:
            if position != len(data):
                raise FormatError(f"{path} has {len(data) - position} bytes behind its end.")
            return units
        unit = data[position : position + length]
        if len(unit) < length or zlib.crc32(unit) != crc:
            raise FormatError(f"{path} is damaged in the {length} bytes from {position}.")
        units.append(unit)
        position += length
    raise FormatError(f"{path} is cut off after {len(data)} bytes.")
