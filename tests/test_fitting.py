"""What a frame takes at least, and what this process can have: a frame is refused only if it certainly finds no room."""

import datetime as dt
import resource
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rigorous_recorder import ExperimentCollection
from rigorous_recorder.errors import RecorderError, TooLargeError
from rigorous_recorder.frames import available, fitting
from rigorous_recorder.frames.materialise import materialise
from rigorous_recorder.frames.plan import make_plan
from rigorous_recorder.reading import read_collection
from rigorous_recorder.store import journal, pack

ROWS = 4096
OF_A_SCAN = TooLargeError if int(pl.__version__.split(".")[0]) >= 2 else pl.exceptions.ComputeError
"""Polars 1 puts what a source raises into an error of its own, with its text."""
VALUES = {
    "bool": True,
    "int": 7,
    "large int": 2**63 + 7,
    "float": 1.5,
    "text": "",
    "long text": "x" * 40,
    "bytes": b"",
    "date": dt.date(2026, 1, 2),
    "time": dt.time(1, 2, 3),
    "datetime": dt.datetime(2026, 1, 2),  # noqa: DTZ001  (naive)
    "utc": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    "span": dt.timedelta(1, 2, 3),
    "nothing": None,
    "list": [1, 2],
    "empty list": [],
    "mixed": [1, "a"],
}


def asked(collection):
    """The plan of a collection's frame, all its parts as they are asked for, and its own columns."""
    plan = make_plan(read_collection(collection.path))
    return plan, [(part, None) for part in plan.parts], [column for column in plan.columns if column.own]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", VALUES)
def test_it_takes_no_less(tmp_path, monkeypatch, kind, missing, sealed):
    """Of each type the least is not more than what polars says that its column takes. A sealed unit's levels are not read."""
    monkeypatch.setattr(journal, "SIZES", (1 << 20,))  # all in one unit
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        for row in range(ROWS):
            experiment.add_record({} if missing and row % 2 else {"x": VALUES[kind]})
    if sealed:
        (log,) = Path(collection.path).rglob("*.log")
        assert pack.seal(str(log)) is not None
    plan, parts, own = asked(collection)
    rows, size = fitting.least(parts, own)
    assert rows == ROWS
    found = materialise(plan)
    taken = sum(series.estimated_size() for series in found.columns.values())
    if any(series.dtype in (pl.String, pl.Binary) for series in found.columns.values()):
        taken += 16 * ROWS  # the views of texts, which polars leaves out there: 20,000,000 of "" or "a" took 305 MiB
    taken += sum(stretch.levels.estimated_size() for stretch in found.stretches)
    assert (0 if sealed else ROWS * 4) <= size <= taken + 64
    assert size > 0 or kind == "nothing"


def test_what_is_filtered_counts_nothing(tmp_path):
    """Of a branch and of a predicate nobody knows beforehand how many rows there are."""
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.sub_record_keeper(model="a").add_records(x=np.zeros(100))
        experiment.sub_record_keeper(model="b").add_records(x=np.zeros(100))
    _, parts, own = asked(collection)
    assert fitting.least(parts, own) == (200, 200 * 12)
    assert fitting.least([(part.at({0}), None) for part, _ in parts], own) == (0, 0)
    assert fitting.least([(part, pl.col("x") > 1) for part, _ in parts], own) == (0, 0)


def test_one_that_fits_not(tmp_path, monkeypatch):
    collection = ExperimentCollection(tmp_path / "study")
    with collection.new_experiment() as experiment:
        experiment.add_records(x=np.zeros(1000), y=np.zeros(1000))
    monkeypatch.setattr(fitting, "SMALL", 1000)
    assert collection.to_polars().height == 1000
    monkeypatch.setattr(fitting, "available", lambda: 15_000)
    with pytest.raises(TooLargeError, match=r"^1,000 records would take 0\.00 GB at least") as caught:
        collection.to_polars()
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, RecorderError)
    with pytest.raises(TooLargeError, match=r"columns="):
        collection.to_pandas()
    for way in (lambda: collection.scan().collect(), lambda: collection.sql("select * from records")):
        with pytest.raises(OF_A_SCAN, match=r"1,000 records would take .*columns="):
            way()
    assert collection.to_polars(["x"]).height == 1000, "that is less"
    assert len(list(collection.records)) == 1000
    monkeypatch.setattr(fitting, "available", lambda: None)
    assert collection.to_polars().height == 1000, "where the system does not tell"


def test_the_room_of_this_process(tmp_path, monkeypatch):
    """No more than the machine has, no less than what is free of it now; and what limits say, control groups among them."""
    found = available.available()
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemFree"))
    if not available._of_groups(0) and not available._of_limits():
        assert free // 2 < found <= total + (int(lines["SwapTotal"].split()[0]) << 10) + (1 << 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = 64 << 30 if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        assert limit in available._of_limits()
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    groups = tmp_path / "outer" / "inner"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.stat").write_text("anon 1000\nfile 5000\n")
    (groups.parent / "memory.max").write_text(f"{5 << 20}\n")
    (groups.parent / "memory.stat").write_text(f"anon {1 << 20}\nfile {3 << 20}\n")
    real = available._text
    monkeypatch.setattr(available, "_CGROUPS", str(tmp_path))
    monkeypatch.setattr(
        available,
        "_text",
        lambda path: "4:memory:/old\n0::/outer/inner\n" if path == "/proc/self/cgroup" else real(path),
    )
    assert available._of_groups(0) == [4 << 20], "its cache goes when memory is wanted"
    assert available._of_groups(9 << 20) == [13 << 20], "all the swap that there is, where nobody says how much"
    for most, left in (("max", 9 << 20), (f"{3 << 20}", 2 << 20), (f"{1 << 19}", 0)):
        (groups.parent / "memory.swap.max").write_text(most)
        (groups.parent / "memory.swap.current").write_text(f"{1 << 20}\n")
        assert available._of_groups(9 << 20) == [(4 << 20) + left]
    own = available._number(Path("/proc/self/status").read_text(), "RssAnon") << 10
    assert available.available() - (4 << 20) - own < 64 << 20


def test_where_nothing_is_told(monkeypatch):
    monkeypatch.setattr(available, "_text", lambda _path: "")
    monkeypatch.setattr(available, "_of_limits", list)
    assert available.available() is None
