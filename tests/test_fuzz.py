"""The fuzzer for so many seconds, in C and in Python, each part with seeds of its own; `tests/fuzzing.py` has the rules.

A CI run fuzzes for 60 s in all, a long run (`make test-long`) for an hour. What breaks a rule is shown with its seed:
`python tests/fuzzing.py FOLDER SEED 60 1` makes that collection again.
"""

import os
import subprocess
import sys
from pathlib import Path

import children
import plan
import pytest

FUZZER = Path(__file__).with_name("fuzzing.py")


def fuzz(folder, kind, seed, seconds, *cases):
    """Run the fuzzer; what it says."""
    environment = {**children.ENVIRONMENT, "RIGOROUS_RECORDER_PURE": "1" if kind == "Python" else "0"}
    done = subprocess.run(
        [sys.executable, FUZZER, folder, seed, str(seconds), *map(str, cases)],
        env=environment, capture_output=True, text=True, timeout=seconds + 200,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


@pytest.mark.parametrize("kind", ["C", "Python"])
@pytest.mark.parametrize("shard", plan.shards("test_hostile_collections", ci=3, long=12, within=2))
def test_hostile_collections(tmp_path, kind, shard, reached):
    # the same seeds in each CI run, so that it fails for a reason; of others elsewhere
    seed = f"ci{shard.seed}" if os.environ.get("CI") == "true" else os.urandom(4).hex()
    said = fuzz(tmp_path, kind, seed, shard.rounds)
    assert int(said.split()[-9]) > 0, said  # collections
    reached(shard.rounds)


BROKEN_RULES = [
    ("import pickle; pickle.loads(b'cos\\nsystem\\n.')", "pickle.find_class"),
    ("open('/etc/hostname').close()", "open"),
    ("exec(compile('1', guard.study + '/x.py', 'exec'))", "compile"),
    ("os.listdir('/')", "os.listdir"),
    ("1 / 0", "ZeroDivisionError"),
    ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    ("import warnings; warnings.warn('of another kind')", "warned of UserWarning"),
    ("bytearray(600_000_000); time.sleep(0); global kept; kept = bytearray(b'x' * 600_000_000)", "MB"),
]


@pytest.mark.parametrize(("code", "rule"), BROKEN_RULES, ids=[rule for _, rule in BROKEN_RULES])
def test_the_fuzzer_sees_each_broken_rule(tmp_path, code, rule):
    """Were one of these done while a collection is read, it would be reported."""
    program = f"""
import os, random, sys, time
sys.path.insert(0, {str(FUZZER.parent)!r})
import fuzzing
fuzzing.warm()
from hostile import Dice
import rigorous_recorder
guard = fuzzing.Guard()
def broken(collection, dice):
    {code}
fuzzing.ALWAYS = {{"broken": broken}}
fuzzing.SOMETIMES = {{}}
os.mkdir(sys.argv[1] + "/study")
print(fuzzing.read_all_ways(sys.argv[1] + "/study", Dice(random.Random(1)), guard))
"""
    done = children.run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert rule in done.stdout
