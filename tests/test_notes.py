"""Notes, the data of a collection's root level: inherited by all records, added by any process, edited later."""

import threading

import pytest
from programs import run

NOTING = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
for number in range(20):
    collection.add_notes({f"{sys.argv[2]}{number}": number, "last": sys.argv[2]})
"""


def record(collection, x, **info):
    """Record one experiment with this x."""
    with collection.new_experiment(info) as experiment:
        experiment.add_record(x=x)


def test_notes_are_inherited_by_all_records(collection):
    record(collection, 1, a="own")
    collection.add_notes({"a": "note", "gpu": "A100"}, temperature=20.5)
    record(collection, 2)
    assert [(each["a"], each["gpu"], each["temperature"]) for each in collection] == [
        ("own", "A100", 20.5),
        ("note", "A100", 20.5),
    ]
    collection.add_notes(gpu="H100")
    assert {each["gpu"] for each in collection} == {"H100"}
    run(NOTING, collection.path, "n")
    assert (collection.records[0]["gpu"], collection.records[0]["n7"], collection.records[0]["last"]) == (
        "H100",
        7,
        "n",
    )


def test_notes_of_two_processes_at_once_lose_nothing(collection):
    record(collection, 1)
    names = "pqr"
    threads = [threading.Thread(target=run, args=(NOTING, collection.path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (one,) = collection.records
    assert {key: one[key] for name in names for key in [f"{name}{number}" for number in range(20)]} == {
        f"{name}{number}": number for name in names for number in range(20)
    }
    assert one["last"] in names
    collection.add_notes(last="mine")
    assert collection.records[0]["last"] == "mine", "the highest version wins"


def test_refused_notes_change_nothing(collection):
    record(collection, 1)
    for refused in ({"good": 1, "bad": object()}, {"good": 1, "bad": 2**70}, {"good": 1, "bad": "\ud800"}):
        with pytest.raises((TypeError, ValueError), match="'bad'"):
            collection.add_notes(refused)
    assert "good" not in collection.records[0]
