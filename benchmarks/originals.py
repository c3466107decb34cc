"""Installs the original releases of rigorous-recorder from PyPI into folders of their own, beside these benchmarks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name(".originals")
CHILD = Path(__file__).with_name("originals_child.py")
RELEASES = {"002": "0.0.2", "144": "1.4.4"}


class CannotInstallError(Exception):
    """A release did not install; the text says why."""


def installed(version: str) -> Path:
    """The folder with that release and its dependencies; installed by pip at the first call."""
    target = FOLDER / version
    if target.is_dir():
        return target
    partial = FOLDER / f"{version}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    arguments = ["--quiet", "--disable-pip-version-check", "--target", str(partial), f"rigorous-recorder=={version}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotInstallError(f"rigorous-recorder {version} could not be installed: {last}")
    partial.rename(target)
    return target
