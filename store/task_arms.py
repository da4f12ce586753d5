"""Mean rewards of each arm in each task of an agent: what is known of the arms where."""

import polars as pl

from store.connection import Store
from store.scope import ACTIVE_REWARDS

__all__ = ["TASK_ARMS", "means"]

TASK_ARMS = pl.Schema(
    {"agent": pl.String(), "task": pl.String(), "arm": pl.String(), "mean": pl.Float64(), "n": pl.Int64()}
)


def means(store: Store, agent: str, *, timeout: float | None = None) -> pl.DataFrame:
    """By the active model, over traces with signals of their own; arms that are not enabled are left out (TASK_ARMS).

    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT t.agent, t.task, t.arm, avg(r.mean) AS mean, count(*) AS n
            FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
            WHERE t.agent = $agent AND t.task IS NOT NULL AND t.arm IS NOT NULL AND r.signals > 0
                AND NOT EXISTS (
                    SELECT 1 FROM arms AS a WHERE a.agent = t.agent AND a.arm = t.arm AND a.state <> 'enabled')
            GROUP BY ALL ORDER BY t.task, t.arm""",
            TASK_ARMS,
            {"agent": agent},
        )
