"""`Experiments`, all attempts of a collection as they were read, and how each of them comes into being."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from .errors import UnknownIndexError
from .experiment import Experiment, Facts
from .session import Session, sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import polars as pl

    from .options import Options
    from .reading import AttemptView


def stored(view: AttemptView, path: str, options: Options) -> Experiment:
    """An experiment as it was read."""
    assert view.place is not None  # attempts on disk have a place
    session = session_for(path, view, options)
    root = view.levels.by_id.get(view.root)
    experiment = Experiment.__new__(Experiment)
    experiment._session = session
    experiment._journal = session.journal
    experiment._parent = None
    experiment._level = view.root
    begun = {} if view.course is None else view.course.info
    experiment._data = dict(begun if root is None else root.data)
    experiment._stamps = dict(root.stamps) if root else {}
    experiment._pendings = None
    experiment._defined = experiment.token = None
    experiment.switch = b""
    experiment._began = None
    experiment._facts = Facts(view.course, view.rows)
    return experiment


def session_for(path: str, view: AttemptView, options: Options) -> Session:
    """This process's session of an attempt: the one that records it, or one that only takes edits."""
    place = view.place
    assert place is not None  # attempts on disk have a place
    session = sessions.get(place.folder)
    if session is None:
        session = Session(path, place, options)
        session.close(
            f"experiment {place.claim.number} was opened for reading. "
            f"Hint: collection.resume_experiment({place.claim.number}) records on"
        )
    session.notes = view.notes
    return session


class Experiments(Sequence[Experiment]):
    """All attempts of a collection, by number and try, as they were when this was asked for."""

    __slots__ = ("_experiments",)

    def __init__(self, experiments: list[Experiment]) -> None:
        self._experiments = experiments

    def __len__(self) -> int:
        """The number of attempts."""
        return len(self._experiments)

    @overload
    def __getitem__(self, index: int) -> Experiment: ...
    @overload
    def __getitem__(self, index: slice) -> Experiments: ...
    def __getitem__(self, index: int | slice) -> Experiment | Experiments:
        """One attempt by its position (not its number), or a slice.

        Raises:
            IndexError: There is no such attempt.
        """
        if isinstance(index, slice):
            return Experiments(self._experiments[index])
        try:
            return self._experiments[index]
        except IndexError:
            raise UnknownIndexError(f"There is no attempt {index}: there are {len(self)}.") from None

    def __iter__(self) -> Iterator[Experiment]:
        """The attempts in order."""
        return iter(self._experiments)

    def _table(self) -> pl.DataFrame:
        from .frames.runs import facts, runs_table  # which bring polars

        return runs_table(
            [facts(one.number, one._level[0], one.info, one._course(), one.n_records) for one in self._experiments]
        )

    def to_polars(self) -> pl.DataFrame:
        """The table of runs as a polars frame.

        Returns:
            A row for each attempt: `experiment_number`, `rr_attempt`, `state`, its info, `error_number`, `had_error`,
            `experiment_start_time` and `experiment_end_time` (seconds since the epoch), `experiment_duration` (seconds),
            `n_records`, `error`, and `fingerprint`, which is equal where the info is.
        """
        from .frames.polars import table_frame

        return table_frame(self._table())

    def to_pandas(self) -> pd.DataFrame:
        """The table of runs as a pandas frame; see `to_polars`."""
        from .frames.pandas import table_frame

        return table_frame(self._table())

    def __repr__(self) -> str:
        """One line per attempt, of more than 60 the first and the last 30."""
        hidden = len(self) - 60
        shown = self._experiments if hidden <= 0 else [*self._experiments[:30], *self._experiments[-30:]]
        lines = list(map(repr, shown))
        if hidden > 0:
            lines.insert(30, f"… {hidden:,} more")
        return "\n".join(lines) or "<no experiments>"
