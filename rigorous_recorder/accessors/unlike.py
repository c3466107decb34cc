"""Columns of one name and unlike types, brought to one type before frames are put under each other.

The rule is that of a flat frame: the narrowest type that holds all values exactly, else text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import EXACT_INTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    import polars as pl

    from ..frames.widening import Bounds

# ---- polars, and Arrow by way of it -------------------------------------------------------------------------------


def common_type(frames: Sequence[pl.DataFrame | pl.LazyFrame], name: str) -> Any:
    """The polars type for a column that has several in some frames; None where polars' own union of them is exact.

    Of ints that meet floats, or ints of another sign, the values decide; of a lazy frame these are read.

    Args:
        frames: Those that have the column.
        name: Of the column.
    """
    import polars as pl

    dtypes = [dtype for frame in frames if (dtype := frame.collect_schema()[name]) != pl.Null]
    families = {_family(dtype) for dtype in dtypes}
    if len(dict.fromkeys(dtypes)) < 2 or None in families:  # noqa: PLR2004
        return None
    if families <= {"int", "float"}:
        ints = [frame for frame in frames if frame.collect_schema()[name].is_integer()]
        return _of_numbers(name, ints, has_floats="float" in families, has_uints=pl.UInt64 in dtypes)
    if families == {"list"}:
        inner = common_type([frame.select(pl.selectors.by_name(name).explode()) for frame in frames], name)
        return None if inner is None else pl.String() if inner == pl.String else pl.List(inner)
    texts = pl.Categorical() if _has_categories(dtypes) else pl.String()
    return texts if len(families) > 1 or texts == pl.Categorical else None


def _of_numbers(name: str, ints: Sequence[pl.DataFrame | pl.LazyFrame], *, has_floats: bool, has_uints: bool) -> Any:
    """The type for a column of numbers, given the frames in which they are ints."""
    import polars as pl

    if not has_floats and not has_uints:
        return None  # polars' union is no wider than Int64
    bounds = [found for frame in ints if (found := _bounds(frame, name)) is not None]
    low, high = min((low for low, _ in bounds), default=0), max((high for _, high in bounds), default=0)
    if has_floats:
        return pl.Float64() if low > -EXACT_INTS and high < EXACT_INTS else pl.String()
    return pl.Int64() if high < 2**63 else pl.UInt64() if low >= 0 else pl.String()


def brought(frame: pl.DataFrame | pl.LazyFrame, name: str, dtype: Any) -> pl.DataFrame | pl.LazyFrame:
    """A frame whose column has the type that `common_type` found."""
    import polars as pl

    from ..frames.widening import widened

    was = frame.collect_schema()[name]
    if dtype not in (pl.String, pl.Categorical) or was in (pl.Null, pl.String) or _has_categories([was]):
        return frame.with_columns(pl.selectors.by_name(name).cast(dtype))
    if isinstance(frame, pl.DataFrame):
        return frame.with_columns(widened(frame[name], None, pl.String()).cast(dtype))
    text = pl.selectors.by_name(name).map_batches(_texts, pl.String, is_elementwise=True)
    return frame.with_columns(text.cast(dtype))


def _texts(values: pl.Series) -> pl.Series:
    import polars as pl

    from ..frames.widening import widened

    return widened(values, None, pl.String())


def _family(dtype: pl.DataType) -> str | None:
    """What the values of a type are; types of one family have a union in polars that is exact. None: polars' matter."""
    import polars as pl

    if dtype.is_integer():
        return None if str(dtype) in ("Int128", "UInt128") else "int"  # the latter is not in polars 1
    if isinstance(dtype, pl.Datetime):
        return "moment" if dtype.time_zone is None else "utc"
    return {
        pl.Float32: "float", pl.Float64: "float", pl.Boolean: "bool", pl.Binary: "bytes", pl.Date: "date", pl.Time: "time",
        pl.Duration: "timedelta", pl.String: "text", pl.Categorical: "text", pl.Enum: "text", pl.List: "list",
    }.get(dtype.base_type())  # fmt: skip


def _has_categories(dtypes: Iterable[Any]) -> bool:
    import polars as pl

    return any(isinstance(dtype, (pl.Categorical, pl.Enum)) for dtype in dtypes)


def _bounds(frame: pl.DataFrame | pl.LazyFrame, name: str) -> Bounds:
    """The lowest and the highest value of a column of ints."""
    import polars as pl

    found = frame.lazy().select(low=pl.selectors.by_name(name).min(), high=pl.selectors.by_name(name).max()).collect()
    return None if found["low"][0] is None else (found["low"][0], found["high"][0])


# ---- pandas --------------------------------------------------------------------------------------------------------


def as_texts(piece: pd.Series[Any]) -> pd.Series[Any]:
    """A column of pandas as the text that a flat frame has for its values."""
    import pandas as pd

    from ..frames.pandas import TEXT_TYPE
    from ..store.text import text_form

    values = [value.to_pytimedelta() if isinstance(value, pd.Timedelta) else value for value in piece.astype("object")]
    present = piece.notna()
    texts = [text_form(_plain(value)) if is_there else None for value, is_there in zip(values, present, strict=True)]
    return pd.Series(texts, dtype="str" if TEXT_TYPE else "object")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def families(pieces: Iterable[pd.Series[Any]]) -> set[str | None]:
    """What the values of columns of pandas are, as `_family` says it of polars; None where that is not for us to say."""
    return {_pandas_family(piece) for piece in pieces}


def _pandas_family(piece: pd.Series[Any]) -> str | None:
    import pandas as pd

    if isinstance(piece.dtype, pd.CategoricalDtype):
        return "text" if pd.api.types.infer_dtype(piece.cat.categories) in ("string", "empty") else None
    if pd.api.types.is_object_dtype(piece.dtype) or pd.api.types.is_string_dtype(piece.dtype):
        return {"string": "text", "boolean": "bool", "bytes": "bytes", "time": "time"}.get(
            pd.api.types.infer_dtype(piece, skipna=True)
        )
    if isinstance(piece.dtype, pd.DatetimeTZDtype):
        return "utc"
    return {"b": "bool", "i": "int", "u": "int", "f": "float", "M": "moment", "m": "timedelta"}.get(
        getattr(piece.dtype, "kind", "")
    )
