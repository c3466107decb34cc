"""The methods that make flat frames, shared by collections, their branches and keepers. Imports no frame library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .store.memory import unhurried

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from .frames.plan import Plan


class Flat:
    """Whatever can be read as one flat frame: one row per record, with inherited values beside its own.

    Columns are `experiment_number`, the users' inherited keys from the root down, the other automatic keys,
    `rr_attempt`, `rr_lineage`, and the records' own keys as they appear. See `docs/frames.md`.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def _plan(self) -> Plan:
            """The plan of the frame, as things are at this call; each kind of thing that can be read has its own."""

    def to_polars(
        self,
        columns: Collection[str] | None = None,
        lineage: bool = True,
        categories: str | Collection[str] = "text",
    ) -> pl.DataFrame:
        """All records as one polars frame, fixed at this call.

        Args:
            columns: The columns to keep, in this order; all by default.
            lineage: Whether to add `rr_attempt` and `rr_lineage`, which make the frame self-describing.
            categories: "text" makes inherited text Categorical, "none" nothing; or the names of text columns. "all" is
                "text" here, since polars has categories of text only.

        Returns:
            A row for each record. Columns are Boolean, Int64, UInt64, Float64, String, Categorical, Binary, Date, Time,
            Datetime or Duration in microseconds, List of these, or Null where nothing but None was recorded. What is
            missing is null.

        Raises:
            KeyError: There is no such column, or no level has a key of `under`.
            MemoryError: It takes more memory than this process can have (a TooLargeError).
            ValueError: `categories` is none of these.
        """
        from .frames.polars import to_polars

        with unhurried():
            return to_polars(self._plan().select(columns, lineage=lineage), categories)

    def to_pandas(
        self,
        columns: Collection[str] | None = None,
        lineage: bool = True,
        categories: str | Collection[str] = "text",
    ) -> pd.DataFrame:
        """All records as one pandas frame, fixed at this call. Needs no pyarrow.

        Args:
            columns: The columns to keep, in this order; all by default.
            lineage: Whether to add `rr_attempt` and `rr_lineage`, which make the frame self-describing.
            categories: "text" makes inherited text categorical, "all" everything inherited, "none" nothing; or the names
                of columns.

        Returns:
            A row for each record. Columns are bool, int64, uint64, float64, the default text type, category,
            datetime64[us] (dates too), datetime64[us, UTC], timedelta64[us], and object for bytes, times and lists. Where
            values are missing: NaN in floats and text, NaT in times, None in object, and Int64, UInt64, boolean for int
            and bool.

        Raises:
            KeyError: There is no such column, or no level has a key of `under`.
            MemoryError: It takes more memory than this process can have (a TooLargeError).
            ValueError: `categories` is none of these.
        """
        from .frames.pandas import to_pandas

        with unhurried():
            return to_pandas(self._plan().select(columns, lineage=lineage), categories)

    def to_arrow(
        self,
        columns: Collection[str] | None = None,
        lineage: bool = True,
        categories: str | Collection[str] = "text",
    ) -> pa.Table:
        """All records as one Arrow table, fixed at this call; with the types of `to_polars`, categories as dictionaries.

        Args:
            columns: The columns to keep, in this order; all by default.
            lineage: Whether to add `rr_attempt` and `rr_lineage`, which make the frame self-describing.
            categories: As for `to_polars`.

        Raises:
            ImportError: pyarrow is not installed.
            KeyError: There is no such column, or no level has a key of `under`.
            MemoryError: It takes more memory than this process can have (a TooLargeError).
            ValueError: `categories` is none of these.
        """
        from .frames.arrow import to_arrow

        with unhurried():
            return to_arrow(self._plan().select(columns, lineage=lineage), categories)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all records into a flat Parquet file, or a folder of such, that pandas, polars, DuckDB and Spark read as it is.

        It has the columns of `to_polars`, inherited text as dictionaries. It has its name only when it is on disk as a
        whole; a file that is there is replaced then.

        Args:
            path: Of the file. Of a folder, which gets files in the order of the rows, if it is a text that ends with "/"
                (a `Path` drops that), or there is an empty folder. The folder above must be there.

        Raises:
            StoreError: The disk refused, or the folder is not empty; a file that was there is as it was.
            KeyError: No level has a key of `under`.
        """
        from .frames.parquet import to_parquet

        to_parquet(self._plan(), path)

    def to_spark(
        self,
        spark: SparkSession,
        columns: Collection[str] | None = None,
        lineage: bool = True,
        skip_damaged: bool = False,
    ) -> DataFrame:
        """All records as a Spark DataFrame, fixed at this call; executors read the units themselves, each those of its part.

        Units without a record of the branch are not read. See `docs/spark.md`.

        Args:
            spark: The session. Its executors must see the collection's folder, and have this package.
            columns: The columns to keep, in this order; all by default. Spark cannot leave out others by itself.
            lineage: Whether to add `rr_attempt` and `rr_lineage`, which make the frame self-describing.
            skip_damaged: Whether rows that cannot be read are left out; else a task that meets such fails.

        Returns:
            A row for each record. Columns are boolean, bigint, decimal(20,0) for unsigned, double, string, binary, date,
            timestamp, timestamp_ntz, interval day to second, arrays of these, and string for times of day and where
            nothing but None was recorded. What is missing is null.

        Raises:
            ImportError: pyarrow is not installed.
            KeyError: There is no such column, or no level has a key of `under`.
            ValueError: Names differ only in case, and the session takes such for the same; or there is no column.
        """
        from .frames.spark import to_spark

        return to_spark(self._plan().select(columns, lineage=lineage), spark, skip_damaged=skip_damaged)

    def scan(self) -> pl.LazyFrame:
        """All records as a polars LazyFrame that reads only what a query needs, unit by unit; fixed at this call.

        Predicates on inherited columns are decided on the levels first, and units that cannot match are not opened. Works
        through collections larger than memory with `collect(engine="streaming")`.

        Returns:
            A LazyFrame with the columns and types of `to_polars`.

        Raises:
            KeyError: No level has a key of `under`.
        """
        from .frames.scan import scan

        return scan(self._plan())

    def sql(self, query: str) -> pl.DataFrame:
        """The answer to a query in SQL, in which the table `records` is `scan()`.

        Args:
            query: As polars understands it (https://docs.pola.rs/api/python/stable/reference/sql), for example
                "select model, avg(loss) from records where training group by model".

        Raises:
            KeyError: No level has a key of `under`.
            MemoryError: What is read at once takes more memory than this process can have (a TooLargeError).
            polars.exceptions.PolarsError: The query is wrong.
        """
        from .frames.scan import sql

        return sql(self._plan(), query)
