"""Sealing: nothing is lost and nothing doubled wherever it is killed, and no damaged byte is ever trusted."""

import errno
import itertools
import os
import random
import subprocess
import sys
import time
import zlib

import polars as pl
import pytest
import units
from hypothesis import HealthCheck, given, settings
from strategies import exact_records, records

from rigorous_recorder.errors import FormatError
from rigorous_recorder.store import columns, files, layout, pack, packmeta
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.columns import unit_frame
from rigorous_recorder.store.helper import SealingHelper
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.pack import equal, seal
from rigorous_recorder.store.packread import read_frame, verify
from rigorous_recorder.store.packsource import PackSource
from rigorous_recorder.store.rows import frame_records

ROWS = [{"x": n / 3, "index": n} for n in range(3_000)]
ENTRIES = [
    units.event(u.BEGIN, b"begin"),
    units.event(u.LEVEL, b"level" * 99),
    *((n // 1_000, row) for n, row in enumerate(ROWS)),
    units.block(3, a=[1, None, "text"]),
    units.event(u.END, b"end"),
]
ALL = [*ROWS, {"a": 1}, {"a": None}, {"a": "text"}]


def names(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith(".tmp-"))


def only_source(folder):
    """The one source of the one unit in a folder, by the rule of readers: a whole pack before the log."""
    found = [layout.parse_unit(name) for name in names(folder)]
    assert None not in found
    packs = [name for name in names(folder) if name.endswith(".parquet")]
    whole = [name for name in packs if verify(f"{folder}/{name}")]
    assert packs == whole
    assert len(packs) <= 1
    if packs:
        return PackSource(f"{folder}/{packs[0]}")
    (log,) = names(folder)
    return LogSource(files.read_all(f"{folder}/{log}"))


def sealed(folder, entries=ENTRIES, head=None):
    path = seal(units.write(folder, entries, head))
    assert path is not None
    return path


# ---- what a pack holds -----------------------------------------------------------------------------------------------


def test_a_pack_holds_what_the_log_held(tmp_path):
    log = LogSource(units.build(ENTRIES))
    path = sealed(tmp_path)
    assert names(tmp_path) == [os.path.basename(path)]
    source = PackSource(path)
    assert source.header == log.header
    assert [(event.kind, event.row) for event in source.events] == [(event.kind, event.row) for event in log.events]
    assert [event.payload for event in source.events if event.kind not in (u.ROWS, u.COLUMNS)] == [
        event.payload for event in log.events if event.kind not in (u.ROWS, u.COLUMNS)
    ]
    assert source.events[-2].payload == log.events[-2].payload[: u.BLOCK_PREFIX.size]
    assert list(source.levels()) == list(log.levels())
    assert source.rows == log.rows == len(ALL)
    assert source.findings == []
    assert source.unverified == 0
    assert units.same(source.records(), ALL)
    assert units.same(source.records(2_999, 3_001), ALL[2_999:3_001])
    assert source.frame().equals(log.frame())
    assert units.same(source.records(5, 3), [])
    assert units.same(source.records(3_000, 9_999), ALL[3_000:])
    assert read_frame(path, ["x", "rr_level"]).columns == ["x", "rr_level"]


@given(records)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_survive_sealing(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("unit")
    entries = [(place % 2, row) for place, row in enumerate(rows)]
    before = LogSource(units.build(entries)).records()
    assert units.same(PackSource(sealed(folder, entries)).records(), before)


@given(exact_records)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_survive_sealing(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("unit")
    entries = [units.block(1, rows)] * 2 if rows else []
    before = LogSource(units.build(entries)).records()
    assert units.same(PackSource(sealed(folder, entries)).records(), before)


def test_the_name_says_rows_size_and_checksum(tmp_path):
    path = sealed(tmp_path)
    name = layout.parse_unit(os.path.basename(path))
    data = files.read_all(path)
    assert name == (units.WRITER, 1, len(ALL), len(data), zlib.crc32(data))


def test_a_user_may_write_what_looks_like_our_text(tmp_path):
    lure = packmeta.pack_meta(packmeta.PackMeta(units.header(n=9), [], 5, 6, 7))
    rows = [(1, {lure: lure, "x": lure}) for _ in range(5)]
    source = PackSource(sealed(tmp_path, rows))
    assert source.header.n == 1
    assert source.records() == [row for _, row in rows]


def test_many_events_make_a_long_footer(tmp_path):
    levels = [units.event(u.LEVEL, random.Random(n).randbytes(90)) for n in range(3_000)]
    source = PackSource(sealed(tmp_path, [*levels, (1, {"x": 1.5})]))
    assert len(source.events) == 3_000
    assert source.records() == [{"x": 1.5}]


def test_row_groups_and_statistics_can_be_pruned(tmp_path):
    entries = [(n // 200_000, {"x": float(n)}) for n in range(600_000)]
    path = sealed(tmp_path, entries)
    pq = pytest.importorskip("pyarrow.parquet")
    groups = pq.ParquetFile(path).metadata
    assert groups.num_row_groups >= 2  # older versions of polars make fewer
    found = [groups.row_group(n).column(0).statistics for n in range(groups.num_row_groups)]
    assert (found[0].min, found[-1].max) == (0, 2)
    assert all(before.max <= after.min for before, after in itertools.pairwise(found))


def test_the_pack_is_hardly_larger_than_the_bare_columns():
    chance = random.Random(1)
    bare = pl.DataFrame({key: [chance.random() for _ in range(600_000)] for key in "xy"})
    level = pl.Series(columns.LEVEL, [n // 100_000 for n in range(600_000)], dtype=pl.UInt32)
    meta = packmeta.PackMeta(units.header(), [(u.LEVEL, b"{'model': 'resnet18'}", 0)] * 6, 600_000, 1, 1)
    content = pack.parquet(bare.insert_column(0, level), packmeta.pack_meta(meta))
    flat = pack.io.BytesIO()
    bare.drop(columns.LEVEL).write_parquet(flat, compression="zstd")
    assert len(content) <= 1.0007 * len(flat.getvalue())


# ---- what stays a log ------------------------------------------------------------------------------------------------


def test_unverified_and_damaged_logs_stay(tmp_path):
    tail = units.write(tmp_path, ENTRIES, sealed=False)
    assert seal(tail) is None
    data = bytearray(units.build(ENTRIES, units.header(n=2)))
    data[u.PAGE + 5_000] ^= 1
    broken = tmp_path / layout.log_name(units.WRITER, 2)
    broken.write_bytes(data)
    assert seal(str(broken)) is None
    (tmp_path / layout.log_name(units.WRITER, 3)).write_bytes(b"no header")
    assert seal(str(tmp_path / layout.log_name(units.WRITER, 3))) is None
    undecodable = units.write(tmp_path, [(1, b"\xc1\xc1\xc1")], units.header(n=4))
    assert seal(undecodable) is None
    assert len(names(tmp_path)) == 4


def test_names_are_checked(tmp_path):
    with pytest.raises(FormatError, match="not the name"):
        seal(str(tmp_path / "x.log"))
    path = tmp_path / layout.log_name(units.WRITER, 7)
    path.write_bytes(units.build(ENTRIES))
    with pytest.raises(FormatError, match="another unit"):
        seal(str(path))
    with pytest.raises(FileNotFoundError):
        seal(str(tmp_path / layout.log_name(units.WRITER, 8)))
    link = tmp_path / layout.log_name(units.WRITER, 9)
    link.symlink_to(units.write(tmp_path, ENTRIES))
    with pytest.raises(OSError, match=r".*"):
        seal(str(link))


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_every_flipped_byte_is_found_and_none_crashes_a_reader(tmp_path):
    path = sealed(tmp_path, [units.event(u.LEVEL, b"level"), *((1, {"x": n / 3, "s": "a"}) for n in range(40))])
    data = files.read_all(path)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with open(path, "wb") as file:
            file.write(damaged)
        assert not verify(path)
        try:
            frame_records(read_frame(path))
            PackSource(path).records(3, 9)
        except (FormatError, ValueError):
            pass


def test_every_truncation_is_found(tmp_path):
    path = sealed(tmp_path, ENTRIES[:50])
    data = files.read_all(path)
    for size in [*range(0, len(data), 7), len(data) - 1, len(data) + 1]:
        with open(path, "wb") as file:
            file.write(data[:size].ljust(size, b"\0"))
        assert not verify(path)
        for read in (packmeta.read_meta, PackSource, read_frame):
            with pytest.raises(FormatError, match=r"damaged|cut"):
                read(path)


def test_equal_sees_every_bit():
    frame = unit_frame(units.build([(1, {"x": 0.0, "l": [1.5], "s": "a"}), (1, {"l": [], "b": b"x"})]))
    assert equal(frame, frame.clone())
    for other in (
        frame.with_columns(pl.Series("x", [-0.0, None])),
        frame.with_columns(pl.Series("x", [0.0, 0.0])),
        frame.with_columns(pl.Series("l", [[1.5], None])),
        frame.with_columns(pl.Series("l", [[], [1.5]])),
        frame.with_columns(pl.Series("s", ["a", ""])),
        frame.with_columns(pl.col("x").cast(pl.Float32)),
        frame.reverse(),
        frame.head(1),
        frame.drop("b"),
    ):
        assert not equal(frame, other)


# ---- killed, failing, repeated ---------------------------------------------------------------------------------------

KILLER = """
import os, sys
sys.path.insert(0, {root!r})
from rigorous_recorder.store import files
from rigorous_recorder.store.pack import seal
count = 0
def patched(function):
    def call(*arguments, **keywords):
        global count
        count += 1
        mine = count
        if mine == {at} and not {after}:
            os._exit(9)
        result = function(*arguments, **keywords)
        if mine == {at}:
            os._exit(9)
        return result
    return call
for name in dir(files):
    function = getattr(files, name)
    if getattr(function, "__module__", "") == files.__name__:
        setattr(files, name, patched(function))
seal({path!r})
"""


@pytest.mark.parametrize("after", [False, True])
def test_killed_before_and_after_every_system_call(tmp_path, after):
    root = os.path.dirname(os.path.dirname(os.path.abspath(units.__file__)))
    for at in itertools.count(1):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        path = units.write(folder, ENTRIES)
        code = KILLER.format(root=root, at=at, after=after, path=path)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
        assert units.same(only_source(folder).records(), ALL)
        if os.path.exists(path):
            assert seal(path) is not None
        assert units.same(only_source(folder).records(), ALL)
        assert all(name.endswith(".parquet") for name in names(folder))
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
    assert at > 10


class Failing:
    """Makes the N-th call of `files` fail."""

    def __init__(self, monkeypatch, at, error):
        self.left = at
        self.error = error
        for name in dir(files):
            function = getattr(files, name)
            if getattr(function, "__module__", "") == files.__name__ and name != "close":
                monkeypatch.setattr(files, name, self.wrapped(function))

    def wrapped(self, function):
        def call(*arguments, **keywords):
            self.left -= 1
            if self.left == 0:
                raise OSError(self.error, os.strerror(self.error))
            return function(*arguments, **keywords)

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE])
def test_every_system_call_may_fail(tmp_path, error):
    for at in itertools.count(1):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        path = units.write(folder, ENTRIES)
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(monkeypatch, at, error)
            try:
                seal(path)
            except OSError as caught:
                assert caught.errno == error  # noqa: PT017
        assert units.same(only_source(folder).records(), ALL)
        if os.path.exists(path):
            assert seal(path) is not None
        assert units.same(only_source(folder).records(), ALL)
        if failing.left > 0:
            break
    assert at > 8


def test_sealing_again_after_a_pack_was_left_removes_the_log_only(tmp_path):
    path = sealed(tmp_path)
    before = os.stat(path)
    log = units.write(tmp_path, ENTRIES)
    assert seal(log) == path
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert names(tmp_path) == [os.path.basename(path)]


def test_a_damaged_pack_does_not_make_the_log_go(tmp_path):
    path = sealed(tmp_path)
    data = bytearray(files.read_all(path))
    data[100] ^= 1
    with open(path, "wb") as file:
        file.write(data)
    log = units.write(tmp_path, ENTRIES)
    assert seal(log) == path
    assert verify(path)
    assert PackSource(path).records() == ALL


def test_a_log_that_grows_meanwhile_stays(tmp_path, monkeypatch):
    path = units.write(tmp_path, ENTRIES)
    rename = files.rename

    def grow(source, target):
        rename(source, target)
        with open(path, "ab") as file:
            file.write(b"more")

    monkeypatch.setattr(files, "rename", grow)
    assert seal(path) is None
    assert os.path.exists(path)


def test_temporary_files_of_killed_sealers_are_no_obstacle(tmp_path):
    for k in range(3):
        (tmp_path / layout.temporary_name(units.WRITER, k)).write_bytes(b"left over")
    assert PackSource(sealed(tmp_path)).records() == ALL


# ---- the helper process ----------------------------------------------------------------------------------------------


@pytest.fixture
def helper():
    helper = SealingHelper()
    yield helper
    helper.finish(0)


def test_the_helper_seals(tmp_path, helper):
    folder = tmp_path / "a folder.log with spaces"
    folder.mkdir()
    paths = [units.write(folder, ENTRIES, units.header(n=n)) for n in (1, 2)]
    paths.append(units.write(folder, ENTRIES, units.header(n=3), sealed=False))
    assert all(helper.submit(path) for path in paths)
    assert helper.wait(paths, 60)
    assert [name.rpartition(".")[2] for name in names(folder)] == ["parquet", "parquet", "log"]
    assert list(helper.kept) == [paths[2]]
    assert helper.submit(str(folder / "x.log"))
    assert helper.submit(str(folder / layout.log_name(units.WRITER, 5)))
    assert helper.wait([str(folder / "x.log"), str(folder / layout.log_name(units.WRITER, 5))], 60)
    assert helper.kept[str(folder / "x.log")] == "not the name of a log"


def test_stop_lets_the_helper_finish(tmp_path):
    helper = SealingHelper()
    paths = [units.write(tmp_path, ENTRIES, units.header(n=n)) for n in range(1, 4)]
    assert all(map(helper.submit, paths))
    helper.finish(0)
    end = time.monotonic() + 60
    while any(map(os.path.exists, paths)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(os.path.exists, paths))


def test_a_killed_helper_is_replaced_and_its_logs_stay(tmp_path, helper):
    path = units.write(tmp_path, ENTRIES)
    assert helper.submit(path)
    os.kill(helper._process.pid, 9)
    assert not helper.wait([path], 60) or not os.path.exists(path)
    assert not helper.pending
    assert helper.submit(path)
    assert helper.wait([path], 60)
    assert len(names(tmp_path)) == 1


def test_a_helper_that_cannot_start_is_no_error(tmp_path, helper, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    assert not helper.submit(str(tmp_path / layout.log_name(units.WRITER, 1)))
    monkeypatch.setattr(sys, "executable", "")
    assert not helper.submit(str(tmp_path / layout.log_name(units.WRITER, 1)))
    assert not helper.submit("with\nnewline.log")
    helper.poll()
    assert helper.wait([], 1)


def test_a_forked_child_leaves_the_helper_to_its_parent(tmp_path, helper):
    path = units.write(tmp_path, ENTRIES)
    assert helper.submit(path)
    code = subprocess.run(  # the child's forgetting must not end the helper of the parent
        [sys.executable, "-c", FORKING.format(path=path, root=os.path.dirname(os.path.dirname(units.__file__)))],
        capture_output=True,
        text=True,
    )
    assert code.stdout.split() == ["child", "parent", "True"], code.stderr
    helper.wait([path], 60)


FORKING = """
import os, sys
sys.path.insert(0, {root!r})
from rigorous_recorder.store.helper import SealingHelper
helper = SealingHelper()
helper.submit({path!r})
pid = os.fork()
if pid == 0:
    helper.forget()
    assert not helper.pending
    print("child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", helper.wait([{path!r}], 60), flush=True)
"""


def test_an_idle_helper_ends_and_the_next_request_starts_another(tmp_path, helper):
    first = units.write(tmp_path, ENTRIES)
    assert helper.submit(first)
    process = helper._process
    assert helper.wait([first], 60)
    process.stdin.close()  # as if it had been idle for long
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    second = units.write(tmp_path, ENTRIES, units.header(n=2))
    assert helper.submit(second)
    assert helper.wait([second], 60)
    assert helper._process.pid != process.pid
