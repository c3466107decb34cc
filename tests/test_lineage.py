"""The text of a lineage and its parser are exact inverses, and the plain cases can be read by a person."""

import contextlib
import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exact, ints, temporal
from test_values import shape

from rigorous_recorder import RecordKeeper
from rigorous_recorder.lineage import lineage_text, parse_lineage, parse_lineages, parse_value, value_text

TEXTS = st.text() | st.sampled_from([
    "", " ", "x ", "\tx", "null", "NaN", "Infinity", "-Infinity", "infinity", "nan", "True", "true", "falsey", "1", "-1",
    "+1", ".5", "1e3", "0x10", "[", "[1]", "{", '"', '"x"', 'x"y', "a/b", "a,b", "a=b", "%", "%41", "%2F", "date:2026-01-01",
    "date:", "tuple:[]", "path:", "path:x", "bytes:zz", "dict:", "Date:x", "/", "//", "=", ",", "\x00", "\n", "\r", "\x85",
    "\u2028", "\x7f", "é", "😀", "\uff11", "\u00a0x", "-", "+", ".", "_", "#", "\\", "'", "uuid:x", "datetime:now",
    "set:[1]", "frozenset:", "nullable", "null ", "3dcnn", "100%", "9" * 5000, "-" + "9" * 5000, "1." + "0" * 5000, "[" * 900,
    '{"":' * 900, "[" * 64, "[" * 65, '{"date:":"soon"}', '["x",{"uuid:":"x"}]', '{"decimal:":"sNaN"}', '{"set:":[[1]]}',
    '{"tuple:":[1]}', '{"tuple:":"1"}', '{"bytes:":"0"}', "[1, 2]", "{}", '{"a":1,"a":2}', "1e999999", "-NaN", "[NaN]", '"',
])  # fmt: skip
AWARE = st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-11, minutes=-30))]))
ODD = st.sampled_from([
    Decimal("-0"), Decimal("1E+5"), Decimal("-Infinity"), Decimal("NaN"), Path(), Path("/"), Path("../a b"), Path("a%/b"),
    UUID(int=2**128 - 1), dt.time(1, tzinfo=dt.UTC), dt.timedelta.min, {"dict:": {}}, {"date:": "2026-01-01"}, {"x:": 1},
    {"dict:": 1}, {"dict:": {"dict:": {}}}, {"path:": "x", "y": 1}, {"": ""}, {":": 1}, {"tuple:": "[1]"}, {"set:": ["1"]},
])  # fmt: skip
PARTS = st.one_of(
    st.none(), st.booleans(), ints, st.floats(allow_nan=False), TEXTS, st.binary(max_size=4), st.dates(), ODD
)
HASHABLE = PARTS.filter(
    lambda value: not isinstance(value, dict) and not (isinstance(value, Decimal) and value.is_nan())
)
VALUES = st.recursive(
    st.one_of(exact, temporal, AWARE, TEXTS, ODD, st.floats(), st.uuids(), st.decimals(), HASHABLE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
        st.sets(st.tuples(HASHABLE, HASHABLE), max_size=2),
    ),
    max_leaves=6,
)
LEVELS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4)


def stored(levels):
    """Levels as keepers hold them: with text keys, values as they come back."""
    return [dict(RecordKeeper(level).data) for level in levels]


@given(LEVELS)
def test_text_and_parser_are_exact_inverses(levels):
    levels = stored([{key: value for key, value in level.items() if not automatic(key)} for level in levels])
    text = lineage_text(levels)
    back = parse_lineage(text)
    assert [shape(level) for level in back] == [shape(level) for level in levels or [{}]]
    assert lineage_text(back) == text, "one text for one meaning"
    assert text.isprintable() or not any(ord(character) < 32 or ord(character) == 127 for character in text)
    assert len(text.splitlines()) <= 1
    assert text.count("/") == max(0, len(levels) - 1)


def automatic(key):
    """Whether a key is refused in level data."""
    return key.startswith(("experiment_", "error_number", "had_error"))


@given(VALUES)
def test_values(value):
    (level,) = stored([{"v": value}])
    assert shape(parse_value(value_text(level["v"]))) == shape(level["v"])


@given(LEVELS)
def test_a_lineage_reads_the_same_however_deep_the_stack_is(levels):
    """A text of many brackets must not be JSON at one depth of the stack and too deep at another."""
    text = lineage_text(
        stored([{key: value for key, value in level.items() if not automatic(key)} for level in levels])
    )

    def deep(depth):
        return deep(depth - 1) if depth else parse_lineage(text)

    assert [shape(level) for level in deep(300)] == [shape(level) for level in parse_lineage(text)]


@given(st.lists(LEVELS.filter(bool), max_size=4))
def test_many_lineages_are_parsed_as_each_is(many):
    texts = [lineage_text(stored([{"k": level} for level in levels])) for levels in many] * 2
    assert shape(parse_lineages(texts)) == shape([parse_lineage(text) for text in texts])


def test_the_text_of_nested_tuples_and_sets_grows_with_their_number_and_not_with_its_power():
    value = (1,)
    for _ in range(50):
        value = (value, frozenset({"x"}))
    text = value_text(value)
    assert len(text) < 50 * 50
    assert shape(parse_value(text)) == shape(value)


@given(VALUES, VALUES)
def test_different_values_have_different_texts(first, second):
    first, second = (stored([{"v": value}])[0]["v"] for value in (first, second))
    assume(shape(first) != shape(second))
    assert value_text(first) != value_text(second)


@given(TEXTS)
def test_a_text_stands_bare_unless_it_could_be_read_as_something_else(text):
    assert parse_value(value_text(text)) == text
    if text.isalpha() and text.isascii() and text not in {"null", "true", "false", "NaN", "Infinity"}:
        assert value_text(text) == text


@pytest.mark.parametrize(
    ("levels", "text"),
    [
        ([{"experiment_number": 1, "lr": 0.1}, {"model": "model1"}, {"training": True}],
         "experiment_number=1,lr=0.1/model=model1/training=true"),
        ([{"gpu": "A100"}, {"a": 1}], "gpu=A100/a=1"),
        ([{"a": 1}, {}, {"b": 2}], "a=1//b=2"),
        ([{}, {}], "/"),
        ([{}], ""),
        ([], ""),
        ([{"note": "warm start, again"}], "note=warm start%2C again"),
        ([{"path": "data/train"}], "path=data%2Ftrain"),
        ([{"a/b": "c=d", "%": "100%"}], "a%2Fb=c%3Dd,%25=100%25"),
        ([{"v": "3dcnn"}, {"v": "[1"}, {"v": "-"}, {"v": "2026-01-31"}], "v=3dcnn/v=[1/v=-/v=2026-01-31"),
        ([{"v": "1e3"}, {"v": "-1"}, {"v": "[]"}, {"v": '"x"'}], r'v="1e3"/v="-1"/v="[]"/v="\"x\""'),
        ([{"v": "1"}], 'v="1"'),
        ([{"v": 1}], "v=1"),
        ([{"v": 1.0}], "v=1.0"),
        ([{"v": None}], "v=null"),
        ([{"v": "null"}], 'v="null"'),
        ([{"v": ""}], 'v=""'),
        ([{"v": math.nan}], "v=NaN"),
        ([{"v": "nan"}], "v=nan"),
        ([{"v": [0.1, "x"]}], 'v=[0.1%2C"x"]'),
        ([{"v": (1, 2)}], "v=tuple:[1%2C2]"),
        ([{"v": {3, 1, 2}}], "v=set:[1%2C2%2C3]"),
        ([{"v": {"b": 1}}], 'v={"b":1}'),
        ([{"v": b"\x00"}], "v=bytes:00"),
        ([{"v": dt.date(2026, 1, 31)}], "v=date:2026-01-31"),
        ([{"v": dt.timedelta(hours=1)}], "v=timedelta:0d3600s0us"),
        ([{"v": [dt.date(2026, 1, 31)]}], 'v=[{"date:":"2026-01-31"}]'),
        ([{"v": [(1, "a"), {2}]}], 'v=[{"tuple:":[1%2C"a"]}%2C{"set:":[2]}]'),
        ([{"v": '{"date:":"soon"}'}], r'v="{\"date:\":\"soon\"}"'),
        ([{"v": {"date:": "2026-01-31"}}], 'v={"dict:":{"date:":"2026-01-31"}}'),
        ([{"": 1}], "=1"),
        ([{"über": "größe"}], "über=größe"),
        ([{"v": "two\nlines"}], "v=two%0Alines"),
    ],
)  # fmt: skip
def test_readable(levels, text):
    assert lineage_text(levels) == text
    assert [shape(level) for level in parse_lineage(text)] == [shape(level) for level in levels or [{}]]


@pytest.mark.parametrize(
    "text",
    ["a", "a=1/b", "a=1,,b=2", "a=date:soon", "a=%ff", "a=uuid:1", "a=tuple:1", 'a=tuple:"ab"', "a=set:[[1]]", "a=decimal:x",
     "a=timedelta:9999999999d0s0us", "a=date:9999-99-99", "a=bytes:0", "a=time:25:00"],
)  # fmt: skip
def test_what_is_no_lineage_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_lineage(text)


@given(st.text() | st.lists(st.sampled_from([*'a=/,%"[]{}:1.-e', "date:", "tuple:", "dict:"])).map("".join))
def test_hostile_text_is_parsed_or_refused(text):
    try:
        levels = parse_lineage(text)
    except ValueError:
        return
    assert shape(parse_lineage(lineage_text(levels))) == shape(levels)


@pytest.mark.parametrize(
    "text", ["a=" + "[" * 100_000, 'a={"dict:":' * 50_000, "a=decimal:" + "9" * 100, "a=1e999999", "a=" + "9" * 5000]
)
def test_exhausting_text_is_parsed_or_refused(text):
    with contextlib.suppress(ValueError):
        parse_lineage(text)
