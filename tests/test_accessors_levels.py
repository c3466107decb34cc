"""The table of levels has the types of the flat frame; lineages that nothing of ours wrote are refused or read."""

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import polars.testing
import pytest
from flat import KINDS, OLD_POLARS, WITH_ACCESSOR, dicts, duckdb_relation, ns, polars_frame

import rigorous_recorder
from rigorous_recorder import RecorderError, RecordKeeper

NAIVE = dt.datetime(2026, 1, 2, 3)  # noqa: DTZ001
FAR_EAST = dt.timezone(dt.timedelta(hours=5))
TYPED = {
    "bool": [True, False], "bools and none": [True, None], "int": [1, 2], "int and none": [1, None], "uint": [2**63, 1],
    "float": [0.5, math.nan], "int and float": [2**53 - 1, 0.5], "int that no float is": [2**53, 0.5], "text": ["b", "a"],
    "text and int": ["b", 1], "bytes": [b"x", None], "date": [dt.date(2026, 1, 2), None],
    "naive": [NAIVE, None], "aware": [dt.datetime(2026, 1, 2, 3, tzinfo=FAR_EAST), None],
    "both": [NAIVE, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)],
    "before year 1": [dt.datetime(1, 1, 1, tzinfo=FAR_EAST)],
    "after year 9999": [dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=5))), None],
    "time": [dt.time(1), None], "timedelta": [dt.timedelta(1), None], "long": [dt.timedelta.max], "list": [[1, 2], []],
    "lists": [[1], [0.5]], "list and text": [[1], "a"], "tuple": [(1, 2)], "dict": [{"a": 1}], "none": [None, None],
    "decimal": [Decimal("sNaN"), Decimal(1)], "path": [Path("a/b")],
}  # fmt: skip
"""Values that a key has at some levels."""


@pytest.mark.parametrize("library", ["to_pandas", "to_polars"])
@pytest.mark.parametrize("values", TYPED.values(), ids=list(TYPED))
def test_levels_have_the_types_and_values_of_the_frame(values, library):
    root = RecordKeeper(top=1)
    for place, value in enumerate(values):
        root.sub_record_keeper(v=value, place=place).add_record(x=1)
    root.sub_record_keeper(place=-1).add_record(x=1)
    frame = getattr(root, library)()
    levels = frame.rr.levels()
    same = pd.testing.assert_series_equal if library == "to_pandas" else pl.testing.assert_series_equal
    for name in ("top", "v", "place"):
        same(levels[name], frame[name])


HOSTILE = {
    "an int of 400 digits and a float": [f"v={'9' * 400}", "v=0.5"],
    "an int of 400 digits": [f"v={'9' * 400}"],
    "a list of them": [f"v=[{'9' * 400}]"],
}
REFUSED = {
    "a JSON surrogate": ['v="\\ud800"'],
    "a JSON surrogate deep inside": ['v={"a":["\\udfff"]}', "v=1"],
    "an int of 5000 digits": [f"v={'9' * 5000}"],
}


def frame_of(texts):
    return polars_frame([{"n": n, "rr_attempt": "a", "rr_lineage": text} for n, text in enumerate(texts)])


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
@pytest.mark.parametrize("texts", HOSTILE.values(), ids=list(HOSTILE))
def test_ints_beyond_64_bits_in_a_lineage_are_text_in_the_table(kind, texts):
    made = KINDS[kind](frame_of(texts))
    assert [row["v"] for row in dicts(made.rr.levels())] == [text[2:] for text in texts]
    assert ns(made.rr.under(v=0.5)) == ([1] if len(texts) == 2 else [])
    assert made.rr.own == ["n"]
    assert "999" in made.rr.tree()


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
@pytest.mark.parametrize("texts", REFUSED.values(), ids=list(REFUSED))
def test_lineages_that_nothing_wrote_are_refused_with_our_error(kind, texts):
    made = KINDS[kind](frame_of(texts))
    for call in (lambda rr: rr.levels(), lambda rr: rr.own, lambda rr: dicts(rr.under(v=1))):
        with pytest.raises(ValueError, match="`rr_lineage` holds what is no lineage") as caught:
            call(made.rr)
        assert isinstance(caught.value, RecorderError)


def test_a_lone_surrogate_in_objects_of_pandas_is_refused():
    made = pd.DataFrame({"rr_lineage": pd.Series(["v=\ud800"], dtype="object"), "rr_attempt": "a"})
    with pytest.raises(ValueError, match="`rr_lineage` holds what is no lineage"):
        made.rr.levels()


NO_TEXTS = {
    "bytes": [b"a=1", None],
    "lists": [["a=1"], None],
    "ints": [1, None],
    "floats": [0.5, None],
    "bools": [True, None],
}


@pytest.mark.parametrize("values", NO_TEXTS.values(), ids=list(NO_TEXTS))
def test_a_lineage_that_is_no_text_is_told(values):
    if OLD_POLARS and isinstance(values[0], list):
        pytest.skip("polars 1 has no distinct values of lists")
    frame = pl.DataFrame({"rr_lineage": values, "rr_attempt": ["a"] * 2, "n": [0, 1]})
    as_objects = pd.DataFrame({"rr_lineage": pd.Series(values, dtype="object"), "rr_attempt": "a"})
    arrow = frame.to_arrow()
    in_arrow = pd.DataFrame(
        {"rr_lineage": pd.Series(pd.ArrowDtype(arrow["rr_lineage"].type).__from_arrow__(arrow["rr_lineage"]))}
    )
    for made in (frame, frame.lazy(), frame.to_pandas(), as_objects, in_arrow):
        for call in (lambda rr: dicts(rr.under(a=1)), lambda rr: rr.levels(), lambda rr: rr.tree(), lambda rr: rr.own):
            with pytest.raises(
                ValueError, match=r"`rr_lineage` holds what is no lineage: .* is no text\. Hint"
            ) as caught:
                call(made.rr)
            assert isinstance(caught.value, RecorderError)
    for made in (arrow, duckdb_relation(arrow)):
        with pytest.raises(ValueError, match=r"`rr_lineage` holds what is no lineage: .* is no text\. Hint"):
            rigorous_recorder.under(made, a=1)


@pytest.mark.parametrize("depth", [19, 20, 21, 300, 5000])
@pytest.mark.parametrize("kind", ["pandas", "polars", "lazy"])
def test_a_deep_tree_is_shown_to_a_depth_and_says_how_much_is_below(kind, depth):
    text = "/".join(f"l={level}" for level in range(depth))
    tree = KINDS[kind](frame_of([text, text + "/other=1"])).rr.tree()
    lines = tree.splitlines()
    assert len(lines) == (depth + 1 if depth < 20 else 20)
    assert len(tree) < 20 * 200
    below = depth + 1 - 20
    assert lines[-1].split("(")[1:] == ([f"… {below:,} levels below)  2"] if below else [])
