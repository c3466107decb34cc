"""The highest number and try that a name can say: behind them nothing is begun, since nobody would read it."""

import os

import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import StoreError
from rigorous_recorder.store import layout


def record(collection, **info):
    with collection.new_experiment(**info) as experiment:
        experiment.add_record(x=1)
    return experiment.number


def test_the_highest_number_is_given_and_none_behind_it(tmp_path):
    path = tmp_path / "study"
    assert record(ExperimentCollection(path)) == 1
    last = layout.claim_name(layout.MAX_NUMBER - 2, 1)
    (path / last).mkdir()
    os.utime(path / last)
    collection = ExperimentCollection(path)
    assert record(collection) == layout.MAX_NUMBER - 1
    assert len(collection) == 2
    for _ in range(2):  # the process that claimed the last one would guess the next without looking
        with pytest.raises(StoreError, match=f"number would be {layout.MAX_NUMBER}.*Hint: rename") as caught:
            collection.new_experiment()
        assert caught.value.filename == str(path / layout.claim_name(layout.MAX_NUMBER - 1, 1))
    assert sorted(layout.parse_claim(name) is not None for name in os.listdir(path)) == [False, True, True, True]
    assert (len(collection), collection.verify().ok) == (2, True)


@pytest.mark.parametrize("retries", ["always", "same_info"])
def test_the_highest_try_is_taken_and_none_behind_it(tmp_path, retries):
    path = tmp_path / "study"
    failed = ExperimentCollection(path).new_experiment(lr=1)
    failed.add_record(x=1)
    failed.close(error="bad")
    (path / "000001.1").rename(path / layout.claim_name(1, layout.MAX_TRY - 2))
    collection = ExperimentCollection(path, retries=retries)
    again = collection.new_experiment(lr=1)
    again.add_record(x=2)
    again.close(error="bad")
    assert (again.number, len(collection)) == (1, 2)
    with pytest.raises(StoreError, match=f"try would be {layout.MAX_TRY}.*Hint: rename") as caught:
        ExperimentCollection(path, retries=retries).new_experiment(lr=1)
    assert caught.value.filename == str(path / layout.claim_name(1, layout.MAX_TRY - 1))
    assert len(os.listdir(path)) == 3
    assert record(ExperimentCollection(path, retries="never"), lr=1) == 2, "the hint: another number is free"
    assert len(collection) == 3
