"""Cuts the power of a small ext4, again and again, while a process records into it; a script for `test_power_cut.py`.

It runs as root in a mount namespace of its own. EXT4_IOC_SHUTDOWN without flushing the log (linux/fs/ext4/ioctl.c) makes
the file system forget what did not reach the disk, as a power cut does; mounted again, it recovers by its journal.
Recorder and checker are forked from here, and this process never touches polars.
"""

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import children
from children import BEGUN, CALLS, CLOSED, READY

SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, struct.pack("I", 2)
SYNCED, PER_EXPERIMENT = 6, 40
MANY = 1_000_000
"""The synced calls are counted together with the experiment, `MANY` for each, in one store."""
IN_ONE = 8
"""Cuts in one collection."""


def record(job, counters):
    """Begin, record, sync, close, and in some rounds seal, one experiment after the other, until the power goes."""
    from rigorous_recorder import ExperimentCollection

    sys.executable = ""  # the helper would outlive the file system
    children.shrink(job["block"])
    dice = random.Random(job["seed"])
    collection = ExperimentCollection(job["path"], journal=job["mode"], sync_interval=0.01)
    if job["seal"]:
        from rigorous_recorder.store import pack
    counters[READY] = 1
    while True:
        counters[CALLS] = 0
        experiment = collection.new_experiment(cut=job["cut"], name="k0")
        counters[BEGUN] += 1
        for call in range(PER_EXPERIMENT if dice.random() < 0.8 else 4000):
            experiment.add_record(children.make(0, call, 0, "k0", dice.choice(children.PADS)))
            counters[CALLS] = call + 1
            if dice.random() < 0.03:
                experiment.sync()
                counters[SYNCED] = MANY * counters[BEGUN] + call + 1
        folder = experiment._session.folder
        experiment.close()
        counters[CLOSED] += 1
        if job["seal"]:
            for log in sorted(Path(folder).glob("*.log")):
                pack.seal(str(log))


def check(job, counters, said, known):
    """See to it that all that was said to be synced is there. Gives what is on the disk now, and so must stay.

    What is said while the power goes, or behind that, counts for nothing: the kernel returns from an fsync during a shutdown
    as if all was well (jbd2_complete_transaction() finds no transaction to wait for).
    """
    from rigorous_recorder import ExperimentCollection
    from rigorous_recorder.errors import DamageWarning

    collection = ExperimentCollection(job["path"], journal=job["mode"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        experiments = [one for one in collection.experiments if one.start_time is not None]
        records = {one._session.place.id: list(one.records) for one in experiments}
    damage = [str(warning.message) for warning in caught if issubclass(warning.category, DamageWarning)]
    facts = {one._session.place.id: [one.number, one.state, len(records[one._session.place.id])] for one in experiments}
    for attempt, before in known.items():
        assert facts.get(attempt) == before, f"{before} was on the disk, and now it is {facts.get(attempt)}"
    mine = [one for one in experiments if one.info.get("cut") == job["cut"]]
    mine.sort(key=lambda one: one.start_time)
    (begun, closed, (last, synced)) = (said["begun"], said["closed"], divmod(said["synced"], MANY))
    assert begun <= len(mine) <= counters[BEGUN] + 1, f"{begun} were begun, and {len(mine)} are there"
    for place, one in enumerate(mine):
        found = records[one._session.place.id]
        calls = [each["call"] for each in found]
        if place < closed:
            assert one.state == "finished", one.state
            assert calls in (list(range(PER_EXPERIMENT)), list(range(4000)))
            assert all(map(children.right, found))
        elif place == last - 1:
            assert calls[:synced] == list(range(synced)), f"{synced} were synced; found are {len(calls)}"
            assert all(map(children.right, found[:synced]))
            assert len(calls) <= 4000
            assert damage or (calls == list(range(len(calls))) and all(map(children.right, found))), "damage untold"
    with collection.new_experiment() as experiment:  # the disk works again
        experiment.add_record(again=True)
    assert [dict(each)["again"] for each in experiment.records] == [True]
    facts[experiment._session.place.id] = [experiment.number, "finished", 1]
    return facts


def forked(work, *arguments):
    """Run a function in a forked child; its pid, and where its result or its error will be."""
    pid = os.fork()
    if pid == 0:
        try:
            result = work(*arguments)
        except BaseException:  # noqa: BLE001
            Path(arguments[0]["said"]).write_text(json.dumps({"error": traceback.format_exc()}))
            os._exit(1)
        Path(arguments[0]["said"]).write_text(json.dumps(result))
        os._exit(0)
    return pid


def main(image, disk, scratch, mode, seed, cuts):
    """Cut the power so many times."""
    import rigorous_recorder  # noqa: F401  (once, for all children)

    def mount(*arguments):
        done = subprocess.run([*arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"

    dice = random.Random(f"{mode} {seed}")
    known, lost = {}, 0
    mount("mount", "-o", "loop", image, disk)
    for cut in range(int(cuts)):
        if cut % IN_ONE == 0:
            known = {}
            for study in Path(disk).glob("study*"):
                mount("rm", "-r", str(study))
            os.sync()
        job = {
            "path": f"{disk}/study{cut // IN_ONE}", "mode": mode, "cut": cut, "seed": dice.random(),
            "block": dice.choice((512, 4096, 65536)), "seal": dice.random() < 0.3, "said": f"{scratch}/said{cut}",
        }  # fmt: skip
        counters = children.Counters(f"{scratch}/counters{cut}")
        pid = forked(record, job, counters)
        while not counters[READY]:
            time.sleep(0.0005)
            assert not Path(job["said"]).exists(), Path(job["said"]).read_text()
        time.sleep(dice.random() * 0.1)
        descriptor = os.open(disk, os.O_RDONLY)
        said = {"closed": counters[CLOSED], "synced": counters[SYNCED], "begun": counters[BEGUN]}  # in this order
        fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_FLUSH)
        os.close(descriptor)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        mount("umount", disk)
        mount("mount", "-o", "loop", image, disk)
        Path(job["said"]).unlink(missing_ok=True)  # the recorder may have met the dead disk before it was killed
        lost += counters[CALLS] > said["synced"] % MANY
        assert os.waitpid(forked(check, job, counters, said, known), 0)[1] == 0, (
            f"cut {cut}: {json.loads(Path(job['said']).read_text())['error']}"
        )
        known = json.loads(Path(job["said"]).read_text())
    mount("umount", disk)
    print(json.dumps({"cuts": int(cuts), "with records not synced": lost}))


if __name__ == "__main__":
    main(*sys.argv[1:])
