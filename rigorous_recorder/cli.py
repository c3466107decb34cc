"""The command line, `rigorous-recorder`: each command is a function that brings what it needs when it is called."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003  (typer looks at it)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after collections of recorded experiments.")


def _say_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"rigorous_recorder {__version__}")
        raise typer.Exit


@contextmanager
def _output() -> Iterator[None]:
    """Around what writes to stdout: one that is full is an error of one line, and the exit code 2."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE or error.filename is not None:  # nobody listens; or a file, and not the output
            raise
        from .store import files

        os.dup2(files.open_write(os.devnull), 1)  # else what is still to be written is tried again at exit
        typer.echo(f"The output cannot be written: {error.strerror or error}. Hint: where does it go?", err=True)
        raise typer.Exit(2) from None


@app.callback()
def _commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before the command."""


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="The collection's folder.", readable=False)]) -> None:
    """Look at every byte of a collection. Exits with 0 if it is sound, else, or if there is none, with 1. Changes nothing."""
    from .verification import verify_command

    with _output():
        code = verify_command(path)
    raise typer.Exit(code)


@app.command()
def selftest(
    folder: Annotated[
        Path, typer.Argument(help="A folder on the file system to try; nothing stays in it.", readable=False)
    ],
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the rounds.")] = False,
) -> None:
    """Try whether recording is safe on a file system. Exits with 0 if it is, else with 1."""
    from .selftest import selftest_command

    with _output():
        code = selftest_command(folder, quick=quick)
    raise typer.Exit(code)


@app.command()
def compact(path: Annotated[Path, typer.Argument(help="The collection's folder.", readable=False)]) -> None:
    """Put the many small files of a collection into few. Safe while experiments run.

    Exits with 1 if it could not, or if something was left because it is damaged or cannot be read.
    """
    from .collection import ExperimentCollection
    from .errors import NotACollectionError, RecorderError, for_readers

    try:
        report = ExperimentCollection(path).compact()
    except RecorderError as error:
        typer.echo(for_readers(str(error)) if isinstance(error, NotACollectionError) else str(error), err=True)
        raise typer.Exit(1) from None
    with _output():
        typer.echo(report)
    if report.harmed:
        typer.echo(
            f"{report.harmed:,} left since damaged, or not to be read. Hint: rigorous-recorder verify {path} tells what.",
            err=True,
        )
        raise typer.Exit(1)


def main() -> None:
    """The entry point of `rigorous-recorder`."""
    app()
