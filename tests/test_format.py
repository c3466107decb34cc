"""The document of the format is true: a reader written from it alone reads the same, and its constants are the code's."""

import base64
import datetime as dt
import json
import math
import pickle
import re
import shutil
import struct
import warnings
import zlib
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import programs
import second_reader
import units
from hypothesis import HealthCheck, given, settings
from strategies import exact_records, records

from rigorous_recorder import DamageWarning, ExperimentCollection, RecordKeeper, levels, saved
from rigorous_recorder import values as v
from rigorous_recorder.exact import EXTENSION
from rigorous_recorder.store import (
    attempt,
    background,
    blocks,
    claim,
    columns,
    compact,
    current,
    deletion,
    journal,
    layout,
    machine,
    names,
    pack,
    packed,
    packmeta,
    schema,
    series,
    snapshot,
)
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.logsource import LogSource
from rigorous_recorder.store.packsource import PackSource

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "format.md").read_text()
FLAT = " ".join(TEXT.split())

EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
TIMES = {
    "naive": dt.datetime(2026, 1, 2, 3, 4, 5, 600_000),  # noqa: DTZ001  (naive)
    "aware": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    "east": dt.datetime(2026, 1, 2, tzinfo=EAST),
    "day": dt.date(2026, 1, 2),
    "clock": dt.time(1, 2, 3),
    "zoned": dt.time(1, 2, 3, 4, tzinfo=dt.UTC),
    "span": dt.timedelta(days=-1, seconds=7, microseconds=120),
}
LEVEL = {
    **TIMES,
    "tuple": (1, ("a", None)),
    "set": {1, 2},
    "frozen": frozenset({"a"}),
    "path": Path("a/b"),
    "uuid": UUID(int=1),
    "decimal": Decimal("1.50"),
    "nested": {"b": [1, {"c": 2.0}]},
    "bytes": b"\x00\xff",
    "none": None,
}


def nested(depth, value):
    """The value within so many lists."""
    for _ in range(depth):
        value = [value]
    return value


MIXED = [
    {"loss": 0.5, "step": 1},
    {"loss": math.nan, "step": None},
    {"loss": -0.0, "step": 2, "extra": [1, 2.5, None], "": "empty", "rr_level": 1, "rr_exact:x": "a"},
    {"loss": 3, "step": 2**64 - 1, "extra": {"a": [b"x"]}},
    {"loss": -math.inf, "step": -(2**63), "extra": "text"},
    {},
    {"loss": 2**60, "experiment_number": "own", "text": "2026-01-02", "flag": True},
    {1: "a", "1": "b", None: {2.5: True, b"\xff": 0}, b"1": 1},
    {"long": "x" * 500, "lists": [], "ints": [1, 2]},
    {"lists": [[1], ["a"]], "ints": [3], "floats": [0.5, 1]},
    {"deep": nested(62, {1: 2}), "deeper": nested(70, {1: 2})},
    {"huge": "y" * 200_000},
]


def assert_same(path, count=None):
    """The second reader reads what the library reads, in value and type."""
    mine, theirs = second_reader.read(path), [dict(each) for each in ExperimentCollection(path).records]
    assert len(mine) == len(theirs)
    assert count is None or len(mine) == count
    for place, (left, right) in enumerate(zip(mine, theirs, strict=True)):
        assert units.same(left, right), (place, left, right)


def fill(keeper):
    """Add one of everything; gives the number of records."""
    for record in MIXED:
        keeper.add_record(record)
    timed = keeper.sub_record_keeper(LEVEL, kind="times")
    for shift in range(3):
        timed.add_record(TIMES)
        timed.add_record(naive="2026-01-02", clock="01:02:03", span=("P1D", "PT0S", "P1DT90000S")[shift], list=[TIMES])
    timed.add_records([{**TIMES, "nested": [TIMES], "n": n} for n in range(2)])
    timed.add_records([{"x": 1, "t": (1,)}, {"y": None}, {}])
    keeper.add_records(
        a=range(4),
        b=np.array([1.5, math.nan, -0.0, 2], "f4"),
        c=[True, False, True, True],
        d="same",
        e=[1, "a", None, 2.5],
    )
    keeper.add_records({"big": np.arange(3_000, dtype="u2") % 7}, day=dt.date(2026, 1, 2), n=None, t={"a": (1, 2)})
    wide = {code: np.ones(2, code) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f8")}
    keeper.add_records(wide, when=np.array(["2026-01-02T03:04:05.000006", "NaT"], "M8[us]"))
    keeper.add_records(
        pl.DataFrame(
            {
                "day": [TIMES["day"], None],
                "clock": [TIMES["clock"], None],
                "span": [None, TIMES["span"]],
                "i": [None, 1],
            }
        )
    )
    keeper.add_records(pd.DataFrame({"when": pd.to_datetime(["2026-01-02", None], utc=True)}))
    keeper.add_records(pd.DataFrame(index=range(2)))
    return len(MIXED) + 6 + 2 + 3 + 4 + 3_000 + 2 + 2 + 2 + 2


def logs(path):
    """The names of the logs and those of the packs in a collection."""
    files = [file.name for file in Path(path).rglob("*.*") if file.is_file()]
    return [name for name in files if name.endswith(".log")], [name for name in files if name.endswith(".parquet")]


# ---- collections -----------------------------------------------------------------------------------------------------


def test_logs(collection):
    collection.add_notes(LEVEL, machine="gpu")
    with collection.new_experiment(lr=0.1) as experiment:
        for record in MIXED[:-1]:  # the last one is longer than a unit should be for this
            experiment.add_record(record)
        for model in ("a", "b"):
            keeper = experiment.sub_record_keeper(model=model, lr=0.2)
            for step in range(50):
                experiment.add_record(step=step)
                keeper.sub_record_keeper(LEVEL, step=step).add_record(TIMES)
                keeper.add_record(model=None, step=step)
    assert logs(collection.path)[1] == []
    assert_same(collection.path, len(MIXED) + 299)


def test_packs(collection):
    with collection.new_experiment(LEVEL, lr=0.1) as experiment:
        count = fill(experiment)
        below = experiment.sub_record_keeper(model="m")
        for step in range(12_000):
            (below if step % 1_000 else experiment).add_record(step=step, loss=step / 3, text="x" * 80)
        count += 12_000 + fill(below)
    programs.wait_until_sealed()
    found = logs(collection.path)
    assert found[1], found
    assert_same(collection.path, count)


def test_what_stands_beside_each_other(collection):
    for x, error in ((1, ZeroDivisionError()), (2, KeyboardInterrupt())):
        experiment = collection.new_experiment(lr=x / 10)
        experiment.add_record(x=x)
        experiment.close(error)
    with collection.new_experiment(lr=0.3, gone=1) as experiment:
        model = experiment.sub_record_keeper(model="m", gone=2, kept=[1])
        model.add_record(x=3)
        model["note"] = "warm"
        del model["gone"]
        handle = pickle.dumps(model).hex()
        programs.run(
            "import pickle, sys\n"
            "keeper = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
            "keeper.add_record(x=4); keeper.sub_record_keeper(below=True).add_record(x=5); keeper['worker'] = 1",
            handle,
        )
        model.add_record(x=6)
    programs.run_killed(
        "import sys, rigorous_recorder as r\n"
        "e = r.ExperimentCollection(sys.argv[1], journal=sys.argv[2]).new_experiment(lr=0.4)\n"
        "e.add_record(x=7); e.sub_record_keeper(a=(1, 2)).add_record(x=8)",
        collection.path,
        collection._options.mode,
    )
    assert_same(collection.path, 8)
    programs.run(
        "import sys, rigorous_recorder as r\n"
        "c = r.ExperimentCollection(sys.argv[1])\n"
        "c.keeper(model='m').update(model='n', note='cold', path=__import__('pathlib').Path('x'))\n"
        "del c.keeper(model='n')['kept']\n"
        "c.add_notes(late={'a': (1,)})\n"
        "c.experiments[-1].close(error='by hand')",
        collection.path,
    )
    collection.keeper(model="n").update(note="last")
    assert_same(collection.path, 8)
    with collection.resume_experiment(1) as experiment:
        experiment.add_record(x=9)
    with collection.resume_experiment(2) as experiment:
        experiment.add_record(x=10)
    assert_same(collection.path, 10)
    found = [
        (each["lr"], each["had_error"], each["error_number"], each.get("note"))
        for each in second_reader.read(collection.path)
    ]
    assert (0.1, True, 1, None) in found
    assert (0.3, False, 0, "last") in found


def test_two_collections_copied_together(tmp_path):
    for name in ("a", "b"):
        collection = ExperimentCollection(tmp_path / name)
        collection.add_notes({name: 1, "both": name})
        for x in range(3):
            with collection.new_experiment(name=name) as experiment:
                experiment.add_record(x=x)
    (tmp_path / "b" / "000003.1").rename(tmp_path / "b" / "1000003.1")
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    for name in ("00004.1", "0000004.1", "000004.0", "000004.01", "1", "000004"):
        shutil.copytree(tmp_path / "b" / "000001.1", tmp_path / "a" / name)
    assert_same(tmp_path / "a", 6)


def test_a_copy_of_what_is_unfinished(collection, tmp_path):
    with collection.new_experiment(lr=0.1) as experiment:
        for step in range(3_000):
            experiment.add_record(step=step, text="x" * 50)
            if step in (10, 2_500):
                experiment.sync()
        copy = shutil.copytree(collection.path, tmp_path / "copy")
        assert_same(copy, 3_000)
        experiment.sync()
        for log in sorted(copy.rglob("*.log")):
            data = log.read_bytes()
            used = len(data.rstrip(b"\0"))
            for length in (4_096, 4_100, 4_128, 4_200, 69_000, 69_632, 69_664, 70_000, used - 1, used - 30, used // 2):
                log.write_bytes(data[:length])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DamageWarning)
                    assert_same(copy)
            log.write_bytes(data)
        assert_same(copy, 3_000)


def test_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SIZES", (1 << 20,))  # all in one unit
    collection = ExperimentCollection(tmp_path / "study", journal="write")
    with collection.new_experiment(lr=0.1) as experiment:
        for step in range(2_000):
            experiment.add_record(step=step, text="x" * 70)
    (log,) = Path(collection.path).rglob("*.log")
    data = log.read_bytes()
    assert len(data) > 2 * u.BLOCK
    head = u.PAGE + u.BLOCK
    for place in (
        head,
        head + 4,
        head + 8,
        head + 16,
        head + 20,
        head + 24,
        head + 40,
        head + u.BLOCK + 100,
        u.PAGE + 8,
    ):
        for value in (1, 255):
            log.write_bytes(data[:place] + bytes((data[place] ^ value,)) + data[place + 1 :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamageWarning)
                assert_same(collection.path)


def test_a_saved_tree(tmp_path):
    root = RecordKeeper(LEVEL)
    fill(root)
    root.save_to(tmp_path / "tree")
    data = (tmp_path / "tree").read_bytes()
    assert data.startswith(bytes.fromhex("52 52 54 52 45 45 01 0A"))
    at, rows = 8, []
    while (said := struct.unpack_from("<QI", data, at)) != (0, 0):
        length, crc = said
        unit = data[at + 12 : at + 12 + length]
        assert zlib.crc32(unit) == crc
        rows.append(second_reader.read_log(unit))
        at += 12 + length
    assert at + 12 == len(data)
    tree, numbers = second_reader.read_levels(rows)
    (top,) = [level for level, (parent, _) in tree.items() if parent is None]
    assert units.same(second_reader.inherited(tree, top), LEVEL)
    mine = [
        {**second_reader.inherited(tree, local[level]), **record}
        for unit, local in zip(rows, numbers, strict=True)
        for level, record in unit.rows
    ]
    assert units.same(mine, [dict(each) for each in root.records])


def test_the_second_reader_stands_alone():
    source = Path(second_reader.__file__).read_text()
    assert not re.search(r"^\s*(import|from) rigorous", source, re.MULTILINE)


# ---- units -----------------------------------------------------------------------------------------------------------


@given(records, exact_records)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_unit(tmp_path_factory, singles, rows):
    entries = [entry for place, row in enumerate(singles) for entry in (units.note(place % 2, row), (place % 2, row))]
    entries += [units.block(1, rows)] if rows else []
    data = units.build(entries)
    expected = LogSource(data).records()
    assert units.same([record for _, record in second_reader.read_log(data).rows], expected)
    folder = tmp_path_factory.mktemp("unit")
    path = pack.seal(units.write(folder, entries))
    if path is not None:
        (unit,) = second_reader.read_units(folder)
        assert units.same([record for _, record in unit.rows], PackSource(path).records())
        assert units.same([record for _, record in unit.rows], expected)


# ---- the document's words are the code's -----------------------------------------------------------------------------


def table(start):
    """The rows of the table whose head starts so."""
    lines = TEXT[TEXT.index(start) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r" \| ", line.strip("| "))] for line in lines]


def hexed(magic):
    return f"`{magic.hex(' ').upper()}`"


def test_marks():
    kinds = {int(mark): name for mark, name in re.findall(r"(\d+) ([a-z]+)", table("| mark | entry |")[-1][0])}
    assert kinds == {mark: name for mark, name in u.KINDS.items() if mark != u.LONG}
    assert f"| 1 to {u.SHORT_MAX} | a record: so many bytes" in TEXT
    assert f"| {u.LONG} | a record: u32 length" in TEXT
    assert f"the byte `{u.SWITCH:02X}` and a big-endian u32" in FLAT


def test_magics_and_sizes():
    assert f'{hexed(u.MAGIC)} ("RRUNIT"' in TEXT
    assert f'{hexed(saved.MAGIC)} ("RRTREE"' in TEXT
    assert f"| 0 to {u.PAGE - 1} | the header page |" in TEXT
    assert f"| {u.PAGE} + i x B | block i; B is given by the header ({u.BLOCK:,} unless" in TEXT
    assert f"up to {u.RESERVE:,} bytes of reserve" in TEXT
    assert f"up to {current.PAD >> 10} KiB + {u.RESERVE >> 10} KiB of zeros" in FLAT
    assert f"starts with {u.BLOCK_HEAD} bytes" in FLAT
    assert f"the bytes [{u.BLOCK_HEAD}, used)" in FLAT
    assert f"only its first {['', 'four', 'eight'][u.BLOCK_PREFIX.size // 4]} bytes" in FLAT
    assert f"at most 2^{packmeta._MOST.bit_length() - 1} bytes when inflated" in FLAT
    assert f"events, at most 2^{packmeta.MOST_EVENTS.bit_length() - 1}: all" in FLAT
    assert (
        f"at most 2^{blocks.MOST_WEIGHT.bit_length() - 1}, or {['', 'eight'][blocks.PER_BYTE // 8]} times the bytes"
        in FLAT
    )
    assert {name for row in table("| key | |") for name in row[0].split(", ")} == set(u.Header.__struct_fields__)


def test_names(collection):
    writer, lines = "0f" * 16, re.search("```\n(.*?)```", TEXT, re.DOTALL)[1].splitlines()
    values = {"W": writer, "A": writer, "P": writer, "n": "3", "k": "4", "rows": "5", "len": "6", "crc": "0000002a"}
    names = [re.sub("<([A-Za-z]+)>", lambda match: values[match[1]], line.split()[0]) for line in lines]
    form, notes, claimed, folder, log, sealed, deleted, compacted, trash, temporary = names
    assert (form, notes, trash) == (layout.FORMAT_FILE, f"{layout.NOTES}/", f"{layout.TRASH}/")
    assert layout.parse_claim(claimed.strip("/")) == (7, 2)
    assert folder == f"{writer}/"
    assert log == layout.log_name(writer, 3)
    assert sealed == layout.pack_name(writer, 3, 5, 6, 42)
    assert layout.parse_unit(sealed) == (writer, 3, 5, 6, 42)
    assert deleted == layout.deleted_name(writer)
    assert layout.parse_deleted(deleted) == writer
    assert compacted == f"{layout.PACKS}/{layout.packed_name(writer, 6, 42)}"
    assert layout.parse_packed(compacted.partition("/")[2]) == (writer, 6, 42)
    assert temporary == layout.temporary_name(writer, 4)
    assert layout.is_temporary(temporary)
    collection.add_notes(a=1)
    said = json.loads(re.search(r"`(\{.*?\})`", TEXT)[1].replace("<32 hex digits>", writer))
    real = json.loads((Path(collection.path) / "format").read_text())
    assert {**real, "id": writer} == said
    assert re.fullmatch("[0-9a-f]{32}", real["id"])
    assert TEXT.startswith(f"# The format on disk, version {layout.FORMAT_VERSION}\n")


def test_values():
    said = FLAT[FLAT.index("**Exact form**") : FLAT.index("-1 is MessagePack's own timestamp")]
    pairs = {name.lower(): int(code) for code, name in re.findall(r"(?<!-)\b(\d+) ([A-Za-z]+)", said)}
    assert pairs == EXTENSION
    codes = {code for row in table("| code | data |") for code in re.findall("`(.*?)`", row[0])}
    assert codes == {*series.NUMBERS, *series.MICROSECONDS, series.DATE, series.VALUES, series.VALUE}
    kinds = next(row for row in table("| entry | payload |") if row[0] == "note")[1].rpartition("kind is ")[2]
    assert set(re.split(", | or ", kinds)) == set(v.TEMPORAL.values())


def test_packs_columns_and_footer():
    listed = [row[0] for row in table("| column | type | content |")]
    assert listed == [
        f"`{names.LEVEL}`",
        f"the key; `{names.ESCAPE}<key>` where the key is empty, is `*`, or starts with `{names.RESERVED}` or `^`",
        f"`{names.EXACT}<key>`",
    ]
    assert f"`{columns._NONE.hex().upper()}` in `{names.EXACT}<key>`" in FLAT
    text = packmeta.pack_meta(packmeta.PackMeta(units.header(), [], 5, 6, 7))
    assert f"have under `{packmeta.KEY}` the text `{text.split()[0]} <crc> <data>`" in FLAT
    assert f"`{text.split()[1]}` in the place of these digits" in FLAT
    types = FLAT[FLAT.index("The type is") : FLAT.index("by the table above")]
    assert re.findall("`([a-z]+)`", types) == [packmeta.LEVELS_TYPE, *schema.TYPES]
    assert f"in order, at most {packmeta.MOST_COLUMNS:,}, so that a reader need not ask Parquet" in FLAT
    assert f"in order, at most {packmeta.MOST_RUNS:,}, so that the rows of a branch are a slice" in FLAT
    assert f"tells at most {schema.FEW_RUNS} runs and one more for every {schema.LONG} rows" in FLAT


def test_compacted_packs_and_deleted_attempts():
    header = units.header()
    told = [("rr_level", "level"), ("x", "list:float")]
    meta = packmeta.PackMeta(header, [], 5, 6, 7, 8.0, told, [3, 4, 1, 1])
    text = packed.packed_text([(layout.ClaimName(7, 2), meta)])
    assert f"The footer's text is `{text.split()[0]} <crc> <data>`" in FLAT
    inflated = zlib.decompress(base64.b64decode(text.split()[2]))
    attempts, ((place, writer, n, *identity, (_, events, beat, runs)),), columns = second_reader.unpack(inflated)
    assert attempts == [[header.attempt, 7, 2]]
    assert (place, writer, n, identity, events, beat) == (0, header.writer, header.n, [5, 6, 7], [], 8.0)
    assert ([tuple(column) for column in columns], runs) == (told, [3, 4, 1, 1])
    assert (
        f"at most {compact.MOST_UNITS:,} units and of {compact.TARGET >> 20} MiB of logs, or of one larger unit" in FLAT
    )
    assert f"the first eight digits of `<P>` are `{layout.packed_id(0)[:8]}` less 1 for each time" in FLAT
    assert layout.packed_id(3).startswith("fffffffc")
    assert layout.PackedName(layout.packed_id(3), 1, 1).generation == 3
    place = snapshot.AttemptPlace(layout.ClaimName(7, 2), "a" * 32, "")
    trash = deletion.trash_folder(".", place)[2:].replace("a" * 32, "<A>")
    assert f"Its folder is then `trash/<claim>-<A>`, as in `{trash}`" in FLAT
    assert (compact.GRACE, "an hour on others" in FLAT) == (3600, True)


def test_states():
    states = FLAT[FLAT.index("## States") :]
    for state in (attempt.RUNNING, attempt.STALE, attempt.KILLED):
        assert f"{state}" in states
    assert f"state is {attempt.FINISHED}, {attempt.FAILED} or {attempt.INTERRUPTED}" in FLAT
    assert all(f"`{key}`" in TEXT for key in levels.AUTOMATIC)
    assert (attempt.SILENCE, "older than five minutes" in FLAT) == (300, True)
    assert f"other than `{machine.KERNELS_TIME}`, the kernel's" in states
    assert (background.HEARTBEAT, "touches its log every ten seconds" in FLAT) == (10, True)
    assert f"nobody's {claim.EMPTY_FOR:.0f} s after" in FLAT
