"""The fuzzer: reads hostile collections in every way there is, for so many seconds. A process of its own.

    python tests/fuzzing.py FOLDER SEED SECONDS [CASES]

Only RecorderError may come out, and only our warnings; nothing outside of a collection may be opened or changed; no code
may be compiled, imported or run for it; each case ends within `PATIENCE` seconds, and the process stays under `MEMORY`
bytes. What breaks a rule is printed with its seed, which makes it again, and the exit code is 1.
"""

import faulthandler
import importlib
import itertools
import os
import random
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
import zoneinfo
from pathlib import Path

PATIENCE = 60
SLOW = 20
MEMORY = 1_000_000_000
SPACE = 8 << 30
"""Bytes of address space: what goes beyond meets a MemoryError instead of the machine's other processes."""

LOADING = {"marshal.loads", "code.__new__"}
"""What the import of a module does."""
FORBIDDEN = LOADING | {
    "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
    "ctypes.dlopen", "os.symlink", "os.chmod", "os.chown", "shutil.rmtree",
}  # fmt: skip
TOUCHING = {
    "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.truncate", "os.utime",
}  # fmt: skip
SYSTEM = ("/proc/", "/sys/", *(f"{path}/" for path in zoneinfo.TZPATH))
NUMBERS_ALONE = re.compile(
    r"lambda [k\d, ]+: lambda columns: \[\{[k\d:v, ]+\} for [v\d, ]+ in zip\(\*columns\)\]", re.ASCII
)
"""The one text that the package evaluates: a dict display for so many keys (store/rows.py)."""


class Guard:
    """Sees every audit event (PEP 578) from when it is armed, and keeps what may not happen while a collection is read."""

    def __init__(self):
        self.study = None
        self.broken = []
        self.outside = None
        self.importable = tuple(map(os.path.realpath, {*filter(None, sys.path), sys.prefix, sys.base_prefix}))
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.study is None:
            return
        wrong = False
        if event in FORBIDDEN:
            wrong = event not in LOADING or not self.importing()
        elif event == "compile":
            text = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else ""
            wrong = not NUMBERS_ALONE.fullmatch(text) and not self.importing()
        elif event == "exec":
            name = arguments[0].co_filename
            wrong = not name.startswith(("<", *self.importable)) or self.inside(name)
        elif event == "import":
            wrong = self.inside(arguments[1])
        elif event in TOUCHING:
            names = [os.fsdecode(one) for one in arguments[:2] if isinstance(one, (str, bytes))]
            wrong = any(not self.inside(name) and not name.startswith((*SYSTEM, *self.importable)) for name in names)
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            name = os.fsdecode(arguments[0])
            wrong = not self.inside(name) and not name.startswith((*SYSTEM, *self.importable))
        if wrong:
            self.broken.append(f"{event} {arguments!r:.200}")

    def inside(self, name):
        """Whether a path is the collection or in it."""
        return isinstance(name, str) and (name == self.study or name.startswith(self.study + "/"))

    def importing(self):
        """Whether this is the import system at its work, on a file of the installation."""
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>":
                return True
            frame = frame.f_back
        return False


def warm():
    """Import beforehand all that reading may need, so that what is imported later is imported for a reason."""
    for name in ("difflib", "sqlite3", "numpy", "pandas", "polars", "pyarrow", "super_hash", "rigorous_recorder"):
        importlib.import_module(name)


# ---- the ways to read a collection -----------------------------------------------------------------------------------


def one_by_one(collection, dice):
    records = collection.records
    for index in (0, -1, len(records) // 2):
        if records:
            dict(records[index])
    repr(records)
    list(itertools.islice(reversed(records), 50))


def frames(collection, dice):
    frame = collection.to_polars()
    assert len(frame.rr.levels()) <= len(frame)
    assert set(frame.rr.inherited) | set(frame.rr.own) <= set(frame.columns)
    repr(frame.rr.tree())


def runs(collection, dice):
    experiments = collection.experiments
    repr(experiments)
    assert len(experiments.to_polars()) == len(experiments.to_pandas()) == len(experiments)
    for one in experiments:
        assert (
            one.state in {"running", "finished", "failed", "interrupted", "killed", "stale"}
            or one.start_time is not None
        )
        repr((one.duration, one.info, one.error, one.n_records))


def branches(collection, dice):
    for key in ("lr", "x", "model", "experiment_number", "a"):
        under = collection.under(**{key: dice.pick([1, 1.5, "x", None, [1, 2]])})
        try:
            list(itertools.islice(under.records, 50))
            len(under)
        except KeyError:
            continue


def keepers(collection, dice):
    for keeper in collection.keepers()[:20]:
        repr((keeper.lineage, keeper.fingerprint, dict(keeper.merged), len(keeper)))


def recorded(collection, dice):
    with collection.new_experiment(lr=0.1) as experiment:
        experiment.add_record(x=1)
    assert experiment.records[-1]["x"] == 1


def resumed(collection, dice):
    with collection.resume_experiment() as experiment:
        experiment.add_record(x=1)


def verified(collection, dice):
    report = collection.verify()
    assert "\x1b" not in f"{report}{report._repr_html_()}"


def scanned(collection, dice):
    import polars as pl

    collection.scan().filter(pl.col("experiment_number") == 1).head(10).collect()


ALWAYS = {
    "len": lambda collection, dice: len(collection),
    "experiment_numbers": lambda collection, dice: collection.experiment_numbers,
    "records": lambda collection, dice: list(itertools.islice(collection.records, 3000)),
    "one by one": one_by_one,
    "experiments": runs,
    "getitem": lambda collection, dice: [list(itertools.islice(collection[1], 100)), collection[-1]],
    "to_polars": frames,
    "verify": verified,
}
SOMETIMES = {
    "to_pandas": lambda collection, dice: collection.to_pandas(categories=dice.pick(["text", "all", "none"])),
    "to_arrow": lambda collection, dice: collection.to_arrow(),
    "scan": scanned,
    "sql": lambda collection, dice: collection.sql("select count(*) as n from records"),
    "under": branches,
    "keepers": keepers,
    "new_experiment": recorded,
    "resume_experiment": resumed,
    "add_notes": lambda collection, dice: collection.add_notes(noted=True),
}
"""The last three write: each is done to one collection of four, and last."""


def ways(dice):
    """The ways in which one collection is read; each may raise RecorderError, and nothing else."""
    return [*ALWAYS.items(), *(item for item in SOMETIMES.items() if dice.once_in(4))]


def fingerprint(folder):
    """What stands outside of the collection: names, sizes, times, contents."""
    found = []
    for base, folders, names in os.walk(folder):
        for name in sorted(names + folders):
            path = os.path.join(base, name)
            status = os.lstat(path)
            found.append((path, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return found


def resident():
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def read_all_ways(path, dice, guard):
    """Read one collection in all ways; the rules that were broken, each as a text."""
    from rigorous_recorder import ExperimentCollection, RecorderError, RecorderWarning

    broken = []

    def tried(name, way):
        started, before = time.monotonic(), resident()
        result = None
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            guard.study = str(path)
            try:
                result = way()
            except RecorderError:
                result = None
            except BaseException:  # noqa: BLE001  (polars' PanicException is one)
                guard.study = None
                broken.append(f"{name}: {traceback.format_exc()}")
            finally:
                guard.study = None
        broken.extend(
            f"{name}: warned of {one.category.__name__}: {one.message}"
            for one in heard
            if not issubclass(one.category, (RecorderWarning, ResourceWarning))
        )
        took, grown = time.monotonic() - started, resident() - before
        if took > SLOW or grown > MEMORY // 2:
            broken.append(f"{name}: took {took:.1f} s and {grown / 1e6:,.0f} MB")
        return result

    collection = tried("opening", lambda: ExperimentCollection(path))
    if collection is not None:
        for name, way in ways(dice):
            tried(name, lambda way=way: way(collection, dice))
    broken.extend(guard.broken)
    guard.broken.clear()
    return broken


def check(folder, seed, guard):
    """Make the collection of a seed and read it; the rules that were broken."""
    from hostile import Dice

    outside = Path(folder, "outside")
    if not outside.exists():
        outside.mkdir()
        (outside / "canary").write_bytes(b"nobody may read this")
        (outside / ("f" * 32)).mkdir()
        os.utime(outside / "canary", (1, 1))
    path = Path(folder, "study")
    shutil.rmtree(path, ignore_errors=True)
    dice = Dice(random.Random(seed))
    dice.collection(path, outside)
    before = fingerprint(outside)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    try:
        broken = read_all_ways(path, dice, guard)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if fingerprint(outside) != before:
        broken.append("something outside was touched")
    if os.stat(outside / "canary").st_atime_ns != 10**9:
        broken.append("something outside was read")
    return broken


def peak():
    """The most memory that this process ever had, in bytes; `ru_maxrss` is that of who started it, if that was more."""
    with open("/proc/self/status", encoding="ascii") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def main(folder, seed, seconds, cases):
    sys.path.insert(0, os.path.dirname(__file__))
    warm()
    from rigorous_recorder.store import sealer  # noqa: F401
    from rigorous_recorder.store.background import background

    background.helper.submit = lambda path: (
        False
    )  # no other process: what it would do is sealing, which has its own tests
    sanitized = "asan" in os.environ.get("LD_PRELOAD", "")  # it maps terabytes, and keeps what was freed
    if not sanitized:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (SPACE, hard))
    guard = Guard()
    end, done, bad, kinds = time.monotonic() + seconds, 0, 0, {}
    while done < cases and time.monotonic() < end:
        name = seed if cases == 1 else f"{seed}.{done}"
        broken = check(folder, name, guard)
        done += 1
        for text in broken:
            last = text.strip().splitlines()
            place = next((line.strip() for line in reversed(last) if line.strip().startswith("File")), "")
            kind = f"{last[-1][:100]} @ {place}"
            bad += 1
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] == 1:
                print(f"---- seed {name}: {text}", flush=True)
        if not sanitized and peak() > MEMORY:
            print(f"---- seed {name}: more than {MEMORY:,} bytes of memory", flush=True)
            bad += 1
            break
    for kind, count in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{count:6} {kind}")
    print(f"{done} collections, {bad} broken rules, {peak() >> 20} MiB at most")
    return 1 if bad else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(arguments[0], arguments[1], float(arguments[2]), int(arguments[3]) if len(arguments) > 3 else 10**9))
