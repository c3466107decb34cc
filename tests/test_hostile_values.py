"""Hostile values and keys: refused in the right words, or back exactly, from memory, a log and a pack."""

import datetime as dt
import math
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import exact, keys, plain, temporal
from test_values import shape

from rigorous_recorder import ExperimentCollection, RecorderError, RecordKeeper
from rigorous_recorder.store.pack import seal

CIRCLE = [1]
CIRCLE.append(CIRCLE)
ROUND = {"a": 1}
ROUND["self"] = ROUND


class Angry:
    """Whose every method raises."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Liar:
    """Offers `.item()`, which raises."""

    def item(self):
        raise RuntimeError("no item")


class Own:
    """Offers `.item()`, which gives itself."""

    def item(self):
        return self


def there_and_back(path, records):
    """The records as they come back from a log, and from a pack."""
    collection = ExperimentCollection(path)
    with collection.new_experiment() as experiment:
        for record in records:
            experiment.add_record(record)
        automatic = set(experiment.merged) | {"had_error", "experiment_end_time", "experiment_duration"}
    results = []
    for _ in range(2):
        results.append([{key: each[key] for key in each if key not in automatic} for each in collection])
        for log in Path(path).rglob("*.log"):
            seal(str(log))
    assert list(Path(path).rglob("*.parquet"))
    return results


REFUSED = [
    (2**64, ValueError, "int beyond 64 bits"),
    (-(2**63) - 1, ValueError, "int beyond 64 bits"),
    ([1, {"deep": 2**100}], ValueError, "int beyond 64 bits"),
    ("\ud800", ValueError, "lone surrogate.*surrogatepass"),
    (["\udfff"], ValueError, "lone surrogate"),
    ({"\ud800": 1}, ValueError, "lone surrogate"),
    (CIRCLE, ValueError, "nested too deep or contains itself"),
    (ROUND, ValueError, "nested too deep or contains itself"),
    (sys.stdout, TypeError, "TextIOWrapper|EncodedFile|CaptureIO|which cannot be stored"),
    (object(), TypeError, "type object"),
    (len, TypeError, "builtin_function_or_method"),
    (int, TypeError, "type type"),
    ((each for each in []), TypeError, "generator"),
    (1j, TypeError, "complex"),
    (np.array([1j]), TypeError, "complex|ndarray"),
    (np.longdouble(1) / 3, TypeError, "longdouble"),
    ([1, (2, {3: object()})], TypeError, r"type object \(within a list\)"),
    (Angry(), TypeError, "its repr raises RuntimeError"),
    (Own(), (TypeError, ValueError), "Own|contains itself"),
    (re, TypeError, "module"),
    (RecordKeeper(), TypeError, "RecordKeeper"),
    (Ellipsis, TypeError, "ellipsis"),
]


@pytest.mark.parametrize(
    ("value", "error", "says"), REFUSED, ids=lambda value: re.sub(r"\W+", "-", type(value).__name__)
)
def test_what_is_refused_names_key_type_and_remedy(value, error, says):
    keeper = RecordKeeper(a=1)
    for add in (
        lambda: keeper.add_record({"good": 1, "the key": value}),
        lambda: keeper.add_record(**{"the key": value}),
        lambda: keeper.add_records([{"the key": 1}, {"good": 1, "the key": value}]),
        lambda: keeper.add_records({"good": [1, 2], "the key": [None, value]}),
        lambda: RecordKeeper({"good": 1, "the key": value}),
        lambda: keeper.sub_record_keeper({"good": 1, "the key": value}),
        lambda: keeper.update({"good": 1, "the key": value}),
    ):
        with pytest.raises(error, match="'the key'") as caught:
            add()
        assert isinstance(caught.value, RecorderError)
        assert re.search(says, str(caught.value)), str(caught.value)
        assert "Hint: " in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert (len(keeper), dict(keeper.data), keeper.children) == (0, {"a": 1}, ())


def test_errors_of_the_users_own_code_come_through_or_are_ours():
    keeper = RecordKeeper()
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        keeper.add_record(v=Liar())
    keeper.add_record(v=1)
    assert len(keeper) == 1


@pytest.mark.parametrize("key", [(1, 2), frozenset({1}), "\ud800"], ids=["tuple", "frozenset", "surrogate"])
def test_what_cannot_be_a_key_is_refused(key):
    """Or, where the way to add can, stored as its text."""
    for add in (
        lambda keeper: keeper.add_record({key: 1}),
        lambda keeper: keeper.add_records([{key: 1}]),
        lambda keeper: keeper.add_records({key: [1]}),
        lambda keeper: keeper.sub_record_keeper({key: 1}).add_record(),
    ):
        keeper = RecordKeeper()
        try:
            add(keeper)
        except (TypeError, ValueError) as error:
            assert isinstance(error, RecorderError)  # noqa: PT017
            assert "key" in str(error)  # noqa: PT017
            assert len(keeper) == 0
        else:
            assert list(keeper) in ([{str(key): 1}], [{"(1,)": 1}])


def unordered(record):
    """A record's own items with their types: the order of its keys is the column's in a pack."""
    return dict(shape(record)[1])


def nested(depth, leaf=1):
    """A list in a list in a list."""
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("make", [nested, lambda depth: nested(depth, {}), lambda depth: {"k": nested(depth - 1)}])
@pytest.mark.parametrize("depth", [10, 30, 60, 62, 63, 64, 65, 66, 100, 200, 500, 900, 5000, 100_000])
def test_what_is_accepted_can_be_read(tmp_path, depth, make):
    """However deep: refused when it is added, or readable from the log and from the pack."""
    value = make(depth)
    for add in (lambda keeper: keeper.add_record(v=value), lambda keeper: keeper.add_records([{"v": value}])):
        keeper = RecordKeeper()
        try:
            add(keeper)
        except ValueError as error:
            assert isinstance(error, RecorderError)  # noqa: PT017
            assert depth >= 60
            continue
        assert keeper.records[0]["v"] == value
        log, pack = there_and_back(tmp_path / add.__name__ / str(len(list(tmp_path.iterdir()))), [{"v": value}])
        assert log[0]["v"] == pack[0]["v"] == value
    try:
        keeper = RecordKeeper(v=value)
    except ValueError as error:
        assert isinstance(error, RecorderError)  # noqa: PT017
        assert depth >= 60
    else:
        keeper.add_record()
        assert keeper["v"] == keeper.records[0]["v"] == value
        assert keeper.lineage


KEYS = ["", " ", "\x00", "a\x00b", "rr_level", "rr_exact:v", "rr_key:v", "rr_attempt", "rr_lineage", "experiment", "é/=,%",
        "😀", "self", "v" * 5000, "None", "0"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:12])
def test_any_text_is_a_key(tmp_path, key):
    rows = [{key: number, "v": None, f"{key}'": -number} for number in range(3)]
    assert there_and_back(tmp_path, rows) == [rows, rows]
    keeper = RecordKeeper({key: 1})
    keeper.add_record({"x": 1})
    keeper.add_records({key: [2]})
    assert [each[key] for each in keeper] == [1, 2]
    keeper[key] = 3
    assert (keeper[key], keeper.records[0][key]) == (3, 3)


def test_keys_that_are_not_text_come_back_as_text_and_none_is_lost(tmp_path):
    record = {
        1: "int",
        "1": "text",
        1.5: "float",
        None: "none",
        True + 1: "two",
        b"b": "bytes",
        "1'": "prime",
        dt.date(2026, 1, 2): "date",
    }
    back = {"1''": "int", "1": "text", "1.5": "float", "None": "none", "2": "two", "b": "bytes", "1'": "prime"}
    for one in there_and_back(tmp_path, [record]):
        texts = dict(one[0])
        date = texts.pop("2026-01-02")
        assert date == "date"
        assert texts == back
    keeper = RecordKeeper()
    assert dict(RecordKeeper(record).data) == {**back, "2026-01-02": "date"}
    keeper.add_records([record])
    keeper.add_records({key: [value] for key, value in record.items()})
    assert [dict(each) for each in keeper] == [{**back, "2026-01-02": "date"}] * 2


def test_ten_thousand_keys(tmp_path):
    wide = {f"k{number}": number / 7 for number in range(10_000)}
    log, pack = there_and_back(tmp_path, [wide, {"k5": None}, {}])
    assert log == pack == [wide, {"k5": None}, {}]
    keeper = RecordKeeper(wide)
    keeper.add_record()
    keeper.add_records({key: [value] for key, value in wide.items()})
    assert list(keeper) == [wide, wide]
    assert list(keeper.records[0]) == list(wide)


def test_floats_come_back_to_the_bit(tmp_path):
    bits = ["0000000000000080", "0000000000000000", "0100000000000000", "000000000000f07f", "000000000000f0ff",
            "000000000000f87f", "000000000000f8ff", "010000000000f87f", "adde00000000f87f", "efbeadde0000fcff"]  # fmt: skip
    values = [struct.unpack("<d", bytes.fromhex(one))[0] for one in bits]
    rows = [*({"v": value} for value in values), {"v": None}, {}, {"v": 2**53 + 1}]
    for one in there_and_back(tmp_path, rows):
        assert [struct.pack("<d", each["v"]).hex() for each in one[: len(bits)]] == bits
        assert [each.get("v", "missing") for each in one[len(bits) :]] == [None, "missing", 2**53 + 1]
    keeper = RecordKeeper(v=values)
    keeper.add_records(v=values)
    keeper.add_records(v=np.array(values))
    assert [struct.pack("<d", each["v"]).hex() for each in keeper] == bits * 2
    assert [struct.pack("<d", value).hex() for value in keeper["v"]] == bits


MIXED = [1, 1.0, True, "1", b"1", None, [1], {"a": 1}, math.nan, 2**64 - 1, -(2**63), 2**53 + 1, -0.0, "", [], {}, [[]]]


def test_values_without_a_common_type_come_back_each_as_it_was(tmp_path):
    for one in there_and_back(tmp_path, [{"v": value} for value in MIXED] * 3):
        assert [shape(each["v"]) for each in one] == [shape(value) for value in MIXED] * 3


def test_every_pair_of_types_shares_a_column(tmp_path):
    pairs = [(first, second) for first in MIXED for second in MIXED]
    rows = [{f"c{number}": pair[side] for number, pair in enumerate(pairs)} for side in (0, 1)]
    for one in there_and_back(tmp_path, rows):
        assert [unordered(each) for each in one] == [unordered(row) for row in rows]


def test_times_in_single_records(tmp_path):
    """As `docs/values.md` says: exact from the keeper's first record in a unit on, else ISO 8601 text."""
    times = {"d": dt.date(2026, 1, 2), "t": dt.time(1, 2), "s": dt.timedelta(hours=1), "n": dt.datetime(2026, 1, 2, 3)}  # noqa: DTZ001
    rows = [
        {"x": 1, **times},
        {"x": 2, **times},
        {"x": 3},
        {"x": 4, "d": "text"},
        {"x": 5, "in": [times["d"]], "d": None},
    ]
    expected = [*rows[:4], {"x": 5, "in": ["2026-01-02"], "d": None}]
    for one in there_and_back(tmp_path / "first", rows):
        assert [unordered(each) for each in one] == [unordered(row) for row in expected]
    for one in there_and_back(tmp_path / "later", [{"x": 1}, {"x": 2, **times}]):
        texts = {"d": "2026-01-02", "t": "01:02:00", "s": "PT3600S", "n": "2026-01-02T03:00:00"}
        assert [unordered(each) for each in one] == [unordered(row) for row in ({"x": 1}, {"x": 2, **texts})]


@settings(max_examples=25)
@given(st.lists(st.dictionaries(keys, plain, max_size=5), max_size=20))
def test_single_records_come_back_from_log_and_pack(tmp_path_factory, rows):
    for one in there_and_back(tmp_path_factory.mktemp("study"), rows):
        assert len(one) == len(rows)
        for each, row in zip(one, rows, strict=True):
            assert unordered(each) == unordered(row) or not all_text(row)


def all_text(value):
    """Whether all keys within are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and all_text(item) for key, item in value.items())
    return all(map(all_text, value)) if isinstance(value, list) else True


@given(st.dictionaries(keys, st.one_of(exact, temporal, plain).filter(all_text), max_size=5))
def test_level_data_comes_back(data):
    automatic = ("experiment_", "error_number", "had_error")
    data = {key: value for key, value in data.items() if not key.startswith(automatic)}
    keeper = RecordKeeper(data)
    keeper.add_record()
    for back in (keeper.data, keeper.merged, keeper.records[0]):
        assert shape(dict(back)) == shape(data)


@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5))),
        dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=5))),
    ],
    ids=["first", "last"],
)
def test_a_moment_beyond_the_years_of_utc_says_so(moment):
    keeper = RecordKeeper(level=moment)  # level data keeps the offset, and a record has the moment in UTC
    for value in (moment, [moment], {"deep": (moment,)}):
        with pytest.raises(
            ValueError, match=r"'t' holds a time that is before the year 1 or after 9999 in UTC.*isoformat"
        ):
            keeper.add_record(t=value)
    keeper.add_record(t=moment.isoformat())
    for made in (keeper.to_polars(), keeper.to_pandas()):
        assert made["level"].to_list() == made["t"].to_list() == [moment.isoformat()]
        assert made.rr.levels()["level"].to_list() == [moment.isoformat()]
