"""The command: runs the suites, prints one table, and writes it into a document if asked to."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine, suites, table
from benchmarks.workloads import Sizes

DOCUMENT_HEAD = "# Performance\n"
STANDARD_OUTPUT = Path("-")


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"One of: {', '.join(suites.SUITES)}. Repeatable.")] = None,
    quick: Annotated[bool, typer.Option(help="A thirtieth of the size, three runs: to see that all works.")] = False,
    scale: Annotated[float, typer.Option(help="The size of the workloads, 1 being the contract's.")] = 1.0,
    runs: Annotated[int, typer.Option(help="Rounds of alternating runs.")] = 5,
    attempts: Annotated[int, typer.Option(help="How many experiments many-experiments makes; 0: 1,000 x scale.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where data is written; else the temporary folder.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="A document whose table is replaced by this run's; `-` prints it instead.")
    ] = None,
    section: Annotated[str, typer.Option(help="Of the document, when not the table of all suites is meant.")] = "",
) -> None:
    """Measure rigorous_recorder against the plain alternatives, side by side in one run."""
    if quick:
        scale, runs = scale / 30, min(runs, 3)
    sizes = Sizes().scaled(scale)
    if attempts:
        sizes = Sizes(**(vars(sizes) | {"attempts": attempts}))
    chosen = only or list(suites.SUITES)
    if unknown := [name for name in chosen if name not in suites.SUITES]:
        raise typer.BadParameter(f"no suite {', '.join(unknown)}; there are {', '.join(suites.SUITES)}")
    console, progress = Console(), Console(stderr=True)
    scratch = Path(tempfile.mkdtemp(prefix="rr-benchmarks-", dir=folder))
    conditions = machine.describe(str(scratch.parent))
    conditions["runs"] = f"{runs} alternating rounds, scale {scale:.3g}; every figure is `median [lowest..highest]`"
    if scale != 1:
        conditions["note"] = "the targets are meant for scale 1"
    parts: list[table.Part] = []
    try:
        with progress.status("starting") as status:
            for name in chosen:

                def tell(text: str, suite: str = name) -> None:
                    status.update(f"{suite}: {text}")

                place = scratch / name
                place.mkdir()
                parts.append(suites.run(name, suites.Setting(sizes, runs, place, tell)))
                shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    conditions["load after"] = machine.load()
    if markdown == STANDARD_OUTPUT:
        print(table.for_markdown(parts, conditions))
        return
    wide = Console(width=max(console.width, 200)) if not console.is_terminal else console
    wide.print(table.for_terminal(parts))
    for note in table.notes_of(parts):
        wide.print(note, style="red", markup=False)
    for label, text in conditions.items():
        wide.print(f"{label}: {text}", markup=False, highlight=False)
    if markdown:
        before = markdown.read_text(encoding="utf-8") if markdown.exists() else DOCUMENT_HEAD
        text = table.put_between_markers(before, table.for_markdown(parts, conditions), section)
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
