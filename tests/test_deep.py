"""Deep trees: what reading costs grows with the levels, and a circle, which only damage can make, is cut."""

import time

import pytest

from rigorous_recorder import RecordKeeper
from rigorous_recorder.levels import Levels
from rigorous_recorder.reading import AttemptView

DEPTH = 2_000


class Counted(dict):
    """A dict that counts how often it is asked."""

    asked = 0

    def __getitem__(self, key):
        self.asked += 1
        return super().__getitem__(key)


def chain_of(count):
    """Levels one below the other, each with a key of its own and one that all have."""
    levels = Levels()
    for number in range(count):
        levels.define(
            ("w", number), ("w", number - 1) if number else None, {"k": number, f"own{number % 7}": number}, {}
        )
    levels.by_id = Counted(levels.by_id)
    return levels


@pytest.mark.parametrize("backwards", [False, True])
def test_going_over_a_chain_is_linear(backwards):
    levels = chain_of(DEPTH)
    if backwards:  # units may be read in any order
        levels.by_id = Counted(reversed(levels.by_id.items()))
    assert [level.id[1] for level in levels] == list(range(DEPTH))
    assert levels.below([("w", DEPTH // 2)]) == {("w", number) for number in range(DEPTH // 2, DEPTH)}
    assert levels.below([("w", 0), ("w", 5), ("other", 1)]) == set(levels.by_id)
    assert levels.below([("other", 1)]) == set()
    assert levels.chain(("w", DEPTH - 1)) == [("w", number) for number in range(DEPTH)]
    assert levels.by_id.asked < 20 * DEPTH


def test_what_each_level_inherits_is_linear():
    attempt = AttemptView(None, {"note": 1})
    attempt.levels = chain_of(DEPTH)
    for number in range(DEPTH):
        merged, _ = attempt.inherited(("w", number))
        assert merged["k"] == number
    assert merged == {"note": 1, "k": number, **{f"own{left}": number - (number - left) % 7 for left in range(7)}}
    assert attempt.inherited(None)[0] == attempt.inherited(("lost", 1))[0] == {"note": 1}
    assert attempt.levels.by_id.asked < 20 * DEPTH
    texts = attempt.lineage_texts()
    assert texts["w", 1] == "note=1/k=0,own0=0/k=1,own1=1"
    assert len(texts) == DEPTH


def test_what_is_inherited_does_not_depend_on_who_asked_before():
    for order in (range(7), reversed(range(7)), (3, 6, 0, 5), (6,)):
        attempt = AttemptView(None, {})
        attempt.levels = chain_of(7)
        for number in order:
            merged, _ = attempt.inherited(("w", number))
            assert list(merged.items()) == [("k", number), *((f"own{one}", one) for one in range(number + 1))]


def test_a_circle_is_cut():
    levels = Levels()
    for number, parent in ((0, 2), (1, 0), (2, 1), (3, 2), (4, None), (5, 5)):
        levels.define(("w", number), None if parent is None else ("w", parent), {"k": number, f"own{number}": 1}, {})
    assert sorted(level.id[1] for level in levels) == list(range(6))
    assert levels.chain(("w", 3)) == [("w", 0), ("w", 1), ("w", 2), ("w", 3)]
    assert levels.chain(("w", 0)) == [("w", 1), ("w", 2), ("w", 0)]
    assert levels.below([("w", 1)]) == {("w", number) for number in range(4)}
    assert levels.below([("w", 5)]) == {("w", 5)}
    attempt = AttemptView(None, {})
    attempt.levels = levels
    assert {number: attempt.inherited(("w", number))[0]["k"] for number in range(6)} == {n: n for n in range(6)}
    assert all(set(attempt.inherited(("w", number))[0]) >= {"own0", "own1", "own2"} for number in range(4))
    assert len(attempt.lineage_texts()) == 6


def test_a_deep_tree_is_recorded_read_and_moved_in_little_time(collection):
    with collection.new_experiment() as top:
        keeper = top
        for number in range(600):
            keeper = keeper.sub_record_keeper(depth=number)
            keeper.add_record(n=number)
    moved = lower = RecordKeeper()
    for number in range(600):
        lower = lower.sub_record_keeper(depth=number)
    before = time.perf_counter()
    assert [each["depth"] for each in collection] == list(range(600))
    assert len(collection.under(depth=300).under(depth=599)) == 1
    assert len(collection.under(collection.keeper(depth=300).lineage)) == 300
    assert len(top.children[0].records) == 600
    moved.set_parent(RecordKeeper(a=1))
    lower.add_record(n=1)
    assert lower.records[0]["a"] == 1
    assert len(moved.children[0].children) == 1
    assert time.perf_counter() - before < 20, "1 s or less; it was more than 200"


def test_the_keepers_below_come_in_order():
    root = RecordKeeper()
    for number in range(3):
        child = root.sub_record_keeper(n=number)
        for letter in "ab":
            child.sub_record_keeper(letter=letter).sub_record_keeper(deep=1)
    root.set_parent(RecordKeeper(top=1))
    assert [child["n"] for child in root.children] == [0, 1, 2]
    assert [[each["letter"] for each in child.children] for child in root.children] == [["a", "b"]] * 3
    assert all(len(each.children) == 1 for child in root.children for each in child.children)
