"""Experiments and attempts: how they are numbered, in which states they are, how they end, and how they go on."""

import contextlib
import os
import shutil
import time
import traceback
from pathlib import Path

import pytest
from programs import ELSEWHERE, run, run_killed

from rigorous_recorder import Experiment, ExperimentCollection, RecorderError, RecorderWarning
from rigorous_recorder.store import pack

OPENING = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
"""
RECORDED_THEN = OPENING + "experiment = collection.new_experiment(lr=0.1)\nexperiment.add_record(x=1)\n"
SIX = {
    "experiment_number": int,
    "error_number": int,
    "had_error": bool,
    "experiment_start_time": float,
    "experiment_end_time": float,
    "experiment_duration": float,
}
LATE = {"had_error", "experiment_end_time", "experiment_duration"}


def fail(collection, error=None, /, **info):
    """Record one experiment that fails; its number and which failure in a row it was."""
    with contextlib.suppress(ZeroDivisionError), collection.new_experiment(**info) as experiment:
        experiment.add_record(x=1)
        raise error or ZeroDivisionError("division by zero")
    return experiment.number, experiment.error_number


def finish(collection, /, **info):
    """Record one experiment that finishes; its number and error number."""
    with collection.new_experiment(**info) as experiment:
        experiment.add_record(x=1)
    return experiment.number, experiment.error_number


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_numbers_count_up_from_one(collection):
    assert [finish(collection) for _ in range(3)] == [(1, 0), (2, 0), (3, 0)]
    assert collection.experiment_numbers == (1, 2, 3)


def test_a_failed_number_is_taken_again_until_one_succeeds(collection):
    assert finish(collection) == (1, 0)
    assert [fail(collection) for _ in range(3)] == [(2, 1), (2, 2), (2, 3)]
    assert finish(collection) == (2, 0)
    assert finish(collection) == (3, 0)
    assert fail(collection) == (4, 1)
    assert collection.experiment_numbers == (1, 2, 3, 4)
    assert [one.number for one in collection.experiments] == [1, 2, 2, 2, 2, 3, 4]
    assert [one.state for one in collection.experiments] == [
        "finished",
        *["failed"] * 3,
        "finished",
        "finished",
        "failed",
    ]
    assert [each["had_error"] for each in collection[2]] == [True, True, True, False]
    assert [each["error_number"] for each in collection[2]] == [1, 2, 3, 0]
    assert len(collection[2]) == 4, "every attempt keeps its records"


def test_only_the_highest_number_is_tried_again(collection):
    first, second = collection.new_experiment(), collection.new_experiment()
    second.close()
    first.close(error="failed")
    assert finish(collection) == (3, 0)


def test_a_number_is_claimed_at_once(collection):
    numbers = [collection.new_experiment().number for _ in range(3)]
    assert numbers == [1, 2, 3]
    for one in collection.open_experiments:
        one.close()


def test_retries_same_info(tmp_path):
    collection = ExperimentCollection(tmp_path / "study", retries="same_info")
    assert fail(collection, lr=0.1) == (1, 1)
    assert fail(collection, lr=0.2)[0] == 2
    assert fail(collection, lr=0.1) == (1, 2), "the highest number whose attempts all failed with equal info"
    assert fail(collection, lr=0.2)[0] == 2
    assert fail(collection, lr="0.1")[0] == 3, "equal includes the type"
    assert finish(collection, lr=0.1) == (1, 0)
    assert finish(collection, lr=0.1) == (4, 0), "it has succeeded"


def test_retries_same_info_goes_by_what_was_begun(tmp_path):
    collection = ExperimentCollection(tmp_path / "study", retries="same_info")
    fail(collection, lr=0.1, seeds=[1, 2])
    collection.keeper(lr=0.1)["note"] = "diverged"
    assert finish(collection, lr=0.1, seeds=[1, 2])[0] == 1


def test_retries_never(tmp_path):
    collection = ExperimentCollection(tmp_path / "study", retries="never")
    assert [fail(collection)[0], fail(collection)[0], finish(collection)[0]] == [1, 2, 3]


def test_a_refused_info_claims_no_number(collection):
    for refused in ({"lr": 2**70}, {"lr": "\ud800"}, {"lr": object()}, {"had_error": True}, {"experiment_number": 7}):
        with pytest.raises((TypeError, ValueError), match=next(iter(refused))) as caught:
            collection.new_experiment(refused)
        assert isinstance(caught.value, RecorderError)
    assert finish(collection) == (1, 0)
    assert len(collection.experiments) == 1


# ---- the six keys ----------------------------------------------------------------------------------------------------


def test_the_six_keys_of_a_finished_experiment(collection):
    before = time.time()
    finish(collection)
    after = time.time()
    (record,) = collection.records
    assert {key: type(record[key]) for key in SIX} == SIX
    assert (record["experiment_number"], record["error_number"], record["had_error"]) == (1, 0, False)
    assert before <= record["experiment_start_time"] <= record["experiment_end_time"] <= after
    spent = record["experiment_end_time"] - record["experiment_start_time"]
    assert record["experiment_duration"] == pytest.approx(spent, abs=1e-6)
    (experiment,) = collection.experiments
    assert experiment.start_time == record["experiment_start_time"]
    assert experiment.end_time == record["experiment_end_time"]
    assert experiment.duration == record["experiment_duration"]
    assert experiment.had_error is False
    assert experiment.error is None
    assert experiment.n_records == 1


def test_while_it_runs_the_end_is_missing(collection):
    with collection.new_experiment(lr=0.1) as experiment:
        experiment.add_record(x=1)
        for record in (collection.records[0], experiment.records[0]):
            assert set(record) == set(SIX) - LATE | {"lr", "x"}
            assert record["had_error"] is None
        for one in (experiment, collection.experiments[0]):
            assert (one.state, one.had_error, one.end_time, one.duration, one.error) == (
                "running",
                None,
                None,
                None,
                None,
            )
            assert (one.number, one.error_number, one.n_records, one.info) == (1, 0, 1, {"lr": 0.1})
        assert set(experiment.merged) == set(SIX) - LATE | {"lr"}
    assert experiment.state == "finished"
    assert set(collection.records[0]) == {*SIX, "lr", "x"}


def test_automatic_keys_are_refused_in_level_data(collection):
    with collection.new_experiment() as experiment:
        for key in SIX:
            for refused in (experiment.sub_record_keeper, experiment.update, collection.add_notes):
                with pytest.raises(ValueError, match=key):
                    refused({key: 1})
            with pytest.raises(ValueError, match=key):
                experiment[key] = 1
        assert experiment.data == {}
        experiment.add_record(experiment_number=99)
    assert collection.records[0]["experiment_number"] == 99, "in a record they are stored"
    assert len(collection[1]) == 1


# ---- how it ends -----------------------------------------------------------------------------------------------------


def test_an_exception_leaves_as_it_came(collection):
    error = ZeroDivisionError("by zero")
    with pytest.raises(ZeroDivisionError) as caught, collection.new_experiment():
        raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert all(__file__ == frame.filename for frame in traceback.extract_tb(error.__traceback__))
    (stored,) = collection.experiments
    assert (stored.state, stored.had_error, stored.error) == ("failed", True, "ZeroDivisionError: by zero")
    assert stored.end_time is not None


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(), "finished", None),
        (SystemExit(0), "finished", None),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (SystemExit("no data"), "failed", "SystemExit: no data"),
        (GeneratorExit(), "failed", "GeneratorExit"),
        (AssertionError(), "failed", "AssertionError"),
        (ValueError("lone \ud800"), "failed", "ValueError: lone ?"),
        (ValueError("long " * 100_000), "failed", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_how_it_is_left_decides_its_state(collection, error, state, text):
    with pytest.raises(type(error)), collection.new_experiment():
        raise error
    (experiment,) = collection.experiments
    assert (experiment.state, experiment.had_error) == (state, state != "finished")
    assert experiment.error == text or (len(str(error)) > 2000 and experiment.error.startswith("ValueError: long long"))
    assert collection.new_experiment().number == (2 if state == "finished" else 1)
    collection.open_experiments[0].close()


def test_an_error_whose_text_cannot_be_made_does_not_hide_it(collection):
    class Mute(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(Mute), collection.new_experiment():
        raise Mute
    assert collection.experiments[0].state == "failed"
    assert collection.experiments[0].error.startswith("Mute")


def test_close_without_with(collection):
    experiment = collection.new_experiment(lr=0.1)
    assert collection.open_experiments == (experiment,)
    experiment.add_record(x=1)
    experiment.close()
    experiment.close()
    assert collection.open_experiments == ()
    assert collection.experiments[0].state == "finished"
    with pytest.raises(RuntimeError, match=r"experiment 1 is closed.*resume_experiment\(1\)"):
        experiment.add_record(x=2)
    for refused in (lambda: experiment.add_records([{"x": 2}]), lambda: experiment.sub_record_keeper(y=1)):
        with pytest.raises(RecorderError, match="closed"):
            refused()
    assert len(collection) == 1


def test_close_with_an_error(collection):
    collection.new_experiment().close(error="the data was wrong")
    collection.new_experiment().close(ValueError("bad"))
    first, second = collection.experiments
    assert (first.state, first.error, second.error) == ("failed", "the data was wrong", "ValueError: bad")
    assert (first.error_number, second.error_number) == (1, 2)
    for text in ("lone \ud800", "long " * 100_000, ""):
        collection.new_experiment().close(error=text)
        assert collection.experiments[-1].state == "failed"


def test_close_within_with_stays(collection):
    with collection.new_experiment() as experiment:
        experiment.close(error="given up")
    assert (collection.experiments[0].state, collection.experiments[0].error) == ("failed", "given up")


def test_the_users_word_counts_later(collection):
    finish(collection)
    collection.experiments[0].close(error="the labels were shifted")
    (stored,) = collection.experiments
    assert (stored.state, stored.error, stored.had_error) == ("failed", "the labels were shifted", True)
    assert collection.records[0]["had_error"] is True
    stored.close()
    assert collection.experiments[0].state == "finished"
    live = collection.new_experiment()
    live.close(error="too early")
    live.close(error="later")
    assert collection.experiments[-1].error == "later"
    assert collection.new_experiment().number == 2
    collection.open_experiments[0].close()


def test_close_from_another_process(collection):
    finish(collection)
    run(OPENING + "collection.experiments[-1].close(error='seen from afar')", collection.path)
    assert (collection.experiments[0].state, collection.experiments[0].error) == ("failed", "seen from afar")
    run(OPENING + "collection.experiments[-1].close()", collection.path)
    assert (collection.experiments[0].state, collection.experiments[0].error) == ("finished", None)


def test_a_killed_one(collection):
    before = time.time()
    run_killed(RECORDED_THEN, collection.path)
    (stored,) = collection.experiments
    assert (stored.state, stored.had_error, stored.error_number, stored.n_records) == ("killed", True, 1, 1)
    assert before <= stored.start_time <= stored.end_time <= time.time()
    assert stored.duration == pytest.approx(stored.end_time - stored.start_time, abs=1e-6)
    assert collection.records[0]["had_error"] is True
    assert collection.new_experiment().number == 1
    collection.open_experiments[0].close()
    stored.close()
    assert [one.state for one in collection.experiments] == ["finished", "finished"]


def test_a_stale_one_may_still_live(collection):
    run_killed(ELSEWHERE + RECORDED_THEN + "experiment.sync()", collection.path)
    for log in Path(collection.path).rglob("*.log"):
        os.utime(log, (time.time() - 1000,) * 2)
    (stored,) = collection.experiments
    assert (stored.state, stored.had_error, stored.end_time, stored.duration) == ("stale", None, None, None)
    assert set(collection.records[0]) == set(SIX) - LATE | {"lr", "x"}
    with pytest.raises(RuntimeError, match=r"stale.*close"):
        collection.resume_experiment()
    assert finish(collection) == (2, 0), "after a stale one comes a new number"
    stored.close(error="it was gone")
    assert [one.state for one in collection.experiments] == ["failed", "finished"]
    with collection.resume_experiment(1) as experiment:
        experiment.add_record(x=2)
    assert [(one.state, one.n_records) for one in collection.experiments] == [("finished", 2), ("finished", 1)]


def test_never_closed_is_failed_at_interpreter_exit(collection):
    run(RECORDED_THEN, collection.path)
    run(RECORDED_THEN + "collection.new_experiment()\nraise SystemExit(3)", collection.path, returncode=3)
    run(RECORDED_THEN + "1 / 0", collection.path, returncode=1)
    assert [(one.number, one.state, one.error) for one in collection.experiments] == [
        (1, "failed", "never closed"),
        (1, "failed", "never closed"),
        (2, "failed", "never closed"),
        (2, "failed", "never closed"),
    ]
    assert [one.n_records for one in collection.experiments] == [1, 1, 0, 1]


def test_an_experiment_that_begins_while_the_program_ends_is_ended_too(collection):
    """Another one's handler may be the first to record."""
    code = """
import atexit, sys
from rigorous_recorder import ExperimentCollection
@atexit.register
def last_words():
    ExperimentCollection(sys.argv[1]).new_experiment(lr=1).add_record(x=1)
"""
    run(code, collection.path)
    assert [(one.state, one.error, one.n_records) for one in collection.experiments] == [("failed", "never closed", 1)]


def test_a_handler_at_exit_may_still_record(collection):
    """It was registered after this package was imported, so it runs before ours, whenever the experiment began."""
    code = """
import atexit, sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1])
@atexit.register
def summary():
    experiment.add_record(final=True)
    experiment.close()
experiment = collection.new_experiment()
experiment.add_record(x=1)
"""
    run(code, collection.path)
    assert [(one.state, one.n_records) for one in collection.experiments] == [("finished", 2)]


def test_values_still_pending_at_close_give_one_warning(collection):
    experiment = collection.new_experiment()
    keeper = experiment.sub_record_keeper(model="m")
    experiment.pending_record["x"] = 1
    keeper.pending_record["loss"] = 0.5
    with pytest.warns(RecorderWarning, match="not committed") as caught:
        experiment.close()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(collection) == 0


# ---- going on --------------------------------------------------------------------------------------------------------


def test_resume_goes_on_with_the_same_attempt(collection):
    with collection.new_experiment(lr=0.1) as first:
        first.sub_record_keeper(model="m").add_record(x=1)
        time.sleep(0.01)
    (before,) = collection.experiments
    with collection.resume_experiment() as resumed:
        assert isinstance(resumed, Experiment)
        assert (resumed.number, resumed.info, resumed.state) == (1, {"lr": 0.1}, "running")
        (running,) = collection.experiments
        assert (running.state, running.had_error, running.duration) == ("running", None, None)
        assert [child.data for child in resumed.children] == [{"model": "m"}]
        resumed.children[0].add_record(x=2)
        resumed.add_record(x=3)
        time.sleep(0.01)
    (after,) = collection.experiments
    assert [(one["x"], one["lr"], one["model"]) for one in collection] == [(1, 0.1, "m"), (2, 0.1, "m"), (3, 0.1, None)]
    assert after.start_time == before.start_time
    assert after.end_time >= before.end_time + 0.01
    assert 0.02 <= after.duration < after.end_time - after.start_time, "the duration is the sum of the runs"
    assert (after.state, after.n_records) == ("finished", 3)


def test_the_latest_begin_and_end_decide(collection):
    fail(collection)
    with collection.resume_experiment(1):
        pass
    assert [(one.state, one.error, one.error_number) for one in collection.experiments] == [("finished", None, 0)]
    with contextlib.suppress(KeyboardInterrupt), collection.resume_experiment(1):
        raise KeyboardInterrupt
    assert [(one.state, one.error_number) for one in collection.experiments] == [("interrupted", 1)]
    assert fail(collection) == (1, 2)
    collection.experiments[0].close()
    run_killed(OPENING + "experiment = collection.resume_experiment(1); experiment.add_record(x=7)", collection.path)
    assert [(one.state, one.n_records) for one in collection.experiments] == [("finished", 1), ("killed", 2)]


def test_resume_takes_the_last_attempt_that_is_not_running(collection):
    fail(collection)
    with collection.new_experiment(), collection.resume_experiment(1) as resumed:
        resumed.add_record(x=2)
    assert [one.n_records for one in collection.experiments] == [2, 0]


def test_resume_of_what_cannot_be_resumed(collection):
    for number in (-1, 1, 0):
        with pytest.raises(IndexError, match="no experiment"):
            collection.resume_experiment(number)
    with collection.new_experiment(), pytest.raises(RuntimeError, match="running"):
        collection.resume_experiment()
    with collection.resume_experiment(-1) as resumed:
        assert resumed.number == 1
        assert collection.open_experiments == (resumed,)
    with pytest.raises(IndexError):
        collection.resume_experiment(-2)


KILLED_LATER = "experiment.sync()\nimport time; time.sleep(0.3); experiment.add_record(x=2); experiment.sync()"


def test_a_copy_and_a_sealed_copy_of_a_killed_attempt_have_its_end(collection, tmp_path):
    """Its last known time is in its units: a copy has other modification times."""
    run_killed(RECORDED_THEN + KILLED_LATER, collection.path)
    time.sleep(0.1)
    shutil.copytree(collection.path, tmp_path / "copy", copy_function=shutil.copyfile)
    (one,) = collection.experiments
    (copied,) = ExperimentCollection(tmp_path / "copy").experiments
    assert one.state == copied.state == "killed"
    assert 0.25 < one.duration < 5
    assert (one.end_time, one.duration) == (copied.end_time, copied.duration)
    for log in Path(collection.path).rglob("*.log"):
        assert pack.seal(str(log)) is not None
    (sealed,) = collection.experiments
    assert (sealed.state, sealed.end_time, sealed.duration) == ("killed", one.end_time, one.duration)


@pytest.mark.parametrize("shift", [60, -60, 10**8, -(10**8)])
def test_the_users_word_counts_whatever_the_clocks_say(collection, monkeypatch, shift):
    shifted = f"import time\nreal = time.time\ntime.time = lambda: real() + {shift}\n"
    run_killed(shifted + RECORDED_THEN + "experiment.sync()", collection.path)
    assert collection.experiments[0].state == "killed"
    collection.experiments[0].close(error="OOM")
    (one,) = collection.experiments
    assert (one.state, one.error, one.had_error) == ("failed", "OOM", True)
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() - 2 * shift)
        resumed = collection.resume_experiment(1)
        resumed.add_record(x=2)
        assert [each.state for each in collection.experiments] == ["running"]
        resumed.close(error="bad")
    (one,) = collection.experiments
    assert (one.state, one.error, one.had_error) == ("failed", "bad", True)
    one.close()
    assert collection.experiments[0].state == "finished"
