"""Which levels a branch and keys pick: the meaning of `under`, decided on levels and never on records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from .errors import InvalidCallError, UnknownKeyError
from .exact import decode_exact, encode_exact
from .lineage import parse_lineage
from .values import short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .levels import LevelId, Levels

ATTEMPT_KEY: Final = "rr_attempt"
ATTEMPT_DIGITS: Final = 12
"""Hex digits of `rr_attempt`, the first ones of the attempt's id."""


class Branch(msgspec.Struct, frozen=True):
    """A branch to restrict a reading to.

    Attributes:
        attempt: Id of its attempt, or None for a branch that is given by its text.
        level: The topmost level, with `attempt`.
        text: The lineage down to the topmost level, or None.
    """

    attempt: str | None
    level: LevelId | None
    text: str | None


class Condition(NamedTuple):
    """A key, and what some level of the lineage must have for it."""

    key: str
    wanted: Any

    def checked(self) -> Condition:
        """The condition itself, if it can be asked of one level after the other, and again at the next reading.

        Raises:
            InvalidCallError: The wanted values can be gone over only once: a generator, a map, an open file. Or one is a
                class, which no level has.
        """
        if isinstance(self.wanted, Iterator):
            raise InvalidCallError(
                f"under({self.key}=...) was given {short(self.wanted)}, whose values can be gone over only once. "
                f"Hint: {self.key}=list(...) takes any of them."
            )
        classes = [one for one in (any_of(self.wanted) or [self.wanted]) if isinstance(one, type)]
        if classes:
            name = classes[0].__name__
            raise InvalidCallError(
                f"under({self.key}=...) was given the class {name}, which is the value of no level. "
                f"Hint: {self.key}=lambda value: isinstance(value, {name}) picks by type."
            )
        return self


class Demand(NamedTuple):
    """What a condition asks of the values that a key has along a lineage.

    Attributes:
        match: Whether a value is what is wanted; one that is is enough.
        none: Whether it will do that no level sets the key.
    """

    match: Callable[[Any], bool]
    none: bool

    def holds(self, values: Sequence[Any]) -> bool:
        """Whether the condition holds where the levels down to a record have these values for the key."""
        return any(map(self.match, values)) if values else self.none


def demand(key: str, wanted: Any) -> Demand:
    """What a condition asks for: see `matcher` and `wants_none`.

    Raises:
        InvalidCallError: The wanted values can be gone over only once, or one is a class.
    """
    Condition(key, wanted).checked()
    return Demand(matcher(key, wanted), wants_none(wanted))


def plain(value: Any) -> Any:
    """A value as a level would hold it, so that it can be compared with one; what cannot be stored stays what it is."""
    try:
        return decode_exact(encode_exact(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return value


def matcher(key: str, wanted: Any) -> Callable[[Any], bool]:
    """A function that says whether a level's value of a key is what is wanted.

    None, and pandas' NA and NaT, which stand for it, match no value, also not a level's explicit None: no level sets the key.

    Numbers compare by value, booleans only with booleans, text only with text; a list, set or array is any-of; so is a
    tuple, which also matches a tuple that is equal to it; a callable gets the value.
    """
    if callable(wanted):
        return lambda value: _answer(key, wanted, value)
    present = [single for single in _singles(wanted) if single is not None]
    return lambda value: any(same(value, single) for single in present)


def _singles(wanted: Any) -> list[Any]:
    """The values any of which is wanted, as levels would hold them; None also for what stands for it: NA and NaT."""
    options = any_of(wanted)
    if options is None:
        return [plain(wanted)]
    return [*map(plain, options), *([plain(wanted)] if isinstance(wanted, tuple) else ())]


def _answer(key: str, wanted: Callable[[Any], Any], value: Any) -> bool:
    """What the user's function says of a value; an error of it tells over which."""
    try:
        return bool(wanted(value))
    except Exception as error:
        error.add_note(
            f"This was raised by the function of under({key}=...), for the value {short(value)} of a level. "
            "Hint: it gets the value of every level that has the key, of whatever type, and may test that first."
        )
        raise


def any_of(wanted: Any) -> list[Any] | None:
    """The options of a list, set or array; None for a single value."""
    if isinstance(wanted, (str, bytes, Mapping)):
        return None
    if isinstance(wanted, (list, tuple, AbstractSet, range, ValuesView)):
        return list(wanted)
    if hasattr(wanted, "tolist") and getattr(wanted, "shape", ()) != ():
        return list(wanted.tolist())
    if hasattr(wanted, "to_list"):
        return list(wanted.to_list())
    return None


def same(value: Any, wanted: Any) -> bool:
    """Whether two values are the same: booleans only with booleans, NaN with NaN."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, float) and isinstance(wanted, float) and math.isnan(value):
        return math.isnan(wanted)
    if isinstance(value, Decimal) or isinstance(wanted, Decimal):
        return _same_decimal(value, wanted)
    return bool(value == wanted)


def _same_decimal(value: Any, wanted: Any) -> bool:
    """Whether two values, one or both of them decimals, are the same: a NaN with a NaN that is written as it is.

    A signaling NaN must not be compared, since that raises.
    """
    if any(isinstance(one, Decimal) and one.is_nan() for one in (value, wanted)):
        return value.__class__ is wanted.__class__ and str(value) == str(wanted)
    return bool(value == wanted)


def wants_none(wanted: Any) -> bool:
    """Whether "no level sets it" is (also) wanted."""
    return not callable(wanted) and any(single is None for single in _singles(wanted))


def pick(levels: Levels, above: Iterable[Mapping[str, Any]], conditions: Iterable[Condition]) -> set[LevelId]:
    """The levels at which all conditions hold: each at some level of the lineage, also where a nearer one overrides it.

    Args:
        levels: Of one attempt.
        above: Data that stands above its levels: the collection's notes, the automatic keys.
        conditions: As given to `under`.
    """
    picked = set(levels.by_id)
    for key, wanted in conditions:
        match, none = demand(key, wanted)
        over = [data[key] for data in above if key in data]
        if any(map(match, over)):
            continue
        found: dict[
            LevelId, tuple[bool, bool]
        ] = {}  # per level: some level down to it matches; some level sets the key
        for level in levels:
            parent_matches, parent_sets = (found.get(level.parent) if level.parent else None) or (False, bool(over))
            sets = key in level.data
            matches = sets and match(level.data[key])
            found[level.id] = (parent_matches or matches, parent_sets or sets)
        picked &= {level for level, (matches, sets) in found.items() if matches or (none and not sets)}
    return picked


def under_text(texts: Mapping[LevelId, str], text: str) -> set[LevelId]:
    """The levels whose lineage is `text` or goes on below it, given the lineage of each."""
    return {level for level, own in texts.items() if is_under(own, text)}


def check_branch(text: str, tops: Iterable[str]) -> None:
    """See to it that a lineage may begin as the text of a branch does: some topmost level has all keys of its first level.

    Args:
        text: Of the branch.
        tops: The keys of all topmost levels, those of the notes and of the experiments.

    Raises:
        UnknownKeyError: None has one of them, or this is no text of a lineage.
    """
    tops = list(dict.fromkeys(tops))
    whole = (
        "Hint: a branch is the whole text of a lineage, from the root down, as keeper.lineage or `rr_lineage` have it"
    )
    try:
        first = parse_lineage(text.partition("/")[0])[0]
    except ValueError as error:
        raise UnknownKeyError(f"{short(text)} is no lineage: {error}. {whole}.") from error
    for key in first:
        if key not in tops:
            has = f"have {', '.join(map(repr, tops[:8]))}" if tops else "have no keys"
            raise UnknownKeyError(
                f"No lineage begins as {short(text)} does: no topmost level has the key {key!r}, they {has}. "
                f"{whole}; under({key}=...) picks by a key, at whatever level."
            )


def is_under(own: str, text: str) -> bool:
    """Whether a lineage is that of `text` or goes on below it."""
    return own == text or own.startswith(text + "/")


def without_notes(own: str) -> str:
    """The lineage of a level as a keeper has it that knew of no notes: they stand above the experiment's number."""
    _, _, below = own.partition("/")
    return below if below.startswith("experiment_number=") else own
