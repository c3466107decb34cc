"""`under` on every kind of frame picks what it picks on the collection, and `.rr` tells what a frame holds."""

import gc
import math
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from flat import KINDS, OLD_POLARS, WITH_ACCESSOR, dicts, flat_row, ns, polars_frame
from programs import stable
from test_under import ALL, FIRST, M1, TRAINING, WANTED, recorded

import rigorous_recorder
from rigorous_recorder import ExperimentCollection, RecorderError, RecorderWarning, RecordKeeper


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study of `test_under`, as a collection and as a flat frame."""
    collection = recorded(ExperimentCollection(tmp_path_factory.mktemp("accessors") / "study"))
    return collection, collection.to_polars()


@pytest.fixture(scope="module", params=KINDS)
def frame(study, request):
    """The study as a frame of each kind."""
    return KINDS[request.param](study[1])


@pytest.fixture(scope="module", params=WITH_ACCESSOR)
def with_accessor(study, request):
    """The study as a frame of each kind that has `.rr`."""
    return KINDS[request.param](study[1])


def test_what_is_picked(frame):
    for wanted, expected in WANTED:
        picked = rigorous_recorder.under(frame, **wanted)
        assert type(picked) is type(frame)
        assert ns(picked) == sorted(expected), wanted


def test_the_accessor_picks_the_same(with_accessor):
    for wanted, expected in WANTED[::5]:
        assert ns(with_accessor.rr.under(**wanted)) == sorted(expected), wanted


def test_rows_come_out_as_they_were(frame):
    before = dicts(frame)
    assert dicts(rigorous_recorder.under(frame, lr=0.1, training=True)) == [
        row for row in before if row["n"] in FIRST & TRAINING
    ]
    assert dicts(frame) == before, "the frame itself stays"


def test_calls_chain(frame):
    view = rigorous_recorder.under(rigorous_recorder.under(frame, model="m1"), lr=[0.1])
    assert ns(view) == sorted(M1 & FIRST)
    assert ns(rigorous_recorder.under(view, "experiment_number=1,lr=0.1,flag=false,name=run 0.1")) == sorted(M1 & FIRST)


def test_a_branch_is_a_keeper_or_its_lineage(study, frame):
    collection, _ = study
    for keeper in (*collection.keepers(), *collection.keepers(model="m1"), *collection.keepers(training=True)):
        expected = [record["n"] for record in keeper.records]
        assert ns(rigorous_recorder.under(frame, keeper)) == expected
        assert ns(rigorous_recorder.under(frame, keeper.lineage)) == expected
    assert ns(rigorous_recorder.under(frame, collection.keeper(lr=0.1), training=True)) == sorted(FIRST & TRAINING)
    assert ns(rigorous_recorder.under(frame, "experiment_number=1")) == [], "a lineage is the whole text of its levels"
    assert ns(rigorous_recorder.under(frame, RecordKeeper(lr=0.1))) == []
    for wrong in (3, ["a"], {"a": 1}):
        with pytest.raises(TypeError, match=r"keeper or the text.*Hint"):
            rigorous_recorder.under(frame, wrong)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"modle": "m1"}, r"No level has the key 'modle'\. Hint: there is 'model'"),
        ({"experiment_nr": 1}, "'experiment_number'"),
        ({"never": [1, 2]}, "'never'"),
        ({"loss": 0.5}, r"'loss' is a column, but the key of no level of these rows\. Hint: .*(filter|df\[)"),
        ({"model": "m1", "n": 1}, "'n' is a column, but the key of no level"),
    ],
    ids=stable,
)
def test_a_key_that_no_level_has(frame, keys, message):
    with pytest.raises(KeyError, match=message) as caught:
        dicts(rigorous_recorder.under(frame, **keys))
    assert isinstance(caught.value, RecorderError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model=m1",
            r"No lineage begins as 'model=m1' does: no topmost level has the key 'model', they have .*'lr'.*Hint.*under\(mo",
        ),
        ("model=m1/training=true", r"no topmost level has the key 'model'.*under\(model=\.\.\.\) picks by a key"),
        ("m1", r"'m1' is no lineage: .*Hint: a branch is the whole text of a lineage, from the root down"),
        ("lr=1,modle=2/a=1", r"no topmost level has the key 'modle'"),
    ],
    ids=stable,
)
def test_a_text_that_no_lineage_begins_with_is_told(study, frame, text, message):
    with pytest.raises(KeyError, match=message) as caught:
        dicts(rigorous_recorder.under(frame, text))
    assert isinstance(caught.value, RecorderError)
    for read in (
        len,
        list,
        lambda view: view.experiment_numbers,
        lambda view: view.to_polars(),
        lambda view: view.keepers(),
    ):
        with pytest.raises(KeyError, match=message):
            read(study[0].under(text))
    assert ns(rigorous_recorder.under(frame, "experiment_number=7,lr=0.1")) == [], "a value that does not occur"
    assert ns(rigorous_recorder.under(frame, RecordKeeper(never=0.1))) == [], "a keeper is no text"


def test_errors_of_a_callable_come_through(frame):
    with pytest.raises(ZeroDivisionError):
        dicts(rigorous_recorder.under(frame, lr=lambda lr: 1 / 0))


LINEAGES = [
    ([{"experiment_number": 1}, {"s": "outer", "a": 1}, {"s": "inner", "a": 2}], {}),
    ([{"experiment_number": 1}, {"s": "outer", "a": 1}, {"s": "inner", "a": 2}], {"s": "own"}),
    ([{"experiment_number": 1}, {"s": "outer", "a": 1}], {}),
    ([{"experiment_number": 1}, {}, {"s": None}], {}),
    ([{"experiment_number": 1}], {}),
    ([{"gpu": "A100"}, {"experiment_number": 1}, {"s": "outer"}], {}),
]
ODD = [math.nan, math.inf, -0.0, 2**64 - 1, b"\x00", "", (), "null", "NaN", "1", 1, True, 1.5]


def numbered(rows, **automatic):
    automatic = {"experiment_number": 1, "error_number": 0, "had_error": False, **automatic}
    return polars_frame(
        [flat_row(levels, "a" * 12, automatic, {**own, "n": n}) for n, (levels, own) in enumerate(rows)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_key_holds_at_some_level_also_where_it_is_overridden(kind):
    frame = KINDS[kind](numbered(LINEAGES))

    def picked(*branch, **keys):
        return ns(rigorous_recorder.under(frame, *branch, **keys))

    assert picked(s="inner") == [0, 1]
    assert picked(s="outer") == [0, 1, 2, 5]
    assert picked(s="outer", a=2) == [0, 1], "not all at one level"
    assert picked(s="own") == []
    assert picked(s=None) == [4], "a level that sets None sets it"
    assert picked(s=lambda value: value is None) == [3], "a callable gets each value"
    assert picked(s=[None, "inner"]) == [0, 1, 4]
    assert picked("experiment_number=1/s=outer,a=1") == [0, 1, 2]
    assert picked("experiment_number=1/s=outer") == [5], "the text of a keeper that did not know of the notes"
    assert picked("gpu=A100/experiment_number=1") == [5]
    assert picked("experiment_number=1") == [0, 1, 2, 3, 4, 5]
    assert picked("gpu=A100") == [5]
    assert picked(gpu=None) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_special_values(kind):
    frame = KINDS[kind](numbered([([{"experiment_number": 1}, {"v": value}], {}) for value in ODD]))
    for number, value in enumerate(ODD):
        assert ns(rigorous_recorder.under(frame, v=[value])) == [number], value
    assert ns(rigorous_recorder.under(frame, v=1.0)) == [10]
    assert ns(rigorous_recorder.under(frame, v=0)) == [2]


MISSING = [None, pd.NA, pd.NaT, np.datetime64("NaT")]


def explicit_none():
    """Levels with a value, with an explicit None, and without the key."""
    return [{"v": None}, {"v": 1}, {"w": 1}, {"v": math.nan}]


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_for_none_means_that_no_level_sets_it(kind):
    frame = KINDS[kind](numbered([([{"experiment_number": 1}, level], {}) for level in explicit_none()]))
    for missing in MISSING:
        assert ns(rigorous_recorder.under(frame, v=missing)) == [2], missing
        assert ns(rigorous_recorder.under(frame, v=[missing])) == [2], missing
        assert ns(rigorous_recorder.under(frame, v=(1, missing))) == [1, 2], missing
        assert ns(rigorous_recorder.under(frame, never=missing)) == [0, 1, 2, 3], missing
        assert ns(rigorous_recorder.under(frame, had_error=[missing])) == [], missing
    assert ns(rigorous_recorder.under(frame, v=pd.Series([1, pd.NA], dtype="Int64"))) == [1, 2]
    assert ns(rigorous_recorder.under(frame, v=math.nan)) == [3], "NaN is a value of levels"
    assert ns(rigorous_recorder.under(frame, v=lambda value: value is None)) == [0]


SIGNALING = [Decimal("sNaN"), Decimal("NaN"), Decimal("1.5"), 1.5, math.nan]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signaling_nan_is_compared_with_nothing_that_raises(kind):
    frame = KINDS[kind](numbered([([{"experiment_number": 1}, {"v": value}], {}) for value in SIGNALING]))
    assert ns(rigorous_recorder.under(frame, v=1.5)) == [2, 3]
    assert ns(rigorous_recorder.under(frame, v=[7, "text", None, True])) == []
    assert ns(rigorous_recorder.under(frame, v=Decimal("sNaN"))) == [0]
    assert ns(rigorous_recorder.under(frame, v=Decimal("NaN"))) == [1]
    assert ns(rigorous_recorder.under(frame, v=math.nan)) == [4]
    assert ns(rigorous_recorder.under(frame, v=lambda value: isinstance(value, Decimal))) == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [int, [float, int], (1, int)], ids=stable)
def test_a_class_is_no_value_and_says_how_to_pick_by_type(kind, wanted):
    frame = KINDS[kind](numbered(LINEAGES))
    with pytest.raises(
        ValueError, match=r"class (int|float), which .*Hint: a=lambda value: isinstance\(value, "
    ) as caught:
        rigorous_recorder.under(frame, a=wanted)
    assert isinstance(caught.value, RecorderError)


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_and_automatic_keys_match_their_columns(kind):
    root = [{"experiment_number": 1}]
    attempts = [
        ("a" * 12, True, 1, 2.5),
        ("b" * 12, True, 2, 0.1),
        ("c" * 12, None, None, None),
        (None, None, None, None),
    ]
    frame = KINDS[kind](
        polars_frame(
            [
                flat_row(
                    root,
                    attempt,
                    {
                        "experiment_number": attempt and 1,
                        "had_error": had_error,
                        "error_number": error_number,
                        "experiment_duration": duration,
                    },
                    {"n": n},
                )
                for n, (attempt, had_error, error_number, duration) in enumerate(attempts)
            ]
        )
    )

    def picked(**keys):
        return ns(rigorous_recorder.under(frame, **keys))

    assert picked(rr_attempt="b" * 12) == [1]
    assert picked(rr_attempt=["a" * 12, "0" * 12]) == [0]
    assert picked(rr_attempt="0" * 12) == []
    assert picked(rr_attempt=None) == [3]
    assert picked(rr_attempt=lambda attempt: attempt > "a" * 12) == [1, 2]
    assert picked(had_error=True) == [0, 1]
    assert picked(had_error=False) == []
    assert picked(had_error=1) == []
    assert picked(had_error=None) == [2, 3]
    assert picked(had_error=[None, True]) == [0, 1, 2, 3]
    assert picked(error_number=2.0) == [1]
    assert picked(error_number=True) == []
    assert picked(experiment_duration=lambda seconds: seconds < 1) == [1]
    assert picked(experiment_duration=0.1, had_error=True) == [1]
    assert picked(experiment_number=None) == [3]
    assert picked(experiment_number=1, error_number=[1, None]) == [0, 2]
    assert picked(anything=None) == [0, 1, 2, 3], "rows without a lineage have no levels"


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_without_rows_or_lineages_has_no_unknown_keys(kind):
    frame = numbered(LINEAGES)
    assert ns(rigorous_recorder.under(KINDS[kind](frame.clear()), anything=1)) == []
    without = frame.with_columns(pl.lit(None, pl.Categorical).alias("rr_lineage"))
    assert ns(rigorous_recorder.under(KINDS[kind](without), anything=1)) == []
    assert ns(rigorous_recorder.under(KINDS[kind](without), "experiment_number=1")) == []


# ---- what is wrong with a frame ----------------------------------------------------------------------------------


def test_a_frame_without_lineage_says_how_to_come_by_it(with_accessor):
    without = (
        with_accessor.drop(columns="rr_lineage")
        if isinstance(with_accessor, pd.DataFrame)
        else with_accessor.drop("rr_lineage")
    )
    for call in (
        lambda rr: rr.under(model="m1"),
        lambda rr: rr.levels(),
        lambda rr: rr.tree(),
        lambda rr: rr.inherited,
        lambda rr: rr.own,
        lambda rr: rr.drop_inherited(),
        lambda rr: rr.latest("n"),
    ):
        with pytest.raises(KeyError, match=r"This frame has no `rr_lineage` column\. Hint: make it with to_pandas\(\)"):
            call(without.rr)
    with pytest.raises(KeyError, match="no `rr_lineage` column"):
        rigorous_recorder.under(without, model="m1")


def test_columns_that_a_join_renamed_are_named():
    frame = pl.DataFrame({"rr_lineage_right": ["a=1"]})
    with pytest.raises(KeyError, match="It has 'rr_lineage_right': rename"):
        frame.rr.under(a=1)


def test_a_column_that_is_there_twice_is_named(study):
    frame = study[1].to_pandas()
    twice = pd.concat([frame, frame[["rr_lineage"]]], axis="columns")
    for call in (lambda rr: rr.under(model="m1"), lambda rr: rr.levels(), lambda rr: rr.latest("n")):
        with pytest.raises(ValueError, match="several columns `rr_lineage`"):
            call(twice.rr)


def test_a_missing_attempt_or_automatic_column_is_named(study):
    frame = study[1].drop("rr_attempt", "had_error", "experiment_number")
    for call in (
        lambda: frame.rr.under(rr_attempt="a"),
        lambda: frame.rr.latest("n"),
        lambda: frame.rr.under(study[0].keepers()[0]),
    ):
        with pytest.raises(KeyError, match="no `rr_attempt` column"):
            call()
    with pytest.raises(KeyError, match="no `had_error` column"):
        frame.rr.under(had_error=False)
    assert ns(frame.rr.under(experiment_number=1)) == sorted(FIRST), "which lineages hold as well"


def test_what_is_no_lineage_is_told(with_accessor):
    frame = pl.DataFrame({"rr_lineage": ["model1"], "rr_attempt": ["a"]})
    for wrong in (frame, frame.lazy(), frame.to_pandas()):
        with pytest.raises(ValueError, match=r"`rr_lineage` holds what is no lineage: 'model1'.*Hint"):
            dicts(wrong.rr.under(a=1))


@pytest.mark.parametrize("wrong", [3, [1], {"rr_lineage": ["a=1"]}, pl.Series(["a"]), RecordKeeper()], ids=stable)
def test_what_is_no_frame_is_told(wrong):
    with pytest.raises(TypeError, match=r"is no frame\. Hint") as caught:
        rigorous_recorder.under(wrong, a=1)
    assert isinstance(caught.value, RecorderError)


def test_without_narwhals_the_extra_is_named(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "narwhals.stable.v2", None)
    with pytest.raises(ImportError, match=r"narwhals, which is not installed.*rigorous-recorder\[interop\]") as caught:
        rigorous_recorder.under(study[1].to_arrow(), model="m1")
    assert isinstance(caught.value, RecorderError)
    assert len(rigorous_recorder.under(study[1], model="m1")) == len(M1), "polars and pandas do without"
    assert len(rigorous_recorder.under(study[1].to_pandas(), model="m1")) == len(M1)


# ---- levels, tree, columns ---------------------------------------------------------------------------------------


def test_levels(with_accessor, study):
    table = with_accessor.rr.levels()
    assert isinstance(table, pd.DataFrame if isinstance(with_accessor, pd.DataFrame) else pl.DataFrame)
    rows = dicts(table)
    assert sum(row["rr_records"] for row in rows) == len(ALL)
    assert [row["rr_lineage"] for row in rows] == list(dict.fromkeys(study[1]["rr_lineage"].to_list()))
    first = {
        "experiment_number": 1, "lr": 0.1, "flag": False, "name": "run 0.1", "model": "m1", "size": "[1,2]", "none": None,
        "training": True, "testing": None, "rr_lineage": rows[0]["rr_lineage"], "rr_records": 2,
    }  # fmt: skip
    when = rows[0].pop("when")
    assert str(when)[:10] == "2026-01-02"
    assert rows[0] == first
    assert list(table.columns) == [*list(first)[:6], "when", *list(first)[6:]]
    types = table.dtypes.astype(str).to_dict() if isinstance(table, pd.DataFrame) else dict(table.schema)
    assert (types["experiment_number"], types["lr"], types["flag"], types["training"]) in [
        ("int64", "float64", "bool", "boolean"),
        (pl.Int64, pl.Float64, pl.Boolean, pl.Boolean),
    ]
    assert ns_of_levels(table.rr.under(model="m1")) == ns_of_levels(table) // 18 * 8, "a table of levels has .rr too"


def ns_of_levels(table):
    return sum(row["rr_records"] for row in dicts(table))


def test_inherited_and_own_columns(with_accessor):
    assert set(with_accessor.rr.inherited) == {
        "experiment_number", "error_number", "had_error", "experiment_start_time", "experiment_end_time", "experiment_duration",
        "lr", "flag", "name", "model", "size", "when", "none", "training", "testing",
    }  # fmt: skip
    assert with_accessor.rr.own == ["n", "loss"]
    slim = with_accessor.rr.drop_inherited()
    assert type(slim) is type(with_accessor)
    assert set(dicts(slim)[0]) == {"rr_attempt", "rr_lineage", "n", "loss"}
    assert ns(slim.rr.under(model="m1", training=True)) == sorted(M1 & TRAINING), "a slim frame can still be asked"


def test_the_tree(with_accessor):
    tree = with_accessor.rr.tree()
    assert isinstance(tree, str)
    assert repr(tree) == str(tree)
    lines = tree.splitlines()
    assert lines[:4] == [
        "experiment_number=1, lr=0.1, flag=false, name=run 0.1            9 records",
        "├── model=m1, size=tuple:[1,2], when=date:2026-01-02, none=null  4",
        "│   ├── training=true                                            2",
        "│   └── testing=true                                             2",
    ]
    assert len(lines) == 14


def test_a_tree_is_capped():
    levels = [[{"experiment_number": e}, {"k": k, "long": "x" * 500}] for e in range(40) for k in range(30)]
    frame = numbered([(level, {}) for level in levels])
    tree = frame.rr.tree()
    assert len(tree.splitlines()) == 11 + 10 * 11
    assert "… 30 more" in tree
    assert "├── … 20 more" in tree
    assert max(map(len, tree.splitlines())) < 130
    small = frame.rr.tree(1).splitlines()
    assert small[0].split() == ["experiment_number=0", "30", "records"]
    assert len(small) == 3 + 2 * 3
    assert small[4].split() == ["…", "38", "more", "1,140"]
    assert len(frame.rr.tree(1000).splitlines()) < 250
    assert "(… 30 levels below)" in frame.rr.tree(1000)
    with pytest.raises(ValueError, match="n=0"):
        frame.rr.tree(0)
    assert frame.clear().rr.tree() == "(no records)"


def test_levels_of_odd_data():
    values = [1, 2**63, None, "text", b"b", 0.5, True, (1,), math.nan]
    rows = [
        ([{"experiment_number": 1}, {"v": value, "rr_records": n, "big": 2**63, "": 0}], {})
        for n, value in enumerate(values)
    ]
    frame = numbered([*rows, ([{}], {})])
    for made in (frame, frame.lazy(), frame.to_pandas()):
        table = dicts(made.rr.levels())
        assert [row["v"] for row in table] == [
            "1",
            "9223372036854775808",
            None,
            "text",
            "Yg==",
            "0.5",
            "true",
            "[1]",
            "NaN",
            None,
        ]
        assert [row["rr_records_"] for row in table][:3] == [0, 1, 2]
        assert table[0]["big"] == 2**63
        assert table[0][""] == 0
        assert [row["rr_records"] for row in table] == [1] * 10


def with_renamed_keys(collection=None, **own):
    """A frame with a level's keys that have names of ours, and records with these keys; with the warning that says so."""
    keeper = (
        RecordKeeper(rr_attempt="a", rr_lineage="b")
        if collection is None
        else collection.new_experiment(rr_attempt="a")
    )
    keeper.add_record(own)
    with pytest.warns(RecorderWarning, match="so it is the column"):
        return keeper.to_polars()


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_renamed_keys_are_inherited(kind, tmp_path):
    def columns(*collection, **own):
        frame = with_renamed_keys(*collection, **own)
        made = frame.to_pandas() if kind.startswith("pandas") else frame if kind.startswith("polars") else frame.lazy()
        slim = made.rr.drop_inherited()
        names = list(slim.columns if kind.startswith("pandas") else slim.collect_schema().names())
        assert names == ["rr_attempt", "rr_lineage", *made.rr.own]
        return [name for name in made.rr.inherited if name.startswith("rr_")], made.rr.own

    both = ["rr_attempt_", "rr_lineage_"]
    assert columns(x=1) == (both, ["x"])
    assert columns(rr_attempt=1, x=1) == (both, ["x"]), "shared by levels and records"
    assert columns(rr_attempt_=1) == (["rr_attempt__", "rr_lineage_"], ["rr_attempt_"])
    assert columns(rr_attempt__=1) == (both, ["rr_attempt__"])
    collection = ExperimentCollection(tmp_path / "study")
    assert columns(collection, x=1) == (["rr_attempt_"], ["x"])
    assert columns(collection, experiment_number=7) == (["rr_attempt_"], ["experiment_number_"]), (
        "no level has this one"
    )


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_the_table_of_levels_names_columns_as_frames_do(kind):
    level = {"rr_attempt": "a", "rr_lineage": "b", "rr_records": 1, "rr_records_": 2}
    table = KINDS[kind](numbered([([{"experiment_number": 1}, level], {})])).rr.levels()
    assert list(table.columns) == [
        "experiment_number", "rr_attempt_", "rr_lineage_", "rr_records__", "rr_records_", "rr_lineage", "rr_records"
    ]  # fmt: skip


# ---- after a resume ----------------------------------------------------------------------------------------------


def test_the_latest_of_each_step(study):
    one, two = [{"experiment_number": 1}, {"m": 1}], [{"experiment_number": 1}, {"m": 2}]
    steps = [
        (one, "a", 0),
        (one, "a", 1),
        (two, "a", 1),
        (one, "a", 1),
        (one, "b", 1),
        (one, "a", 2),
        (one, "a", None),
        (one, "a", None),
    ]
    steps += [(one, None, 1), (one, None, 1), (two, "a", 1)]
    rows = [
        flat_row(levels, (attempt or "c") * 12, {"experiment_number": 1}, {"step": step, "n": n, "batch": n % 2})
        for n, (levels, attempt, step) in enumerate(steps)
    ]
    for row in rows[8:10]:
        row["rr_lineage"] = None
    for kind in WITH_ACCESSOR:
        frame = KINDS[kind](polars_frame(rows))
        assert ns(frame.rr.latest("step")) == [0, 3, 4, 5, 6, 7, 8, 9, 10], kind
        assert ns(frame.rr.latest("step", "batch")) == [0, 3, 4, 5, 6, 7, 8, 9, 10], kind
        with pytest.raises(KeyError, match=r"no column 'stpe'\. Hint: there is 'step'"):
            frame.rr.latest("stpe")
        with pytest.raises(ValueError, match="latest needs the column"):
            frame.rr.latest()


def repeated(**columns):
    """Rows of one lineage and attempt, with these columns, numbered."""
    rows = [flat_row([{"experiment_number": 1}], "a" * 12, {"experiment_number": 1}, {"n": 0})]
    (length,) = {len(column) for column in columns.values()}
    frame = polars_frame(rows * length).with_columns(n=pl.int_range(length))
    return frame.with_columns(**{name: pl.Series(values, strict=False) for name, values in columns.items()})


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_rows_without_a_step_stay_and_nan_is_none(kind):
    steps = [0.0, math.nan, math.nan, None, None, 1.0, 1.0, -0.0]
    frame = KINDS[kind](repeated(s=steps, t=[1] * 8))
    assert ns(frame.rr.latest("s")) == ns(frame.rr.latest("t", "s")) == [1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("dtype", ["object", "Float64", pd.ArrowDtype(pa.float64())], ids=str)
def test_a_step_of_nan_in_the_other_types_of_pandas(dtype):
    steps = pl.Series([0.0, None, math.nan, math.nan, 1.0, 1.0])
    frame = KINDS["pandas"](repeated(n=range(6)))
    if dtype == "object":
        frame["s"] = pd.Series(steps.to_list(), dtype=dtype)
    else:
        frame["s"] = pd.Series(pd.ArrowDtype(pa.float64()).__from_arrow__(steps.to_arrow())).astype(dtype)
    assert ns(frame.rr.latest("s")) == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_a_step_that_is_a_list(kind):
    steps = [[1], [1], [1, 2], [], [], None, None, [math.nan], [math.nan]]
    frame = KINDS[kind](repeated(lst=steps))
    assert ns(frame.rr.latest("lst")) == [1, 2, 4, 5, 6, 8]
    if kind == "pandas":
        frame["lst"] = pd.Series(steps, dtype=pd.ArrowDtype(pa.list_(pa.float64())))
        assert ns(frame.rr.latest("lst")) == [1, 2, 4, 5, 6, 8]
        frame["lst"] = pd.Series([{"a": [1]}, {"a": [1]}, None], dtype="object").reindex(range(9))
        assert ns(frame.rr.latest("lst")) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_a_step_named_twice_or_a_column_of_ours_as_step(kind):
    frame = KINDS[kind](repeated(t=[1, 1, 2]))
    assert ns(frame.rr.latest("t", "t")) == [1, 2]
    assert ns(frame.rr.latest("rr_lineage")) == ns(frame.rr.latest("rr_attempt", "rr_lineage")) == [2]
    assert ns(frame.rr.latest("rr_attempt", "t")) == [1, 2]


def test_a_wrong_step_beside_columns_that_are_no_texts(study):
    frame = study[1].to_pandas()
    frame[0] = 1
    with pytest.raises(KeyError, match=r"no column 'typo'") as caught:
        frame.rr.latest("typo")
    assert isinstance(caught.value, RecorderError)
    with pytest.raises(KeyError, match=r"no column 'los'\. Hint: there is 'loss'"):
        frame.rr.latest("los")
    assert len(frame.rr.latest(0)) == len(set(frame["rr_lineage"]))


@pytest.mark.parametrize("kind", WITH_ACCESSOR)
def test_the_latest_of_equal_siblings_is_of_both_together(kind):
    """As the docs warn: a lineage is no identity."""
    frame = KINDS[kind](repeated(step=[0, 0], seed=[1, 2]))
    assert ns(frame.rr.latest("step")) == [1]
    assert ns(frame.rr.latest("step", "seed")) == [0, 1]


@pytest.mark.parametrize("n", ["a", None, 1.5, True, 0])
def test_a_tree_takes_an_int(with_accessor, n):
    with pytest.raises(ValueError, match=r"n=.*Hint: n is an int, at least 1"):
        with_accessor.rr.tree(n)


def test_a_pickled_lazy_frame_is_read_while_the_frame_is_there_and_says_so_after(study):
    lazy = study[1].lazy().rr.under(model="m1")
    copy = pickle.loads(pickle.dumps(lazy))
    assert ns(copy) == sorted(M1)
    alone = pickle.dumps(lazy)
    del lazy, copy
    gc.collect()
    error = (pl.exceptions.ComputeError, RecorderError) if OLD_POLARS else RecorderError
    with pytest.raises(error, match=r"only while the lazy frame itself is there\. Hint: keep that one"):
        pickle.loads(alone).collect()


def test_nothing_is_kept_on_the_frame(study):
    frame = study[1].to_pandas()
    frame.rr.tree()
    frame.rr.under(model="m1")
    assert not frame.attrs
    assert hasattr(pd.DataFrame(), "rr"), "making the accessor never fails, whatever the frame"
    assert hasattr(pl.DataFrame(), "rr")
    assert hasattr(pl.LazyFrame(), "rr")


@pytest.mark.parametrize("lazily", [False, True], ids=["eager", "lazy"])
def test_names_that_polars_takes_for_patterns_are_names(lazily):
    if OLD_POLARS:
        pytest.skip("polars 1 takes them for patterns whatever one does")
    root = RecordKeeper({"^s.*$": "v"})
    root.add_records([{"^a$": 1, "*": 1, "a": 5}, {"^a$": 1, "*": 2, "a": 5}])
    made = root.to_polars()
    frame = made.lazy() if lazily else made

    def columns(one):
        return one.collect_schema().names()

    assert columns(frame.rr.drop_inherited())[-3:] == ["^a$", "*", "a"]
    assert "^s.*$" not in columns(frame.rr.drop_inherited())
    assert frame.rr.latest("^a$").lazy().collect().height == 1
    assert frame.rr.latest("^a$", "*").lazy().collect().height == 2
    assert frame.rr.under(**{"^s.*$": "v"}).lazy().collect().height == 2
    other = RecordKeeper({"^s.*$": "v"})
    other.add_record({"^a$": 0.5, "*": "text"})
    both = rigorous_recorder.concat([frame, other.to_polars().lazy() if lazily else other.to_polars()])
    rows = both.lazy().collect().to_dicts()
    assert [(row["^a$"], row["*"], row["a"]) for row in rows] == [(1.0, "1", 5), (1.0, "2", 5), (0.5, "text", None)]
