"""`under(frame, ...)` for every kind of frame: by the accessor where there is one, else by narwhals."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import FrameError, MissingExtraError

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

    from ..keeper import RecordKeeper

Frame = TypeVar("Frame")


def under(frame: Frame, branch: RecordKeeper | str | None = None, /, **keys: Any) -> Frame:
    """The rows of a branch, as `frame.rr.under(...)` gives them, also of frames that have no `.rr`.

    Those are Arrow tables, DuckDB relations, PySpark frames, and what else narwhals covers (extra `interop`). Of a lazy
    frame the distinct lineages are read at the call; only a polars LazyFrame decides when it is collected.

    Args:
        frame: The flat frame.
        branch: A keeper (its attempt and its lineage, and all below), or the text of a lineage.
        **keys: What some level must have for each key.

    Returns:
        A frame of the same kind.

    Raises:
        KeyError: No level has a key, or the frame has no `rr_lineage`.
        TypeError: This is no frame, or the branch is neither keeper nor text.
        ImportError: It takes narwhals, which is not installed.
    """
    kind = kind_of(frame)
    if kind == "pandas":
        from .pandas import PandasAccessor

        return cast("Frame", PandasAccessor(cast("Any", frame)).under(branch, **keys))
    if kind == "polars":
        from .polars import EagerAccessor

        return cast("Frame", EagerAccessor(cast("Any", frame)).under(branch, **keys))
    if kind == "polars, lazy":
        from .polars import LazyAccessor

        return cast("Frame", LazyAccessor(cast("Any", frame)).under(branch, **keys))
    return _under_by_narwhals(frame, branch, keys)


def kind_of(frame: object) -> str | None:
    """Of what kind a frame is: "pandas", "polars", "polars, lazy" or "arrow"; None for others. Imports nothing."""
    for module, name, kind in (
        ("pandas", "DataFrame", "pandas"),
        ("polars", "DataFrame", "polars"),
        ("polars", "LazyFrame", "polars, lazy"),
        ("pyarrow", "Table", "arrow"),
    ):
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None and isinstance(frame, cls):
            return kind
    return None


def _under_by_narwhals(frame: Frame, branch: RecordKeeper | str | None, keys: dict[str, Any]) -> Frame:
    try:
        import narwhals.stable.v2 as nw
    except ImportError as error:
        raise MissingExtraError(
            f"under on a {_named(frame)} takes narwhals, which is not installed. "
            "Hint: pip install 'rigorous-recorder[interop]', or hand over a pandas or polars frame."
        ) from error
    try:
        wrapped: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(cast("Any", frame))
    except TypeError as error:
        raise no_frame(frame) from error
    from ..columns import LINEAGE_KEY
    from .lineages import Under, check_text

    schema = wrapped.collect_schema()
    names = schema.names()
    if isinstance(schema.get(LINEAGE_KEY), nw.dtypes.NestedType):  # whose distinct values not every library can tell
        found = wrapped.lazy().select(LINEAGE_KEY).drop_nulls().head(1).collect()[LINEAGE_KEY].to_list()
        for value in found:
            check_text(value)
    for column in (asked := Under(branch, keys, names, "filter")):
        values = _distinct(wrapped, column)
        meant = [value for value, is_meant in zip(values, asked.decide(column, values), strict=True) if is_meant]
        wrapped = _where(wrapped, column, meant)
    return cast("Frame", wrapped.to_native())


def _distinct(frame: nw.DataFrame[Any] | nw.LazyFrame[Any], column: str) -> list[Any]:
    values = frame.lazy().select(column).unique().collect()
    return values[column].to_list()


def _where(frame: Any, column: str, values: list[Any]) -> Any:
    """The rows in which a column has one of these values, None for missing."""
    import narwhals.stable.v2 as nw

    present = [value for value in values if value is not None]
    if not present and len(values) == len(present):  # an empty list has no type, which Arrow refuses
        return frame.head(0)
    among = nw.col(column).is_in(present) if present else nw.col(column).is_null()
    return frame.filter(among | nw.col(column).is_null() if len(values) > len(present) else among)


def no_frame(frame: object) -> FrameError:
    """The error for something that is no frame."""
    own = hasattr(frame, "under")
    hint = "it has under() itself" if own else "make a frame with to_pandas(), to_polars() or to_arrow()"
    return FrameError(f"{_named(frame)} is no frame. Hint: {hint}.")


def _named(frame: object) -> str:
    return f"{type(frame).__module__}.{type(frame).__qualname__}".removeprefix("builtins.")
