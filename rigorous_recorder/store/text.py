"""The text that stands in a frame for a value that has no column type of its own, or shares its column with others."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final


def text_form(value: Any) -> str:
    """JSON, except that texts, times, paths and the like stand bare, and bytes are base64."""
    if value.__class__ is str:
        return str(value)
    if value is None or isinstance(value, (bool, int, float, list, tuple, set, frozenset, Mapping)):
        try:
            return _encode(value)
        except (TypeError, RecursionError):  # a key that JSON has no form for; nested as deep as MessagePack can be
            return _encode(_text_keys(value))
    return str(_default(value))


def _default(value: Any) -> Any:
    """What JSON lacks, as something that it has."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (dt.date, dt.time)):  # a datetime is a date
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else str(value)


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_default).encode


DEEPEST: Final = 64
"""Lists and dicts within each other of which the text shows no more than an ellipsis."""


def _text_keys(value: Any, depth: int = 0) -> Any:
    """A value whose dicts have text keys, down to `DEEPEST`."""
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            key if key.__class__ is str else text_form(key): _text_keys(item, depth + 1) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_text_keys(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_text_keys(item, depth + 1) for item in _default(value)]
    return value
