"""`concat`: several flat frames of one kind under each other, their categories united."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import FrameError, InvalidCallError
from ..values import EXACT_INTS
from .interop import kind_of, no_frame
from .unlike import as_texts, brought, common_type, families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd
    import polars as pl
    import pyarrow as pa

Frame = TypeVar("Frame")


def concat(frames: Iterable[Frame]) -> Frame:
    """Flat frames under each other: the rows in the order given, the columns in order of first appearance.

    Categories are united and stay categories, where the libraries' own functions make text of them or refuse. A column
    that a frame lacks is missing in its rows. Integers stay integers and booleans booleans, in pandas as the nullable
    dtypes where something is missing. A column of unlike types in several frames gets the narrowest that holds all values
    exactly, else text, as in a flat frame; where integers meet floats, a LazyFrame is read for this. Indexes of plain numbers
    are renewed.

    Args:
        frames: All pandas, all polars DataFrames, all polars LazyFrames or all Arrow tables.

    Returns:
        A frame of the same kind.

    Raises:
        ValueError: There are no frames, it is no list of them, or a frame has two columns of one name.
        TypeError: The frames are of different kinds, or one is none; or a column has types that do not go together.
    """
    if kind_of(frames) is not None or not hasattr(frames, "__iter__"):
        raise InvalidCallError(
            f"concat takes a list of frames, and was given a {type(frames).__name__}. Hint: concat([one, two])."
        )
    frames = list(frames)
    if not frames:
        raise InvalidCallError("concat got no frames. Hint: it takes a list of at least one.")
    kinds = {kind_of(frame): frame for frame in frames}
    if None in kinds:
        raise no_frame(kinds[None])
    if len(kinds) > 1:
        raise FrameError(
            f"concat takes frames of one kind, and these are of {len(kinds)}: {', '.join(sorted(map(str, kinds)))}. "
            "Hint: convert them first, for example by polars.from_pandas(frame) or frame.lazy()."
        )
    join = _JOIN[str(next(iter(kinds)))]
    return cast("Frame", join(frames))


# ---- pandas ------------------------------------------------------------------------------------------------------


def _pandas(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    for frame in frames:
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise InvalidCallError(f"A frame has two columns {twice!r}. Hint: rename one.")
    lengths = [len(frame) for frame in frames]
    names = dict.fromkeys(name for frame in frames for name in frame.columns)
    joined = {
        name: _pandas_column([frame[name] if name in frame.columns else None for frame in frames], lengths)
        for name in names
    }
    indexes = [frame.index for frame in frames]
    plain = all(
        index.nlevels == 1 and index.name is None and pd.api.types.is_integer_dtype(index.dtype) for index in indexes
    )
    index = pd.RangeIndex(sum(lengths)) if plain else indexes[0].append(indexes[1:])
    return pd.DataFrame(joined, index=index, columns=pd.Index(names), copy=False)


def _pandas_column(pieces: Sequence[pd.Series[Any] | None], lengths: Sequence[int]) -> Any:
    """The values of one column; None is a frame that lacks it."""
    import pandas as pd

    present = [piece for piece in pieces if piece is not None]
    if len({piece.dtype for piece in present}) > 1:  # what holds no value has no say in what the type is
        present = [piece for piece in present if piece.notna().any()] or present[:1]
    kept = {id(piece) for piece in present}
    found = families(present)
    if len(found) > 1 and None not in found and found != {"int", "float"}:
        present = [piece if families([piece]) == {"text"} else as_texts(piece) for piece in present]
    if any(isinstance(piece.dtype, pd.CategoricalDtype) for piece in present) and all(map(_is_text, present)):
        united = _united(present)
        present = [pd.Series(categorical) for categorical in united]
    elif any(id(piece) not in kept and length for piece, length in zip(pieces, lengths, strict=True)):
        present = [piece.astype(cast("Any", _nullable(piece.dtype))) for piece in present]
    present = _exactly(present)
    values = iter(present)
    dtype = present[0].dtype
    whole = [
        next(values) if id(piece) in kept else pd.Series(index=range(length), dtype=cast("Any", dtype))
        for piece, length in zip(pieces, lengths, strict=True)
    ]
    return pd.concat(whole, ignore_index=True).array


def _is_text(piece: pd.Series[Any]) -> bool:
    """Whether a column holds texts, as categories or as they are, or nothing at all."""
    import pandas as pd

    values = piece.cat.categories if isinstance(piece.dtype, pd.CategoricalDtype) else piece
    return len(values) == 0 or pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty")


def _united(pieces: Sequence[pd.Series[Any]]) -> list[pd.Categorical]:
    """Columns of text as categoricals of one dtype, with the categories of all."""
    import pandas as pd

    dtypes = {piece.dtype for piece in pieces}
    if len(dtypes) == 1:
        return [pd.Categorical(piece) for piece in pieces]
    each = [pd.Categorical(piece) for piece in pieces]
    texts = list(dict.fromkeys(text for one in each for text in one.categories))
    return [one.as_unordered().set_categories(cast("Any", texts)) for one in each]


def _exactly(pieces: list[pd.Series[Any]]) -> list[pd.Series[Any]]:
    """Columns as they are; where pandas would round integers to floats, of one type of integers, or as text."""
    kinds = {getattr(piece.dtype, "kind", "") for piece in pieces}
    if len(kinds) == 1 or not kinds <= {"i", "u", "f"}:
        return pieces
    low, high = (pick(int(bound) for bound in bounds) for pick, bounds in zip((min, max), _bounds(pieces), strict=True))
    if "f" in kinds:
        return pieces if max(-low, high) < EXACT_INTS else [as_texts(piece) for piece in pieces]
    missing = any(str(piece.dtype)[0] in "IU" for piece in pieces)
    for name, lowest, highest in (("Int64", -(2**63), 2**63), ("UInt64", 0, 2**64)):
        if low >= lowest and high < highest:
            return [piece.astype(cast("Any", name if missing else name.lower())) for piece in pieces]
    return [as_texts(piece) for piece in pieces]


def _bounds(pieces: Sequence[pd.Series[Any]]) -> tuple[list[Any], list[Any]]:
    """The lowest and the highest integer of each column of integers that has any, and 0."""
    ints = [piece.dropna() for piece in pieces if piece.dtype.kind != "f"]
    return [0, *(piece.min() for piece in ints if len(piece))], [0, *(piece.max() for piece in ints if len(piece))]


def _nullable(dtype: Any) -> Any:
    """The dtype that holds the same values and missing ones: pandas has two for integers and booleans of NumPy."""
    import numpy as np

    if isinstance(dtype, np.dtype) and dtype.kind in "biu":
        return "boolean" if dtype.kind == "b" else str(dtype).replace("i", "I").replace("u", "U")
    return dtype


# ---- polars ------------------------------------------------------------------------------------------------------


def _polars(frames: Sequence[pl.DataFrame | pl.LazyFrame]) -> pl.DataFrame | pl.LazyFrame:
    import polars as pl

    schemas = [frame.collect_schema() for frame in frames]
    names = dict.fromkeys(name for schema in schemas for name in schema)
    for name in names:
        those = [frame for frame, schema in zip(frames, schemas, strict=True) if name in schema]
        if len({schema[name] for schema in schemas if name in schema}) > 1:
            dtype = common_type(those, name)
            frames = [
                frame if dtype is None or name not in schema else brought(frame, name, dtype)
                for frame, schema in zip(frames, schemas, strict=True)
            ]
    _go_together([frame.collect_schema() for frame in frames])
    joined: pl.DataFrame | pl.LazyFrame = pl.concat(cast("Any", frames), how="diagonal_relaxed")
    return joined


def _go_together(schemas: Sequence[Mapping[str, pl.DataType]]) -> None:
    """See to it that each column has one type in all frames, or types that polars makes one of.

    Raises:
        FrameError: It does not.
    """
    import polars as pl

    for name in dict.fromkeys(name for schema in schemas for name in schema):
        dtypes = list(dict.fromkeys(schema[name] for schema in schemas if name in schema))
        try:
            pl.concat([pl.DataFrame(schema={name: dtype}) for dtype in dtypes], how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            raise _unlike(name, dtypes) from error


def _unlike(name: str, dtypes: Iterable[object]) -> FrameError:
    return FrameError(
        f"The column {name!r} is of types that do not go together: {', '.join(map(str, dtypes))}. "
        "Hint: make it one type in all frames (a cast), or leave it out."
    )


# ---- Arrow -------------------------------------------------------------------------------------------------------


def _arrow(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    names = dict.fromkeys(name for table in tables for name in table.column_names)
    for name in names:
        tables = _alike(tables, name)
        fields = [table.schema.field(name) for table in tables if name in table.column_names]
        if any(pa.types.is_dictionary(field.type) for field in fields) and all(
            _is_text_type(field.type) for field in fields
        ):
            tables = [_with_dictionary(table, name) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()


def _alike(tables: Sequence[pa.Table], name: str) -> Sequence[pa.Table]:
    """The tables with a column of one type, by way of polars; as they are where it is of one, or of text, already.

    Raises:
        FrameError: The types do not go together.
    """
    import polars as pl
    import pyarrow as pa

    those = [table for table in tables if name in table.column_names]
    dtypes = {table.schema.field(name).type for table in those} - {pa.null()}
    if len(dtypes) <= 1 or all(map(_is_text_type, dtypes)):
        return tables
    try:
        frames = {id(table): cast("pl.DataFrame", pl.from_arrow(table.select([name]))) for table in those}
        joined = _polars(list(frames.values()))
    except (pl.exceptions.PolarsError, pa.ArrowException, FrameError) as error:
        raise _unlike(name, dtypes) from error
    dtype = joined.collect_schema()[name]
    return [
        table.set_column(
            table.column_names.index(name),
            name,
            cast("pl.DataFrame", brought(frames[id(table)], name, dtype)).to_arrow().column(name),
        )
        if id(table) in frames
        else table
        for table in tables
    ]


def _is_text_type(dtype: pa.DataType) -> bool:
    import pyarrow as pa

    value = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _with_dictionary(table: pa.Table, name: str) -> pa.Table:
    """The table with a column of text as a dictionary of one type: libraries choose different widths of the numbers in it."""
    import pyarrow as pa

    if name not in table.column_names:
        return table
    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.large_string()).dictionary_encode()
    dtype = pa.dictionary(pa.int32(), pa.large_string())
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.large_string()))
        for chunk in column.chunks
    ]
    place = table.column_names.index(name)
    return table.set_column(place, pa.field(name, dtype), pa.chunked_array(chunks, type=dtype))


_JOIN: dict[str, Callable[[Any], Any]] = {
    "pandas": _pandas,
    "polars": _polars,
    "polars, lazy": _polars,
    "arrow": _arrow,
}
