"""scan() and sql(): the same rows as to_polars(), read unit by unit, and units that cannot match are not opened."""

from contextlib import ExitStack
from pathlib import Path

import children
import duckdb
import numpy as np
import polars as pl
import pytest
from flat import OLD_POLARS
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from test_frames_model import LEVELS, TREES, some_sealed

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderWarning, RecordKeeper
from rigorous_recorder.frames import materialise, scan
from rigorous_recorder.session import background
from rigorous_recorder.store import journal, pack, packread

COMPARED = {
    pl.Boolean: [True, False],
    pl.Int64: [0, 1, -1, 2**53],
    pl.Float64: [0.5, 0.0, 1.0],
    pl.String: ["t", "1", ""],
    pl.Categorical: ["t", "1", "nothing"],
}


def askable(names):
    """Those that one can ask a lazy frame for: polars 1 takes some for patterns, whatever one does."""
    return [name for name in names if not (OLD_POLARS and (name == "*" or name.startswith("^")))]


def simple(schema):
    """Conditions about one column each, also such as are about all rows, so that nothing can be decided on levels."""
    conditions = []
    for name, dtype in schema.items():
        if name not in askable(schema):
            continue
        column = pl.selectors.by_name(name)  # `pl.col` takes some names for patterns
        conditions += [column.is_null(), column.is_not_null(), column.count() > 1]
        for value in COMPARED.get(type(dtype), []):
            conditions += [column == value, column != value, column.is_in([value])]
            conditions += [column.eq_missing(value), column.ne_missing(value)]
            conditions += [pl.coalesce(column, pl.lit(value)) == value, column.fill_null(value) == value]
    return st.sampled_from(conditions)


def predicates(schema):
    """Conditions, and what can be made of them."""
    return st.recursive(
        simple(schema),
        lambda inner: (
            st.builds(lambda a, b: a & b, inner, inner)
            | st.builds(lambda a, b: a | b, inner, inner)
            | st.builds(lambda a, b: a ^ b, inner, inner)
            | st.builds(pl.coalesce, inner, inner)
            | st.builds(lambda a, b, c: pl.when(a).then(b).otherwise(c), inner, inner, inner)
            | st.builds(lambda a, b: pl.when(a).then(b), inner, inner)
            | st.builds(lambda a, b: a.eq_missing(b), inner, inner)
            | st.builds(lambda a: ~a, inner)
        ),
        max_leaves=4,
    )


@settings(max_examples=max(15, settings.default.max_examples // 2))
@given(data=st.data(), trees=TREES, notes=st.just({}) | LEVELS, seals=st.integers(0, 7), closed=st.booleans())
def test_a_scan_gives_what_to_polars_gives(data, trees, notes, seals, closed):
    with ExitStack() as stack:
        collection = some_sealed(stack, trees, notes, seals, closed=closed)
        frame, lazy = collection.to_polars(), collection.scan()
        assert lazy.collect_schema() == frame.schema
        assert_frame_equal(lazy.collect(), frame)
        chosen = data.draw(st.lists(st.sampled_from(askable(frame.columns)), min_size=1, unique=True))
        named = pl.selectors.by_name(*chosen)  # some names are patterns where they stand alone
        assert_frame_equal(lazy.select(named).collect(), frame.select(named))
        assert lazy.select(pl.len()).collect().item() == frame.height
        rows = data.draw(st.integers(0, 5))
        assert_frame_equal(lazy.head(rows).collect(), frame.head(rows))
        for _ in range(3):
            predicate = data.draw(predicates(frame.schema))
            for engine in ("in-memory", "streaming"):
                found = lazy.filter(predicate).select(named).collect(engine=engine)
                assert_frame_equal(found, frame.filter(predicate).select(named))
                found = lazy.head(rows).filter(predicate).collect(engine=engine)
                assert_frame_equal(found, frame.head(rows).filter(predicate))


def fill(collection, experiments=3, episodes=4, steps=50):
    """Experiments with info, whose episodes are packs of their own."""
    for number in range(experiments):
        for episode in range(episodes):
            experiment = (
                collection.new_experiment(lr=number) if not episode else collection.resume_experiment(number + 1)
            )
            keeper = experiment.sub_record_keeper(episode=episode, agent="even" if episode % 2 == 0 else "odd")
            keeper.add_records(step=range(steps), x=np.linspace(episode, episode + 1, steps))
            if episode == 3:
                keeper.add_record(step=-1, late=1.5, lr=7)  # an own value wins over the inherited one
            experiment.close()
    for path in Path(collection.path).rglob("*.log"):
        assert pack.seal(str(path)) is not None
    return collection


@pytest.fixture
def packs(collection):
    return fill(collection)


@pytest.fixture
def opened(monkeypatch):
    """The packs whose columns are read."""
    paths = []
    real = packread.read_frames

    def counting(wanted):
        paths.extend(one.path for one in wanted)
        return real(wanted)

    monkeypatch.setattr(materialise, "read_frames", counting)
    return paths


@pytest.mark.parametrize(
    ("predicate", "units"),
    [
        (pl.col("episode") == 2, 3),
        (pl.col("agent") == "odd", 6),
        (pl.col("agent").cast(pl.String).str.starts_with("o"), 6),
        ((pl.col("episode") == 2) & (pl.col("experiment_number") == 1) & (pl.col("x") > 2.5), 1),
        (pl.col("rr_lineage") == "experiment_number=2,lr=1/episode=1,agent=odd", 1),
        (pl.col("had_error"), 0),
        (pl.col("agent") == "nobody", 0),
        (pl.col("late") > 1, 3),  # a key that only three units have
        (pl.col("lr") == 0, 4 + 2),  # episode 3 has records with an own `lr`: its units might match
        ((pl.col("episode") == 2) | (pl.col("x") > 3.5), 12),  # about both: every row has to be asked
        (pl.col("x").max() > 0, 12),
        (pl.lit(value=True), 12),
    ],
)
def test_units_that_cannot_match_are_not_opened(packs, opened, predicate, units):
    lazy = packs.scan().filter(predicate)
    expected = packs.to_polars().filter(predicate)
    opened.clear()
    assert_frame_equal(lazy.collect(), expected)
    assert len(opened) == units, opened


def test_what_is_not_opened_may_be_gone(packs):
    """The same without a count of ours: all packs but those of episode 2 are removed after the call."""
    lazy = packs.scan().filter(pl.col("episode") == 2)
    expected = packs.to_polars().filter(pl.col("episode") == 2)
    kept = {Path(part.kept.path) for part, _ in scan.matching(packs._plan(), frozenset(), pl.col("episode") == 2)}
    for path in Path(packs.path).rglob("*.parquet"):
        if path not in kept:
            path.unlink()
    assert_frame_equal(lazy.collect(), expected)


def test_head_stops_early(packs, opened):
    lazy = packs.scan()
    opened.clear()
    assert lazy.head(60).collect().height == 60
    assert len(opened) == 2
    opened.clear()
    assert lazy.filter(pl.col("step") >= 0).head(1).collect(engine="streaming").height == 1
    assert len(opened) < 12


@pytest.mark.parametrize("state", ["logs", "sealed", "compacted"])
@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_limit_of_a_branch_counts_the_rows_of_the_branch(collection, engine, state):
    for number in range(5):
        with collection.new_experiment() as experiment:
            keepers = {name: experiment.sub_record_keeper(model=name) for name in "abc"}
            for turn in range(4 * number):
                keepers["abca"[turn % 4]].add_record(i=turn)
            keepers["b"].add_records(i=range(100, 102))
    if state == "sealed":
        for log in Path(collection.path).rglob("*.log"):
            pack.seal(str(log))
    elif state == "compacted":
        collection.compact()
    for models in ("b", ["a", "c"]):
        branch = collection.under(model=models)
        whole = branch.to_polars()
        for first in (0, 1, 2, 3, 7, 11, 100):
            lazy = branch.scan()
            assert_frame_equal(lazy.head(first).collect(engine=engine), whole.head(first))
            assert_frame_equal(lazy.slice(2, first).collect(engine=engine), whole.slice(2, first))
            assert lazy.head(first).select(pl.len()).collect(engine=engine).item() == min(first, whole.height)
            assert branch.sql(f"select i from records limit {first}")["i"].to_list() == whole["i"].head(first).to_list()


def test_a_limit_does_not_count_what_cannot_be_read(collection):
    for number in range(3):
        with collection.new_experiment() as experiment:
            experiment.add_records(i=range(10 * number, 10 * number + 10))
    for log in sorted(Path(collection.path).rglob("*.log")):
        pack.seal(str(log))
    lazy = collection.scan()
    path = min(Path(collection.path).rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.warns(DamageWarning, match="lacks its 10 rows"):
        assert lazy.head(12).select("i").collect()["i"].to_list() == list(range(10, 22))


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_condition_behind_head_is_asked_of_the_first_rows_alone(engine):
    root = RecordKeeper()
    for model in "ab":
        keeper = root.sub_record_keeper(model=model)
        keeper.add_records(i=range(50))
    lazy, eager = root.scan(), root.to_polars()
    for first in (0, 1, 50, 60, 100, 200):
        for condition in (pl.col("model") == "b", pl.col("i") < 20, (pl.col("model") == "a") & (pl.col("i") > 40)):
            got = lazy.head(first).filter(condition).collect(engine=engine)
            assert_frame_equal(got, eager.head(first).filter(condition))
            assert_frame_equal(
                lazy.slice(3, first).filter(condition).collect(engine=engine), eager.slice(3, first).filter(condition)
            )
        assert lazy.head(first).rr.under(model="b").collect(engine=engine).height == max(0, min(first, 100) - 50)
    assert root.sql("select count(*) n from (select * from records limit 60) t where model = 'b'").item() == 10


def test_only_the_columns_asked_for_are_read(packs, monkeypatch):
    asked = []
    real = packread.read_frames

    def noting(wanted):
        asked.extend(list(one.columns) for one in wanted)
        return real(wanted)

    monkeypatch.setattr(materialise, "read_frames", noting)
    packs.scan().filter(pl.col("episode") == 2).select(pl.col("x").mean()).collect()
    assert asked == [["x"]] * 3
    asked.clear()
    packs.scan().group_by("agent").len().collect()
    assert asked == [], "the levels of all rows are told in the footers"
    packs.scan().filter(pl.col("x") < 7).select("x").collect()
    assert asked == [["rr_level", "x"]] * 12


def test_row_groups_that_cannot_match_are_not_read(tmp_path, monkeypatch):
    """The pages of the other row groups are destroyed: reading one of them would raise."""
    monkeypatch.setattr(pack, "CELLS", 1)  # the fewest rows per group
    monkeypatch.setattr(journal, "SIZES", (1 << 20,))  # all in one unit
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        for step in range(8 * pack.LEAST_ROWS):
            experiment.add_record(step=step, x=step * 0.37)
    (log,) = Path(collection.path).rglob("*.log")
    path = Path(pack.seal(str(log)))
    groups = pl.scan_parquet(path).select(pl.len()).collect().item() // pack.LEAST_ROWS
    assert groups == 8
    lazy = collection.scan().filter(pl.col("step") >= 7 * pack.LEAST_ROWS)
    content = bytearray(path.read_bytes())
    content[16 : len(content) // 2] = bytes(len(content) // 2 - 16)
    path.write_bytes(content)
    monkeypatch.setattr(packread, "ABORTS", False)  # where polars could abort, the whole pack is checked first
    assert lazy.select("step").collect()["step"].to_list() == list(range(7 * pack.LEAST_ROWS, 8 * pack.LEAST_ROWS))
    with pytest.warns(DamageWarning, match="is damaged.* lacks its 8,192 rows"):
        assert collection.scan().select(pl.col("step").sum()).collect().item() == 0


def test_a_scan_is_fixed_at_its_call(collection):
    with collection.new_experiment(lr=1) as experiment:
        keeper = experiment.sub_record_keeper(model="m")
        keeper.add_record(x=1)
        lazy = collection.scan()
        keeper.add_record(x=0.5, y="new")
        keeper["model"] = "n"
        assert lazy.select("model", "x").collect().rows() == [("m", 1)]
        assert "y" not in lazy.collect_schema()
    assert lazy.select("model", "x").collect().rows() == [("m", 1)]
    assert collection.scan().select("model", "x", "y").collect().rows() == [("n", 1.0, None), ("n", 0.5, "new")]


def test_a_large_log_that_is_sealed_after_the_call_is_found(collection):
    """Logs of closed attempts are not kept in memory, but opened when they are needed, wherever they are then."""
    with collection.new_experiment() as experiment:
        experiment.add_records(x=np.arange(300_000.0))
        experiment.add_record(x=-1.0)
    background.helper.finish(60)
    logs = [path for path in Path(collection.path).rglob("*.log") if path.stat().st_size > 1 << 20]
    lazy = collection.scan()
    assert lazy.select(pl.col("x").sum()).collect().item() == 300_000 * 299_999 / 2 - 1
    for path in logs:
        assert pack.seal(str(path)) is not None
    assert lazy.select(pl.col("x").sum()).collect().item() == 300_000 * 299_999 / 2 - 1


def test_branches_keepers_and_memory_can_be_scanned(packs):
    branch = packs.under(agent="even").under(experiment_number=[1, 2])
    assert_frame_equal(branch.scan().collect(), branch.to_polars())
    keeper = packs.keeper(experiment_number=3, episode=1)
    assert keeper.scan().select(pl.col("episode").unique()).collect().rows() == [(1,)]
    memory = RecordKeeper(a=1)
    memory.sub_record_keeper(b="x").add_record(c=2)
    assert memory.scan().filter(pl.col("b") == "x").select("a", "c").collect().rows() == [(1, 2)]


def test_an_empty_collection_has_columns_and_no_rows(tmp_path):
    with pytest.warns(RecorderWarning, match="reads as empty"):
        lazy = ExperimentCollection(tmp_path / "none").scan()
    assert lazy.collect().shape == (0, 8)
    assert lazy.filter(pl.col("had_error")).select(pl.len()).collect().item() == 0


def test_sql(packs):
    frame = packs.sql(
        "select agent, count(*) as records, avg(x) as mean from records where episode <= 2 group by agent order by agent"
    )
    expected = (
        packs.to_polars()
        .filter(pl.col("episode") <= 2)
        .group_by("agent")
        .agg(pl.len().alias("records"), pl.col("x").mean().alias("mean"))
        .sort("agent")
    )
    assert_frame_equal(frame, expected, check_dtypes=False)
    assert packs.under(episode=1).sql("select count(*) as n from records").item() == 150
    lineages = packs.sql("select rr_lineage, upper(agent) as agent from records where agent like 'e%' limit 1").row(0)
    assert lineages[0].startswith("experiment_number=1,lr=0/")
    assert lineages[1] == "EVEN"
    with pytest.raises(pl.exceptions.PolarsError, match="nowhere"):
        packs.sql("select * from nowhere")


def test_a_predicate_that_fails_on_levels_without_rows_decides_nothing(collection):
    with collection.new_experiment() as experiment:
        experiment.sub_record_keeper(kind="no number").add_record(x=0)
        experiment.sub_record_keeper(kind="7").add_record(x=1)
    lazy = collection.under(kind="7").scan().filter(pl.col("kind").cast(pl.String).cast(pl.Int64) == 7)
    assert lazy.select("x").collect().rows() == [(1,)]


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("episode = 2", 3),
        ("agent = 'odd'", 6),
        ("agent in ('odd', 'nobody')", 6),
        ("episode = 2 and experiment_number = 1 and x > 2.5", 1),
        ("episode between 1 and 2", 6),
        ("rr_lineage = 'experiment_number=2,lr=1/episode=1,agent=odd'", 1),
        ("agent = 'nobody'", 0),
        ("lr = 0", 4 + 2),  # episode 3 has records with an own `lr`: its units might match
        ("episode = 2 or x > 3.5", 12),
        ("agent like 'o%'", 12),  # DuckDB keeps it to itself
        ("true", 12),
    ],
)
def test_duckdb_does_not_make_a_scan_open_units_that_cannot_match(packs, opened, condition, count):
    records = packs.scan()
    asked = f"select count(*), coalesce(sum(step), 0), min(x) from records where {condition}"
    expected = packs.sql(asked).rows()
    opened.clear()
    assert duckdb.sql(asked).fetchall() == expected
    assert len(opened) == count + OLD_POLARS, "of polars 1 it asks for one unit more, to see what comes"
    assert records.collect_schema()["agent"] == pl.Categorical


def test_duckdb_reads_only_the_columns_that_it_needs_and_branches_of_branches(packs, opened, monkeypatch):
    asked = []
    real = materialise.read_frames

    def noting(wanted):
        asked.extend(list(one.columns) for one in wanted)
        return real(wanted)

    monkeypatch.setattr(materialise, "read_frames", noting)
    records = packs.scan().rr.under(agent="odd", episode=1)
    rows = duckdb.sql("select experiment_number, sum(step) from records group by all order by all").fetchall()
    assert rows == [(number, sum(range(50))) for number in (1, 2, 3)]
    looked = len(asked) - 3
    assert asked[looked:] == [["step"]] * 3, "which rows are of the branch is told in the footers"
    assert len(opened) == len(asked)
    assert OLD_POLARS or not looked, "of polars 1 it takes a look before, to see what comes"
    assert isinstance(records, pl.LazyFrame)


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
import polars as pl
from rigorous_recorder import ExperimentCollection

collection = ExperimentCollection(sys.argv[1])
lazy = collection.scan()
lazy.head(1).collect()  # all libraries and threads are there
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (int(sys.argv[2]) << 20),) * 2)
if sys.argv[3] == "all":
    collection.to_polars(["episode", "x", "y", "z"])
elif sys.argv[3] == "parquet":
    collection.to_parquet(sys.argv[1] + ".parquet")
else:
    means = lazy.group_by("episode").agg(pl.col("x").mean(), pl.len()).sort("episode").collect(engine="streaming")
    print(means["len"].to_list(), [round(mean, 2) for mean in means["x"]])
"""


def test_a_collection_larger_than_memory_is_worked_through(tmp_path):
    """Under a limit on the memory of the process that the whole frame does not fit into."""
    collection, rows, units = ExperimentCollection(tmp_path / "study"), 500_000, 24
    with collection.new_experiment() as experiment:
        for number in range(units):
            keeper = experiment.sub_record_keeper(episode=number % 3)
            chance = np.random.default_rng(number)
            keeper.add_records(x=chance.random(rows), y=chance.random(rows), z=chance.random(rows))
    background.helper.finish(60)
    assert not list(Path(collection.path).rglob("*.log"))
    fitting = 3 if OLD_POLARS else 2  # of the four columns: polars 1 keeps more at a time
    limit = units * rows * 8 * fitting >> 20
    ended = children.run(LARGER_THAN_MEMORY, collection.path, limit, "streamed", timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == f"{[units // 3 * rows] * 3} [0.5, 0.5, 0.5]"
    ended = children.run(LARGER_THAN_MEMORY, collection.path, limit, "parquet", timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert pl.scan_parquet(f"{collection.path}.parquet").select(pl.len()).collect().item() == units * rows
    ended = children.run(LARGER_THAN_MEMORY, collection.path, limit, "all", timeout=120)
    assert ended.returncode != 0, "the limit does not limit anything"
