"""Packs whole by their checksums whose footers lie: no id becomes a path, and no number a crash."""

import copy
import math
import warnings
from pathlib import Path

import polars as pl
import pytest
from crafted import ROWS, recompact, reseal, study

from rigorous_recorder import DamageWarning, ExperimentCollection, RecorderError, RecorderWarning
from rigorous_recorder.errors import FormatError
from rigorous_recorder.store import layout
from rigorous_recorder.store.deletion import trash_folder
from rigorous_recorder.store.pack import write_sealed
from rigorous_recorder.store.packmeta import PackMeta, load_meta, right_runs
from rigorous_recorder.store.packmeta import read_footer as footer_of
from rigorous_recorder.store.parquetrows import parquet_rows
from rigorous_recorder.store.snapshot import AttemptPlace, attempt_folder


def put(*places):
    """A change of a footer: the last of the places becomes the value, in what the others lead to."""
    *way, last, value = places

    def change(data):
        for place in way:
            data = data[place]
        data[last] = value

    return change


def both(*changes):
    return lambda data: [change(data) for change in changes]


def everything(folder):
    """All paths below a folder, with their contents."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path(folder).rglob("*"))}


def use(path):
    """Use a collection in every way that reads or writes; what it says is its own words, and never a crash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)
        collection = ExperimentCollection(path)
        for way in (
            lambda: list(collection.records), collection.to_polars, lambda: collection.under(model="m").to_polars(),
            lambda: collection.scan().collect(), lambda: list(collection.experiments), lambda: str(collection.verify()),
            lambda: collection.experiments[0].__setitem__("lr", 5), lambda: collection.resume_experiment(1).close(),
            lambda: collection.new_experiment().close(), lambda: collection.experiments[0].delete(),  # noqa: PLW0108
            lambda: collection.compact(progress=False),
        ):  # fmt: skip
            try:
                way()
            except RecorderError:
                continue


IDS = ["../../victim", "../x", ".", "..", "", "a\0b", "a" * 5000, "A" * 32, "a" * 32 + "\n"]
HEAD = (1, 0, 6, 0)
"""Where in the footer of a compacted pack the header of its first unit is."""
WRONG = {
    **{f"attempt {name[:12]!r}": put(0, 0, 0, name) for name in IDS},
    **{f"writer {name[:12]!r}": both(put(1, 0, 1, name), put(*HEAD, "writer", name)) for name in IDS},
    **{f"number {number}": put(0, 0, 1, number) for number in (-5, 10**15, 2**63)},
    **{f"try {number}": put(0, 0, 2, number) for number in (-5, 0, 10**9, 2**63)},
    **{f"n {number}": both(put(1, 0, 2, number), put(*HEAD, "n", number)) for number in (-3, 0, 10**9, 2**60)},
    **{f"of attempt {place}": put(1, 0, 0, place) for place in (-1, 99)},
    **{f"{rows} rows": put(1, 0, 3, rows) for rows in (-5, ROWS - 1, ROWS + 1, 10**14, 10**15, 2**62)},
    **{f"a log of {size}": put(1, 0, 4, size) for size in (-1, 10**15, 2**63)},
    "a unit twice": lambda data: data[1].__setitem__(1, data[1][0]),
    "an attempt twice": lambda data: data[0].append([data[0][0][0], 7, 1]),
    "no units": lambda data: data[1].clear(),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_footer_of_another_grammar_is_damage_and_leads_nowhere(tmp_path, change):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("untouched")
    path = tmp_path / "deep" / "er" / "study"
    path.parent.mkdir(parents=True)
    study(path)
    pack = recompact(path, change)
    before = everything(tmp_path)
    with pytest.warns(DamageWarning, match="damaged"):
        assert len(ExperimentCollection(path).records) == 0
    report = ExperimentCollection(path).verify()
    assert [one.kind for one in report.findings if one.fails] == ["lost"]
    assert everything(tmp_path) == before
    use(path)
    outside = {file: content for file, content in everything(tmp_path).items() if not file.startswith(f"{path}/")}
    assert outside == {file: content for file, content in before.items() if not file.startswith(f"{path}/")}
    assert pack.exists()


def test_a_footer_that_gives_another_attempt_the_place_of_one_outside(tmp_path):
    """The worst of them: a second attempt with the same units, so that all of the first could be read and edited."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").write_text("untouched")
    path = tmp_path / "study"
    study(path)

    def change(data):
        attempts, units, _ = data
        attempts.append(["victim", 7, 1])
        attempts[0][0] = "../../victim"
        for unit in [unit for unit in units if unit[0] == 0]:
            units.append([len(attempts) - 1, *copy.deepcopy(unit[1:])])

    recompact(path, change, lambda frame: pl.concat([frame, frame.head(ROWS)]))
    (path / "000001.1").mkdir()
    use(path)
    assert everything(tmp_path / "victim") == {str(tmp_path / "victim" / "precious"): b"untouched"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"study", "victim"}


@pytest.mark.parametrize("name", IDS, ids=ascii)
def test_no_path_is_made_of_what_is_no_id(tmp_path, name):
    claim = layout.ClaimName(1, 1)
    with pytest.raises(FormatError, match="no id"):
        attempt_folder(str(tmp_path), claim, name)
    with pytest.raises(FormatError, match="no id"):
        trash_folder(str(tmp_path), AttemptPlace(claim, name, "x"))
    path = tmp_path / "study"
    study(path, 1, compacted=False)
    (pack,) = path.glob("0*/*/*.parquet")
    meta = load_meta(str(pack))
    fields = {**{field: getattr(meta.header, field) for field in meta.header.__struct_fields__}, "writer": name}
    with pytest.raises(FormatError, match="no id"):
        write_sealed(str(tmp_path), PackMeta(type(meta.header)(**fields), [], 0, 0, 0), pl.read_parquet(pack).head(0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["study"]


UNIT = {
    "an attempt of a path": put(*HEAD, "attempt", "../x"),
    "another attempt": put(*HEAD, "attempt", "e" * 32),
    "a level beyond 32 bits": put(1, 0, 6, 3, [2**40, ROWS]),
    "a level beyond 64 bits": put(1, 0, 6, 3, [2**64 - 1, ROWS]),
    "runs of too few rows": put(1, 0, 6, 3, [1, ROWS - 1]),
    "half a run": put(1, 0, 6, 3, [1]),
    **{f"a beat of {beat}": put(1, 0, 6, 2, beat) for beat in (math.nan, math.inf, -math.inf)},
    **{f"a {key} of {time}": put(*HEAD, key, time) for key in ("time", "start") for time in (math.nan, math.inf)},
}


@pytest.mark.parametrize("change", UNIT.values(), ids=UNIT)
def test_a_unit_that_lies_is_damage_and_the_others_are_read(tmp_path, change):
    path = tmp_path / "study"
    study(path)
    pack = recompact(path, change)
    with pytest.warns(DamageWarning, match="damaged unit|another unit"):
        assert [record["index"] for record in ExperimentCollection(path).records] == list(range(ROWS))
    findings = [one for one in ExperimentCollection(path).verify().findings if one.fails]
    assert {(one.kind, one.records) for one in findings} == {("lost", ROWS)}
    use(path)
    assert pack.exists()


SEALED = {
    "writer": put(0, "writer", "../x"),
    "attempt": put(0, "attempt", "../../x"),
    "n": put(0, "n", 0),
    "a level beyond 32 bits": put(7, [2**40, ROWS]),
    "a level beyond 64 bits": put(7, [2**64 - 1, ROWS]),
    "a log of less than nothing": put(3, -1),
    **{f"rows {rows}": both(put(2, rows), put(7, None)) for rows in (ROWS + 1, 10**6, 10**14, 10**15 - 1)},
    **{f"a beat of {beat}": put(5, beat) for beat in (math.nan, math.inf)},
    **{f"a time of {time}": put(0, "time", time) for time in (math.nan, -math.inf)},
}


@pytest.mark.parametrize("change", SEALED.values(), ids=SEALED)
def test_a_sealed_unit_that_lies_is_damage_and_the_others_are_read(tmp_path, change):
    """Whoever asks for a list of as many records as it claims to have gets those that there are."""
    path = tmp_path / "study"
    study(path, compacted=False)
    pack = reseal(path, change)
    with pytest.warns(DamageWarning, match="damaged"):
        assert len(ExperimentCollection(path)) == ROWS
    with pytest.warns(DamageWarning, match="damaged"):
        assert [record["index"] for record in list(ExperimentCollection(path).records)] == list(range(ROWS))
    assert not ExperimentCollection(path).verify().ok
    report = ExperimentCollection(path).compact(progress=False)
    assert (report.harmed, report.left.get("damaged")) == (1, 1)
    assert ExperimentCollection(path).compact(progress=False).harmed == 1
    assert pack.exists()
    use(path)


@pytest.mark.parametrize("rows", [0, 1, 10, 1000, 200_000])
@pytest.mark.parametrize("columns", [1, 3, 20])
def test_the_rows_of_a_parquet_file_are_known_without_polars(tmp_path, rows, columns):
    path = tmp_path / "x.parquet"
    kinds = [pl.Int64, pl.String, pl.List(pl.Float64), pl.Datetime("us", "UTC"), pl.Binary, pl.Duration("us")]
    pl.DataFrame(
        {f"c{n}": pl.Series([None] * rows, dtype=kinds[n % len(kinds)]) for n in range(columns)}
    ).write_parquet(path, metadata={"x": "y" * 500})
    footer = footer_of(str(path), None)
    assert parquet_rows(footer) == rows
    for stop in range(0, len(footer), max(1, len(footer) // 300)):
        assert parquet_rows(footer[:stop]) in (rows, None)


@pytest.mark.parametrize("footer", [b"", b"\0", b"\x15", b"\x25\x02", b"\x15\x02\x19\xfc" + b"\xff" * 9,
                                    b"\x19\xf1\xff\xff\xff\xff\x0f",
                                    b"\x1c" * 5000, b"\x19\x1c" * 5000, b"\x36" + b"\xff" * 20, b"\x38\x02"])  # fmt: skip
def test_metadata_that_are_none_have_no_rows(footer):
    assert parquet_rows(footer) is None


def test_levels_are_of_32_bits():
    assert right_runs([2**32 - 1, 5], 5)
    assert not right_runs([2**32, 5], 5)
