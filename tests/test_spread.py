"""Long stretches of one level: frames in pieces that share memory are the same as by runs, and need no NumPy."""

import itertools
import struct
from pathlib import Path

import children
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rigorous_recorder import DamageWarning
from rigorous_recorder.frames import materialise, part, spread
from rigorous_recorder.session import background
from rigorous_recorder.store import journal, pack, packread, packsource, scans, schema
from rigorous_recorder.store.packmeta import load_described, load_meta


def seal_all(collection):
    for path in Path(collection.path).rglob("*.log"):
        assert pack.seal(str(path)) is not None
    return collection


@pytest.fixture
def study(collection):
    """Levels of 400 rows whose values differ in their type, their bits, or not at all; two of each experiment's packs."""
    zeros = [0.0, -0.0, float("nan"), struct.unpack("d", struct.pack("Q", 0x7FF8000000000001))[0]]
    for number in range(2):
        for half in range(2):
            experiment = collection.resume_experiment(number + 1) if half else collection.new_experiment(lr=0.5)
            for episode in range(2):
                keeper = experiment.sub_record_keeper(
                    episode=2 * half + episode,
                    zero=zeros[2 * half + episode],
                    agent=f"a{episode}",
                    done=bool(episode),
                    blob=b"b",
                )
                keeper.add_records(step=range(400), x=np.linspace(episode, number, 400))
                if episode:
                    keeper.sub_record_keeper(deep="yes").add_record(step=-1)
            experiment.close()
    return collection


def bits(frame):
    return [struct.pack("d", value) for value in frame["zero"].to_list()]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("picked", [{}, {"episode": [1, 2]}, {"deep": "yes"}])
def test_pieces_and_runs_give_the_same_frame(study, monkeypatch, sealed, picked):
    study.experiments[0].update(sizes=[1, 2])
    if sealed:
        monkeypatch.setattr(pack, "CELLS", 1)  # several row groups: pieces end where chunks do
        monkeypatch.setattr(pack, "LEAST_ROWS", 128)
        seal_all(study)
    branch = study.under(**picked) if picked else study
    frames = []
    for long, few in ((1, 1 << 30), (1 << 30, 1 << 30), (1 << 30, 0)):  # in pieces, in pieces put together, by runs
        monkeypatch.setattr(spread, "LONG", long)
        monkeypatch.setattr(spread, "FEW", few)
        frames.append(branch.to_polars())
    assert frames[0].height == sum(1 for _ in branch.records)
    for frame in frames[:2]:
        assert_frame_equal(frame, frames[2])
        assert bits(frame) == bits(frames[2])
        assert frame.rechunk().equals(frames[2].rechunk(), null_equal=True)
    assert [record["step"] for record in branch.records] == frames[0]["step"].to_list()
    assert [record["episode"] for record in branch.records] == frames[0]["episode"].to_list()


def test_what_is_computed_from_pieces_is_right_and_changes_none_of_them(study, monkeypatch):
    monkeypatch.setattr(spread, "LONG", 1)
    monkeypatch.setattr(spread, "FEW", 1 << 30)
    frame = seal_all(study).to_polars()
    before = frame.rows()
    frame = frame.with_columns(
        pl.col("episode") + 1, pl.col("zero").fill_nan(3.0), pl.col("agent").cast(pl.String) + "!"
    )
    assert frame.group_by("episode").len().sort("episode").rows() == [(1, 800), (2, 802), (3, 800), (4, 802)]
    assert frame.sort("episode", "step")["agent"].value_counts(sort=True).rows() == [("a1!", 1604), ("a0!", 1600)]
    monkeypatch.undo()
    assert str(study.to_polars().rows()) == str(before)  # a text, since NaN is not itself


def test_pieces_of_one_value_share_their_memory(study, monkeypatch):
    monkeypatch.setattr(spread, "LONG", 1)
    column = seal_all(study).to_polars()["agent"]
    chunks = column.get_chunks()
    held = [chunk.to_physical().to_numpy(allow_copy=False) for chunk in chunks]  # what is let go of has its place taken
    assert len({values.ctypes.data for values in held}) == 2 < len(chunks)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=9), st.data())
def test_pieces_are_cut_where_chunks_end(pieces, data):
    rows = [row for row, size in pieces for _ in range(size)]
    ends = data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)))) if len(rows) > 1 else set()
    bounds = sorted({0, *ends, len(rows)})
    sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
    cut = list(spread._cut_at([part.Piece(*piece) for piece in pieces], sizes))
    assert [row for row, size in cut for _ in range(size)] == rows
    assert all(size > 0 for _, size in cut)
    assert set(itertools.accumulate(sizes)) <= set(itertools.accumulate(size for _, size in cut))
    assert list(spread._cut_at([part.Piece(*piece) for piece in pieces], [])) == pieces, "without columns of its own"


WITHOUT_NUMPY = """
import sys
import polars as pl
from rigorous_recorder import ExperimentCollection

collection = ExperimentCollection(sys.argv[1])
first = collection.records[0]
mean = collection.scan().filter(pl.col("episode") == 2).select(pl.col("x").mean()).collect().item()
frame = collection.to_polars()
print(first["step"], round(mean, 6), frame.height, "numpy" in sys.modules)
"""


def test_sealed_stretches_are_read_without_numpy(study):
    """Which takes 30 ms to import, as long as the question itself takes."""
    ended = children.run(WITHOUT_NUMPY, seal_all(study).path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["0", "0.25", "3204", "False"]


@pytest.fixture
def schemas_asked(monkeypatch):
    """The paths of the packs of whose columns Parquet is asked."""
    asked = []
    real = pl.read_parquet_schema

    def counting(path):
        asked.append(path)
        return real(path)

    monkeypatch.setattr(pl, "read_parquet_schema", counting)
    monkeypatch.setattr(packread, "_schemas", {})
    return asked


def test_packs_tell_their_columns_and_runs_without_parquet(study, schemas_asked):
    seal_all(study)
    frame = study.under(episode=[1, 2]).to_polars(columns=["step", "episode"])
    assert frame.height == 802 + 800
    assert schemas_asked == []
    for path in Path(study.path).rglob("*.parquet"):
        meta = load_meta(str(path))
        assert schema.understood(str(path), meta.columns) == dict(pl.read_parquet_schema(path))
        levels = pl.read_parquet(path, columns=["rr_level"])["rr_level"]
        told = pl.concat([pl.Series([0], dtype=pl.UInt32).clear()]
                         + [pl.Series([level], dtype=pl.UInt32).new_from_index(0, count)
                            for level, count in zip(meta.runs[::2], meta.runs[1::2], strict=True)])  # fmt: skip
        assert told.to_list() == levels.to_list()


def test_packs_that_tell_nothing_and_describe_the_same_columns_are_asked_once(study, schemas_asked, monkeypatch):
    """As those of before, and those of thousands of columns."""
    told = study.to_polars()
    monkeypatch.setattr(schema, "MOST_COLUMNS", 0)
    monkeypatch.setattr(schema, "MOST_RUNS", -1)
    seal_all(study)
    paths = sorted(map(str, Path(study.path).rglob("*.parquet")))
    assert all((meta.columns, meta.runs) == (None, None) for meta in map(load_meta, paths) if meta.rows)
    described = {load_described(path)[1] for path in paths}
    assert_frame_equal(study.to_polars(), told)
    asked = [*schemas_asked]
    assert len(asked) == len(described) < len(paths)
    for path in paths:
        assert packread.read_schema(path, load_described(path)[1]) == dict(pl.read_parquet_schema(path))


def test_a_branch_is_read_as_slices(study, monkeypatch):
    seal_all(study)
    asked = []
    real = materialise.read_frames
    monkeypatch.setattr(materialise, "read_frames", lambda wanted: asked.extend(wanted) or real(wanted))
    assert study.under(episode=1).to_polars(columns=["x"]).height == 802
    assert [(list(one.columns), one.slices, one.where) for one in asked] == [(["x"], ((400, 401),), None)] * 2
    asked.clear()
    frame = study.under(episode=2).to_polars(columns=["episode", "lr"])
    assert (frame["episode"].to_list(), asked) == ([2] * 800, []), "nothing of it is read"


@pytest.mark.parametrize("gap", [0, 1 << 15])
@pytest.mark.parametrize("compacted", [False, True])
def test_slices_of_several_stretches_in_one_pack(collection, monkeypatch, gap, compacted):
    monkeypatch.setattr(scans, "GAP", gap)
    for number in (1, 2):
        with collection.new_experiment() as experiment:
            keepers = [experiment.sub_record_keeper(model=name) for name in "abc"]
            for turn in range(12):
                keepers[turn % 3].add_records(step=range(100 * turn, 100 * turn + 100), own=[number] * 100)
    if compacted:
        collection.compact()
    else:
        seal_all(collection)
    for models in ("a", ["a", "b"], ["a", "c"], ["c"], ["a", "b", "c"]):
        branch = collection.under(model=models)
        expected = [(record["step"], record["model"], record["own"]) for record in branch.records]
        assert branch.to_polars().select("step", "model", "own").rows() == expected
        lazy = collection.scan().filter(pl.col("model").cast(pl.String).is_in([*models]), pl.col("step") >= 500)
        assert lazy.select("step", "model", "own").collect().rows() == [row for row in expected if row[0] >= 500]


def test_packs_that_are_wanted_whole_are_one_scan(collection, monkeypatch):
    """Many small packs of one writer, and branches that begin and end within one."""
    monkeypatch.setattr(journal, "SIZES", (1 << 14, 1 << 15))
    monkeypatch.setitem(journal.Journal.__init__.__kwdefaults__, "block_size", 1 << 12)
    with collection.new_experiment() as experiment:
        keepers = [experiment.sub_record_keeper(model=name) for name in "abc"]
        for turn, keeper in enumerate(keepers):
            for at in range(200):
                keeper.add_record(step=200 * turn + at, text="x" * 300)
    background.helper.finish(60)  # it has begun to seal the units that are full
    seal_all(collection)
    paths = sorted(Path(collection.path).glob("0*/*/*.parquet"))
    readings = []
    real = packread.readings_of
    monkeypatch.setattr(packread, "readings_of", lambda wanted: readings.extend(real(wanted)) or real(wanted))
    assert collection.under(model="b").to_polars()["step"].to_list() == [*range(200, 400)]
    assert len(paths) >= 6
    assert len(readings) == 3, "what is before those that are whole, those, what is behind"
    assert (sum(reading.rows for reading in readings), len(readings[1].shares)) == (200, len(paths) // 3 - 1)
    readings.clear()
    assert collection.to_polars()["step"].to_list() == [*range(600)]
    assert [(reading.rows, len(reading.shares)) for reading in readings] == [(600, len(paths))]


@pytest.mark.parametrize("fresh", [0.0, 1000.0])
def test_the_footer_of_a_pack_that_was_opened_long_ago_is_looked_at_once_more(collection, monkeypatch, fresh):
    with collection.new_experiment() as experiment:
        experiment.add_records(x=range(100))
    seal_all(collection)
    lazy = collection.scan()
    (path,) = Path(collection.path).glob("0*/*/*.parquet")
    content = path.read_bytes()
    at = content.rindex(b"Polars")  # who made the file: nobody reads this, but the checksum is over it too
    path.write_bytes(content[:at] + b"polars" + content[at + 6 :])
    monkeypatch.setattr(packsource, "FRESH", fresh)
    if fresh and not packread.ABORTS:
        assert lazy.collect().height == 100
    else:
        with pytest.warns(DamageWarning, match="has a damaged footer"):
            assert lazy.collect().height == 0
