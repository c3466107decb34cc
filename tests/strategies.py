"""What Hypothesis draws in the tests of the store: values of every kind, and records of them."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st

UTC = dt.UTC
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ints = st.integers(-(2**63), 2**64 - 1)
small = st.integers(-200, 70_000)
floats = st.floats() | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 1.0, 2.0**53, 1e300])
naive = st.datetimes()
aware = st.datetimes(timezones=st.just(UTC))
times = st.times()
dates = st.dates()
spans = st.timedeltas(min_value=dt.timedelta(days=-100_000_000), max_value=dt.timedelta(days=100_000_000))
scalars = st.one_of(st.none(), st.booleans(), small, ints, floats, texts, st.binary(max_size=8), aware)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=3),
    max_leaves=6,
)
"""Values that a single record gives back as they were."""
temporal = naive | dates | times | spans
exact = (
    plain
    | temporal
    | st.tuples(small, texts)
    | st.sets(small, max_size=3)
    | st.sampled_from([Decimal("1.50"), Path("a/b")])
)
"""Values that a block gives back as they were."""
keys = st.sampled_from(["x", "y", "index", "rr_level", "rr_key:x", "rr_exact:x", "", "a b/=,é", "*", "^x$"]) | texts


def columns(values):
    """Records whose keys each hold values of one strategy, as those of real programs do, some of them missing."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=4).flatmap(
        lambda chosen: st.lists(
            st.fixed_dictionaries({}, optional={f"{'xyzw'[place]}": strategy for place, strategy in enumerate(chosen)}),
            max_size=60,
        )
    )


uniform = columns([
    floats, small, ints, st.booleans(), texts, st.binary(max_size=4), aware, st.none(), st.lists(floats, max_size=3),
    st.lists(small, max_size=3), small | st.none(), small | floats, st.booleans() | small, texts | small,
    st.lists(small | floats | st.none(), max_size=3), st.just("train"), plain,
])  # fmt: skip
ragged = st.lists(st.dictionaries(keys, plain, max_size=4), max_size=12)
records = uniform | ragged
exact_records = columns([naive, dates, times, spans, exact, floats]) | st.lists(
    st.dictionaries(keys, exact, max_size=4), max_size=12
)
