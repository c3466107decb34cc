"""The suites that ask a process about itself (memory, latency, imports), and that of the original releases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.measure import Sample, start_times
from benchmarks.table import MILLISECONDS, Figure, Row, Unit, alone, compare, per_record, verdict

if TYPE_CHECKING:
    from benchmarks.suites import Setting

MB = Unit(1e-6, "MB")
MICROSECONDS = Unit(1e-3, "µs")
BYTES = Unit(1, "B")


def memory(setting: Setting) -> list[Row]:
    """Growth between the two marks, in all and per record; pages of a log that is still mapped count as `file`."""
    outcome = replace(setting, runs=min(setting.runs, 3)).alternate("probes.memory")
    name = "probes.memory"
    if name in outcome.failures:
        return [Row("growth", "did not run")]
    runs = outcome.runs[name]
    rows = []
    for kind, figures in (("anonymous", ("anon",)), ("of files", ("file",)), ("both", ("anon", "file"))):
        growth = Sample(tuple(sum(run[figure] for figure in figures) for run in runs))
        each = Sample(tuple(value / run["records"] for value, run in zip(growth.values, runs, strict=True)))
        aim = ("at most 64 MB", verdict(growth.median, 64e6)) if kind == "both" else ("", "")
        rows.append(Row(f"growth, {kind}", MB.show(growth), target=aim[0], verdict=aim[1]))
        rows.append(Row("  per record", BYTES.show(each)))
    highest = Figure(name, "highest", MB)
    rows.append(alone(outcome, "highest, over the process before its first record", highest, 64.0))
    rows.append(alone(outcome, "that process before its first record", Figure(name, "before", MB)))
    return rows


def latency(setting: Setting) -> list[Row]:
    ours, empty = "probes.latency", "probes.latency_empty"
    outcome = setting.alternate(ours, empty)
    targets = {"p50": None, "p99": None, "p99.9": 10.0, "max": 20_000.0}
    rows = []
    for name, target in targets.items():
        mine, noise = Figure(ours, name, MICROSECONDS), Figure(empty, name, MICROSECONDS)
        row = compare(outcome, f"one call, {name}", mine, "an empty call", noise)
        judged = alone(outcome, row.measured, mine, target, "" if target is None else f"under {target:,.0f} µs")
        rows.append(replace(row, target=judged.target, verdict=judged.verdict))
    return rows


def importing(setting: Setting) -> list[Row]:
    setting.tell("import times")
    runs = max(11, setting.runs)
    ours = "from rigorous_recorder import ExperimentCollection, RecordKeeper"  # not lazily: what recording needs
    statements = ("pass", ours, "import msgspec", "import polars")
    outcome = start_times(statements, runs)
    setting.failures.update(outcome.failures)
    start = outcome.get("pass", "seconds")
    rows = []
    for statement, target in ((ours, 0.06), ("import msgspec", None), ("import polars", None)):
        if statement in outcome.failures:
            rows.append(Row(f"`{statement}`", "did not run"))
            continue
        seconds = outcome.get(statement, "seconds")
        if seconds and start:
            more = seconds.less(start)
            aim = ("", "") if target is None else ("under 60 ms", verdict(more.median, target))
            what = f"`{statement}`, more than the bare start"
            interpreter = MILLISECONDS.show(start)
            rows.append(Row(what, MILLISECONDS.show(more), "the bare start", interpreter, "", *aim))
    return [*rows, *_modules(setting)]


def _modules(setting: Setting) -> list[Row]:
    """Which of pandas, polars, numpy and super-hash a process that only records has imported."""
    name = "probes.modules"
    outcome = replace(setting, runs=1).alternate(name)
    if name in outcome.failures:
        return [Row("heavy libraries imported", "did not run")]
    (run,) = outcome.runs[name]
    rows = []
    for when, words in (("import", "after the import"), ("record", "after recording")):
        found = [key.split()[1] for key in run if key.startswith(f"{when} ")]
        text = ", ".join(found) or "none"
        rows.append(Row(f"heavy libraries imported {words}", text, target="none", verdict=verdict(len(found), 0)))
    return rows


def original_releases(setting: Setting) -> list[Row]:
    releases = {
        "originals.collection_002": "0.0.2, collection (all lost by a SIGKILL)",
        "originals.collection_144": "1.4.4, collection (all lost by a SIGKILL)",
        "originals.yaml_144": "1.4.4, live YAML",
    }
    smaller = replace(setting.sizes, steps=setting.sizes.originals_steps)
    outcome = replace(setting, sizes=smaller).alternate(*releases, "headline.ours", "headline.append")
    ns = per_record(smaller.headline)
    rows = []
    for name, what in releases.items():
        if name in outcome.failures:
            rows.append(Row("record + keepers + save", "", what, "could not be run"))
            continue
        for figure, part in (("loop", "recording loop"), ("total", "record + keepers + save")):
            mine, theirs = Figure("headline.ours", figure, ns), Figure(name, figure, ns)
            rows.append(compare(outcome, part, mine, what, theirs, write="{:.4f}".format))
    return rows
