"""`save_to` and `load_from`: a tree in memory as one file, whole or refused."""

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigorous_recorder import ExperimentCollection, RecorderError, RecordKeeper


def tree():
    """A small tree with some of everything."""
    root = RecordKeeper(a=1, layers=(1, 2))
    child = root.sub_record_keeper(b=2)
    twin = root.sub_record_keeper(b=2)
    empty = child.sub_record_keeper()
    root.add_record(x=1)
    child.add_records(x=[2, 3], y="text")
    twin.add_record(x=4)
    empty.add_records([{"x": (5, 6)}, {}])
    child["note"] = "corrected"
    del root["a"]
    root["c"] = {7}
    return root


def shown(keeper):
    """All that a keeper says of itself, recursively."""
    return (
        dict(keeper.data),
        keeper.lineage,
        keeper.fingerprint,
        list(keeper.records),
        [shown(one) for one in keeper.children],
    )


def test_a_tree_comes_back(tmp_path):
    root = tree()
    assert root.save_to(tmp_path / "tree.rr") is None
    loaded = RecordKeeper.load_from(str(tmp_path / "tree.rr"))
    assert shown(loaded) == shown(root)
    assert loaded.parent is None
    assert loaded.children[0].parent is loaded
    loaded.children[0].add_record(x=9)
    loaded["c"] = 8
    assert [each["x"] for each in loaded.children[0]] == [2, 3, (5, 6), None, 9]
    assert loaded.records[0] == {"layers": (1, 2), "c": 8, "x": 1}
    loaded.save_to(tmp_path / "again.rr")
    assert shown(RecordKeeper.load_from(tmp_path / "again.rr")) == shown(loaded)
    assert sorted(os.listdir(tmp_path)) == ["again.rr", "tree.rr"]
    assert len(root) == 6, "saving changed nothing"


def test_large_trees_come_back(tmp_path):
    root = RecordKeeper()
    keepers = [root.sub_record_keeper(k=number) for number in range(3)]
    for number in range(9_000):
        keepers[number % 3].add_record(n=number, pad="x" * 20)
    keepers[1].add_records(n=range(100_000))
    root.save_to(tmp_path / "tree")
    loaded = RecordKeeper.load_from(tmp_path / "tree")
    assert loaded.records == root.records


def test_edges(tmp_path):
    RecordKeeper().save_to(tmp_path / "empty")
    loaded = RecordKeeper.load_from(tmp_path / "empty")
    assert (list(loaded), dict(loaded.data), loaded.children) == ([], {}, ())
    root = tree()
    (tmp_path / "old").write_text("old")
    root.save_to(tmp_path / "old")
    assert len(RecordKeeper.load_from(tmp_path / "old")) == 6, "an existing file is replaced"
    root.pending_record["x"] = 1
    root.save_to(tmp_path / "old")
    assert len(RecordKeeper.load_from(tmp_path / "old")) == 6, "pending values are not records"


def test_what_cannot_be_saved_or_loaded(tmp_path):
    root = tree()
    with pytest.raises(ValueError, match=r"parent.*root"):
        root.children[0].save_to(tmp_path / "tree")
    with ExperimentCollection(tmp_path / "study").new_experiment() as experiment:
        with pytest.raises(ValueError, match="saves by itself"):
            experiment.save_to(tmp_path / "tree")
        with pytest.raises(ValueError, match="saves by itself"):
            experiment.sub_record_keeper().save_to(tmp_path / "tree")
    with pytest.raises(OSError, match="nowhere") as caught:
        root.save_to(tmp_path / "nowhere" / "tree")
    assert isinstance(caught.value, RecorderError)
    with pytest.raises(OSError, match="cannot be saved"):
        root.save_to(tmp_path / "study")
    with pytest.raises(FileNotFoundError):
        RecordKeeper.load_from(tmp_path / "tree")
    with pytest.raises(ValueError, match=r"study is a folder.*Hint: ExperimentCollection"):
        RecordKeeper.load_from(tmp_path / "study")
    (tmp_path / "other").write_bytes(b"PK\x03\x04 a zip file")
    (tmp_path / "nothing").write_bytes(b"")
    for name in ("other", "nothing"):
        with pytest.raises(ValueError, match="no saved tree"):
            RecordKeeper.load_from(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["nothing", "other", "study"], "no rest of a failed saving"


def damaged(path):
    """Whether loading refuses the file, in the right words."""
    try:
        RecordKeeper.load_from(path)
    except ValueError as error:
        assert isinstance(error, RecorderError)  # noqa: PT017
        assert str(path) in str(error)  # noqa: PT017
        return True
    return False


def test_every_damaged_byte_is_noticed(tmp_path):
    """A flipped bit of each byte that is not padding, and in 64 places of the header page's zeros."""
    path = tmp_path / "tree"
    tree().save_to(path)
    whole = path.read_bytes()
    padding = [place for place in range(len(whole)) if whole[place] == 0]
    places = sorted({*(place for place in range(len(whole)) if whole[place]), *padding[:: max(1, len(padding) // 64)]})
    missed = []
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        if not damaged(path):
            missed.append(place)
    assert missed == []


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "tree"
    tree().save_to(path)
    whole = path.read_bytes()
    lengths = [*range(20), *range(20, len(whole) - 600, 97), *range(len(whole) - 600, len(whole))]
    missed = []
    for length in lengths:
        path.write_bytes(whole[:length])
        if not damaged(path):
            missed.append(length)
    assert missed == []
    for extra in (b"x", bytes(12), whole):
        path.write_bytes(whole + extra)
        assert damaged(path), "what follows the end is not ours"


@given(st.binary(max_size=300))
def test_hostile_content_behind_right_checksums_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hostile") / "tree"
    framed = len(content).to_bytes(8, "little") + zlib.crc32(content).to_bytes(4, "little") + content
    path.write_bytes(b"RRTREE\x01\n" + (framed if content else b"") + bytes(12))
    assert damaged(path)
