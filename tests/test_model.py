"""A collection against a plain model of it: random studies, after each step of which everything is as the model says."""

import contextlib
import random
import shutil
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import plan
import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from strategies import exact, plain
from test_values import shape

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderError, RecorderWarning
from rigorous_recorder import experiment as experiments
from rigorous_recorder import session as sessions
from rigorous_recorder.store import full, layout, machine, pack
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.background import background
from rigorous_recorder.store.compact import compact

AGAIN = {"failed", "killed"}
TIMES = {"experiment_start_time", "experiment_end_time", "experiment_duration"}
PICK = st.integers(0, 10**6)
NAMES = st.sampled_from("abcd")
LEVEL_DATA = st.dictionaries(
    NAMES, st.one_of(st.integers(0, 3), st.sampled_from([None, "x", 0.5, True, (1, 2), "/,=%"])), max_size=3
)
PADS = st.sampled_from(["", "p" * 50, "q" * 230, "r" * 990, "s" * 3000, "t" * 20_000])


def all_text(value):
    """Whether all keys within are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and all_text(item) for key, item in value.items())
    return all(map(all_text, value)) if isinstance(value, list) else True


OWN = st.dictionaries(NAMES | st.sampled_from(["x", "y", "rr_level", ""]), plain.filter(all_text), max_size=4)
ROWS = st.lists(st.dictionaries(NAMES | st.just("x"), exact.filter(all_text), max_size=3), max_size=6)


class Node:
    """A level of the model."""

    def __init__(self, attempt, parent, data):
        self.attempt = attempt
        self.parent = parent
        self.data = dict(data)
        self.children = []
        self.keeper = None
        self.pending = {}
        if parent is not None:
            parent.children.append(self)

    def merged(self):
        """Own and inherited data."""
        return {**(self.parent.merged() if self.parent else {}), **self.data}


class Attempt:
    """An attempt of the model."""

    def __init__(self, number, failures, info):
        self.number = number
        self.failures = failures
        self.state = "running"
        self.error = None
        self.root = Node(self, None, info)
        self.nodes = [self.root]
        self.records = []

    @property
    def error_number(self):
        return self.failures + 1 if self.state in AGAIN else 0

    def automatic(self):
        """The automatic keys but the times, and which times there are."""
        keys = {"experiment_number": self.number, "error_number": self.error_number}
        if self.state == "running":
            return keys, {"experiment_start_time"}
        return {**keys, "had_error": self.state in AGAIN}, TIMES


class Study(RuleBasedStateMachine):
    """What a user may do to a study, in any order."""

    mode = "mmap"

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        small = {"block_size": 1024, "sizes": (4096, 8192, 16384)}
        for patch in (
            mock.patch.dict(journals.Journal.__init__.__kwdefaults__, small),
            mock.patch.object(journals, "SIZES", small["sizes"]),
            mock.patch.object(sessions, "EDITOR_SIZES", (2048, 4096)),
            mock.patch.object(full, "SEAL_FROM", 0),
            mock.patch.object(background, "watch", self.hold),
            mock.patch.object(background.helper, "submit", self.seal_at_once),
            mock.patch.object(background.helper, "wait", self.nothing),
            mock.patch.object(machine, "here", self.here),
            mock.patch.object(machine, "lives", self.lives),
        ):
            self.stack.enter_context(patch)
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.attempts = []
        self.taken = set()
        self.notes = {}
        self.ids = 0
        self.held = []
        self.process = 1

    def here(self):
        """Which process this is, by the model."""
        return machine.Machine(*machine._constant, self.process, 0)

    def lives(self, one, sign):
        """Whether a process of the model still lives."""
        return one.pid == self.process

    def hold(self, journal, interval):
        """The background's hold on open journals, without its thread: only rules do something."""
        self.held.append(journal)

    @staticmethod
    def nothing(*arguments):
        """Sealing is over when it was asked for."""

    @staticmethod
    def seal_at_once(path):
        """What the helper process does, in this one."""
        return pack.seal(path) is not None

    @initialize()
    def begin(self):
        self.reopen()
        self.collection.add_notes()

    def teardown(self):
        with self.stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for experiment in self.collection.open_experiments:
                experiment.close()
            for session in list(sessions.sessions.values()):
                session.close_editor()
            for node in self.nodes():
                node.keeper = None

    # ---- picking -----------------------------------------------------------------------------------------------------

    def nodes(self):
        return [node for attempt in self.attempts for node in attempt.nodes]

    def running(self):
        return [attempt for attempt in self.attempts if attempt.state == "running"]

    def closed(self):
        return [attempt for attempt in self.attempts if attempt.state != "running"]

    def last_try(self, attempt):
        """Whether an attempt is the last of its number: an earlier one does not decide what comes next."""
        return [one for one in self.attempts if one.number == attempt.number][-1] is attempt

    def live(self, pick):
        """A node of a running attempt, with its keeper."""
        nodes = [node for attempt in self.running() for node in attempt.nodes]
        node = nodes[pick % len(nodes)]
        return node, self.keeper(node)

    def keeper(self, node):
        """The living keeper of a node, found again from above when nobody held it."""
        if node.keeper is None:
            node.keeper = self.keeper(node.parent).children[node.parent.children.index(node)]
        return node.keeper

    def unique(self, data):
        """Level data with an id, by which the level can be found."""
        self.ids += 1
        return {"id": self.ids, **data}

    def add(self, node, *records):
        """Note what was added."""
        node.attempt.records += [(node, dict(record)) for record in records]

    # ---- experiments -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.running()) < 3)
    @rule(info=LEVEL_DATA)
    def new_experiment(self, info):
        info = self.unique(info)
        number, failures = 1, 0
        if self.attempts or self.taken:
            highest = max([*(attempt.number for attempt in self.attempts), *self.taken])
            last = [attempt for attempt in self.attempts if attempt.number == highest]
            again = highest not in self.taken and last[-1].state in AGAIN
            number, failures = (highest, last[-1].error_number) if again else (highest + 1, 0)
        attempt = Attempt(number, failures, info)
        attempt.root.keeper = self.collection.new_experiment(info)
        assert attempt.root.keeper.number == number
        place = sum(one.number <= number for one in self.attempts)
        self.attempts.insert(place, attempt)

    @precondition(lambda self: self.running())
    @rule(pick=PICK, error=st.sampled_from([None, None, "failed"]))
    def close(self, pick, error):
        attempt = self.running()[pick % len(self.running())]
        expect = contextlib.nullcontext()
        if any(node.pending for node in attempt.nodes):
            expect = pytest.warns(RecorderWarning, match="not committed")
        with expect:
            attempt.root.keeper.close(error=error)
        attempt.state, attempt.error = ("finished", None) if error is None else ("failed", error)
        for node in attempt.nodes:
            node.keeper, node.pending = None, {}

    @precondition(lambda self: any(map(self.last_try, self.closed())))
    @rule(pick=PICK)
    def resume(self, pick):
        choices = [attempt for attempt in self.closed() if self.last_try(attempt)]
        attempt = choices[pick % len(choices)]
        attempt.root.keeper = self.collection.resume_experiment(attempt.number)
        attempt.state, attempt.error = "running", None

    @precondition(lambda self: any(map(self.last_try, self.closed())))
    @rule(pick=PICK, error=st.sampled_from([None, "found later"]))
    def settle(self, pick, error):
        """The user's word afterwards."""
        choices = [attempt for attempt in self.closed() if self.last_try(attempt)]
        attempt = choices[pick % len(choices)]
        self.collection.experiments[self.attempts.index(attempt)].close(error=error)
        attempt.state, attempt.error = ("finished", None) if error is None else ("failed", error)

    # ---- recording ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.running())
    @rule(pick=PICK, data=LEVEL_DATA)
    def sub_record_keeper(self, pick, data):
        above, keeper = self.live(pick)
        data = self.unique(data)
        node = Node(above.attempt, above, data)
        node.keeper = keeper.sub_record_keeper(data)
        above.attempt.nodes.append(node)

    @precondition(lambda self: self.running())
    @rule(pick=PICK, own=OWN, pad=PADS, keywords=st.booleans(), times=st.integers(1, 40))
    def add_record(self, pick, own, pad, keywords, times):
        node, keeper = self.live(pick)
        for number in range(times if len(pad) < 300 else 1):
            record = {**own, "n": number, "pad": pad}
            if keywords:
                keeper.add_record(**record)
            else:
                keeper.add_record(record)
            self.add(node, {**node.pending, **record})
            node.pending = {}

    @precondition(lambda self: self.running())
    @rule(pick=PICK, own=OWN)
    def fill_pending(self, pick, own):
        node, keeper = self.live(pick)
        for key, value in own.items():
            keeper.pending_record[key] = value
            node.pending[key] = value

    @precondition(lambda self: self.running())
    @rule(pick=PICK, more=OWN, info=st.none() | OWN)
    def commit_record(self, pick, more, info):
        node, keeper = self.live(pick)
        keeper.commit_record(additional_info=info, **more)
        self.add(node, {**node.pending, **(info or {}), **more})
        node.pending = {}

    @precondition(lambda self: self.running())
    @rule(pick=PICK, rows=ROWS, as_columns=st.booleans(), repeat=st.sampled_from([1, 1, 1, 200]))
    def add_records(self, pick, rows, as_columns, repeat):
        node, keeper = self.live(pick)
        rows = rows * repeat
        if as_columns and rows:
            rows = [{key: row.get(key) for key in rows[0]} for row in rows if rows[0]]
            keeper.add_records({key: [row[key] for row in rows] for key in rows[0]} if rows else None)
        else:
            keeper.add_records(iter(rows))
        self.add(node, *rows)

    @precondition(lambda self: self.running())
    @rule(pick=PICK, good=st.integers(1, 3))
    def refused(self, pick, good):
        node, keeper = self.live(pick)
        with pytest.raises(TypeError, match="'bad'"):
            keeper.add_records([*([{"a": 1}] * good), {"bad": object()}])
        with pytest.raises(TypeError, match="'bad'"):
            keeper.add_record(a=1, bad=object())
        with pytest.raises(ValueError, match="'bad'"):
            keeper.update(a=1, bad=2**70)
        node.pending = {}

    # ---- editing -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK, data=LEVEL_DATA, through=st.booleans())
    def edit(self, pick, data, through):
        node = self.nodes()[pick % len(self.nodes())]
        if node.attempt.state == "running" and not through:
            self.keeper(node).update(data)
        else:
            self.collection.keeper(id=node.data["id"]).update(**data)
        node.data.update(data)

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK, key=NAMES)
    def delete(self, pick, key):
        node = self.nodes()[pick % len(self.nodes())]
        keeper = self.collection.keeper(id=node.data["id"])
        if key in node.data:
            del keeper[key]
            del node.data[key]
        else:
            with pytest.raises(KeyError):
                del keeper[key]

    @rule(notes=LEVEL_DATA)
    def add_notes(self, notes):
        self.collection.add_notes(notes)
        self.notes.update(notes)

    # ---- the disk ----------------------------------------------------------------------------------------------------

    @rule()
    def reopen(self):
        self.collection = ExperimentCollection(self.folder + "/study", journal=self.mode, sync_interval=3600)

    @precondition(lambda self: self.running())
    @rule(pick=PICK)
    def sync(self, pick):
        """Full units are sealed while the run goes on, as the background thread has it done."""
        keeper = self.running()[pick % len(self.running())].root.keeper
        for path in keeper._session.journal.sync():
            pack.seal(path)

    @rule()
    def kill(self):
        """What SIGKILL leaves of this process: its files as they are, and nothing of what it had in memory."""
        for session in list(sessions.sessions.values()):
            for journal in (session.journal, session._editor):
                if journal is not None:
                    journal.forked()  # lets go of its files without touching them
        sessions.sessions.clear()
        experiments.open_experiments.clear()
        self.process += 1
        for attempt in self.running():
            attempt.state, attempt.error = "killed", "killed"
        for node in self.nodes():
            node.keeper, node.pending = None, {}
        self.held.clear()
        self.reopen()

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK)
    def corrupt(self, pick):
        """A bit of some file of a copy flips, or its end is missing: no error but ours, and no other attempt is concerned."""
        dice = random.Random(pick)
        files = sorted(path for path in Path(self.folder, "study").glob("0*/*/*") if path.stat().st_size)
        if not files:
            return
        chosen = dice.choice(files).relative_to(self.folder)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            shutil.copytree(Path(self.folder, "study"), Path(folder, "study"))
            path = Path(folder, chosen)
            data = bytearray(path.read_bytes())
            if dice.random() < 0.3:
                del data[dice.randrange(len(data)) :]
            else:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
            try:
                copy = ExperimentCollection(Path(folder, "study"))
                found = [(one._session.place.id, list(map(shape, one.records))) for one in copy.experiments]
            except RecorderError:
                return
            whole = [(one._session.place.id, list(map(shape, one.records))) for one in self.collection.experiments]
            concerned = path.parent.name
            assert [one for one in found if one[0] != concerned] == [one for one in whole if one[0] != concerned]
            for session in list(sessions.sessions.values()):
                if session.path.startswith(folder):
                    sessions.sessions.pop(session.place.folder)

    @rule()
    def forget(self):
        for node in self.nodes():
            if node.parent is not None and not node.pending:
                node.keeper = None

    @rule()
    def compact(self):
        """All that is closed goes into packs, and what is in packs goes from where it was."""
        compact(self.folder + "/study", grace=0)

    @precondition(lambda self: self.closed())
    @rule(pick=PICK)
    def delete_experiment(self, pick):
        attempt = self.closed()[pick % len(self.closed())]
        self.collection.experiments[self.attempts.index(attempt)].delete()
        self.attempts.remove(attempt)
        self.taken.add(attempt.number)

    # ---- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def everything_is_as_the_model_says(self):
        if not hasattr(self, "collection"):
            return
        expected = []
        for attempt in self.attempts:
            automatic, times = attempt.automatic()
            for node, own in attempt.records:
                expected.append(({**self.notes, **automatic, **node.merged(), **own}, times - own.keys()))
        records = self.collection.records
        assert len(records) == len(self.collection) == len(expected)
        for record, (values, times) in zip(records, expected, strict=True):
            assert record.keys() == values.keys() | times
            assert all(isinstance(record[key], float) for key in times)
            assert dict(shape({key: record[key] for key in sorted(values)})[1]) == dict(shape(values)[1])
        facts = [
            (one.number, one.error_number, one.state, one.error, one.n_records) for one in self.collection.experiments
        ]
        assert facts == [
            (one.number, one.error_number, one.state, one.error, len(one.records)) for one in self.attempts
        ]
        assert self.collection.experiment_numbers == tuple(sorted({one.number for one in self.attempts}))

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK)
    def look_closer(self, pick):
        node = self.nodes()[pick % len(self.nodes())]
        records = self.collection.records
        below = [one for one in self.nodes() if node in self.line(one)]
        count = sum(one in below for attempt in self.attempts for one, _ in attempt.records)
        keeper = self.collection.keeper(id=node.data["id"])
        assert (
            len(self.collection.under(id=node.data["id"])) == len(self.collection.under(keeper)) == len(keeper) == count
        )
        assert dict(keeper.data) == node.data
        assert [dict(child.data) for child in keeper.children] == [child.data for child in node.children]
        assert keeper.merged.items() >= {**self.notes, **node.merged()}.items()
        shapes = [shape(each) for each in records]
        numbers = [each["experiment_number"] for each in records]
        of_number = [one for one, number in zip(shapes, numbers, strict=True) if number == node.attempt.number]
        assert [shape(each) for each in self.collection[node.attempt.number]] == of_number
        if shapes:
            index = pick % len(shapes)
            assert shape(records[index]) == shape(records[index - len(shapes)]) == shapes[index]
            assert [shape(each) for each in records[index::3]] == shapes[index::3]
        assert not list(Path(self.folder).rglob(".tmp-*"))
        assert all(layout.parse_unit(path.name) for path in Path(self.folder, "study").glob("0*/*/*"))

    @staticmethod
    def line(node):
        """A node and those above it."""
        while node is not None:
            yield node
            node = node.parent


class WrittenStudy(Study):
    mode = "write"


@pytest.mark.parametrize("machine", [Study, WrittenStudy], ids=["mmap", "write"])
@pytest.mark.parametrize("shard", plan.shards("test_a_study_is_as_the_model_says", ci=2, long=50, within=2), ids=repr)
def test_a_study_is_as_the_model_says(machine, shard, reached):
    study = seed(shard.seed)(type(machine.__name__, (machine,), {}))
    run_state_machine_as_test(
        study, settings=settings(max_examples=shard.rounds, stateful_step_count=plan.rounds(50, 100), derandomize=False)
    )
    reached(shard.rounds)
