"""Run all examples, each in a process of its own, on a new folder; stops with an error when anything is unexpected.

Usage: python examples/demo.py FOLDER

Each run makes a new folder in FOLDER, named after the time (UTC), and leaves it there to look at.
"""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent


def new_folder(parent: Path) -> Path:
    """Make a folder that nobody else has."""
    folder = parent / f"{datetime.now(tz=UTC):%Y-%m-%d_%H-%M-%S_%f}"
    folder.mkdir(parents=True)
    return folder


def run(example: str, folder: Path) -> None:
    """Run one example; its failure is ours."""
    print(f"\n--- python examples/{example} {folder}", flush=True)
    finished = subprocess.run([sys.executable, str(HERE / example), str(folder)], check=False)
    if finished.returncode != 0:
        sys.exit(f"examples/{example} ended with code {finished.returncode}")


def main(parent: str) -> None:
    """Run the three examples."""
    folder = new_folder(Path(parent))
    run("readme_calls.py", folder / "rooms")
    run("digits_study.py", folder)
    run("report.py", folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
