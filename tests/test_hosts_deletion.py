"""Deletion and several hosts: what one of them still records into is not deleted by another one, which is told who it is."""

import os
import time
from pathlib import Path

import hosts
import pytest
from hosts import DIFFERENCES, NAME, READING, live, making, refused, states

from rigorous_recorder import ExperimentCollection

pytestmark = pytest.mark.privileged


@pytest.fixture
def make(tmp_path):
    with making(tmp_path) as made:
        yield made


@pytest.fixture
def study(tmp_path):
    return ExperimentCollection(tmp_path / "study")


def test_deletion_is_refused_while_another_host_records(make, study):
    """After what is deleted was resumed elsewhere, it is there; what was resumed after it was deleted is refused."""
    program, _ = live(make(), study)
    refused(study.experiments[0].delete, "running")
    program.tell()
    program.end()
    resuming = (
        READING
        + """
experiment = collection.resume_experiment(1)
print(json.dumps("resumed"), flush=True)
sys.stdin.readline()
experiment.add_record(i=200)
experiment.close()
"""
    )
    again = make().start(resuming, study.path, 0)
    stored = study.experiments[0]
    assert again.hear() == "resumed"
    refused(stored.delete, "running")
    again.tell()
    again.end()
    assert [each["i"] for each in study.records] == list(range(201))
    study.experiments[0].delete()
    assert study.experiment_numbers == ()
    failing = make().start(resuming, study.path, 0)
    assert failing.process.wait(hosts.TIMEOUT) == 1
    assert "UnknownIndexError: There is no experiment 1 to resume." in failing.process.stderr.read()


def age(study, seconds):
    """Have the logs of the first experiment that are open been modified so long ago, by the file server's clock."""
    then = time.time() - seconds
    for log in Path(study.path).glob("000001.1/*/*.log"):
        if log.stat().st_size > 8192:
            os.utime(log, (then, then))


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_a_user_closed_while_another_host_records_it(make, study, what):
    """Its writer lives and says so; when it has been silent for five minutes, by both clocks, the user's word counts."""
    host = make(what)
    _, told = live(host, study, -400)
    study.experiments[0].close("it hangs")
    name = NAME if what not in ("another name", "everything") else "elsewhere"
    says = f"process {told['pid']} of the host '{name}' still records into it"
    refused(study.experiments[0].delete, says)
    host.close()
    refused(study.experiments[0].delete, says)
    age(study, 400)
    study.experiments[0].delete()
    assert study.experiment_numbers == ()


@pytest.mark.parametrize("clock", [0, 3600, -3600])
def test_a_clock_that_is_wrong_hides_no_writer_and_makes_none(make, study, clock):
    """What the file server sees counts, and what the writer says by its own clock, if that can be."""
    host = make()
    _, told = live(host, study, clock)
    study.experiments[0].close("it hangs")
    says = f"process {told['pid']} of the host 'elsewhere' still records into it"
    refused(study.experiments[0].delete, says)
    host.close()  # else it would touch its log once more
    age(study, 400)
    if clock == 0:  # as where the times of files are those of a cache: its beat tells
        refused(study.experiments[0].delete, says)
    else:
        study.experiments[0].delete()
        assert study.experiment_numbers == ()


def test_a_worker_on_another_host(make, study, tmp_path):
    """The experiment is finished; the worker to which a keeper of it was handed is not."""
    handed = tmp_path / "handed"
    beginning = (
        READING
        + """
import pickle
with collection.new_experiment() as experiment:
    open(sys.argv[3], "wb").write(pickle.dumps(experiment.sub_record_keeper(worker=1)))
"""
    )
    working = (
        READING
        + """
import pickle
keeper = pickle.load(open(sys.argv[3], "rb"))
keeper.add_record(n=1)
print(json.dumps(machine.here().pid), flush=True)
sys.stdin.readline()
keeper.add_record(n=2)
"""
    )
    make().run(beginning, study.path, 0, handed)
    worker = make("worker", boot="0" * 32).start(working, study.path, 0, handed)
    pid = worker.hear()
    assert states(study) == ["finished"]
    refused(study.experiments[0].delete, f"process {pid} of the host 'worker' still records into it")
    worker.tell()
    worker.end()
    assert [each["n"] for each in study.records] == [1, 2]
    study.experiments[0].delete()
    assert study.experiment_numbers == ()
