"""Open the recorded digits study in another process and print what is in it; fails when records are missing.

Usage: python examples/report.py FOLDER
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from rigorous_recorder import Experiment, ExperimentCollection

COLOURS = {"finished": "green", "failed": "red", "killed": "red", "interrupted": "yellow"}


def attempt_line(attempt: Experiment, which: int) -> str:
    """Describe one attempt in a line."""
    start = datetime.fromtimestamp(attempt.start_time or 0, tz=UTC)
    took = "" if attempt.duration is None else f" for {attempt.duration:.2f} s"  # None while it runs
    colour = COLOURS.get(attempt.state, "cyan")
    info = " ".join(f"{key}={value}" for key, value in attempt.info.items())
    return (
        f"attempt {which}: [{colour}]{attempt.state}[/], {attempt.n_records} records, "
        f"{escape(info)}, at {start:%H:%M:%S} UTC{took}"
    )


def tree_of(collection: ExperimentCollection) -> Tree:
    """Draw the experiments, their attempts, and what each attempt recorded in its phases."""
    tree = Tree(f"[bold]{escape(str(collection.path))}[/]: {len(collection)} records")
    for number in collection.experiment_numbers:
        branch = tree.add(f"experiment {number}")
        attempts = [each for each in collection.experiments if each.number == number]
        for which, attempt in enumerate(attempts, start=1):
            leaf = branch.add(attempt_line(attempt, which))
            if attempt.state == "failed":
                leaf.add(f"[red]{escape(str(attempt.error))}[/]")
            for keeper in collection.keepers(experiment_number=number, error_number=attempt.error_number):
                for child in keeper.children:
                    leaf.add(f"{escape(str(child['phase']))}: {len(child)} records")
    return tree


def losses_of(collection: ExperimentCollection) -> Table:
    """Tabulate, per learning rate, what the finished attempts reached."""
    table = Table("learning rate", "finished", "mean training loss", "last epoch's", "test accuracy")
    rates = sorted({attempt.info["lr"] for attempt in collection.experiments})
    for lr in rates:
        # `had_error == False` means "finished well" everywhere: it is missing as long as an attempt runs.
        finished = [each for each in collection.under(lr=lr).records if each["had_error"] is False]
        training = [each for each in finished if each["phase"] == "training"]
        last = max(each["epoch"] for each in finished)
        tested = [each for each in finished if each["phase"] == "testing" and each["epoch"] == last]
        table.add_row(
            str(lr),
            str(len({each["experiment_number"] for each in finished})),
            f"{mean(each['loss'] for each in training):.3f}",
            f"{mean(each['loss'] for each in training if each['epoch'] == last):.3f}",
            f"{mean(each['accuracy'] for each in tested):.1%}",
        )
    return table


def problems_of(collection: ExperimentCollection, acknowledged: int) -> list[str]:
    """Say in sentences what is not as it must be."""
    problems = []
    states = [(each.number, each.state) for each in collection.experiments]
    expected = [
        (1, "finished"), (2, "finished"), (3, "failed"), (3, "finished"),
        (4, "killed"), (4, "finished"), (5, "finished"), (6, "finished"),
    ]  # fmt: skip
    if states != expected:
        problems.append(f"the attempts should be {expected}, but are {states}")
    recovered = sum(each.n_records for each in collection.experiments if each.state == "killed")
    # The process may have been killed after it stored a record and before it could say so.
    if not acknowledged <= recovered <= acknowledged + 1:
        problems.append(f"{acknowledged} records were acknowledged, but {recovered} were recovered")
    counted = sum(each.n_records for each in collection.experiments)
    if len(collection.records) != counted:
        problems.append(f"the attempts have {counted} records, but the collection has {len(collection.records)}")
    return problems


def main(folder: str) -> None:
    """Print the tree, the losses, and the acknowledged against the recovered records."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    collection = ExperimentCollection(Path(folder) / "study")
    acknowledged = json.loads((Path(folder) / "acknowledged.json").read_text())

    console.print(tree_of(collection))
    console.print(losses_of(collection))
    for attempt in collection.experiments:
        if attempt.state == "killed":
            console.print(
                f"killed by SIGKILL, experiment {attempt.number}: "
                f"{acknowledged} records acknowledged, {attempt.n_records} recovered"
            )
    problems = problems_of(collection, acknowledged)
    if problems:
        sys.exit("\n".join(f"unexpected: {each}" for each in problems))
    console.print("[green]Nothing that was acknowledged is lost.[/]")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
