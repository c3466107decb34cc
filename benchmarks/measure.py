"""Runs contestants alternately, each run in a fresh process, and keeps what every run measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks import helpers, originals
from benchmarks.workloads import Job, Measured, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 900.0  # seconds that a single run may take


@dataclass(frozen=True)
class Sample:
    """One figure of one contestant in all runs, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def times(self, factor: float) -> Sample:
        return Sample(tuple(value * factor for value in self.values))

    def less(self, other: Sample) -> Sample:
        """Differences round by round."""
        return Sample(tuple(a - b for a, b in zip(self.values, other.values, strict=False)))

    def over(self, other: Sample) -> Sample:
        """Ratios round by round: both of a round ran within seconds of each other."""
        return Sample(tuple(a / b for a, b in zip(self.values, other.values, strict=False) if b))


@dataclass
class Outcome:
    """All runs of some contestants: figures by name, and a sentence for each that could not run."""

    runs: dict[str, list[Measured]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def get(self, contestant: str, figure: str) -> Sample | None:
        """A figure of a contestant over all rounds; None where it did not run or does not report that figure."""
        values = tuple(run[figure] for run in self.runs.get(contestant, []) if figure in run)
        return Sample(values) if values else None


class RunFailedError(Exception):
    """A worker did not come to an answer; the text is the end of what it said."""


def _environment(first: Path) -> dict[str, str]:
    """This process's, with a folder to import from, and with .pyc files: an installed library has them too."""
    paths = [str(first), os.environ.get("PYTHONPATH", "")]
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def execute(command: Sequence[str], path: Path, scratch: Path) -> None:
    """Run a worker, and wait until none of its helpers is left to disturb the next one."""
    mark = uuid4().hex
    said = scratch / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT if path == ROOT else scratch,
            env=_environment(path) | {helpers.MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RunFailedError(f"not done after {PATIENCE:.0f} s") from None
    helpers.wait_for_end(mark)
    if code:
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
        raise RunFailedError(" / ".join(lines[-3:]) or f"exit code {code}")


def run_once(contestant: str, sizes: Sizes, folder: Path) -> Measured:
    """One run of one contestant in a fresh process; `folder` must not exist and is left with what was written."""
    scratch = Path(tempfile.mkdtemp(prefix="worker-", dir=folder.parent))
    answer = scratch / "answer.json"
    try:
        if contestant.startswith("originals."):
            name = contestant.removeprefix("originals.")
            target = originals.installed(originals.RELEASES[name[-3:]])
            shape = f"{sizes.experiments},{sizes.episodes},{sizes.originals_steps}"
            command = [str(originals.CHILD), name, str(folder), shape, str(target), str(answer)]
            execute([sys.executable, *command], target, scratch)
        else:
            job = json.dumps(asdict(Job(contestant, str(folder), sizes)))
            execute([sys.executable, "-m", "benchmarks.worker", job, str(answer)], ROOT, scratch)
        measured: Measured = json.loads(answer.read_text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return measured


def alternate(
    contestants: Sequence[str], runs: int, sizes: Sizes, folder: Path, tell: Callable[[str], None]
) -> Outcome:
    """Run all contestants `runs` times: A B C, B C A, C A B, ... so that the place in the order favours none."""
    outcome = Outcome({name: [] for name in contestants})
    for turn in range(runs):
        for name in _rotated(contestants, turn):
            if name in outcome.failures:
                continue
            tell(f"{name}, run {turn + 1} of {runs}")
            target = folder / f"run-{name}"
            try:
                outcome.runs[name].append(run_once(name, sizes, target))
            except (RunFailedError, originals.CannotInstallError) as error:
                outcome.failures[name] = str(error)
            finally:
                shutil.rmtree(target, ignore_errors=True)
    return outcome


def _rotated(names: Sequence[str], turn: int) -> Iterable[str]:
    at = turn % len(names)
    return [*names[at:], *names[:at]]


def start_times(statements: Sequence[str], runs: int) -> Outcome:
    """Seconds from the start to the end of `python -c statement`, seen from outside, alternately."""
    outcome = Outcome({statement: [] for statement in statements})
    environment = _environment(ROOT)
    for turn in range(-1, runs):  # the first round only warms the page cache and writes the .pyc files
        for statement in _rotated(statements, turn):
            start = perf_counter()
            command = [sys.executable, "-c", statement]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            seconds = perf_counter() - start
            if done.returncode:
                outcome.failures[statement] = (done.stderr.strip().splitlines() or ["no message"])[-1]
            elif turn >= 0:
                outcome.runs[statement].append({"seconds": seconds})
    return outcome
