"""The text of a lineage, `experiment_number=1,lr=0.1/model=model1/training=true`: its writer and its parser.

Levels are separated by `/`, the keys of a level by `,`. Names and values are percent-encoded where they hold a character
that separates. Values are in JSON notation (RFC 8259); a text stands bare unless it could be read as something else.
What JSON lacks is spelled out with its type in front, as `date:2026-01-31`; see `docs/values.md`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID


@cache  # compiled when it is used: half a millisecond that a process without lineages does not pay
def _unsafe() -> re.Pattern[str]:
    """What separates, what ends a line, and the sign of the encoding itself."""
    return re.compile("[%/,=\x00-\x1f\x7f\u0085\u2028\u2029]")


_ENCODED: Final = re.compile("(?:%[0-9A-Fa-f]{2})+")

_CONSTANTS: Final[dict[str, Any]] = {
    "null": None, "true": True, "false": False, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf,
}  # fmt: skip


def _timedelta_text(value: dt.timedelta) -> str:
    return f"{value.days}d{value.seconds}s{value.microseconds}us"


def _timedelta(text: str) -> dt.timedelta:
    match = re.fullmatch(r"(-?\d+)d(\d+)s(\d+)us", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no timedelta")
    return dt.timedelta(*map(int, match.groups()))


def _path(text: str) -> Any:
    from pathlib import Path  # 4 ms that a process without paths does not pay

    return Path(text)


# per type: its name, how it is written, how it is read
_SPELLED: Final[dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]]] = {
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    dt.datetime: ("datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    dt.time: ("time", dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: ("timedelta", _timedelta_text, _timedelta),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
}
_READERS: Final = {name: read for name, _, read in _SPELLED.values()} | {"path": _path}
_GROUPS: Final[dict[str, Callable[[Iterable[Any]], Any]]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
"""What holds several values as a list does, and is written as one behind its name."""


@cache
def _tag() -> re.Pattern[str]:
    """The type that is spelled out in front of a value."""
    return re.compile(rf"({'|'.join([*_READERS, *_GROUPS])}):", re.ASCII)


_MAX_BRACKETS: Final = 64
"""A text with more of them is quoted, since whether it can be read as JSON would depend on the depth of the stack."""

_LOOKS_LIKE_JSON: Final = re.compile(r'[-+\d."\[{]|(null|true|false|NaN|Infinity)\Z', re.ASCII)


def value_text(value: Any) -> str:
    """The text of one value, not yet percent-encoded; `parse_value` gives the value back, with its type."""
    if value.__class__ is str:
        return value if _can_stand_bare(value) else _json(value)
    name = value.__class__.__name__
    if name in _GROUPS:
        return f"{name}:{_dumps(_items(value))}"
    return _spelled(value) or _json(value)


def _can_stand_bare(text: str) -> bool:
    """Whether a text is read as itself, rather than as a value of another type or as one that is misspelled."""
    if not text or text != text.strip() or _tag().match(text) or text.count("[") + text.count("{") > _MAX_BRACKETS:
        return False
    try:
        return bool(parse_value(text) == text)
    except ValueError:  # it begins like a value and is none: {"date:":"soon"}, or an int of 5,000 digits
        return False


def _spelled(value: Any) -> str | None:
    spelled = _SPELLED.get(value.__class__)
    if spelled is not None:
        return f"{spelled[0]}:{spelled[1](value)}"
    return f"path:{value}" if isinstance(value, os.PathLike) else None


def _items(value: Iterable[Any]) -> list[Any]:
    """The items of a tuple or set in plain form, those of a set in the order of their texts."""
    items = [_tagged(item) for item in value]
    return items if isinstance(value, tuple) else sorted(items, key=_dumps)


def _dumps(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _json(value: Any) -> str:
    """JSON, in which a value that JSON lacks is an object with one key that ends in a colon: {"date:": "2026-01-31"}."""
    return _dumps(_tagged(value))


def _tagged(value: Any) -> Any:
    name = value.__class__.__name__
    if name in _GROUPS:
        return {name + ":": _items(value)}
    spelled = _spelled(value)
    if spelled is not None:
        name, _, text = spelled.partition(":")
        return {name + ":": text}
    if isinstance(value, Mapping):
        plain = {str(key): _tagged(item) for key, item in value.items()}
        return {"dict:": plain} if len(plain) == 1 and next(iter(plain)).endswith(":") else plain
    if value.__class__ is list:
        return [_tagged(item) for item in value]
    return value


def _from_json(text: str) -> Any:
    plain = json.loads(text)
    if "\\u" in text:
        _dumps(plain).encode()  # a lone surrogate, which can be spelled out in JSON and stored nowhere, raises
    return _restore(plain)


def _restore(value: Any) -> Any:
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key == "dict:" and isinstance(item, dict):
            return {name: _restore(part) for name, part in item.items()}
        tag = key[:-1] if key.endswith(":") else ""
        if tag in _READERS and isinstance(item, str):
            return _READERS[tag](item)
        if tag in _GROUPS and isinstance(item, list):
            return _GROUPS[tag](_restore(part) for part in item)
    return {name: _restore(part) for name, part in value.items()}


def canonical(data: Mapping[str, Any]) -> str:
    """A text that is equal for equal data, whatever the order of its keys, and tells 1, "1", True and 1.0 apart."""
    plain = {str(key): _tagged(value) for key, value in data.items()}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def parse_value(text: str) -> Any:
    """The value of a text that `value_text` wrote.

    Raises:
        ValueError: No value is written so.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    tag = _tag().match(text)
    try:
        if tag is not None:
            return _parse_tagged(tag[1], text[tag.end() :])
        return _from_json(text) if _LOOKS_LIKE_JSON.match(text) else text
    except json.JSONDecodeError:
        if tag is None:
            return text  # "3dcnn" starts like a number and is none
        raise
    except (TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{text[:60]!r} is no value of a lineage: {error}") from error


def _parse_tagged(tag: str, text: str) -> Any:
    if tag in _READERS:
        return _READERS[tag](text)
    items = _from_json(text)
    if not isinstance(items, list):
        raise TypeError(f"a {tag} is written as a list")
    return _GROUPS[tag](items)


def _encode(text: str) -> str:
    return _unsafe().sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def _decode(text: str) -> str:
    return _ENCODED.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode(), text) if "%" in text else text


def level_text(data: Mapping[str, Any]) -> str:
    """The text of one level: its own keys and values in their order."""
    return ",".join(f"{_encode(key)}={_encode(value_text(value))}" for key, value in data.items())


def lineage_text(levels: Iterable[Mapping[str, Any]]) -> str:
    """The text of a chain of levels, from the root down."""
    return "/".join(level_text(data) for data in levels)


def parse_lineage(text: str) -> list[dict[str, Any]]:
    """The levels of a lineage's text, from the root down; the inverse of `lineage_text` but for one empty level alone.

    Raises:
        ValueError: This is no lineage; the message names the part.
    """
    return [_parse_level(part) for part in text.split("/")]


def parse_lineages(texts: Iterable[str]) -> list[list[dict[str, Any]]]:
    """The levels of many lineages. Lineages share most of their levels, so each is parsed once, and is one dict in all.

    Raises:
        ValueError: One is no lineage; the message names the part.
    """
    known: dict[str, dict[str, Any]] = {}
    parsed = []
    for text in texts:
        parts = text.split("/")
        for part in parts:
            if part not in known:
                known[part] = _parse_level(part)
        parsed.append([known[part] for part in parts])
    return parsed


def _parse_level(text: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for pair in text.split(",") if text else ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is no key=value of a lineage")
        data[_decode(key)] = parse_value(_decode(value))
    return data
