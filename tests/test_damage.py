"""Damaged files: what is whole is read, what is not is reported, nothing wrong is vouched for, nothing else is hidden."""

import os
import random
import shutil
import textwrap
import warnings
from pathlib import Path

import children
import msgspec
import plan
import pytest
import units
from units import vouched

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.reading import read_collection
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store import layout
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.background import background
from rigorous_recorder.store.columns import Decoded
from rigorous_recorder.store.logsource import LogSource

BLOCK = 1024
RECORDS = 160
PADS = ["", "short", "x" * 60, "y" * 300]


def own(records):
    """What was added, without what is inherited."""
    return [{key: record[key] for key in ("i", "pad") if key in record} for record in records]


def added(count=RECORDS):
    """The records that are recorded here."""
    return [{"i": i, "pad": PADS[i % 7 % 4]} for i in range(count)]


@pytest.fixture
def collection(tmp_path):
    """The bytes are the same in both modes."""
    return ExperimentCollection(tmp_path / "study", journal="mmap")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", BLOCK)
    monkeypatch.setattr(journals, "SIZES", (16 * BLOCK, 16 * BLOCK, 64 * BLOCK))
    monkeypatch.setattr(background.helper, "submit", lambda path: False)  # it is logs that are damaged here


@pytest.fixture
def logs(collection):
    """The bytes of a log of more than one block, and its path: as it is while it is written, and as it is when closed."""
    with collection.new_experiment(a=1) as experiment:
        inner = experiment.sub_record_keeper(model="m")
        for record in added():
            (inner if record["i"] % 3 else experiment).add_record(record)
        path = Path(experiment._journal.path)
        live = path.read_bytes()
    return {"live": live, "closed": path.read_bytes(), "path": path}


def check_prefix(view, whole):
    """See to it that what a view holds is a prefix of all, and is all unless it says so or has no end."""
    records = own(view.records())
    assert records == whole[: len(records)]
    finished = [attempt for attempt in view.attempts if attempt.course and attempt.course.state == "finished"]
    assert len(records) == len(whole) or view.damage or not finished, f"{len(records)} records and not a word"


@pytest.mark.parametrize("which", ["closed", "live"])
def test_a_log_truncated_at_every_byte(collection, logs, which):
    data, path = logs[which], logs["path"]
    used = len(data.rstrip(b"\0")) + 200
    assert used > 8192
    path.write_bytes(data)
    for size in range(min(used, len(data)), -1, -1 if which == "closed" else plan.rounds(-3, -1)):
        os.truncate(path, size)
        view = read_collection(collection.path)
        check_prefix(view, added())
        if size % 512 == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamageWarning)
                assert len(collection.experiments) <= 1
                assert own(collection.records) == own(view.records())


def check_damaged(whole, damaged, first, last, block=BLOCK):
    """See to it that damage at the bytes [first, last) of a closed log makes nothing wrong and hides nothing else."""
    try:
        source = LogSource(damaged)
    except ValueError:
        assert first < u.PAGE
        return
    found = vouched(damaged)
    assert found.items() <= whole.items(), "a wrong record is vouched for"
    source.records()
    touched = {(place - u.PAGE) // block for place in (first, last - 1)}
    missing = {start for start in whole if start not in found}
    assert all(min(touched) <= (start - u.PAGE) // block <= max(touched) for start in missing), (
        "another block is hidden"
    )
    if missing:
        assert source.findings or source.unverified or u.END not in [event.kind for event in source.events]


def flipped(data, bit):
    """Data in which one bit is another."""
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("shard", plan.shards("test_every_flipped_bit", ci=4, long=64, whole=True), ids=repr)
def test_every_flipped_bit(shard, reached):
    """Every bit of the entries, and of the header page as far as it is used."""
    size = plan.rounds(4096, 65536)
    block = plan.rounds(BLOCK, 8 * BLOCK)
    count = size // 60
    data = units.build([(1 + i % 3, record) for i, record in enumerate(added(count))], units.header(block=block))
    data += u.pack_entry(u.END, b"")
    assert len(data) >= u.PAGE + size
    whole, shards = vouched(data), plan.rounds(4, 64)
    assert len(whole) == count
    header = len(data[: u.PAGE].rstrip(b"\0"))
    for bit in range(shard.seed, 8 * header, shards):
        check_damaged(whole, flipped(data, bit), bit // 8, bit // 8 + 1, block)
    bits = range(8 * u.PAGE + shard.seed, 8 * (u.PAGE + size), shards)
    for bit in bits:
        check_damaged(whole, flipped(data, bit), bit // 8, bit // 8 + 1, block)
    assert len(bits) == shard.rounds
    reached(len(bits))


def test_every_flipped_bit_of_a_log_without_checksums(logs, reached):
    """Nothing can be vouched for there; but no exception of another kind, and no more than was there."""
    data = logs["live"]
    whole = vouched(data)
    end = len(data.rstrip(b"\0"))
    start = u.PAGE + (end - u.PAGE) // BLOCK * BLOCK - BLOCK
    bits = range(8 * start, 8 * end, plan.rounds(11, 1))
    for bit in bits:
        damaged = flipped(data, bit)
        assert vouched(damaged).items() <= whole.items()
        assert len(LogSource(damaged).records()) <= 2 * RECORDS
    reached(len(bits))


@pytest.mark.parametrize("shard", plan.shards("test_pages_that_did_not_reach_the_disk", ci=2, long=20), ids=repr)
def test_pages_that_did_not_reach_the_disk(collection, shard, reached):
    """A power cut between two syncs leaves any of the pages, or sectors, written since: what was synced must be there."""
    dice = random.Random(shard.seed)
    moments = []
    with collection.new_experiment() as experiment:
        path = Path(experiment._journal.path)
        numbers = iter(range(10**6))
        for _ in range(6):
            for _ in range(dice.randrange(1, 31)):
                number = next(numbers)
                experiment.add_record(i=number, pad=PADS[number % 7 % 4])
            unsynced = path.read_bytes()
            experiment.sync()
            assert Path(experiment._journal.path) == path, "this test is about one unit"
            moments.append((unsynced, path.read_bytes()))
        moments.append((path.read_bytes(), b""))
    vouched_for = [vouched(synced) if synced else {} for _, synced in moments]
    for _ in range(shard.rounds):
        nth = dice.randrange(len(moments) - 1)
        synced, before = moments[nth][1], vouched_for[nth]
        later = moments[nth + 1][dice.randrange(2) if nth + 2 < len(moments) else 0]
        size, kept = dice.choice((512, 4096)), dice.random()
        damaged = bytearray(synced)
        for first in range(0, len(later), size):
            if dice.random() < kept:
                damaged[first : first + size] = later[first : first + size]
        damaged = bytes(damaged)
        found, all_of_it = vouched(damaged), vouched(moments[-2][1])
        assert before.items() <= found.items(), "what was synced is not vouched for"
        assert found.items() <= all_of_it.items(), "a wrong record is vouched for"
        assert LogSource(damaged).records()[: len(before)] == added(len(before))
    reached(shard.rounds)


@pytest.mark.parametrize("run", [512, 4096])
def test_every_zeroed_run(logs, run):
    data = logs["closed"]
    whole = vouched(data)
    for first in range(0, len(data), 512):
        damaged = data[:first] + bytes(min(run, len(data) - first)) + data[first + run :]
        if damaged != data:
            header = first < u.PAGE
            blocks = [(place - u.PAGE) // BLOCK for place in range(max(first, u.PAGE), first + run, BLOCK)]
            try:
                source = LogSource(damaged)
            except ValueError:
                assert header
                continue
            found = vouched(damaged)
            assert found.items() <= whole.items()
            missing = {(start - u.PAGE) // BLOCK for start in whole if start not in found}
            assert missing <= {*blocks, *(block + 1 for block in blocks)}
            assert not missing or source.findings or u.END not in [event.kind for event in source.events]
            source.records()


def test_random_damage_of_several_kinds_at_once(logs):
    data, dice = logs["closed"], random.Random(1)
    whole = vouched(data)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.randrange(1, 20)):
            first = dice.randrange(u.PAGE, len(data))
            damaged[first : first + dice.randrange(1, 64)] = dice.randbytes(dice.randrange(1, 64))
        damaged = bytes(damaged[: dice.randrange(u.PAGE, len(damaged) + 1)])
        source = LogSource(damaged)
        assert vouched(damaged).items() <= whole.items()
        source.records()
        Decoded(damaged)


# ---- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(collection, monkeypatch):
    """A collection of one experiment with five units of 200 records or so, and its files in order."""
    monkeypatch.setattr("sys.executable", "")
    with collection.new_experiment(a=1) as experiment:
        i = 0
        while experiment._journal._n < 5:
            experiment.add_record(i=i, pad=PADS[i % 4])
            i += 1
        folder = Path(experiment._session.folder)
    files = sorted(folder.glob("*.log"), key=lambda path: int(path.name.split(".")[1]))
    return collection, folder, files, [record["i"] for record in collection.records]


def numbers_of(path):
    return [record["i"] for record in LogSource(path.read_bytes()).records()]


def read_warned(collection, match):
    """The records' numbers, and the experiments, while a warning about damage is due."""
    with pytest.warns(DamageWarning, match=match):
        records = collection.records
    with pytest.warns(DamageWarning, match=match):
        assert len(collection.experiments) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        return [record["i"] for record in records]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_unit_that_is_missing(study, n):
    collection, _, files, numbers = study
    gone = numbers_of(files[n - 1])
    files[n - 1].unlink()
    rest = [number for number in numbers if number not in gone]
    if n == 5:  # nothing says that there was a fifth, but the end is missing
        assert [record["i"] for record in collection.records] == rest
        assert collection.experiments[0].state != "finished"
    else:
        assert read_warned(collection, "lost") == rest


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("n", [1, 3])
def test_a_flipped_bit_in_a_record_is_told(study, n):
    collection, _, files, numbers = study
    flip(files[n - 1], u.PAGE + BLOCK // 2)
    left = read_warned(collection, rf"{files[n - 1].name}.*(suspect|do not match)")
    assert left == [number for number in numbers if number in set(left)]
    assert 0 < len(numbers) - len(left) < 100


@pytest.mark.parametrize("offset", [0, 8, 12, 40, 100])
@pytest.mark.parametrize("n", [1, 3])
def test_a_flipped_bit_in_a_header_page(study, n, offset):
    collection, _, files, numbers = study
    gone = numbers_of(files[n - 1])
    flip(files[n - 1], offset)
    assert read_warned(collection, files[n - 1].name) == [number for number in numbers if number not in gone]


@pytest.mark.parametrize("change", [{"version": 2}, {"features": ["zebra"]}, {"version": 99, "features": ["zebra"]}])
def test_a_unit_of_a_newer_version_or_with_an_unknown_feature(study, change):
    collection, _, files, numbers = study
    gone, data = numbers_of(files[2]), files[2].read_bytes()
    header = msgspec.structs.replace(u.unpack_header(data[: u.PAGE]), **change)
    files[2].write_bytes(u.pack_header(header) + data[u.PAGE :])
    assert read_warned(collection, "version") == [number for number in numbers if number not in gone]


def test_a_newer_header_with_fields_that_nobody_knows_yet(study):
    collection, _, files, numbers = study
    data = files[2].read_bytes()
    body = msgspec.msgpack.encode({**msgspec.structs.asdict(u.unpack_header(data[: u.PAGE])), "colour": "blue"})
    page = u._PAGE_HEAD.pack(u.MAGIC, len(body), u.zlib.crc32(body)) + body
    files[2].write_bytes(page.ljust(u.PAGE, b"\0") + data[u.PAGE :])
    assert [record["i"] for record in collection.records] == numbers


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"garbage", b"\xff" * 9000, b"RRUNIT\x01\n" + b"\xff" * 5000])
def test_a_file_of_garbage_with_a_units_name(study, content):
    collection, folder, _, numbers = study
    (folder / layout.log_name("a" * 32, 1)).write_bytes(content)
    assert read_warned(collection, "a" * 32) == numbers


@pytest.mark.parametrize("name", [layout.log_name("a" * 32, 1), layout.pack_name("a" * 32, 1, 3, 1000, 7)])
@pytest.mark.parametrize(
    "kind", ["folder", "link to a unit", "link to nothing", "link to itself", "pipe", "socket", "huge"]
)
def test_what_is_no_regular_file(study, tmp_path, kind, name):
    collection, folder, files, numbers = study
    path = folder / name
    if kind == "folder":
        path.mkdir()
    elif kind == "link to a unit":
        shutil.copy(files[0], tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o140644)
    else:
        path.touch()
        os.truncate(path, 1 << 42)
    code = textwrap.dedent("""
        import resource, sys, warnings
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        warnings.simplefilter("ignore")
        from rigorous_recorder import ExperimentCollection
        print([record["i"] for record in ExperimentCollection(sys.argv[1]).records])
    """)
    ended = children.run(code, collection.path, timeout=20)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{numbers}\n"
    with pytest.warns(DamageWarning, match="a" * 32):
        len(collection)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_format_file_that_is_none(study, tmp_path, kind):
    collection, *_ = study
    path = Path(collection.path, "format")
    path.rename(tmp_path / "aside")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "aside")
    code = textwrap.dedent("""
        import sys
        from rigorous_recorder import ExperimentCollection, RecorderError
        try:
            len(ExperimentCollection(sys.argv[1]))
        except RecorderError as error:
            print(error)
    """)
    ended = children.run(code, collection.path, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "format" in ended.stdout or kind == "link"


STRANGE = ["x", " ", "a\nb", "..x", "%2e%2e", "=", "ü" * 60, "n" * 255, "a" * 32, "a" * 32 + ".0.log", "A" * 32 + ".1.log",
           "a" * 32 + ".1.log ", "a" * 32 + ".01.log", "a" * 32 + ".1-1-1-00000000.parquet.tmp", "000001.1",
           ".hidden"]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_are_ignored(study, name):
    collection, folder, _, numbers = study
    for place in (Path(collection.path), folder.parent, folder):
        if not (place / name).exists():
            (place / name).write_bytes(b"anything")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)  # it may be reported
        assert [record["i"] for record in collection.records] == numbers
        assert len(collection.experiments) == 1
        with collection.new_experiment() as experiment:
            assert experiment.number in (1, 2)


def test_a_level_entry_that_is_damaged_is_reported(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        folder = Path(experiment._session.folder)
    for path in folder.iterdir():
        path.unlink()
    records = [(1, {"i": i}) for i in range(5)]
    units.write(folder, [u.pack_entry(u.LEVEL, b"\xc1\xc1\xc1"), *records], sealed=False)
    with pytest.warns(DamageWarning):
        assert [record["i"] for record in collection.records] == list(range(5))


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    "entry",
    [
        b"\xf0\0\0\0\0",
        b"\xf4\0\0\0\0",
        b"\xf5\1\0\0\0x",
        b"\xf2\0\0\0\0",
        b"\xf7\0\0\0\0",
        b"\x01\xce",
        b"\xfa\0\0\0\0",
    ],
)
def test_entries_that_no_writer_makes(entry, sealed):
    data = units.build([*((1, {"i": i}) for i in range(5)), entry], sealed=sealed)
    used = len(data.rstrip(b"\0"))
    for size in (len(data), *range(used, used + 6)):
        source = LogSource(data[:size])
        numbers = [record["i"] for record in source.records() if "i" in record]
        assert numbers == list(range(5)) or (sealed and source.findings)
        assert Decoded(data[:size]).rows == source.rows
