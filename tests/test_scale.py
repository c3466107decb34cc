"""What claims and listings ask of the file system does not grow where docs/scale.md says so, and grows as it says elsewhere."""

import re

import pytest
from programs import ROOT

from rigorous_recorder.store import claim, packread

costs = pytest.importorskip("benchmarks.costs", reason="the benchmarks are not in this copy")
race = pytest.importorskip("benchmarks.race")
scale = pytest.importorskip("benchmarks.scale")

SIZES = [12, 24, 48]
CLAIM, NUMBERS, TABLE, ONE, QUERY, FRAME = costs.QUESTIONS
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return scale.count(tmp_path_factory.mktemp("scale"), SIZES)


def lines(found, question, when):
    """The requests, and the names listed, as lines over the number of attempts."""
    asked = found.asked[question, when]
    return [
        scale.fit(SIZES, values)
        for values in zip(*((costs.requests(one), one["entries"]) for one in asked), strict=True)
    ]


@pytest.mark.parametrize("when", [scale.BEFORE, scale.AFTER])
def test_the_requests_of_a_claim_do_not_grow_with_the_attempts(found, when):
    """But each of the first claims of a process lists all names once, and reads of the packs what they hold."""
    for question in (CLAIM, ONE):
        requests, names = lines(found, question, when)
        assert (requests.each, requests.off) == (0, 0)
        # an old polars is not shown a pack that was not read and checked before
        assert requests.fixed <= 25 + 3 * packread.ABORTS
        assert names.each == 1
    assert {costs.requests(one) for one in found.attempt} == {costs.requests(found.attempt[0])}
    assert costs.requests(found.attempt[0]) <= 30
    assert {one["entries"] for one in found.attempt} == {0}, "who goes on claiming lists nothing"


@pytest.mark.parametrize("question", [NUMBERS, TABLE, QUERY, FRAME])
def test_compaction_leaves_less_than_half_of_the_requests_of_a_reading(found, question):
    (before, _), (after, _) = lines(found, question, scale.BEFORE), lines(found, question, scale.AFTER)
    assert after.each <= before.each / 2
    (read,) = {one["read"] for one in found.asked[question, scale.AFTER]}
    assert read <= 8, "no file of an attempt is opened"


@pytest.mark.parametrize("question", costs.QUESTIONS)
@pytest.mark.parametrize("when", [scale.BEFORE, scale.AFTER])
def test_the_page_says_how_the_requests_grow(found, question, when):
    cell = re.search(rf"^\| {question} \| {when} \| ([^|]*) \|", PAGE, re.MULTILINE)[1]
    grows = re.search(r"\+ ([\d.,]+) n", cell)
    assert (float(grows[1]) if grows else 0.0) == pytest.approx(lines(found, question, when)[0].each, abs=0.02)


@pytest.mark.parametrize("store", scale.STORES)
def test_rivals_come_one_by_one(tmp_path, store):
    writers = 24
    server = race.Server(store, scale.STORES[store].latency, scale.STORES[store].capacity)
    outcome = race.real(str(tmp_path / "study"), writers, server)
    assert sorted(outcome.numbers) == list(range(1, writers + 1))
    assert outcome.refused == 0
    assert max(outcome.tries) <= writers <= claim.IN_A_ROW
    assert outcome.requests <= writers * (writers / 2 + 8)
    assert max(outcome.seconds) <= (writers + 8) * 1.3 * server.latency


def test_a_slow_server_makes_a_race_slow(tmp_path):
    """Simulated time is time: ten times the latency is ten times as long, and a server of little capacity longer."""
    times = [
        max(race.real(str(tmp_path / f"{nth}"), 8, race.Server("", latency, capacity)).seconds)
        for nth, (latency, capacity) in enumerate([(0.001, 1e6), (0.01, 1e6), (0.001, 100)])
    ]
    assert times[1] == pytest.approx(10 * times[0], rel=0.2)
    assert times[2] > 2 * times[0]


def test_a_line_is_through_what_was_counted():
    assert scale.fit([1, 10, 100], [5, 23, 203]) == scale.Line(3, 2, 0)
    assert scale.fit([1, 10, 100], [10, 23, 203]).off == 0.5
    counts = dict.fromkeys(costs.KINDS, 0) | {"list": 2, "read": 10, "look": 5, "entries": 3000, "bytes read": 80e6}
    store = scale.STORES["object store"]
    assert scale.seconds(counts, store) == pytest.approx((17 + 3) * 0.03 + 1)
    assert scale.dollars(counts, store) == pytest.approx((5 * 0.005 + 15 * 0.0004) / 1000)
