"""`docs/values.md`, row by row: what each kind of value comes back as, from a log, from a pack, from level data."""

import dataclasses
import datetime as dt
import enum
import math
import re
import struct
from collections import OrderedDict, deque
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from programs import ROOT, stable

from rigorous_recorder import ExperimentCollection, RecordKeeper
from rigorous_recorder.lineage import lineage_text, parse_lineage
from rigorous_recorder.store.pack import seal

EAST = dt.timezone(dt.timedelta(hours=2))
SELF = object()
"""Comes back as it was given."""


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Text(str):
    __slots__ = ()


class Tensor:
    """What PyTorch offers: `.detach()`, `.item()`, `.tolist()`, `__array__` that refuses what needs a gradient."""

    def __init__(self, values, *, attached=True):
        self.values = np.asarray(values)
        self.attached = attached
        self.shape = self.values.shape
        self.ndim = self.values.ndim

    def detach(self):
        return Tensor(self.values, attached=False)

    def item(self):
        return self.values.item()

    def tolist(self):
        return self.values.tolist()

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("call detach first")
        return self.values


class Scalar:
    """A scalar of some library: `.item()` alone."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value


class Arrayish:
    """An array of some library: `__array__` alone."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value)


# label in docs/values.md, value, from add_record, from add_records, from level data, its text in a lineage
CASES = [
    ("None", None, SELF, SELF, SELF, "null"),
    ("bool", True, SELF, SELF, SELF, "true"),
    ("bool", False, SELF, SELF, SELF, "false"),
    ("int", 3, SELF, SELF, SELF, "3"),
    ("int", -(2**63), SELF, SELF, SELF, "-9223372036854775808"),
    ("int", 2**64 - 1, SELF, SELF, SELF, "18446744073709551615"),
    ("float", 0.1, SELF, SELF, SELF, "0.1"),
    ("float", 1.0, SELF, SELF, SELF, "1.0"),
    ("float", -0.0, SELF, SELF, SELF, "-0.0"),
    ("float", 5e-324, SELF, SELF, SELF, "5e-324"),
    ("float", 1e300, SELF, SELF, SELF, "1e+300"),
    ("float", math.nan, SELF, SELF, SELF, "NaN"),
    ("float", math.inf, SELF, SELF, SELF, "Infinity"),
    ("float", -math.inf, SELF, SELF, SELF, "-Infinity"),
    ("str", "warm start", SELF, SELF, SELF, "warm start"),
    ("str", "", SELF, SELF, SELF, '""'),
    ("str", "1", SELF, SELF, SELF, '"1"'),
    ("str", "true", SELF, SELF, SELF, '"true"'),
    ("str", " x ", SELF, SELF, SELF, '" x "'),
    ("str", "date:x", SELF, SELF, SELF, '"date:x"'),
    ("str", "a/b,c=d%", SELF, SELF, SELF, "a%2Fb%2Cc%3Dd%25"),
    ("str", "é\x00\n😀", SELF, SELF, SELF, "é%00%0A😀"),
    ("bytes, bytearray, memoryview", b"\x00\xff", SELF, SELF, SELF, "bytes:00ff"),
    ("bytes, bytearray, memoryview", bytearray(b"\x01"), b"\x01", b"\x01", b"\x01", "bytes:01"),
    ("bytes, bytearray, memoryview", memoryview(b"\x01"), b"\x01", b"\x01", b"\x01", "bytes:01"),
    ("list", [1, "a", None], SELF, SELF, SELF, '[1%2C"a"%2Cnull]'),
    ("list", [], SELF, SELF, SELF, "[]"),
    ("dict", {"b": 1, "a": {"c": [2]}}, SELF, SELF, SELF, '{"b":1%2C"a":{"c":[2]}}'),
    ("dict", {}, SELF, SELF, SELF, "{}"),
    ("dict", {1: "a", None: "b"}, {"1": "a", "None": "b"}, {"1": "a", "None": "b"}, {"1": "a", "None": "b"}, None),
    ("dict", OrderedDict(a=1), {"a": 1}, {"a": 1}, {"a": 1}, '{"a":1}'),
    ("dict", MappingProxyType({"a": 1}), {"a": 1}, {"a": 1}, {"a": 1}, '{"a":1}'),
    ("tuple", (1, "a"), [1, "a"], SELF, SELF, 'tuple:[1%2C"a"]'),
    ("set, frozenset", {1}, [1], SELF, SELF, "set:[1]"),
    ("set, frozenset", frozenset({"a"}), ["a"], SELF, SELF, 'frozenset:["a"]'),
    ("datetime, naive", dt.datetime(2026, 1, 2, 3, 4, 5, 6), SELF, SELF, SELF, "datetime:2026-01-02T03:04:05.000006"),  # noqa: DTZ001
    ("datetime, aware", dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), SELF, SELF, SELF, "datetime:2026-01-02T03:00:00+00:00"),
    (
        "datetime, aware",
        dt.datetime(2026, 1, 2, 3, tzinfo=EAST),
        dt.datetime(2026, 1, 2, 1, tzinfo=dt.UTC),
        SELF,
        SELF,
        "datetime:2026-01-02T03:00:00+02:00",
    ),
    ("date", dt.date(2026, 1, 31), SELF, SELF, SELF, "date:2026-01-31"),
    ("time", dt.time(1, 2, 3), SELF, SELF, SELF, "time:01:02:03"),
    ("time", dt.time(1, 2, tzinfo=EAST), SELF, SELF, SELF, "time:01:02:00+02:00"),
    ("timedelta", dt.timedelta(days=-1, microseconds=7), SELF, SELF, SELF, "timedelta:-1d0s7us"),
    ("timedelta", dt.timedelta.max, SELF, SELF, SELF, "timedelta:999999999d86399s999999us"),
    ("UUID", UUID(int=1), str(UUID(int=1)), SELF, SELF, f"uuid:{UUID(int=1)}"),
    ("Decimal", Decimal("1.50"), "1.50", SELF, SELF, "decimal:1.50"),
    ("Decimal", Decimal("Infinity"), "Infinity", SELF, SELF, "decimal:Infinity"),
    ("Path", Path("a/b"), "a/b", SELF, SELF, "path:a%2Fb"),
    ("Path", PurePosixPath("a"), "a", Path("a"), Path("a"), "path:a"),
    ("Enum", Color.RED, "red", "red", "red", "red"),
    ("Enum", Color.PAIR, [1, 2], (1, 2), (1, 2), "tuple:[1%2C2]"),
    ("Enum", Level.LOW, 1, 1, 1, "1"),
    ("dataclass", Point(1), {"x": 1, "y": 0.5}, {"x": 1, "y": 0.5}, {"x": 1, "y": 0.5}, '{"x":1%2C"y":0.5}'),
    ("subclass of str, int, float, bytes", Text("a"), "a", "a", "a", "a"),
    ("range, deque, dict views", range(3), [0, 1, 2], [0, 1, 2], [0, 1, 2], "[0%2C1%2C2]"),
    ("range, deque, dict views", deque([1]), [1], [1], [1], "[1]"),
    ("range, deque, dict views", {"a": 1}.keys(), ["a"], ["a"], ["a"], '["a"]'),
    ("NumPy scalar", np.float32(0.1), 0.10000000149011612, 0.10000000149011612, 0.10000000149011612, "0.10000000149011612"),
    ("NumPy scalar", np.uint64(2**64 - 1), 2**64 - 1, 2**64 - 1, 2**64 - 1, "18446744073709551615"),
    ("NumPy scalar", np.bool_(True), True, True, True, "true"),
    ("NumPy scalar", np.str_("a"), "a", "a", "a", "a"),
    ("NumPy array", np.array(5), 5, 5, 5, "5"),
    ("NumPy array", np.arange(2), [0, 1], [0, 1], [0, 1], "[0%2C1]"),
    ("NumPy array", np.zeros((1, 2)), [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], "[[0.0%2C0.0]]"),
    ("what offers `.item()` or `__array__`", Tensor(1.5), 1.5, 1.5, 1.5, "1.5"),
    ("what offers `.item()` or `__array__`", Tensor([1, 2]), [1, 2], [1, 2], [1, 2], "[1%2C2]"),
    ("what offers `.item()` or `__array__`", Scalar(7), 7, 7, 7, "7"),
    ("what offers `.item()` or `__array__`", Scalar(0.5), 0.5, 0.5, 0.5, "0.5"),
    ("what offers `.item()` or `__array__`", Arrayish([1.5]), [1.5], [1.5], [1.5], "[1.5]"),
    ("what offers `.item()` or `__array__`", Arrayish(2), 2, 2, 2, "2"),
    ("what offers `.item()` or `__array__`", pd.Series([1, 2]), [1, 2], [1, 2], [1, 2], "[1%2C2]"),
]  # fmt: skip


def shape(value):
    """A value with all types in it, so that 1, True, 1.0 and -0.0 differ; `fold` of times is not kept."""
    if isinstance(value, dict):
        return (type(value), [(shape(key), shape(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [shape(item) for item in value]
        return (type(value), sorted(items, key=repr) if isinstance(value, (set, frozenset)) else items)
    if isinstance(value, float):
        return (float, struct.pack("<d", value))
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return (dt.datetime, value.isoformat())
    if isinstance(value, (dt.datetime, dt.time)):
        value = value.replace(fold=0)
    return (type(value), repr(value))


def name(case):
    """The id of a case."""
    return re.sub(r"\W+", "-", f"{case[0]} {stable(case[1])}")[:50]


@pytest.mark.parametrize("case", CASES, ids=name)
@pytest.mark.parametrize("kind", ["memory", "mmap", "write"])
def test_each_row(case, kind, tmp_path):
    """From the log, and from the pack once it is sealed."""
    _, value, single, block, level, text = case
    single, block, level = (value if expected is SELF else expected for expected in (single, block, level))
    collection = ExperimentCollection(tmp_path / "study", journal="write" if kind == "write" else "mmap")
    root = RecordKeeper() if kind == "memory" else collection.new_experiment()
    root.add_record(v=value)
    root.add_record({"v": value})
    root.add_records([{"v": value}])
    root.add_records(n=[1], v=[value])
    keeper = root.sub_record_keeper(v=value)
    keeper.add_record(n=1)
    edited = root.sub_record_keeper(v="before")
    edited["v"] = value
    edited.add_record(n=2)
    expected = [shape(one) for one in (single, single, block, block, level, level)]
    assert [shape(each["v"]) for each in root.records] == expected
    assert shape(keeper["v"]) == shape(edited["v"]) == shape(level)
    if text is not None:
        assert lineage_text([keeper.data]) == f"v={text}"
        assert shape(parse_lineage(f"v={text}")[0]["v"]) == shape(level)
    if kind != "memory":
        root.close()
        assert [shape(each["v"]) for each in collection.records] == expected
        for log in Path(collection.path).rglob("*.log"):
            assert seal(str(log)) is not None
        assert [shape(each["v"]) for each in collection.records] == expected
        first, second = collection.keepers(v=lambda value: shape(value) == shape(level))
        assert shape(first["v"]) == shape(second["v"]) == shape(level)


def test_the_document_has_these_rows():
    text = (ROOT / "docs" / "values.md").read_text(encoding="utf-8")
    table = text.split("\n## ")[1]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == list(dict.fromkeys(case[0] for case in CASES))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.datetime64("2026-01-01"), dt.date(2026, 1, 1)),
        (np.datetime64("2026-01-01T01:02:03.5", "ms"), dt.datetime(2026, 1, 1, 1, 2, 3, 500_000)),  # noqa: DTZ001
        (np.datetime64("2026-01-01T01:02:03", "ns"), dt.datetime(2026, 1, 1, 1, 2, 3)),  # noqa: DTZ001
        (np.timedelta64(5, "s"), dt.timedelta(seconds=5)),
        (np.timedelta64(5_000, "ns"), dt.timedelta(microseconds=5)),
        (pd.Timestamp("2026-01-01 01:02:03"), dt.datetime(2026, 1, 1, 1, 2, 3)),  # noqa: DTZ001
        (pd.Timestamp("2026-01-01", tz="UTC"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        (pd.Timedelta(seconds=5), dt.timedelta(seconds=5)),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
    ],
    ids=stable,
)
def test_times_of_numpy_and_pandas(value, expected):
    """The same from all ways to add; a single record has at least the text of the time, as nested times have."""
    text = RecordKeeper()
    text.add_record(v=[expected])
    keeper = RecordKeeper(v=value)
    keeper.add_records([{"v": value}])
    keeper.add_records(n=[1], v=[value])
    keeper.sub_record_keeper().add_record(v=value)
    assert shape(keeper["v"]) == shape(expected)
    first, second, third = keeper.records
    assert shape(first["v"]) == shape(second["v"]) == shape(expected)
    assert shape(third["v"]) in (shape(expected), shape(text.records[0]["v"][0]))


@pytest.mark.parametrize(
    "value", [np.datetime64("2026-01-01T00:00:00.000000001"), pd.Timestamp(1), np.timedelta64(1, "ns")]
)
def test_times_finer_than_microseconds_are_refused(value):
    keeper = RecordKeeper()
    for add in (
        lambda: keeper.add_record(v=value),
        lambda: keeper.add_records([{"v": value}]),
        lambda: keeper.add_records(v=[value], n=[1]),
        lambda: keeper.update(v=value),
    ):
        with pytest.raises((TypeError, ValueError), match="'v'"):
            add()
    assert len(keeper) == 0


DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8", "U3", "S3"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_of_every_dtype(dtype):
    array = np.array([0, 1, 1], dtype=dtype)
    plain = array.tolist()
    keeper = RecordKeeper(level=array, level0=array[1])
    keeper.add_record(array=array, scalar=array[1], zero=np.array(array[1]), grid=array.reshape(3, 1), empty=array[:0])
    keeper.add_records(v=array)
    keeper.add_records([{"v": array[1], "array": array, "zero": np.array(array[1])}])
    assert shape(keeper["level"]) == shape(plain)
    assert shape(keeper["level0"]) == shape(plain[1])
    own = {"array": plain, "scalar": plain[1], "zero": plain[1], "grid": [[one] for one in plain], "empty": []}
    records = [{key: each[key] for key in each if not key.startswith("level")} for each in keeper.records]
    expected = [own, *({"v": one} for one in plain), {"v": plain[1], "array": plain, "zero": plain[1]}]
    assert [shape(each) for each in records] == [shape(each) for each in expected]


def test_a_class_is_not_judged_by_its_first_value():
    keeper = RecordKeeper()
    for value in (1, 2.5, True, "text", None, [1]):
        keeper.add_record(
            a=Scalar(value), b=Tensor(value) if isinstance(value, (int, float)) else None, c=np.array(value)
        )
    assert [shape(each["a"]) for each in keeper] == [shape(value) for value in (1, 2.5, True, "text", None, [1])]
    assert [shape(each["b"]) for each in keeper][:3] == [shape(value) for value in (1, 2.5, True)]
    assert [shape(each["c"]) for each in keeper] == [shape(value) for value in (1, 2.5, True, "text", None, [1])]


def test_an_explicit_none_wins_over_an_inherited_value():
    keeper = RecordKeeper(v=1)
    keeper.add_record(v=None)
    keeper.add_record(w=math.nan)
    first, second = keeper.records
    assert (first["v"], "v" in first, second["v"]) == (None, True, 1)
    assert (first["w"], "w" in first) == (None, False)
    assert math.isnan(second["w"])
