"""Column contracts of the jobs: a frame is checked where it enters, so that no job computes on something else.

A contract is a `pl.Schema` constant beside the job. Integers may come in any width and a column of only nulls in any
type; nothing else is converted, because a silent conversion is how a wrong column becomes a plausible number.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from store.errors import JobError

__all__ = ["NOTES", "ContractError", "FitRefused", "codes", "numbers", "require", "within"]

# What weakens the numbers of an agent (null: of all): a stable key and a sentence.
NOTES = pl.Schema({"agent": pl.String(), "reason": pl.String(), "text": pl.String()})


class ContractError(JobError):
    """A frame does not have the columns, types or values that a job declares.

    Args: `frame` as the job calls it, `problem` (what was expected and what came).
    """

    def __init__(self, frame: str, problem: str) -> None:
        self.frame, self.problem = frame, problem
        super().__init__(f"The frame of {frame} cannot be used: {problem}")


class FitRefused(JobError):
    """A model that cannot be fitted to these rows; a number computed anyway would mean nothing.

    Args: `model` in words, `reason` a stable key (no_rows, not_finite, out_of_range, constant_response, one_user,
    separation, ...: each function lists its own), `detail` what came and what to do.
    """

    def __init__(self, model: str, reason: str, detail: str) -> None:
        self.model, self.reason, self.detail = model, reason, detail
        super().__init__(f"The {model} cannot be computed: {detail}")

    def __reduce__(self) -> tuple[type["FitRefused"], tuple[str, str, str]]:
        """Comes back from another process as it is."""
        return type(self), (self.model, self.reason, self.detail)


def numbers(model: str, name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """`values` as finite floats. Raises FitRefused (`not_finite`), and ValueError when the shape is another."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, came {array.shape}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise FitRefused(model, "not_finite", f"{bad} of {array.size} values of {name} are missing or infinite.")
    return array


def codes(model: str, name: str, values: ArrayLike, rows: int, limit: int | None = None) -> NDArray[np.int64]:
    """`values` as integers 0..limit-1, one for each row. Raises FitRefused (`out_of_range`), ValueError (shape)."""
    array = np.ascontiguousarray(values)
    if array.shape != (rows,) or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{name} must be {rows} integers, came {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or (limit is not None and array.max() >= limit)):
        top = "" if limit is None else f" to {limit - 1}"
        raise FitRefused(
            model, "out_of_range", f"{name} must lie from 0{top}; they go from {array.min()} to {array.max()}."
        )
    return array.astype(np.int64, copy=False)


def within(model: str, name: str, values: NDArray[np.float64], lowest: float, highest: float) -> None:
    """Raises FitRefused (`out_of_range`) unless all values lie from `lowest` to `highest`."""
    if values.size and not (values.min() >= lowest and values.max() <= highest):
        raise FitRefused(
            model,
            "out_of_range",
            f"{name} must lie from {lowest:g} to {highest:g}; they go from {values.min():g} to {values.max():g}.",
        )


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
