"""Source: a unit's rows behind one interface for readers, whether they are still in its log or in a pack.

The recording process uses this too, so polars and NumPy are imported only by what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from . import unit as u
    from .replay import Event, Finding


class UnitSource(Protocol):
    """One unit's rows and what is known about them.

    Attributes:
        header: The unit's.
        events: All its entries but single records, in order.
        rows: How many there are.
        beat: The writer's last sign of life in it, in seconds since the epoch by the writer's clock.
        findings: What is wrong with it.
        unverified: How many of the single records and events no checksum vouches for.
    """

    @property
    def header(self) -> u.Header: ...  # noqa: D102
    @property
    def events(self) -> list[Event]: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def beat(self) -> float: ...  # noqa: D102
    @property
    def findings(self) -> list[Finding]: ...  # noqa: D102
    @property
    def unverified(self) -> int: ...  # noqa: D102

    def levels(self, start: int = 0, stop: int | None = None) -> Sequence[int]:
        """The local level number of each of the rows [start, stop)."""

    def records(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """The own-key records of the rows [start, stop), as they were added."""

    def loaded(self) -> UnitSource:
        """The same unit for reading all of it, with its columns in memory where that is faster."""

    def columns(self, start: int, stop: int) -> tuple[list[str], list[list[Any]]] | None:
        """Own keys and their values as lists for the rows [start, stop), where that is faster than `records`."""

    @property
    def width(self) -> int:
        """How many values a record is made of at once, from columns; 0 where each record is read by itself."""

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows as columns, all or some; see `columns.unit_frame`."""

    def schema(self) -> dict[str, Any]:
        """The columns of `frame` and their polars types, without reading the rows where that is possible."""
