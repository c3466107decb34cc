"""What the fuzzer found, each with the least that shows it: bombs, lies, and values that no writer stores."""

import base64
import contextlib
import io
import json
import os
import zlib
from decimal import Decimal
from pathlib import Path

import children
import msgspec
import polars as pl
import pytest
import units

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderError
from rigorous_recorder import values as v
from rigorous_recorder.errors import FormatError, InvalidCallError
from rigorous_recorder.exact import encode_exact
from rigorous_recorder.frames.available import available
from rigorous_recorder.levels import unpack_edit, unpack_level
from rigorous_recorder.store import blocks, layout, packmeta
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.blocks import encode_block
from rigorous_recorder.store.columns import Decoded
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.packmeta import PackMeta, pack_meta
from rigorous_recorder.store.packread import read_frames
from rigorous_recorder.store.scans import Wanted
from rigorous_recorder.store.text import DEEPEST, text_form

ATTEMPT = "c" * 32
WRITER = "a" * 32
HEAD = units.header(writer=WRITER, attempt=ATTEMPT)
BEGIN = units.event(u.BEGIN, encode_exact([1, 0, 1.5, {"lr": 0.1}, 1]))
LEVEL = units.event(u.LEVEL, encode_exact([1, None, 1, None, {"model": "m"}, None]))


@pytest.fixture
def folder(tmp_path):
    """The folder of the one attempt of a collection at `tmp_path / "study"`."""
    folder = tmp_path / "study" / "000001.1" / ATTEMPT
    folder.mkdir(parents=True)
    return folder


def write_pack(folder, frame, *, rows=None, events=(), n=1, text=None, log_size=1 << 31):
    """A pack whose checksums and name match, of any frame."""
    rows = frame.height if rows is None else rows
    head = msgspec.structs.replace(HEAD, n=n)
    text = pack_meta(PackMeta(head, list(events), rows, log_size, 7, 2.0)) if text is None else text
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=19, statistics=False, row_group_size=1 << 30,
                        metadata={packmeta.KEY: text})  # fmt: skip
    content = buffer.getbuffer()
    packmeta.stamp(content)
    path = folder / layout.pack_name(WRITER, n, rows, len(content), zlib.crc32(content))
    path.write_bytes(content)
    return path


def good_log(folder, n=2):
    """A log of five records beside what is hostile: they are read whatever that is."""
    head = msgspec.structs.replace(HEAD, n=n)
    units.write(folder, [BEGIN, LEVEL, *((1, {"i": i}) for i in range(5))], head)


READ = """
import resource, sys, warnings
import numpy, pandas, polars
from rigorous_recorder import ExperimentCollection, RecorderError
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
collection = ExperimentCollection(sys.argv[1])
def rows():
    for count, _ in enumerate(collection.records):
        if count > 20_000:
            break
ways = [lambda: len(collection), lambda: collection.records[0], lambda: repr(collection.records), rows, collection.verify,
        lambda: collection.experiments.to_polars(), collection.keepers]
for way in (*ways, collection.to_polars) if "frame" in sys.argv else ways:
    try:
        way()
    except RecorderError as error:
        print(error)
with open("/proc/self/status") as status:  # ru_maxrss is that of who started this, if that was more
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) >> 10
assert peak < 1000, f"{peak} MiB"
"""


def read_in_bounds(folder, *arguments, timeout=100):
    """Read a collection in a process that may not take a gigabyte."""
    done = children.run(READ, folder.parents[1], *arguments, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# ---- footers that lie ------------------------------------------------------------------------------------------------


FIVE = pl.DataFrame({"rr_level": pl.Series([1] * 5, dtype=pl.UInt32), "x": [1.0, 2.0, 3.0, 4.0, 5.0]})


def lying(folder, **told):
    """A collection of a pack whose footer tells of its five rows what is not so, and of a log of five records."""
    meta = PackMeta(msgspec.structs.replace(HEAD, n=1), [], 5, 100, 7, 2.0)
    write_pack(folder, FIVE, rows=5, text=pack_meta(msgspec.structs.replace(meta, **told)))
    good_log(folder)
    return ExperimentCollection(folder.parents[1])


@pytest.mark.parametrize("runs", [[1, 4], [1, 6], [1], [1, 5, 2, 0], [1, 5, 2], [-1, 5], [1, 6, 1, -1], [1, 2**64 - 1],
                                  ["1", 5], [1] * 2 * packmeta.MOST_RUNS + [1, 1]])  # fmt: skip
def test_runs_of_other_rows_than_there_are(folder, runs):
    collection = lying(folder, runs=runs)
    with pytest.warns(DamageWarning, match="damaged footer"):
        assert collection.to_polars()["i"].to_list() == [0, 1, 2, 3, 4]
    assert not collection.verify().ok


@pytest.mark.parametrize("columns", [
    [("rr_level", "level"), ("x", "text")], [("rr_level", "level"), ("y", "float")],
    [("rr_level", "level"), ("x", "float"), ("y", "int")], [("rr_level", "int"), ("x", "float")], [("x", "float")],
    [("rr_level", "level"), ("x", "complex")], [("rr_level", "level"), ("x", "list:list:float")], [],
    [("rr_level", "level"), ("x", "float"), ("x", "float")], [("rr_level", "level"), ("rr_exact:x", "bytes")],
])  # fmt: skip
def test_columns_that_are_not_there_or_others(folder, columns):
    for runs in (None, [1, 5]):
        collection = lying(folder, columns=columns, runs=runs)
        with pytest.warns(DamageWarning, match=r"damaged|unable to find|not found"):
            frame = collection.to_polars()
        assert frame["i"].drop_nulls().to_list() == [0, 1, 2, 3, 4]
        assert frame.height == 5


@pytest.mark.parametrize("told", [{"x": pl.String()}, {"x": pl.Int64()}, {"x": pl.List(pl.Float64())}])
@pytest.mark.parametrize("slices", [None, ((1, 2),), ((0, 1), (3, 2))])
@pytest.mark.parametrize("where", [None, pl.lit(value=True)])
def test_columns_of_another_type_than_the_footer_tells_are_damage_in_slices_too(folder, told, slices, where):
    """Of rows with a condition polars is not told the types."""
    path = str(write_pack(folder, FIVE))
    with pytest.raises(FormatError, match="damaged"):
        read_frames([Wanted(path, told, 5, where, slices=slices)])
    (frame,) = read_frames([Wanted(path, {"x": pl.Float64()}, 5, where, slices=slices)])
    assert frame["x"].to_list() == [
        float(1 + row) for start, count in slices or [(0, 5)] for row in range(start, start + count)
    ]


def test_verify_compares_the_runs_that_a_footer_tells_with_the_rows(folder):
    (finding,) = [one for one in lying(folder, runs=[1, 4, 2, 1]).verify().findings if "other levels" in one.sentence]
    assert (finding.kind, finding.records, finding.file.endswith(".parquet")) == ("suspect", 5, True)
    assert not [one for one in lying(folder, runs=[1, 5]).verify().findings if "other levels" in one.sentence]


@pytest.mark.parametrize("name", ["^x$", "^a$", "^$", "*"])
@pytest.mark.parametrize("dtype", [pl.Int64(), pl.List(pl.Date())])
def test_a_column_whose_name_no_writer_gives_is_damage(folder, name, dtype):
    """Such a name is a pattern for polars."""
    write_pack(folder, pl.DataFrame([FIVE.get_column("rr_level"), pl.Series(name, [None] * 5, dtype=dtype)]))
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match="its column"):
        frame = collection.to_polars()
    assert frame.height == 0
    assert not collection.verify().ok
    with pytest.warns(DamageWarning, match="its column"):
        assert list(collection.records) == []


# ---- bombs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [u.ROWS, u.COLUMNS])
def test_a_block_of_few_bytes_that_claims_billions_of_rows(folder, kind):
    lie = units.event(kind, u.BLOCK_PREFIX.pack(1, 2**32 - 1) + b"\x90")
    units.write(folder, [BEGIN, LEVEL, (1, {"i": 1}), *[lie] * 1000, (1, {"i": 2})], HEAD)
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match="more rows than bytes"):
        assert [record["i"] for record in collection.records] == [1, 2]
    with pytest.warns(DamageWarning):
        assert collection.to_polars()["i"].to_list() == [1, 2]
    assert sum("more rows than bytes" in one.sentence for one in collection.verify().findings) == 1000


def stored(name, code, data, missing=b""):
    return [name, code, data, missing]


@pytest.mark.parametrize(
    ("rows", "columns", "value"),
    [(400_000, 100_000, 1), (300_000, 1, [1] * 20_000), (1_000_000, 1, {"a": "x" * 900_000})],
    ids=["many columns", "a long list", "a long dict"],
)
def test_a_block_that_repeats_what_it_has_once(folder, rows, columns, value):
    body = v.encode_record([stored(f"c{n}", "value", encode_exact(value)) for n in range(columns)])
    body += b"\0" * max(0, rows - len(body)) if columns > 1 else b""
    if len(body) < rows:
        body = v.encode_record([stored("c0", "value", encode_exact(value)), stored("b", "?", bytes(rows))])
    units.write(folder, [BEGIN, LEVEL, units.event(u.COLUMNS, u.BLOCK_PREFIX.pack(1, rows) + body)], HEAD)
    good_log(folder)
    read_in_bounds(folder, "frame")


def test_a_long_text_that_all_rows_of_a_block_share(folder):
    body = v.encode_record([stored("c0", "value", encode_exact("x" * 2_000_000))])
    units.write(folder, [BEGIN, LEVEL, units.event(u.COLUMNS, u.BLOCK_PREFIX.pack(1, 1_500_000) + body)], HEAD)
    read_in_bounds(folder, "frame")


def test_a_pack_of_a_hundred_kilobytes_with_forty_million_rows(folder):
    frame = pl.select(pl.repeat(1, 40_000_000, dtype=pl.UInt32).alias("rr_level"), x=pl.repeat(0.0, 40_000_000))
    path = write_pack(folder, frame)
    assert path.stat().st_size < 200_000
    del frame
    assert "NOT" not in read_in_bounds(folder)


MANY = 300_000_000
FRAME = """
import resource, sys, warnings
import numpy, pandas, polars
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import TooLargeError
collection = ExperimentCollection(sys.argv[1])
other = ExperimentCollection(sys.argv[2])
warnings.simplefilter("ignore")
assert other.to_pandas().shape == other.to_polars().shape  # all libraries and threads are there
assert other.scan().collect().height == 5
limit = int(sys.argv[3]) << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for way in (collection.to_polars, collection.to_pandas, lambda: collection.to_parquet(sys.argv[1] + ".parquet"),
            lambda: collection.under(model="m").to_polars(), lambda: collection.to_polars(["x"])):
    try:
        print(way())
    except (TooLargeError, polars.exceptions.ComputeError) as error:
        print(str(error).partition("TooLargeError: ")[2] or error)  # until polars 2 what a source raises is named in another
assert len(collection) == int(sys.argv[4])
assert collection.records[-1]["x"] == 0.0
assert [each["x"] for each in collection.records[:3]] == [0.0] * 3
assert other.to_polars().height == 5, "the next one fits"
with open("/proc/self/status") as status:
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) >> 10
assert peak < 700, f"{peak} MiB"
"""


def write_many(folder, rows, log_size):
    """A pack of many rows of equal values, made some at a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    level = (u.LEVEL, encode_exact([1, None, 1, None, {"model": "m"}, None]), 0)
    text = pack_meta(PackMeta(HEAD, [level], rows, log_size, 7))
    schema = pa.schema([("rr_level", pa.uint32()), ("x", pa.float64())], metadata={packmeta.KEY: text})
    buffer, step = io.BytesIO(), min(rows, 10_000_000)
    with pq.ParquetWriter(buffer, schema, compression="zstd", data_page_size=1 << 28, write_statistics=False) as writer:
        table = pa.table([pa.array(np.ones(step, "u4")), pa.array(np.zeros(step))], schema=schema)
        for _ in range(rows // step):
            writer.write_table(table, row_group_size=step)
    content = buffer.getbuffer()
    packmeta.stamp(content)
    path = folder / layout.pack_name(WRITER, 1, rows, len(content), zlib.crc32(content))
    path.write_bytes(content)
    return path


def test_a_frame_of_three_hundred_million_rows_in_a_megabyte(folder, tmp_path):
    """Nobody can tell it from an honest one; it is refused where it cannot be had, before a byte of it is read."""
    if (available() or 1 << 40) < 4 << 30:
        pytest.skip("it takes 4 GB of memory, so that the limit is what it meets")
    path = write_many(folder, MANY, 1 << 31)
    assert path.stat().st_size < 1_500_000
    other = tmp_path / "other" / "000001.1" / ATTEMPT
    other.mkdir(parents=True)
    good_log(other)
    done = children.run(FRAME, folder.parents[1], tmp_path / "other", 3000, MANY, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    says = "300,000,000 records would take 3.60 GB at least in a frame, and this process can have 3.15 GB. Hint: "
    assert len(lines) == 5
    assert all(line.startswith(says) for line in lines), lines


def test_a_pack_that_claims_more_rows_than_its_log_had_bytes(folder):
    """Of itself it says that it is a lie: a record takes a byte at least, and so does a row of a block."""
    write_many(folder, 2_000_000, 1_999_999)
    good_log(folder)
    collection = ExperimentCollection(folder.parents[1])
    says = "has a damaged footer, or was written by another program"
    with pytest.warns(DamageWarning, match=says):
        assert [record["i"] for record in collection.records] == list(range(5))
    with pytest.warns(DamageWarning, match=says):
        assert collection.to_polars().height == 5
    assert any(says in one.sentence for one in collection.verify().findings if one.kind == "lost")


def test_packs_that_lie_of_their_rows_cost_others_nothing(folder):
    """One has fewer rows than it says, another as many more: what lies between them is not shifted."""
    level = pl.Series("rr_level", [1] * 12, dtype=pl.UInt32)
    frames = [pl.DataFrame({"rr_level": level[:rows], "x": [100 * n + row for row in range(rows)]})
              for n, rows in enumerate((8, 10, 12), 1)]  # fmt: skip
    for n, frame in enumerate(frames, 1):
        write_pack(folder, frame, rows=10, n=n)
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match="claims 10 rows, which are not there"):
        assert collection.to_polars()["x"].to_list() == [*range(200, 210)]
    with pytest.warns(DamageWarning, match="claims 10 rows, which are not there"):
        assert [record["x"] for record in collection.records] == [*range(200, 210)]


def test_a_footer_that_inflates_to_more_than_it_may(folder):
    size = 2 * packmeta._MOST
    deflated = zlib.compressobj(1)
    packed = b"".join([*(deflated.compress(bytes(1 << 20)) for _ in range(size >> 20)), deflated.flush()])
    write_pack(folder, pl.DataFrame({"rr_level": pl.Series([1], dtype=pl.UInt32)}),
               text=f"RRPACK1 {'0' * 8} {base64.b64encode(packed).decode()}")  # fmt: skip
    assert len(packed) < 3_000_000
    good_log(folder)
    read_in_bounds(folder, "frame")


def test_a_footer_that_claims_millions_of_events(folder):
    text = v.encode_record([msgspec.to_builtins(HEAD), [[u.LEVEL, b"", 0]] * (packmeta.MOST_EVENTS + 1), 1, 1, 1, 1.5])
    text = f"RRPACK1 {'0' * 8} {base64.b64encode(zlib.compress(text)).decode()}"
    path = write_pack(folder, pl.DataFrame({"rr_level": pl.Series([1], dtype=pl.UInt32)}), text=text)
    with pytest.raises(FormatError, match="damaged footer"):
        packmeta.load_meta(str(path))


def test_a_format_file_of_brackets(tmp_path):
    (tmp_path / "study").mkdir()
    for text in ("[" * 60_000, "1" * 60_000, '{"a":' * 10_000, "null", json.dumps({"format": "rigorous_recorder"})):
        (tmp_path / "study" / "format").write_text(text)
        with pytest.raises(RecorderError):
            ExperimentCollection(tmp_path / "study")


def test_a_unit_that_claims_to_be_the_billionth(folder):
    """The gap before it is nearly all there is: it is said, and not listed number by number."""
    units.write(folder, [BEGIN, LEVEL, (1, {"i": 1})], msgspec.structs.replace(HEAD, n=10**9 - 1))
    with pytest.warns(DamageWarning, match="lost") as heard:
        assert len(ExperimentCollection(folder.parents[1])) == 1
    assert len(str(heard[0].message)) < 2000
    assert not ExperimentCollection(folder.parents[1]).verify().ok


# ---- writers keep the rules that readers check -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 30, 1000, 100_000])
@pytest.mark.parametrize(
    "scalars",
    [{}, {"lr": 0.1}, {"lr": 0.1, "model": "m" * 100, "tags": {"a": ["b"] * 50}}],
    ids=["none", "one", "three"],
)
def test_a_block_of_scalars_alone_is_read_as_it_was_added(tmp_path, count, scalars):
    pandas = pytest.importorskip("pandas")
    with ExperimentCollection(tmp_path / "study").new_experiment() as experiment:
        experiment.add_records(pandas.DataFrame(index=range(count)), **scalars)
    collection = ExperimentCollection(tmp_path / "study")
    records = list(collection.records)
    assert len(records) == count
    assert all({key: record[key] for key in scalars} == scalars for record in (records[0], records[-1]))
    assert collection.verify().ok


def test_no_block_that_is_encoded_has_more_rows_than_bytes_nor_weighs_more_than_it_may(monkeypatch):
    import pandas as pd

    monkeypatch.setattr(blocks, "MOST_WEIGHT", 1 << 10)
    for count in (1, 10, 300, 5000):
        for scalars in (
            {},
            {"a": 1},
            {f"k{n}": n for n in range(50)},
            {"a": {"c": [1] * 99}},
            {"a": {"b": "x" * 99}, "c": 1},
        ):
            kind, rows, body = encode_block(pd.DataFrame(index=range(count)), scalars)
            assert (rows, rows <= len(body)) == (count, True)
            data = units.build([units.event(kind, u.BLOCK_PREFIX.pack(1, rows) + body)])
            source = LogSource(data)
            assert source.records() == [scalars] * count
            assert source.records(count // 2, count // 2 + 1) == [scalars]
            assert source.findings == []


def test_what_cannot_be_stored_value_by_value_is_refused():
    import pandas as pd

    with pytest.raises(InvalidCallError, match="several calls"):
        encode_block(pd.DataFrame(index=range(3_000_000)), {"config": {"text": "x" * 5_000}})


# ---- values that no writer stores ------------------------------------------------------------------------------------

DEEP = b"\x91" * 200 + b"\xc0"


@pytest.mark.parametrize(
    "fields",
    [
        [float("inf"), None, 1, None, {}, None], [float("nan"), None, 1, None, {}, None], [2**32, None, 1, None, {}, None],
        [-1, None, 1, None, {}, None], [1, None, float("inf"), None, {}, None], [1, None, 1, 2**40, {}, None],
        [1, None, 1, None, {}, {"x": [float("inf"), 1, "a", 1]}], [1, None, 1, None, {}, {"x": [1]}],
        [1, None, 1, None, {}, {"x": [1, {}, "a", 1]}], [1, None, 1, None, {}, 7], 7, [], None,
    ],
)  # fmt: skip
def test_level_entries_of_wrong_fields(fields):
    with pytest.raises(ValueError, match=r"not a|cannot|convert|unpack|integer|where a"):
        unpack_level(v.encode_record(fields), WRITER)


def test_level_data_that_is_nested_too_deep(folder):
    payload = b"\x96\x01\xc0\x01\xc0\x81\xa1x" + DEEP + b"\xc0"
    with pytest.raises(ValueError, match="cannot have been stored"):
        unpack_level(payload, WRITER)
    with pytest.raises(ValueError, match="cannot have been stored"):
        unpack_edit(b"\x96\x01\x01\xcb\x3f\xf8\0\0\0\0\0\0\x01\x81\xa1x" + DEEP + b"\x90", WRITER)
    begin = b"\x95\x01\x00\xcb\x3f\xf8\0\0\0\0\0\0\x81\xa1x" + DEEP + b"\x01"
    units.write(folder, [units.event(u.BEGIN, begin), LEVEL, (1, {"i": 1})], HEAD)
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match="the begin entry is lost"):
        assert [record["i"] for record in collection.records] == [1]


HUGE = Decimal("1E+999999999")
COUNT = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
print(len(collection), collection.verify().ok)
"""


@pytest.mark.parametrize("event", [
    (u.BEGIN, [HUGE, 0, 1.5, {}, 1]), (u.BEGIN, [1, HUGE, 1.5, {}, 1]), (u.BEGIN, [1, 0, HUGE, {}, 1]),
    (u.BEGIN, [1, 0, 1.5, {}, HUGE]), (u.END, ["finished", HUGE, None, False, 1]), (u.END, ["failed", 2.5, None, False, HUGE]),
    (u.LEVEL, [HUGE, None, 1, None, {}, None]), (u.LEVEL, [2, None, HUGE, None, {}, None]),
    (u.LEVEL, [2, None, 1, HUGE, {}, None]), (u.LEVEL, [2, None, 1, None, {"x": 1}, {"x": [HUGE, 1.5, "a", 1]}]),
    (u.EDIT, [HUGE, 1, 1.5, 1, {}, []]), (u.EDIT, [1, HUGE, 1.5, 1, {}, []]), (u.EDIT, [1, 1, HUGE, 1, {}, []]),
    (u.EDIT, [1, 1, 1.5, HUGE, {}, []]),
], ids=str)  # fmt: skip
def test_a_number_that_would_take_hours_to_write_out(folder, event):
    kind, fields = event
    units.write(folder, [LEVEL, units.event(kind, encode_exact(fields)), BEGIN, (1, {"i": 1})], HEAD)
    done = children.run(COUNT, folder.parents[1], timeout=30)
    assert done.stdout.split() == ["1", "False"], done.stderr
    assert "is lost" in done.stderr


@pytest.mark.parametrize("kind", [u.ROWS, u.COLUMNS])
@pytest.mark.parametrize("depth", [200, 1_000, 100_000])
def test_a_block_that_is_nested_too_deep(folder, kind, depth):
    """Whoever looks at it, deep in the stack or not."""
    body = b"\x91\x81\xa1x" + b"\x91" * depth + b"\xc0"
    units.write(folder, [BEGIN, LEVEL, (1, {"i": 1}), units.event(kind, u.BLOCK_PREFIX.pack(1, 1) + body)], HEAD)
    collection = ExperimentCollection(folder.parents[1])
    readable = (kind, depth) == (u.ROWS, 200)
    assert collection.verify().ok == readable
    assert [record.get("i") for record in collection.records] == [1, None]
    with contextlib.nullcontext() if readable else pytest.warns(DamageWarning, match="cannot be decoded"):
        assert collection.to_polars()["i"].to_list() == [1, None]


@pytest.mark.parametrize("code", ["datetime", "utc", "time", "date"])
@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**62])
def test_times_beyond_what_times_can_be(code, number):
    body = v.encode_record([stored("t", code, number.to_bytes(8, "little", signed=True) + bytes(8))])
    data = units.build([units.event(u.COLUMNS, u.BLOCK_PREFIX.pack(1, 2) + body)])
    for source in (LogSource(data), Decoded(data)):
        if isinstance(source, LogSource):
            assert source.records() == [{}, {}]
        (finding,) = source.findings
        assert (finding.kind, finding.records) == ("suspect", 2)


def test_a_record_nested_deeper_than_json_goes(folder):
    deep = None
    for _ in range(2_000):
        deep = [deep]
    assert text_form(deep) == "[" * (DEEPEST + 1) + '"…"' + "]" * (DEEPEST + 1)
    deepest = b"\x81\xa1x" + b"\x91" * 900 + b"\xc0"
    units.write(folder, [BEGIN, LEVEL, (1, deepest), (1, {"x": 1})], HEAD)
    first, second = ExperimentCollection(folder.parents[1]).to_polars()["x"].to_list()
    assert (first[:65], second) == ("[" * 65, "1")
    assert text_form({1: [2, {3: (4,)}]}) == '{"1":[2,{"3":[4]}]}'


# ---- packs that are none ---------------------------------------------------------------------------------------------

LEVELS = pl.Series("rr_level", [1] * 3, dtype=pl.UInt32)
WRONG = {
    "no levels": [pl.Series("x", [1, 2, 3])],
    "levels of text": [pl.Series("rr_level", ["1", "1", "1"])],
    "levels missing": [pl.Series("rr_level", [None, 1, 1], dtype=pl.UInt32)],
    "a struct": [LEVELS, pl.Series("x", [{"a": 1}] * 3)],
    "a decimal": [LEVELS, pl.Series("x", ["1.5"] * 3).cast(pl.Decimal(10, 2))],
    "a category": [LEVELS, pl.Series("x", ["a"] * 3, dtype=pl.Categorical)],
    "lists of lists": [LEVELS, pl.Series("x", [[[1]]] * 3)],
    "nanoseconds": [LEVELS, pl.Series("x", [1] * 3).cast(pl.Datetime("ns"))],
    "a year 300000": [LEVELS, pl.Series("x", [2**62] * 3).cast(pl.Datetime("us"))],
    "a day beyond days": [LEVELS, pl.Series("x", [2**31 - 1] * 3, dtype=pl.Int32).cast(pl.Date)],
    "a name of ours": [LEVELS, pl.Series("rr_other", [1] * 3)],
    "a companion of nothing": [LEVELS, pl.Series("rr_exact:x", [b"\x01"] * 3)],
    "a companion of text": [LEVELS, pl.Series("x", [1] * 3), pl.Series("rr_exact:x", ["a"] * 3)],
    "a companion that cannot be decoded": [LEVELS, pl.Series("x", ["a"] * 3), pl.Series("rr_exact:x", [b"\xc1"] * 3)],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_pack_whose_columns_no_writer_makes(folder, what):
    """It is refused with one sentence, and the records of the other unit are read."""
    path = write_pack(folder, pl.DataFrame(WRONG[what]))
    good_log(folder)
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match=path.name) as heard:
        assert [record["i"] for record in collection.records if "i" in record] == list(range(5))
    assert len(heard) == 1
    assert "records of it are left out" in str(heard[0].message)
    with pytest.warns(DamageWarning, match=path.name) if what != "a companion that cannot be decoded" else _either():
        assert collection.to_polars()["i"].drop_nulls().to_list() == list(range(5))
    with pytest.raises(FormatError, match=path.name):
        collection.records[0]
    assert path.name in {one.file.rpartition("/")[2] for one in collection.verify().findings if one.fails}


class _either:  # noqa: N801
    """A frame of text needs no companion, unless it is widened."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_a_pack_with_other_rows_than_it_says(folder):
    path = write_pack(folder, pl.DataFrame([LEVELS, pl.Series("x", [1, 2, 3])]), rows=5)
    good_log(folder)
    collection = ExperimentCollection(folder.parents[1])
    with pytest.warns(DamageWarning, match="claims 5 rows, which are not there"):
        assert [record["i"] for record in collection.records] == list(range(5))
    with pytest.warns(DamageWarning, match=path.name):
        assert collection.to_polars()["i"].to_list() == list(range(5))


# ---- no code ---------------------------------------------------------------------------------------------------------


def test_opening_a_collection_runs_no_code(tmp_path):
    """Whatever lies in the folder, and whatever the process's search path is: audit events (PEP 578) show what is run."""
    study = tmp_path / "study"
    with ExperimentCollection(study).new_experiment(lr=0.1) as experiment:
        for i in range(100):
            experiment.add_record(i=i, x=[{"a": i}])
        folder = Path(experiment._session.folder)
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    for place in (study, study / "000001.1", folder):
        for name in ("sitecustomize.py", "usercustomize.py", "polars.py", "numpy.py", "pandas.py", "msgspec.py", "json.py",
                     "__init__.py", "conftest.py", "x.pth", "pickle", "rigorous_recorder.py"):  # fmt: skip
            (place / name).write_text(trap)
    code = f"""
import random, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fuzzing
from hostile import Dice
fuzzing.warm()
guard = fuzzing.Guard()
for _ in range(3):
    print(*fuzzing.read_all_ways(sys.argv[1], Dice(random.Random(1)), guard), sep="")
"""
    for cwd in (tmp_path, study, folder):
        done = children.run(code, study, cwd=cwd, env={**children.ENVIRONMENT, "PYTHONSAFEPATH": "1"})
        assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
    assert not os.path.exists(tmp_path / "sprung")
