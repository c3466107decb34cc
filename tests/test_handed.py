"""Handing a plan over as bytes: the process that gets them makes the same frame, of all units or of some."""

from contextlib import ExitStack
from pathlib import Path

import children
import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from polars.testing import assert_frame_equal
from test_frames_model import LEVELS, TREES, some_sealed

from rigorous_recorder import RecordKeeper
from rigorous_recorder.errors import FormatError
from rigorous_recorder.frames.handed import LAYOUT, decode, encode
from rigorous_recorder.frames.polars import to_polars
from rigorous_recorder.store import pack
from rigorous_recorder.store.compact import compact


@settings(max_examples=max(15, settings.default.max_examples // 3))
@given(data=st.data(), trees=TREES, notes=st.just({}) | LEVELS, seals=st.integers(0, 7), closed=st.booleans())
def test_the_frame_of_a_plan_that_was_handed_over_is_the_same(data, trees, notes, seals, closed):
    with ExitStack() as stack:
        collection = some_sealed(stack, trees, notes, seals, closed=closed)
        if data.draw(st.booleans()):
            compact(collection.path, grace=0)
        plan, frame = collection._plan(), collection.to_polars()
        assert_frame_equal(to_polars(decode(encode(plan))), frame)
        columns = data.draw(st.lists(st.sampled_from(frame.columns), min_size=1, unique=True))
        assert_frame_equal(to_polars(decode(encode(plan.select(columns)))), frame[columns])
        pieces = [to_polars(decode(encode(replace(plan, parts=(part,))))) for part in plan.parts]
        assert_frame_equal(pl.concat([frame.clear(), *pieces]), frame)


READER = """
import sys
from rigorous_recorder.frames.handed import decode
from rigorous_recorder.frames.polars import to_polars
print(to_polars(decode(open(sys.argv[1], "rb").read()))["x"].to_list())
"""


def test_another_process_reads_what_grew_since_and_what_was_sealed_since(collection, tmp_path):
    with collection.new_experiment(lr=1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        keeper.add_record(x=1)
        handed = tmp_path / "handed"
        handed.write_bytes(encode(collection._plan()))
        keeper.add_record(x="text", y=2)
        assert children.run(READER, handed).stdout == "[1]\n"
    for log in Path(collection.path).rglob("*.log"):
        pack.seal(str(log))
    assert children.run(READER, handed).stdout == "[1]\n"


def test_only_levels_that_are_referred_to_go_along(collection):
    with collection.new_experiment() as experiment:
        for number in range(1000):
            experiment.sub_record_keeper(name=f"a long name, told apart by {number**9}").add_record(x=number)
    plan = collection.under(name="a long name, told apart by 512")._plan()
    whole, branch = encode(collection._plan()), encode(plan)
    assert decode(branch).table.height == 1
    assert len(branch) < len(whole)


def test_a_tree_in_memory_goes_along():
    root = RecordKeeper(a=1)
    root.sub_record_keeper(b="x").add_records(c=range(10_000))
    assert_frame_equal(to_polars(decode(encode(root._plan()))), root.to_polars())


def test_bytes_of_another_release_are_refused(collection):
    with collection.new_experiment() as experiment:
        experiment.add_record(x=1)
    handed = msgspec.msgpack.decode(encode(collection._plan()))
    for other in ([LAYOUT + 1, *handed[1:]], ["what", *handed[1:]], handed[:3]):
        with pytest.raises(FormatError, match=r"from another release .*Hint: install the same"):
            decode(msgspec.msgpack.encode(other))
