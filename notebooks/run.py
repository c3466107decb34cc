"""Run notebooks from top to bottom and keep what they show.

Usage: python notebooks/run.py NOTEBOOK...

Each runs in a kernel of its own, in the folder where it lies, and is written back with its outputs. An error in a cell is
raised, and leaves the file as it was.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS_PER_CELL = 120


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook; its file stays as it is.

    Args:
        path: Of the notebook.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS_PER_CELL, kernel_name="python3", record_timing=False)
    client.execute(cwd=str(path.resolve().parent))
    notebook.metadata["language_info"] = {
        "name": "python"
    }  # without the version, which would change with every machine
    return notebook


def main(paths: list[str]) -> None:
    """Run each notebook and write it back."""
    for path in map(Path, paths):
        nbformat.write(executed(path), path)
        print(f"{path}: run")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
