"""`RecordKeeper` as a node of the tree: parents and children, level data, pending records, names, identity."""

import copy
import gc
import pickle
from collections import ChainMap, OrderedDict
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import ROOT, own, root_keeper, run

import rigorous_recorder
from rigorous_recorder import Recorder, RecorderError, RecordKeeper, Records, SubRecordKeeper


@pytest.fixture(params=["memory", "mmap", "write"])
def root(request, tmp_path):
    """A root: in memory, and an experiment in each journal mode."""
    with root_keeper(request.param, tmp_path / "study", a=1) as keeper:
        yield keeper


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_a_tree(root):
    model = root.sub_record_keeper({"model": "m"}, layers=3)
    training = model.sub_record_keeper(training=True)
    testing = model.sub_record_keeper(MappingProxyType({"testing": True, "a": 2}))
    assert (root.parent, model.parent, training.parent) == (None, root, model)
    assert root.children == (model,)
    assert model.children == (training, testing)
    assert training.children == ()
    assert dict(testing.data) == {"testing": True, "a": 2}
    merged = {key: value for key, value in testing.merged.items() if key in {"a", "model", "layers", "testing"}}
    assert merged == {"a": 2, "model": "m", "layers": 3, "testing": True}
    assert testing.lineage.endswith("a=1/model=m,layers=3/testing=true,a=2")
    assert "testing=true" in repr(testing)
    assert type(model) is RecordKeeper


def test_children_outlive_their_objects(root):
    for number in range(3):
        root.sub_record_keeper(number=number).sub_record_keeper(deep=number).add_record(x=number)
    gc.collect()
    assert [child["number"] for child in root.children] == [0, 1, 2]
    root.children[1].add_record(x=7)
    root.children[1].children[0]["note"] = "found again"
    root.children[1]["number"] = 10
    gc.collect()
    assert [dict(child.data) for child in root.children] == [{"number": 0}, {"number": 10}, {"number": 2}]
    assert [dict(child.data) for child in root.children[1].children] == [{"deep": 1, "note": "found again"}]
    assert own(root.children[1]) == [
        {"a": 1, "number": 10, "deep": 1, "note": "found again", "x": 1},
        {"a": 1, "number": 10, "x": 7},
    ]
    assert root.children[1].parent is root


def test_many_keepers_that_nobody_holds(root):
    for number in range(3000):
        root.sub_record_keeper(number=number).add_record(x=number)
    assert len(root.children) == 3000
    assert [(each["number"], each["x"]) for each in root] == [(number, number) for number in range(3000)]


def test_deep_trees(root):
    keeper = root
    for depth in range(300):
        keeper = keeper.sub_record_keeper({f"k{depth}": depth})
    keeper.add_record(x=1)
    assert len(keeper.merged) == len({**root.merged}) + 300
    assert own(root)[0] == {"a": 1, **{f"k{depth}": depth for depth in range(300)}, "x": 1}
    assert keeper.lineage.count("/") == 300


def test_an_empty_keeper(root):
    keeper = root.sub_record_keeper()
    keeper.add_record({})
    keeper.add_record()
    assert own(keeper) == [{"a": 1}, {"a": 1}]
    assert keeper.lineage.endswith("a=1/")
    assert RecordKeeper().lineage == ""
    assert "no data" in repr(RecordKeeper())


def test_set_parent(root):
    branch = RecordKeeper(model="m")
    leaf = branch.sub_record_keeper(training=True)
    assert branch.set_parent(root) is branch
    assert (branch.parent, leaf.parent, root.children) == (root, branch, (branch,))
    leaf.add_record(x=1)
    branch.add_record(x=2)
    branch["model"] = "n"
    assert own(root) == [{"a": 1, "model": "n", "training": True, "x": 1}, {"a": 1, "model": "n", "x": 2}]
    assert root.children[0].children == (leaf,)


def test_set_parent_refuses_what_makes_no_tree(root):
    child = root.sub_record_keeper(b=1)
    grandchild = child.sub_record_keeper(c=1)
    for keeper, parent in ((root, root), (root, grandchild), (child, grandchild), (child, root), (grandchild, root)):
        with pytest.raises(ValueError, match=r"tree|itself") as caught:
            keeper.set_parent(parent)
        assert isinstance(caught.value, RecorderError)
    with pytest.raises(ValueError, match="parent already"):
        child.set_parent(RecordKeeper())
    full = RecordKeeper(x=1)
    full.sub_record_keeper().add_record(y=1)
    with pytest.raises(ValueError, match="1 records already"):
        full.set_parent(root)
    with pytest.raises(TypeError, match="keeper"):
        RecordKeeper().set_parent({"a": 1})
    assert (root.parent, child.parent, grandchild.parent, full.parent) == (None, root, child, None)
    assert root.children == (child,)


def test_set_parent_of_a_keeper_that_has_a_pending_record(root):
    keeper = RecordKeeper(b=1)
    keeper.pending_record["x"] = 1
    keeper.set_parent(root)
    assert keeper.pending_record["a"] == 1
    keeper.commit_record()
    assert own(root) == [{"a": 1, "b": 1, "x": 1}]


def test_set_parent_below_what_is_closed(tmp_path):
    keeper = RecordKeeper(b=1)
    leaf = keeper.sub_record_keeper(c=1)
    experiment = rigorous_recorder.ExperimentCollection(tmp_path / "study").new_experiment()
    experiment.close()
    with pytest.raises(RuntimeError, match="closed"):
        keeper.set_parent(experiment)
    assert (keeper.parent, keeper.children, leaf.parent) == (None, (leaf,), keeper)
    leaf.add_record(x=1)
    assert list(keeper) == [{"b": 1, "c": 1, "x": 1}]


# ---- level data ------------------------------------------------------------------------------------------------------


def test_level_data_is_read_through(root):
    keeper = root.sub_record_keeper(b=2, none=None)
    assert (keeper["a"], keeper["b"], keeper["none"]) == (1, 2, None)
    assert (keeper.get("a"), keeper.get("c"), keeper.get("c", 3), keeper.get("none", 3)) == (1, None, 3, None)
    assert "a" in keeper
    assert "none" in keeper
    assert "c" not in keeper
    assert 1 not in keeper
    assert "a" not in keeper.data
    with pytest.raises(KeyError, match=r"^No level .*'modle'.*'model'") as caught:
        root.sub_record_keeper(model="m")["modle"]
    assert isinstance(caught.value, RecorderError)
    assert str(caught.value).startswith("No level"), "the sentence is printed plainly"


def test_positions_and_records_get_a_hint(root):
    with pytest.raises(KeyError, match=r"keeper\.records\[3\]"):
        root[3]
    with pytest.raises(KeyError, match=r"keeper\.records\[1:2\]"):
        root[1:2]
    with pytest.raises(KeyError, match=r"keeper\.records\[-1\]"):
        root[-1]
    root.add_record(x=1)
    with pytest.raises(TypeError, match=r"record in keeper\.records"):
        root.records[0] in root  # noqa: B015
    assert root.records[0] in root.records


def test_level_data_is_edited_and_all_records_follow(root):
    keeper = root.sub_record_keeper(b=2)
    keeper.add_record(x=1)
    keeper["b"] = 3
    keeper["note"] = "warm start"
    keeper.update({"lr": 0.1}, momentum=0.9)
    root["a"] = 10
    keeper.add_record(x=2)
    inherited = {"a": 10, "b": 3, "note": "warm start", "lr": 0.1, "momentum": 0.9}
    assert own(root) == [{**inherited, "x": 1}, {**inherited, "x": 2}]
    del keeper["b"], keeper["lr"]
    assert own(keeper) == [{"a": 10, "note": "warm start", "momentum": 0.9, "x": number} for number in (1, 2)]
    assert dict(keeper.data) == {"note": "warm start", "momentum": 0.9}
    keeper["b"] = 4
    assert keeper["b"] == own(root)[0]["b"] == 4
    with pytest.raises(KeyError, match="'missing'"):
        del keeper["missing"]
    with pytest.raises(KeyError, match="inherited"):
        del keeper["a"]


def test_an_override_can_be_taken_back(root):
    keeper = root.sub_record_keeper(a=2)
    keeper.add_record(x=1)
    assert own(root) == [{"a": 2, "x": 1}]
    del keeper["a"]
    assert keeper["a"] == 1
    assert own(root) == [{"a": 1, "x": 1}]


def test_a_refused_edit_changes_nothing(root):
    for refused in ({"a": 2, "b": object()}, {"a": 2, "b": 2**70}, {"a": 2, "b": "\ud800"}, {"a": 2, "b": open}):
        with pytest.raises((TypeError, ValueError), match="'b'") as caught:
            root.update(refused)
        assert isinstance(caught.value, RecorderError)
        with pytest.raises((TypeError, ValueError), match="'b'"):
            root["b"] = refused["b"]
        with pytest.raises((TypeError, ValueError), match="'b'"):
            root.sub_record_keeper(refused)
        with pytest.raises((TypeError, ValueError), match="'b'"):
            RecordKeeper(refused)
    assert dict(root.data) == {"a": 1}
    assert root.children == ()
    for wrong in (3, "text", [1, 2], [("a", 1)]):
        with pytest.raises(TypeError):
            root.update(wrong)


def test_level_data_is_copied_in_and_out(root):
    given_list = [1]
    root["list"] = given_list
    given_list.append(2)
    assert root["list"] == [1]
    for taken in (
        root["list"],
        root.get("list"),
        root.data["list"],
        root.merged["list"],
        root.sub_record_keeper()["list"],
    ):
        taken.append(3)
    assert root["list"] == [1]
    with pytest.raises(TypeError):
        root.data["a"] = 2
    root.merged["a"] = 2
    assert root["a"] == 1
    root.add_record(x=1)
    root.records[0]["list"].append(4)
    assert root["list"] == root.records[0]["list"] == [1]


def test_mappings_of_any_kind(root):
    for mapping in (OrderedDict(m=1), ChainMap({"m": 1}, {"n": 2}), MappingProxyType({"m": 1})):
        keeper = root.sub_record_keeper(mapping, m=2)
        assert keeper["m"] == 2
        keeper.update(mapping)
        keeper.add_record(mapping)
        assert (keeper["m"], keeper.records[0]["m"]) == (1, 1)
    root.update()
    root.sub_record_keeper({1: "one", None: 2, 0.5: 3})
    assert dict(root.children[-1].data) == {"1": "one", "None": 2, "0.5": 3}
    for name in ("self", "_data", "record", "data", "additional_info"):
        assert root.sub_record_keeper(**{name: 1})[name] == 1
        root.update(**{name: 2})
        assert root[name] == 2


# ---- records, truth, identity, names ---------------------------------------------------------------------------------


def test_records_at_or_below(root):
    left, right = root.sub_record_keeper(side="left"), root.sub_record_keeper(side="right")
    left.add_record(x=1)
    right.add_record(x=2)
    root.add_record(x=3)
    left.sub_record_keeper().add_record(x=4)
    assert [each["x"] for each in root] == [1, 2, 3, 4]
    assert [each["x"] for each in left.records] == [1, 4]
    assert isinstance(left.records, Records)
    assert (len(root), len(left), len(right)) == (4, 2, 1)


def test_truth_identity_and_hash(root):
    twin = root.sub_record_keeper(a=1)
    same = root.sub_record_keeper(a=1)
    assert twin
    assert len(twin) == 0
    assert twin != same
    assert twin == twin  # noqa: PLR0124
    assert len({root, twin, same}) == 3
    assert copy.copy(twin) is twin
    assert copy.deepcopy({"keeper": twin})["keeper"] is twin


def test_the_later_releases_names(root):
    assert Recorder is SubRecordKeeper is RecordKeeper
    keeper = SubRecordKeeper(b=1).set_parent(root)
    assert keeper.push({"x": 1}) is keeper
    assert keeper.add({"x": 2}).add(y=3) is keeper
    assert len(keeper) == 1, "add only fills the pending record"
    assert keeper.commit() is keeper
    keeper.add(x=4).commit({"y": 5}, additional_info={"z": 6}, w=7)
    assert keeper.add(x=8).push(y=9) is keeper
    records = [{"x": 1}, {"x": 2, "y": 3}, {"x": 4, "y": 5, "z": 6, "w": 7}, {"x": 8, "y": 9}]
    assert own(root) == [{"a": 1, "b": 1, **each} for each in records]


def test_gone_names_say_their_successor(root):
    for name in ("swap_out", "live_write_to", "all_records", "local_data", "number_of_records", "reload"):
        with pytest.raises(AttributeError, match=f"{name} went away.*Hint:"):
            getattr(root, name)
        assert not hasattr(root, name)
    with pytest.raises(AttributeError, match="'recrods'"):
        _ = root.recrods
    assert not hasattr(root, "__array__")


def test_an_in_memory_keeper_is_not_handed_over():
    keeper = RecordKeeper(a=1).sub_record_keeper()
    with pytest.raises(TypeError, match=r"in memory.*Hint:.*ExperimentCollection"):
        pickle.dumps(keeper)


# ---- the fingerprint -------------------------------------------------------------------------------------------------

DATA = {"lr": 0.1, "model": "m", "layers": [1, 2], "nested": {"b": 1, "a": None}, "seed": 7, "flag": True, "z": (1, 2)}
PRINTING = f"from rigorous_recorder import RecordKeeper; print(RecordKeeper({DATA!r}).fingerprint)"


def test_equal_data_has_equal_fingerprints(root):
    keeper = RecordKeeper(DATA)
    assert keeper.fingerprint == run(PRINTING).strip() == run(PRINTING).strip()
    assert RecordKeeper(dict(reversed(DATA.items()))).fingerprint == keeper.fingerprint
    parts = list(DATA.items())
    split = RecordKeeper(dict(parts[:3])).sub_record_keeper(dict(parts[3:]))
    assert split.fingerprint == keeper.fingerprint, "of merged"
    assert root.fingerprint == RecordKeeper(a=1).fingerprint, "less the automatic keys"
    before = root.fingerprint
    root["a"] = 2
    assert root.fingerprint == RecordKeeper(a=2).fingerprint != before


@given(
    st.lists(
        st.sampled_from([1, 1.0, True, "1", None, "null", b"1", (1,), [1], {"1": 1}, -0.0, 0.0]), min_size=2, max_size=2
    )
)
def test_different_data_has_different_fingerprints(values):
    first, second = values
    same = type(first) is type(second) and repr(first) == repr(second)
    assert (RecordKeeper(x=first).fingerprint == RecordKeeper(x=second).fingerprint) == same


def test_this_checkout_is_tested():
    assert rigorous_recorder.__file__.startswith(str(ROOT))
    assert run("import rigorous_recorder; print(rigorous_recorder.__file__)").strip() == rigorous_recorder.__file__
