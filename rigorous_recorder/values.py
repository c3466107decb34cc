"""What can be stored: the encoding of records, and the sentences for what cannot.

Records are encoded by msgspec into MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) in one call
in C, which is what makes `add_record` fast; types that MessagePack lacks arrive there in plain form (`plain.py`). Level
data is off the hot path and exact (`exact.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from .errors import UnstorableTypeError, UnstorableValueError
from .plain import REFUSALS, OutOfRangeError, TooFineError, converters, plain_form

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


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=plain_form)

encode_record: Final[Callable[[Any], bytes]] = _encoder.encode
"""Encode a record (a dict) as one MessagePack map, in C. Raises whatever msgspec raises; see `refusal`."""


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
            convert = converters.get(cls)
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
