"""A copy that was made while a unit was written goes when the whole is in a pack and begins with it; one that differs stays."""

import contextlib
import os
import shutil
import struct
import subprocess
from pathlib import Path

import children
import msgspec
import pytest
import second_reader
import studies
import units
from test_copies import copy

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.levels import Stamp, pack_edit, pack_level
from rigorous_recorder.store import compact as compacting
from rigorous_recorder.store import machine, pack, removal
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.packed import open_pack
from rigorous_recorder.store.replay import spans

FORMS = ["log", "sealed", "compacted"]

# ---- for real --------------------------------------------------------------------------------------------------------

RECORDER = """
import sys
from rigorous_recorder import ExperimentCollection
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
for n in range(3):
    with collection.new_experiment(n=n) as experiment:
        experiment.add_records(n=range(5))
experiment = collection.new_experiment(a=1)
keeper = experiment.sub_record_keeper(b=2)
for n in range(5):
    keeper.add_record(n=n)
keeper.add_records(n=range(5, 8))
experiment.sync()
print("early", flush=True)
sys.stdin.readline()
keeper["b"] = 3
for n in range(8, 12):
    keeper.add_record(n=n, **({"late": "x"} if sys.argv[3] == "more columns" else {}))
experiment.close()
print("whole", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def recording(tmp_path, journal, columns="the same columns"):
    """Records four experiments; the folder, and the copy made before the fourth was done. Within, the process lives."""
    with subprocess.Popen(
        [children.PYTHON, "-c", RECORDER, tmp_path / "study", journal, columns],
        env=children.ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "early\n"
        shutil.copytree(tmp_path / "study", tmp_path / "early")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "whole\n"
        yield tmp_path / "study", tmp_path / "early"
    assert process.returncode == 0


@pytest.fixture
def recorded(tmp_path, journal):
    """The same by a process that is gone."""

    def run(columns="the same columns"):
        with recording(tmp_path, journal, columns) as folders:
            pass
        return folders

    return run


def put_into(form, path):
    """Have the fourth experiment of a collection in a form, or all of it in a pack."""
    (log,) = Path(path).glob("000004.1/*/*.log")
    if form == "sealed":
        assert pack.seal(str(log))
    if form == "compacted":
        studies.at_once(path)


WHOLE = [*range(5), *range(5), *range(5), *range(12)]


def check(path, rest):
    """See to it that all is read, and what there is beside the packs."""
    collection = ExperimentCollection(path)
    assert [each["n"] for each in collection.records] == WHOLE
    assert [each["n"] for each in second_reader.read(path)] == WHOLE
    assert [each["b"] for each in collection[4]] == [3] * 12
    assert {one.state for one in collection.experiments} == {"finished"}
    assert studies.inventory(path) == sorted(["format", *rest])


@pytest.mark.parametrize("early", FORMS)
@pytest.mark.parametrize("whole", FORMS)
def test_the_beginning_goes(recorded, whole, early):
    """Whatever each of the two is in; the other experiments are there twice, and stay once."""
    path, copied = recorded()
    put_into(early, copied)
    put_into(whole, path)
    for file in copied.rglob("*"):
        target = path / file.relative_to(copied)
        if file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    for turn in range(3):
        report = studies.at_once(path)
        assert report.left == {}
        assert report.idle == (turn > 0), "once is enough"
        (packed,) = studies.packs(path)
        check(path, [os.path.relpath(packed, path)])
        assert open_pack(packed).rows == len(WHOLE)


@pytest.mark.parametrize("columns", ["the same columns", "more columns"])
@pytest.mark.parametrize("whole", FORMS)
def test_a_pack_sheds_the_beginning_that_is_in_it(recorded, whole, columns):
    """The others in that pack count, and are nowhere else; the whole may have other columns, and so goes into another pack."""
    path, copied = recorded(columns)
    studies.at_once(copied)
    put_into(whole, path)
    target = next(copied.glob("000004.1")), path / "000004.1"
    if whole == "compacted":
        for number in range(1, 4):
            shutil.rmtree(path / f"00000{number}.1")
        copy(path / "packs", copied / "packs")
    else:
        copy(target[1], target[0])
    before = {key.n: open_pack(pack) for pack in studies.packs(copied) for key in open_pack(pack).units}
    assert before
    for turn in range(3):
        report = studies.at_once(copied)
        assert report.left == {}
        assert report.idle == (turn > 0), "once is enough"
        check(copied, [os.path.relpath(pack, copied) for pack in studies.packs(copied)])
        assert sum(open_pack(pack).rows for pack in studies.packs(copied)) == len(WHOLE)
    assert len(studies.packs(copied)) == (1 if columns == "the same columns" else 2)


def test_another_compaction_may_take_a_pack_while_this_one_looks_at_it(recorded, monkeypatch):
    """The two states of a unit are in two packs, and both go while they are compared: the long run found it once in 2,000."""
    path, copied = recorded()
    for folder, digit in ((copied, "0"), (path, "f")):  # the others count in the first pack, that with the beginning
        studies.at_once(folder)
        (packed,) = map(Path, studies.packs(folder))
        packed.rename(packed.with_name(packed.name[:8] + 24 * digit + packed.name[32:]))
    copy(path / "packs", copied / "packs")
    there, gone = [*map(str, studies.packs(copied))], []

    def late(pack):
        if pack in there and not gone:
            gone.append(pack)
            studies.at_once(copied)
            assert not Path(pack).exists()
        return open_pack(pack)

    monkeypatch.setattr(compacting, "open_pack", late)
    assert studies.at_once(copied).left == {}
    assert gone, "it looks"
    check(copied, [os.path.relpath(pack, copied) for pack in studies.packs(copied)])


def test_a_log_of_one_who_lives_stays(tmp_path, journal):
    """It is not cut, as one that is open is not: nobody can tell that it is a copy. It goes when the process is gone."""
    with recording(tmp_path, journal) as (path, copied):
        studies.at_once(path)
        (log,) = copied.glob("000004.1/*/*.log")
        target = path / log.relative_to(copied)
        target.parent.mkdir()
        shutil.copyfile(log, target)
        for _ in range(2):
            assert studies.at_once(path).left == {removal.OPEN: 1}
            assert target.exists()
    assert studies.at_once(path).removed == 1
    (packed,) = studies.packs(path)
    check(path, [os.path.relpath(packed, path)])


# ---- what differs ----------------------------------------------------------------------------------------------------

HERE = machine.here()
HEADER = units.header(boot=HERE.boot, host=HERE.host, namespace=HERE.namespace, pid=(1 << 31) - 1, pid_start=1)
"""Of a process of this host that there never was."""
NAN = struct.unpack("<d", b"\1\0\0\0\0\0\xf8\x7f")[0]
LEVELS = [
    u.pack_entry(u.LEVEL, pack_level(1, (units.WRITER, 1), None, {"a": 1}, {}, units.WRITER)),
    u.pack_entry(u.LEVEL, pack_level(2, (units.WRITER, 2), 1, {"b": 2}, {}, units.WRITER)),
]
RECORDS = [
    (1, {"x": 1.5, "n": 1}), (2, {"x": 0.0, "n": 2}), (2, {"x": float("nan"), "n": 3, "none": None}), (1, {"n": 4, "t": [1]}),
]  # fmt: skip
MORE = [(2, {"x": 4.5, "n": 5}), (1, {"x": 5.5})]


def edit(version):
    return u.pack_entry(u.EDIT, pack_edit(1, Stamp(version, 1.0, units.WRITER, version), {"a": version}, []))


def changed(place, record, level=None):
    """The records, one of which is another one."""
    return [*RECORDS[:place], (RECORDS[place][0] if level is None else level, record), *RECORDS[place + 1 :]]


WHOLE_UNIT = [*LEVELS, *RECORDS[:2], edit(1), *RECORDS[2:], units.block(2, n=[7, 8]), *MORE, edit(2)]
BEGINNINGS = {
    "nothing": LEVELS[:0],
    "its levels": LEVELS,
    "two records": [*LEVELS, *RECORDS[:2]],
    "and the edit": [*LEVELS, *RECORDS[:2], edit(1)],
    "up to the block": [*LEVELS, *RECORDS[:2], edit(1), *RECORDS[2:]],
    "all but its end": [*LEVELS, *RECORDS[:2], edit(1), *RECORDS[2:], units.block(2, n=[7, 8]), *MORE],
    "all": WHOLE_UNIT,
}
OTHERS = {
    "a value": [*LEVELS, *changed(0, {"x": 1.25, "n": 1})[:2]],
    "an int for a float": [*LEVELS, *changed(1, {"x": 0, "n": 2})[:2]],
    "the sign of zero": [*LEVELS, *changed(1, {"x": -0.0, "n": 2})[:2], edit(1)],
    "the bits of NaN": [*LEVELS, *RECORDS[:2], edit(1), *changed(2, {"x": NAN, "n": 3, "none": None})[2:3]],
    "a key less": [*LEVELS, *RECORDS[:2], edit(1), (2, {"x": float("nan"), "n": 3})],
    "the level": [*LEVELS, *changed(0, {"x": 1.5, "n": 1}, level=2)[:2]],
    "an edit before": [*LEVELS, RECORDS[0], edit(1), RECORDS[1]],
    "no edit": [*LEVELS, *RECORDS],
    "another edit": [*LEVELS, *RECORDS[:2], edit(9)],
    "another level": [LEVELS[0], *RECORDS[:1]],
    "a block for records": [*LEVELS, *RECORDS[:2], edit(1), *RECORDS[2:], (2, {"n": 7}), (2, {"n": 8})],
    "records for a block": [*LEVELS, units.block(1, x=[1.5], n=[1])],
    "more values of a block": [*LEVELS, *RECORDS[:2], edit(1), *RECORDS[2:], units.block(2, n=[7, 8, 9])],
}


def collection_of(path, entries, form, head=HEADER):
    """A collection of one attempt of one unit, in a form; its file."""
    ExperimentCollection(path).add_notes(x=1)
    folder = Path(path, "000001.1", units.ATTEMPT)
    folder.mkdir(parents=True)
    data = units.build(entries, head)
    log = folder / f"{head.writer}.1.log"
    log.write_bytes(data[: max((span.stop for span in spans(data, head, [])), default=u.PAGE)])
    if form == "sealed":
        assert pack.seal(str(log))
        return next(folder.iterdir())
    if form == "compacted":
        assert studies.at_once(path).units == 1
        return Path(studies.packs(path)[0])
    return log


def merged(tmp_path, form, entries, head=HEADER):
    """The collection of the whole unit, in a pack, with another state of it in a form; and its file."""
    collection_of(tmp_path / "whole", WHOLE_UNIT, "compacted")
    file = collection_of(tmp_path / "other", entries, form, head)
    target = tmp_path / "whole" / file.relative_to(tmp_path / "other")
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(file, target)
    return tmp_path / "whole", target


def contents(path):
    return [sorted(map(repr, record.items())) for record in ExperimentCollection(path).records]


@pytest.mark.parametrize("what", BEGINNINGS)
@pytest.mark.parametrize("form", FORMS)
def test_a_beginning_goes(tmp_path, form, what):
    path, file = merged(tmp_path, form, BEGINNINGS[what])
    before = contents(path)
    assert len(before) == 8
    report = studies.at_once(path)
    assert report.left == {}
    assert len(studies.packs(path)) == 1
    assert contents(path) == before
    assert studies.at_once(path).idle
    assert form == "compacted" or not file.exists()


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("form", FORMS)
def test_what_differs_stays(tmp_path, form, what):
    """In one bit of one value: nobody knows which of the two is right."""
    path, file = merged(tmp_path, form, OTHERS[what])
    before, data = contents(path), file.read_bytes()
    assert len(before) == 8, "the longer one counts"
    for _ in range(2):
        report = studies.at_once(path)
        assert report.left == {removal.OTHER: 1}
        assert report.idle
        assert file.read_bytes() == data
        assert contents(path) == before


def test_one_by_another_writer_of_that_name_stays(tmp_path):
    """Its header says another time: it is no copy, whatever it has."""
    path, file = merged(tmp_path, "sealed", BEGINNINGS["two records"], msgspec.structs.replace(HEADER, time=2.5))
    assert studies.at_once(path).left == {removal.OTHER: 1}
    assert file.exists()


def test_a_beginning_that_is_damaged_stays(tmp_path):
    """Somebody may want to look at it; and nothing says that it was one."""
    path, file = merged(tmp_path, "sealed", BEGINNINGS["up to the block"])
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 1
    file.write_bytes(data)
    assert studies.at_once(path).left == {removal.DAMAGED: 1}
    assert file.exists()


def test_a_beginning_stays_while_the_whole_is_damaged(tmp_path):
    """Its pack must be right, to the last byte, before anything goes that is in it."""
    path, file = merged(tmp_path, "sealed", BEGINNINGS["up to the block"])
    (packed,) = studies.packs(path)
    data = bytearray(Path(packed).read_bytes())
    data[8] ^= 1
    Path(packed).write_bytes(data)
    assert set(studies.at_once(path).left) <= {removal.DAMAGED, removal.OTHER}
    assert file.exists()


def test_a_beginning_waits_for_the_grace(tmp_path):
    path, file = merged(tmp_path, "sealed", BEGINNINGS["two records"])
    report = compacting.compact(str(path), grace=3600)
    assert (report.removed, report.waiting, report.left) == (0, 1, {})
    assert file.exists()
