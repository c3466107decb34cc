"""One column as a user gave it (list, array, Series, tensor), turned into the bytes that a block stores of it.

Libraries are recognised without importing them: a value of theirs can only be here when they are in `sys.modules`.
"""

from __future__ import annotations

import datetime as dt
import struct
import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rigorous_recorder import values as v
from rigorous_recorder.errors import UnstorableTypeError, UnstorableValueError
from rigorous_recorder.exact import decode_exact, encode_exact, exact_form
from rigorous_recorder.plain import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VALUES: Final = "values"
"""The code of a column whose data is a MessagePack array of exact values."""
VALUE: Final = "value"
"""The code of a column whose data is the one exact value of all its rows."""
NUMBERS: Final = "?bhiqBHIQefd"
"""Codes of raw numbers, little-endian: those of Python's `struct`."""
MICROSECONDS: Final = frozenset({"datetime", "utc", "time", "timedelta"})
"""Codes of int64 microseconds: since the epoch (naive, UTC), since midnight, of a duration."""
DATE: Final = "date"
"""The code of int64 days since the epoch."""

_US_PER_DAY: Final = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, what Python's dates reach
RANGES: Final = {
    "datetime": (_FIRST_DAY * _US_PER_DAY, (_LAST_DAY + 1) * _US_PER_DAY - 1),
    "utc": (_FIRST_DAY * _US_PER_DAY, (_LAST_DAY + 1) * _US_PER_DAY - 1),
    "time": (0, _US_PER_DAY - 1),
    DATE: (_FIRST_DAY, _LAST_DAY),
}


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A column in a block.

    Attributes:
        name: Its key.
        code: What `data` is.
        data: The values of all rows, or the one value.
        missing: One byte per row, 1 where the value is None; empty when no value is, or when `data` holds them itself.
    """

    name: str
    code: str
    data: bytes
    missing: bytes = b""


def is_scalar(value: object) -> bool:
    """Whether a value given as a column stands for itself in every row: text, bytes, dicts, 0-d arrays, None, numbers."""
    if value is None or isinstance(value, (str, bytes, bytearray, memoryview, Mapping)):
        return True
    shape = getattr(value, "shape", None)
    if shape is not None and not callable(shape):
        return len(shape) == 0
    return not hasattr(value, "__iter__") and not hasattr(value, "__array__")


def store_scalar(name: str, value: object) -> Stored:
    """A value of all rows of a block.

    Raises:
        UnstorableTypeError: It is of a type that cannot be stored.
        UnstorableValueError: It cannot be stored, although its type can.
    """
    try:
        return Stored(name, VALUE, encode_exact(known(name, value)))
    except REFUSALS as cause:
        raise _refused(name, [value], cause) from cause


def store_column(name: str, values: Any) -> tuple[int, Stored]:
    """The number of values of a column and what a block stores of it.

    Raises:
        UnstorableTypeError: A value is of a type that cannot be stored.
        UnstorableValueError: A value cannot be stored, although its type can.
    """
    for library, class_name, store in _LIBRARIES:
        module = sys.modules.get(library)
        cls = getattr(module, class_name, None)
        if cls is not None and isinstance(values, cls):
            return store(name, values)
    if isinstance(values, range):
        return _store_range(name, values)
    if hasattr(values, "__array__"):
        return _store_foreign(name, values)
    return _store_list(name, values if values.__class__ is list else list(values))


def unstore(column: Stored, count: int, start: int = 0, stop: int | None = None) -> list[Any]:
    """The values of the rows [start, stop) of a column of `count` rows as Python values, without NumPy.

    Raises:
        ValueError: The column is damaged.
    """
    stop = count if stop is None else stop
    try:
        if column.code == VALUE:
            return _shared(column, stop - start)
        return _unstored(column, count)[start:stop]
    except (msgspec.MsgspecError, OverflowError) as error:  # a time beyond what Python's can be is an OverflowError
        raise ValueError(f"the column {column.name!r} cannot be decoded: {error}") from error


def _shared(column: Stored, count: int) -> list[Any]:
    """The one value of all rows, so many times; a copy for each where it could be changed."""
    value = decode_exact(column.data)
    if value.__class__ in v.SCALARS:
        return [value] * count
    return [decode_exact(column.data) for _ in range(count)]


def _unstored(column: Stored, count: int) -> list[Any]:
    if column.code == VALUES:
        found: Any = decode_exact(column.data)
    elif column.code in NUMBERS:
        found = list(struct.unpack(f"<{count}{column.code}", column.data)) if _fits(column, count) else None
    elif column.code == DATE or column.code in MICROSECONDS:
        make = _MAKERS[column.code]
        found = [make(number) for number in struct.unpack(f"<{count}q", column.data)] if _fits(column, count) else None
    else:
        raise ValueError(f"the column code {column.code!r} is of a newer version of the format")
    if found.__class__ is not list or len(found) != count:
        raise ValueError(f"the column {column.name!r} should hold {count} values and does not")
    if column.missing:
        return [None if missing else value for value, missing in zip(found, column.missing, strict=True)]
    return found


def _fits(column: Stored, count: int) -> bool:
    size = struct.calcsize("<" + column.code) if column.code in NUMBERS else 8
    return len(column.data) == size * count and len(column.missing) in (0, count)


_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001  (naive times stay naive)
_EPOCH_UTC: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MAKERS: Final[dict[str, Callable[[int], Any]]] = {
    "datetime": lambda number: _EPOCH + dt.timedelta(microseconds=number),
    "utc": lambda number: _EPOCH_UTC + dt.timedelta(microseconds=number),
    "time": lambda number: (_EPOCH + dt.timedelta(microseconds=number)).time(),
    "timedelta": lambda number: dt.timedelta(microseconds=number),
    DATE: lambda number: (_EPOCH + dt.timedelta(days=number)).date(),
}


# ---- plain Python ---------------------------------------------------------------------------------------------------


def _store_range(name: str, values: range) -> tuple[int, Stored]:
    try:
        return len(values), Stored(name, "q", _little(array("q", values)))
    except OverflowError:
        return _store_list(name, list(values))


def _store_list(name: str, values: list[Any]) -> tuple[int, Stored]:
    classes = set(map(type, values))
    if len(classes) == 1:
        stored = _store_uniform(name, values, next(iter(classes)))
        if stored is not None:
            return len(values), stored
    try:
        if not classes <= v.SCALARS:
            values = [exact_form(known(name, value)) for value in values]
        return len(values), Stored(name, VALUES, v.encode_record(values))
    except REFUSALS as cause:
        raise _refused(name, values, cause) from cause


def _store_uniform(name: str, values: list[Any], cls: type) -> Stored | None:
    """Values that are all of one number class, raw; None for what is stored as MessagePack."""
    if cls is float:
        return Stored(name, "d", _little(array("d", values)))
    if cls is bool:
        return Stored(name, "?", bytes(values))
    if cls is int:
        for code in "qQ":
            try:
                return Stored(name, code, _little(array(code, values)))
            except OverflowError:
                continue
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.generic):
        numbers = numpy.array(values)
        if numbers.dtype.kind in "biufmM" and numbers.dtype.char != "g":
            return _store_array(name, numbers)[1]
    return None


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def known(name: str, value: Any) -> Any:
    """The value itself, or for the scalars of pandas and NumPy that stand for times the built-in that they stand for."""
    cls = value.__class__
    if cls in v.SCALARS or cls in v.TEMPORAL:
        return value
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if value is pandas.NA or value is pandas.NaT:
            return None
        if isinstance(value, (pandas.Timestamp, pandas.Timedelta)):
            if value.nanosecond if isinstance(value, pandas.Timestamp) else value.nanoseconds:
                raise _too_fine(name, value)
            return value.to_pydatetime(warn=False) if isinstance(value, pandas.Timestamp) else value.to_pytimedelta()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        _, stored = _store_array(name, numpy.array([value]))
        return unstore(stored, 1)[0]
    return value


def _refused(name: str, values: Iterable[Any], cause: BaseException) -> UnstorableTypeError | UnstorableValueError:
    """The error for a column: that of its first value that cannot be stored."""
    if isinstance(cause, (UnstorableTypeError, UnstorableValueError)):
        return cause
    for value in values:
        try:
            encode_exact(value)
        except REFUSALS as error:
            return v.refusal({name: value}, error)
    return UnstorableValueError(f"The column {name!r} cannot be stored: {cause}.", key=name)


def _too_fine(name: str, value: object) -> UnstorableValueError:
    return UnstorableValueError(
        f"The column {name!r} holds {value}, which is finer than a microsecond, and would have to be cut. "
        "Hint: round it to microseconds, or record nanoseconds as an int.",
        key=name,
    )


def _out_of_range(name: str) -> UnstorableValueError:
    return UnstorableValueError(
        f"The column {name!r} holds times outside the years 1 to 9999. Hint: record them as an int or as text.",
        key=name,
    )


# ---- NumPy, and what converts itself to it ---------------------------------------------------------------------------


def _store_foreign(name: str, values: Any) -> tuple[int, Stored]:
    """Tensors and the like, by their `__array__`; as lists where NumPy lacks their type (bfloat16)."""
    import numpy as np

    detached = values.detach() if hasattr(values, "detach") else values
    detached = detached.cpu() if callable(getattr(detached, "cpu", None)) else detached
    try:
        return _store_array(name, np.asarray(detached))
    except (TypeError, RuntimeError):
        if not hasattr(values, "tolist"):
            raise
        return _store_list(name, values.tolist())


_CODES: Final = dict(zip(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"), NUMBERS[1:], strict=True))


def _store_array(name: str, values: Any) -> tuple[int, Stored]:
    import numpy as np

    kind = values.dtype.kind
    if values.ndim != 1 or kind not in "biufmM" or isinstance(values, np.ma.MaskedArray) or values.dtype.char == "g":
        return _store_list(name, _listed(values))
    if kind in "mM":
        return len(values), _store_times(name, values)
    code = "?" if kind == "b" else _CODES[f"{kind}{values.dtype.itemsize}"]
    return len(values), Stored(name, code, _raw(values))


def _listed(values: Any) -> list[Any]:
    """The elements as lists of Python values, except where that would make times of less than a microsecond ints."""
    if values.dtype.kind in "mM" and values.ndim == 1:
        return list(values)
    return list(values.tolist())


def _raw(values: Any) -> bytes:
    little = values.dtype.newbyteorder("<")
    return bytes(values.astype(little, copy=False).tobytes())


def _store_times(name: str, values: Any, code: str | None = None) -> Stored:
    """datetime64 and timedelta64 arrays as int64 of microseconds or days, NaT as missing."""
    import numpy as np

    unit, step = np.datetime_data(values.dtype)
    missing = np.isnat(values)
    if code is None:
        code = "timedelta" if values.dtype.kind == "m" else DATE if unit in ("D", "W", "M", "Y") else "datetime"
    target = np.dtype(f"{values.dtype.kind}8[{'D' if code == DATE else 'us'}]")
    if unit == "generic" or (values.dtype.kind == "m" and unit in ("M", "Y") and not missing.all()):
        if not missing.all():
            raise UnstorableTypeError(
                f"The column {name!r} holds time spans in {unit} units of {step}, which have no fixed length. "
                "Hint: record them as an int.",
                key=name,
            )
        return Stored(name, code, bytes(8 * len(values)), b"\1" * len(values))
    safe = np.where(missing, np.zeros(1, values.dtype), values)
    converted = safe.astype(target)
    back = converted.astype(safe.dtype) != safe
    if back.any():
        finer = unit in ("ns", "ps", "fs", "as")
        raise _too_fine(name, values[back][0]) if finer else _out_of_range(name)
    # a coarser unit may wrap around in int64 and back again; floats tell
    numbers = converted.view(np.int64)
    if unit not in ("ns", "ps", "fs", "as", "us", "D"):
        span = np.abs(safe.view(np.int64).astype(np.float64)) * _seconds(unit) * step * (1 if code == DATE else 1e6)
        if (span / (86_400 if code == DATE else 1) > 9.2e18).any():  # noqa: PLR2004  (just inside int64)
            raise _out_of_range(name)
    return _numbers(name, code, numbers, missing)


def _seconds(unit: str) -> float:
    return {"Y": 31_556_952, "M": 2_629_746, "W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 1e-3}[unit]


def _numbers(name: str, code: str, numbers: Any, missing: Any) -> Stored:
    """int64 numbers of a time code, checked to be what Python's times can hold."""
    low, high = RANGES.get(code, (None, None))
    if low is not None and len(numbers) and not (low <= numbers.min() and numbers.max() <= high):
        raise _out_of_range(name)
    return Stored(name, code, _raw(numbers), _mask(missing))


def _mask(missing: Any) -> bytes:
    return bytes(missing.astype("u1").tobytes()) if missing.any() else b""


# ---- pandas, polars, Arrow -------------------------------------------------------------------------------------------


def _store_pandas(name: str, values: Any) -> tuple[int, Stored]:
    import numpy as np
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _store_array(name, values.to_numpy())
    if isinstance(dtype, pd.CategoricalDtype):
        categories = values.cat.categories if isinstance(values, pd.Series) else values.categories
        codes = values.cat.codes if isinstance(values, pd.Series) else values.codes
        texts = list(categories)
        return _store_list(name, [None if code < 0 else texts[code] for code in codes.tolist()])
    if isinstance(dtype, pd.StringDtype):
        return _store_list(name, values.to_numpy(dtype=object, na_value=None).tolist())
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = pd.DatetimeIndex(values).tz_convert("UTC").tz_localize(None).to_numpy()
        return len(naive), _store_times(name, naive, "utc")
    number = getattr(dtype, "numpy_dtype", None)
    if number is not None and number.kind in "biuf" and not isinstance(dtype, (pd.ArrowDtype, pd.SparseDtype)):
        missing = np.asarray(values.isna(), dtype=bool)
        array_ = values.to_numpy(dtype=number, na_value=number.type(0))
        count, stored = _store_array(name, array_)
        return count, Stored(name, stored.code, stored.data, _mask(missing))
    return _store_list(name, values.astype(object).tolist())


def _store_polars(name: str, values: Any) -> tuple[int, Stored]:
    import polars as pl

    dtype, count = values.dtype, len(values)
    missing = values.is_null()
    if dtype in (pl.Datetime, pl.Duration, pl.Time, pl.Date):
        return count, _store_polars_times(name, values, missing.to_numpy())
    if dtype == pl.Boolean or dtype in (pl.Float32, pl.Float64) or (dtype.is_integer() and dtype in _POLARS_INTS(pl)):
        filled = values.fill_null(False if dtype == pl.Boolean else 0) if missing.any() else values
        _, stored = _store_array(name, filled.to_numpy())
        return count, Stored(name, stored.code, stored.data, _mask(missing.to_numpy()))
    if dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    return _store_list(name, values.to_list())


def _POLARS_INTS(pl: Any) -> tuple[Any, ...]:  # noqa: N802  (a constant that cannot be one before polars is imported)
    return (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


def _store_polars_times(name: str, values: Any, missing: Any) -> Stored:
    import numpy as np
    import polars as pl

    dtype = values.dtype
    numbers = values.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    if dtype == pl.Date:
        return _numbers(name, DATE, numbers, missing)
    unit = "ns" if dtype == pl.Time else dtype.time_unit
    code = (
        "time"
        if dtype == pl.Time
        else "timedelta"
        if dtype == pl.Duration
        else "utc"
        if dtype.time_zone
        else "datetime"
    )
    if unit == "ns":
        fine = numbers % 1000 != 0
        if fine.any():
            raise _too_fine(
                name, values[int(np.flatnonzero(fine)[0])] if dtype == pl.Time else f"{numbers[fine][0]} ns"
            )
        numbers = numbers // 1000
    elif unit == "ms":
        if (np.abs(numbers) > 9_223_372_036_854_775).any():  # noqa: PLR2004  (int64 microseconds)
            raise _out_of_range(name)
        numbers = numbers * 1000
    return _numbers(name, code, numbers, missing)


def _store_arrow(name: str, values: Any) -> tuple[int, Stored]:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    try:
        if pa.types.is_timestamp(kind):
            values = values.cast(pa.timestamp("us", kind.tz))
        elif pa.types.is_duration(kind):
            values = values.cast(pa.duration("us"))
        elif pa.types.is_time64(kind):
            values = values.cast(pa.time64("us"))
    except pa.ArrowInvalid as cause:
        raise _too_fine(name, "a time") from cause
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if number and values.null_count == 0:
        return _store_array(name, values.to_numpy())
    return _store_list(name, values.to_pylist())


_LIBRARIES: Final[tuple[tuple[str, str, Callable[[str, Any], tuple[int, Stored]]], ...]] = (
    ("numpy", "ndarray", _store_array),
    ("pandas", "Series", _store_pandas),
    ("pandas", "Index", _store_pandas),
    ("pandas", "Categorical", _store_pandas),
    ("polars", "Series", _store_polars),
    ("pyarrow", "Array", _store_arrow),
    ("pyarrow", "ChunkedArray", _store_arrow),
)
