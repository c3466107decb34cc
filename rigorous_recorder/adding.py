"""How a record is added: the hot path of the whole library, in Python here and, where it was compiled, in `_native.c`.

`Adding` is the reference, and all there is without a compiler. The C takes what is common (plain scalars, a short record,
room in the block) and hands everything else to the methods here; both write the same bytes, which a test holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from .accelerator import native
from .errors import RecorderError, UnstorableTypeError
from .pending import PendingRecord, Pendings
from .plain import REFUSALS
from .store import unit as u
from .store.lock import GIL, LOCK
from .values import encode_record, refusal, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keeper import RecordKeeper
    from .session import Session
    from .store.journal import Journal

_SHORT: Final = u.SHORT_MAX - u.SWITCH_SIZE


class Adding:
    """What a keeper does with a record, in Python.

    Attributes:
        token: Of the unit that defines this keeper's level.
        switch: The five bytes that change the level in force to this keeper's.
    """

    if not TYPE_CHECKING:
        __slots__ = ()
    else:
        _journal: Journal
        _session: Session
        _pendings: Pendings | None
        _defined: object
        token: object
        switch: bytes

        def enter(self, record: Mapping[Any, Any]) -> None:
            """As of `Node`."""

    def add_record(self, record: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Add one record: a dict, keywords, or both. It is safe from SIGKILL when this returns.

        Values that are pending in this thread are included, and cleared.

        Args:
            record: The values as a mapping. It is not kept: changing it later changes nothing.
            **values: More values, which win over those of `record`.

        Raises:
            TypeError, ValueError: A value cannot be stored; nothing of the record is, and the exception carries it as
                `.record`.
            ClosedError: The experiment is closed.
            StoreError: The disk is full or failed. What was added before is safe.
        """
        if values or record.__class__ is not dict or self._pendings is not None:
            record = self._combined(record, values)
        try:
            payload = encode_record(record)
        except REFUSALS as error:
            raise refusal(record, error) from error
        journal = self._journal
        size = len(payload)
        while size <= _SHORT:
            payload[0:0]
            if journal.keeper is self:
                # from here to `return` there is no call: nothing can come between (see store/journal.py)
                p = journal.pos
                e = p + 1 + size
                if e <= journal.limit:
                    journal.pos = e
                    journal.map[p + 1 : e] = payload
                    journal.map[p] = size
                    return
            elif self.token is journal.token:
                _before = journal.keeper  # freed only behind the section: a finalizer of it might record
                p = journal.pos
                e = p + 6 + size
                if e <= journal.limit:
                    journal.pos = e
                    journal.keeper = self
                    journal.map[p + 1 : e] = self.switch + payload
                    journal.map[p] = size + 5
                    return
            if self._slow(record, payload, size + 6):
                return
        self._add_long(record, payload)

    def _slow(self, record: Any, payload: bytes, size: int) -> bool:
        """What an add does before it can be tried again, or in its place. Gives whether the record was added.

        Raises:
            RecorderError: It cannot be added; the error carries it as `.record`.
        """
        journal = self._journal
        try:
            if journal.locked:
                journal.add_locked(self, record, payload)
                return True
            if journal.token is not None and self.token is not journal.token:
                self.enter(record)
            else:
                journal.make_room(size)
        except RecorderError as error:
            error.record = dict(record)
            raise
        return False

    def _add_long(self, record: Any, payload: bytes) -> None:
        journal = self._journal
        switched = u.pack_entry(u.LONG, b"\xce\0\0\0\0" + payload)[1:]
        alone = u.pack_entry(u.LONG, payload)[1:]
        size = len(switched)
        while True:
            body = switched[:4] + self.switch + payload
            if self.token is journal.token:
                alone[0:0]
                # from here to `return` there is no call
                p = journal.pos
                if journal.keeper is self:
                    e = p + size - 4
                    if e <= journal.limit:
                        journal.pos = e
                        journal.map[p + 1 : e] = alone
                        journal.map[p] = 240
                        return
                else:
                    _before = journal.keeper
                    e = p + size + 1
                    if e <= journal.limit:
                        journal.pos = e
                        journal.keeper = self
                        journal.map[p + 1 : e] = body
                        journal.map[p] = 240
                        return
            if self._slow(record, payload, size + 1):
                return

    def _combined(self, record: Any, values: dict[str, Any]) -> dict[Any, Any]:
        """The pending values of this thread, which are cleared, the record and the keywords, in one dict."""
        taken = self._taken()
        if record is None:
            return {**taken, **values} if taken else values
        if record.__class__ is dict and not values and not taken:
            return record
        return {**taken, **record_dict(record, {**taken, **values}), **values}

    def _taken(self) -> dict[str, Any]:
        """The pending values of this thread, which are cleared: a record that is refused must not slip into the next."""
        pendings = self._pendings
        pending = getattr(pendings, "record", None) if pendings is not None else None
        return {} if pending is None else pending.take()

    # ---- bit by bit --------------------------------------------------------------------------------------------------

    def _find_pending(self) -> PendingRecord:
        """The pending record of this thread, made where there is none."""
        try:
            return self._pendings.record  # type: ignore[union-attr]
        except AttributeError:
            return self._new_pending()

    pending_record = property(
        _find_pending, doc="The record that this thread fills bit by bit; `commit_record()` adds it."
    )

    def _new_pending(self) -> PendingRecord:
        with LOCK:
            if self._pendings is None:
                self._pendings = Pendings()
            self._pendings.record = PendingRecord(cast("RecordKeeper", self))
            self._session.register_pending(self._pendings.record)
        return self._pendings.record

    def forget_pending(self) -> None:
        """Drop all pending values: those of a forked child are its parent's."""
        self._pendings = None

    def commit_record(
        self,
        record: Mapping[str, Any] | None = None,
        /,
        *,
        additional_info: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> None:
        """Add the pending record of this thread, together with what is given, and clear it.

        Args:
            record: More values as a mapping.
            additional_info: More values as a mapping, as in the originals.
            **values: More values as keywords.

        Raises:
            As `add_record`; a refused record is cleared as well, and the exception carries it as `.record`.
        """
        if additional_info is not None:
            taken = self._taken()
            if record is not None:
                taken = {**taken, **record_dict(record, {**taken, **values})}
            record = {**taken, **record_dict(additional_info, {**taken, **values})}
        self.add_record(record, **values)

    _add_in_python = add_record
    _commit_in_python = commit_record
    """What the C hands on to."""


if not GIL:  # without the GIL the lock-free section is none: every add takes the lock

    def _add_record_locked(self: Adding, record: Any = None, /, **values: Any) -> None:
        record = self._combined(record, values)
        try:
            payload = encode_record(record)
        except REFUSALS as error:
            raise refusal(record, error) from error
        try:
            self._journal.add_locked(self, record, payload)
        except RecorderError as error:
            error.record = dict(record)
            raise

    Adding.add_record = _add_record_locked  # type: ignore[method-assign]

if native is None or TYPE_CHECKING:

    class Adder(Adding):
        """Who adds records."""

        __slots__ = ("_defined", "_journal", "_pendings", "switch", "token")

else:

    class Adder(native.Adder, Adding):
        """Who adds records: `add_record`, `commit_record` and `pending_record` are those of the C."""

        __slots__ = ()


def record_dict(record: Any, rest: Mapping[str, Any]) -> dict[Any, Any]:
    """A record that was given as some mapping, as a dict.

    Raises:
        TypeError: It is no mapping; the exception carries the rest of the record as `.record`.
    """
    if record.__class__ is dict:
        return record
    if isinstance(record, PendingRecord):
        return record.waiting()
    if is_mapping(record):
        try:
            return dict(record)
        except Exception as cause:  # whatever a mapping of somebody else raises, what is pending must not be lost
            error = UnstorableTypeError(
                f"A {type(record).__qualname__} stands where a record belongs, and cannot be read as a dict: "
                f"{type(cause).__name__}: {cause}. Hint: give a dict."
            )
            error.record = dict(rest)
            raise error from cause
    error = cast("UnstorableTypeError", refusal(record, TypeError()))
    error.record = dict(rest)
    raise error


def as_dict(data: Any, rest: Mapping[str, Any]) -> dict[Any, Any]:
    """Level data that was given as some mapping, as a dict.

    Raises:
        TypeError: It is no mapping.
    """
    if isinstance(data, PendingRecord):
        return data.waiting()
    if is_mapping(data):
        return dict(data)
    error = UnstorableTypeError(
        f"The data of a level is keys and their values, and this is a {type(data).__qualname__}: {short(data)}. "
        "Hint: give them by name, as in new_experiment(lr=0.1), or as a dict."
    )
    error.record = dict(rest)
    raise error


def is_mapping(value: Any) -> bool:
    """Whether `dict()` takes this as keys and values. A class has both methods too, and is none."""
    return hasattr(value, "keys") and hasattr(value, "__getitem__") and not isinstance(value, type)
