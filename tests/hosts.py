"""Hosts for the tests: processes in namespaces of their own, with another name, boot id and process ids than ours.

A host is `unshare` (util-linux) holding a UTS, network, IPC, mount and, if asked for, process id namespace, in which programs
are started by `nsenter`. The boot id is a file of ours, mounted over the kernel's. So the library asks the kernel, as always,
and is told another machine; what the hosts share is the folder. All of it goes when the host's first process does, as a
machine that is switched off. It takes root, and is skipped, loudly, where namespaces or mounts are refused.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import children
import pytest

from rigorous_recorder.errors import ClosedError

TIMEOUT = 120
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NAME = os.uname().nodename
BOOT = Path(BOOT_ID).read_text().strip() if os.path.exists(BOOT_ID) else ""

SETUP = f"""
set -e
hostname "$1"
if [ -n "$2" ]; then mount --bind "$2" {BOOT_ID}; fi
if [ -n "$3" ]; then mount -t proc -o "$3" proc /proc; fi
echo ready
exec sleep infinity
"""


class Program:
    """A program that runs on a host, and is talked to by lines."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, env=children.ENVIRONMENT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def tell(self, line=""):
        """Give the program a line."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        """The next line of the program, from JSON."""
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)

    def end(self):
        """Close the program's input, and wait until it ended well."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, f"exit code {self.process.returncode}\n{out}\n{err}"
        return out

    def kill(self):
        """End the program by SIGKILL, if it still runs."""
        inside = children.offspring(self.process.pid)
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not inside:  # `nsenter` ends with what it started, and collects it: the first process of the host does not
            self.process.kill()
        self.process.communicate()


class Host:
    """A host, until `close`.

    Args:
        folder: For the file with its boot id.
        name: Its host name.
        boot: Its boot id; None for this kernel's.
        pids: Whether it counts its processes from 1.
        clock: Seconds that its clocks of the time since boot are ahead, in a time namespace of its own; None for ours.
        proc: Options with which it mounts /proc.
    """

    def __init__(self, folder, name, *, boot=None, pids=True, clock=None, proc=""):
        self.name, self.boot = name, boot or BOOT
        file = ""
        if boot:
            file = str(folder / f"boot-{uuid.uuid4()}")
            Path(file).write_text(boot + "\n")
        command = ["unshare", "--uts", "--net", "--ipc", "--mount", "--fork", "--kill-child"]
        command += ["--pid", "--mount-proc"] if pids else []
        command += [] if clock is None else ["--time", "--boottime", str(clock)]
        self.unshare = subprocess.Popen(
            [*command, "sh", "-c", SETUP, "sh", name, file, proc],
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if self.unshare.stdout.readline() != "ready\n":
            why = self.unshare.communicate()[1].strip()
            assert "ermitted" in why or "denied" in why, why
            pytest.skip(f"NOT TESTED, namespaces are refused here: {why}")
        (self.first,) = children.offspring(self.unshare.pid)
        self.enter = ["nsenter", "-t", str(self.first), "-m", "-u", "-i", "-n"]
        self.enter += ["-p"] if pids else []
        self.enter += [] if clock is None else ["-T"]
        self.programs = []

    def start(self, code, *arguments):
        """Start a program, with these `sys.argv[1:]`."""
        command = [*self.enter, children.PYTHON, "-c", code, *map(str, arguments)]
        self.programs.append(Program(command))
        return self.programs[-1]

    def run(self, code, *arguments):
        """Run a program to its good end; what it printed."""
        return self.start(code, *arguments).end()

    def ask(self, code, *arguments):
        """Run a program; the JSON that it printed."""
        return json.loads(self.run(code, *arguments))

    def close(self):
        """Switch it off: all its processes are killed at once."""
        for program in self.programs:
            program.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self.unshare.communicate()


def another(folder, what):
    """A host that differs from this one in one thing, or in all.

    Args:
        folder: For its boot id.
        what: Which thing; one of `DIFFERENCES`.
    """
    boot = str(uuid.uuid4())
    return {
        "another name": lambda: Host(folder, "elsewhere", pids=False),
        "another boot of the same name": lambda: Host(folder, NAME, boot=boot, pids=False),
        "another pid namespace": lambda: Host(folder, NAME),
        "a machine of the same name": lambda: Host(folder, NAME, boot=boot),
        "everything": lambda: Host(folder, "elsewhere", boot=boot),
    }[what]()


DIFFERENCES = (
    "another name",
    "another boot of the same name",
    "another pid namespace",
    "a machine of the same name",
    "everything",
)


def until(happened, what):
    """Return when something has happened: what a function then gives."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen within {TIMEOUT} s"
        time.sleep(0.005)
    return found


@contextlib.contextmanager
def making(folder):
    """Makes hosts, of one of `DIFFERENCES` or by the arguments of `Host`, and switches them off at the end."""
    with contextlib.ExitStack() as stack:

        def made(what="everything", **options):
            host = another(folder, what) if not options else Host(folder, what, **options)
            stack.callback(host.close)
            return host

        yield made


# ---- what runs on them -----------------------------------------------------------------------------------------------

READING = """
import json, sys, time
shift = float(sys.argv[2])
real_time = time.time
time.time = lambda: real_time() + shift
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import machine
collection = ExperimentCollection(sys.argv[1])
"""
STATES = READING + "print(json.dumps([one.state for one in collection.experiments]))"
RECORDING = (
    READING
    + """
experiment = collection.new_experiment(host=machine.here().host)
for i in range(100):
    experiment.add_record(i=i)
experiment.sync()
print(json.dumps({"number": experiment.number, "pid": machine.here().pid}), flush=True)
sys.stdin.readline()
for i in range(100, 200):
    experiment.add_record(i=i)
experiment.close()
"""
)


def live(host, study, shift=0):
    """A program on a host that has begun an experiment and added a hundred records; its number."""
    program = host.start(RECORDING, study.path, shift)
    return program, program.hear()


def states(study):
    return [one.state for one in study.experiments]


def refused(work, says):
    with pytest.raises(ClosedError, match=says):
        work()
