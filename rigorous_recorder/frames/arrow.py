"""Arrow: the flat frame as a pyarrow Table."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from rigorous_recorder.errors import MissingLibraryError

from .polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl
    import pyarrow as pa

    from .categories import Categories
    from .plan import Plan


def to_arrow(plan: Plan, categories: Categories = "text") -> pa.Table:
    """Make the table of a plan.

    Raises:
        MissingLibraryError: pyarrow is not installed.
        UnknownKeyError, InvalidCallError: As `polars.to_polars`.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingLibraryError(
            "to_arrow() makes a pyarrow Table, and pyarrow is not installed. "
            "Hint: pip install 'rigorous-recorder[arrow]', or use to_polars()."
        )
    frame = to_polars(plan, categories)
    names = frame.columns
    frame.columns = [f"c{place}" for place in range(len(names))]  # polars panics over a name with a zero in it
    return frame.to_arrow().rename_columns(names)


def record_batch(columns: Iterable[pl.Series], schema: pa.Schema) -> pa.RecordBatch:
    """Columns as a batch of exactly these types.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit, or the text of a column is longer than 2 GB.
    """
    import pyarrow as pa

    arrays = [column.to_arrow().cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
