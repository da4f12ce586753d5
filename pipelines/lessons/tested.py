"""Tests of many yes/no patterns at once, from sums per pattern and stratum.

The same statistics as `pipelines.stats.stratified.compare`, for all patterns together: with x the pattern and y the
outcome, T = Σ_s Σ_i (x_i - x̄_s) y_i has under exchangeability within strata the variance Σ_s Sxx Syy / (n_s - 1); the
effect T / Σ Sxx is least squares with an intercept per stratum, with an HC1 interval. All of it follows from counts,
sums and squares of the rows with the pattern and of all rows of a stratum. For outcomes of two values in up to
`EXACT_STRATA` informative strata p is exact.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from pipelines.lessons.patterns import CELLS
from pipelines.stats.stratified import EXACT_STRATA, exact_p

__all__ = ["TESTS", "assess"]

TESTS: Final = pl.Schema(
    {
        "kind": pl.UInt8(),
        "tool": pl.UInt32(),
        "other": pl.UInt32(),
        "effect": pl.Float64(),
        "lower": pl.Float64(),  # null where there are too few rows for an interval
        "upper": pl.Float64(),
        "z": pl.Float64(),
        "p_value": pl.Float64(),  # null where no stratum has different outcomes
        "exact": pl.Boolean(),
        "rollouts_with": pl.Int64(),
        "rollouts_without": pl.Int64(),
        "tasks": pl.Int64(),
        "informative_tasks": pl.Int64(),
        "holds": pl.UInt64(),  # fingerprints: of the rows with the pattern,
        "lacks": pl.UInt64(),  # and of those without, in strata that have both
    }
)
Floats = NDArray[np.float64]
_PATTERN: Final = ("kind", "tool", "other")


def assess(cells: pl.DataFrame, binary: NDArray[np.bool_], *, level: float = 0.95) -> pl.DataFrame:
    """One row per pattern of `cells` (columns CELLS) that varies within a stratum (columns TESTS), by kind and tools.

    Args: `binary` says per stratum code whether its agent's outcomes take two values, so that p can be exact.
    """
    cells = cells.filter((pl.col("n1") > 0) & (pl.col("n1") < pl.col("n"))).select(list(CELLS))
    cells = cells.sort(*_PATTERN, "stratum").with_columns(
        pattern=pl.struct(_PATTERN).rle_id().cast(pl.Int64), rest=pl.col("h") - pl.col("h1")
    )
    if cells.is_empty():
        return pl.DataFrame(schema=TESTS)
    named = cells.group_by("pattern", *_PATTERN, maintain_order=True).agg(
        rollouts_with=pl.col("n1").sum(), rollouts_without=(pl.col("n") - pl.col("n1")).sum(),
        tasks=pl.len().cast(pl.Int64), holds=pl.col("h1").sum(), lacks=pl.col("rest").sum(),
    )  # fmt: skip
    code, count = cells["pattern"].to_numpy(), named.height
    n, n1, y, yy, y1, yy1 = (cells[name].to_numpy().astype(np.float64) for name in ("n", "n1", "y", "yy", "y1", "yy1"))

    def total(values: Floats) -> Floats:
        return np.bincount(code, weights=values, minlength=count).astype(np.float64)

    mean, share = y / n, n1 / n
    t, sxx = y1 - n1 * mean, n1 * (1.0 - share)
    syy = np.maximum(yy - n * mean**2, 0.0)
    informative = syy > 1e-12
    all_sxx = total(sxx)
    effect = total(t) / all_sxx
    variance = total(sxx * syy / (n - 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = total(t) / np.sqrt(variance)
    strata = total(informative.astype(np.float64))
    z[strata == 0] = np.nan
    p_value = 2.0 * ndtr(-np.abs(z))
    # Squared residuals y - effect x, both centred, of the rows with the pattern and of those without.
    squares1 = yy1 - 2.0 * mean * y1 + n1 * mean**2
    slope = effect[code]
    with_ = squares1 - 2.0 * slope * (1.0 - share) * t + n1 * (slope * (1.0 - share)) ** 2
    without = (syy - squares1) - 2.0 * slope * share * t + (n - n1) * (slope * share) ** 2
    meat = total(np.maximum((1.0 - share) ** 2 * with_ + share**2 * without, 0.0))
    rows = total(n)
    freedom = rows - named["tasks"].to_numpy() - 1.0
    spread = np.sqrt(meat) / all_sxx * np.sqrt(rows / np.maximum(freedom, 1.0))
    margin = np.where(freedom >= 1.0, stdtrit(np.maximum(freedom, 1.0), 0.5 + level / 2) * spread, np.nan)
    exact = (np.bincount(code, weights=~binary[cells["stratum"].to_numpy()], minlength=count) == 0) & (
        strata <= EXACT_STRATA
    )
    starts = np.searchsorted(code, np.arange(count + 1))
    s1, s = cells["s1"].to_numpy().astype(np.float64), cells["s"].to_numpy().astype(np.float64)
    for place in np.flatnonzero(exact & (strata > 0)):
        own = slice(starts[place], starts[place + 1])
        p_value[place] = exact_p(float(s1[own].sum()), n1[own], n[own], s[own], informative[own])
    frame = named.with_columns(
        effect=effect, lower=effect - margin, upper=effect + margin, z=z, p_value=p_value, exact=exact,
        informative_tasks=strata.astype(np.int64),
    )  # fmt: skip
    return frame.with_columns(pl.col("lower", "upper", "z", "p_value").fill_nan(None)).select(list(TESTS)).cast(TESTS)
