"""`collection.verify()` and its command: what is wrong is found with place and count, and nothing is touched."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import children
import pytest
import units
from programs import ELSEWHERE, run, run_killed, wait_until_sealed

from rigorous_recorder import DamageWarning, ExperimentCollection
from rigorous_recorder.exact import encode_exact
from rigorous_recorder.store import journal as journals
from rigorous_recorder.store import layout
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.background import background
from rigorous_recorder.store.pack import seal
from rigorous_recorder.verification import MOST_SHOWN

BLOCK = 1024
RECORDS = 300


def record(collection, count=RECORDS, **info):
    """One finished experiment of some records; its logs."""
    with collection.new_experiment(info) as experiment:
        below = experiment.sub_record_keeper(model="m")
        for i in range(count):
            below.add_record(i=i, pad="x" * (i % 40))
        folder = Path(experiment._session.folder)
    return sorted(folder.glob("*.log"), key=lambda path: int(path.name.split(".")[1]))


@pytest.fixture
def small(monkeypatch):
    """Units of 16 blocks of 1 KiB, so that an experiment has several, and no sealing."""
    monkeypatch.setitem(journals.Journal.__init__.__kwdefaults__, "block_size", BLOCK)
    monkeypatch.setattr(journals, "SIZES", (16 * BLOCK, 16 * BLOCK, 16 * BLOCK))
    monkeypatch.setattr(background.helper, "submit", lambda path: False)


@pytest.fixture
def study(tmp_path, small):
    """A collection of two experiments, the first of several units, with notes; and the logs of the first."""
    collection = ExperimentCollection(tmp_path / "study", journal="mmap")
    logs = record(collection, 4 * RECORDS, lr=0.1)
    record(collection, lr=0.2)
    collection.add_notes(gpu="A100")
    assert len(logs) > 2
    return collection, logs


def state_of(folder):
    """Names, kinds, contents and times of all there is in a folder, and of itself."""
    found = []
    for base, folders, names in os.walk(folder):
        for path in [base, *(os.path.join(base, name) for name in sorted(folders + names))]:
            status = os.lstat(path)
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""
            found.append((path, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content))
    return sorted(found)


def failing(collection):
    """The findings of a collection that is not sound."""
    report = collection.verify()
    found = [finding for finding in report.findings if finding.fails]
    assert report.ok == (not found)
    return found


def flip(path, offset, bit=4):
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def warned(collection):
    """What a reader warns of, and how many records it reads."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        count = len(list(collection.records))
    return [str(one.message) for one in heard if issubclass(one.category, DamageWarning)], count


def test_a_sound_collection(study):
    collection, _ = study
    report = collection.verify()
    assert report.ok
    assert report.findings == ()
    assert (report.records, report.attempts) == (5 * RECORDS, 2)
    paths = list(Path(collection.path).rglob("*.log"))
    assert (report.files, report.size) == (len(paths), sum(path.stat().st_size for path in paths))
    assert str(report).splitlines()[0] == f"{collection.path}: sound"
    assert "1,500 records of 2 attempts" in str(report)


def test_nothing_is_changed(study):
    collection, logs = study
    flip(logs[0], 6000)
    (logs[1].parent / "stray").write_bytes(b"x")
    before = state_of(collection.path)
    assert not collection.verify().ok
    assert state_of(collection.path) == before


def test_a_sealed_collection(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment(lr=0.1) as experiment:
        for i in range(100_000):
            experiment.add_record(i=i, x=i / 3)
        experiment.add_records(y=[1, None, "text"])
    wait_until_sealed()
    pack = max(Path(collection.path).rglob("*.parquet"), key=lambda path: path.stat().st_size)
    rows = layout.parse_unit(pack.name).rows
    report = collection.verify()
    assert (report.ok, report.records, report.findings) == (True, 100_003, ())
    flip(pack, pack.stat().st_size // 2)
    found = failing(collection)
    assert (found[0].kind, found[0].start, found[0].stop, found[0].records) == (
        "suspect", 0, pack.stat().st_size, rows,
    )  # fmt: skip
    assert "checksum in its name" in found[0].sentence
    os.truncate(pack, pack.stat().st_size - 10)
    (found,) = [one for one in failing(collection) if one.file.endswith(".parquet")]
    assert (found.kind, found.records) == ("lost", rows)
    heard, count = warned(collection)
    assert count == 100_003 - rows
    assert len(heard) == 1
    assert f"{rows:,} records" in heard[0]


def test_flipped_bits_are_found_with_their_block_and_its_records(study):
    """Where a bit flips in a value, the chain of entries still tells how many records the block has."""
    collection, logs = study
    whole = warned(collection)[1]
    third = u.PAGE + 2 * BLOCK
    data = logs[0].read_bytes()
    place = data.index(b"\xa3pad", third) + 20
    flip(logs[0], place)
    (found,) = failing(collection)
    assert found.file == str(logs[0].relative_to(collection.path))
    assert (found.kind, found.start) == ("suspect", third + u.BLOCK_HEAD)
    assert found.start <= place < found.stop <= third + BLOCK
    heard, count = warned(collection)
    assert found.records == whole - count > 0
    assert len(heard) == 1
    assert f"({found.records} records)" in heard[0]
    assert collection.verify().records == count
    assert f"about {found.records} records" in str(collection.verify())


@pytest.mark.parametrize("offset", [0, 8, 40])
def test_a_damaged_header_loses_the_unit(study, offset):
    collection, logs = study
    flip(logs[1], offset)
    kinds = {one.file.rpartition("/")[2]: one.kind for one in failing(collection)}
    assert kinds == {logs[1].name: "lost"}
    assert len(warned(collection)[0]) == 1


def test_a_missing_unit(study):
    collection, logs = study
    logs[1].unlink()
    (found,) = failing(collection)
    assert (found.kind, found.file.rpartition("/")[2], found.records) == ("lost", logs[1].name, None)


def test_a_missing_first_unit_has_the_begin(study):
    collection, logs = study
    logs[0].unlink()
    sentences = {one.sentence for one in failing(collection)}
    assert any("how this attempt began" in sentence for sentence in sentences)
    assert "a unit that must have been here is not" in sentences


def test_a_unit_of_a_newer_version_is_unknown(study):
    collection, logs = study
    data = logs[1].read_bytes()
    import msgspec

    header = msgspec.structs.replace(u.unpack_header(data[: u.PAGE]), version=2)
    logs[1].write_bytes(u.pack_header(header) + data[u.PAGE :])
    (found,) = failing(collection)
    assert found.kind == "unknown"


def only(folder, entries, **options):
    """The one unit of an attempt that has only what is given."""
    head = units.header(writer="ab" * 16, attempt=folder.name, boot="", host="")
    for path in folder.iterdir():
        path.unlink()
    return Path(units.write(folder, entries, head, **options))


LEVEL = units.event(u.LEVEL, encode_exact([1, None, 1, None, {"model": "m"}, None]))
BEGIN = units.event(u.BEGIN, encode_exact([1, 0, 1.5, {}, 1]))
ROWS = [(1, {"i": i}) for i in range(5)]


@pytest.mark.parametrize(
    ("entries", "sentence", "records"),
    [
        ([LEVEL, *ROWS], "how this attempt began", 5),
        ([BEGIN, *ROWS], "no entry defines the level 1", 5),
        ([BEGIN, LEVEL, units.event(u.LEVEL, b"\xc1"), *ROWS], "the level entry before row 0 is lost", None),
        ([BEGIN, LEVEL, units.event(u.EDIT, b"\xc1"), *ROWS], "the edit entry before row 0 is lost", None),
        ([BEGIN, LEVEL, units.event(u.NOTE, b"\xc1"), *ROWS], "the note entry before row 0 is lost", None),
        ([BEGIN, LEVEL, *ROWS, units.event(u.END, b"\xc1")], "the end entry is lost", None),
        ([BEGIN, units.event(u.BEGIN, b"\xc1"), LEVEL, *ROWS], "the begin entry is lost", None),
        ([BEGIN, LEVEL, *ROWS, (1, b"\x81\xc1\xc1")], "a record that cannot be decoded", 1),
        ([BEGIN, LEVEL, *ROWS, b"\x05\xce\0\0\0\1"], "an entry without a record", None),
        ([BEGIN, LEVEL, *ROWS, b"\xff"], "an entry of the unknown kind 255", None),
        ([BEGIN, LEVEL, *ROWS, units.event(u.ROWS, u.BLOCK_PREFIX.pack(1, 2) + b"\x91\x80")], "a block of 2 records", 2),
        ([BEGIN, LEVEL, *ROWS, units.event(u.ROWS, u.BLOCK_PREFIX.pack(1, 9) + b"\x91\x80")], "more rows than bytes", None),
        ([BEGIN, units.event(u.LEVEL, encode_exact([1, None, 1, 7, {}, None])), *ROWS], "the level 7, which", None),
    ],
)  # fmt: skip
def test_what_checksums_vouch_for_and_no_writer_writes(study, entries, sentence, records):
    collection, logs = study
    only(logs[0].parent, entries)
    (found,) = [one for one in failing(collection) if sentence in one.sentence]
    assert found.records == records
    assert found.file.startswith(str(logs[0].parent.relative_to(collection.path)))


def test_a_file_in_the_place_of_another(study):
    collection, logs = study
    other = logs[0].with_name(layout.log_name("cd" * 16, 1))
    shutil.copy(logs[0], other)
    elsewhere = next(path for path in Path(collection.path).glob("000002.1/*") if path.is_dir())
    shutil.copy(logs[0], elsewhere / logs[0].name)
    sentences = " ".join(one.sentence for one in failing(collection))
    assert "another than its name says" in sentences
    assert "not the one whose folder it is in" in sentences


def test_names_that_are_none_of_ours_are_remarks(study):
    collection, logs = study
    top = Path(collection.path)
    for path in (top / "readme.txt", top / "000001.1" / "x", logs[0].parent / "copy of.log", top / "notes" / "x\ny"):
        path.write_bytes(b"")
    (top / "000007.1").mkdir()
    fresh, old = logs[0].parent / f".tmp-{'a' * 32}-0", logs[0].parent / f".tmp-{'a' * 32}-1"
    fresh.touch()
    old.touch()
    os.utime(old, (1, 1))
    report = collection.verify()
    assert report.ok
    assert sorted(one.file.rpartition("/")[2] for one in report.findings) == sorted(
        ["readme.txt", "x", "copy of.log", "x\ny", "000007.1", old.name]
    )
    assert not any(one.fails for one in report.findings)
    assert len(str(report).splitlines()) == 2 + 6
    assert str(report).count("- remark, ") == 6


@pytest.mark.parametrize("what", ["claim", "attempt", "notes", "unit"])
def test_links_are_not_followed_and_said(study, tmp_path, what):
    collection, logs = study
    path = {
        "claim": logs[0].parent.parent,
        "attempt": logs[0].parent,
        "notes": Path(collection.path, "notes"),
        "unit": logs[1],
    }[what]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert {(one.file, one.kind) for one in failing(collection)} == {(str(path.relative_to(collection.path)), "lost")}


def test_a_collection_that_is_not_there_or_is_none(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    assert [(one.kind, one.file) for one in failing(collection)] == [("lost", ".")]
    record(collection, 3)
    (tmp_path / "study" / "format").unlink()
    report = collection.verify()
    assert (report.ok, [one.file for one in report.findings]) == (True, ["format"])
    (tmp_path / "study" / "format").write_text('{"format": "rigorous_recorder", "version": 9, "features": []}')
    assert [one.kind for one in failing(collection)] == ["unknown"]
    (tmp_path / "study" / "format").write_text("something")
    assert [one.kind for one in failing(collection)] == ["suspect"]


# ---- while others write ----------------------------------------------------------------------------------------------


def test_a_collection_that_is_being_written_is_sound(collection):
    code = """
import sys, time
from rigorous_recorder import ExperimentCollection
from rigorous_recorder.store import full, journal
journal.SIZES = (1 << 16, 1 << 17)
journal.Journal.__init__.__kwdefaults__["block_size"] = 4096
full.SEAL_FROM, full.START_AFTER = 1 << 12, 0.0
collection = ExperimentCollection(sys.argv[1], journal=sys.argv[2])
end = time.monotonic() + 60
while time.monotonic() < end:
    with collection.new_experiment(lr=0.1) as experiment:
        for number in range(200):
            below = experiment.sub_record_keeper(number=number)
            for i in range(100):
                below.add_record(i=i, x=0.5)
            below.add_records(i=range(50), x=0.25)
            time.sleep(0.002)
            experiment["number"] = number
"""
    command = [sys.executable, "-c", code, collection.path, collection._options.mode]
    with subprocess.Popen(command, env=children.ENVIRONMENT) as writer:
        try:
            while not os.path.exists(f"{collection.path}/format"):
                time.sleep(0.01)
            before, reports = 0, 0
            while reports < 8 or before < 10_000:
                report = collection.verify()
                assert report.ok, str(report)
                assert report.records >= before
                assert all(one.kind in ("unverified", "unknown", "lost") for one in report.findings)
                before, reports = report.records, reports + 1
            assert writer.poll() is None
        finally:
            writer.kill()
    assert before > 0
    report = collection.verify()
    assert report.ok, str(report)
    assert [one.kind for one in report.findings if not one.file.endswith("log")] == []


def test_the_tail_of_a_writer_that_was_killed(tmp_path):
    """In this boot it is whole, and a remark; of another host, silent for long, it may be torn, and the reader warns."""
    code = """
import sys
from rigorous_recorder import ExperimentCollection
experiment = ExperimentCollection(sys.argv[1], sync_interval=100).new_experiment()
experiment.sync()
for i in range(10):
    experiment.add_record(i=i)
"""
    here, there = (ExperimentCollection(tmp_path / name) for name in ("here", "there"))
    run_killed(code, here.path)
    report = here.verify()
    assert report.ok
    (found,) = report.findings
    assert (found.kind, found.fails, found.records) == ("unverified", False, 10)
    assert found.stop > found.start >= u.PAGE
    assert warned(here) == ([], 10)
    run_killed(ELSEWHERE + code, there.path)
    for path in Path(there.path).rglob("*.log"):
        os.utime(path, (time.time() - 1000,) * 2)
    (found,) = failing(there)
    assert (found.kind, found.records) == ("unverified", 10)
    heard, count = warned(there)
    assert (len(heard), count) == (1, 10)


def test_a_log_beside_its_pack(study, monkeypatch):
    """Left by a sealer that was killed: a remark, also if the log has more than the pack, since then the log counts."""
    collection, logs = study
    data = logs[0].read_bytes()
    pack = Path(seal(str(logs[0])))
    logs[0].write_bytes(data)
    report = collection.verify()
    assert report.ok
    assert [(one.file.rpartition("/")[2], one.kind) for one in report.findings] == [(logs[0].name, "unknown")]
    header = u.unpack_header(data[: u.PAGE])
    rows = int(pack.name.split("-")[1])
    logs[0].write_bytes(units.build([(1, {"i": i}) for i in range(rows + 7)], header))
    report = collection.verify()  # its records are of levels that nothing defines
    assert [one.file.rpartition("/")[2] for one in report.findings if one.kind == "unknown"] == [pack.name]
    assert len(collection) == report.records > rows + 7
    logs[0].write_bytes(b"x")
    assert collection.verify().ok


# ---- how it is shown -------------------------------------------------------------------------------------------------


def console(report, width=120):
    """What a terminal of this width shows, without colours."""
    from rich.console import Console

    drawn = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    drawn.print(report)
    return drawn.export_text()


def test_text_table_and_html_say_the_same(study):
    collection, logs = study
    flip(logs[0], u.PAGE + 2 * BLOCK + 100)
    hostile = Path(collection.path, "<b>\x1b[31m\u202e.txt")
    hostile.touch()
    report = collection.verify()
    finding = next(one for one in report.findings if one.fails)
    table, html, text = console(report), report._repr_html_(), str(report)
    for shown in (table, html, text):
        assert "NOT sound: 1 finding" in shown
        assert f"{finding.start:,} to {finding.stop:,}" in shown
        assert finding.sentence in shown
        assert "\x1b[31m" not in shown
        assert "\u202e" not in shown
    assert finding.file in text
    assert finding.file in html
    assert "<b>\\x1b" not in html
    assert "&lt;b&gt;" in html
    assert max(map(len, table.splitlines())) <= 120
    assert max(map(len, console(report, 60).splitlines())) <= 60
    assert repr(report) == f"<Verification of {collection.path}: NOT sound: 1 finding, about {finding.records} records>"


def test_of_many_findings_the_table_shows_some_and_the_text_all(study):
    collection, _ = study
    for number in range(MOST_SHOWN + 20):
        Path(collection.path, f"stray {number}").touch()
    report = collection.verify()
    assert str(report).count("- remark") == MOST_SHOWN + 20
    assert console(report).count("remark") == MOST_SHOWN
    assert "and 20 more" in console(report)
    assert report._repr_html_().count("<tr>") == MOST_SHOWN + 1
    assert "and 20 more" in report._repr_html_()


def command(*arguments, **options):
    """Run the command line; the process."""
    return subprocess.run(
        [sys.executable, "-m", "rigorous_recorder", *map(str, arguments)],
        env=children.ENVIRONMENT, capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def test_the_command(study, tmp_path):
    collection, logs = study
    done = command("verify", collection.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{collection.verify()}\n"
    flip(logs[0], 6000)
    done = command("verify", collection.path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"{collection.verify()}\n"
    done = command("verify", "study", cwd=tmp_path)
    assert done.stdout == f"{collection.verify()}\n"
    done = command("verify", tmp_path / "nothing")
    assert (done.returncode, "no collection here: there is no such folder" in done.stdout) == (1, True)


def test_the_command_on_a_terminal(study):
    """In a terminal of its own (script(1) makes one) it draws a table."""
    collection, _ = study
    line = f"{sys.executable} -m rigorous_recorder verify {collection.path}"
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"],
        env={**children.ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert "✓" in done.stdout
    assert "sound" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes nobody, who may not read")
def test_a_folder_that_may_not_be_read(study):
    collection, logs = study
    code = """
import os, sys
import numpy, polars, rich.console, rich.progress, rich.text  # as nobody it may not read where these are
from rigorous_recorder.store import packread, verify
from rigorous_recorder.verification import verify_command
os.setuid(65534)
sys.exit(verify_command(sys.argv[1]))
"""
    for above in [*Path(collection.path).parents][:-2]:
        above.chmod(above.stat().st_mode | 0o755)
    logs[0].parent.chmod(0o700)
    done = children.run(code, collection.path)
    assert (done.returncode, done.stderr) == (1, "")
    what = "a folder that cannot be listed (Permission denied): what is in it is not known"
    assert f"unknown, {logs[0].parent.relative_to(collection.path)}: {what}" in done.stdout
    assert "300 records of 1 attempt" in done.stdout
    folder = Path(collection.path).rename(Path(collection.path).with_name("a :smile: [red]"))
    folder.chmod(0o700)
    done = children.run(code, folder)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert str(folder) in done.stderr, "a path is shown as it is, on one line"
    assert "Traceback" not in done.stderr


def test_a_process_that_records_does_not_pay_for_it():
    names = run("import sys, rigorous_recorder; print(*sys.modules)").split()
    assert not {"rich", "typer", "rigorous_recorder.verification", "rigorous_recorder.store.verify"} & {*names}


def test_every_command_has_help():
    for name in ((), ("verify",), ("selftest",)):
        done = command(*name, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage" in done.stdout


def test_the_verdict_says_at_least_where_a_finding_does_not_know_how_many(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    for _ in range(2):
        with collection.new_experiment() as experiment:
            experiment.add_records(x=range(10))
    first, second = sorted(Path(collection.path).glob("0*/*/*.log"))
    sealed = Path(seal(str(second)))
    data = bytearray(sealed.read_bytes())
    data[-20] ^= 1
    sealed.write_bytes(data)
    assert repr(collection.verify()).endswith("NOT sound: 1 finding, about 10 records>")
    first.write_bytes(b"not a unit")
    (unknown,) = [one for one in collection.verify().findings if one.fails and one.records is None]
    assert unknown.file.endswith(first.name)
    assert repr(collection.verify()).endswith("NOT sound: 2 findings, at least 10 records>")
