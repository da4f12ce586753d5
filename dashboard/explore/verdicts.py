"""Verdicts on an agent's arms against its baseline, from the decisions with outcomes or, failing these, all traces."""

from typing import Final

import polars as pl

from dashboard import data
from pipelines.exploration import stopping
from pipelines.exploration.pseudo_outcomes import BURN_IN
from store import logged_decisions, rewards
from store.connection import Store

__all__ = ["of_agent", "words"]

_NO_DRAWS: Final = pl.DataFrame(schema=stopping.DECISIONS)


def of_agent(agent: str, baseline: str) -> pl.DataFrame:
    """One row for each other arm (columns `pipelines.exploration.stopping.VERDICTS`). Raises: `QueryTimeout`."""
    return data.query(_verdicts, agent, baseline)


def words(row: dict[str, object]) -> str:
    """The verdict in words, with what is still needed."""
    said = str(row["verdict"])
    more = row["more_decisions"]
    if said not in (stopping.OPEN, stopping.NO_WORSE) or not isinstance(more, int):
        return said
    return f"{said}, about {more:,} more decisions" if said == stopping.OPEN else said


def _verdicts(store: Store, agent: str, baseline: str, *, timeout: float | None = None) -> pl.DataFrame:
    usable = logged_decisions.usable(logged_decisions.read(store, agent, timeout=timeout))
    if usable.height > BURN_IN:
        return stopping.verdicts(usable.select(list(stopping.DECISIONS)), baseline)
    seen = rewards.by_arm(store).filter((pl.col("agent") == agent) & (pl.col("signals") > 0))
    if seen.is_empty():
        return pl.DataFrame(schema=stopping.VERDICTS)
    rows = _NO_DRAWS.clear().join(seen.select("arm", reward="mean"), on=["arm", "reward"], how="full", coalesce=True)
    return stopping.verdicts(rows.select(list(stopping.DECISIONS)), baseline, randomised=False)
