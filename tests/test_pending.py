"""Pending records: filled bit by bit, per keeper and thread, committed, cleared by a refusal."""

import threading

import pytest
from programs import own, root_keeper

from rigorous_recorder import ExperimentCollection


@pytest.fixture(params=["memory", "mmap", "write"])
def root(request, tmp_path):
    """A root: in memory, and an experiment in each journal mode."""
    with root_keeper(request.param, tmp_path / "study", a=1) as keeper:
        yield keeper


def test_a_pending_record_is_filled_bit_by_bit(root):
    keeper = root.sub_record_keeper(b=2)
    keeper.pending_record["index"] = 1
    keeper.pending_record["loss"] = 0.5
    pending = keeper.pending_record
    assert pending is keeper.pending_record
    assert (pending["index"], pending["b"], pending["a"], pending["missing"]) == (1, 2, 1, None)
    assert pending.get("missing", 7) == 7
    assert "b" in pending
    assert "missing" not in pending
    assert {"a", "b", "index", "loss"} <= set(pending) == set(pending.keys())
    assert len(pending) == len(list(pending.values())) == len(dict(pending.items()))
    assert dict(pending)["index"] == 1
    pending["extra"] = [1]
    pending["extra"].append(2)
    del pending["loss"]
    pending.setdefault("loss", 0.25)
    pending.update(c=3)
    assert pending.pop("c") == 3
    with pytest.raises(KeyError):
        del pending["b"]
    keeper.commit_record()
    assert own(keeper) == [{"a": 1, "b": 2, "index": 1, "extra": [1, 2], "loss": 0.25}]
    assert "index" not in keeper.pending_record
    keeper.commit_record()
    assert own(keeper)[1] == {"a": 1, "b": 2}


def test_commit_adds_what_it_is_given(root):
    root.pending_record["x"] = 1
    root.commit_record({"y": 2, "x": 3}, additional_info={"y": 4, "z": 5, 6: 7}, z=8)
    root.pending_record["x"] = 9
    root.commit_record(additional_info={"w": 1})
    root.commit_record(additional_info=None)
    assert own(root) == [{"a": 1, "x": 3, "y": 4, "z": 8, "6": 7}, {"a": 1, "x": 9, "w": 1}, {"a": 1}]


def test_add_record_includes_and_clears_what_is_pending_and_add_records_does_not(root):
    root.pending_record["x"] = 1
    root.add_records(y=[1, 2])
    root.add_record(y=3)
    root.add_record({"y": 4})
    root.pending_record["x"] = 5
    root.add_record()
    assert own(root) == [{"a": 1, **more} for more in ({"y": 1}, {"y": 2}, {"x": 1, "y": 3}, {"y": 4}, {"x": 5})]


def test_a_refused_record_clears_what_is_pending_and_is_carried_by_the_error(root):
    for bad in (object(), 2**70, "\ud800"):
        root.pending_record["x"] = 1
        root.pending_record["bad"] = bad
        with pytest.raises((TypeError, ValueError), match="'bad'") as caught:
            root.commit_record(y=2)
        assert caught.value.record == {"x": 1, "bad": bad, "y": 2}
        assert "x" not in root.pending_record
    root.pending_record["x"] = 1
    with pytest.raises(TypeError, match="dict of values") as caught:
        root.add_record([1, 2])
    assert caught.value.record == {"x": 1}
    root.add_record(y=3)
    assert own(root) == [{"a": 1, "y": 3}]


class Broken:
    """A mapping that cannot be read."""

    def keys(self):
        raise RuntimeError("gone")

    def __getitem__(self, key):
        raise RuntimeError("gone")


REFUSED = {
    "additional_info is no mapping": (lambda keeper: keeper.commit_record(additional_info=5), {}),
    "additional_info is text": (
        lambda keeper: keeper.commit_record({"y": 2}, additional_info="5", z=3),
        {"y": 2, "z": 3},
    ),
    "additional_info is a class": (lambda keeper: keeper.commit_record(additional_info=dict), {}),
    "neither is a mapping": (lambda keeper: keeper.commit_record(5, additional_info=6, z=3), {"z": 3}),
    "the record is no mapping": (lambda keeper: keeper.commit_record(5, z=3), {"z": 3}),
    "the record is no mapping, with info": (lambda keeper: keeper.commit_record(5, additional_info={"y": 2}), {}),
    "an added one is no mapping": (lambda keeper: keeper.add_record([5], z=3), {"z": 3}),
    "a pushed one is no mapping": (lambda keeper: keeper.push(5), {}),
    "by the later name": (lambda keeper: keeper.commit(additional_info=5), {}),
    "it cannot be read": (lambda keeper: keeper.commit_record(Broken(), z=3), {"z": 3}),
    "it cannot be read, with info": (lambda keeper: keeper.commit_record({"y": 2}, additional_info=Broken()), {"y": 2}),
}
"""Ways to be refused, and what the call brings that the error has to carry beside what was pending."""


@pytest.mark.parametrize("way", REFUSED)
def test_however_it_is_refused_nothing_pending_slips_into_the_next_record(root, way):
    call, given = REFUSED[way]
    root.pending_record["v"] = 1
    with pytest.raises(TypeError, match=r"(dict of values|cannot be read as a dict: .*gone).*Hint") as caught:
        call(root)
    assert caught.value.record == {"v": 1, **given}
    assert "v" not in root.pending_record
    root.commit_record(w=2)
    assert own(root) == [{"a": 1, "w": 2}]


def test_a_record_refused_by_the_end_is_carried_as_well(tmp_path):
    experiment = ExperimentCollection(tmp_path / "study").new_experiment()
    experiment.close()
    experiment.pending_record["x"] = 1
    with pytest.raises(RuntimeError, match="closed") as caught:
        experiment.commit_record(y=2)
    assert caught.value.record == {"x": 1, "y": 2}
    assert "x" not in experiment.pending_record


def test_a_pending_record_belongs_to_one_thread(root):
    root.pending_record["x"] = "main"
    barrier = threading.Barrier(3)

    def work(name):
        barrier.wait()
        seen.append(root.pending_record["x"])
        root.pending_record["x"] = name
        barrier.wait()
        root.commit_record(thread=name)

    seen = []
    threads = [threading.Thread(target=work, args=(name,)) for name in "pqr"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [None] * 3
    root.commit_record(thread="main")
    assert sorted((each["x"], each["thread"]) for each in root) == [(name, name) for name in ("main", "p", "q", "r")]


def test_a_pending_record_can_be_added_elsewhere(root):
    root.pending_record["x"] = 1
    other = root.sub_record_keeper(b=2)
    other.add_record(root.pending_record)
    assert own(other) == [{"a": 1, "b": 2, "x": 1}]
    assert root.pending_record["x"] == 1
    root.commit_record()
