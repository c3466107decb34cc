"""Long stretches of one level: frames in pieces that share memory are the same as by runs, and need no NumPy."""

import struct
from pathlib import Path

import children
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rigorous_recorder.frames import spread
from rigorous_recorder.store import pack, packread
from rigorous_recorder.store.packmeta import load_described


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
    places = {chunk.to_physical().to_numpy(allow_copy=False).ctypes.data for chunk in chunks}
    assert len(places) == 2 < len(chunks)


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


def test_packs_that_describe_the_same_columns_are_asked_once(study, monkeypatch):
    seal_all(study)
    asked = []
    real = pl.read_parquet_schema

    def counting(path):
        asked.append(path)
        return real(path)

    monkeypatch.setattr(pl, "read_parquet_schema", counting)
    monkeypatch.setattr(packread, "_schemas", {})
    paths = sorted(map(str, Path(study.path).rglob("*.parquet")))
    described = {load_described(path)[1] for path in paths}
    study.scan()
    assert len(asked) == len(described) < len(paths)
    for path in paths:
        assert packread.read_schema(path, load_described(path)[1]) == real(path)
