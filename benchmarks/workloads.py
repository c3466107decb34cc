"""The sizes of the workloads, at scale 1 those of the contract, and the words the parent and its workers exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How much every workload records; all of them are counts."""

    experiments: int = 3
    episodes: int = 10
    steps: int = 100_000  # of each episode
    readme_steps: int = 100_000  # training records of each model
    readme_tests: int = 50  # testing records of each model
    keepers: int = 30_000
    keeper_records: int = 10
    attempts: int = 1_000  # the contract's row says 10,000: `--attempts 10000`
    attempt_records: int = 100
    shape_records: int = 300_000
    memory_from: int = 3_000_000
    memory_to: int = 30_000_000
    originals_steps: int = 1_000  # of each episode: 30,000 records in all

    @property
    def headline(self) -> int:
        return self.experiments * self.episodes * self.steps

    @property
    def readme(self) -> int:
        return 2 * (self.readme_steps + self.readme_tests)

    @property
    def many_keepers(self) -> int:
        return self.keepers * self.keeper_records

    @property
    def many_attempts(self) -> int:
        return self.attempts * self.attempt_records

    @property
    def originals(self) -> int:
        return self.experiments * self.episodes * self.originals_steps

    def scaled(self, scale: float) -> Sizes:
        """The same workloads with fewer (or more) repetitions; the shape of each stays as it is."""

        def times(count: int, least: int) -> int:
            return max(least, round(count * scale))

        return Sizes(
            steps=times(self.steps, 10),
            readme_steps=times(self.readme_steps, 100),
            keepers=times(self.keepers, 10),
            attempts=times(self.attempts, 10),
            shape_records=times(self.shape_records, 1_000),
            memory_from=times(self.memory_from, 10_000),
            memory_to=times(self.memory_to, 100_000),
            originals_steps=min(self.originals_steps, times(self.originals_steps, 50)),
        )


@dataclass(frozen=True)
class Job:
    """What a worker is told: which contestant to run, where it may write, how much it records."""

    contestant: str
    folder: str
    sizes: Sizes


Measured = dict[str, float]  # seconds, bytes, nanoseconds or counts, by name
Contestant = Callable[[Job], Measured]
