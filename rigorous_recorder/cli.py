"""The command line, `rigorous-recorder`: each command is a function that brings what it needs when it is called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer looks at it)
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after collections of recorded experiments.")


@app.callback()
def _commands() -> None:
    """Without this, typer would make the only command of an app the app itself."""


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="The collection's folder.", readable=False)]) -> None:
    """Look at every byte of a collection. Exits with 0 if it is sound, else with 1. Changes nothing."""
    from .verification import verify_command

    raise typer.Exit(verify_command(path))


@app.command()
def selftest(
    folder: Annotated[
        Path, typer.Argument(help="A folder on the file system to try; nothing stays in it.", readable=False)
    ],
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the rounds.")] = False,
) -> None:
    """Try whether recording is safe on a file system. Exits with 0 if it is, else with 1."""
    from .selftest import selftest_command

    raise typer.Exit(selftest_command(folder, quick=quick))


@app.command()
def compact(path: Annotated[Path, typer.Argument(help="The collection's folder.", readable=False)]) -> None:
    """Put the many small files of a collection into few. Safe while experiments run."""
    from .collection import ExperimentCollection
    from .errors import RecorderError

    try:
        typer.echo(ExperimentCollection(path).compact())
    except RecorderError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """The entry point of `rigorous-recorder`."""
    app()
