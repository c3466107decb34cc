"""What claims and listings cost far beyond one machine: counted, simulated, with assumed latencies and prices.

    python -m benchmarks.scale [--quick] [--markdown docs/scale.md]

*Counted* is what the real code asks of the file system (`costs.py`), *simulated* a race of the real code in simulated time
(`race.py`), *fitted* a line through what was counted, and *assumed* what stands in `STORES`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from benchmarks import costs, machine, race
from benchmarks.counted import BYTES_READ, ENTRIES, KINDS, Counts
from benchmarks.table import line, number, put_between_markers

PACK = 64 << 20
"""Bytes of logs in a compacted pack (docs/format.md)."""
LOG_BYTES = 20
"""Bytes of the headline's record in a log, of which packs are filled; assumed, as all records are others."""


class Store(NamedTuple):
    """What a request takes, assumed.

    Attributes:
        latency: Seconds of a request, made one after the other.
        names: In one reply of a listing.
        bandwidth: Bytes a second of one connection.
        capacity: Requests that are answered a second, for the race.
        dear, cheap: US dollars for a thousand requests that list or make something, and that read.
    """

    latency: float
    names: int
    bandwidth: float
    capacity: float
    dear: float = 0.0
    cheap: float = 0.0


STORES = {
    "NFS-like": Store(0.001, 1000, 100e6, 20_000),
    "object store": Store(0.03, 1000, 80e6, 3_500, 0.005, 0.0004),
}
"""S3 Standard, us-east-1: https://aws.amazon.com/s3/pricing/ and the performance guidelines of its user guide, as known in
November 2026 from public pages that quote them; removing is free. The latencies are the lower end of what is told."""

DEAR = ("list", "make", "write")
BEFORE, AFTER = "before compaction", "after compaction"


@dataclass
class Line:
    """A count as a line over the number of attempts, through the two largest sizes, and how far off it is at the smallest."""

    fixed: float
    each: float
    off: float

    def at(self, attempts: float) -> float:
        return max(0.0, self.fixed + self.each * attempts)


@dataclass
class Found:
    """All that was counted and simulated."""

    sizes: list[int]
    asked: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    attempt: list[Counts] = field(default_factory=list)
    compaction: list[Counts] = field(default_factory=list)
    races: list[tuple[str, int, race.Outcome]] = field(default_factory=list)


def fit(sizes: list[int], values: list[float]) -> Line:
    """A line through the last two of some values."""
    each = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
    fixed = values[-1] - each * sizes[-1]
    told = fixed + each * sizes[0]
    return Line(fixed, each, abs(told - values[0]) / max(values[0], 1.0))


def count(folder: Path, sizes: list[int]) -> Found:
    """Ask all questions at all sizes, before and after compaction."""
    found = Found(sizes)
    for size in sizes:
        path = str(folder / f"study{size}")
        costs.build(path, size)
        for when in (BEFORE, AFTER):
            for question in costs.QUESTIONS:
                found.asked.setdefault((question, when), []).append(costs.ask(question, path))
            if when == BEFORE:
                found.compaction.append(costs.compacted(path))
        found.attempt.append(costs.attempts(path))
        shutil.rmtree(path)
    return found


def seconds(counts: dict[str, float], store: Store) -> float:
    """How long requests take one after the other; a long listing takes a request for each of its replies."""
    replies = sum(counts[kind] for kind in KINDS) + counts[ENTRIES] / store.names
    return replies * store.latency + counts[BYTES_READ] / store.bandwidth


def dollars(counts: dict[str, float], store: Store) -> float:
    """What the requests are charged with."""
    dear = sum(counts[kind] for kind in DEAR) + counts[ENTRIES] / store.names
    return (dear * store.dear + (counts["read"] + counts["look"]) * store.cheap) / 1000


def at(found: Found, question: str, when: str, attempts: int) -> dict[str, float]:
    """The counts of a question at any number of attempts, by the fitted lines."""
    asked = found.asked[question, when]
    return {name: fit(found.sizes, [one[name] for one in asked]).at(attempts) for name in (*KINDS, ENTRIES, BYTES_READ)}


# ---- tables ----------------------------------------------------------------------------------------------------------


def rows(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, body)])


def linear(one: Line, unit: str = "") -> str:
    """A line, as `7 + 3.0 n`."""
    fixed = f"{max(0.0, one.fixed):,.0f}{unit}"
    return fixed if abs(one.each) < 0.0005 else f"{fixed} + {number(one.each)} n"


def counted(found: Found) -> str:
    """Requests, names listed and bytes read, as lines over n."""
    body = []
    for (question, when), asked in found.asked.items():
        requests = fit(found.sizes, [costs.requests(one) for one in asked])
        names = fit(found.sizes, [one[ENTRIES] for one in asked])
        read = fit(found.sizes, [one[BYTES_READ] for one in asked])
        off = max(requests.off, names.off)
        body.append((
            question, when, linear(requests), linear(names), linear(read), f"{off:.1%}", f"{asked[-1]['seconds']:.3f} s",
        ))  # fmt: skip
    head = (
        "question",
        "",
        "requests",
        "names listed",
        "bytes read",
        "off at the smallest",
        f"at {found.sizes[-1]:,} here",
    )
    return rows(head, body)


def extrapolated(found: Found, sizes: tuple[int, ...]) -> str:
    """Seconds and dollars for each store, by the fitted counts."""
    body = []
    for question, when in found.asked:
        cells = []
        for store in STORES.values():
            for attempts in sizes:
                counts = at(found, question, when, attempts)
                price = dollars(counts, store)
                cells.append(f"{number(seconds(counts, store))} s" + (f", ${price:.3g}" if price else ""))
        body.append((question, when, *cells))
    head = ("question", "", *(f"{name}, n = {attempts:,}" for name in STORES for attempts in sizes))
    return rows(head, body)


def raced(found: Found) -> str:
    """The races."""
    body = []
    for name, writers, outcome in found.races:
        times, tries = sorted(outcome.seconds), outcome.tries
        each = outcome.requests / writers
        price = sum(tries) * STORES[name].dear / 1000
        body.append((
            name, f"{writers:,}", f"{number(times[writers // 2])} s", f"{number(times[-1])} s", number(each),
            f"{max(tries):,}", str(outcome.refused), f"${price:.3g}" if price else "",
        ))  # fmt: skip
    head = (
        "store",
        "writers",
        "half have a number",
        "all have",
        "requests each",
        "most tries",
        "gave up",
        "tries cost",
    )
    return rows(head, body)


def planned(records: tuple[int, ...]) -> str:
    """The plan's requests for a collection of packs, by arithmetic alone."""
    store = STORES["object store"]
    body = []
    for amount in records:
        packs = -(-amount * LOG_BYTES // PACK)
        listing = -(-packs // store.names)
        opening = 2 * packs
        body.append((
            f"{amount:.0e}".replace("e+", "e"), f"{packs:,}", f"{listing:,}", f"{number(packs * store.dear / 1000)}",
            f"{number(opening * store.latency)} s", f"{number(opening * store.latency / 64)} s",
            f"{number(opening * store.cheap / 1000)}",
        ))  # fmt: skip
    listed, opened = "requests to list them", "to open all, one by one"
    head = ("records", "packs", listed, "$ to write them", opened, "64 at once", "$ to open all")
    return rows(head, body)


def report(found: Found, sizes: tuple[int, ...], conditions: dict[str, str]) -> str:
    """All tables as Markdown."""
    attempt = ", ".join(f"{found.attempt[-1][kind]} {kind}" for kind in KINDS if found.attempt[-1][kind])
    same = {costs.requests(one) for one in found.attempt}
    compaction = fit(found.sizes, [costs.requests(one) for one in found.compaction])
    said = (
        f"An attempt of a process that has ended the one before it, from claim to end: {attempt}; "
        f"in all {sorted(same)} requests at these sizes. Compacting all of it: {linear(compaction)} requests."
    )
    parts = [
        "\n".join(f"- {name}: {text}" for name, text in conditions.items()),
        f"### Counted, n being the number of attempts ({', '.join(f'{size:,}' for size in found.sizes)})",
        counted(found),
        said,
        "### Counted here, fitted, with assumed latencies and prices: requests one after the other",
        extrapolated(found, sizes),
        "### Simulated: all writers claim their first number at once",
        raced(found),
        "### The plan: packs as objects, by arithmetic",
        planned((10**6, 10**9, 10**10, 10**11)),
    ]
    return "\n\n".join(parts)


def main(
    quick: Annotated[bool, typer.Option(help="A twentieth of the size: to see that all works.")] = False,
    writers: Annotated[
        list[int] | None, typer.Option(help="How many race, besides 1, 16, 64 and 256. Repeatable.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where data is written; else the temporary folder.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="A document whose tables are replaced by this run's.")] = None,
) -> None:
    """Count, simulate and extrapolate what claims and listings cost."""
    console = Console()
    scratch = Path(tempfile.mkdtemp(prefix="rr-scale-", dir=folder))
    start = time.perf_counter()
    try:
        found = count(scratch, [20, 50, 100] if quick else [500, 2_000, 6_000])
        for many in sorted({1, 16, 64, *([] if quick else [256]), *(writers or [])}):
            for name, store in STORES.items():
                server = race.Server(name, store.latency, store.capacity)
                path = str(scratch / f"race-{name.replace(' ', '-')}-{many}")
                found.races.append((name, many, race.real(path, many, server)))
        conditions = machine.describe(str(scratch.parent))
        conditions["took"] = f"{time.perf_counter() - start:.0f} s"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = report(found, (10_000, 1_000_000), conditions)
    console.print(text, markup=False, highlight=False)
    if markdown:
        document = markdown.read_text(encoding="utf-8")
        markdown.write_text(put_between_markers(document, text), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
