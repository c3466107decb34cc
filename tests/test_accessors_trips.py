"""A frame keeps `.rr` on its way through other operations, files and libraries, and lazy frames stay lazy."""

import datetime as dt
import pickle
import subprocess
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from flat import KINDS, OLD_POLARS, WITH_ACCESSOR, dicts, flat_row, ns, polars_frame, with_enums, with_texts
from polars.io.plugins import register_io_source

import rigorous_recorder
from rigorous_recorder import RecorderError, concat, under


def chain(number, model):
    return [{"experiment_number": number, "lr": number / 10}, {"model": model}]


def study(numbers, attempt, start=0):
    """A flat frame of some experiments with two models and three steps each."""
    places = [(number, model, step) for number in numbers for model in ("m1", "m2") for step in range(3)]
    automatic = {"error_number": 0, "had_error": False, "experiment_duration": 1.5}
    return polars_frame(
        [
            flat_row(
                chain(number, model),
                attempt * 12,
                {**automatic, "experiment_number": number},
                {"n": start + n, "step": step, "loss": n / 8},
            )
            for n, (number, model, step) in enumerate(places)
        ]
    )


FIRST = study([1, 2], "a")
SECOND = study([3, 2], "b", start=12)
M1 = [0, 1, 2, 6, 7, 8]
BOTH_M1 = [*M1, *(n + 12 for n in M1)]


# ---- operations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in WITH_ACCESSOR if kind.startswith("pandas")])
def test_pandas_operations(kind):
    frame = KINDS[kind](FIRST)
    assert ns(frame[frame["loss"] > 0.2].rr.under(model="m1")) == [2, 6, 7, 8]
    assert ns(frame.assign(square=frame["loss"] ** 2).rr.under(model="m1")) == M1
    assert ns(frame.sort_values("n", ascending=False).rr.under(model="m1")) == M1[::-1]
    assert ns(frame.merge(pd.DataFrame({"model": ["m1", "m2"], "size": [1, 2]}), on="model").rr.under(model="m1")) == M1
    assert ns(frame.set_index("n", drop=False).rr.under(model="m1")) == M1
    assert ns(frame.groupby("model", observed=True).tail(1).rr.under(lr=0.2)) == [8, 11]
    assert ns(frame[["n", "rr_lineage"]].rr.under(model="m1")) == M1
    doubled = frame.loc[[0, 0, 5]]
    doubled.index = [7, 7, 7]
    assert ns(doubled.rr.under(model="m1")) == [0, 0]
    assert ns(frame.query("loss > 0.2").rr.latest("step")) == list(range(2, 12))


@pytest.mark.parametrize("kind", [kind for kind in WITH_ACCESSOR if kind.startswith(("polars", "lazy"))])
def test_polars_operations(kind):
    frame = KINDS[kind](FIRST)
    assert ns(frame.filter(pl.col("loss") > 0.2).rr.under(model="m1")) == [2, 6, 7, 8]
    assert ns(frame.with_columns(square=pl.col("loss") ** 2).rr.under(model="m1")) == M1
    assert ns(frame.sort("n", descending=True).rr.under(model="m1")) == M1[::-1]
    sizes = pl.DataFrame({"model": ["m1", "m2"], "size": [1, 2]})
    sizes = sizes.lazy() if kind.startswith("lazy") else sizes
    assert ns(frame.join(sizes, on="model", maintain_order="left").rr.under(model="m1")) == M1
    assert ns(frame.join(sizes, on="model", how="semi").rr.under(model="m1")) == M1
    assert ns(frame.select("n", "rr_lineage").rr.under(model="m1")) == M1
    assert ns(frame.head(5).rr.under(model="m1")) == [0, 1, 2]
    assert ns(frame.rr.under(model="m1").head(2)) == [0, 1]


@pytest.mark.parametrize("kind", [kind for kind in WITH_ACCESSOR if not kind.startswith("lazy")])
def test_only_the_lineages_of_rows_that_are_there_count(kind):
    """A pandas frame remembers the categories of rows that were filtered away; a callable must not be asked about them."""
    places = [("k", 1), ("k", "x"), ("j", 2)]
    rows = [
        flat_row([{"experiment_number": 1}, {key: value}], "a" * 12, {}, {"n": n})
        for n, (key, value) in enumerate(places)
    ]
    frame = KINDS[kind](polars_frame(rows))
    part = frame[frame["n"] != 1] if isinstance(frame, pd.DataFrame) else frame.filter(pl.col("n") != 1)
    assert ns(part.rr.under(k=lambda value: value < 2)) == [0]
    part = part[part["n"] != 2] if isinstance(frame, pd.DataFrame) else part.filter(pl.col("n") != 2)
    with pytest.raises(KeyError, match="'j' is a column, but the key of no level of these rows"):
        dicts(part.rr.under(j=2))


# ---- files and other libraries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        kind for kind in WITH_ACCESSOR if not kind.startswith("lazy") and kind != "pandas arrow dictionary"
    ],  # pandas cannot read it
)
def test_parquet(kind, tmp_path):
    frame = KINDS[kind](FIRST)
    path = tmp_path / "flat.parquet"
    write = frame.to_parquet if isinstance(frame, pd.DataFrame) else frame.write_parquet
    write(path)
    for back in (
        pd.read_parquet(path),
        pd.read_parquet(path, dtype_backend="pyarrow"),
        pl.read_parquet(path),
        pl.scan_parquet(path),
        pa.parquet.read_table(path) if hasattr(pa, "parquet") else pl.read_parquet(path).to_arrow(),
        duckdb.read_parquet(str(path)),
    ):
        assert ns(under(back, model="m1", had_error=False, rr_attempt="a" * 12)) == M1, type(back)


@pytest.mark.parametrize("kind", KINDS)
def test_between_pandas_polars_arrow_and_duckdb(kind):
    frame = KINDS[kind](FIRST)
    frame = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    if isinstance(frame, duckdb.DuckDBPyRelation):
        others = [frame.pl(), frame.df(), frame.to_arrow_table()]
    elif isinstance(frame, pd.DataFrame):
        others = [pl.from_pandas(frame), pa.Table.from_pandas(frame), duckdb.connect().from_df(frame)]
    else:
        table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
        others = [
            pl.from_arrow(table),
            pl.from_arrow(table).to_pandas(),
            table.to_pandas(),
            duckdb.connect().from_arrow(table),
        ]
    for other in others:
        assert ns(under(other, model="m1", had_error=False)) == M1, type(other)
        assert ns(under(under(other, lr=[0.2]), model="m1")) == M1[3:], type(other)


def test_sql():
    flat = FIRST  # noqa: F841  (DuckDB and polars find it by its name)
    result = duckdb.sql("select n, rr_lineage from flat where loss > 0.2 order by n")
    assert ns(under(result, model="m1")) == [2, 6, 7, 8]
    assert ns(pl.sql("select n, rr_lineage from flat where loss > 0.2", eager=True).rr.under(model="m1")) == [
        2,
        6,
        7,
        8,
    ]


# ---- lazy frames -------------------------------------------------------------------------------------------------


needs_sources = pytest.mark.skipif(OLD_POLARS, reason="this polars panics over filtered batches of a source in Python")


def source(frame, batches, asked, whole=False):
    """A lazy frame in batches like those of a scan, that notes which columns and predicates it is asked for."""

    def read(with_columns, predicate, n_rows, batch_size):
        asked.append((with_columns, predicate))
        size = len(frame) if whole else -(-len(frame) // batches)
        for start in range(0, len(frame), size):
            batch = frame[start : start + size].select(with_columns or frame.columns)
            yield batch if predicate is None else batch.filter(predicate)

    return register_io_source(read, schema=frame.schema)


@needs_sources
@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_the_filter_reaches_a_scan_and_is_asked_once(engine):
    asked = []
    lazy = source(FIRST, 4, asked).rr.under(model=["m1", "m2"], had_error=False).filter(pl.col("step") == 1).select("n")
    assert asked == [], "nothing is read at the call"
    assert lazy.collect(engine=engine)["n"].to_list() == [1, 4, 7, 10]
    ((columns, predicate),) = asked
    assert set(columns) == {"n", "step", "had_error", "rr_lineage"}
    assert {"had_error", "rr_lineage", "step"} == set(predicate.meta.root_names())


@needs_sources
def test_a_scan_in_python_takes_no_cloudpickle_and_copies_no_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    asked = []
    lazy = source(FIRST, 4, asked)
    picked = lazy.rr.under(model="m1", had_error=False)
    assert ns(picked) == M1
    assert asked[0][1] is not None, "the filter was pushed down"
    other = pickle.dumps(next(iter(rigorous_recorder.accessors.polars._masks.values())))
    assert len(other) < 200
    assert pickle.loads(other)
    code = "import pickle, polars, rigorous_recorder, sys; pickle.loads(bytes.fromhex(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, other.hex()], capture_output=True, text=True)
    assert "only in the process that pickled it" in done.stderr


@needs_sources
@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_key_that_a_batch_lacks_may_be_in_another_one(engine):
    asked = []
    odd = pl.concat(
        [FIRST, FIRST.with_columns(pl.lit("experiment_number=9/other=1").cast(pl.Categorical).alias("rr_lineage"))]
    )
    for _ in range(2):
        assert source(odd, 12, asked).rr.under(other=1).collect(engine=engine)["n"].to_list() == list(range(12))
    assert source(odd, 12, asked).rr.under(other=2).collect(engine=engine).is_empty()
    with pytest.raises(KeyError, match=r"No level has the key 'ohter'.*'other'"):
        source(odd, 12, asked).rr.under(ohter=1).collect(engine=engine)
    lazy = source(odd, 12, asked).rr.under(ohter=1)
    for _ in range(2):
        with pytest.raises(KeyError, match="No level has the key 'ohter'"):
            lazy.collect(engine=engine)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_many_rows_and_levels_in_threads(engine):
    """Batches of one frame are decided in several threads of polars, of which one may ask for all lineages."""
    levels = [f"experiment_number={number}/k={number % 7}" for number in range(1000)]
    frame = pl.DataFrame({"rr_lineage": pl.Series(levels * 300, dtype=pl.Categorical), "n": range(300_000)}).sort(
        "rr_lineage"
    )
    lazy = frame.lazy()
    picked = lazy.rr.under(k=[1, 2]).group_by("rr_lineage").agg(pl.len()).collect(engine=engine)
    assert len(picked) == sum(number % 7 in (1, 2) for number in range(1000))
    with pytest.raises(KeyError, match="'kk'"):
        lazy.rr.under(kk=1).collect(engine=engine)
    last = frame.with_columns(
        pl.when(pl.col("n") == pl.col("n").last())
        .then(pl.lit("last=1"))
        .otherwise(pl.col("rr_lineage").cast(pl.String))
        .alias("rr_lineage")
    )
    assert len(last.lazy().rr.under(last=1).collect(engine=engine)) == 1


def test_under_streams_from_a_file(tmp_path):
    path = tmp_path / "flat.parquet"
    pl.concat([FIRST] * 100).write_parquet(path, row_group_size=64)
    lazy = pl.scan_parquet(path).rr.under(model="m1")
    assert "SELECTION" in lazy.explain(), "polars filters while it reads"
    assert lazy.select(pl.len()).collect(engine="streaming").item() == 600
    lazy.sink_parquet(tmp_path / "m1.parquet")
    assert ns(pl.read_parquet(tmp_path / "m1.parquet").head(6)) == M1


# ---- concat ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("pandas", "polars", "lazy", "arrow"))])
def test_concat(kind):
    frames = [KINDS[kind](FIRST), KINDS[kind](SECOND)]
    joined = concat(frames)
    assert type(joined) is type(frames[0])
    assert ns(joined) == list(range(24))
    assert ns(under(joined, model="m1")) == BOTH_M1
    assert ns(under(joined, rr_attempt="b" * 12, experiment_number=2)) == list(range(18, 24))
    assert dicts(joined) == [*dicts(frames[0]), *dicts(frames[1])]
    assert ns(concat(iter(frames[:1]))) == list(range(12))


def categories(frame):
    """Whether our columns are categories."""
    if isinstance(frame, pd.DataFrame):
        return all(isinstance(frame[name].dtype, pd.CategoricalDtype) for name in ("rr_lineage", "rr_attempt"))
    if isinstance(frame, pa.Table):
        return all(pa.types.is_dictionary(frame.schema.field(name).type) for name in ("rr_lineage", "rr_attempt"))
    schema = frame.collect_schema()
    return all(isinstance(schema[name], (pl.Categorical, pl.Enum)) for name in ("rr_lineage", "rr_attempt"))


@pytest.mark.parametrize("change", [lambda frame: frame, with_texts, with_enums, lambda frame: frame.clear()])
@pytest.mark.parametrize("to", ["pandas", "polars", "lazy", "arrow"])
@pytest.mark.parametrize("turned", [False, True])
def test_categories_are_united_and_stay_categories(change, to, turned):
    frames = [KINDS[to](FIRST), KINDS[to](change(SECOND)), KINDS[to](with_enums(FIRST))][:: -1 if turned else 1]
    joined = concat(frames)
    assert categories(joined)
    assert dicts(joined) == [row for frame in frames for row in dicts(frame)]
    if isinstance(joined, pa.Table):
        assert categories(pl.from_arrow(joined))
        assert dicts(pl.from_arrow(joined)) == dicts(joined)


@pytest.mark.parametrize("to", ["pandas", "polars", "lazy", "arrow"])
def test_missing_columns_become_missing_values(to):
    one = FIRST.with_columns(count=pl.lit(2**53 + 1), good=pl.lit(value=True), word=pl.lit("w").cast(pl.Categorical))
    two = SECOND.drop("loss", "model", "had_error").with_columns(
        other=pl.lit(1.5), when=pl.lit("2026-01-02").str.to_date()
    )
    frames = [KINDS[to](one), as_they_are(two, to), KINDS[to](one)]
    joined = dicts(concat(frames))
    assert list(joined[0]) == [*one.columns, "other", "when"]
    for row, before in zip(joined, [row for frame in frames for row in dicts(frame)], strict=True):
        assert row == {**dict.fromkeys(row), **before}
        assert {
            key: type(value) for key, value in row.items() if value is not None and key in ("count", "good", "step")
        } == {
            key: {"count": int, "good": bool, "step": int}[key]
            for key in ("count", "good", "step")
            if before.get(key) is not None
        }


def as_they_are(frame, to):
    return frame.to_pandas() if to == "pandas" else KINDS[to](frame)


def test_indexes_of_numbers_are_renewed_and_others_stay():
    frame = FIRST.to_pandas()
    joined = concat([frame[frame["n"] > 5], frame])
    assert list(joined.index) == list(range(18))
    named = frame.set_index("n")
    assert list(concat([named, named]).index) == [*range(12), *range(12)]
    assert concat([named, named]).index.name == "n"


def test_dtypes_of_pandas_where_something_is_missing_and_where_not():
    full = pd.DataFrame({"i": [1], "u": pd.Series([2**64 - 1], dtype="uint64"), "b": [True], "f": [0.5]})
    arrow = full.convert_dtypes(dtype_backend="pyarrow")
    other = pd.DataFrame({"x": [1]})
    assert concat([full, full]).dtypes.astype(str).to_list() == ["int64", "uint64", "bool", "float64"]
    assert concat([full, full.head(0), full.head(0).astype("object"), other.head(0)]).dtypes.astype(str).to_list() == [
        "int64", "uint64", "bool", "float64", "Int64",
    ]  # fmt: skip
    assert concat([full, other]).dtypes.astype(str).to_list() == ["Int64", "UInt64", "boolean", "float64", "Int64"]
    assert concat([arrow, other]).dtypes.astype(str).to_list()[:3] == [
        "int64[pyarrow]",
        "uint64[pyarrow]",
        "bool[pyarrow]",
    ]
    assert concat([other, full])["u"].to_list()[1] == 2**64 - 1


INTS = [0, -1, 2**53 + 1, 2**63 - 1]
UINTS = [0, 2**53 + 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("one", [[value] for value in INTS])
@pytest.mark.parametrize("two", [pd.Series([value], dtype="uint64") for value in UINTS] + [pd.Series([0.5])], ids=str)
@pytest.mark.parametrize("convert", [lambda frame: frame, pd.DataFrame.convert_dtypes])
def test_no_number_is_rounded_in_pandas(one, two, convert):
    frames = [convert(pd.DataFrame({"v": one})), convert(pd.DataFrame({"v": two})), pd.DataFrame({"other": [1]})]
    for several in (frames, frames[:2]):
        joined = concat(several)["v"].to_list()
        if isinstance(joined[0], str):  # they have no type in common, so they are text, as in a flat frame
            assert joined[:2] == [str(one[0]), str(two[0])]
            assert two[0] == 0.5 or (one[0] < 0 and two[0] >= 2**63)
            assert two[0] != 0.5 or abs(one[0]) >= 2**53
            continue
        assert joined[:2] == [one[0], two[0]]
        assert [int(value) for value in joined[:2]] == [one[0], int(two[0])]


NAIVE = dt.datetime(2026, 1, 2, 3)  # noqa: DTZ001
KINDS_ONLY = {"pandas": pl.DataFrame.to_pandas, **{kind: KINDS[kind] for kind in ("polars", "lazy", "arrow")}}
UNLIKE = {
    "text and int": (["a", None], [1, 2], ["a", None, "1", "2"]),
    "text and float": (["a"], [0.5, None], ["a", "0.5", None]),
    "text and bool": (["a"], [True, None], ["a", "true", None]),
    "text and bytes": (["a"], [b"x"], ["a", "eA=="]),
    "text and time": (["a"], [dt.time(1, 2)], ["a", "01:02:00"]),
    "text and moment": (["a"], [NAIVE], ["a", "2026-01-02T03:00:00"]),
    "text and timedelta": (["a"], [dt.timedelta(1, 2)], ["a", "1 day, 0:00:02"]),
    "bool and int": ([True], [1], ["true", "1"]),
    "bool and float": ([False, None], [0.5], ["false", None, "0.5"]),
    "bool and moment": ([False], [NAIVE], ["false", "2026-01-02T03:00:00"]),
    "int and float": ([2**53 - 1, None], [0.5], [2**53 - 1, None, 0.5]),
    "int that no float is": ([2**53 + 1], [0.5], ["9007199254740993", "0.5"]),
    "int that the next float is not": ([-(2**53)], [0.5], ["-9007199254740992", "0.5"]),
    "uint and int": ([2**63], [1], [2**63, 1]),
    "uint and negative int": ([2**63], [-1], ["9223372036854775808", "-1"]),
    "uint and float": ([2**64 - 1], [0.5], ["18446744073709551615", "0.5"]),
    "nothing and int": ([None], [1], [None, 1]),
}


@pytest.mark.parametrize("to", ["pandas", "polars", "lazy", "arrow"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("one", "two", "expected"), UNLIKE.values(), ids=list(UNLIKE))
def test_unlike_types_become_the_narrowest_that_is_exact_else_text(one, two, expected, to, turned):
    pieces = [one, two][:: -1 if turned else 1]
    frames = [KINDS_ONLY[to](holding(piece)) for piece in pieces]
    joined = [row["v"] for row in dicts(concat(frames))]
    answer = expected if not turned else [*expected[len(one) :], *expected[: len(one)]]
    assert joined == answer
    assert list(map(type, joined)) == [
        float if 0.5 in answer and value is not None else type(value) for value in answer
    ]


@pytest.mark.parametrize("to", ["pandas", "polars", "lazy", "arrow"])
def test_inherited_text_and_a_number_become_categories(to):
    frames = [
        KINDS_ONLY[to](holding(["a", "b"]).cast(pl.Categorical)),
        KINDS_ONLY[to](holding([1])),
        KINDS_ONLY[to](holding(["c"])),
    ]
    joined = concat(frames)
    assert [row["v"] for row in dicts(joined)] == ["a", "b", "1", "c"]
    if to == "arrow":
        dtype = joined.schema.field("v").type
    else:
        dtype = joined.dtypes["v"] if to == "pandas" else joined.collect_schema()["v"]
    assert "dict" in str(dtype) or "cat" in str(dtype).lower()


@pytest.mark.parametrize("to", ["polars", "lazy", "arrow"])
def test_lists_are_widened_by_their_items_and_types_that_do_not_go_together_are_named(to):
    def joined(*pieces):
        return [row["v"] for row in dicts(concat([KINDS_ONLY[to](holding(piece)) for piece in pieces]))]

    assert joined([[1], [None]], [[0.5]]) == [[1.0], [None], [0.5]]
    assert joined([[2**53 + 1]], [[0.5]]) == ["[9007199254740993]", "[0.5]"]
    assert joined([[1]], ["a"]) == ["[1]", "a"]
    assert joined([dt.date(2026, 1, 2)], [NAIVE]) == ["2026-01-02", "2026-01-02T03:00:00"]
    with pytest.raises(
        TypeError, match=r"The column 'v' is of types that do not go together: .*[Ss]truct.*Hint"
    ) as caught:
        joined([{"a": 1}], [b"x"])
    assert isinstance(caught.value, RecorderError)


@pytest.mark.parametrize(
    "wrong", [None, 3, FIRST, FIRST.lazy(), FIRST.to_arrow(), FIRST.to_pandas()], ids=lambda one: type(one).__name__
)
def test_concat_takes_a_list(wrong):
    with pytest.raises(
        ValueError, match=r"concat takes a list of frames, and was given a .*Hint: concat\(\[one, two\]\)"
    ) as caught:
        concat(wrong)
    assert isinstance(caught.value, RecorderError)


def holding(values):
    return pl.DataFrame({"v": values})


def test_ordered_categories_that_are_equal_stay_ordered():
    ordered = pd.DataFrame({"size": pd.Categorical(["S", "L"], categories=["S", "M", "L"], ordered=True)})
    assert concat([ordered, ordered])["size"].cat.ordered
    other = pd.DataFrame({"size": pd.Categorical(["XL", None])})
    assert concat([ordered, other])["size"].to_list()[:3] == ["S", "L", "XL"]
    assert concat([ordered, pd.DataFrame({"size": [None, None]})])["size"].cat.categories.to_list() == ["S", "M", "L"]
    numbers = pd.DataFrame({"size": pd.Categorical([1, 2])})
    assert concat([numbers, ordered])["size"].to_list() == [1, 2, "S", "L"]


def test_concat_copies():
    frame = FIRST.to_pandas()
    joined = concat([frame])
    joined.loc[0, "loss"] = 99.0
    assert frame.loc[0, "loss"] == 0.0


@pytest.mark.parametrize(
    ("frames", "kind", "message"),
    [
        ([], ValueError, "concat got no frames"),
        ([FIRST, FIRST.lazy()], TypeError, r"of one kind.*polars, polars, lazy.*Hint"),
        ([FIRST, FIRST.to_pandas()], TypeError, r"of one kind.*pandas, polars.*Hint"),
        ([FIRST, [1]], TypeError, "list is no frame"),
        ([pl.Series([1])], TypeError, "Series is no frame"),
        ([pd.DataFrame([[1, 2]], columns=["a", "a"])], ValueError, "two columns 'a'"),
    ],
    ids=range(6),
)
def test_what_concat_refuses(frames, kind, message):
    with pytest.raises(kind, match=message) as caught:
        concat(frames)
    assert isinstance(caught.value, RecorderError)
