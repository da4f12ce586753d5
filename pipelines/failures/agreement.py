"""Agreement of two who labelled the same traces: Cohen's kappa with its interval.

kappa = (p_o - p_e) / (1 - p_e) (Cohen 1960, Educ Psychol Meas 20:37); its large-sample variance is that of Fleiss,
Cohen and Everitt (1969, Psychol Bull 72:323, equation 13). Below `FEWEST` pairs there is no interval worth the name.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.errors import JobError

__all__ = ["FEWEST", "Agreement", "kappa"]

FEWEST: Final = 20
_Z95: Final = 1.959963984540054


@dataclass(frozen=True)
class Agreement:
    """`observed` is the share of equal labels; kappa and its limits are None where `reason` says why."""

    n: int
    observed: float | None
    kappa: float | None
    lower: float | None
    upper: float | None
    reason: str | None = None


def kappa(first: pl.Series, second: pl.Series) -> Agreement:
    """Agreement of two series of labels, pair by pair, without nulls. Raises JobError for unequal lengths or nulls."""
    if len(first) != len(second) or first.null_count() or second.null_count():
        lengths = f"{len(first)} and {len(second)} labels, {first.null_count() + second.null_count()} of them null"
        raise JobError(f"Agreement needs two labels of every trace; came {lengths}.")
    n = len(first)
    if n == 0:
        return Agreement(0, None, None, None, None, "nothing was labelled twice")
    names = sorted({*first.to_list(), *second.to_list()})
    index = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, ([index[name] for name in first], [index[name] for name in second]), 1.0)
    table = counts / n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, expected = float(np.trace(counts)) / n, float(rows @ columns)
    if expected > 1.0 - 1e-12:
        return Agreement(n, observed, None, None, None, "both gave every trace the same label")
    value = (observed - expected) / (1.0 - expected)
    if n < FEWEST:
        return Agreement(n, observed, value, None, None, f"an interval needs {FEWEST} traces labelled twice")
    spread = _Z95 * sqrt(_variance(table, value, expected) / n)
    return Agreement(n, observed, value, max(-1.0, value - spread), min(1.0, value + spread))


def _variance(table: NDArray[np.float64], value: float, expected: float) -> float:
    """n times the variance of kappa; `table` holds shares, rows the first labeller."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    diagonal = np.diag(table)
    agreeing = float((diagonal * (1.0 - (rows + columns) * (1.0 - value)) ** 2).sum())
    crossed = table * (columns[:, None] + rows[None, :]) ** 2
    disagreeing = (1.0 - value) ** 2 * float(crossed.sum() - np.trace(crossed))
    return max(0.0, agreeing + disagreeing - (value - expected * (1.0 - value)) ** 2) / (1.0 - expected) ** 2
