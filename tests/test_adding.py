"""Adding records one by one and many at once: every form that is accepted, and that a refused call stores nothing."""

import array
import datetime as dt
from collections import OrderedDict, UserDict
from types import MappingProxyType

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import own, root_keeper, stable

from rigorous_recorder import RecorderError, RecordKeeper

EXPECTED = [{"i": 1, "x": 0.5, "t": "a"}, {"i": 2, "x": 1.5, "t": "b"}, {"i": 3, "x": 2.5, "t": "c"}]
COLUMNS = {"i": [1, 2, 3], "x": [0.5, 1.5, 2.5], "t": ["a", "b", "c"]}


@pytest.fixture(params=["memory", "mmap", "write"])
def root(request, tmp_path):
    """A root: in memory, and an experiment in each journal mode."""
    with root_keeper(request.param, tmp_path / "study") as keeper:
        yield keeper


def typed(records):
    """Records with the type of each value, since 1 == True == 1.0."""
    return [{key: (type(value), repr(value)) for key, value in each.items()} for each in records]


# ---- one by one ------------------------------------------------------------------------------------------------------


def test_add_record_takes_a_dict_keywords_or_both(root):
    given_dict = {"x": 1}
    assert root.add_record(given_dict) is None
    given_dict["x"] = 7
    root.add_record(x=2)
    root.add_record({"x": 3, "y": 3}, y=4, z=5)
    root.add_record(MappingProxyType({"x": 6}))
    root.add_record(OrderedDict(x=7))
    root.add_record(UserDict(x=8))
    root.add_record({"self": 1, "record": 2}, self=3, record=4)
    root.add_record()
    root.add_record(None)
    root.add_record({})
    assert own(root) == [
        {"x": 1}, {"x": 2}, {"x": 3, "y": 4, "z": 5}, {"x": 6}, {"x": 7}, {"x": 8}, {"self": 3, "record": 4}, {}, {}, {},
    ]  # fmt: skip
    assert list(own(root)[2]) == ["x", "y", "z"], "keys stay in order"


def test_what_is_no_record_is_refused(root):
    for wrong in (1, "text", b"bytes", [1], [("a", 1)], {1, 2}, object(), RecordKeeper):
        with pytest.raises(TypeError, match=r"dict of values.*Hint:") as caught:
            root.add_record(wrong)
        assert isinstance(caught.value, RecorderError)
    with pytest.raises(TypeError):
        root.add_record({"x": 1}, {"y": 2})
    assert len(root) == 0


def test_a_refused_record_is_carried_and_the_recorder_goes_on(root):
    keeper = root.sub_record_keeper(b=1)
    for number, bad in enumerate(
        (object(), 2**64, -(2**63) - 1, "\ud800", open, {"deep": [{1, object()}]}, {"\udfff": 1})
    ):
        with pytest.raises((TypeError, ValueError), match="'bad'") as caught:
            keeper.add_record({"good": number, "bad": bad})
        assert caught.value.key == "bad"
        assert caught.value.record == {"good": number, "bad": bad}
        keeper.add_record(good=number)
    assert [each["good"] for each in root] == list(range(7))
    assert len(root) == 7


def test_records_of_every_size(root):
    sizes = [0, 1, 200, *range(225, 245), 255, 256, 4000, 65_400, 65_536, 300_000, 5_000_000]
    keepers = [root.sub_record_keeper(side=side) for side in (1, 2)]
    for number, size in enumerate(sizes):
        keepers[number % 2].add_record(pad="x" * size)
        root.add_record(number=number)
    every = own(root)
    assert [len(each["pad"]) for each in every[::2]] == sizes
    assert [each["side"] for each in every[::2]] == [1 + number % 2 for number in range(len(sizes))]
    assert [each["number"] for each in every[1::2]] == list(range(len(sizes)))


def test_keepers_alternate(root):
    keepers = [root.sub_record_keeper(k=number) for number in range(5)]
    for number in range(20_000):
        keepers[number * 7 % 5].add_record(n=number)
    assert [(each["k"], each["n"]) for each in root] == [(number * 7 % 5, number) for number in range(20_000)]
    assert [each["n"] for each in keepers[3]] == [number for number in range(20_000) if number * 7 % 5 == 3]


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_named_levels_of_a_pandas_index_are_columns(root):
    frame = pd.DataFrame({"loss": [0.5, 0.25]}, index=pd.Index([7, 8], name="step"))
    root.add_records(frame)
    frame.index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["model", None])
    root.add_records(frame)
    frame.index = pd.RangeIndex(2, name="row")
    root.add_records(frame, extra=1)
    root.add_records(frame.rename_axis("loss"))
    root.add_records(frame, row=["x", "y"])
    root.add_records(pd.DataFrame({"g": ["a", "b", "a"], "v": [1, 2, 3]}).groupby("g").sum())
    root.add_records(pd.DataFrame(index=pd.DatetimeIndex(["2026-01-02", None], name="day")))
    day = dt.datetime(2026, 1, 2)  # noqa: DTZ001
    expected = [
        {"step": 7, "loss": 0.5}, {"step": 8, "loss": 0.25},
        {"model": "a", "loss": 0.5}, {"model": "b", "loss": 0.25},
        {"row": 0, "loss": 0.5, "extra": 1}, {"row": 1, "loss": 0.25, "extra": 1},
        {"loss": 0.5}, {"loss": 0.25},
        {"row": "x", "loss": 0.5}, {"row": "y", "loss": 0.25},
        {"g": "a", "v": 4}, {"g": "b", "v": 2},
        {"day": day}, {"day": None},
    ]  # fmt: skip
    assert own(root) == expected
    assert [list(each) for each in own(root)] == [list(each) for each in expected], "keys are in order"


@pytest.mark.parametrize(
    "index",
    [
        pd.CategoricalIndex(["x", "y"], name="i"),
        pd.Index([True, False], name="i"),
        pd.Index(["x", None], name="i"),
        pd.Index([0.5, float("inf")], name=3),
        pd.DatetimeIndex(["2026-01-02", "2026-01-03"], tz="Europe/Berlin", name="i"),
        pd.TimedeltaIndex(["1s", "2s"], name="i"),
        pd.Index([1, 2], dtype="Int64", name="i"),
        pd.Index(["x", "y"], dtype="string", name="i"),
    ],
    ids=lambda index: str(index.dtype),
)
def test_an_index_is_stored_as_a_column_of_its_type(root, index):
    frame = pd.DataFrame({"v": [1, 2]}, index=index)
    root.add_records(frame)
    root.add_records(frame.reset_index())
    first, second = own(root)[:2], own(root)[2:]
    assert typed(first) == typed(second)


FORMS = {
    "dict of lists": COLUMNS,
    "dict of tuples": {key: tuple(values) for key, values in COLUMNS.items()},
    "dict of arrays": {key: np.array(values) for key, values in COLUMNS.items()},
    "dict of ranges": {**COLUMNS, "i": range(1, 4)},
    "dict of generators": lambda: {key: iter(values) for key, values in COLUMNS.items()},
    "dict of array.array": {**COLUMNS, "x": array.array("d", COLUMNS["x"])},
    "dict of pandas Series": {key: pd.Series(values) for key, values in COLUMNS.items()},
    "dict of polars Series": {key: pl.Series(values) for key, values in COLUMNS.items()},
    "dict of Arrow arrays": {key: pa.array(values) for key, values in COLUMNS.items()},
    "pandas frame": pd.DataFrame(COLUMNS),
    "pandas frame with an index": pd.DataFrame(COLUMNS, index=[7, 8, 9]),
    "polars frame": pl.DataFrame(COLUMNS),
    "polars lazy frame": pl.LazyFrame(COLUMNS),
    "Arrow table": pa.table(COLUMNS),
    "Arrow record batch": pa.RecordBatch.from_pydict(COLUMNS),
    "list of dicts": EXPECTED,
    "tuple of mappings": tuple(MappingProxyType(each) for each in EXPECTED),
    "generator of dicts": lambda: (dict(each) for each in EXPECTED),
    "mapping of columns": MappingProxyType(COLUMNS),
}


@pytest.mark.parametrize("form", FORMS)
def test_add_records_takes(root, form):
    data = FORMS[form]
    keeper = root.sub_record_keeper(b=1)
    keeper.add_records(data() if callable(data) else data)
    keeper.add_record(i=4)
    assert typed(own(root)) == typed([{"b": 1, **each} for each in [*EXPECTED, {"i": 4}]])


def test_add_records_takes_keywords_alone_and_with_data(root):
    root.add_records(**COLUMNS)
    root.add_records(pl.DataFrame(COLUMNS), x=[7.5, 8.5, 9.5], more=[True, False, None])
    root.add_records(iter(EXPECTED), x=[7.5, 8.5, 9.5], more=np.array([True, False, True]))
    root.add_records(data=[1, 2], self=[3, 4])
    xs = [7.5, 8.5, 9.5]
    assert typed(own(root)) == typed([
        *EXPECTED,
        *({**each, "x": x, "more": more} for each, x, more in zip(EXPECTED, xs, [True, False, None], strict=True)),
        *({**each, "x": x, "more": more} for each, x, more in zip(EXPECTED, xs, [True, False, True], strict=True)),
        {"data": 1, "self": 3}, {"data": 2, "self": 4},
    ])  # fmt: skip


def test_scalars_are_repeated(root):
    scalars = {
        "s": "text",
        "b": b"bytes",
        "n": 7,
        "f": 0.5,
        "none": None,
        "np": np.float32(0.25),
        "zero_d": np.array(3),
        "d": {"k": [1]},
    }
    plain = {**scalars, "np": 0.25, "zero_d": 3}
    root.add_records(i=[1, 2], **scalars)
    root.add_records(({"i": i} for i in (3, 4)), **scalars)
    root.add_records(pd.DataFrame({"i": [5, 6]}), **scalars)
    assert typed(own(root)) == typed([{"i": i, **plain} for i in range(1, 7)])
    first, second = root.records[0], root.records[1]
    first["d"]["k"].append(2)
    assert second["d"] == {"k": [1]}


@pytest.mark.parametrize(
    "call",
    [
        lambda keeper: keeper.add_records(a=1, b="text"),
        lambda keeper: keeper.add_records({"a": "text"}),
        lambda keeper: keeper.add_records(a=np.array(1)),
        lambda keeper: keeper.add_records(a=[1, 2], b=[1, 2, 3]),
        lambda keeper: keeper.add_records({"a": range(5), "b": np.zeros(4)}),
        lambda keeper: keeper.add_records(pd.DataFrame({"a": [1, 2]}), b=[1]),
        lambda keeper: keeper.add_records([{"a": 1}, {"a": 2}], b=[1]),
        lambda keeper: keeper.add_records(pl.DataFrame({"a": [1, 2]}), b=[]),
    ],
)
def test_scalars_alone_and_lengths_that_differ_are_refused(root, call):
    with pytest.raises(ValueError, match="Nothing was stored") as caught:
        call(root)
    assert isinstance(caught.value, RecorderError)
    assert len(root) == 0


def broken():
    """A generator that fails half-way."""
    yield {"x": 1}
    raise ZeroDivisionError("in the user's own code")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([{"x": 1}, {"x": object()}], TypeError),
        ([{"x": 1}, {"x": 2**64}], ValueError),
        ([{"x": 1}, {"x": "\ud800"}], ValueError),
        ([{"x": 1}, [("x", 2)]], TypeError),
        ([{"x": 1}, 2], TypeError),
        ({"x": [1, 2**64]}, ValueError),
        ({"x": ["a", "\udfff"]}, ValueError),
        ({"x": [1, object()]}, TypeError),
        ({"x": np.array([1, object()], dtype=object)}, TypeError),
        ({"x": np.array([1j, 2j])}, TypeError),
        ("text", TypeError),
        (b"bytes", TypeError),
        (7, TypeError),
        (broken, ZeroDivisionError),
    ],
    ids=stable,
)
def test_a_refused_call_stores_nothing(root, data, error):
    with pytest.raises(error) as caught:
        root.add_records(data() if data is broken else data)
    assert isinstance(caught.value, (RecorderError, ZeroDivisionError))
    assert len(root) == 0
    root.add_record(x=1)
    assert own(root) == [{"x": 1}]


def test_nothing_to_add(root):
    for nothing in (None, [], {}, iter(()), {"x": []}, pd.DataFrame(), pl.DataFrame({"x": []}), pa.table({"x": []})):
        root.add_records(nothing)
    root.add_records(x=[], y=1)
    root.add_records()
    assert len(root) == 0


def test_rows_without_columns(root):
    root.add_records([{}, {}])
    root.add_records(pd.DataFrame(index=range(3)))
    assert own(root) == [{}] * 5


def test_rows_of_different_keys(root):
    rows = [{"a": 1}, {"b": 2}, {}, {"a": None, "b": "x"}, {"a": [1, {"c": 2}]}]
    root.add_records(rows)
    assert typed(own(root)) == typed(rows)


def test_two_dimensional_columns_become_lists(root):
    root.add_records(x=np.arange(6).reshape(3, 2), y=[[1], [], [2, 3]])
    assert own(root) == [{"x": [0, 1], "y": [1]}, {"x": [2, 3], "y": []}, {"x": [4, 5], "y": [2, 3]}]


def test_what_was_given_can_change_later(root):
    column, rows = np.arange(3), [{"y": [1]}]
    root.add_records(x=column)
    root.add_records(rows)
    column[:] = 9
    rows[0]["y"].append(2)
    assert own(root) == [{"x": 0}, {"x": 1}, {"x": 2}, {"y": [1]}]


def test_large_blocks_between_single_records(root):
    keeper = root.sub_record_keeper(b=1)
    root.add_record(x=-1)
    keeper.add_records(x=range(200_000), y=np.linspace(0, 1, 200_000), t="same")
    root.add_record(x=-2)
    keeper.add_records({"x": number, "pad": "p" * 100} for number in range(3000))
    root.add_record(x=-3)
    records = root.records
    assert len(records) == 203_003
    assert [records[row]["x"] for row in (0, 1, 200_000, 200_001, 200_002, 203_001, 203_002)] == [
        -1,
        0,
        199_999,
        -2,
        0,
        2999,
        -3,
    ]
    assert [each["x"] for each in keeper.records[199_990:200_005]] == [*range(199_990, 200_000), *range(5)]
    assert records[100]["b"] == 1
    assert records[0]["b"] is None


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)
ROWS = st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), max_size=8)


@given(ROWS, st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_rows_come_back_however_they_were_added(rows, ways):
    keeper = RecordKeeper()
    for row, way in zip(rows, ways, strict=False):
        if way == 0:
            keeper.add_record(row)
        elif way == 1:
            keeper.add_records([row])
        else:
            keeper.add_records({key: [value] for key, value in row.items()} if row else [{}])
    assert typed(keeper) == typed(rows)
