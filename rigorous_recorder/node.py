"""`Node`, a keeper as a node of the tree: its place, its level's data, and their entries in the journal. No records."""

from __future__ import annotations

import operator
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .adding import Adder, as_dict
from .errors import InvalidCallError, UnknownKeyError, nearest, storing
from .exact import copied, encode_exact, frozen
from .levels import AUTOMATIC, UNEDITED, fingerprint, merge, pack_edit, pack_level
from .lineage import lineage_text
from .plain import REFUSALS
from .store import refusals
from .store import unit as u
from .store.lock import LOCK
from .values import SCALARS, encode_record, refusal, text_keys, type_note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keeper import RecordKeeper
    from .levels import LevelId, Stamp
    from .reading import View
    from .session import Session
    from .store.journal import Journal

_AUTOMATIC: Final = frozenset(AUTOMATIC)
_MISSING: Final = object()


class Node(Adder):
    """A node of the tree: knows its parent, holds its level's own data, and writes both into the journal."""

    __slots__ = (
        "__weakref__",
        "_data",
        "_level",
        "_local",
        "_parent",
        "_session",
        "_stamps",
    )

    if TYPE_CHECKING:

        def _view(self) -> View:
            """What is on disk of the attempt; as of `RecordKeeper`."""

    def _place(
        self,
        session: Session,
        parent: RecordKeeper | None,
        level: LevelId,
        data: dict[str, Any],
        stamps: dict[str, Stamp],
    ) -> None:
        self._session = session
        self._journal = session.journal
        self._parent = parent
        self._level = level
        self._data = data
        self._stamps = stamps
        self._pendings = None
        self._local = 0  # the level's number in the unit that defines it, whose token is `_defined`
        self._defined = None
        self.token: object = None
        self.switch = b""
        session.keepers[level] = weakref.ref(self)
        if len(session.keepers) > session.prune_at:
            session.prune()

    # ---- the tree ----------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> RecordKeeper | None:
        """The keeper above, None for a root."""
        return self._parent

    # ---- level data --------------------------------------------------------------------------------------------------

    def _chain(self) -> list[Node]:
        chain: list[Node] = []
        keeper: Node | None = self
        while keeper is not None:
            chain.append(keeper)
            keeper = keeper._parent
        return chain[::-1]

    def _automatic(self) -> dict[str, Any]:
        """The notes and automatic keys that stand above a tree, as far as they are known here."""
        session = self._session
        return (
            session.notes
            if session.place is None
            else {**session.notes, "experiment_number": session.place.claim.number}
        )

    @property
    def data(self) -> Mapping[str, Any]:
        """Own keys, as a read-only mapping of copies."""
        return MappingProxyType(merge([self._data]))

    @property
    def merged(self) -> dict[str, Any]:
        """Own and inherited keys, the nearest winning, as a dict of copies."""
        chain = self._chain()
        return {**chain[0]._automatic(), **merge(keeper._data for keeper in chain)}

    @property
    def lineage(self) -> str:
        """The text of the levels from the root down: `experiment_number=1,lr=0.1/model=model1`."""
        datas = [dict(keeper._data) for keeper in self._chain()]
        place = self._session.place
        if place is not None:
            datas[0] = {"experiment_number": place.claim.number, **datas[0]}
        return lineage_text([self._session.notes, *datas] if self._session.notes else datas)

    @property
    def fingerprint(self) -> str:
        """The super-hash of own and inherited data less the automatic keys: equal data, equal fingerprint, anywhere."""
        return fingerprint(self.merged)

    def get(self, key: str, default: Any = None) -> Any:
        """The nearest value of a key, own or inherited, or `default`."""
        keeper: Node | None = self
        while keeper is not None:
            if key in keeper._data:
                return copied(keeper._data[key])
            if keeper._parent is None:
                return keeper._automatic().get(key, default)
            keeper = keeper._parent
        return default

    def __getitem__(self, key: object) -> Any:
        """The nearest value of a key, own or inherited, as a copy.

        Raises:
            KeyError: No level has it.
        """
        if isinstance(key, slice) or (hasattr(key, "__index__") and not isinstance(key, bool)):
            raise UnknownKeyError(f"A keeper has keys, not positions. Hint: keeper.records[{_index_text(key)}].")
        value = self.get(key, _MISSING) if isinstance(key, str) else _MISSING
        if value is _MISSING:
            raise UnknownKeyError(f"No level of this keeper has the key {key!r}.{nearest(key, self.merged)}")
        return value

    def __contains__(self, key: object) -> bool:
        """Whether a key is own or inherited.

        Raises:
            TypeError: It is a record rather than a key.
        """
        if isinstance(key, dict):
            raise TypeError("`in` asks a keeper for a key, and this is a record. Hint: record in keeper.records.")
        return isinstance(key, str) and self.get(key, _MISSING) is not _MISSING

    def __setitem__(self, key: str, value: Any) -> None:
        """Set an own key; all records at or below follow."""
        self.update({key: value})

    def update(self, _data: Mapping[str, Any] | None = None, /, **data: Any) -> None:
        """Set own keys; all records at or below follow, in every later reading.

        Raises:
            TypeError, ValueError: A value cannot be stored, or a key is automatic. Nothing is changed then.
        """
        values = checked(level_data(_data, data))
        if values:
            self._edit(values, [])

    def __delitem__(self, key: str) -> None:
        """Delete an own key.

        Raises:
            KeyError: It is not an own key.
        """
        if key not in self._data:
            hint = (
                " Hint: it is inherited; delete it where it was set." if self.get(key, _MISSING) is not _MISSING else ""
            )
            raise UnknownKeyError(f"This keeper has no own key {key!r}.{hint or nearest(key, self._data)}")
        self._edit({}, [key])

    def _edit(self, values: dict[str, Any], deleted: list[str]) -> None:
        session = self._session
        changed = (*values, *deleted)
        with storing("the edit cannot be stored", session.folder):
            if session.journal.closed:
                self._catch_up()
            with LOCK:
                journal = session.edit_journal()
                living = session.keeper(self._level) or self
                seen = max(each._stamps.get(key, UNEDITED).version for each in (self, living) for key in changed)
                stamp = session.stamp(journal, seen)
                payload = pack_edit(journal.local(self._level), stamp, values, deleted)
                while not journal.put(u.EDIT, payload, self._define_in(journal)):
                    continue
                for each in {self, living}:
                    each.learn(values, dict.fromkeys(changed, stamp))
            if journal is not session.journal:
                journal.sync()

    def _catch_up(self) -> None:
        """Learn what others have set since this was read: an edit must win over those before it."""
        if self._session.place is None:
            return
        view = self._view()
        if view.unlisted:  # those may have a higher version than this edit would get
            raise refusals.not_known(view.unlisted[0], "the level cannot be edited")
        for attempt in view.attempts:
            level = attempt.levels.by_id.get(self._level)
            if level is not None:
                self.learn(level.data, level.stamps)

    def learn(self, data: Mapping[str, Any], stamps: Mapping[str, Stamp]) -> None:
        """Take over what others have set since, as it was read: per key the higher stamp counts."""
        with LOCK:
            newer = {key: stamp for key, stamp in stamps.items() if stamp > self._stamps.get(key, UNEDITED)}
            if newer:
                kept = {key: value for key, value in self._data.items() if key not in newer}
                # data before stamps, and whoever takes both without the lock takes the stamps first: an older value
                # that has the stamp of an edit could win over that edit
                self._data = {**kept, **{key: data[key] for key in newer if key in data}}
                self._stamps = {**self._stamps, **newer}

    # ---- writing levels ----------------------------------------------------------------------------------------------

    def _define(self) -> None:
        journal, parent = self._journal, self._parent
        token = journal.token
        if (
            token is None
            or parent is None
            or parent._defined is not token
            or not self._put_level(journal, token, parent._local)
        ):
            self._define_in(journal)

    def _put_level(self, journal: Journal, token: object, parent: int | None) -> int | None:
        """Put this level's entry into the unit of that token; gives its local number, or None when that unit is full."""
        level = self._level
        local = level[1] if level[0] == journal.writer else journal.local(level)
        stamps, data = self._stamps, self._data  # in this order, see `learn`
        try:
            payload = pack_level(local, level, parent, data, stamps, journal.writer)
        except REFUSALS as error:
            raise refusal(data, error) from error
        if not journal.put(u.LEVEL, payload, token):
            return None
        if journal is self._journal:
            self._local = local
            self._defined = token
            self.switch = b"\xce" + local.to_bytes(4, "big")
        return local

    def _define_in(self, journal: Journal) -> object:
        """See to it that the journal's current unit defines this level and those above it. Gives the unit's token."""
        while True:
            token = journal.token
            if token is None:
                journal.make_room(1)
                continue
            if journal is self._journal and self._defined is token:
                return token
            above: int | None = None
            for keeper in self._chain():
                if journal is self._journal and keeper._defined is token:
                    above = keeper._local
                    continue
                above = keeper._put_level(journal, token, above)
                if above is None:
                    break  # another unit: it has to define the levels above first
            else:
                return token

    def enter(self, record: Mapping[Any, Any]) -> None:
        """Before the first record in a unit: define the level there, and note which of the record's values are times."""
        journal = self._journal
        while True:
            token = self._define_in(journal)
            note = type_note(record)
            if not note or journal.put(u.NOTE, encode_record([journal.local(self._level), note]), token):
                break
        self.token = token


def level_data(given: Mapping[str, Any] | None, data: dict[str, Any]) -> dict[str, Any]:
    """Level data as it is kept: text keys, values as they will come back.

    Raises:
        TypeError, ValueError: A value cannot be stored, or a key is automatic.
    """
    if given is not None:
        data = {**as_dict(given, data), **data}
    for key, value in data.items():
        if value.__class__ not in SCALARS or key in _AUTOMATIC or key.__class__ is not str:
            return _level_data(data)
    return data


def checked(data: dict[str, Any]) -> dict[str, Any]:
    """Level data that can be written: a scalar may still be an int beyond 64 bits.

    Raises:
        ValueError: A value cannot be stored.
    """
    try:
        encode_exact(data)
    except REFUSALS as error:
        raise refusal(data, error) from error
    return data


def _level_data(data: dict[Any, Any]) -> dict[str, Any]:
    frozen_data: dict[str, Any] = {}
    for name, value in text_keys(data).items():
        if name in _AUTOMATIC:
            raise InvalidCallError(
                f"{name!r} is set by the collection itself and cannot be level data. Hint: choose another key."
            )
        try:
            frozen_data[name] = frozen(value)
        except REFUSALS as error:
            refused = refusal({name: value}, error)
            refused.record = data
            raise refused from error
    return frozen_data


def _index_text(key: Any) -> str:
    if not isinstance(key, slice):
        return str(operator.index(key))
    return ":".join("" if part is None else str(part) for part in (key.start, key.stop))
