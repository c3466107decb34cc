"""Eight threads of one recorder, which has the GIL or (by `make test-free-threaded`) has none; the usual interpreter reads."""

import children
import plan
import pytest

from rigorous_recorder import ExperimentCollection

THREADS, RECORDS = 8, plan.rounds(5_000, 50_000)

PROGRAM = """
import sys, threading
from rigorous_recorder import ExperimentCollection, RecordKeeper

sys.setswitchinterval(1e-6)
threads, count = int(sys.argv[3]), int(sys.argv[4])
experiment = ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment(lr=0.1)
shared = experiment.sub_record_keeper(model="shared")
memory = RecordKeeper(lr=0.1)
barrier, errors = threading.Barrier(threads), []

def work(thread):
    try:
        own = experiment.sub_record_keeper(model=f"m{thread}")
        barrier.wait(60)
        for i in range(count):
            match i % 5:
                case 0:
                    own.add_record(thread=thread, i=i, text="x" * (i % 40))
                case 1:
                    shared.add_record({"thread": thread, "i": i, "text": "x" * (i % 40)})
                case 2:
                    own.pending_record["thread"] = thread
                    own.pending_record["i"] = i
                    own.pending_record["text"] = "x" * (i % 40)
                    own.commit_record()
                case 3:
                    shared.add_records(thread=[thread], i=[i], text=["x" * (i % 40)])
                case _:
                    own = experiment.sub_record_keeper(model=f"m{thread}", turn=i)
                    own.add_record(thread=thread, i=i, text="x" * (i % 40))
            memory.add_record(thread=thread, i=i)
    except BaseException as error:
        errors.append(error)

pool = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
for thread in pool:
    thread.start()
for thread in pool:
    thread.join()
assert not errors, errors
assert len(memory.records) == threads * count
experiment.close()
"""


@pytest.mark.timeout(600)
def test_threads_lose_nothing(collection, journal):
    ended = children.run(PROGRAM, collection.path, journal, THREADS, RECORDS, timeout=500)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    seen = set()
    for record in ExperimentCollection(collection.path).records:
        thread, i = record["thread"], record["i"]
        assert (thread, i) not in seen
        seen.add((thread, i))
        assert record["text"] == "x" * (i % 40)
        shared, turn = i % 5 in (1, 3), i - (i + 1) % 5
        assert record["model"] == ("shared" if shared else f"m{thread}")
        assert record.get("turn") == (None if shared or turn < 0 else turn)
    assert len(seen) == THREADS * RECORDS
