"""Scan: the flat frame as a polars LazyFrame that reads what a query needs: its columns, and units that can match.

A predicate comes from polars as one expression. Its conjuncts are asked one by one, of the few levels first: what is said
of inherited columns alone is decided there, and a unit none of whose levels is left is not opened. Unknown means might: the
whole predicate is still applied to every batch, so pruning can only leave out work.
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from rigorous_recorder.store.names import column_name

from .categories import chosen
from .materialise import materialise
from .polars import polars_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .materialise import Asked
    from .part import Part
    from .plan import Plan

_UNDECIDED: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError, ArithmeticError)
"""What a predicate may raise over values that no row has, since a table of levels has all levels. It then decides nothing."""

FIRST: Final = 3
"""Units that are read together at least; later on half as many as were read. The streaming engine asks for two groups ahead,
so a query that needs one row reads nine units."""
CELLS: Final = 1 << 21
"""Values that are read together at most, if that is more than one unit: 16 MB."""


def scan(plan: Plan) -> pl.LazyFrame:
    """The frame of a plan, lazily; the columns and types are those of `to_polars`.

    What is read later is what was there when the plan was made. (`register_io_source` is called here and nowhere else: polars
    calls it unstable.)
    """
    return _lazy(plan, chosen(plan, "text", only_text=True))


def sql(plan: Plan, query: str) -> pl.DataFrame:
    """Answer a query in SQL over the table `records`. Text is plain text there: SQL's `like` and `upper` know no categories.

    An error of polars comes through as it is, with a note where the query names another table.
    """
    try:
        return pl.SQLContext(records=_lazy(plan, frozenset()), eager=False).execute(query).collect()
    except pl.exceptions.PolarsError as error:
        if "relation" in str(error) and "not found" in str(error):
            error.add_note("Hint: the table is called records, as in: select count(*) from records")
        raise


def _lazy(plan: Plan, categorical: frozenset[str]) -> pl.LazyFrame:
    schema = {name: pl.Categorical() if name in categorical else dtype for name, dtype in plan.schema.items()}
    source = partial(batches, plan.released(), categorical)
    return register_io_source(source, schema=schema)


def batches(
    plan: Plan,
    categorical: frozenset[str],
    with_columns: list[str] | None,
    predicate: pl.Expr | None,
    n_rows: int | None,
    _batch_size: int | None,
) -> Iterator[pl.DataFrame]:
    """The frame by groups of units: one group is in memory at a time.

    Args:
        plan: Of the frame.
        categorical: Its categorical columns.
        with_columns: The columns that are wanted, those of the predicate among them; None for all.
        predicate: What rows must be true of; None for all rows.
        n_rows: How many rows are wanted at most, if some; with a predicate, of how many it is asked at most, which
            must not be others than the first.
        _batch_size: A wish of polars; groups are of a good size.
    """
    wanted = plan.select(with_columns)
    left = _Left(math.inf if n_rows is None else n_rows)
    for asked in _groups(wanted, matching(plan, categorical, predicate if n_rows is None else None), left):
        rows = materialise(wanted, asked)
        if not rows.height:
            continue  # making columns of nothing takes 3 ms
        frame = polars_frame(rows, categorical & wanted.schema.keys())
        if left.rows < frame.height:
            frame = frame.head(int(left.rows))
        left.rows -= frame.height
        yield frame if predicate is None else frame.filter(predicate)
        if not left.rows:
            return


class _Left:
    """How many rows are still wanted: `rows`, infinitely many for all. What was read counts, not what should have been."""

    def __init__(self, rows: float) -> None:
        self.rows = rows


def _groups(wanted: Plan, asked: Iterator[Asked], left: _Left) -> Iterator[list[Asked]]:
    """Parts that are read together, which takes less time, while a query that soon has enough stops early.

    Args:
        wanted: What the frame is.
        asked: The parts.
        left: How many rows are wanted, less those that the groups before gave.
    """
    width = 1 + sum(column.own for column in wanted.columns)
    group: list[Asked] = []
    rows, sure, read = 0, 0, 0
    for part, where in asked:
        if group and (len(group) >= max(FIRST, read // 2) or (rows + part.rows) * width > CELLS or sure >= left.rows):
            yield group
            read += len(group)
            group, rows, sure = [], 0, 0
        group.append((part, where))
        rows += part.rows
        sure += part.sure
    if group:
        yield group


def matching(plan: Plan, categorical: frozenset[str], predicate: pl.Expr | None) -> Iterator[Asked]:
    """The parts that have rows which may match, restricted to the levels that may, and what Parquet can decide by itself.

    Gives:
        Each part, and the conjuncts about own columns that stand in its pack as they are, for which row groups can be
        skipped; None where there are none.
    """
    asked = [_Conjunct(expression, plan, categorical) for expression in conjuncts(predicate)]
    known: dict[tuple[bool, ...], set[int]] = {}
    for part in plan.parts:
        deciding = tuple(conjunct.decides(part) for conjunct in asked)
        if any(deciding):
            if deciding not in known:
                masks = [conjunct.mask for conjunct, decides in zip(asked, deciding, strict=True) if decides]
                known[deciding] = set.intersection(*masks)
            chosen_part = part.at(known[deciding])
        else:
            chosen_part = part
        if not chosen_part.empty:
            rest = [conjunct.expression for conjunct in asked if conjunct.stands_in(part)]
            yield chosen_part, pl.all_horizontal(rest) if rest else None


def conjuncts(predicate: pl.Expr | None) -> list[pl.Expr]:
    """The parts of a conjunction, each of which must be true; `a & b` is recognised by making it again."""
    if predicate is None:
        return []
    operands: Sequence[pl.Expr] = predicate.meta.pop()
    if len(operands) == 2:  # noqa: PLR2004  (a and b)
        for left, right in (operands, operands[::-1]):
            if (left & right).meta.eq(predicate):
                return [*conjuncts(left), *conjuncts(right)]
    return [predicate]


def _by_row(expression: pl.Expr) -> bool:
    """Whether an expression says of each row by itself whether it matches.

    polars hands over no other (tried with 30 kinds in 1.33.1 and 2.1.0), so this is a second look where it can be had.
    """
    try:
        return expression.meta.is_row_separable()
    except (AttributeError, pl.exceptions.ColumnNotFoundError):  # a polars before 2; a function in Python
        return True


class _Conjunct:
    """One condition of a predicate, and what the levels alone say of it."""

    def __init__(self, expression: pl.Expr, plan: Plan, categorical: frozenset[str]) -> None:
        self.expression = expression
        self._plan = plan
        self._columns = {column.name: column for column in plan.columns}
        self._names = list(dict.fromkeys(expression.meta.root_names()))
        self._by_row = bool(self._names) and _by_row(expression)
        self._categorical = categorical

    def decides(self, part: Part) -> bool:
        """Whether the levels of a part's records alone say which may match: records have a say by values of their own."""
        if not self._by_row or any(self._columns[name].key in part.types for name in self._names):
            return False
        return self._decided is not None

    @property
    def mask(self) -> set[int]:
        """The rows of the table of levels whose records may match, if the levels decide."""
        assert self._decided is not None
        return self._decided

    @cached_property
    def _decided(self) -> set[int] | None:
        table = self._plan.table
        series = {}
        for name in self._names:
            column = self._columns[name]
            values = (
                table[name]
                if column.inherited
                else pl.Series([None], dtype=column.dtype).new_from_index(0, table.height)
            )
            series[name] = values.cast(pl.Categorical()) if name in self._categorical else values
        try:
            answer = pl.DataFrame(series).select(self.expression.alias("answer"))["answer"]
        except _UNDECIDED:
            return None
        if len(answer) != table.height or answer.dtype != pl.Boolean:
            return None
        return set(answer.fill_null(value=False).arg_true().to_list())

    def stands_in(self, part: Part) -> bool:
        """Whether all columns stand in the part's pack under their names, with their types, and nowhere else."""
        return self._by_row and all(
            not column.inherited
            and column.name == column_name(column.key)
            and part.types.get(column.key) == column.dtype
            for column in (self._columns[name] for name in self._names)
        )
