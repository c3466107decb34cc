"""Random trees in flat frames of every kind: `under`, `levels` and `latest` against a plain list of dicts."""

import datetime as dt
import math

import pytest
from flat import KINDS, dicts, flat_row, ns, polars_frame
from hypothesis import given
from hypothesis import strategies as st

import rigorous_recorder
from rigorous_recorder.lineage import lineage_text

KEYS = ["a", "b", "lr", "training", " odd/=,é%", "", "self", "rr_level"]
VALUES = [
    None, True, False, 0, 1, 1.0, -0.0, 0.5, 2**63, math.nan, math.inf, "", "1", "1.0", "true", "null", "x", "x/y=1,z", b"x",
    "bytes:78", dt.date(2026, 1, 2), "2026-01-02", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), (1, "x"), [1, "x"], [True, "x"],
    {"x": 1}, '{"x":1}', frozenset({1}),
]  # fmt: skip
FRAMES = [
    kind for kind in KINDS if kind in ("pandas", "pandas text", "polars", "lazy", "lazy batches", "arrow", "duckdb")
]

levels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3)
lineages = st.builds(
    lambda notes, number, below: ([notes] if notes else []) + [{"experiment_number": number}, *below],
    st.just({}) | levels,
    st.integers(1, 3),
    st.lists(levels, max_size=3),
)
attempts = st.fixed_dictionaries({
    "rr_attempt": st.sampled_from(["a" * 12, "b" * 12]),
    "had_error": st.sampled_from([True, False, None]),
    "error_number": st.sampled_from([0, 1, None]),
})  # fmt: skip
wanted = st.one_of(
    st.sampled_from(VALUES),
    st.lists(st.sampled_from(VALUES), max_size=3),
    st.sampled_from([lambda value: isinstance(value, str), lambda value: value == 1, lambda value: value is None]),
)
asked = st.dictionaries(
    st.sampled_from([*KEYS, "never", "had_error", "error_number", "rr_attempt", "experiment_number"]),
    wanted | st.sampled_from([1, "a" * 12]),
    max_size=2,
)


@st.composite
def studies(draw):
    """Rows of a study, each as (levels, what its attempt says, row); few distinct lineages, in mixed order."""
    several = draw(st.lists(st.tuples(lineages, attempts), min_size=1, max_size=5))
    rows = []
    for n, place in enumerate(draw(st.lists(st.integers(0, len(several) - 1), max_size=12))):
        chain, attempt = several[place]
        own = draw(st.dictionaries(st.sampled_from(KEYS), st.just("own"), max_size=1))
        automatic = {**attempt, "experiment_number": chain[-1].get("experiment_number", 0) or number_of(chain)}
        if draw(st.integers(0, 9)) == 0:
            chain, automatic = None, {}
        rows.append(
            (
                chain or [],
                automatic,
                made(chain, automatic, {**own, "n": n, "step": draw(st.sampled_from([1, 2, None]))}),
            )
        )
    return rows


def number_of(chain):
    return next(level["experiment_number"] for level in chain if "experiment_number" in level)


def made(chain, automatic, own):
    row = flat_row(chain or [], automatic.get("rr_attempt"), automatic, own)
    return row if chain else {**row, "rr_lineage": None}


def tagged(value):
    """A value that is equal to another one only where `under` takes both for the same."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    kind = "number" if type(value) in (int, float) else type(value).__name__
    if isinstance(value, (list, tuple)):
        return kind, [(type(item).__name__ == "bool", item) if not isinstance(item, str) else item for item in value]
    return kind, value


def expected(rows, keys):
    """The numbers of the rows that `under` is to pick, or the keys that no level has."""
    columns = {"had_error", "error_number", "rr_attempt", "experiment_number"}
    known = columns | {key for chain, _, _ in rows for level in chain for key in level}

    def accepts(key, one, chain, automatic):
        if key in columns:
            values = [automatic[key]] if automatic.get(key) is not None else []
        else:
            values = [level[key] for level in chain if key in level]
        if callable(one):
            return any(one(value) for value in values)
        options = one if isinstance(one, (list, tuple, frozenset)) else [one]
        if not values:
            return any(option is None for option in options)
        return any(tagged(value) == tagged(option) for value in values for option in options if option is not None)

    def none_will_do(one):
        return one is None or (isinstance(one, (list, tuple, frozenset)) and any(option is None for option in one))

    unknown = {key for key, one in keys.items() if key not in known and not none_will_do(one)}
    if unknown and any(chain for chain, _, _ in rows):
        return unknown
    return [
        row["n"]
        for chain, automatic, row in rows
        if all(accepts(key, one, chain, automatic) for key, one in keys.items())
    ]


@pytest.mark.parametrize("kind", FRAMES)
@given(study=studies(), keys=asked)
def test_under(kind, study, keys):
    frame = KINDS[kind](polars_frame([row for _, _, row in study] or [made(None, {}, {"n": 0})])[: len(study)])
    answer = expected(study, keys)
    if isinstance(answer, set):
        with pytest.raises(KeyError, match=r"No level has the key|is a column, but the key of no level"):
            dicts(rigorous_recorder.under(frame, **keys))
    else:
        assert ns(rigorous_recorder.under(frame, **keys)) == answer


@pytest.mark.parametrize("kind", ["pandas", "pandas text", "polars", "lazy", "arrow"])
@given(study=studies(), data=st.data())
def test_under_a_lineage(kind, study, data):
    frame = KINDS[kind](polars_frame([made(None, {}, {"n": -1}), *(row for _, _, row in study)]))
    chain = data.draw(st.sampled_from([chain for chain, _, _ in study] or [[]]))
    depth = data.draw(st.integers(1, max(1, len(chain))))
    branch = chain[:depth]
    answer = [
        row["n"]
        for other, _, row in study
        if other and (lineage_text(other[:depth]) == lineage_text(branch) or below_notes(other, branch))
    ]
    assert ns(rigorous_recorder.under(frame, lineage_text(branch))) == (answer if branch else [])


def below_notes(chain, branch):
    """Whether the branch is that of a keeper which did not know of the notes."""
    return "experiment_number" not in chain[0] and lineage_text(chain[1:][: len(branch)]) == lineage_text(branch)


@pytest.mark.parametrize("kind", ["pandas", "pandas text", "polars", "lazy"])
@given(study=studies())
def test_levels_and_columns(kind, study):
    frame = KINDS[kind](polars_frame([made(None, {}, {"n": -1, "step": None}), *(row for _, _, row in study)]))
    counts = {None: 1}
    for _, _, row in study:
        counts[row["rr_lineage"]] = counts.get(row["rr_lineage"], 0) + 1
    table = dicts(frame.rr.levels())
    assert {row["rr_lineage"]: row["rr_records"] for row in table} == counts
    assert [row["rr_lineage"] for row in table] == list(counts), "in order of first appearance"
    keys = {key for chain, _, _ in study for level in chain for key in level}
    assert set(table[0]) == keys | {"rr_lineage", "rr_records"}
    names = list(frame.columns) if not hasattr(frame, "collect_schema") else frame.collect_schema().names()
    inherited, own = frame.rr.inherited, frame.rr.own
    assert sorted([*inherited, *own, "rr_attempt", "rr_lineage"]) == sorted(names)
    assert not {"n", "step"} & set(inherited)
    assert keys <= set(inherited)
    assert len(frame.rr.tree(100).splitlines()) == 1 + len(
        {
            lineage_text(chain[:depth])
            for chain, _, row in study
            if row["rr_lineage"]
            for depth in range(1, len(chain) + 1)
        }
    )


@pytest.mark.parametrize("kind", ["pandas", "pandas text", "polars", "lazy"])
@given(study=studies())
def test_latest(kind, study):
    rows = [made(None, {}, {"n": -1, "step": 1}), *(row for _, _, row in study)]
    last = {(row["rr_attempt"], row["rr_lineage"], row["step"]): row["n"] for row in rows}
    answer = [
        row["n"]
        for row in rows
        if row["step"] is None
        or row["rr_lineage"] is None
        or last[row["rr_attempt"], row["rr_lineage"], row["step"]] == row["n"]
    ]
    assert ns(KINDS[kind](polars_frame(rows)).rr.latest("step")) == answer
