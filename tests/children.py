"""Child processes of the crash tests: a server that forks recorders to be killed, and what those record.

Run as a script it reads one JSON object a line, forks a recorder for each, and answers with its process id. Forking from
a process that has imported the recorder, and nothing else, makes a child cost milliseconds. Each record proves itself:
it says who added it, as which call, below which keeper, and carries a checksum of that.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from mmap import mmap
from pathlib import Path

PYTHON = os.environ.get("RECORDER_PYTHON") or sys.executable
"""The interpreter of the recorders; a free-threaded one by `make test-free-threaded`."""
ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

READY, NUMBER, EDITS, BEGUN, CLOSED, ADDED, CALLS = 0, 1, 2, 3, 4, 5, 8
"""Places in the shared counters: what the recorder acknowledges after each call returned; from CALLS on by thread."""
PADS = ["", "x" * 20, "y" * 100, "z" * 300, "w" * 1500]


class Counters:
    """Numbers of 64 bits in a file that survive whoever counts."""

    def __init__(self, path):
        if not os.path.exists(path):
            Path(path).write_bytes(bytes(256))
        with open(path, "r+b") as file:
            # one store a number: `struct.pack_into` zeroes the place first, and a kill may come in between
            self.map = memoryview(mmap(file.fileno(), 256)).cast("Q")

    def __getitem__(self, place):
        return self.map[place]

    def __setitem__(self, place, value):
        self.map[place] = value


def run(code, *arguments, timeout=60, **options):
    """Run Python code in a process of its own until it ends; a hang is an error."""
    command = [PYTHON, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, **{"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": timeout, **options}
    )


def offspring(pid):
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            if task.name != str(pid)
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def proof(thread, call, row, name, pad):
    """The checksum that a record carries."""
    return zlib.crc32(f"{thread} {call} {row} {name} {pad}".encode())


def make(thread, call, row, name, pad):
    """A record that proves itself; `under` repeats the name of the level that it is added to."""
    return {
        "thread": thread,
        "call": call,
        "row": row,
        "under": name,
        "pad": pad,
        "crc": proof(thread, call, row, name, pad),
    }


def right(record):
    """Whether a recovered record is as it was added, and below the keeper that it was added to."""
    fields = [record[key] for key in ("thread", "call", "row", "under", "pad")]
    return record["crc"] == proof(*fields) and record["name"] == record["under"]


# ---- the recorders ------------------------------------------------------------------------------------------------


def shrink(block):
    """Make units so small that new blocks, units and packs are a matter of milliseconds."""
    from rigorous_recorder.store import full, journal

    journal.SIZES = (4 * block, 16 * block)
    full.SEAL_FROM, full.START_AFTER = 8 * block, 0.0
    journal.Journal.__init__.__kwdefaults__["block_size"] = block


def record_forever(job):
    """Record in two threads until killed: single records, blocks, edits, new keepers."""
    from rigorous_recorder import ExperimentCollection

    counters = Counters(job["counters"])
    collection = ExperimentCollection(job["path"], journal=job["mode"], sync_interval=0.01)
    experiment = collection.resume_experiment() if job.get("resume") else collection.new_experiment(version=0)
    keepers = [experiment.sub_record_keeper(name=f"k{n}") for n in range(3)]
    counters[NUMBER] = experiment.number
    counters[READY] = 1
    other = threading.Thread(target=_add_forever, args=(job["seed"] + 1, 1, experiment, keepers, counters), daemon=True)
    other.start()
    _add_forever(job["seed"], 0, experiment, keepers, counters)


def _add_forever(seed, thread, experiment, keepers, counters):
    dice = random.Random(seed)
    call, own = 0, list(keepers)
    while True:
        name, pad, kind = f"k{dice.randrange(3)}", dice.choice(PADS[: dice.choice((2, 3, 5))]), dice.random()
        keeper = own[int(name[1])]
        if kind < 0.02:
            own[int(name[1])] = keeper = experiment.sub_record_keeper(name=name)
        if kind < 0.9:
            keeper.add_record(make(thread, call, 0, name, pad))
        else:
            rows = [make(thread, call, row, name, pad) for row in range(dice.choice((1, 3, 30)))]
            keeper.add_records(rows if kind < 0.95 else {key: [row[key] for row in rows] for key in rows[0]})
        call += 1
        counters[CALLS + thread] = call
        if thread == 0 and kind > 0.98:
            experiment["version"] = counters[EDITS] + 1
            counters[EDITS] += 1
        if kind > 0.999:
            experiment.sync()


def close_forever(job):
    """Begin, record and close experiments until killed."""
    from rigorous_recorder import ExperimentCollection

    counters = Counters(job["counters"])
    collection = ExperimentCollection(job["path"], journal=job["mode"])
    counters[READY] = 1
    while True:
        with collection.new_experiment(nth=counters[BEGUN], name="k0") as experiment:
            counters[ADDED] = 0
            counters[BEGUN] += 1
            for call in range(20):
                experiment.add_record(make(0, call, 0, "k0", PADS[1]))
                counters[ADDED] = call + 1
        counters[CLOSED] += 1


def seal_forever(job):
    """Seal every log in a folder until killed."""
    from rigorous_recorder.store import pack

    counters = Counters(job["counters"])
    logs = sorted(Path(job["path"]).glob("*.log"))
    counters[READY] = 1
    for path in logs:
        pack.seal(str(path))
        counters[CLOSED] += 1
    time.sleep(60)


JOBS = {"record": record_forever, "close": close_forever, "seal": seal_forever}


def serve():
    """Fork a recorder for each line of input."""
    from rigorous_recorder import ExperimentCollection  # noqa: F401  (imported once, for all children)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for the children
    executable = sys.executable
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.setswitchinterval(1e-4)
        sys.executable = executable if job["seal"] else ""  # without it no helper can be started: all stays in logs
        try:
            shrink(job["block"])
            JOBS[job["what"]](job)
        except BaseException:  # noqa: BLE001
            Path(job["counters"] + ".error").write_text(traceback.format_exc())
        os._exit(1)


class Server:
    """The tests' side of the server."""

    def __init__(self):
        self.process = subprocess.Popen(
            [PYTHON, __file__], env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )

    def start(self, **job):
        """Start a recorder and wait until it is ready. Gives its pidfd and its counters."""
        counters = Counters(job["counters"])
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        child = os.pidfd_open(int(self.process.stdout.readline()))
        deadline = time.monotonic() + 30
        while not counters[READY]:
            assert not ended(child, 0.0002), Path(job["counters"] + ".error").read_text()
            assert time.monotonic() < deadline, "the recorder hangs"
        return child, counters

    def kill(self, child, error, number=signal.SIGKILL):
        """Kill a recorder, and see to it that it was at work until then."""
        if ended(child, 0):
            os.close(child)
            raise AssertionError(Path(error + ".error").read_text())
        signal.pidfd_send_signal(child, number)
        assert ended(child, 30), "a killed process does not end"
        os.close(child)

    def stop(self):
        """End the server, whose children were all killed."""
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def ended(child, seconds):
    """Whether a process given by its pidfd ends within so many seconds."""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


if __name__ == "__main__":
    serve()
