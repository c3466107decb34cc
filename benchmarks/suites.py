"""The suites: which contestants are run alternately, and which rows of the table come out of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import probes
from benchmarks.measure import Outcome, RunFailedError, Sample, alternate, run_once
from benchmarks.table import MILLISECONDS, SECONDS, Figure, Part, Row, Unit, alone, compare, per_record, verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.workloads import Measured, Sizes


@dataclass(frozen=True)
class Setting:
    """What every suite is given."""

    sizes: Sizes
    runs: int
    folder: Path
    tell: Callable[[str], None]
    failures: dict[str, str] = field(default_factory=dict)  # what could not run, and why; filled as suites run

    def alternate(self, *contestants: str, times: int = 1) -> Outcome:
        """Run them alternately; short workloads take `times` as many rounds, since each tells less."""
        outcome = alternate(contestants, self.runs * times, self.sizes, self.folder, self.tell)
        self.failures.update(outcome.failures)
        return outcome


MB = Unit(1e-6, "MB")
ROWS = "DataFrame(rows)"
SCHEMA = "DataFrame(rows, schema)"


def _recording(outcome: Outcome, name: str, records: int, loop: float | None, save: float) -> list[Row]:
    """The rows that headline, readme and many-keepers share."""
    ns, size = per_record(records), Unit(1 / records, "B")
    seconds_ns = per_record(records)

    def ours(figure: str, unit: Unit = ns) -> Figure:
        return Figure(f"{name}.ours", figure, unit)

    def other(contestant: str, figure: str, unit: Unit = ns) -> Figure:
        return Figure(f"{name}.{contestant}", figure, unit)

    exact = "{:.4f}".format
    inferred = ROWS if name != "readme" else f"{ROWS}, all rows inferred"
    return [
        compare(outcome, "recording loop", ours("loop"), "rows.append({...})", other("append", "loop"), loop),
        compare(outcome, "recording loop", ours("loop"), "the bare loop", other("bare", "loop")),
        compare(outcome, "record + keepers + save", ours("total"), inferred, other("flat", "total"), save),
        compare(outcome, "record + keepers + save", ours("total"), SCHEMA, other("flat_schema", "total"), save),
        compare(outcome, "until all is sealed as well", ours("sealed"), inferred, other("flat", "total")),
        compare(outcome, "of it closing", ours("close"), "frame and Parquet", other("flat", "close")),
        compare(outcome, "processor time", ours("cpu", seconds_ns), inferred, other("flat", "cpu", seconds_ns)),
        compare(outcome, "highest memory", ours("peak", MB), inferred, other("flat", "peak", MB)),
        compare(
            outcome,
            "bytes per record on disk",
            ours("disk", size),
            "flat, own columns only",
            other("flat", "disk_own", size),
            1.001 if name == "headline" else None,
            exact,
        ),
        alone(outcome, "of it in logs (small ones stay)", ours("disk_logs", size)),
    ]


def headline(setting: Setting) -> list[Row]:
    names = [f"headline.{who}" for who in ("bare", "append", "flat", "flat_schema", "ours")]
    outcome = setting.alternate(*names)
    rows = _recording(outcome, "headline", setting.sizes.headline, 1.8, 0.75)
    rows.insert(6, alone(outcome, "closing all experiments", Figure("headline.ours", "close", SECONDS)))
    return rows


def readme(setting: Setting) -> list[Row]:
    names = [f"readme.{who}" for who in ("bare", "append", "flat", "flat_schema", "ours")]
    return _recording(setting.alternate(*names, times=2), "readme", setting.sizes.readme, None, 0.9)


def many_keepers(setting: Setting) -> list[Row]:
    names = [f"keepers.{who}" for who in ("bare", "append", "flat", "flat_schema", "ours")]
    outcome = setting.alternate(*names, "headline.ours")
    many, few = per_record(setting.sizes.many_keepers), per_record(setting.sizes.headline)
    rows = _recording(outcome, "keepers", setting.sizes.many_keepers, None, 1.2)
    for figure, what, target in (("total", "record + keepers + save", 2.0), ("loop", "recording loop", None)):
        mine, theirs = Figure("keepers.ours", figure, many), Figure("headline.ours", figure, few)
        rows.append(compare(outcome, what, mine, "ours, headline", theirs, target))
    return rows


def many_experiments(setting: Setting) -> list[Row]:
    sizes = setting.sizes
    outcome = setting.alternate("keepers.attempts", "headline.ours")
    mine = Figure("keepers.attempts", "total", per_record(sizes.many_attempts))
    theirs = Figure("headline.ours", "total", per_record(sizes.headline))
    rows = [compare(outcome, "everything", mine, "ours, headline", theirs)]
    many, few = outcome.get("keepers.attempts", "total"), outcome.get("headline.ours", "total")
    if many and few:
        beyond = many.less(few.times(3 * sizes.many_attempts / sizes.headline)).times(1 / sizes.attempts)
        judged = verdict(beyond.median, 0.0015)
        what = "per attempt, beyond 3x the headline's cost per record"
        rows.append(Row(what, MILLISECONDS.show(beyond), target="at most 1.5 ms", verdict=judged))
    rows.append(alone(outcome, "opening it, `len(records)`", Figure("keepers.attempts", "open", MILLISECONDS)))
    return rows + _compacted(setting)


def _prepared(setting: Setting, contestant: str) -> Measured | None:
    """What is read by several contestants, recorded by one that runs once; None, and noted as a failure, if it fails."""
    setting.tell(contestant)
    try:
        return run_once(contestant, setting.sizes, setting.folder / "prepared")
    except RunFailedError as error:
        setting.failures[contestant] = str(error)
        return None


def _compacted(setting: Setting) -> list[Row]:
    """Questions to many experiments, each in a fresh process, as they were recorded and compacted."""
    done = _prepared(setting, "compacted.prepare")
    if done is None:
        return [Row("compacting it", "did not run")]
    questions = {"length": "`len(collection)`", "numbers": "`experiment_numbers`", "one": "`list(collection[1])`"}
    outcome = setting.alternate(
        *(f"compacted.{where}_{question}" for where in ("logs", "packs") for question in questions)
    )
    rows = [
        Row("compacting it", SECONDS.show(Sample((done["compact"],)))),
        Row("  on disk", f"{MB.show(Sample((done['disk'],)))} in {done['files']:,} files"),
    ]
    for question, what in questions.items():
        packs = Figure(f"compacted.packs_{question}", "seconds", MILLISECONDS)
        logs = Figure(f"compacted.logs_{question}", "seconds", MILLISECONDS)
        rows.append(compare(outcome, f"{what}, compacted", packs, "as recorded", logs))
        found = outcome.get(packs.contestant, "seconds")
        if found:
            rows.append(Row("  under a second", "", target="1 s", verdict=verdict(found.median, 1.0)))
    return rows


def attempts(setting: Setting) -> list[Row]:
    outcome = setting.alternate("attempts.side_by_side", "headline.ours")
    ours, old, bare = (Figure("attempts.side_by_side", name, MILLISECONDS) for name in ("ours", "ours_old", "bare"))
    theirs = "the bare system calls: 2 mkdir, create, 2 fdatasync, 3 fsync"
    rows = [
        compare(outcome, "an attempt, begun, recorded and closed", ours, theirs, bare),
        compare(outcome, "the same where 10,000 numbers are claimed", old, "where few are", ours, 1.5),
    ]
    mine, calls, few = (
        outcome.get(*of) for of in ((ours.contestant, "ours"), (ours.contestant, "bare"), ("headline.ours", "total"))
    )
    if mine and calls and few:
        records = few.times(3 * setting.sizes.attempt_records / setting.sizes.headline)
        for what, sample, aim in (
            ("beyond 3x the headline's cost per record", mine.less(records), 0.0015),
            ("beyond that and the bare system calls", mine.less(records).less(calls), None),
        ):
            target = "" if aim is None else "at most 1.5 ms"
            rows.append(Row(what, MILLISECONDS.show(sample), target=target, verdict=verdict(sample.median, aim)))
    return rows


def shapes(setting: Setting) -> list[Row]:
    ways = {
        "one_by_one": "add_record({...}), two floats",
        "keywords": "add_record(x=..., y=...)",
        "pending": "pending_record[...] twice, commit_record()",
        "alternating": "two keepers in turn",
        "ten_keys": "ten keys",
        "in_memory": "a keeper in memory",
    }
    plain = ("bare", "append", "bare_ten", "append_ten")
    outcome = setting.alternate(*(f"shapes.{name}" for name in (*plain, *ways)))
    ns = per_record(setting.sizes.shape_records)
    rows = []
    for name, what in ways.items():
        ten = "_ten" if name == "ten_keys" else ""
        mine, list_, empty = (Figure(f"shapes.{who}", "loop", ns) for who in (name, f"append{ten}", f"bare{ten}"))
        rows.append(compare(outcome, what, mine, "rows.append({...})", list_))
        loop, bare = outcome.get(mine.contestant, "loop"), outcome.get(empty.contestant, "loop")
        if loop and bare:
            rows.append(Row("  over the bare loop", ns.show(loop.less(bare))))
    return rows


def blocks(setting: Setting) -> list[Row]:
    ways = {
        "numpy_columns": "add_records(x=array, y=array)",
        "list_columns": "add_records(x=list, y=list)",
        "dicts": "add_records(list of dicts)",
    }
    outcome = setting.alternate(*(f"blocks.{name}" for name in (*ways, "flat_numpy")))
    ns = per_record(setting.sizes.shape_records)
    theirs = Figure("blocks.flat_numpy", "total", ns)
    rows = []
    for name, what in ways.items():
        mine = Figure(f"blocks.{name}", "total", ns)
        rows.append(compare(outcome, f"{what} and close", mine, "polars frames of arrays, Parquet", theirs))
        rows.append(alone(outcome, "  the calls only", Figure(f"blocks.{name}", "loop", ns)))
    return rows


def reading(setting: Setting) -> list[Row]:
    if _prepared(setting, "reading.prepare") is None:
        return [Row("iterating `records`", "did not run")]
    outcome = setting.alternate("reading.ours", "reading.dicts_of_nine", "reading.dicts_of_four")
    ns = per_record(setting.sizes.headline)
    ours = Figure("reading.ours", "loop", ns)
    nine, four = (Figure(f"reading.dicts_of_{count}", "loop", ns) for count in ("nine", "four"))
    return [
        alone(outcome, "open, `len(records)`", Figure("reading.ours", "open", MILLISECONDS)),
        alone(outcome, "`records[0]`", Figure("reading.ours", "first", MILLISECONDS)),
        compare(outcome, "iterating `records`", ours, "to_dicts(), the same nine keys", nine, 0.4),
        compare(outcome, "iterating `records`", ours, "to_dicts(), four keys", four),
    ]


def frames(setting: Setting) -> list[Row]:
    if _prepared(setting, "frames.prepare") is None:
        return [Row("flat frames", "did not run")]
    rows = []
    for name, fast, slim in (("headline", 1.0, 1.0), ("readme", None, 0.6)):
        ways = ("polars", "polars_outer", "polars_same", "pandas", "pandas_same")
        outcome = setting.alternate(*(f"frames.{name}_{way}" for way in ways), times=1 if name == "headline" else 2)
        flat, same = "the flat file, outer values as text", "the flat file with the same columns"

        def figure(way: str, what: str, unit: Unit, name: str = name) -> Figure:
            return Figure(f"frames.{name}_{way}", what, unit)

        for what, call in (("first", "first call"), ("again", "second call")):
            ours, limit = figure("polars", what, MILLISECONDS), 1.3 if fast else None
            theirs = figure("polars_outer", what, MILLISECONDS)
            rows.append(compare(outcome, f"{name}, to_polars(), {call}", ours, f"polars, {flat}", theirs, limit))
            theirs = figure("polars_same", what, MILLISECONDS)
            rows.append(compare(outcome, f"{name}, to_polars(), {call}", ours, f"polars, {same}", theirs))
            ours, theirs = figure("pandas", what, MILLISECONDS), figure("pandas_same", what, MILLISECONDS)
            rows.append(compare(outcome, f"{name}, to_pandas(), {call}", ours, f"pandas, {same}", theirs, fast))
        for library, limit in (("polars", None), ("pandas", slim)):
            ours, theirs = figure(library, "memory", MB), figure(f"{library}_same", "memory", MB)
            measured = f"{name}, to_{library}(), memory of the frame"
            rows.append(compare(outcome, measured, ours, f"{library}, {same}", theirs, limit))
    return rows


def query(setting: Setting) -> list[Row]:
    if _prepared(setting, "query.prepare") is None:
        return [Row("mean of x in episode 2", "did not run")]
    asks = {"query.ours": "under(), to_polars()", "query.ours_lazily": "scan(), filter()"}
    others = {"query.polars": "polars, the flat file", "query.duckdb": "DuckDB, the flat file"}
    outcome = setting.alternate(*asks, *others, times=6)
    means = {round(mean, 9) for run in outcome.runs.values() for mean in {one["mean"] for one in run}}
    if len(means) > 1:
        setting.failures["query"] = f"the answers differ: {sorted(means)}"
    rows = []
    for figure, what, limit in (
        ("query", "without imports", 1.0),
        ("whole", "with imports", 1.4),
        ("again", "asked again", None),
    ):
        samples = {name: sample for name in others if (sample := outcome.get(name, figure)) is not None}
        faster = min(samples, key=lambda name: samples[name].median, default="")
        for ours, call in asks.items():
            for name, against in others.items():
                target = limit if name == faster and ours == "query.ours" else None
                mine, theirs = Figure(ours, figure, MILLISECONDS), Figure(name, figure, MILLISECONDS)
                rows.append(compare(outcome, f"mean of x in episode 2, {call}, {what}", mine, against, theirs, target))
    return rows


def spark(setting: Setting) -> list[Row]:
    if importlib.util.find_spec("pyspark") is None:
        return [
            Row("in Spark, DuckDB and polars", "did not run: pyspark is not installed; `make bench-engines` has it")
        ]
    if _prepared(setting, "engines.prepare") is None:
        return [Row("in Spark, DuckDB and polars", "did not run")]
    engines = {"spark": "Spark", "duckdb": "DuckDB", "polars": "polars"}
    outcome = setting.alternate(*(f"engines.{name}{flat}" for name in engines for flat in ("", "_flat")))
    rows = []
    for question, what in (("mean", "mean of x in episode 2"), ("groups", "mean of x by episode")):
        answers = {round(one[f"{question}_answer"], 6) for runs in outcome.runs.values() for one in runs}
        if len(answers) > 1:
            setting.failures["engines"] = f"the answers differ: {sorted(answers)}"
        for figure, when in ((question, "first"), (f"{question}_again", "asked again")):
            for name, engine in engines.items():
                mine, theirs = (Figure(f"engines.{name}{flat}", figure, MILLISECONDS) for flat in ("", "_flat"))
                rows.append(compare(outcome, f"{what}, {engine}, {when}", mine, f"{engine}, the flat file", theirs))
    return rows


SUITES: dict[str, tuple[str, Callable[[Setting], list[Row]]]] = {
    "headline": ("headline: 3 experiments x 10 episodes x {0.steps:,} timesteps, added one by one", headline),
    "readme": ("readme: {0.readme:,} records, two models in turn, one by the pending record", readme),
    "many-keepers": ("many-keepers: {0.keepers:,} keepers of {0.keeper_records} records", many_keepers),
    "many-experiments": ("many-experiments: {0.attempts:,} of {0.attempt_records} records", many_experiments),
    "attempts": ("one attempt of {0.attempt_records} records: median of many, in turn with its system calls", attempts),
    "shapes": ("ways of adding one record: loops of {0.shape_records:,}", shapes),
    "blocks": ("many records in one call: ten calls, {0.shape_records:,} in all", blocks),
    "memory": ("memory of the recording process, {0.memory_from:,} to {0.memory_to:,} records", probes.memory),
    "reading": ("reading the headline back: {0.headline:,} records, fresh process, warm page cache", reading),
    "frames": ("flat frames: libraries imported, warm page cache", frames),
    "query": ("a question to the headline: {0.headline:,} records, fresh process, warm page cache", query),
    "spark": ("two questions to the headline, {0.headline:,} records, in three engines that are already there", spark),
    "latency": ("single calls of add_record, {0.headline:,}, while syncing and sealing go on", probes.latency),
    "import": ("the import", probes.importing),
    "originals": ("the original releases from PyPI, {0.originals:,} records", probes.original_releases),
}


def run(name: str, setting: Setting) -> Part:
    title, suite = SUITES[name]
    rows = suite(setting)
    notes = (f"{contestant} did not run: {why}" for contestant, why in setting.failures.items())
    return Part(title.format(setting.sizes), rows, tuple(notes))
