"""Spark's side of a collection: from the options of `spark.read.format("rigorous_recorder")` to the plan that is handed on."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from .collection import ExperimentCollection
from .errors import InvalidCallError, NotACollectionError, UnknownKeyError, nearest
from .frames.handed import decode, encode
from .frames.spark import FORMAT, check_names, damage_raised, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql.types import StructType

    from .frames.plan import Plan


class Snapshot:
    """A collection, or a branch of it, at the moment of a call; what the data source in Python keeps between its calls.

    Args:
        options: Of the reader, keys of any case: `path`, or `snapshot` from `to_spark`; `under`, the keys of a branch as
            JSON; `columns`, names with commas between them or as JSON; `lineage`; `caseSensitive`; `skipDamaged`.

    Raises:
        InvalidCallError: An option is unknown or wrong, or columns differ only in case.
        NotACollectionError: There is no collection.
        UnknownKeyError: There is no such column, or no level has a key of `under`.
        DamageWarning: A unit cannot be read, and that is not to be skipped.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        asked = {key.lower(): value for key, value in options.items()}
        for key in asked:
            if key not in _OPTIONS:
                raise InvalidCallError(f"The reader has no option {key!r}.{nearest(key, _OPTIONS.values())}")
        self.skip_damaged = _flag(asked, "skipDamaged", default=False)
        plan = self._given(asked) if "snapshot" in asked else self._read(asked)
        check_names(plan.schema, case_sensitive=_flag(asked, "caseSensitive", default=False))
        self._handed = encode(plan)

    def _given(self, asked: Mapping[str, str]) -> Plan:
        return decode(base64.b64decode(asked["snapshot"]))

    def _read(self, asked: Mapping[str, str]) -> Plan:
        path = _path(asked.get("path"))
        if not os.path.isdir(path):  # noqa: PTH112
            raise NotACollectionError(f"There is no collection {os.path.abspath(path)}. Hint: is the path right?")  # noqa: PTH100
        with damage_raised(skip=self.skip_damaged):
            plan = ExperimentCollection(path).under(**_keys(asked.get("under", "{}")))._plan()  # noqa: SLF001
        return plan.select(_columns(asked.get("columns")), lineage=_flag(asked, "lineage", default=True))

    @property
    def schema(self) -> StructType:
        """The columns as Spark has them."""
        return schema_of(decode(self._handed))

    def plan(self, schema: StructType) -> Plan:
        """The plan, with the columns of a schema, which may be some of ours in any order.

        Raises:
            InvalidCallError: A column has another type.
            UnknownKeyError: There is no such column.
        """
        plan = decode(self._handed)
        ours = {field.name: field.dataType for field in schema_of(plan)}
        for field in schema:
            if field.name not in ours:
                raise UnknownKeyError(f"The collection has no column {field.name!r}.{nearest(field.name, ours)}")
            if field.dataType != ours[field.name]:
                raise InvalidCallError(
                    f"The column {field.name!r} is {ours[field.name].simpleString()}, and the schema has "
                    f"{field.dataType.simpleString()}. Hint: leave .schema(...) out, and cast afterwards."
                )
        return plan.select([field.name for field in schema])


_OPTIONS: Final = {
    name.lower(): name for name in ("path", "under", "columns", "lineage", "caseSensitive", "skipDamaged", "snapshot")
}


def _path(given: str | None) -> str:
    if not given:
        raise InvalidCallError(f"There is no path. Hint: spark.read.format({FORMAT!r}).load(path), with one folder.")
    url = urlsplit(given)
    return unquote(url.path) if url.scheme == "file" and url.netloc in ("", "localhost") else given


def _flag(asked: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = asked.get(name.lower(), str(default)).lower()
    if value not in ("true", "false"):
        raise InvalidCallError(f"The option {name} is {value!r}. Hint: it is true or false.")
    return value == "true"


def _keys(text: str) -> dict[str, Any]:
    keys = _json(text)
    if not isinstance(keys, dict):
        raise InvalidCallError(
            f'The option under is {text!r}. Hint: it is JSON such as {{"model": "m1", "lr": [0.1, 1]}}.'
        )
    return keys


def _columns(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if not text.lstrip().startswith("["):
        return [name.strip() for name in text.split(",")]
    names = _json(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidCallError(f"The option columns is {text!r}, and no JSON list of names.")
    return names


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
