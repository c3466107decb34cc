"""`RecordKeeper`, which takes records that inherit the data of its level, and hands them out again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .adding import record_dict
from .branches import Branch
from .errors import HandleError, InvalidCallError, RenamedError, TreeError, shortened, storing
from .flat import Flat
from .node import Node, level_data
from .options import Options
from .session import Session, handed_session
from .store import unit as u
from .store.blocks import encode_block
from .store.lock import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .frames.plan import Plan
    from .levels import Level, LevelId, Stamp
    from .reading import View
    from .record import Record, Records

_SHORT: Final = u.SHORT_MAX - u.SWITCH_SIZE

RENAMED: Final = {
    "swap_out": "Hint: use update(...) or keeper[key] = value; all records follow.",
    "live_write_to": "Hint: every record is on disk when add_record returns; use ExperimentCollection(path).",
    "all_records": "Hint: use .records.",
    "local_data": "Hint: use .data.",
    "number_of_records": "Hint: use len(keeper).",
    "reload": "Hint: every access to .records reads the disk anew.",
}
"""Names of earlier releases that went away, and what to use instead."""


class RecordKeeper(Flat, Node):
    """A node of the tree. Holds its own data, which all records added at or below it inherit.

    `RecordKeeper(**data)` is a root in memory, for use without a collection.

    Args:
        _data: Own data as a mapping.
        **data: Own data as keywords.

    Raises:
        TypeError, ValueError: A value cannot be stored.
    """

    __slots__ = ()

    def __init__(self, _data: Mapping[str, Any] | None = None, /, **data: Any) -> None:
        own = level_data(_data, data)
        session = Session()
        self._place(session, None, session.journal.new_level(), own, {})
        self._define()

    def sub_record_keeper(self, _data: Mapping[str, Any] | None = None, /, **data: Any) -> RecordKeeper:
        """A new keeper below this one.

        Args:
            _data: Its own data as a mapping.
            **data: Its own data as keywords.

        Raises:
            TypeError, ValueError: A value cannot be stored.
            ClosedError: The experiment is closed.
        """
        own = level_data(_data, data)
        child = RecordKeeper.__new__(RecordKeeper)
        child._place(self._session, self, self._journal.new_level(), own, {})
        child._define()
        return child

    def set_parent(self, keeper: RecordKeeper) -> RecordKeeper:
        """Attach this keeper, which must have neither parent nor records, below another one. Gives this keeper.

        Raises:
            TreeError: It has a parent or records already, or would be its own ancestor.
        """
        if not isinstance(keeper, RecordKeeper):
            raise TypeError(f"The parent of a keeper is a keeper, not {keeper!r}.")
        if keeper._session is self._session:
            what = "itself" if keeper is self else "one in its own tree"
            raise TreeError(f"A keeper cannot be attached below {what}. Hint: sub_record_keeper(...) makes a child.")
        if self._parent is not None or self._session.place is not None:
            raise TreeError(
                "This keeper has a parent already, and a keeper has one. Hint: sub_record_keeper(...) makes another."
            )
        if len(self):
            raise TreeError(
                f"This keeper has {len(self)} records already. Hint: attach a keeper before recording into it."
            )
        if keeper._journal.closed:
            keeper._journal.make_room(1)  # says why
        moved: list[RecordKeeper] = [self, *self._below()]
        before = [(one, one._session, one._parent, one._level, one._stamps, one._pendings) for one in moved]
        try:
            for one in moved:
                parent, pendings = keeper if one is self else one._parent, one._pendings
                one._place(keeper._session, parent, keeper._journal.new_level(), one._data, {})
                one._pendings = pendings
            for one in moved:
                one._define()
        except BaseException:
            for one, session, parent, level, stamps, pendings in before:
                one._place(session, parent, level, one._data, stamps)
                one._pendings = pendings
            raise
        for pending in before[0][1].left_pending():
            keeper._session.register_pending(pending)
        return self

    def _below(self) -> list[RecordKeeper]:
        """All keepers below this one, parents first."""
        known = self._level_children()
        found: list[RecordKeeper] = []
        waiting: list[RecordKeeper] = [self]
        while waiting:
            keeper = waiting.pop()
            below = keeper._keepers_of(known.pop(keeper._level, ()))
            found += below
            waiting += reversed(below)
        return found

    @property
    def children(self) -> tuple[RecordKeeper, ...]:
        """The keepers directly below, in the order in which they were made; also those that nobody holds any more."""
        return self._keepers_of(self._level_children().get(self._level, ()))

    def _level_children(self) -> dict[LevelId | None, list[Level]]:
        """The levels below each level, by one reading."""
        children: dict[LevelId | None, list[Level]] = {}
        for attempt in self._view().attempts:
            for level in attempt.levels:
                children.setdefault(level.parent, []).append(level)
        return children

    def _keepers_of(self, levels: Iterable[Level]) -> tuple[RecordKeeper, ...]:
        """The keepers of levels directly below, the living ones or new ones."""
        session = self._session
        return tuple(session.keeper(one.id) or restore(session, self, one.id, one.data, one.stamps) for one in levels)

    # ---- records -----------------------------------------------------------------------------------------------------

    def add_records(self, data: Any = None, /, **columns: Any) -> None:
        """Add many records at once: all of them, or on an error none.

        Args:
            data: A frame (pandas, polars, Arrow), a dict of columns, or an iterable of dicts. Of a pandas frame, the index
                levels that have a name become columns, before the others, unless a column has that name.
            **columns: Columns: arrays, Series, lists, of equal lengths; scalars, text and bytes are repeated.

        Raises:
            ValueError: Lengths differ, or there are scalars alone.
            TypeError, ValueError: A value cannot be stored.
            ClosedError: The experiment is closed.
            StoreError: The disk is full or failed.
        """
        kind, count, body = encode_block(data, columns)
        if self._journal.closed:
            self._journal.make_room(1)  # says why
        if count == 0:
            return
        payload = u.BLOCK_PREFIX.pack(self._journal.local(self._level), count) + body
        while True:
            token = self._define_in(self._journal)
            if self._journal.put(kind, payload, token):
                return

    # ---- the later releases' names -----------------------------------------------------------------------------------

    def push(self, record: Mapping[str, Any] | None = None, /, **values: Any) -> RecordKeeper:
        """`add_record`, giving the keeper."""
        self.add_record(record, **values)
        return self

    def add(self, record: Mapping[str, Any] | None = None, /, **values: Any) -> RecordKeeper:
        """Put values into the pending record, giving the keeper."""
        pending = self.pending_record
        pending.update({**({} if record is None else record_dict(record, values)), **values})
        return self

    def commit(
        self,
        record: Mapping[str, Any] | None = None,
        /,
        *,
        additional_info: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> RecordKeeper:
        """`commit_record`, giving the keeper."""
        self.commit_record(record, additional_info=additional_info, **values)
        return self

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _view(self) -> View:
        from .reading import read_attempt, read_collection, read_memory
        from .store import refusals
        from .store.snapshot import is_deleted, list_attempt

        if self._session.place is None:
            return read_memory(self._session.journal.memory())
        with storing("the records cannot be read", self._session.folder):
            view = read_collection(self._session.path, claims=())
            units, listing = list_attempt(self._session.place)
            view.note(listing)
            attempt = read_attempt(view, self._session.place, units, listing.began)
            if not attempt.units and is_deleted(self._session.place):
                raise refusals.deleted(self._session.folder)
        if attempt.units:
            view.attempts.append(attempt)
        return view

    @property
    def records(self) -> Records:
        """All records at or below this keeper, of all processes, as a lazy sequence fixed at this call.

        Raises:
            DeletedError: The experiment was deleted.
        """
        view = self._view()
        view.warn()
        return view.records(branches=[self._branch()])

    def _plan(self) -> Plan:
        from .frames.plan import make_plan  # which brings polars

        view = self._view()
        view.warn()
        with storing("the records cannot be read", self._session.folder):
            return make_plan(view, branches=[self._branch()])

    def _branch(self) -> Branch:
        place = self._session.place
        return Branch(None if place is None else place.id, self._level, None)

    def __len__(self) -> int:
        """The number of records at or below this keeper."""
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        """The records at or below this keeper."""
        return iter(self.records)

    def __bool__(self) -> bool:
        """Always true: a keeper without records is a keeper."""
        return True

    def sync(self) -> None:
        """Return when all that this process added so far is on disk, safe from a power cut.

        Raises:
            StoreError: The disk failed.
        """
        with storing("the disk could not be reached", self._session.folder):
            self._session.sync()

    # ---- files and other processes -----------------------------------------------------------------------------------

    def save_to(self, path: str | os.PathLike[str]) -> None:
        """Write this tree in memory into one file, which `load_from` reads. An existing file is replaced, or kept on error.

        Raises:
            InvalidCallError: The keeper belongs to a collection, which is on disk already.
            StoreError: The disk refused.
        """
        from .saved import save

        if self._session.place is not None:
            raise InvalidCallError("This keeper belongs to a collection, which saves by itself. Hint: copy its folder.")
        save(os.fspath(path), self)

    @staticmethod
    def load_from(path: str | os.PathLike[str]) -> RecordKeeper:
        """Read a tree that `save_to` wrote, into memory.

        Raises:
            FileNotFoundError: There is no such file.
            FormatError: It is no such file, a folder, or damaged.
            StoreError: It cannot be read.
        """
        from .saved import load

        return load(os.fspath(path))

    def __reduce__(self) -> tuple[Any, ...]:
        """A handle: in another process a keeper of the same level, which writes files of its own."""
        session = self._session
        if session.place is None:
            raise HandleError(
                "A keeper in memory cannot be handed to another process. "
                "Hint: use one of ExperimentCollection(path).new_experiment(), or send the values back and add them here."
            )
        chain = []
        for keeper in self._chain():
            stamps = keeper._stamps  # before the data, see `learn`: executors pickle in a thread of theirs
            chain.append((keeper._level, keeper._data, stamps))
        options = (session.options.mode, session.options.sync_interval)
        return _from_handle, (session.path, session.place, options, session.notes, session.closed, session.run, chain)

    def __copy__(self) -> RecordKeeper:
        """The keeper itself: a copy would be a second writer of the same level."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RecordKeeper:
        """The keeper itself, as `__copy__`."""
        return self

    def __repr__(self) -> str:
        """The class and the lineage."""
        return f"<{type(self).__name__} {shortened(self.lineage) or '(no data)'}>"

    def __dir__(self) -> list[str]:
        """The names that are there, without those that went away."""
        return [name for name in super().__dir__() if name not in RENAMED]


class Gone:
    """A name of an earlier release that went away: looking it up says what to use instead.

    A `__getattr__` for these would take the specialised look-up from all the others: 44 of 90 ns of an `add_record`.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def __get__(self, keeper: RecordKeeper | None, owner: type[RecordKeeper]) -> NoReturn:
        """Say what became of it.

        Raises:
            RenamedError: Always.
        """
        raise RenamedError(f"{owner.__name__}.{self.name} went away in release 2. {self.hint}")


for _name, _hint in RENAMED.items():
    setattr(RecordKeeper, _name, Gone(_name, _hint))


def restore(
    session: Session, parent: RecordKeeper | None, level: LevelId, data: Mapping[str, Any], stamps: Mapping[str, Stamp]
) -> RecordKeeper:
    """A keeper of a level that exists already."""
    keeper = RecordKeeper.__new__(RecordKeeper)
    keeper._place(session, parent, level, dict(data), dict(stamps))
    return keeper


def restore_chain(
    session: Session, chain: Iterable[tuple[LevelId, Mapping[str, Any], Mapping[str, Stamp]]]
) -> RecordKeeper:
    """The keeper at the lower end of a chain of levels given from the root down; living keepers are used."""
    keeper: RecordKeeper | None = None
    for level, data, stamps in chain:
        living = session.keeper(level)
        if living is None and keeper is None and session.place is not None:
            from .experiment import Experiment  # which is made of keepers, and so comes after them

            keeper = Experiment.elsewhere(session, data, stamps)
        elif living is None:
            keeper = restore(session, keeper, level, data, stamps)
        else:
            living.learn(data, stamps)
            keeper = living
    assert keeper is not None  # a chain has at least its root
    return keeper


def _from_handle(
    path: str, place: Any, options: tuple[str, float], notes: dict[str, Any], closed: str, run: int, chain: list[Any]
) -> RecordKeeper:
    """What a pickled keeper becomes: itself in the process that it came from, else a writer of its own."""
    session = handed_session(path, place, Options(*options), notes, closed, run)
    with LOCK:  # the tasks of a worker may come in several threads: one keeper for each level
        return restore_chain(session, chain)
