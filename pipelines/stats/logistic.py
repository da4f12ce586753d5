"""Plain logistic regression: the check of rows and columns, and the fit from which richer models start.

Newton's method on the weighted Bernoulli log-likelihood with offsets. Under separation, where a direction of the
columns splits the responses without error, there is no maximum (Albert & Anderson 1984, Biometrika 71:1-10): Newton's
steps then stop shrinking, and the fit is refused with the column that runs away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipelines.stats.contract import FitRefused, numbers, within

__all__ = ["Rows", "checked_rows", "initial"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
ITERATIONS = 40


@dataclass(frozen=True)
class Rows:
    """Responses (rows,) in 0..1, design (rows, p), weights and offsets (rows,), names of the columns."""

    response: Array
    design: Array
    weight: Array
    offset: Array
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.response.size

    def take(self, order: IntArray) -> "Rows":
        """The rows of these indices."""
        return Rows(self.response[order], self.design[order], self.weight[order], self.offset[order], self.names)

    def slice(self, begin: int, end: int) -> "Rows":
        """The rows from `begin` to before `end`, without a copy."""
        part = slice(begin, end)
        return Rows(self.response[part], self.design[part], self.weight[part], self.offset[part], self.names)


def checked_rows(
    model: str,
    response: Array,
    design: Array,
    *,
    weight: Array | None,
    offset: Array | None,
    names: Sequence[str] | None,
    fitted: bool = True,
) -> Rows:
    """Rows that a logistic `model` can use; with `fitted`, also that they can identify its coefficients.

    Raises FitRefused: no_rows, not_finite, out_of_range, constant_response, collinear.
    """
    count = len(response)
    if count == 0:
        raise FitRefused(model, "no_rows", "there are no rows; collect some first.")
    response = numbers(model, "responses", response, (count,))
    within(model, "responses", response, 0.0, 1.0)
    design = numbers(model, "columns", design)
    if design.ndim != 2 or design.shape[0] != count:
        raise ValueError(f"design must have {count} rows and two dimensions, came {design.shape}")
    weight = np.ones(count) if weight is None else numbers(model, "weights", weight, (count,))
    within(model, "weights", weight, 0.0, np.inf)
    offset = np.zeros(count) if offset is None else numbers(model, "offsets", offset, (count,))
    labels = tuple(names) if names is not None else tuple(f"column {j}" for j in range(design.shape[1]))
    if len(labels) != design.shape[1]:
        raise ValueError(f"expected {design.shape[1]} names, came {len(labels)}")
    rows = Rows(response, design, weight, offset, labels)
    if fitted:
        _identified(model, rows)
    return rows


def _identified(model: str, rows: Rows) -> None:
    used = rows.weight > 0
    if not used.any():
        raise FitRefused(model, "no_rows", "all rows have weight 0.")
    answers = rows.response[used]
    if answers.min() == answers.max() and answers[0] in (0.0, 1.0):
        raise FitRefused(
            model, "constant_response", f"all {answers.size} responses are {answers[0]:g}; both kinds are needed."
        )
    scale = np.sqrt(np.mean(rows.design[used] ** 2, axis=0))
    zero = [name for name, size in zip(rows.names, scale, strict=True) if size == 0.0]
    if zero:
        raise FitRefused(model, "collinear", f"always 0: {', '.join(zero)}.")
    scaled = rows.design / scale
    values, vectors = np.linalg.eigh(scaled[used].T @ scaled[used] / used.sum())
    if values.size and values[0] < 1e-10 * values[-1]:
        involved = [name for name, part in zip(rows.names, vectors[:, 0], strict=True) if abs(part) > 0.05]
        raise FitRefused(model, "collinear", f"these columns determine one another: {', '.join(involved)}.")


def initial(model: str, rows: Rows) -> Array:
    """Coefficients (p,) of the plain logistic regression. Raises FitRefused (separation)."""
    beta = np.zeros(rows.design.shape[1])
    reach = np.abs(rows.design).max(axis=0)
    value = _value(rows, beta)
    for _ in range(ITERATIONS):
        p = expit(rows.offset + rows.design @ beta)
        gradient = rows.design.T @ (rows.weight * (rows.response - p))
        information = rows.design.T @ (rows.design * (rows.weight * p * (1.0 - p))[:, None])
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            break
        for _ in range(30):
            reached = _value(rows, beta + step)
            if reached >= value - 1e-9 * (1.0 + abs(value)):
                break
            step = step / 2.0
        beta, value = beta + step, reached
        if np.all(np.abs(step) * reach < 1e-7):
            return beta
    worst = rows.names[int(np.argmax(np.abs(beta) * reach))]
    raise FitRefused(
        model, "separation", f"{worst} tells the responses apart without error, so its weight has no finite estimate."
    )


def _value(rows: Rows, beta: Array) -> float:
    linear = rows.offset + rows.design @ beta
    return float(rows.weight @ (rows.response * linear - np.logaddexp(0.0, linear)))
