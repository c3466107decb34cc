"""Room for large entries: each finds its place in a unit beside the definitions of its levels, whatever their sizes."""

import errno
import os
from unittest import mock

import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import files
from rigorous_recorder.store import journal as journals

BLOCK = 1024
SIZES = (4 * BLOCK, 8 * BLOCK, 8 * BLOCK)


@pytest.fixture
def few_units():
    """Small units, and an error once there are far too many of them: a loop here fills the disk within seconds."""
    create, made = files.create, []

    def counted(path):
        made.append(path)
        assert len(made) < 1000, "units are made without end"
        return create(path)

    with (
        mock.patch.object(journals, "SIZES", SIZES),
        mock.patch.dict(journals.Journal.__init__.__kwdefaults__, {"block_size": BLOCK, "sizes": SIZES}),
        mock.patch.object(files, "create", counted),
    ):
        yield made


@pytest.mark.parametrize("name", [10, 900, 5000], ids=lambda size: f"levels of {size} bytes")
@pytest.mark.parametrize("way", ["add_record", "add_records"])
def test_large_entries_leave_room_for_their_levels(collection, few_units, way, name):
    """Entries of every size around a multiple of the block's, larger than an ordinary unit, each in its own unit."""
    sizes = [12 * BLOCK - number for number in range(0, 1300, 40)]
    with collection.new_experiment() as experiment:
        for size in sizes:
            keeper = experiment.sub_record_keeper(name="n" * name, size=size)
            if way == "add_record":
                keeper.add_record(pad="p" * size)
            else:
                keeper.add_records([{"pad": "p" * size}])
            keeper.add_record(x=1)
        experiment.sync()
    records = collection.records
    assert [each["size"] for each in records] == [size for size in sizes for _ in range(2)]
    assert [len(each["pad"] or "") for each in records] == [length for size in sizes for length in (size, 0)]
    assert len(few_units) < 5 * len(sizes)


@pytest.mark.parametrize("depth", [3, 50])
def test_deep_levels_before_every_entry(collection, few_units, depth):
    """Definitions of all levels above are larger than a unit."""
    with collection.new_experiment() as experiment:
        keeper = experiment
        for number in range(depth):
            keeper = keeper.sub_record_keeper({f"level{number}": "v" * 300})
        for number in range(100):
            keeper.add_record(number=number, pad="p" * 500)
            keeper.add_records(number=[number], pad="p" * 3000)
    assert [each["number"] for each in collection] == [number for number in range(100) for _ in range(2)]
    assert set(map(len, collection)) == {depth + 8}


def test_edits_larger_than_a_unit(tmp_path, few_units):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.add_record(x=1)
        for size in range(11 * BLOCK, 13 * BLOCK, 61):
            experiment["note"] = "n" * size
            assert len(experiment["note"]) == size
        experiment.add_record(x=2)
    collection.keeper(experiment_number=1).update(later="l" * 20_000)
    assert [(each["x"], len(each["later"])) for each in collection] == [(1, 20_000), (2, 20_000)]


def test_levels_that_were_refused_take_no_room(tmp_path, few_units, monkeypatch):
    """A disk that was full for a while has room for a small unit again: no more is asked of it than what is there needs."""
    room, real = 64 * BLOCK, files.preallocate

    def preallocate(descriptor, size, start=0):
        if size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, size, start)

    monkeypatch.setattr(files, "preallocate", preallocate)
    collection = ExperimentCollection(tmp_path / "study", journal="mmap")
    added, refused = [], 0
    with collection.new_experiment() as experiment:
        for number in range(400):
            room = 64 * BLOCK if number < 3 or number == 399 else 0
            try:
                experiment.sub_record_keeper(number=number, name="n" * 900).add_record(x=number)
                added.append(number)
            except StoreError:
                refused += 1
    assert refused > 300
    assert added[-1] == 399
    assert [(record["number"], record["x"]) for record in collection.records] == [(number, number) for number in added]
