"""What can be stored: the encoding of records and of level data, and the sentences for what cannot.

Records are encoded by msgspec into MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) in one call
in C, which is what makes `add_record` fast; types that MessagePack lacks arrive there in plain form. Level data is off
the hot path and exact: tuples, sets, paths, times and so on are MessagePack extensions with the codes of `EXTENSION`.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections import deque
from collections.abc import Callable, KeysView, Mapping, ValuesView
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from .errors import UnstorableTypeError, UnstorableValueError

MAX_DEPTH: Final = 64
"""How deep lists and dicts may nest. Readers refuse more, so that hostile files cannot exhaust the stack."""

TEMPORAL: Final[dict[type, str]] = {
    dt.datetime: "datetime",
    dt.date: "date",
    dt.time: "time",
    dt.timedelta: "timedelta",
}
"""Types that MessagePack holds as ISO 8601 text (a datetime only when naive), and the name that a type note gives them."""

EXACT_INTS: Final = 2**53
"""From here on not every int has a float of its own."""

SCALARS: Final = frozenset({bool, int, float, str, bytes, type(None)})
"""Types that come back exactly as they went in, and that nobody can change from outside."""


# ---- plain form: what msgspec hands over because MessagePack does not know it --------------------------------------

_converters: dict[type, Callable[[Any], Any]] = {}


def _plain(value: Any) -> Any:
    """The plain form of a value that msgspec does not encode by itself (its `enc_hook`).

    A dict of converters by class: 86 to 130 ns per value, where asking the value each time takes 370 ns.
    """
    try:
        convert = _converters.get(value.__class__)
        if convert is None:
            convert = _learn(value)
        return convert(value)
    except REFUSALS:
        raise
    except Exception as error:  # whatever somebody else's `item()` raises, it is a value that cannot be stored
        raise TypeError(f"{type(error).__name__}: {error}") from error


def _item(value: Any) -> Any:
    return value.item()


def _tolist(value: Any) -> Any:
    """An array as (nested) lists; NumPy's own `tolist` makes ints of nanoseconds."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return _numpy_times(value).tolist() if kind in ("m", "M") and kind else value.tolist()


def _array_tolist(value: Any) -> Any:
    """Whatever offers `__array__` (torch, JAX, Series), by NumPy, which such a library has imported anyway."""
    import numpy as np  # a process that records no arrays does not pay for importing NumPy

    return _tolist(np.asarray(value))


def _numpy_times(value: Any) -> Any:
    """NumPy's times in days or microseconds, which have built-in times.

    Raises:
        TooFineError: They hold parts of microseconds.
    """
    import numpy as np

    days = value.dtype.kind == "M" and np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "D")
    coarse = value.astype(f"{value.dtype.kind}8[{'D' if days else 'us'}]")
    if not np.array_equal(coarse.astype(value.dtype), value, equal_nan=True):
        raise TooFineError
    if not days and np.any(np.abs(coarse.astype("i8")[~np.isnat(coarse)]) > _MICROSECONDS[value.dtype.kind]):
        raise OutOfRangeError
    return coarse


_MICROSECONDS: Final = {"M": 62_135_596_800_000_000 - 1, "m": 86_399_999_999_999_999_999 // 10}
"""How far from 1970, or from zero, built-in times reach for certain."""


def _pandas_time(value: Any) -> Any:
    """The built-in time of a Timestamp or Timedelta, whose nanoseconds have none."""
    if value.nanosecond if hasattr(value, "nanosecond") else value.nanoseconds:
        raise TooFineError
    return value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value.to_pytimedelta()


def _missing(_value: Any) -> None:
    """Pandas' NaT and NA: nothing."""


def _base_datetime(value: dt.datetime) -> dt.datetime:
    return dt.datetime.combine(_base_date(value), _base_time(value.timetz()))


def _base_date(value: dt.date) -> dt.date:
    return dt.date(value.year, value.month, value.day)


def _base_time(value: dt.time) -> dt.time:
    return dt.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


def _base_timedelta(value: dt.timedelta) -> dt.timedelta:
    return dt.timedelta(value.days, value.seconds, value.microseconds)


class TooFineError(ValueError):
    """A time has parts of microseconds, which the built-in times cannot hold."""


class OutOfRangeError(ValueError):
    """A time is outside of the years that the built-in times can hold."""


_NAMED: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("numpy", "datetime64"): lambda value: _numpy_times(value).item(),
    ("numpy", "timedelta64"): lambda value: _numpy_times(value).item(),
    ("pandas", "Timestamp"): _pandas_time,
    ("pandas", "Timedelta"): _pandas_time,
    ("pandas", "NaTType"): _missing,
    ("pandas", "NAType"): _missing,
}
"""Converters by the class's package and name, for libraries that are not imported here."""

_BASES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (bytes, bytes),
    (dt.datetime, _base_datetime),
    (dt.date, _base_date),
    (dt.time, _base_time),
    (dt.timedelta, _base_timedelta),
    (Mapping, dict),
    ((range, deque, KeysView, ValuesView), list),
)


def is_path(value: object) -> bool:
    """Whether this is a path of `pathlib`: without that module, whose import takes 4 ms, nobody has one."""
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and isinstance(value, pathlib.PurePath)


def _learn(value: Any) -> Callable[[Any], Any]:
    """Find out once per class how its values become plain, and remember it."""
    cls = value.__class__
    convert = _NAMED.get((cls.__module__.partition(".")[0], cls.__name__))
    if convert is None and hasattr(value, "__array__") and not isinstance(value, (str, bytes)):
        convert = _learn_array(value)
        if _varies_in_shape(value):
            return convert  # a zero-dimensional array or tensor; others of its class are not
    if convert is None and is_path(value):
        convert = str
    if convert is None:
        convert = next((function for base, function in _BASES if isinstance(value, base)), None)
    if convert is None and callable(getattr(value, "item", None)) and not isinstance(value, type):
        convert = _item
    if convert is None:
        raise TypeError(cls.__qualname__)  # no class, which might not be sent: Dask sends an error's cause too
    _converters[cls] = convert
    return convert


def _learn_array(value: Any) -> Callable[[Any], Any]:
    """How something that offers `__array__` becomes plain: a scalar of NumPy, an array, a tensor, a Series."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        plain = value.item()
        if plain.__class__ is value.__class__:  # np.longdouble: `.item()` gives itself, and float() would round it
            raise TypeError(value.__class__.__qualname__)
        # the built-in is faster than `.item()`, and gives the same
        return plain.__class__ if plain.__class__ in (bool, int, float) and not _varies_in_shape(value) else _item
    return _tolist if hasattr(value, "tolist") else _array_tolist


def _varies_in_shape(value: Any) -> bool:
    """Whether other values of this class may have another shape: arrays and tensors do, NumPy scalars do not."""
    return hasattr(value, "__setitem__") or hasattr(value, "__len__")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)

encode_record: Final[Callable[[Any], bytes]] = _encoder.encode
"""Encode a record (a dict) as one MessagePack map, in C. Raises whatever msgspec raises; see `refusal`."""

REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What `encode_record` may raise for a value that cannot be stored."""


def refusal(record: object, cause: BaseException) -> UnstorableTypeError | UnstorableValueError:
    """The error for a record that could not be encoded: it names the key, the type and what to do.

    Args:
        record: What was to be encoded.
        cause: What the encoder raised.
    """
    if not isinstance(record, Mapping):
        return UnstorableTypeError(
            f"A record is a dict of values, and this is a {_name(record)}: {short(record)}. "
            "Hint: add_record({'loss': 0.1}) or add_record(loss=0.1)."
        )
    error: UnstorableTypeError | UnstorableValueError | None = None
    for key, value in record.items():
        error = _key_refusal(key) or _value_refusal(key, value)
        if error is not None:
            break
    if error is None:
        error = UnstorableValueError(f"This record cannot be stored: {cause}.")
    error.record = dict(record)
    return error


def _key_refusal(key: Any) -> UnstorableTypeError | UnstorableValueError | None:
    try:
        encode_record({key: None})
    except UnicodeEncodeError:
        return UnstorableTypeError(
            f"The key {short(key)} holds a lone surrogate, which no file can store as text. "
            "Hint: key.encode('utf-8', 'replace').decode() makes a text of it that can be a key.",
            key=short(key),
        )
    except REFUSALS:
        return UnstorableTypeError(
            f"The key {short(key)} is of type {_name(key)}, which cannot be a key. Hint: use a text.", key=short(key)
        )
    return None


def _value_refusal(key: Any, value: Any) -> UnstorableTypeError | UnstorableValueError | None:  # noqa: PLR0911
    try:
        encode_record(value)
    except (OverflowError, msgspec.EncodeError) as error:
        if "date value out of range" in str(error):  # what Python says of an aware time that it cannot bring to UTC
            return UnstorableValueError(
                f"The value of {key!r} holds a time that is before the year 1 or after 9999 in UTC: {short(value)}. "
                "Hint: record value.isoformat(), or the time without its time zone.",
                key=str(key),
            )
        return UnstorableValueError(
            f"The value of {key!r} holds an int beyond 64 bits: {short(value)}. Hint: record float(...) or str(...) of it.",
            key=str(key),
        )
    except UnicodeEncodeError:
        return UnstorableValueError(
            f"The value of {key!r} holds a text with a lone surrogate: {short(value)}. "
            "Hint: record it as bytes, text.encode(errors='surrogatepass').",
            key=str(key),
        )
    except RecursionError:
        return UnstorableValueError(
            f"The value of {key!r} is nested too deep or contains itself. Hint: record a flat part of it.", key=str(key)
        )
    except TooFineError:
        return UnstorableValueError(
            f"The value of {key!r} holds {short(value)}, which is finer than a microsecond, and would have to be cut. "
            "Hint: round it to microseconds, or record nanoseconds as an int.",
            key=str(key),
        )
    except OutOfRangeError:
        return UnstorableValueError(
            f"The value of {key!r} holds a time outside the years 1 to 9999: {short(value)}. Hint: record an int or text.",
            key=str(key),
        )
    except (TypeError, ValueError):
        culprit = _culprit(value)
        within = "" if culprit is value else f" (within a {_name(value)})"
        return UnstorableTypeError(
            f"The value of {key!r} is of type {_name(culprit)}{within}, which cannot be stored: {short(culprit)}. "
            "Hint: record a number, text, bytes, list, dict, time or array of it, for example str(value).",
            key=str(key),
        )
    return None


def _culprit(value: Any, depth: int = 0) -> Any:
    """The innermost part of a container that cannot be stored."""
    parts: list[Any] = []
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    for part in parts if depth < MAX_DEPTH else ():
        try:
            encode_record(part)
        except REFUSALS:
            return _culprit(part, depth + 1)
    return value


def _name(value: object) -> str:
    cls = value.__class__
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def short(value: object, width: int = 60) -> str:
    """The repr of a value for a message, cut where it is long; never raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  (somebody else's repr may raise anything; the message must still come)
        text = f"<its repr raises {type(error).__name__}>"
    return text if len(text) <= width else text[: width - 3] + "..."


# ---- reading records back ------------------------------------------------------------------------------------------

_decoder: Final = msgspec.msgpack.Decoder()


def decode_record(payload: bytes | memoryview) -> dict[str, Any]:
    """Decode one MessagePack map; keys that are not text come back as text, and none gets lost over that.

    Raises:
        ValueError: The bytes are no such map (msgspec.DecodeError is a ValueError), or nested too deep.
    """
    try:
        record = _decoder.decode(payload)
    except (RecursionError, TypeError, msgspec.DecodeError) as error:
        # before msgspec 0.21 a DecodeError is no ValueError, and a map as the key of a map raises TypeError
        raise ValueError(f"not a record: {error}") from error
    if record.__class__ is not dict:
        raise ValueError(f"a {_name(record)} stands where a record belongs")
    for key, value in record.items():
        if key.__class__ is not str or value.__class__ in (dict, list):
            plain: dict[str, Any] = with_text_keys(record)
            return plain
    return record


def with_text_keys(value: Any, depth: int = 0) -> Any:
    """A value as msgspec decodes it, all dicts in it with text keys; what is nested deeper than `MAX_DEPTH`, as it is."""
    if depth > MAX_DEPTH:
        return value
    if value.__class__ is list:
        return [with_text_keys(item, depth + 1) if item.__class__ in (list, dict) else item for item in value]
    if value.__class__ is not dict:
        return value
    plain = {
        key: with_text_keys(item, depth + 1) if item.__class__ in (list, dict) else item for key, item in value.items()
    }
    return plain if all(key.__class__ is str for key in plain) else text_keys(plain)


def text_keys(record: dict[Any, Any]) -> dict[str, Any]:
    """The same dict with text keys; a key that collides with an earlier one (1 and "1") gets primes behind it."""
    texts: dict[str, Any] = {key: value for key, value in record.items() if key.__class__ is str}
    plain: dict[str, Any] = {}
    for key, value in record.items():
        name = key if key.__class__ is str else _key_text(key)
        while key.__class__ is not str and (name in texts or name in plain):
            name += "'"
        plain[name] = value
    return plain


def _key_text(key: Any) -> str:
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)


def type_note(record: Mapping[Any, Any]) -> dict[str, str]:
    """Which keys of a record hold times that MessagePack stores as text; empty for nearly every record.

    Taken from a keeper's first record in each unit, off the hot path, so that such values come back as they were.
    """
    note: dict[str, str] = {}
    for key, value in record.items():
        cls = value.__class__
        if cls in SCALARS or cls in (list, dict, tuple) or key.__class__ is not str:
            continue
        plain = value
        if cls not in TEMPORAL:
            convert = _converters.get(cls)
            plain = convert(value) if convert is not None else value
        kind = TEMPORAL.get(plain.__class__)
        if kind is not None and not (kind == "datetime" and plain.tzinfo is not None):
            note[key] = kind
    return note


_revivers: Final[dict[str, Any]] = {
    name: msgspec.msgpack.Decoder(cls) for cls, name in TEMPORAL.items()
}  # msgspec reads ISO 8601 exactly as it wrote it


def revive(value: Any, kind: str) -> Any:
    """The time that a text stands for, by the type note of its column; the value itself where it is none."""
    if value.__class__ is not str:
        return value
    decoder = _revivers.get(kind)
    if decoder is None:
        return value
    packed = encode_record(value)
    try:
        revived = decoder.decode(packed)
    except msgspec.ValidationError:
        return value
    return revived if encode_record(revived) == packed else value


# ---- exact form: level data, and single values beside a column ---------------------------------------------------

EXTENSION: Final[dict[str, int]] = {
    "tuple": 1,
    "set": 2,
    "frozenset": 3,
    "path": 4,
    "uuid": 5,
    "decimal": 6,
    "datetime": 7,
    "date": 8,
    "time": 9,
    "timedelta": 10,
}
"""The MessagePack extension codes of our own. The payload of 1 to 3 is a MessagePack array, of 4 to 9 UTF-8 text
(ISO 8601 for times), of 10 a MessagePack array of days, seconds and microseconds."""


def _extension(kind: str, payload: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(EXTENSION[kind], payload if isinstance(payload, bytes) else encode_record(payload))


def exact(value: Any, depth: int = 0) -> Any:  # noqa: C901, PLR0911, PLR0912  (one case per type, none shared)
    """The value as plain MessagePack types and extensions, such that `decode_exact` gives it back as it was."""
    cls = value.__class__
    if cls in SCALARS:
        return value
    if depth > MAX_DEPTH:
        raise RecursionError("nested too deep")
    if cls is list:
        return [exact(item, depth + 1) for item in value]
    if cls is tuple:
        return _extension("tuple", [exact(item, depth + 1) for item in value])
    if cls is set or cls is frozenset:
        return _extension(cls.__name__, [exact(item, depth + 1) for item in value])
    if isinstance(value, Enum):
        return exact(value.value, depth + 1)
    if cls is dict or isinstance(value, Mapping):
        plain = {key: exact(item, depth + 1) for key, item in value.items()}
        return plain if all(key.__class__ is str for key in plain) else text_keys(plain)
    if is_path(value):
        return _extension("path", str(value).encode())
    if cls is UUID:
        return _extension("uuid", str(value).encode())
    if cls is Decimal:
        return _extension("decimal", str(value).encode())
    if cls is dt.timedelta:
        return _extension("timedelta", [value.days, value.seconds, value.microseconds])
    if cls in TEMPORAL:
        return _extension(TEMPORAL[cls], value.isoformat().encode())
    if hasattr(cls, "__dataclass_fields__"):
        import dataclasses  # which a process that records none does not import

        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return exact(fields, depth + 1)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    try:
        plain = _plain(value)
    except TypeError:  # what msgspec knows by itself: its own and attrs' structures
        plain = _decoder.decode(encode_record(value))
    return exact(plain, depth + 1)


def encode_exact(value: Any) -> bytes:
    """Encode a value such that `decode_exact` gives it back as it was, tuples, sets and times included."""
    return encode_record(exact(value))


def _revive_extension(code: int, data: memoryview) -> Any:  # noqa: PLR0911  (one case per type)
    payload = bytes(data)
    match code:
        case 1:
            return tuple(decode_exact(payload))
        case 2:
            return set(decode_exact(payload))
        case 3:
            return frozenset(decode_exact(payload))
        case 4:
            import pathlib

            return pathlib.Path(payload.decode())
        case 5:
            return UUID(payload.decode())
        case 6:
            return Decimal(payload.decode())
        case 7:
            return dt.datetime.fromisoformat(payload.decode())
        case 8:
            return dt.date.fromisoformat(payload.decode())
        case 9:
            return dt.time.fromisoformat(payload.decode())
        case 10:
            days, seconds, microseconds = decode_exact(payload)
            return dt.timedelta(days, seconds, microseconds)
        case _:
            raise ValueError(f"extension {code} is of a newer version of the format")


_exact_decoder: Final = msgspec.msgpack.Decoder(ext_hook=_revive_extension)


def decode_exact(payload: bytes | memoryview) -> Any:
    """Decode what `encode_exact` wrote.

    Raises:
        ValueError: The bytes are not such an encoding.
    """
    try:
        return _exact_decoder.decode(payload)
    except (RecursionError, ArithmeticError, TypeError, msgspec.DecodeError) as error:
        raise ValueError(f"not a stored value: {error}") from error


def frozen(value: Any) -> Any:
    """A value as it will come back from disk, and that nobody else can change: what a level holds."""
    return value if value.__class__ in SCALARS else decode_exact(encode_exact(value))


def storable(value: Any) -> Any:
    """A level's value as it was read, if it can be copied and shown like one that was stored.

    Raises:
        ValueError: No writer stores it: it is nested too deep, or of parts that cannot stand together.
    """
    if value.__class__ not in SCALARS:
        try:
            encode_exact(value)
        except REFUSALS as error:
            raise ValueError(f"a value that cannot have been stored: {error}") from error
    return value


def copied(value: Any) -> Any:
    """A copy of a level's value, for whoever asked; immutable scalars are themselves."""
    return value if value.__class__ in SCALARS else decode_exact(encode_exact(value))
