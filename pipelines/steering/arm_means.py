"""Mean reward of every arm, of an agent or in each of its segments, and how surely it is known.

Each trace's reward is a posterior mean r_i with an sd_i of its own. As those vary less than what they estimate by just
these sds, their mean's sampling variance is that of the r_i alone; but it is never surer than the sds together, which
is what counts where rewards are hardly more than predictions and so hardly vary. The mean is weighted (`weight`: 1, or
more for young traces of which few have their signals yet; 1 / propensity where the draw was logged: Hajek 1971), and
its variance is that of the weighted sums of each user around it (Liang & Zeger 1986):

    var = max(C / (C - 1) sum_c (sum_i w_i (r_i - m))^2, sum_i w_i^2 sd_i^2) / W^2

A trace without a user is a cluster of its own. With few clusters this is too small: it is stretched to Student's
interval (Bell & McCaffrey 2002, here with C - 1 degrees of freedom of the effective number of clusters), and below
`LEAST_CLUSTERS` it is not used: the variance then comes from the spread between and within users of all arms together
(analysis of variance, Henderson 1953, method 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import t as student

__all__ = ["LEAST_CLUSTERS", "MEANS", "Spreads", "arm_means", "spreads"]

LEAST_CLUSTERS = 10
_DEFAULT_BETWEEN, _DEFAULT_WITHIN = 0.01, 0.08  # variances, where nothing tells them
_LEAST_VARIANCE = 1e-8

MEANS = pl.Schema(
    {
        "mean": pl.Float64(),
        "variance": pl.Float64(),
        "n": pl.Int64(),
        "clusters": pl.Float64(),  # effective number
        "randomised": pl.Boolean(),
    }
)


@dataclass(frozen=True)
class Spreads:
    """Variance of users' means around an arm's, and of traces around a user's, at least what rewards leave open."""

    between: float
    within: float


def spreads(traces: pl.DataFrame) -> Spreads:
    """The spreads of one agent, over all arms together; `traces` with arm, cluster, mean and sd."""
    if traces.is_empty():
        return Spreads(_DEFAULT_BETWEEN, _DEFAULT_WITHIN)
    cells = traces.group_by("arm", "cluster").agg(
        total=pl.col("mean").sum(),
        squares=(pl.col("mean") ** 2).sum(),
        own=(pl.col("sd") ** 2).sum(),
        n=pl.len(),
    )
    arms = cells.group_by("arm").agg(
        count=pl.len(), rows=pl.col("n").sum(), total=pl.col("total").sum(), squares=pl.col("squares").sum(),
        own=pl.col("own").sum(), explained=(pl.col("total") ** 2 / pl.col("n")).sum(),
        sizes=(pl.col("n").cast(pl.Float64) ** 2).sum(),
    )  # fmt: skip
    rows, count = float(arms["rows"].sum()), float(arms["count"].sum())
    own = float(arms["own"].sum()) / rows
    inside = float((arms["squares"] - arms["explained"]).sum())
    across = float((arms["explained"] - arms["total"] ** 2 / arms["rows"]).sum())
    free, groups = rows - count, count - arms.height
    if groups < 1:
        return Spreads(_DEFAULT_BETWEEN, max(_DEFAULT_WITHIN, own))
    typical = float((arms["rows"] - arms["sizes"] / arms["rows"]).sum())
    if free < 1 or typical <= 0.0:
        # One trace a user: what lies between users and what within cannot be told apart, and need not be.
        return Spreads(max(across / groups, _LEAST_VARIANCE), own)
    within = max(inside, 0.0) / free
    return Spreads(max((across - groups * within) / typical, 0.0), max(within, own, _LEAST_VARIANCE))


def arm_means(traces: pl.DataFrame, by: Sequence[str], found: Spreads) -> pl.DataFrame:
    """Columns `by` and MEANS, one row a group.

    `traces` of one agent with `by`, cluster, mean, sd, weight (> 0) and randomised; `found` by `spreads`.
    """
    keys = list(by)
    rows = traces.with_columns(
        centre=(pl.col("mean") * pl.col("weight")).sum().over(keys) / pl.col("weight").sum().over(keys)
    )
    clusters = rows.group_by(*keys, "cluster").agg(
        pulled=(pl.col("weight") * (pl.col("mean") - pl.col("centre"))).sum(),
        held=pl.col("weight").sum(),
        squares=(pl.col("weight") ** 2).sum(),
        own=(pl.col("weight") ** 2 * pl.col("sd") ** 2).sum(),
        centre=pl.col("centre").first(),
        n=pl.len(),
        randomised=pl.col("randomised").all(),
    )
    total = pl.col("held").sum()
    means = clusters.group_by(keys).agg(
        mean=pl.col("centre").first(),
        robust=(pl.col("pulled") ** 2).sum() / total**2 * pl.len() / (pl.len() - 1).clip(lower_bound=1),
        own=pl.col("own").sum() / total**2,
        modelled=(found.between * (pl.col("held") ** 2).sum() + found.within * pl.col("squares").sum()) / total**2,
        clusters=total**2 / (pl.col("held") ** 2).sum(),
        n=pl.col("n").sum().cast(pl.Int64),
        randomised=pl.col("randomised").all(),
    )
    effective = means["clusters"].to_numpy()
    stretch = (student.ppf(0.975, np.maximum(effective - 1.0, 1.0)) / student.ppf(0.975, np.inf)) ** 2
    variance = np.where(effective >= LEAST_CLUSTERS, stretch * means["robust"].to_numpy(), means["modelled"].to_numpy())
    variance = np.maximum(variance, means["own"].to_numpy())
    return means.with_columns(variance=np.maximum(variance, _LEAST_VARIANCE)).select(*keys, *MEANS.names()).sort(keys)
