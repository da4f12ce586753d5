"""Lists of items shown and what was clicked: how much each position is looked at, and the list of each trace."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.rewards.measured import CLICKS
from pipelines.rewards.response_models import Array, IntArray
from pipelines.stats import click_model
from pipelines.stats.contract import FitRefused

__all__ = ["MOST_POSITIONS", "Lists", "click_rows", "examine", "impressions", "lists"]

MOST_POSITIONS = 10


@dataclass(frozen=True)
class Lists:
    """Lists of one agent's traces: states are 2 (position - 1) + clicked.

    `drawn` (traces,) is one impression of each list, -1 without one; `code` (traces,) the whole list, -1 without one;
    `members` (codes, states) each list's impressions as shares of 1.
    """

    drawn: IntArray
    code: IntArray
    members: Array


def impressions(signals: pl.DataFrame) -> pl.DataFrame:
    """One row per impression with `clicked`: a click belongs to the same trace (or session), item and position."""
    # Without trace, session and user only the same moment tells which impression a click belongs to.
    moment = pl.col("occurred_at").dt.epoch("us").cast(pl.String)
    where = pl.coalesce(pl.col("trace_id"), pl.col("session_id"), pl.col("user_id"), moment)
    what = pl.coalesce(pl.col("item"), pl.lit("position ") + pl.col("position").cast(pl.String))
    both = signals.filter(pl.col("kind").is_in(["impression", "click"])).with_columns(where=where, what=what)
    clicked = both.filter(pl.col("kind") == "click").select("where", "what").unique().with_columns(clicked=True)
    return (
        both.filter(pl.col("kind") == "impression")
        .filter(pl.col("where").is_not_null())
        .join(clicked, on=["where", "what"], how="left")
        .with_columns(pl.col("clicked").fill_null(False))
    )


def examine(shown: pl.DataFrame, level: float) -> tuple[click_model.Examination | None, str | None]:
    """Examination by position of one agent's impressions; None and the reason when it cannot be told.

    Positions count as drawn at random where propensities are below 1 and say between which positions: with the rank
    before the draw each item is compared with itself at that rank, and without it only uniform propensities will do.
    """
    rows = shown.filter(pl.col("position").is_between(1, MOST_POSITIONS))
    if rows.is_empty():
        return None, "no impression states its position"
    propensity = rows["propensity"]
    drawn = ((propensity > 0.0) & (propensity < 1.0)).fill_null(False)
    uniform = bool(drawn.all()) and propensity.n_unique() == 1
    ranked = drawn & rows["base_rank"].is_not_null()
    randomised = np.ones(rows.height, dtype=bool) if uniform else ranked.to_numpy()
    stratum = pl.struct("item") if uniform else pl.struct("item", "base_rank")
    item = rows.select(stratum.rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    users = (rows.select(pl.col("user_id").fill_null("").rank("dense")).to_series().cast(pl.Int64) - 1).to_numpy()
    try:
        fitted = click_model.fit(
            item.astype(np.int64),
            rows["position"].cast(pl.Int64).to_numpy(),
            rows["clicked"].to_numpy(),
            users=users.astype(np.int64),
            randomised=randomised if randomised.any() else None,
            level=level,
        )
    except FitRefused as refused:
        return None, str(refused)
    return fitted, fitted.note


def click_rows(agent: str | None, fitted: click_model.Examination) -> pl.DataFrame:
    """Examination as rows of CLICKS."""
    return pl.DataFrame(
        {
            "agent": pl.Series([agent] * len(fitted.positions), dtype=pl.String),
            "position": fitted.positions,
            "examination": fitted.examination,
            "sd": fitted.examination * fitted.log_sd,
            "lower": fitted.lower,
            "upper": fitted.upper,
            "n": fitted.impressions,
            "basis": [str(fitted.basis)] * len(fitted.positions),
        }
    ).cast(CLICKS)


def lists(shown: pl.DataFrame, rows: IntArray) -> Lists:
    """The lists of the traces numbered `rows` (ascending); `shown` has `row`, `position` and `clicked`.

    The impression drawn rotates with the trace, so it depends on nothing that was clicked.
    """
    placed = (
        shown.filter(pl.col("row").is_not_null() & pl.col("position").is_between(1, MOST_POSITIONS))
        .group_by("row", "position")
        .agg(clicked=pl.col("clicked").any())
        .with_columns(state=2 * (pl.col("position").cast(pl.Int64) - 1) + pl.col("clicked").cast(pl.Int64))
        .sort("row", "position")
    )
    per_trace = placed.group_by("row", maintain_order=True).agg(
        code=(pl.lit(3, dtype=pl.Int64).pow(pl.col("position").cast(pl.Int64) - 1) * (1 + pl.col("clicked"))).sum(),
        drawn=pl.col("state").get(pl.col("row").first() % pl.len()),
    )
    at = np.searchsorted(rows, per_trace["row"].to_numpy())
    drawn, code = np.full(len(rows), -1, dtype=np.int64), np.full(len(rows), -1, dtype=np.int64)
    drawn[at] = per_trace["drawn"].to_numpy()
    distinct, inverse = np.unique(per_trace["code"].to_numpy(), return_inverse=True)
    code[at] = inverse
    members = np.zeros((len(distinct), 2 * MOST_POSITIONS))
    for position in range(MOST_POSITIONS):
        digit = (distinct // 3**position) % 3
        members[digit == 1, 2 * position] = 1.0
        members[digit == 2, 2 * position + 1] = 1.0
    return Lists(drawn, code, members / np.maximum(members.sum(axis=1, keepdims=True), 1.0))
