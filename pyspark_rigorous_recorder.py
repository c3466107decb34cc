"""The data source "rigorous_recorder" for Spark, which imports every top-level module named `pyspark_*` to find such.

So an import of it must cost little and cannot fail where there is Spark: what the source does stands in
`rigorous_recorder/sparksource.py` and `frames/spark.py`, and is imported when it is asked for something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    import pyarrow as pa
    from pyspark.sql.types import StructType

    from rigorous_recorder.frames.plan import Plan


class DefaultSource(DataSource):
    """A collection of experiments as a flat frame: `spark.read.format("rigorous_recorder").load(path)`.

    What is read is fixed by `load`. For the options see `docs/spark.md`.
    """

    def __init__(self, options: MutableMapping[str, str]) -> None:
        from rigorous_recorder.sparksource import Snapshot

        super().__init__(options)
        self._snapshot = Snapshot(options)
        self._planned = False

    @classmethod
    def name(cls) -> str:
        """The name for `format`."""
        return "rigorous_recorder"

    def schema(self) -> StructType:
        """The columns and their types."""
        return self._snapshot.schema

    def reader(self, schema: StructType) -> DataSourceReader:
        """What plans a reading of these columns, and reads."""
        self._planned = True
        return Reader(self._snapshot.plan(schema), skip_damaged=self._snapshot.skip_damaged)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes get: those that plan the snapshot, executors nothing, since it comes with every task."""
        return {"_planned": True, "options": {}} if self._planned else {**vars(self), "options": {}}


class Reader(DataSourceReader):
    """Plans on the driver, and reads on executors, which get all that they need with the partition."""

    def __init__(self, plan: Plan, *, skip_damaged: bool) -> None:
        self._plan = plan
        self._skip_damaged = skip_damaged

    def partitions(self) -> list[InputPartition]:
        """The units, small ones together; one partition of nothing where there are none, which some releases of Spark need."""
        from rigorous_recorder.frames.spark import tasks

        planned = tasks(self._plan, skip_damaged=self._skip_damaged)
        return [InputPartition(task) for task in planned] or [InputPartition(None)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a partition."""
        if partition.value is not None:
            yield from partition.value.read()

    def __getstate__(self) -> dict[str, Any]:
        """What executors get: nothing."""
        return {}
