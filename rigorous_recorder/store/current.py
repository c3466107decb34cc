"""The unit that a writer is writing: entries, blocks with their checksums, and in `write()` mode the file behind the memory.

A signal handler that records can run inside of each method here, and do the same work. So each prepares all it needs, and
then switches in a section without calls, unless the version shows that somebody else has switched.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from . import files, refusals
from . import unit as u
from .cursor import Cursor
from .modes import MAPPED, WRITTEN

PAD: Final = 64 << 10
"""Bytes by which `write()` mode makes a file longer ahead at a time."""


class CurrentUnit(Cursor):
    """The unit in which the cursor stands, or none yet.

    Attributes:
        folder: Where its file is; None in memory.
        mode: MEMORY, MAPPED or WRITTEN.
        block_size: Size of a block in bytes.
        path: Of its file; "" when there is none.
    """

    __slots__ = (
        "_block", "_busy", "_descriptor", "_end", "_headed", "_index", "_last", "_left", "_n", "_noted", "_noting",
        "_overwrites", "_padded", "_populates", "_reserve", "_salt", "_slot", "_slotted", "_span", "_version", "_written",
        "block_size", "folder", "mode", "path",
    )  # fmt: skip

    def __init__(self, folder: str | None, mode: str, block_size: int) -> None:
        """No unit yet; for the arguments see `Journal`."""
        self.folder = folder
        self.mode = mode
        self.block_size = block_size
        self._populates = block_size % u.PAGE == 0
        self._stand_nowhere()

    def _stand_nowhere(self) -> None:
        """Become one that never had a unit."""
        self.map = None
        self.pos = self.limit = 0
        self.keeper = None
        self.token = None
        self.path = ""
        self._descriptor = -1
        self._n = self._version = 0
        self._block = self._index = self._span = self._last = self._salt = 0
        self._slot = self._slotted = self._noted = self._overwrites = 0
        self._noting = -1
        self._end = self._written = self._padded = 0
        self._reserve = u.RESERVE
        self._headed = True
        self._busy = 0
        self._left: list[int] = []

    # ---- entries -----------------------------------------------------------------------------------------------------

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
            raise refusals.not_stored(error, self.folder) from error
        return True

    # ---- the file in `write()` mode ----------------------------------------------------------------------------------

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
                if self.map is None:  # a child that was forked just here: it is the parent that writes this
                    return
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

    # ---- blocks ------------------------------------------------------------------------------------------------------

    def _checksum(self) -> None:
        """Note in the block's header how far it is used, with a checksum.

        Always in the slot that holds no note of which a sync has said that it is on disk: until the next one is there too, a
        power cut may leave the new note, and not the entries that it is about.
        """
        self._flush()
        version, pos, block = self._version, self.pos, self._block
        start = block + u.BLOCK_HEAD
        if self.map is None or pos <= start or pos == self._slotted:
            return
        self._flush()  # what came in between
        descriptor = self._descriptor
        slot = u.pack_slot(pos - block, u.checksum(self._salt, self._index, self._span, self.map[start:pos]))
        b""[0:0]
        if version != self._version or pos <= self._slotted:
            return
        # from here to the store there is no call: whoever interrupts sees a note and where it is, or neither
        mine = self._slot
        if self._noting == block:  # this interrupts somebody who writes a note, maybe late: not into the same slot
            mine = 1 - mine
        if self._slotted and mine == self._noted:
            self._overwrites += 1
        self._noted = mine
        offset = block + u.SLOTS[mine]
        self.map[offset : offset + 8] = slot  # eight aligned bytes are one store: no kill leaves half of them
        if self.mode == WRITTEN:
            before, self._noting = self._noting, block
            self._busy += 1
            try:
                files.write_at(descriptor, slot, offset)
            finally:
                self._noting = before
                self._busy -= 1
                self._close_left()
        if version == self._version:  # less than somebody who interrupted has noted: it is noted again
            self._slotted = pos

    def _begin_block(self, version: int, index: int, span: int) -> None:
        offset = u.PAGE + index * self.block_size
        head = u.pack_block(self._salt, index, span)
        if self.mode == MAPPED and span == 1 and self._populates and (index or self._n > 1):
            # 16 pages at once: a fault for each in its turn takes a third more, and takes it from single calls; but what a
            # short experiment never writes to need not come to the disk with the begin (0.1 ms)
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

    # ---- descriptors -------------------------------------------------------------------------------------------------

    def _close_left(self) -> None:
        """Close the descriptors that were done with while somebody who was interrupted still had them in hand."""
        while self._left and not self._busy:
            descriptor = self._left.pop()
            files.close(descriptor)

    def _close_descriptor(self, descriptor: int) -> None:
        self._left.append(descriptor)
        self._close_left()
