# ruff: noqa: DTZ901  (naive times are values like others)
"""From a unit's bytes to columns and back to records: every value as it was, however the records are laid out."""

import datetime as dt
import math
import random

import numpy as np
import polars as pl
import pytest
import units
from hypothesis import given
from hypothesis import strategies as st
from strategies import exact_records, naive, records, spans, texts, times, uniform

from rigorous_recorder import values as v
from rigorous_recorder.exact import decode_exact, encode_exact
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.columns import Decoded, unit_frame
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.names import column_key, column_name
from rigorous_recorder.store.replay import Replay
from rigorous_recorder.store.rows import frame_records
from rigorous_recorder.store.walk import Walk


def both_ways(entries):
    """The records of a unit by its log and by its frame, after it was seen that both are the same."""
    data = units.build(entries)
    log, decoded = LogSource(data), Decoded(data)
    from_log, from_frame = log.records(), frame_records(decoded.frame)
    assert log.findings == decoded.findings == []
    assert units.same(from_log, from_frame), (from_log, from_frame)
    assert list(log.levels()) == decoded.levels.tolist() == decoded.frame["rr_level"].to_list()
    assert decoded.rows == log.rows == decoded.frame.height
    return from_frame


def same_walk(data):
    replay, walk = Replay(data), Walk(data)
    assert walk.events == replay.events
    assert walk.findings == replay.findings
    assert (walk.rows, walk.unverified) == (replay.rows, replay.unverified)
    return walk


# ---- round trips -----------------------------------------------------------------------------------------------------


@given(records, st.integers(1, 40), st.integers(0, 3))
def test_single_records_come_back_as_they_were(rows, repeats, levels):
    entries = [(random.Random(place).randint(0, levels), row) for place, row in enumerate(rows * repeats)]
    expected = [v.decode_record(v.encode_record(row)) for _, row in entries]
    assert units.same(both_ways(entries), expected)


@given(exact_records, st.integers(1, 30))
def test_blocks_of_rows_come_back_as_they_were(rows, repeats):
    entries = [units.block(3, rows), *((1, {"x": 0.5}) for _ in range(repeats)), units.block(2, rows)]
    entries = [entry for entry in entries if not isinstance(entry, bytes) or rows]
    expected = [*rows, *({"x": 0.5} for _ in range(repeats)), *rows]
    found = both_ways(entries)
    plain = [decode_exact(encode_exact(row)) for row in expected]
    assert units.same(found, plain)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300), uniform), max_size=6),
    st.sampled_from([256, 4096, u.BLOCK]),
)
def test_stretches_chases_and_blocks_in_any_mixture(parts, block):
    entries = []
    for level, count, rows in parts:
        entries += [(level, {"x": float(n), "index": n}) for n in range(count)]
        entries += [(level, row) for row in rows]
        entries.append(units.event(u.LEVEL, b"level"))
        entries.append(units.block(level, index=range(count + 1), loss=0.5))
    data = units.build(entries, units.header(block=block))
    walk, log = same_walk(data), LogSource(data)
    assert walk.levels().tolist() == list(log.levels())
    assert units.same(frame_records(Decoded(data).frame), log.records())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("headline", lambda n: (1, {"x": n / 3, "y": -0.0})),
        ("growing index", lambda n: (1, {"index": n, "loss": n / 7})),
        ("alternating levels", lambda n: (n % 2, {"index": n, "loss": n / 7})),
        ("runs of ten", lambda n: (n // 10, {"index": n % 10, "loss": n / 7})),
        ("int widths", lambda n: (1, {"a": (n * 7919) % 70_000 - 300, "b": (n * 31) % 5 == 0})),
        ("missing keys", lambda n: (1, {key: n / 2 for place, key in enumerate("abc") if (n >> place) & 3})),
        ("texts", lambda n: (1, {"split": "train" if n % 3 else "test", "name": f"n{n}", "none": None})),
        ("many keys", lambda n: (1, {f"key{place}": n / (place + 1) for place in range(40)})),
        ("int and float", lambda n: (1, {"x": n if n % 5 == 0 else n / 2})),
        ("containers", lambda n: (1, {"d": {"a": n}, "l": [n / 2, None], "m": [n, [n]]})),
        ("late u64", lambda n: (1, {"x": n if n < 4_000 else 2**64 - n})),
        ("late negative beside u64", lambda n: (1, {"x": 2**63 + n if n < 4_000 else -n})),
        ("bools late ints", lambda n: (1, {"x": n % 2 == 0 if n < 4_000 else n})),
    ],
)
def test_shapes_of_recordings(name, make):
    entries = [make(n) for n in range(6_000)]
    assert units.same(both_ways(entries), [row for _, row in entries])
    same_walk(units.build(entries))


@given(st.lists(st.one_of(naive, times, spans, st.dates(), texts), min_size=1, max_size=20), texts)
def test_noted_times_are_revived(values, other):
    first = values[0]
    entries = [units.note(1, {"t": first}), *((1, {"t": value, "u": other}) for value in values), (2, {"t": other})]
    kind = v.type_note({"t": first}).get("t")
    stored = [v.decode_record(v.encode_record({"t": value}))["t"] for value in values]
    expected = [{"t": v.revive(value, kind) if kind else value, "u": other} for value in stored] + [{"t": other}]
    assert units.same(both_ways(entries), expected)
    assert units.same(expected[0]["t"], first)


def test_a_stretch_of_equal_noted_texts_is_revived():
    day = dt.date(2020, 2, 29)
    entries = [
        units.note(1, {"t": day}),
        *((1, {"t": day}) for _ in range(500)),
        *((2, {"t": "2020-02-29"}) for _ in range(500)),
    ]
    assert both_ways(entries) == [{"t": day}] * 500 + [{"t": "2020-02-29"}] * 500


# ---- what the columns are --------------------------------------------------------------------------------------------


def dtypes(rows):
    frame = unit_frame(units.build([units.block(0, rows)]))
    return dict(zip(frame.columns, frame.dtypes, strict=True))


@pytest.mark.parametrize(
    ("values", "dtype", "companion"),
    [
        ([True, False], pl.Boolean, False),
        ([1, -2], pl.Int64, False),
        ([2**63 - 1, -(2**63)], pl.Int64, False),
        ([1, 2**63], pl.UInt64, False),
        ([-1, 2**63], pl.String, True),
        ([1.5, math.nan], pl.Float64, False),
        ([1, 1.5], pl.Float64, True),
        ([2**53, 1.5], pl.String, True),
        ([True, 1], pl.String, True),
        (["a", ""], pl.String, False),
        (["a", 1], pl.String, True),
        ([b"a", b""], pl.Binary, False),
        ([dt.date(1, 1, 1), dt.date.max], pl.Date, False),
        ([dt.time.min, dt.time.max], pl.Time, False),
        ([dt.datetime.min, dt.datetime.max], pl.Datetime("us"), False),
        ([dt.datetime.min.replace(tzinfo=dt.UTC)], pl.Datetime("us", "UTC"), False),
        ([dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))], pl.String, True),
        ([dt.timedelta(days=-1), dt.timedelta(days=100_000_000)], pl.Duration("us"), False),
        ([dt.timedelta.max], pl.String, True),
        ([[1.5], [], [None, 2.5]], pl.List(pl.Float64), False),
        ([[1], [2.5]], pl.List(pl.Float64), True),
        ([[1, -1]], pl.List(pl.Int64), False),
        ([[2**64 - 1]], pl.String, True),
        ([["a"], []], pl.List(pl.String), False),
        ([[dt.date(2020, 1, 1)]], pl.List(pl.Date), False),
        ([[], []], pl.List(pl.Null), False),
        ([[1, "a"]], pl.String, True),
        ([[[1.0]]], pl.String, True),
        ([{"a": 1}], pl.String, True),
        ([(1.0, 2.0)], pl.String, True),
        ([None], pl.Null, True),
        ([1.5, None], pl.Float64, True),
    ],
)
def test_the_narrowest_exact_type(values, dtype, companion):
    rows = [{"x": value} for value in values]
    found = dtypes(rows)
    assert found["x"] == dtype
    assert ("rr_exact:x" in found) == companion
    assert units.same(both_ways([units.block(0, rows)]), rows)


def test_missing_none_and_nan_are_told_apart():
    rows = [{"x": 1.0}, {}, {"x": None}, {"x": math.nan}]
    frame = unit_frame(units.build([(0, row) for row in rows]))
    assert frame["x"].is_null().to_list() == [False, True, True, False]
    assert frame["rr_exact:x"].to_list() == [None, None, b"\xc0", None]
    assert units.same(frame_records(frame), rows)


def test_text_forms():
    rows = [{"x": value} for value in ["plain", 1, 1.5, True, None, {"a": [1, b"x"]}, dt.date(2020, 1, 1), math.nan]]
    frame = unit_frame(units.build([units.block(0, rows)]))
    assert frame["x"].to_list() == ["plain", "1", "1.5", "true", None, '{"a":[1,"eA=="]}', "2020-01-01", "NaN"]


def test_columns_stand_in_order_of_first_appearance():
    entries = [(0, {"b": 1.0, "a": "x"}), units.block(0, c=[1], a=[2]), *((0, {"d": n, "b": 0.5}) for n in range(100))]
    assert unit_frame(units.build(entries)).columns == ["rr_level", "b", "a", "c", "d", "rr_exact:a"]


@given(texts)
def test_no_key_is_taken_for_a_column_of_ours(key):
    for name in (key, "rr_" + key, "rr_key:" + key, "rr_exact:" + key, ""):
        column = column_name(name)
        assert column_key(column) == name
        assert column
        assert not column.startswith(("rr_level", "rr_exact:"))


def test_ten_thousand_columns():
    rows = [{f"key{n}": n / 2 for n in range(10_000)} for _ in range(3)]
    assert both_ways([(1, row) for row in rows]) == rows


def test_an_empty_unit_and_empty_records():
    assert both_ways([]) == []
    assert both_ways([(1, {})] * 100) == [{}] * 100
    assert unit_frame(units.build([])).columns == ["rr_level"]


def test_slices():
    rows = [{"x": n} if n % 3 else {"y": None} for n in range(100)]
    data = units.build(
        [(0, row) for row in rows[:50]] + [units.block(0, rows[50:60])] + [(0, row) for row in rows[60:]]
    )
    frame, log = unit_frame(data), LogSource(data)
    for start, stop in [(0, 0), (0, 5), (48, 52), (55, 57), (58, 100), (99, 200), (60, 60)]:
        assert frame_records(frame, start, stop) == log.records(start, stop) == rows[start:stop]


# ---- damage ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans())
def test_walk_and_replay_find_the_same_in_damaged_units(seed, flips, sealed):
    chance = random.Random(seed)
    entries = [(n % 3 // 2, {"x": n / 2, "index": n}) for n in range(400)]
    entries[50:50] = [units.event(u.LEVEL, b"level"), units.block(1, a=[1, 2, 3]), units.block(1, [{"b": 1}])]
    data = bytearray(units.build(entries, units.header(block=2048), sealed=sealed))
    for _ in range(flips):
        data[chance.randrange(u.PAGE, len(data))] = chance.randrange(256)
    cut = chance.randrange(u.PAGE, len(data)) if chance.random() < 0.3 else len(data)
    data = bytes(data[:cut])
    walk = same_walk(data)
    decoded, log = Decoded(data), LogSource(data)
    assert walk.levels().tolist() == list(log.levels())
    assert units.same(frame_records(decoded.frame), log.records())


def test_records_that_cannot_be_decoded_are_found_and_leave_their_place():
    good = [(1, {"x": n / 2}) for n in range(5)]
    entries = [*good, (1, b"\xc1\xc1\xc1"), (1, b"\x93\x01\x02\x03"), *good]
    data = units.build(entries)
    log, decoded = LogSource(data), Decoded(data)
    expected = [row for _, row in good] + [{}, {}] + [row for _, row in good]
    assert log.records() == frame_records(decoded.frame) == expected
    assert len(log.findings) == len(decoded.findings) == 2
    assert all("cannot be decoded" in finding.sentence for finding in log.findings)


def test_damaged_blocks_are_found():
    for kind in (u.ROWS, u.COLUMNS):
        entry = u.pack_entry(kind, u.BLOCK_PREFIX.pack(1, 2) + b"\x91\xc1")
        data = units.build([(1, {"x": 1.0}), entry])
        log, decoded = LogSource(data), Decoded(data)
        assert log.records() == frame_records(decoded.frame) == [{"x": 1.0}, {}, {}]
        assert len(log.findings) == len(decoded.findings) == 1


def test_float_bits_survive():
    bits = [0x7FF8000000000001, 0x7FF0000000000001, 0xFFF8000000000000, 0x8000000000000000, 1]
    numbers = np.array(bits, "u8").view("f8").tolist()
    found = both_ways([(1, {"x": number}) for number in numbers * 30])
    assert [np.float64(row["x"]).view("u8") for row in found] == bits * 30
