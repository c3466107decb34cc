# ruff: noqa: DTZ001  (naive times are values like others)
"""What `add_records` takes, and that every value comes back out of the block as it went in, or is refused by name."""

import array
import collections
import datetime as dt
import math
import subprocess
import sys
import types
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import units
from hypothesis import given
from hypothesis import strategies as st
from strategies import exact_records, floats, ints, naive, scalars, spans, texts

from rigorous_recorder.errors import InvalidCallError, UnstorableTypeError, UnstorableValueError
from rigorous_recorder.exact import decode_exact, encode_exact
from rigorous_recorder.store import blocks
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.blocks import block_records, encode_block
from rigorous_recorder.store.columns import unit_frame
from rigorous_recorder.store.replay import Event
from rigorous_recorder.store.rows import frame_records

NS = "datetime64[ns]"
UTC = dt.UTC
BERLIN = "Europe/Berlin"
NESTED = []
NESTED.append(NESTED)


def taken(data=None, /, **columns):
    """The records that a call adds, after it was seen that the frame of the unit has the same."""
    kind, count, body = encode_block(data, columns)
    if not count:
        return []
    payload = u.BLOCK_PREFIX.pack(7, count) + body
    records = block_records(Event(kind, payload, 0))
    frame = unit_frame(units.build([u.pack_entry(kind, payload)]))
    assert units.same(frame_records(frame), records)
    assert frame["rr_level"].to_list() == [7] * count == [7] * len(records)
    return records


def values_of(column):
    return [row["x"] for row in taken(x=column)]


# ---- forms of a call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (None, {"a": [1, 2], "b": (0.5, 1.5), "s": "text"}),
        ({"a": [1, 2], "b": [0.5, 1.5]}, {"s": "text"}),
        ({"a": [1, 2], "b": [9, 9], "s": "text"}, {"b": [0.5, 1.5]}),
        (pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), {"s": "text"}),
        (pl.LazyFrame({"a": [1, 2], "b": [0.5, 1.5]}), {"s": "text"}),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}, index=[9, 9]), {"s": "text"}),
        ([{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}], {"s": "text"}),
        ([{"a": 1, "s": "text"}, {"a": 2, "s": "text"}], {"b": [0.5, 1.5]}),
        (({"a": n, "b": n - 0.5, "s": "text"} for n in (1, 2)), {}),
        (None, {"a": range(1, 3), "b": np.array([0.5, 1.5]), "s": np.array("text")}),
        (None, {"a": (n for n in (1, 2)), "b": pl.Series([0.5, 1.5]), "s": "text"}),
        (None, {"a": pd.Series([1, 2], index=[3, 4]), "b": array.array("d", [0.5, 1.5]), "s": np.str_("text")}),
        (collections.OrderedDict(a=[1, 2], b=[0.5, 1.5]), {"s": "text"}),
        (types.MappingProxyType({"a": [1, 2], "b": [0.5, 1.5], "s": "text"}), {}),
        ([types.MappingProxyType({"a": 1, "b": 0.5}), collections.OrderedDict(a=2, b=1.5)], {"s": "text"}),
    ],
)
def test_forms_of_a_call(data, columns):
    assert units.same(taken(data, **columns), [{"a": 1, "b": 0.5, "s": "text"}, {"a": 2, "b": 1.5, "s": "text"}])


def test_arrow_tables():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({
        "a": [1, None], "f": [0.5, 1.5], "t": pa.array([1_000, 2_000], pa.timestamp("ns")),
        "s": pa.array(["u", None]).dictionary_encode(), "u": pa.array([0, 1], pa.timestamp("ms", "UTC")),
    })  # fmt: skip
    expected = [
        {"a": 1, "f": 0.5, "t": dt.datetime(1970, 1, 1, 0, 0, 0, 1), "s": "u", "u": dt.datetime(1970, 1, 1, tzinfo=UTC)},
        {"a": None, "f": 1.5, "t": dt.datetime(1970, 1, 1, 0, 0, 0, 2), "s": None,
         "u": dt.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)},
    ]  # fmt: skip
    found = taken(table)
    for row in found:
        row["u"] = row["u"].astimezone(UTC)
    assert units.same(found, expected)
    with pytest.raises(UnstorableValueError, match="'t'"):
        taken(t=pa.array([1], pa.timestamp("ns")))


@pytest.mark.parametrize(
    "call",
    [
        {"x": []}, {"x": [], "s": "text"}, {"x": np.zeros(0)}, {"x": pl.Series([], dtype=pl.String)}, {},
    ],
)  # fmt: skip
def test_empty_calls(call):
    assert encode_block(None, call)[1] == 0


@pytest.mark.parametrize("data", [[], {}, (), pl.DataFrame({"a": []}), pd.DataFrame({"a": []}), iter([])])
def test_empty_data(data):
    assert encode_block(data)[1] == 0


@pytest.mark.parametrize(
    ("data", "columns", "words"),
    [
        (None, {"a": 1, "b": "text"}, "'a', 'b'"),
        (None, {"a": np.float64(1), "b": np.array(2)}, "scalars"),
        (None, {"a": [1, 2], "b": [1]}, "'a' has 2, 'b' has 1"),
        (pl.DataFrame({"a": [1, 2]}), {"b": [1]}, "2 rows"),
        ([{"a": 1}], {"b": [1, 2]}, "1 records, and 'b' has 2"),
        ([], {"b": [1, 2]}, "0 records"),
    ],
)
def test_calls_that_do_not_fit_together(data, columns, words):
    with pytest.raises(InvalidCallError, match=words):
        encode_block(data, columns)


@pytest.mark.parametrize("data", ["text", b"bytes", 3, 1.5, [{"a": 1}, 3], [[1, 2]], [None]])
def test_data_that_is_no_records(data):
    with pytest.raises(UnstorableTypeError, match="A record is a dict"):
        encode_block(data)


def test_names_become_text_and_none_is_lost():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", 0, "0"])
    assert taken(frame) == [{"a": 1, "0'": 2, "0": 3}]
    assert taken([{1: "a", "1": "b", None: 3}]) == [{"1'": "a", "1": "b", "None": 3}]


# ---- exactness -------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(scalars, naive, spans), max_size=20))
def test_lists_of_mixed_values(values):
    assert units.same(values_of(values), [decode_exact(encode_exact(value)) for value in values])


@given(
    st.one_of(*(st.lists(kind, min_size=1, max_size=20) for kind in (floats, ints, st.booleans(), texts, naive, spans)))
)
def test_lists_of_one_type(values):
    assert units.same(values_of(values), values)


@given(exact_records)
def test_rows(rows):
    assert units.same(taken(iter(rows)), [decode_exact(encode_exact(row)) for row in rows])


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8", ">u2"]
)
def test_arrays_of_numbers(dtype):
    numbers = np.array([0, 1, 100, 3], dtype)
    assert units.same(values_of(numbers), numbers.tolist())
    assert units.same(values_of(numbers[::2]), numbers[::2].tolist())
    assert units.same(values_of(list(numbers)), numbers.tolist())


def test_float32_widens_as_numpy_does():
    assert values_of(np.array([0.1], "f4")) == [float(np.float32(0.1))]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array(["2020-01-01", "NaT"], "M8[D]"), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-01", "2020-02"], "M8[M]"), [dt.date(2020, 1, 1), dt.date(2020, 2, 1)]),
        (np.array(["2020-01-01T01", "NaT"], "M8[h]"), [dt.datetime(2020, 1, 1, 1), None]),
        (np.array(["2020-01-01T00:00:00.000001"], NS), [dt.datetime(2020, 1, 1, 0, 0, 0, 1)]),
        (np.array([1, "NaT"], "m8[s]"), [dt.timedelta(seconds=1), None]),
        (np.array(["NaT"], "m8"), [None]),
        (list(np.array(["2020-01-01T00:00:00.5"], NS)), [dt.datetime(2020, 1, 1, 0, 0, 0, 500_000)]),
        (np.array([["a", "b"], ["c", "d"]]), [["a", "b"], ["c", "d"]]),
        (np.array([[1.5], [2.5]], "f4"), [[1.5], [2.5]]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        (np.array([1, "a", None], object), [1, "a", None]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (pd.Series([1, None, 3], dtype="Int64"), [1, None, 3]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([0.5, None], dtype="Float32"), [0.5, None]),
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(["a", None, "a"], dtype="category"), ["a", None, "a"]),
        (pd.Series([3, 1, 3], dtype="category"), [3, 1, 3]),
        (pd.Categorical([1.5, None]), [1.5, None]),
        (pd.Index([1, 2]), [1, 2]),
        (pd.Series([1.5, math.nan, "a", pd.NA, pd.NaT, None], dtype=object), [1.5, math.nan, "a", None, None, None]),
        (pd.to_datetime(pd.Series(["2020-01-01", None])), [dt.datetime(2020, 1, 1), None]),
        (pd.Series(pd.to_datetime(["2020-01-01", None])).dt.tz_localize(BERLIN),
         [dt.datetime(2019, 12, 31, 23, tzinfo=UTC), None]),
        (pd.Series(pd.to_timedelta(["1s", None])), [dt.timedelta(seconds=1), None]),
        ([pd.Timestamp("2020-01-01"), pd.Timedelta(seconds=1), pd.NaT],
         [dt.datetime(2020, 1, 1), dt.timedelta(seconds=1), None]),
        (pd.Series(pd.arrays.SparseArray([0, 1])), [0, 1]),
        (pl.Series([1, None, 3], dtype=pl.Int8), [1, None, 3]),
        (pl.Series([True, None]), [True, None]),
        (pl.Series([math.nan, None, 0.5], dtype=pl.Float32), [math.nan, None, 0.5]),
        (pl.Series(["a", None]), ["a", None]),
        (pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
        (pl.Series(["a", None], dtype=pl.Enum(["a"])), ["a", None]),
        (pl.Series([b"a", None]), [b"a", None]),
        (pl.Series([None, None]), [None, None]),
        (pl.Series([[1], None, []]), [[1], None, []]),
        (pl.Series([{"a": 1}, {"a": None}]), [{"a": 1}, {"a": None}]),
        (pl.Series([dt.date(2020, 1, 1), None]), [dt.date(2020, 1, 1), None]),
        (pl.Series([dt.time(1, 2, 3, 4), None]), [dt.time(1, 2, 3, 4), None]),
        (pl.Series([dt.datetime(1, 1, 1), None]), [dt.datetime(1, 1, 1), None]),
        (pl.Series([dt.datetime(2020, 1, 1)], dtype=pl.Datetime("ms")), [dt.datetime(2020, 1, 1)]),
        (pl.Series([dt.datetime(2020, 1, 1)], dtype=pl.Datetime("ns")), [dt.datetime(2020, 1, 1)]),
        (pl.Series([dt.datetime(2020, 1, 1)]).dt.replace_time_zone(BERLIN),
         [dt.datetime(2019, 12, 31, 23, tzinfo=UTC)]),
        (pl.Series([dt.timedelta(days=-1), None], dtype=pl.Duration("ns")), [dt.timedelta(days=-1), None]),
        (pl.Series([Decimal("1.50")]), [Decimal("1.50")]),
        ({"b": 1}.keys(), ["b"]),
        ([Path("a"), (1, 2)], [Path("a"), (1, 2)]),
    ],
)  # fmt: skip
def test_columns_of_libraries(column, expected):
    assert units.same(values_of(column), expected)


@pytest.mark.parametrize(
    "value", ["text", b"bytes", None, {"a": [1]}, 3, dt.date(2020, 1, 1), (1, 2), np.float32(0.5), np.array(3)]
)
def test_scalars_are_broadcast(value):
    columns = {"x": [1, 2], "s": value} if not isinstance(value, tuple) else {"x": [1, 2], "s": [value] * 2}
    plain = value.item() if hasattr(value, "item") else value
    assert units.same([row["s"] for row in taken(**columns)], [plain, plain])


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5), st.sampled_from(["s", "ms", "us", "ns", "h", "D"])
)
def test_datetime64_is_exact_or_refused(numbers, unit):
    column = np.array(numbers, f"M8[{unit}]")
    try:
        found = values_of(column)
    except UnstorableValueError as error:
        assert "'x'" in str(error)  # noqa: PT017
        return
    exact = dt.timedelta(
        **{{"s": "seconds", "ms": "milliseconds", "us": "microseconds", "h": "hours", "D": "days"}.get(unit, "days"): 1}
    )
    for value, number in zip(found, numbers, strict=True):
        if unit == "ns":
            assert number % 1000 == 0
            assert value == dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=number // 1000)
        else:
            start = dt.date(1970, 1, 1) if unit == "D" else dt.datetime(1970, 1, 1)
            assert value == start + number * exact


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ([1, object()], UnstorableTypeError),
        ([1j], UnstorableTypeError),
        (np.array([1j]), UnstorableTypeError),
        (np.array([1], np.longdouble), UnstorableTypeError),
        ([1, 2**64], UnstorableValueError),
        ([-(2**63) - 1], UnstorableValueError),
        (range(2**64, 2**64 + 2), UnstorableValueError),
        (["\ud800"], UnstorableValueError),
        (np.array(["2020-01-01T00:00:00.000000001"], NS), UnstorableValueError),
        (pd.Series(np.array(["2020-01-01T00:00:00.000000001"], NS)), UnstorableValueError),
        ([pd.Timestamp("2020-01-01T00:00:00.000000001")], UnstorableValueError),
        (np.array(["20000-01-01"], "M8[s]"), UnstorableValueError),
        (np.array(["20000-01-01"], "M8[D]"), UnstorableValueError),
        (np.array([2**62], "M8[s]"), UnstorableValueError),
        (np.array([2**62], "m8[D]"), UnstorableValueError),
        (np.array([1], "m8[Y]"), UnstorableTypeError),
        (pl.Series([1], dtype=pl.Datetime("ns")), UnstorableValueError),
        (pl.Series([1], dtype=pl.Duration("ns")), UnstorableValueError),
        (pl.Series([1], dtype=pl.Time), UnstorableValueError),
        (pl.Series([2**60], dtype=pl.Int64).cast(pl.Datetime("us")), UnstorableValueError),
        (pd.Series(pd.period_range("2020", periods=1, freq="D")), UnstorableTypeError),
        ([NESTED], UnstorableValueError),
    ],
)
def test_refusals_name_the_column(column, error):
    with pytest.raises(error, match="bad") as caught:
        encode_block(None, {"fine": 1, "bad": column})
    assert caught.value.key == "bad"


def test_a_refused_row_is_named_and_nothing_is_taken():
    with pytest.raises(UnstorableTypeError, match="'b'") as caught:
        encode_block([{"a": 1}, {"a": 2, "b": object()}])
    assert caught.value.record["a"] == 2
    with pytest.raises(UnstorableValueError, match="'scalar'"):
        encode_block(None, {"x": [1], "scalar": 2**64})


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 99), ("MAX_BODY", 799)])
@pytest.mark.parametrize("call", [{"x": np.zeros(100)}, {"x": [0.5] * 100}])
def test_more_than_an_entry_holds(monkeypatch, limit, value, call):
    monkeypatch.setattr(blocks, limit, value)
    with pytest.raises(InvalidCallError, match="several calls"):
        encode_block(None, call)
    with pytest.raises(InvalidCallError, match="several calls"):
        encode_block([{"x": 0.5}] * 300)


def test_damaged_payloads_raise_value_errors():
    kind, count, body = encode_block(
        None, {"a": [1, 2], "t": np.array(["2020", "NaT"], NS), "s": ["a", "b"], "z": None}
    )
    payload = u.BLOCK_PREFIX.pack(1, count) + body
    for place in range(len(payload)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[place] ^= flip
            if 4 <= place < 8 and damaged[7]:
                continue  # 16 million rows of one shared value are a matter of memory
            try:
                block_records(Event(kind, bytes(damaged), 0))
            except (ValueError, OverflowError):
                pass
    for kind in (u.ROWS, u.COLUMNS):
        with pytest.raises(ValueError):  # noqa: PT011
            block_records(Event(kind, u.BLOCK_PREFIX.pack(1, 3), 0))


def test_recording_lists_and_dicts_imports_neither_numpy_nor_polars():
    code = (
        "import sys\n"
        "from rigorous_recorder.store import helper, logsource, packsource\n"
        "from rigorous_recorder.store.blocks import encode_block\n"
        "encode_block({'a': [1, 2], 'b': [0.5, None], 's': 'x'}); encode_block([{'a': 1}])\n"
        "print(sorted({'numpy', 'polars', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
