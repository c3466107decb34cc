"""A row of the table, how figures are written in it, and the table itself for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.measure import Outcome, Sample

HEADINGS = ("measured", "ours", "against", "theirs", "ratio", "target", "")


def markers(section: str = "") -> tuple[str, str]:
    """The comments between which a document has a table: the one of all suites, or that of a section of its own."""
    name = f"benchmarks {section}".rstrip()
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


@dataclass(frozen=True)
class Row:
    """One line; every figure is written as `median [lowest..highest]`."""

    measured: str
    ours: str
    against: str = ""
    theirs: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.measured, self.ours, self.against, self.theirs, self.ratio, self.target, self.verdict)


@dataclass(frozen=True)
class Part:
    """The rows of one suite under one heading."""

    title: str
    rows: list[Row]
    notes: tuple[str, ...] = ()  # a sentence for each contestant that could not run


@dataclass(frozen=True)
class Unit:
    """What a figure is multiplied with, and what then stands behind it."""

    factor: float
    name: str

    def show(self, sample: Sample) -> str:
        scaled = sample.times(self.factor)
        low, high = min(scaled.values), max(scaled.values)
        text = f"{number(scaled.median)} {self.name}".rstrip()
        return text if low == high else f"{text} [{number(low)}..{number(high)}]"


RATIO = Unit(1, "")
SECONDS = Unit(1, "s")
MILLISECONDS = Unit(1e3, "ms")


def per_record(records: float) -> Unit:
    return Unit(1e9 / records, "ns")


def number(value: float) -> str:
    """Three significant digits, and no more than are read."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 or not size else f"{value:.3f}"


def verdict(value: float, target: float | None) -> str:
    if target is None:
        return ""
    return "reached" if value <= target else "missed"


@dataclass(frozen=True)
class Figure:
    """A figure of a contestant, and the unit it is shown in (also what makes two figures comparable)."""

    contestant: str
    name: str
    unit: Unit


def _shown(outcome: Outcome, figure: Figure) -> str:
    sample = outcome.get(figure.contestant, figure.name)
    if sample is not None:
        return figure.unit.show(sample)
    return "did not run" if figure.contestant in outcome.failures else "not measured"


def compare(
    outcome: Outcome,
    measured: str,
    ours: Figure,
    against: str,
    theirs: Figure,
    target: float | None = None,
    write: Callable[[float], str] = number,
) -> Row:
    """A row with both figures and the ratio of their medians, its spread that of the ratios round by round."""
    mine, other = outcome.get(ours.contestant, ours.name), outcome.get(theirs.contestant, theirs.name)
    if mine is None or other is None:
        return Row(measured, _shown(outcome, ours), against, _shown(outcome, theirs))
    a, b = mine.times(ours.unit.factor), other.times(theirs.unit.factor)
    ratio, rounds = a.median / b.median, a.over(b).values
    shown = f"{write(ratio)}x"
    if min(rounds) != max(rounds):
        shown += f" [{write(min(rounds))}..{write(max(rounds))}]"
    aim = "" if target is None else f"at most {target:g}x"
    return Row(measured, ours.unit.show(mine), against, theirs.unit.show(other), shown, aim, verdict(ratio, target))


def alone(outcome: Outcome, measured: str, figure: Figure, target: float | None = None, aim: str = "") -> Row:
    """A row of a figure that is compared with nothing, or with a fixed target in its own unit."""
    sample = outcome.get(figure.contestant, figure.name)
    if sample is None:
        return Row(measured, _shown(outcome, figure))
    value = sample.median * figure.unit.factor
    aim = aim or ("" if target is None else f"at most {target:g} {figure.unit.name}")
    return Row(measured, figure.unit.show(sample), target=aim, verdict=verdict(value, target))


def for_terminal(parts: Iterable[Part]) -> Table:
    table = Table(title="rigorous_recorder: benchmarks", show_lines=False, row_styles=("", "dim"))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for part in parts:
        table.add_section()
        table.add_row(f"[bold]{escape(part.title)}[/bold]")
        for row in part.rows:
            *cells, judged = map(escape, row.cells)
            colour = {"reached": "green", "missed": "red"}.get(judged, "")
            table.add_row(*cells, f"[{colour}]{judged}[/{colour}]" if colour else judged)
    return table


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def notes_of(parts: Iterable[Part]) -> list[str]:
    return [note for part in parts for note in part.notes]


def for_markdown(parts: Sequence[Part], conditions: dict[str, str]) -> str:
    lines = [f"- {name}: {text}" for name, text in conditions.items()]
    lines += ["", line(HEADINGS), line(["---"] * len(HEADINGS))]
    for part in parts:
        lines.append(line([f"**{part.title}**", *[""] * (len(HEADINGS) - 1)]))
        lines += [line(row.cells) for row in part.rows]
    if notes := notes_of(parts):
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines)


def put_between_markers(text: str, table: str, section: str = "") -> str:
    """The document with everything between a section's two marker comments replaced; without them it is put at the end."""
    begin, end = markers(section)
    block = f"{begin}\n\n{table}\n\n{end}"
    if begin not in text or end not in text:
        return f"{text.rstrip()}\n\n{block}\n"
    before, _, rest = text.partition(begin)
    return before + block + rest.partition(end)[2]
