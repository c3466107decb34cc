"""Many writers that claim the next number at once: the real code in simulated time.

In simulated time a request takes what it is said to take, and everything else nothing. Each writer is a thread that runs
`store.claim.claim` on a real folder; only one of them runs at a time, the one whose turn is next by the simulated clock.
"""

from __future__ import annotations

import heapq
import random
import threading
from dataclasses import dataclass, field
from unittest import mock

from benchmarks.counted import KINDS, metered
from rigorous_recorder.store import claim as claims


@dataclass(frozen=True)
class Server:
    """What keeps the claims.

    Attributes:
        latency: Seconds that a request takes when nothing else goes on.
        capacity: Requests that it answers a second, one after the other.
    """

    name: str
    latency: float
    capacity: float


@dataclass
class Outcome:
    """How a race went.

    Attributes:
        numbers: That were claimed.
        seconds: By writer, until it had its number.
        tries: By writer, how often it tried to make a claim.
        requests: In all.
        refused: Writers that gave up.
    """

    numbers: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    requests: int = 0
    refused: int = 0


class Clock:
    """Simulated time, and a server in it."""

    def __init__(self, server: Server, seed: int) -> None:
        self.now = 0.0
        self.dice = random.Random(seed)
        self._server = server
        self._free = 0.0
        self._turns: list[tuple[float, int, threading.Event]] = []
        self._count = 0

    def answered(self, when: float) -> tuple[float, float]:
        """When a request made at a time is carried out, and when its answer is there; a tenth of its way is chance."""
        latency = self._server.latency * self.dice.uniform(0.9, 1.1)
        self._free = max(self._free, when + latency / 2) + 1 / self._server.capacity
        return self._free, self._free + latency / 2

    def sleep(self, seconds: float) -> None:
        """Let this thread go on so much later, and the others until then."""
        mine = threading.Event()
        self.enter(seconds, mine)
        self.leave()
        mine.wait()

    def enter(self, seconds: float, turn: threading.Event) -> None:
        self._count += 1
        heapq.heappush(self._turns, (self.now + seconds, self._count, turn))

    def leave(self) -> None:
        """Whose turn is next goes on."""
        if self._turns:
            self.now, _, turn = heapq.heappop(self._turns)
            turn.set()

    def request(self, _kind: str) -> None:
        """A request: the writer waits until it is carried out; the way back is added to its next step."""
        carried_out, answer = self.answered(self.now)
        self.sleep(carried_out - self.now)
        _late.seconds = answer - carried_out


_late = threading.local()


def real(path: str, writers: int, server: Server, seed: int = 0) -> Outcome:
    """The race of the real code, in a collection at a path."""
    clock, outcome = Clock(server, seed), Outcome()
    claims.make_collection(path)
    tries: dict[int, int] = {}
    kept = claims._make

    def request(kind: str) -> None:
        back, _late.seconds = getattr(_late, "seconds", 0.0), 0.0
        if back:
            clock.sleep(back)
        clock.request(kind)

    def tried(path: str, claim: claims.ClaimName, failures: int) -> claims.Claimed | None:
        me = threading.get_ident()
        tries[me] = tries.get(me, 0) + 1
        return kept(path, claim, failures)

    def run(turn: threading.Event) -> None:
        turn.wait()
        try:
            claimed = claims.claim(path, {}, claims.ALWAYS)
            outcome.numbers.append(claimed.claim.number)
            outcome.seconds.append(clock.now + getattr(_late, "seconds", 0.0))
            outcome.tries.append(tries[threading.get_ident()])
        except OSError:
            outcome.refused += 1
        finally:
            clock.leave()

    threads = []
    for _ in range(writers):
        turn = threading.Event()
        clock.enter(clock.dice.random() * server.latency, turn)
        threads.append(threading.Thread(target=run, args=(turn,)))
        threads[-1].start()
    with (
        metered(request) as meter,
        mock.patch.object(claims, "_make", tried),
        mock.patch.object(claims.time, "sleep", clock.sleep),
    ):
        clock.leave()
        for thread in threads:
            thread.join()
    outcome.requests = sum(meter.counts[kind] for kind in KINDS)
    return outcome
