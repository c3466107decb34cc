"""`CollectionView`, a collection or a branch of it to read: its records, experiments, keepers and frames."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .branches import Branch, Condition, matcher
from .errors import RenamedError, UnknownIndexError, UnknownKeyError, shortened, storing
from .experiment import open_experiments
from .experiments import Experiments, session_for, stored
from .flat import Flat
from .keeper import RENAMED, RecordKeeper, restore_chain
from .reading import View, count_compacted, read_collection
from .store import claim as claims
from .store.snapshot import known_claims, list_collection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .frames.plan import Plan
    from .options import Options
    from .reading import AttemptView
    from .record import Record, Records

_GONE: Final = {
    **RENAMED,
    "where": "Hint: use under(model='model1'), or a comprehension over .records.",
    "keeper_for": "Hint: use keeper(...).",
}


class CollectionView(Flat):
    """A collection, or a branch of it, to read. Every access sees the disk as it is then.

    Made by `ExperimentCollection.under`; nothing is recorded through it.
    """

    def __init__(
        self, path: str, options: Options, conditions: tuple[Condition, ...] = (), branches: tuple[Branch, ...] = ()
    ) -> None:
        self._path = path
        self._options = options
        self._conditions = conditions
        self._branches = branches

    @property
    def path(self) -> str:
        """The collection's absolute path."""
        return self._path

    def under(self, branch: RecordKeeper | str | None = None, /, **keys: Any) -> CollectionView:
        """The collection restricted to a branch; can be chained.

        Each key must match at some level of the lineage, also where a nearer level or the record overrides it. Numbers
        compare by value, booleans only with booleans, text only with text; a list, set or array is any-of; so is a tuple,
        which also matches its equal; None means that no level sets the key; a callable gets each value. The automatic
        keys and `rr_attempt` are keys as well.

        Args:
            branch: A keeper, or the text of a lineage.
            **keys: What some level must have for each key.

        Raises:
            KeyError: When it is read: no level has a key. The message names the nearest.
            TypeError: The branch is neither keeper nor text.
            ValueError: The values wanted for a key can be gone over only once (a generator).
        """
        return CollectionView(
            self._path,
            self._options,
            (*self._conditions, *(Condition(key, wanted).checked() for key, wanted in keys.items())),
            (*self._branches, *([] if branch is None else [branch_of(branch)])),
        )

    def _say_if_missing(self) -> None:
        if not claims.check_collection(self._path) and not os.path.isdir(self._path):  # noqa: PTH112
            self._options.say_once(
                f"There is no collection {self._path} (yet); it reads as empty. Hint: is the path right?"
            )

    def _read(self) -> View:
        with storing("the collection cannot be read", self._path):
            self._say_if_missing()
            view = self._of_numbers() or read_collection(self._path)
        view.warn()
        return view

    def _of_numbers(self) -> View | None:
        """The experiments alone whose numbers are asked for, where nothing else is; None where there are none of them.

        The others are not read: of 10,000 that are compacted, one is there in 0.2 s rather than in a second.
        """
        wanted = [condition.wanted for condition in self._conditions if condition.key == "experiment_number"]
        if not wanted or self._branches or len(wanted) < len(self._conditions) or any(map(callable, wanted)):
            return None
        matches = [matcher("experiment_number", one) for one in wanted]
        numbers = [claim for claim in known_claims(self._path)[0] if all(match(claim.number) for match in matches)]
        view = read_collection(self._path, numbers)
        return view if view.attempts else None

    @property
    def records(self) -> Records:
        """All records, as a lazy sequence that is fixed at this call."""
        return self._records()

    def _records(self) -> Records:
        return self._read().records(self._conditions, self._branches)

    def _plan(self) -> Plan:
        from .frames.plan import make_plan  # which brings polars

        view = self._read()
        with storing("the collection cannot be read", self._path):
            return make_plan(view, self._conditions, self._branches)

    def __len__(self) -> int:
        """The number of records."""
        if not self._conditions and not self._branches:
            with storing("the collection cannot be read", self._path):
                number = count_compacted(self._path)
            if number is not None:
                return number
        return len(self._records())

    def __iter__(self) -> Iterator[Record]:
        """The records."""
        return iter(self._records())

    def __bool__(self) -> bool:
        """Always true: a collection without records is a collection."""
        return True

    def _picked(self) -> list[AttemptView]:
        """The attempts that have a level in the branch."""
        view = self._read()
        view.check(self._conditions, self._branches)
        picked = []
        for attempt in view.attempts:
            allowed = attempt.allowed(self._conditions, self._branches)
            if allowed is None or allowed:
                picked.append(attempt)
        return picked

    @property
    def experiments(self) -> Experiments:
        """All attempts, by number and try, as they are at this call."""
        return Experiments([stored(attempt, self._path, self._options) for attempt in self._picked()])

    @property
    def experiment_numbers(self) -> tuple[int, ...]:
        """The numbers of the experiments, sorted."""
        with storing("the collection cannot be read", self._path):
            self._say_if_missing()
            return self._numbers()

    def _numbers(self) -> tuple[int, ...]:
        if not self._conditions and not self._branches:
            listing, view = list_collection(self._path), View()
            view.note(listing)
            view.warn()
            return tuple(sorted({place.claim.number for place, _ in listing.attempts}))
        return tuple(sorted({attempt.place.claim.number for attempt in self._picked() if attempt.place}))

    def __getitem__(self, number: object) -> Records:
        """The records of one experiment, all its attempts; none for a number that nothing has. -1 is the last experiment.

        Raises:
            IndexError: A negative number of an experiment that does not exist.
        """
        if not hasattr(number, "__index__") or isinstance(number, bool):
            raise TypeError(
                f"Experiments are numbered, and {number!r} is no number. Hint: under(key=...) picks a branch."
            )
        number = operator.index(number)
        if number < 0:
            numbers = self.experiment_numbers
            if -number > len(numbers):
                raise UnknownIndexError(f"There is no experiment {number}: there are {len(numbers)}.")
            number = numbers[number]
        return self.under(experiment_number=number).records

    def keepers(self, branch: RecordKeeper | str | None = None, /, **keys: Any) -> tuple[RecordKeeper, ...]:
        """The topmost levels at which all conditions hold. Their data can be edited, at any time and by any process.

        Args:
            branch: A keeper, or the text of a lineage.
            **keys: As for `under`.

        Raises:
            KeyError: No level has a key.
        """
        chosen = self.under(branch, **keys)
        found: list[RecordKeeper] = []
        for attempt in chosen._picked():
            allowed = attempt.allowed(chosen._conditions, chosen._branches)
            for level in attempt.levels:
                if (allowed is None or level.id in allowed) and not (
                    level.parent is not None
                    and level.parent in attempt.levels
                    and (allowed is None or level.parent in allowed)
                ):
                    found.append(self._keeper(attempt, level.id))
        return tuple(found)

    def _keeper(self, attempt: AttemptView, level: tuple[str, int]) -> RecordKeeper:
        assert attempt.place is not None  # attempts on disk have a place
        if level == attempt.root:
            return open_experiments.get(attempt.place.folder) or stored(attempt, self._path, self._options)
        session = session_for(self._path, attempt, self._options)
        chain = [attempt.levels.by_id[one] for one in attempt.levels.chain(level)]
        return restore_chain(session, [(one.id, one.data, one.stamps) for one in chain])

    def keeper(self, branch: RecordKeeper | str | None = None, /, **keys: Any) -> RecordKeeper:
        """The one keeper that `keepers` gives.

        Raises:
            KeyError: There is none, or there are several; the message lists them.
        """
        found = self.keepers(branch, **keys)
        if len(found) == 1:
            return found[0]
        asked = [] if branch is None else ["the branch " + shortened(repr(getattr(branch, "lineage", branch)))]
        asked += [f"{key}={value!r}" for key, value in keys.items()]
        wanted = (
            f" {'has' if not found else 'have'} {', '.join(asked)}"
            if asked
            else " is there"
            if not found
            else " are there"
        )
        if not found:
            chosen = self.under(branch, **keys)
            why = self._read().why_nothing(chosen._conditions, chosen._branches)
            raise UnknownKeyError(f"No keeper{wanted}: {why}")
        shown = "; ".join(shortened(keeper.lineage) for keeper in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004
        raise UnknownKeyError(
            f"{len(found)} keepers{wanted}: {shown}{more}. Hint: name more keys, for example experiment_number=..., "
            "or take keepers(...)."
        )

    def __repr__(self) -> str:
        """The path and what it is restricted to."""
        parts = [repr(self._path)]
        parts += [shortened(f"{key}={wanted!r}") for key, wanted in self._conditions]
        parts += [shortened(branch.text or "a keeper") for branch in self._branches]
        return f"<{type(self).__name__} {', '.join(parts)}>"

    def __getattr__(self, name: str) -> NoReturn:
        """Say what became of a name that went away.

        Raises:
            AttributeError: Always; this is only called for names that do not exist.
        """
        if name in _GONE:
            raise RenamedError(f"{type(self).__name__}.{name} went away in release 2. {_GONE[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


def branch_of(branch: RecordKeeper | str) -> Branch:
    """The branch that a keeper or the text of a lineage stands for.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(branch, RecordKeeper):
        return branch._branch()
    if isinstance(branch, str):
        return Branch(None, None, branch)
    raise TypeError(
        f"A branch is a keeper or the text of a lineage, and this is {branch!r}. Hint: under(model='model1')."
    )
