"""Flat frames, sentence by sentence: columns and their order, types, missing values, categories, and whose memory it is."""

import datetime as dt
import math
import threading
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import units
from flat import OLD_POLARS
from frame_oracle import AUTOMATIC, LIBRARIES, pandas_type, rows_of, types
from programs import run, wait_until_sealed

import rigorous_recorder
from rigorous_recorder import ExperimentCollection, RecorderError, RecorderWarning, RecordKeeper
from rigorous_recorder.frames.materialise import materialise
from rigorous_recorder.frames.part import Part
from rigorous_recorder.frames.plan import make_plan
from rigorous_recorder.frames.polars import to_polars
from rigorous_recorder.frames.stretches import Runs
from rigorous_recorder.levels import pack_level
from rigorous_recorder.reading import read_collection
from rigorous_recorder.store import pack
from rigorous_recorder.store import unit as u

UTC = dt.UTC


def frame(readable, library, *arguments, **options):
    """The frame of something in one of the libraries."""
    return getattr(readable, f"to_{library}")(*arguments, **options)


def seal(collection):
    """Seal all logs."""
    for path in sorted(Path(collection.path).glob("0*/*/*.log")):
        assert pack.seal(str(path))


def grow(collection):
    """Two experiments of two models in training and testing; 12 records."""
    for lr in (0.1, 1.0):
        with collection.new_experiment(lr=lr, name="run") as experiment:
            for model in ("m1", "m2"):
                keeper = experiment.sub_record_keeper(model=model)
                training = keeper.sub_record_keeper(training=True)
                training.add_record(index=0, loss=0.5)
                training.add_record(index=1, loss=0.25)
                keeper.sub_record_keeper(testing=True).add_record(index=0, accuracy=1.0)
    return collection


COLUMNS = [
    "experiment_number", "lr", "name", "model", "training", "testing", *AUTOMATIC[1:], "rr_attempt", "rr_lineage", "index",
    "loss", "accuracy",
]  # fmt: skip


@pytest.fixture
def collection(tmp_path):
    """An empty collection. The model tests go through both ways to write the journal."""
    return ExperimentCollection(tmp_path / "study")


@pytest.fixture(params=["logs", "packs"])
def study(tmp_path, request):
    """The study above, in logs that were mapped, and in packs of logs that were not."""
    if request.param == "logs":
        return grow(ExperimentCollection(tmp_path / "study", journal="mmap"))
    collection = grow(ExperimentCollection(tmp_path / "study", journal="write"))
    seal(collection)
    return collection


@pytest.fixture(params=LIBRARIES)
def library(request):
    """Each of the libraries."""
    return request.param


# ---- rows and columns ------------------------------------------------------------------------------------------------


def test_one_row_per_record_in_order_with_columns_in_order(study, library):
    made = frame(study, library)
    assert list(types(made)) == COLUMNS
    rows = rows_of(made)
    assert len(rows) == len(study) == 12
    for row, record in zip(rows, study.records, strict=True):
        for key in COLUMNS:
            if not key.startswith("rr_"):
                assert row[key] == record[key] or (record[key] is None and math.isnan(row[key]))


def test_inherited_keys_come_from_the_root_down_whatever_came_first(collection):
    collection.add_notes(machine="a100")
    with collection.new_experiment(b=1) as experiment:
        experiment.sub_record_keeper(c=1).sub_record_keeper(d=1).add_record(x=1)
    with collection.new_experiment(a=1, b=2) as experiment:
        experiment.sub_record_keeper(e=1, c=2).add_record(y=1, x=2)
    assert collection.to_polars(lineage=False).columns == [
        "experiment_number", "machine", "b", "a", "c", "e", "d", *AUTOMATIC[1:], "x", "y"
    ]  # fmt: skip


def test_rows_are_ordered_by_experiment_attempt_writer_and_sequence(collection):
    first = collection.new_experiment()
    first.add_record(n=0)
    second = collection.new_experiment()
    second.add_record(n=3)
    first.add_record(n=1)
    first.close(error="no")
    second.close()
    resumed = collection.resume_experiment(1)
    resumed.add_record(n=2)
    resumed.close()
    assert collection.to_polars()["n"].to_list() == [0, 1, 2, 3]


def test_rr_attempt_is_twelve_digits_of_the_attempt(study, library):
    attempts = [path.name[:12] for path in sorted(Path(study.path).glob("0*/*"))]
    assert [row["rr_attempt"] for row in rows_of(frame(study, library))] == [attempts[0]] * 6 + [attempts[1]] * 6


def test_rr_lineage_holds_every_levels_own_keys_notes_and_corrections_included(study, library):
    study.add_notes(machine="a100")
    study.keeper(experiment_number=2, model="m1").update(model="m1b")
    lineages = [row["rr_lineage"] for row in rows_of(frame(study, library))]
    assert lineages[0] == "machine=a100/experiment_number=1,lr=0.1,name=run/model=m1/training=true"
    assert lineages[8] == "machine=a100/experiment_number=2,lr=1.0,name=run/model=m1b/testing=true"
    assert rows_of(frame(study, library))[8]["model"] == "m1b"


def test_equal_siblings_share_a_lineage_and_an_empty_level_is_an_empty_part(library):
    root = RecordKeeper(a=1)
    for x in range(2):
        root.sub_record_keeper(b=2).add_record(x=x)
    root.sub_record_keeper().sub_record_keeper(c=3).add_record(x=2)
    assert [row["rr_lineage"] for row in rows_of(frame(root, library))] == ["a=1/b=2", "a=1/b=2", "a=1//c=3"]


def test_lineage_false_leaves_out_the_two(study, library):
    assert list(types(frame(study, library, lineage=False))) == [key for key in COLUMNS if not key.startswith("rr_")]


def test_columns_chooses_and_orders(study, library):
    assert list(types(frame(study, library, ["loss", "model", "rr_lineage"]))) == ["loss", "model", "rr_lineage"]
    assert list(types(frame(study, library, ["experiment_number"]))) == ["experiment_number"]
    assert len(rows_of(frame(study, library, ("experiment_number",)))) == 12


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": ["los"]}, KeyError, r"no column 'los'. Hint: there is 'loss'"),
        ({"columns": ["rr_lineage"], "lineage": False}, KeyError, "no column 'rr_lineage'"),
        ({"columns": "loss"}, ValueError, r"is a text. Hint: columns=\['loss'\]"),
        ({"columns": ["loss", "loss"]}, ValueError, "'loss' twice"),
        ({"categories": "texts"}, ValueError, "one of 'text', 'all', 'none'"),
        ({"categories": ["modle"]}, KeyError, "no column 'modle' for categories=. Hint: there is 'model'"),
    ],
)
def test_a_wrong_argument_says_what_is_right(study, library, options, error, message):
    with pytest.raises(error, match=message) as caught:
        frame(study, library, **options)
    assert isinstance(caught.value, RecorderError)


def test_under_restricts_the_rows_and_keeps_the_columns(study, library):
    whole = rows_of(frame(study, library))
    for view, wanted in (
        (study.under(model="m2"), lambda row: row["model"] == "m2"),
        (study.under(experiment_number=2).under(training=True), lambda row: row["lr"] == 1 and row["accuracy"] != 1),
        (study.under(model="never"), lambda _: False),
    ):
        made = frame(view, library)
        assert list(types(made)) == COLUMNS
        assert repr(rows_of(made)) == repr([row for row in whole if wanted(row)])
    with pytest.raises(KeyError, match="No level has the key 'modle'"):
        frame(study.under(modle="m1"), library)


def test_a_branch_has_the_types_of_the_whole(collection):
    with collection.new_experiment() as experiment:
        experiment.sub_record_keeper(part=1).add_record(x=1)
        experiment.sub_record_keeper(part="b").add_record(x=0.5)
    for view in (collection, collection.under(part=1), collection.keeper(part=1), collection.under(part=2)):
        made = view.to_polars(categories="none")
        assert (made.schema["x"], made.schema["part"]) == (pl.Float64, pl.String)


def test_a_keepers_frame_is_its_own_branch(study, library):
    keeper = study.keeper(experiment_number=2, model="m1")
    assert [row["index"] for row in rows_of(frame(keeper, library))] == [0, 1, 0]
    assert {row["model"] for row in rows_of(frame(keeper, library))} == {"m1"}
    assert len(rows_of(frame(study.experiments[0], library))) == 6


def test_a_keeper_in_memory_has_no_experiment(library):
    root = RecordKeeper(a=1)
    root.sub_record_keeper(b="x").add_record(x=1)
    assert rows_of(frame(root, library, lineage=False)) == [{"a": 1, "b": "x", "x": 1}]
    assert list(types(frame(root, library))) == ["a", "b", "rr_attempt", "rr_lineage", "x"]


# ---- types -----------------------------------------------------------------------------------------------------------

TIME = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC).replace(tzinfo=None)
VALUES = {
    "bool": (pl.Boolean, [True, False]),
    "int": (pl.Int64, [1, -(2**63)]),
    "uint": (pl.UInt64, [1, 2**64 - 1]),
    "both": (pl.String, [-1, 2**64 - 1]),
    "float": (pl.Float64, [0.5, math.inf]),
    "mixed": (pl.Float64, [1, 0.5]),
    "too_large": (pl.String, [2**53, 0.5]),
    "text": (pl.String, ["a", "b"]),
    "binary": (pl.Binary, [b"a", b"\xff"]),
    "naive": (pl.Datetime("us"), [TIME, TIME.replace(year=1)]),
    "aware": (pl.Datetime("us", "UTC"), [TIME.replace(tzinfo=UTC), dt.datetime(9999, 1, 1, tzinfo=UTC)]),
    "date": (pl.Date, [dt.date(2026, 1, 2), dt.date(1, 1, 1)]),
    "time": (pl.Time, [dt.time(1, 2, 3, 4), dt.time(0)]),
    "span": (pl.Duration("us"), [dt.timedelta(days=-1, microseconds=7), dt.timedelta(days=10**8)]),
    "list": (pl.List(pl.Int64), [[1, 2], []]),
    "floats": (pl.List(pl.Float64), [[1, 2], [0.5, None]]),
    "texts": (pl.List(pl.String), [["a"], [None]]),
    "ragged": (pl.String, [[1], ["a"]]),
    "nested": (pl.String, [[[1]], [[2]]]),
    "dict": (pl.String, [{"a": 1}, {}]),
    "boolint": (pl.String, [True, 1]),
    "zones": (pl.String, [TIME, TIME.replace(tzinfo=UTC)]),
    "bytes_text": (pl.String, [b"a", "a"]),
    "none": (pl.Null, [None, None]),
}
TEXTS = {
    "both": ["-1", "18446744073709551615"],
    "too_large": ["9007199254740992", "0.5"],
    "ragged": ["[1]", '["a"]'],
    "nested": ["[[1]]", "[[2]]"],
    "dict": ['{"a":1}', "{}"],
    "boolint": ["true", "1"],
    "zones": ["2026-01-02T03:04:05.000006", "2026-01-02T03:04:05.000006+00:00"],
    "bytes_text": ["YQ==", "a"],
}


def expected(name):
    """What polars and Arrow have for the values of a name."""
    dtype, values = VALUES[name]
    if name in TEXTS:
        return TEXTS[name]
    return [float(value) for value in values] if dtype == pl.Float64 else values


@pytest.mark.parametrize("where", ["one unit", "two units", "two packs", "levels", "over a level"])
@pytest.mark.parametrize("name", VALUES)
def test_a_column_has_the_narrowest_type_that_holds_all_exactly(tmp_path, name, where):
    dtype, (one, other) = VALUES[name]
    collection = ExperimentCollection(tmp_path / "study")
    pause = where not in ("one unit", "over a level")
    with collection.new_experiment({"v": one} if where == "over a level" else {}) as experiment:
        if where == "levels":
            experiment.sub_record_keeper(v=one).add_record(n=1)
            experiment.sub_record_keeper(v=other).add_record(n=2)
        elif where == "over a level":
            experiment.add_record(v=other)
            experiment.add_record(n=1)
        else:
            experiment.add_record(v=one)
            if not pause:
                experiment.add_record(v=other)
    if where.startswith("two"):
        with collection.new_experiment() as experiment:
            experiment.add_record(v=other)
    if where == "two packs":
        seal(collection)
    made = collection.to_polars(categories="none")
    values = expected(name)[::-1] if where == "over a level" else expected(name)
    assert made.schema["v"] == dtype
    assert made["v"].to_list() == values
    assert collection.to_arrow(categories="none").column("v").to_pylist() == values
    assert str(collection.to_pandas(categories="none")["v"].dtype) == pandas_type(dtype, missing=False, category=False)


def test_inherited_floats_are_the_same_to_the_bit(collection):
    values = [0.0, -0.0, float("nan")]
    for value in values:
        with collection.new_experiment(v=value) as experiment:
            experiment.add_record(x=1)
    assert collection.to_polars()["v"].to_numpy().tobytes() == np.array(values).tobytes()
    assert collection.to_pandas()["v"].to_numpy().tobytes() == np.array(values).tobytes()


def test_types_are_never_narrower_than_64_bits(collection):
    with collection.new_experiment() as experiment:
        experiment.add_records(i=np.arange(2, dtype="i1"), f=np.arange(2, dtype="f4"), u=np.arange(2, dtype="u8"))
    made = collection.to_polars()
    assert [made.schema[name] for name in "ifu"] == [pl.Int64, pl.Float64, pl.Int64]


def test_ints_and_floats_of_two_units_are_floats_while_that_is_exact(collection):
    for value in (2**53 - 1, 0.5):
        with collection.new_experiment() as experiment:
            experiment.add_record(v=value)
    assert collection.to_polars()["v"].to_list() == [2.0**53 - 1, 0.5]
    with collection.new_experiment() as experiment:
        experiment.add_record(v=-(2**53))
    assert collection.to_polars()["v"].to_list() == ["9007199254740991", "0.5", "-9007199254740992"]


def test_a_value_that_is_overridden_everywhere_makes_no_text_of_numbers(collection):
    with collection.new_experiment(lr="auto") as experiment:
        experiment.sub_record_keeper(lr=0.5).add_record(x=1)
    assert collection.to_polars().schema["lr"] == pl.Float64


def test_aware_times_of_levels_are_the_same_moment_in_utc(collection, library):
    there = dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    with collection.new_experiment(when=there) as experiment:
        experiment.add_record(x=1)
    assert rows_of(frame(collection, library))[0]["when"] == there


# ---- missing values --------------------------------------------------------------------------------------------------


def test_what_is_missing_is_null_in_polars_and_arrow(collection):
    with collection.new_experiment() as experiment:
        experiment.add_record({name: values[0] for name, (_, values) in VALUES.items()})
        experiment.add_record(x=float("nan"))
    made = collection.to_polars()
    assert made.select(list(VALUES))[1].null_count().row(0) == (1,) * len(VALUES)
    assert math.isnan(made["x"][1])
    assert made["x"].null_count() == 1
    assert collection.to_arrow().column("bool").to_pylist() == [True, None]


def test_pandas_has_nullable_types_only_where_something_is_missing(collection):
    with collection.new_experiment() as experiment:
        experiment.add_record({name: values[0] for name, (_, values) in VALUES.items()})
        experiment.add_record({name: values[1] for name, (_, values) in VALUES.items()})
    for missing in (False, True):
        made = collection.to_pandas()
        for name, (dtype, _) in VALUES.items():
            assert str(made[name].dtype) == pandas_type(dtype, missing=missing, category=False), name
        if not missing:
            with collection.new_experiment() as experiment:
                experiment.add_record(z=1)
    assert made["float"].isna().tolist() == [False, False, True]
    assert made[made["bool"].fillna(value=False)]["int"].tolist() == [1]
    assert made["text"].isna().tolist() == [False, False, True]


def test_while_it_runs_the_keys_of_its_end_are_missing(collection, library):
    with collection.new_experiment() as experiment:
        experiment.add_record(x=1)
        made = frame(collection, library)
        row = rows_of(made)[0]
        assert row["had_error"] is None
        assert row["experiment_end_time"] is None or math.isnan(row["experiment_end_time"])
        assert isinstance(row["experiment_start_time"], float)
    assert rows_of(frame(collection, library))[0]["had_error"] is False


def test_an_own_value_wins_over_an_inherited_one_none_too(study, library):
    with study.new_experiment(lr=0.5, name="run", flag=True) as experiment:
        experiment.add_record(lr=2)
        experiment.add_record(lr=None, name=None)
        experiment.add_record(name="own", flag=False)
        experiment.add_records(lr=[3.0, None], flag=None)
    rows = rows_of(frame(study.under(experiment_number=3), library))
    assert [row["lr"] if row["lr"] == row["lr"] else None for row in rows] == [2.0, None, 0.5, 3.0, None]
    assert [None if row["name"] != row["name"] else row["name"] for row in rows] == ["run", None, "own", "run", "run"]
    assert [row["flag"] for row in rows] == [True, True, False, None, None]
    assert list(types(frame(study, library)))[:8] == [*COLUMNS[:3], "flag", *COLUMNS[3:6], "error_number"]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_users_key_with_a_name_of_ours_is_renamed_with_a_warning(collection, library):
    with collection.new_experiment(rr_lineage="mine", rr_attempt_=1) as experiment:
        experiment.add_record(had_error="own", rr_attempt="x")
    with pytest.warns(RecorderWarning, match="The key '.*' has the name of a column") as caught:
        made = frame(collection, library)
    assert len(caught) == 3
    row = rows_of(made)[0]
    assert (row["rr_lineage_"], row["had_error_"], row["rr_attempt__"], row["rr_attempt_"]) == ("mine", "own", "x", 1)
    assert row["had_error"] is False
    assert row["rr_lineage"].startswith("experiment_number=1,rr_lineage=mine")
    assert collection.records[0]["rr_lineage"] == "mine"


def test_any_text_is_a_column(collection, library):
    keys = {
        "": 1,
        "rr_level": 2,
        "rr_key:x": 3,
        "rr_exact:x": 4,
        "a b/=,é": 5,
        "\x00": 6,
        "x": None,
        "*": 7,
        "^x$": 8,
        "^(": 9,
    }
    with collection.new_experiment() as experiment:
        experiment.add_record(keys)
    assert rows_of(frame(collection, library))[0].items() >= keys.items()


def test_records_without_keys_are_rows(library):
    if library != "pandas" and OLD_POLARS:
        pytest.skip("polars 1 has no rows without columns")
    root = RecordKeeper()
    root.add_record()
    root.add_record()
    made = frame(root, library, lineage=False)
    assert made.shape == (2, 0)


# ---- categories ------------------------------------------------------------------------------------------------------


def categorical(made):
    """The columns that are categorical."""
    if isinstance(made, pl.DataFrame):
        return [name for name, dtype in made.schema.items() if dtype == pl.Categorical]
    if isinstance(made, pd.DataFrame):
        return [name for name in made if made[name].dtype == "category"]
    return [field.name for field in made.schema if pa.types.is_dictionary(field.type)]


BOTH = ["rr_attempt", "rr_lineage"]


def test_inherited_text_is_categorical_and_inherited_numbers_are_not(study, library):
    assert categorical(frame(study, library)) == ["name", "model", *BOTH]
    assert categorical(frame(study, library, categories="none")) == BOTH
    assert categorical(frame(study, library, categories=["model"])) == ["model", *BOTH]
    everything = [*COLUMNS[:13]] if library == "pandas" else ["name", "model", *BOTH]
    assert categorical(frame(study, library, categories="all")) == everything


def test_categories_of_numbers_are_for_pandas_alone(study):
    made = study.to_pandas(categories=["lr", "index"])
    assert categorical(made) == ["lr", *BOTH, "index"]
    assert made["lr"].cat.categories.tolist() == [0.1, 1.0]
    assert made["index"].astype(int).tolist() == [0, 1, 0] * 4
    with pytest.raises(ValueError, match="'lr' is Float64, and the library has categories of text only"):
        study.to_polars(categories=["lr"])


def test_own_text_is_categorical_where_that_is_asked_for(collection, library):
    with collection.new_experiment(phase="warm") as experiment:
        experiment.add_records(phase=["a", "b", None], own=["x", None, "y"])
        experiment.add_record(own="x")
    assert categorical(frame(collection, library)) == ["phase", *BOTH]
    made = frame(collection, library, categories=["own"])
    assert categorical(made) == [*BOTH, "own"]
    assert [row["own"] if row["own"] == row["own"] else None for row in rows_of(made)] == ["x", None, "y", "x"]


@pytest.mark.parametrize("categories", ["all", ["lr"], ["lr", "own"]], ids=str)
def test_a_float_that_is_nan_is_no_category_and_zeros_are_one(categories):
    keeper = RecordKeeper(lr=math.nan)
    keeper.add_record(own=-0.0)
    for value in (0.0, -0.0, 0.5):
        keeper.sub_record_keeper(lr=value).add_record(own=math.nan)
    made = keeper.to_pandas(categories=categories)
    assert isinstance(made["lr"].dtype, pd.CategoricalDtype)
    assert list(map(str, made["lr"])) == ["nan", "0.0", "0.0", "0.5"]
    assert list(map(str, made["lr"].cat.categories)) == ["0.0", "0.5"]
    assert isinstance(made["own"].dtype, pd.CategoricalDtype) == ("own" in categories)
    assert made["own"].isna().to_list() == [False, True, True, True]
    assert list(map(str, keeper.to_pandas()["lr"])) == ["nan", "0.0", "-0.0", "0.5"], "to the bit, but as categories"


@pytest.mark.parametrize("option", ["columns", "categories"])
@pytest.mark.parametrize("wrong", [3, True, [3], ["lr", None], b"lr", object], ids=repr)
def test_what_names_no_columns_is_refused(library, option, wrong):
    keeper = RecordKeeper(lr=1)
    keeper.add_record(x=1)
    with pytest.raises(
        ValueError, match=rf"^{option}= takes the names of columns, and was given .*Hint: a list"
    ) as caught:
        frame(keeper, library, **{option: wrong})
    assert isinstance(caught.value, RecorderError)


def test_a_query_of_another_table_says_what_the_table_is_called(collection):
    with collection.new_experiment() as experiment:
        experiment.add_record(x=1)
    with pytest.raises(pl.exceptions.SQLInterfaceError, match="relation 'record' was not found") as caught:
        collection.sql("select * from record")
    assert caught.value.__notes__ == ["Hint: the table is called records, as in: select count(*) from records"]
    with pytest.raises(pl.exceptions.ColumnNotFoundError) as caught:
        collection.sql("select nope from records")
    assert not hasattr(caught.value, "__notes__")


def test_groups_of_a_keeper_in_memory_by_the_missing_attempt():
    keeper = RecordKeeper(model="cnn")
    keeper.add_records(x=[1, 2])
    made = keeper.to_pandas()
    assert made["rr_attempt"].isna().all()
    assert len(made.groupby(["model", "rr_attempt"], observed=True)["x"].mean()) == 0
    assert made.groupby(["model", "rr_attempt"], observed=True, dropna=False)["x"].mean().to_list() == [1.5]
    assert made.groupby(["model"], observed=True)["x"].mean().to_list() == [1.5]
    assert keeper.to_polars().group_by("model", "rr_attempt").agg(pl.col("x").mean())["x"].to_list() == [1.5]


def test_duckdb_has_a_timedelta_of_a_parquet_file_as_microseconds(tmp_path):
    keeper = RecordKeeper()
    keeper.add_record(d=dt.timedelta(days=1, microseconds=1))
    keeper.to_parquet(tmp_path / "flat.parquet")
    found = duckdb.connect().execute(
        f"select d, typeof(d), to_microseconds(d) from read_parquet('{tmp_path}/flat.parquet')"
    )
    assert found.fetchall() == [(86_400_000_001, "BIGINT", dt.timedelta(days=1, microseconds=1))]


def test_categories_are_sorted_and_only_those_that_occur(study):
    made = study.under(model="m2").to_pandas()
    assert made["model"].cat.categories.tolist() == ["m2"]
    assert study.to_pandas()["model"].cat.categories.tolist() == ["m1", "m2"]
    assert not study.to_pandas()["model"].cat.ordered


@pytest.mark.parametrize("length", [10, 2000])
def test_inherited_text_costs_one_to_four_bytes_a_row(collection, length):
    with collection.new_experiment(note="n" * length) as experiment:
        for model in range(3):
            experiment.sub_record_keeper(model=f"{model}" * length).add_records(x=range(100_000))
    small = collection.to_pandas(["note", "model", "rr_attempt", "rr_lineage"])
    assert small.memory_usage(deep=True, index=False).sum() < 4 * 300_000 + 20 * length + 2000
    assert collection.to_polars(["model", "rr_lineage"]).estimated_size() <= 2 * 4 * 300_000 + 20 * length


# ---- whose memory it is ----------------------------------------------------------------------------------------------


def test_pandas_arrays_can_be_written_to_and_change_nothing_else(study):
    made = study.to_pandas()
    for name in made:
        if made[name].dtype != "category" and str(made[name].dtype) not in ("boolean", "str"):
            assert made[name].to_numpy().base is None or made[name].array is not None
            made.loc[0, name] = made[name].iloc[1]
    made.loc[:, "loss"] = 7.0
    made.loc[:, "experiment_number"] = 9
    made["loss"] += 1
    assert study.to_pandas()["loss"].tolist()[:2] == [0.5, 0.25]
    assert study.records[0]["loss"] == 0.5


def test_lists_are_a_list_for_each_row(collection):
    with collection.new_experiment(sizes=[1, 2]) as experiment:
        experiment.add_records(own=[[1], [2]])
    made = collection.to_pandas()
    made["sizes"][0].append(3)
    made["own"][0].append(3)
    assert made["sizes"].tolist() == [[1, 2, 3], [1, 2]]
    assert collection.to_pandas()["sizes"].tolist() == [[1, 2], [1, 2]]
    assert collection.records[0]["own"] == [1]


def test_a_frame_of_memory_stays_as_it_was(library):
    root = RecordKeeper(a=1)
    root.add_records(x=range(1000))
    made = frame(root, library)
    before = rows_of(made)
    root.add_records(x=range(100_000))
    root["a"] = 2
    assert rows_of(made) == before
    assert len(rows_of(frame(root, library, ["x"]))) == 101_000


# ---- empty, wrong, damaged -------------------------------------------------------------------------------------------


def test_an_empty_frame_has_its_columns_and_types(collection, library):
    with collection.new_experiment(lr=0.5, name="n") as experiment:
        experiment.sub_record_keeper(flag=True)
    made = frame(collection, library)
    assert list(types(made)) == ["experiment_number", "lr", "name", "flag", *AUTOMATIC[1:], "rr_attempt", "rr_lineage"]
    assert len(rows_of(made)) == 0
    if library != "pandas":
        assert list(types(made).values())[:4] == [pl.Int64, pl.Float64, pl.String, pl.Boolean]
    else:
        assert [str(made[name].dtype) for name in made][:4] == ["int64", "float64", "category", "bool"]


def test_a_note_that_no_level_passes_on_makes_no_column_of_its_type(collection):
    """The type is that of what records have, or would have, were there some."""
    collection.add_notes(a=True, b=1, c="x")
    for count in range(2):
        with collection.new_experiment(a=None, b=0.5) as experiment:
            experiment.add_records(step=range(count))
        assert collection.to_polars(columns=["a", "b", "c"]).dtypes == [pl.Null, pl.Float64, pl.Categorical]


def test_a_folder_that_is_not_there_reads_as_empty_with_one_warning(tmp_path, library):
    collection = ExperimentCollection(tmp_path / "nowhere")
    with pytest.warns(RecorderWarning, match=f"There is no collection {tmp_path}/nowhere") as caught:
        made, again = frame(collection, library), frame(collection, library)
    assert len(caught) == 1
    assert list(types(made)) == list(types(again)) == [*AUTOMATIC, "rr_attempt", "rr_lineage"]
    assert len(rows_of(made)) == 0


def test_a_damaged_pack_costs_its_rows_and_a_warning(study):
    packs = sorted(Path(study.path).glob("0*/*/*.parquet"))
    if not packs:
        seal(study)
        packs = sorted(Path(study.path).glob("0*/*/*.parquet"))
    data = bytearray(packs[0].read_bytes())
    data[4:200] = bytes(196)
    packs[0].write_bytes(data)
    with pytest.warns(RecorderWarning, match=f"{packs[0].name}.*The frame lacks its 6 rows"):
        made = study.to_polars()
    assert made["experiment_number"].to_list() == [2] * 6


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_pack_costs_its_rows_also_where_types_depend_on_its_values(tmp_path, which):
    """A key that is inherited and own, and one that is float in one pack and int in the other."""
    collection = ExperimentCollection(tmp_path / "study")
    for number in range(2):
        with collection.new_experiment(lr=number) as experiment:
            experiment.add_record(lr=0.5)
            experiment.add_record(x=number or 1.5)
    seal(collection)
    path = sorted(Path(collection.path).glob("0*/*/*.parquet"))[which]
    data = bytearray(path.read_bytes())
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # all before the footer
    data[4:pages] = bytes(pages - 4)
    path.write_bytes(data)
    with pytest.warns(RecorderWarning, match=f"{path.name}.*The frame lacks its 2 rows"):
        made = collection.to_polars()
    other = 1 - which
    assert made.select("experiment_number", "lr", "x").rows() == [
        (other + 1, 0.5, None),
        (other + 1, other, other or 1.5),
    ]


# ---- while it is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["polars", "pandas"])
def test_a_frame_can_be_made_while_records_are_added(tmp_path, journal, which):
    collection = ExperimentCollection(tmp_path / "study", journal=journal)
    stop = threading.Event()
    lengths = []
    with collection.new_experiment() as experiment:
        experiment.add_record(n=0, block=0)

        def write():
            number = 1
            while not stop.is_set() and number < 100_000:
                keeper = experiment.sub_record_keeper(block=number // 1000)
                for _ in range(1000 - number % 1000):
                    keeper.add_record(n=number, text="x" * (number % 50))
                    number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while not stop.is_set():
                if len(lengths) == 3:
                    stop.set()
                made = frame(collection, which, ["n", "block"])
                assert made["n"].to_list() == list(range(len(made)))
                assert made["block"].to_list() == [n // 1000 for n in range(len(made))]
                lengths.append(len(made))
        finally:
            stop.set()
            writer.join()
    assert lengths == sorted(lengths)
    assert len(collection.to_polars()) == len(collection)


@pytest.mark.parametrize("sealed", [False, True])
def test_what_a_log_got_after_the_levels_were_read_is_not_in_the_frame(collection, sealed):
    with collection.new_experiment() as experiment:
        experiment.add_records(x=np.arange(200_000) * 0.5, text="t")  # more than a reading keeps in memory
        view = read_collection(collection.path)
        assert view.attempts[0].units[0].source is None or view.attempts[0].rows == 200_000
        late = experiment.sub_record_keeper(late=True)
        late.add_record(x="text", new=1)
    if sealed:
        wait_until_sealed()  # the large logs; the helper is not to take one away meanwhile
        for path in sorted(Path(collection.path).glob("0*/*/*.log")):
            pack.seal(str(path))
    plan = make_plan(view)
    made = to_polars(plan)
    assert made.height == 200_000
    assert "new" not in made.columns
    assert made["x"].cast(pl.Float64).to_list() == [n * 0.5 for n in range(200_000)]


# ---- levels that are lost, levels with odd numbers --------------------------------------------------------------------


def test_records_whose_level_is_lost_inherit_what_stands_above_the_levels(collection, library):
    collection.add_notes(machine="a100")
    folder = Path(collection.path, "000001.1", units.ATTEMPT)
    folder.mkdir(parents=True)
    units.write(folder, [(5, {"x": 1}), (6, {"x": 2})])
    rows = rows_of(frame(collection, library, ["experiment_number", "machine", "rr_lineage", "x"]))
    lineage = "machine=a100/experiment_number=1"
    assert [tuple(row.values()) for row in rows] == [(1, "a100", lineage, 1), (1, "a100", lineage, 2)]
    branch = collection.under(machine="a100")
    assert len(rows_of(frame(branch, library))) == len(branch) == 2


@pytest.mark.parametrize("local", [1, 5000, 3_000_000_000])
def test_local_numbers_of_levels_may_be_any(collection, local):
    folder = Path(collection.path, "000001.1", units.ATTEMPT)
    folder.mkdir(parents=True)
    levels = [
        pack_level(number, (units.WRITER, number), None, {"n": number}, {}, units.WRITER) for number in (0, local)
    ]
    lost = local + 7
    units.write(
        folder, [*(units.event(u.LEVEL, level) for level in levels), (0, {"x": 1}), (local, {"x": 2}), (lost, {"x": 3})]
    )
    assert collection.to_polars()["n"].to_list() == [0, local, None]
    assert collection.under(n=local).to_polars()["x"].to_list() == [2]


# ---- Parquet, Arrow --------------------------------------------------------------------------------------------------


def test_to_parquet_writes_one_flat_file_that_others_read(study, tmp_path):
    path = tmp_path / "flat.parquet"
    path.write_text("something else")
    study.to_parquet(path)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["flat.parquet"]
    again = pl.read_parquet(path)
    assert again.equals(study.to_polars())
    assert again.schema == study.to_polars().schema
    made = pd.read_parquet(path)
    assert categorical(made) == ["name", "model", *BOTH]
    assert made["loss"].equals(study.to_pandas()["loss"])
    relation = duckdb.read_parquet(str(path))
    assert relation.aggregate("count(*), avg(loss)").fetchall()[0] == (again.height, again["loss"].mean())
    assert len(rigorous_recorder.under(relation, model="m1").fetchall()) == 6
    study.under(model="m1").to_parquet(str(path))
    assert len(pl.read_parquet(path)) == 6
    study.keeper(experiment_number=1, model="m1").to_parquet(path)
    assert len(pl.read_parquet(path)) == 3


@pytest.mark.parametrize("there", [False, True])
def test_to_parquet_writes_a_folder_that_others_read(collection, tmp_path, there):
    for number in range(12):
        with collection.new_experiment(name=f"n{number}", lr=number / 2) as experiment:
            experiment.sub_record_keeper(model="a" if number % 2 else "b").add_records(step=range(5))
    path = tmp_path / "flat"
    if there:
        path.mkdir()
    collection.to_parquet(path if there else f"{path}/")
    names = sorted(each.name for each in path.iterdir())
    assert names == [f"part-{number:05d}.parquet" for number in range(len(names))]
    assert len(names) > 1
    expected = collection.to_polars()
    again = pl.read_parquet(path)
    assert again.schema == expected.schema
    assert again.rows() == expected.rows()
    assert again.rr.under(model="a", name=["n1", "n2", "n3"]).height == 10
    made = pd.read_parquet(path)
    assert made["step"].tolist() == expected["step"].to_list()
    assert made.rr.under(model="b").shape[0] == 30
    relation = duckdb.read_parquet(f"{path}/*.parquet")
    assert relation.aggregate("count(*), sum(lr)").fetchall() == [(60, expected["lr"].sum())]
    with pytest.raises(OSError, match=r"cannot be written: .* is a folder that is not empty\. Hint: remove it"):
        collection.to_parquet(path)
    (tmp_path / "link").symlink_to(tmp_path / "flat")
    for name in ("link", "flat/part-00000.parquet"):
        with pytest.raises(OSError, match=r"is a file or a link\. Hint: remove it"):
            collection.to_parquet(f"{tmp_path}/{name}/")
    empty = ExperimentCollection(tmp_path / "empty")
    empty.new_experiment(a=1).close()
    empty.to_parquet(f"{tmp_path}/nothing/")
    assert pl.read_parquet(tmp_path / "nothing").schema == empty.to_polars().schema
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tmp")]


def test_to_parquet_keeps_the_old_file_when_it_cannot_write(study, tmp_path):
    with pytest.raises(RecorderError, match="cannot be written"):
        study.to_parquet(tmp_path / "nowhere" / "flat.parquet")
    path = tmp_path / "flat.parquet"
    path.write_text("old")
    with pytest.raises(KeyError):
        study.under(modle=1).to_parquet(path)
    folder = tmp_path / "folder.parquet"
    folder.mkdir()
    (folder / "mine").write_text("old")
    for given in (folder, f"{folder}/"):
        with pytest.raises(OSError, match="cannot be written"):
            study.to_parquet(given)
    with pytest.raises(RecorderError, match="cannot be written"):
        study.to_parquet(f"{path}/")
    assert path.read_text() == (folder / "mine").read_text() == "old"
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tmp")]


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
frame = collection.to_pandas()
assert len(frame) == 12 and frame["model"].tolist()[:2] == ["m1", "m1"], frame
assert len(collection.experiments.to_pandas()) == 2
assert collection.to_polars().height == 12
try:
    collection.to_arrow()
except ImportError as error:
    print(error)
"""


def test_without_pyarrow_only_to_arrow_says_what_it_lacks(study):
    assert "pip install 'rigorous-recorder[arrow]'" in run(WITHOUT_PYARROW, study.path)


def test_the_methods_import_no_other_library_than_their_own(study):
    code = """
import sys
from rigorous_recorder import ExperimentCollection
ExperimentCollection(sys.argv[1]).to_polars()
print(*sorted({"pandas", "pyarrow", "super_hash", "narwhals"} & set(sys.modules)))
"""
    assert run(code, study.path).strip() == ""


# ---- the table of runs -----------------------------------------------------------------------------------------------


def test_experiments_are_a_table_of_runs(collection, library):
    if library == "arrow":
        return
    with collection.new_experiment(lr=0.1, model="m") as experiment:
        experiment.add_records(x=range(3))
    with pytest.raises(ZeroDivisionError), collection.new_experiment(lr=0.1, model="m", state="odd"):
        1 / 0  # noqa: B018
    running = collection.new_experiment(lr=1, model="m")
    with pytest.warns(RecorderWarning, match="info key 'state' has the name of a column"):
        made = frame(collection.experiments, library)
    running.close()
    assert list(types(made)) == [
        "experiment_number", "rr_attempt", "state", "lr", "model", "state_", *AUTOMATIC[1:], "n_records", "error",
        "fingerprint",
    ]  # fmt: skip
    rows = rows_of(made)
    assert [row["experiment_number"] for row in rows] == [1, 2, 2]
    assert [row["state"] for row in rows] == ["finished", "failed", "running"]
    assert [row["n_records"] for row in rows] == [3, 0, 0]
    assert [row["lr"] for row in rows] == [0.1, 0.1, 1.0]
    assert [row["had_error"] for row in rows] == [False, True, None]
    assert [row["error_number"] for row in rows] == [0, 1, 0]
    assert rows[1]["error"] == "ZeroDivisionError: division by zero"
    assert rows[0]["fingerprint"] == experiment.fingerprint != rows[2]["fingerprint"]
    assert rows[0]["rr_attempt"] == next(Path(collection.path, "000001.1").iterdir()).name[:12]


def test_an_empty_table_of_runs_has_its_columns(collection):
    collection.add_notes(a=1)
    made = collection.experiments.to_polars()
    assert made.height == 0
    assert made.schema["experiment_duration"] == pl.Float64
    assert list(collection.experiments.to_pandas().columns) == made.columns


# ---- the plan --------------------------------------------------------------------------------------------------------


def test_a_plan_can_be_looked_at_and_executed_in_parts(study):
    plan = make_plan(read_collection(study.path))
    assert list(plan.schema) == COLUMNS
    assert len(plan.parts) == 2
    assert all(isinstance(part, Part) and part.whole and part.rows == 6 for part in plan.parts)
    assert plan.table.columns == COLUMNS[:13]
    rows = materialise(plan.select(["model", "loss"]), [(part, None) for part in plan.parts[1:]])
    assert isinstance(rows.runs, Runs)
    assert rows.height == rows.runs.rows == 6
    assert rows.columns["loss"].to_list() == [0.5, 0.25, None] * 2
    assert (
        plan.table["model"].gather(rows.runs.spread(np.arange(plan.table.height))).to_list() == ["m1"] * 3 + ["m2"] * 3
    )
