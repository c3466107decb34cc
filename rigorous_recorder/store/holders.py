"""Holders: the processes that may still write into an attempt, told by the logs that they have not let go of.

A writer cuts its last log to what is used when it closes or rests it; its full logs keep their zeros. So whoever has a log
open is seen by the last unit that there is of a writer. Nobody has one open who is gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from . import files, layout, machine
from . import unit as u
from .attempt import SILENCE, machine_of
from .claim import server_now
from .listing import names_until_settled
from .packed import list_packs
from .replay import spans
from .snapshot import GONE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .snapshot import AttemptPlace
    from .unit import Header


class Holder(NamedTuple):
    """A process that has a log open: its host and its process id there; both None where the log's header is damaged."""

    host: str | None
    pid: int | None

    def __str__(self) -> str:
        """The process, as an error names it."""
        if self.host is None:
            return "a process whose log has a damaged header, and was modified just now,"
        return f"process {self.pid} of the host {self.host!r}"


def holder_of(header: Header) -> Holder:
    """The process that wrote a unit."""
    return Holder(header.host, header.pid)


def holders(path: str, place: AttemptPlace, own: Collection[str] = ()) -> Iterator[Holder]:
    """The processes that have logs of an attempt open, as far as this can be known from here.

    One on this host has while it lives. Of one on another host, or where a process of that id may be another one, its silence
    tells: neither was its log modified for five minutes, nor has it beaten. A time that is yet to come tells of a clock that
    is wrong, and of nothing else.

    Args:
        path: Of the collection.
        place: The attempt.
        own: The ids of writers that do not count.

    Raises:
        OSError: The folder or a log in it cannot be read.
    """
    last: dict[str, tuple[int, str]] = dict.fromkeys(own, (layout.MAX_NUMBER, ""))
    for writer, n in list_packs(path).units(place.id):
        last[writer] = max(last.get(writer, (0, "")), (n, ""))
    for file in names_until_settled(place.folder):
        unit = layout.parse_unit(file)
        if unit is not None:
            last[unit.writer] = max(last.get(unit.writer, (0, "")), (unit.n, "" if unit.sealed else file))
    for _, file in last.values():
        if file:
            try:
                yield from _holder(path, f"{place.folder}/{file}")
            except OSError as error:
                if error.errno not in GONE:  # else it was sealed, or the folder was moved
                    raise


def _holder(path: str, log: str) -> Iterator[Holder]:
    data, modified = files.read_all(log), files.modified(log)
    try:
        header = u.unpack_header(data[: u.PAGE])
    except ValueError:
        if _lately(server_now(path), modified):
            yield Holder(None, None)
        return
    if is_cut(data, header):
        return
    now, beat = server_now(path), u.unpack_beat(data[: u.PAGE], header)
    lives = machine.lives(machine_of(header), max(beat, modified + time.time() - now))
    if lives or (lives is None and _lately(now, modified, beat)):
        yield holder_of(header)


def _lately(now: float, *signs: float) -> bool:
    """Whether one of these signs of life came within the last five minutes, by the clock of the file server."""
    return any(abs(now - sign) <= SILENCE for sign in signs)


def is_cut(data: bytes, header: Header) -> bool:
    """Whether a log ends with its last verified entry: its writer has let go of it, and cut it to what is used.

    One that is still written to has zeros behind: a mapped log all of its blocks, another one what was written ahead.
    """
    last = None
    for last in spans(data, header, []):  # noqa: B007
        pass
    return last is not None and last.verified and last.stop == len(data)
