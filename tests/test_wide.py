"""Records of very many distinct keys: their log stays a log and is read row by row, since columns would be nearly all empty."""

import numpy as np
import polars as pl
import pytest
import units
from hypothesis import given
from programs import run, wait_until_sealed
from strategies import exact_records, records

from rigorous_recorder.store import columns, gather
from rigorous_recorder.store.background import background
from rigorous_recorder.store.columns import EXACT, Decoded
from rigorous_recorder.store.gather import TooWideError
from rigorous_recorder.store.logsource import LARGE, LogSource
from rigorous_recorder.store.pack import seal_or_why
from rigorous_recorder.store.packsource import PackSource
from rigorous_recorder.store.rows import frame_records


@pytest.fixture
def narrow(monkeypatch):
    """A unit of more than 1,000 cells is wide."""
    monkeypatch.setattr(gather, "MOST_CELLS", 1_000)
    monkeypatch.setattr(gather, "PER_VALUE", 0)


RECORDED = """
import sys
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store.background import background
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
with collection.new_experiment() as experiment:
    keeper = experiment.sub_record_keeper(model="m")
    for i in range(60_000):
        keeper.add_record({f"metric/{i}": float(i)})
    keeper.add_records([{f"more/{i}": i} for i in range(20_000)])
assert background.helper.wait(background.helper.pending, 60)
assert background.helper.kept
assert all(why.startswith("too wide") for why in background.helper.kept.values()), background.helper.kept
"""
PEAK = """
def peak():
    with open("/proc/self/status") as file:  # getrusage counts what the parent had before the program began
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM"))
"""
READ = """
import sys
from pathlib import Path
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
for read in (collection, collection.under(model="m"), collection.keeper(model="m")):
    for i, each in enumerate(read.records):
        assert each[f"metric/{i}" if i < 60_000 else f"more/{i - 60_000}"] == i % 60_000 and each["model"] == "m", each
    assert i == 79_999
    assert read.records[60_001]["more/1"] == 1
    assert next(reversed(read.records))["more/19999"] == 19_999
print(peak())
frame = collection.to_polars(["model", "metric/7", "more/7"])
assert (frame.height, frame["metric/7"].sum(), frame["more/7"].sum()) == (80_000, 7, 7)
print(peak())
"""
SEALED = """
import sys
from pathlib import Path
from rigorous_recorder.store.pack import seal_or_why
logs = [path for path in Path(sys.argv[1]).rglob("*.log") if path.stat().st_size > 1 << 20]
assert logs
assert all(seal_or_why(str(path)) == (None, "too wide: a table of its keys would be nearly all empty") for path in logs)
print(peak())
"""


def test_sixty_thousand_keys_are_read_and_left_alone_in_little_memory(tmp_path, journal):
    """In MiB, where columns of all keys would take 30,000."""
    run(RECORDED, tmp_path / "study", journal)
    reading, framing = map(int, run(PEAK + READ, tmp_path / "study").split())
    assert reading < 500, "115 when this was written"
    assert framing < 1_500, "300 when this was written"
    assert int(run(PEAK + SEALED, tmp_path / "study")) < 500, "130 when this was written"


@pytest.mark.parametrize(
    ("entries", "rows"),
    [
        ([units.block(1, {f"column{n}": np.arange(2_000) / (n + 1) for n in range(3_000)})], 2_000),
        ([(1, {f"k{n % 90}": n}) for n in range(350_000)], 350_000),
        ([units.block(1, {"x": np.arange(1_000_000), **{f"k{n}": n for n in range(40)}})], 1_000_000),
    ],
    ids=["3,000 columns", "90 keys in turn", "40 values for all rows"],
)
def test_what_is_merely_broad_is_sealed(tmp_path, entries, rows):
    pack, why = seal_or_why(units.write(tmp_path, entries))
    assert (pack is not None, why) == (True, "")
    assert PackSource(pack).rows == rows


def test_why_a_log_stays(tmp_path, narrow):
    entries = [(0, {f"k{n}": n}) for n in range(40)]
    path = units.write(tmp_path, entries)
    before = (tmp_path / path).read_bytes()
    assert seal_or_why(path) == (None, "too wide: a table of its keys would be nearly all empty")
    assert (tmp_path / path).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    assert seal_or_why(units.write(tmp_path, [(0, {"x": 1})], sealed=False)) == (None, "damaged or not verified")
    assert seal_or_why(units.write(tmp_path, [(0, {"x": n}) for n in range(1_000)]))[1] == ""


def test_a_wide_unit_is_given_up_as_soon_as_it_is_seen(narrow):
    data = units.build([(0, {f"k{n}": n}) for n in range(40)])
    assert Decoded(data).wide
    with pytest.raises(TooWideError):
        Decoded(data, refuse_wide=True)
    assert not Decoded(units.build([(0, {f"k{n}": n}) for n in range(20)]), refuse_wide=True).wide


@given(records, exact_records)
def test_some_columns_of_a_wide_unit_are_those_of_the_whole_frame(rows, block):
    entries = [*((place % 3, row) for place, row in enumerate(rows)), *([units.block(1, block)] if block else [])]
    decoded = Decoded(units.build(entries))
    frame = decoded.frame
    wide = Decoded(units.build(entries))
    wide.wide = True
    assert wide.schema() == dict(frame.schema)
    assert list(wide.schema()) == frame.columns
    assert "frame" not in vars(wide), "nothing was made that is as long as all rows"
    for names in (frame.columns, frame.columns[::-2], frame.columns[:1], frame.columns[-1:]):
        assert wide.select(names).equals(frame.select(names), null_equal=True)


@given(records)
def test_records_of_a_sparse_frame_are_those_of_the_log(rows):
    """Between many rows that lack all keys, so that most cells are empty."""
    entries = [(0, row) for row in rows for row in (row, {}, {}, {"other": None})]
    log, frame = LogSource(units.build(entries)), Decoded(units.build(entries)).frame
    assert units.same(frame_records(frame), log.records())
    order = [name for name in frame.columns if not name.startswith(EXACT)]
    keys = [columns.column_key(name) for name in order]
    assert all(list(each) == [key for key in keys if key in each] for each in frame_records(frame))


def test_what_is_read_of_a_wide_collection_is_what_is_read_of_another(collection, monkeypatch):
    rows = [{f"k{n % 90}": n if n % 3 else n / 2, "n": n, "t": None if n % 5 else "x"} for n in range(6_000)]
    pad = "x" * (2 * LARGE // len(rows))
    with collection.new_experiment(lr=0.1) as experiment:
        keepers = [experiment.sub_record_keeper(model=model, k3="inherited") for model in "ab"]
        for n, row in enumerate(rows):
            keepers[n % 2].add_record(row, pad=pad)
        keepers[0].add_records(rows)
        seen = []
        for most, per_value in ((1_000, 0), (gather.MOST_CELLS, gather.PER_VALUE)):
            monkeypatch.setattr(gather, "MOST_CELLS", most)
            monkeypatch.setattr(gather, "PER_VALUE", per_value)
            scanned = collection.scan().filter(pl.col("model") == "a", pl.col("k7") > 3).select("n", "k3", "k7", "t")
            seen.append(
                (
                    list(collection),
                    [collection.records[n] for n in (0, 5, 5_999, 6_000, -1)],
                    list(collection.under(model="b").records[100:5_000:7]),
                    collection.to_polars(),
                    collection.under(model="a").to_polars(["n", "k3", "k89", "t"]),
                    scanned.collect(),
                )
            )
    assert seen[0][:3] == seen[1][:3]
    assert len(seen[0][0]) == 12_000
    for wide, other in zip(seen[0][3:], seen[1][3:], strict=True):
        assert wide.schema == other.schema
        assert wide.drop("pad", strict=False).equals(other.drop("pad", strict=False), null_equal=True)


def test_the_helper_says_that_a_unit_is_too_wide_and_everything_can_be_read(collection):
    with collection.new_experiment() as experiment:
        experiment.add_records([{f"key/{n}": float(n)} for n in range(60_000)])
    wait_until_sealed()
    assert any(why.startswith("too wide") for path, why in background.helper.kept.items() if collection.path in path)
    assert sum(each[f"key/{n}"] for n, each in enumerate(collection)) == sum(range(60_000))
