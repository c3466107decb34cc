"""Exact form: level data, and single values beside a column, come back as they were.

Tuples, sets, paths, times and so on are MessagePack extensions with the codes of `EXTENSION`
(https://github.com/msgpack/msgpack/blob/master/spec.md). It is off the hot path: levels are few.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from .plain import REFUSALS, is_path, plain_form
from .values import MAX_DEPTH, SCALARS, TEMPORAL, encode_record, text_keys

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


def exact_form(value: Any, depth: int = 0) -> Any:  # noqa: C901, PLR0911, PLR0912  (one case per type, none shared)
    """The value as plain MessagePack types and extensions, such that `decode_exact` gives it back as it was."""
    cls = value.__class__
    if cls in SCALARS:
        return value
    if depth > MAX_DEPTH:
        raise RecursionError("nested too deep")
    if cls is list:
        return [exact_form(item, depth + 1) for item in value]
    if cls is tuple:
        return _extension("tuple", [exact_form(item, depth + 1) for item in value])
    if cls is set or cls is frozenset:
        return _extension(cls.__name__, [exact_form(item, depth + 1) for item in value])
    if isinstance(value, Enum):
        return exact_form(value.value, depth + 1)
    if cls is dict or isinstance(value, Mapping):
        items = {key: exact_form(item, depth + 1) for key, item in value.items()}
        return items if all(key.__class__ is str for key in items) else text_keys(items)
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
        return exact_form(fields, depth + 1)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    try:
        known = plain_form(value)
    except TypeError:  # what msgspec knows by itself: its own and attrs' structures
        known = msgspec.msgpack.decode(encode_record(value))
    return exact_form(known, depth + 1)


def encode_exact(value: Any) -> bytes:
    """Encode a value such that `decode_exact` gives it back as it was, tuples, sets and times included."""
    return encode_record(exact_form(value))


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
