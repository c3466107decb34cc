"""The reserve behind a unit's last block: on a full disk the end entry runs into it, and is read as any other."""

import errno
import os

import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import files
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.background import background
from rigorous_recorder.store.live import read_log
from rigorous_recorder.store.logsource import LogSource

BLOCK = 4096


@pytest.fixture
def experiment(tmp_path, journal, monkeypatch):
    monkeypatch.setattr(journals, "SIZES", (4 * BLOCK,) * 2)
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", BLOCK)
    return ExperimentCollection(tmp_path / "study", journal=journal).new_experiment()


def fill(experiment, left):
    """Add records until so many bytes are left in the last block of the first unit; how many."""
    journal, count = experiment._session.journal, 0
    while journal._index + journal._span < journal._last or journal._end - journal.pos > 1000:
        experiment.add_record(n=0, pad="x" * 300)
        count += 1
    before = journal.pos
    experiment.add_record(n=0, pad="x" * 300)
    experiment.add_record(n=0, pad="x" * (300 + journal._end - journal.pos - (journal.pos - before) - left))
    assert journal._end - journal.pos == left
    return count + 2


@pytest.mark.parametrize("synced", [False, True])
@pytest.mark.parametrize("error", [None, "the disk is full " * 40])
@pytest.mark.parametrize("left", [0, 3, 20])
def test_an_end_that_runs_into_the_reserve(experiment, monkeypatch, left, error, synced):
    """Nothing is wrong with such a log, now or once it is closed; it is sealed and compacted as others are."""
    journal, seen, count = experiment._session.journal, [], fill(experiment, left)
    if synced:
        experiment.sync()
    log = journal.path
    real = journals.Journal.put_end

    def put_end(self, payload):
        with monkeypatch.context() as patch:
            patch.setattr(files, "create", lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full", path)))
            real(self, payload)
        assert self.path == log
        assert self.pos > self._block + self._span * BLOCK, "it is in the block"
        source = LogSource(read_log(log))  # as whoever reads it if the process is killed now
        seen.append((source.rows, len(source.events), source.findings))

    monkeypatch.setattr(journals.Journal, "put_end", put_end)
    monkeypatch.setattr(background.helper, "submit", lambda path: False)  # the log stays for the readers below
    experiment.close(error)
    source = LogSource(read_log(log))
    assert seen == [(count, len(source.events), [])]
    assert (source.rows, source.findings, source.unverified) == (count, [], 0)
    collection = ExperimentCollection(os.path.dirname(os.path.dirname(os.path.dirname(log))))
    (one,) = collection.experiments
    assert (one.state, one.n_records) == ("finished" if error is None else "failed", count)
    assert collection.verify().ok
    collection.compact()
    assert not os.path.exists(log)
    assert len(collection) == count
