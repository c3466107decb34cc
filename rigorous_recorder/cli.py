"""The command line: `rigorous-recorder COMMAND`. Each command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after collections of recorded experiments.")


@app.callback()
def _commands() -> None:
    """Have commands, also while there is only one."""


@app.command()
def compact(path: Annotated[Path, typer.Argument(help="The collection's folder.")]) -> None:
    """Put the many small files of a collection into few. Safe while experiments run."""
    from .collection import ExperimentCollection
    from .errors import RecorderError

    try:
        typer.echo(ExperimentCollection(path).compact())
    except RecorderError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Run the command line."""
    app()
