"""pass^k: the probability that all of k rollouts of a task succeed, averaged over tasks (Yao et al. 2024, tau-bench).

The unbiased estimator for a task with c successes in n rollouts is C(c, k) / C(n, k); tasks with fewer than k rollouts
say nothing about pass^k and are left out and counted. Rollouts of one task depend on one another, so the interval is
over tasks: mean ± t sd/√tasks.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipelines.stats.contract import require

__all__ = ["OUTCOMES", "PASS_K", "pass_k", "unbiased"]

OUTCOMES = pl.Schema({"task": pl.String(), "success": pl.Boolean()})
PASS_K = pl.Schema(
    {
        "k": pl.Int64(),
        "mean": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "tasks": pl.Int64(),
        "tasks_too_small": pl.Int64(),
    }
)


def unbiased(successes: NDArray[np.int64], rollouts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """C(c, k) / C(n, k) per task, as a product of k ratios so that large counts do not overflow.

    Raises ValueError unless rollouts ≥ k ≥ 1.
    """
    if k < 1 or np.any(rollouts < k):
        raise ValueError(f"pass^{k} needs k of at least 1 and tasks of at least k rollouts")
    steps = np.arange(k)
    ratios = (successes[:, None] - steps) / (rollouts[:, None] - steps)
    return np.asarray(np.prod(np.maximum(ratios, 0.0), axis=1), dtype=np.float64)


def pass_k(outcomes: pl.DataFrame, largest: int = 4, level: float = 0.95) -> pl.DataFrame:
    """pass^1..pass^largest of one row per rollout (columns OUTCOMES, no nulls) as a frame of columns PASS_K.

    Mean and limits are null where no task has k rollouts; the limits also where only one task does.
    """
    outcomes = require(outcomes, OUTCOMES, "pass^k outcomes", not_null=OUTCOMES.names())
    per_task = outcomes.group_by("task").agg(c=pl.col("success").sum().cast(pl.Int64), n=pl.len().cast(pl.Int64))
    counts = per_task.sort("task")
    c, n = counts["c"].to_numpy(), counts["n"].to_numpy()
    rows = []
    for k in range(1, largest + 1):
        enough = n >= k
        values = unbiased(c[enough], n[enough], k)
        mean = lower = upper = None
        if values.size:
            mean = float(values.mean())
        if values.size > 1 and mean is not None:
            margin = float(stdtrit(values.size - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(values.size))
            lower, upper = max(0.0, mean - margin), min(1.0, mean + margin)
        rows.append((k, mean, lower, upper, int(enough.sum()), int((~enough).sum())))
    return pl.DataFrame(rows, schema=PASS_K, orient="row")
