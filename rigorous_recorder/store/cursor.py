"""`Cursor`, where in which memory the next entry goes: what the hot path needs of a journal, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..accelerator import native
from . import unit as u

if native is None or TYPE_CHECKING:

    class Cursor:
        """Where the next entry goes.

        Attributes:
            map: Memory of the current unit, None while there is none.
            pos: Where in it the next entry goes.
            limit: Where lock-free adds must stop: the end of the current block, or 0 to send everybody to the slow path.
            keeper: Whose level is in force: that of the last record in this block.
            token: A new object per unit, by which keepers know whether this unit defines them.
        """

        __slots__ = ("keeper", "limit", "map", "pos", "token")

        map: Any
        pos: int
        limit: int
        keeper: object
        token: object

        def put_here(self, kind: int, payload: bytes, token: object) -> bool:
            """Put an entry of a kind from 240 on where the cursor stands.

            Args:
                kind: The entry's mark.
                payload: Its content.
                token: When not None, the unit that it must stand in.

            Returns:
                Whether it was put: False when it does not fit, or another unit than `token` is current.
            """
            entry = u.pack_entry(kind, payload)
            body = entry[1:]
            size = len(entry)
            body[0:0]
            # from here to `return` there is no call (see store/journal.py)
            if token is not None and self.token is not token:
                return False
            p = self.pos
            e = p + size
            if e > self.limit:
                return False
            self.pos = e
            self.map[p + 1 : e] = body
            self.map[p] = kind
            return True

else:
    Cursor = native.Cursor
