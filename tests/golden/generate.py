"""Makes the golden collection of the current format version: units of every kind, small, and what must be read from them.

    python tests/golden/generate.py FOLDER

writes FOLDER/study and FOLDER/expected.json. Ids, times, salts and the machine are made up, so that all but the bytes of
the packs (which are polars') is the same whenever it runs. `expected.json` is what was recorded, as the generator knows it.
"""

# ruff: noqa: DTZ001  (naive times are among the values)
import contextlib
import datetime as dt
import hashlib
import itertools
import json
import os
import random
import shutil
import struct
import sys
import time
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from unittest import mock

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder import experiment as experiments
from rigorous_recorder import session as sessions
from rigorous_recorder.store import current, layout, machine, pack
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store.background import background
from rigorous_recorder.store.compact import compact

HOST, BOOT, NAMESPACE = "golden-host", "11111111-2222-3333-4444-555555555555", "pid:[4026531836]"
BEGUN = 1_760_000_000.0
"""Seconds since the epoch at which all of it begins; each step takes one more."""
BLOCK = 1024
SIZES = (4 * BLOCK, 6 * BLOCK, 8 * BLOCK)

VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -(2**63),
    "large": 2**64 - 1,
    "float": 0.1,
    "minus zero": -0.0,
    "infinity": float("inf"),
    "nan": struct.unpack("<d", bytes.fromhex("adde00000000f87f"))[0],
    "text": "é\0\n😀",
    "empty": "",
    "bytes": b"\0\xff",
    "list": [1, [2.5, None], {"deep": {"er": []}}],
    "dict": {"a": 1, "b": {}},
    "aware": dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
    "naive": dt.datetime(2026, 1, 2, 3, 4, 5),
    "date": dt.date(1, 1, 1),
    "time": dt.time(23, 59, 59, 999999),
    "span": dt.timedelta(days=-3, microseconds=1),
    "": "an empty key",
    "rr_level": "a reserved name",
    "a b/=,": "signs",
}
EXACT = {
    "tuple": (1, "two", (3.0,)),
    "set": {1, 2, 3},
    "frozenset": frozenset({"x"}),
    "path": Path("a/b"),
    "decimal": Decimal("1.50"),
    "uuid": uuid.UUID(int=7),
    "span": dt.timedelta(seconds=1),
    "naive": dt.datetime(2026, 1, 2),
    "keys": {"1": (1,)},
}
"""What only a block, or the data of a level, gives back as it was."""
MIXED = [1, 1.5, "one", True, None, b"1", [1], {"a": 1}, -0.0, 2**64 - 1]


def told(value):  # noqa: PLR0911  (a line for each type)
    """A value as JSON that says its type and every bit of it."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, dict):
        return {"dict": [[key, told(item)] for key, item in sorted(value.items())]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [told(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {type(value).__name__: sorted(json.dumps(told(item)) for item in value)}
    if isinstance(value, float):
        return {"float": struct.pack("<d", value).hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (dt.date, dt.time)):
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, dt.timedelta):
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Path):
        return {"Path": str(value)}
    return {type(value).__name__: str(value)}


def tell(collection):
    """All that is expected of a collection: its attempts, in order, each with its records."""
    return [
        {
            "number": one.number,
            "state": one.state,
            "error_number": one.error_number,
            "error": one.error,
            "records": [told(dict(record)) for record in one.records],
        }
        for one in collection.experiments
    ]


class Golden:
    """Records the collection, and remembers what."""

    def __init__(self, path):
        self.path = str(path)
        self.now = BEGUN
        self.ids = itertools.count()
        self.who = "parent"
        self.dice = random.Random(1)
        self.host = HOST
        self.expected = []
        self.seen = {}

    def id(self):
        """32 hex digits, the same each time this runs."""
        return hashlib.sha256(f"{self.who} {next(self.ids)}".encode()).hexdigest()[:32]

    def clock(self):
        """Seconds since the epoch."""
        return self.now

    @staticmethod
    def nothing(*arguments):
        """In the place of the background's thread and of the helper: nothing happens beside the generator."""

    def here(self):
        """The machine on which all of it was recorded."""
        return machine.Machine(BOOT, self.host, NAMESPACE, 4242, 1)

    def patches(self):
        """What is made up."""
        defaults = {"block_size": BLOCK, "sizes": SIZES}
        return [
            mock.patch.object(layout, "new_id", self.id),
            mock.patch.object(time, "time", self.clock),
            mock.patch.object(os, "urandom", self.dice.randbytes),
            mock.patch.object(machine, "here", self.here),
            mock.patch.dict(journals.Journal.__init__.__kwdefaults__, defaults),
            mock.patch.object(journals, "SIZES", SIZES),
            mock.patch.object(current, "PAD", BLOCK),
            mock.patch.object(sessions, "EDITOR_SIZES", SIZES),
            mock.patch.object(background, "watch", self.nothing),
            mock.patch.object(background.helper, "submit", self.nothing),
        ]

    # ---- recording ---------------------------------------------------------------------------------------------------

    def open(self, mode):
        """The collection, to be recorded in this mode."""
        return ExperimentCollection(self.path, journal=mode, sync_interval=3600)

    def begin(self, mode, /, **info):
        """The next experiment."""
        self.now += 1
        self.seen[len(self.seen)] = records = []
        return self.open(mode).new_experiment(info), records

    def add(self, records, keeper, *rows, block=None):
        """Add rows, and remember each with what it inherits."""
        self.now += 1
        if block is not None:
            keeper.add_records(block)
        else:
            for row in rows:
                keeper.add_record(row)
        records += [(keeper, dict(row)) for row in rows]

    def end(self, experiment, error=None):
        """Close it a second later."""
        self.now += 1
        experiment.close(error)

    def drop(self, experiment):
        """What a kill leaves: the files as they are."""
        experiment._session.journal.forked()
        sessions.sessions.clear()
        experiments.open_experiments.clear()

    def seal(self, number, which=slice(None)):
        """Seal units of an experiment, not all of them when `which` says so."""
        for log in sorted(Path(self.path).glob(f"{number:06d}.*/*/*.log"))[which]:
            assert pack.seal(str(log)), log

    def run(self):  # noqa: PLR0915  (one study after the other)
        """Record everything."""
        self.open("mmap").add_notes(machine="the old cluster", wrong=True)

        # 1: a mapped log with levels, edits, every type of value
        experiment, records = self.begin("mmap", lr=0.1, model="wrong", note={"deep": [1, (2,)]})
        train, test = (experiment.sub_record_keeper(training=training) for training in (True, False))
        self.add(records, train, VALUES)
        self.add(records, train, *({"step": i, "loss": 1 / (i + 1)} for i in range(20)))
        self.add(records, test, {"accuracy": 0.5}, {}, {"step": 1, "text": "x" * 300}, {"training": "own wins"})
        train.update(corrected=1, only="train")
        experiment["model"] = "right"
        self.end(experiment)

        # 2: a failed attempt, and one by write() that finished
        experiment, records = self.begin("write", lr=0.2)
        self.add(records, experiment, *({"i": i} for i in range(5)))
        self.end(experiment, ValueError("the loss is NaN"))
        experiment, records = self.begin("write", lr=0.2)
        inner = experiment.sub_record_keeper(a=1).sub_record_keeper(b=2)
        self.add(records, inner, *({"i": i, "pad": "p" * (i * 37 % 300)} for i in range(40)))
        self.add(
            records,
            inner,
            {key: value for key, value in VALUES.items() if key not in ("naive", "date", "time", "span")},
        )
        self.end(experiment)

        # 3: blocks, of rows and of columns, in logs
        self.blocks("mmap")
        # 4: the same, sealed
        self.blocks("write")
        self.seal(4)
        # 5: several units, of which some are sealed, with mixed types in a column
        experiment, records = self.begin("mmap", mixed=True)
        keepers = [experiment.sub_record_keeper(k=k) for k in range(3)]
        for i in range(60):
            self.add(
                records,
                keepers[i % 3],
                {"i": i, "any": MIXED[i % len(MIXED)], "pad": "x" * 70, **({"odd": i} if i % 2 else {})},
            )
        self.end(experiment)
        self.seal(5, slice(0, 2))
        # 6: wide, sealed
        experiment, records = self.begin("write", wide=True)
        self.add(records, experiment, {f"k{n}": n / 7 for n in range(90)}, {"k5": None}, {})
        self.end(experiment)
        self.seal(6)
        # 7: interrupted, resumed twice, by another writer each time
        experiment, records = self.begin("mmap", resumed=0)
        self.add(records, experiment, {"run": 1})
        self.end(experiment, KeyboardInterrupt())
        for run in (2, 3):
            self.now += 1
            experiment = self.open("write" if run == 2 else "mmap").resume_experiment(7)
            self.add(records, experiment, {"run": run})
            experiment["resumed"] = run
            self.end(experiment)
        # 8: several writers
        experiment, records = self.begin("mmap", several=True)
        keeper = experiment.sub_record_keeper(shared=True)
        self.add(records, keeper, {"who": "parent"})
        self.now += 1
        child = os.fork()
        if child == 0:
            self.who, self.ids = "child", itertools.count()
            experiment._session.journal.forked()  # once more, for an id of the child's
            keeper.add_record(who="child")
            experiment.sync()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        records.append((keeper, {"who": "child"}))
        self.end(experiment)
        # 9: edited and settled long after it was closed
        experiment, records = self.begin("mmap", edited="no")
        self.add(records, experiment, {"x": 1})
        self.end(experiment)
        self.now += 1000
        self.open("mmap").keeper(experiment_number=9).update(edited="yes", later=EXACT["tuple"])
        self.open("mmap").experiments[-1].close(error="found later")
        for session in list(sessions.sessions.values()):
            session.close_editor()
        # 9 again, since it failed: on another host, of which nothing is heard any more
        self.host = "another-host"
        experiment, records = self.begin("mmap", stale=True)
        self.add(records, experiment, *({"x": x} for x in range(3)))
        experiment.sync()
        self.drop(experiment)
        self.host = HOST
        # 10: killed, with the tail of its log torn in the middle of an entry
        experiment, records = self.begin("mmap", killed=True)
        self.add(records, experiment, *({"x": x, "pad": "y" * 30} for x in range(12)))
        experiment.sync()
        self.add(records, experiment, {"x": 12})
        path, end = experiment._journal.path, experiment._journal.pos
        experiment.add_record(x=13, pad="torn")
        self.drop(experiment)
        os.truncate(path, end + 5)
        self.open("mmap").add_notes(wrong=False)
        for session in list(sessions.sessions.values()):
            session.close_editor()

    def blocks(self, mode):
        """An experiment of blocks."""
        experiment, records = self.begin(mode, blocks=mode)
        keeper = experiment.sub_record_keeper(part="rows")
        rows = [*({"i": i, **({"odd": str(i)} if i % 2 else {})} for i in range(7)), EXACT]
        self.add(records, keeper, *rows, block=rows)
        columns = {
            "i": list(range(9)),
            "f": [i / 3 for i in range(9)],
            "b": [i % 2 == 0 for i in range(9)],
            "t": [f"t{i}" for i in range(9)],
            "d": [dt.date(2026, 1, 1 + i) for i in range(9)],
            "n": [dt.datetime(2026, 1, 1, i) for i in range(9)],
            "z": [dt.datetime(2026, 1, 1, i, tzinfo=dt.UTC) for i in range(9)],
            "s": [dt.timedelta(seconds=i) for i in range(9)],
            "m": (MIXED * 2)[:9],
            "l": [[j / 2 for j in range(i)] for i in range(9)],
            "o": [None if i % 3 else i for i in range(9)],
        }
        rows = [{key: column[i] for key, column in columns.items()} for i in range(9)]
        self.add(records, experiment.sub_record_keeper(part="columns"), *rows, block=columns)
        self.add(records, keeper, {"single": 1})
        self.end(experiment)


def generate(folder):
    """Write the collection and what is expected of it; the expectation."""
    golden = Golden(Path(folder) / "study")
    patches = golden.patches()
    for patch in patches:
        patch.start()
    try:
        golden.run()
        model = [
            [
                told({"machine": "the old cluster", "wrong": False, **inherited(keeper), **row})
                for keeper, row in records
            ]
            for records in golden.seen.values()
        ]
    finally:
        for patch in patches:
            patch.stop()
    with reading(golden.path):
        expected = tell(ExperimentCollection(golden.path))
    for mine, read in zip(model, expected, strict=True):
        found = [without_automatic(record) for record in read["records"]]
        assert found == mine, "what is read is not what was recorded"
    (Path(folder) / "expected.json").write_text(json.dumps(expected, indent=None, ensure_ascii=True) + "\n")
    return expected


def inherited(keeper):
    """The data of a keeper and those above it, as its own process knows them, and as they were corrected since."""
    data = {key: value for key, value in keeper.merged.items() if key not in AUTOMATIC}
    data = {**data, "wrong": False}
    if data.get("edited") == "no":
        data = {**data, "edited": "yes", "later": EXACT["tuple"]}
    if "resumed" in data:
        data["resumed"] = 3
    return data


AUTOMATIC = (
    "experiment_number",
    "error_number",
    "had_error",
    "experiment_start_time",
    "experiment_end_time",
    "experiment_duration",
)


def without_automatic(record):
    """A told record without the six keys of its attempt."""
    return {"dict": [[key, value] for key, value in record["dict"] if key not in AUTOMATIC]}


@contextlib.contextmanager
def reading(path):
    """As whoever reads long after, on the host where most of it was recorded: what was killed is known to be dead."""
    for file in Path(path).rglob("*"):
        os.utime(file, (BEGUN, BEGUN))  # a checkout makes files new, and a new file is a sign of life
    later = ("a later boot", HOST, NAMESPACE)
    with (
        mock.patch.object(machine, "_constant", later),
        mock.patch.object(machine, "_here", None),  # nor is what this process finds itself to be then true later
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DamageWarning)  # the torn tail
        yield


def compacted(folder):
    """Write the same collection again, compacted, into a folder beside it; what is expected of it is the same."""
    study = Path(f"{folder}-compacted") / "study"
    shutil.rmtree(study.parent, ignore_errors=True)
    shutil.copytree(Path(folder) / "study", study)
    with reading(study):
        compact(str(study), grace=0)
    for empty in [path for path in study.glob("0*") if not any(path.iterdir())]:
        empty.rmdir()  # git keeps no empty folders; a copy by other means may lack them as well


if __name__ == "__main__":
    generate(sys.argv[1])
    compacted(sys.argv[1])
