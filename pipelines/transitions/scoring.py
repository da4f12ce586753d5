"""Surprise of whole traces: the mean standardised surprise of their transitions and its conformal p-value."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipelines.transitions.conformal import NO_GROUP, ConformalConfig, p_values
from pipelines.transitions.dirichlet import Surprise
from pipelines.transitions.episodes import Transitions
from store.transition_models import SURPRISE

__all__ = ["REFERENCE", "score"]

REFERENCE = timedelta(days=30)
_LEVELS = {0: "task", 1: "agent", -1: "none"}


def score(
    agent: str,
    episodes: pl.DataFrame,
    moves: Transitions,
    surprise: Surprise,
    until: datetime,
    config: ConformalConfig | None = None,
) -> pl.DataFrame:
    """One row (columns `SURPRISE`) per episode of one agent, in their order.

    An episode is compared with those seen in the 30 days up to `until`, the end of the data.
    """
    cells = (moves.source, moves.target)
    n = np.bincount(moves.trace, minlength=moves.traces)
    totals = [
        np.bincount(moves.trace, weights=matrix[cells], minlength=moves.traces)
        for matrix in (surprise.z, surprise.information, surprise.bayesian)
    ]
    mean_z = totals[0] / n
    recent = (episodes["seen_at"] > until - REFERENCE).to_numpy()
    tasks = episodes["task"].rank("dense").fill_null(0).to_numpy().astype(np.int64) - 1
    unusual = p_values(
        mean_z, recent, [np.where(tasks < 0, NO_GROUP, tasks), np.zeros(episodes.height, dtype=np.int64)], config
    )
    return pl.DataFrame(
        {
            "trace_id": episodes["trace_id"],
            "agent": [agent] * episodes.height,
            "transitions": n,
            "mean_z": mean_z,
            "information": totals[1],
            "bayesian": totals[2],
            "p_value": pl.Series(unusual.p).fill_nan(None),
            "compared": unusual.others,
            "comparison": pl.Series(unusual.level).replace_strict(_LEVELS, return_dtype=pl.String()),
        }
    ).select(pl.col(name).cast(dtype) for name, dtype in SURPRISE.items())
