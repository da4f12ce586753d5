"""Column contracts of the jobs: a frame is checked where it enters, so that no job computes on something else.

A contract is a `pl.Schema` constant beside the job. Integers may come in any width and a column of only nulls in any
type; nothing else is converted, because a silent conversion is how a wrong column becomes a plausible number.
"""

from collections.abc import Iterable

import polars as pl

from store.errors import JobError

__all__ = ["ContractError", "require"]


class ContractError(JobError):
    """A frame does not have the columns, types or values that a job declares.

    Args: `frame` as the job calls it, `problem` (what was expected and what came).
    """

    def __init__(self, frame: str, problem: str) -> None:
        self.frame, self.problem = frame, problem
        super().__init__(f"The frame of {frame} cannot be used: {problem}")


def require(
    frame: pl.DataFrame,
    schema: pl.Schema,
    name: str,
    *,
    not_null: Iterable[str] = (),
    unique: str | None = None,
    unit_interval: Iterable[str] = (),
) -> pl.DataFrame:
    """Return exactly the columns of `schema`, in its order and types.

    `not_null` columns may hold no null, the `unique` column no value twice, and `unit_interval` columns only nulls and
    numbers from 0 to 1. Raises ContractError naming the column, what was expected and what came.
    """
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise ContractError(name, f"expected the columns {', '.join(schema)}; missing: {', '.join(missing)}.")
    checked = frame.select(_converted(frame, column, dtype, name) for column, dtype in schema.items())
    for column in not_null:
        if nulls := checked[column].null_count():
            raise ContractError(name, f"column {column} may not be null; {nulls} of {checked.height} rows are.")
    if unique is not None and (repeated := checked.height - checked[unique].n_unique()) > 0:
        raise ContractError(name, f"column {unique} must be unique; {repeated} rows repeat a value.")
    for column in unit_interval:
        outside = checked.filter(~pl.col(column).is_between(0.0, 1.0) | pl.col(column).is_nan())
        if outside.height:
            first = outside[column][0]
            raise ContractError(
                name, f"column {column} must lie from 0 to 1; {outside.height} rows do not, the first is {first!r}."
            )
    return checked


def _converted(frame: pl.DataFrame, column: str, dtype: pl.DataType, name: str) -> pl.Expr:
    came = frame.schema[column]
    if came == dtype:
        return pl.col(column)
    both_integer = came.is_integer() and dtype.is_integer()
    to_float = dtype.is_float() and came.is_numeric()
    same_zone = isinstance(came, pl.Datetime) and isinstance(dtype, pl.Datetime) and came.time_zone == dtype.time_zone
    if both_integer or to_float or same_zone or came == pl.Null:
        return pl.col(column).cast(dtype)
    raise ContractError(name, f"column {column} must be {dtype}, came as {came}.")
