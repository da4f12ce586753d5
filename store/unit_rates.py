"""Exploration rates of segments and users, which are decided together with their agent's (`store.exploration`)."""

from datetime import datetime
from typing import Literal

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = [
    "APPLIED", "UNITS_OF_USER", "UNIT_RATES", "UNIT_SUMMARY", "applied_rates", "of_user", "unit_rates", "unit_summary",
]  # fmt: skip

UNIT_RATES = declare(
    {
        "agent": pl.String, "scope": pl.String, "unit": pl.String, "rate": pl.Float64, "lower": pl.Float64,
        "upper": pl.Float64, "decisions": pl.Int64, "doubt": pl.Float64, "progress": pl.Float64, "drift": pl.Float64,
        "tolerance": pl.Float64, "tolerance_sd": pl.Float64, "dial": pl.Float64, "reason": pl.String,
    }
)  # fmt: skip
UNITS_OF_USER = declare({**UNIT_RATES, "recommended_at": UTC_TIME, "state": pl.String})
UNIT_SUMMARY = declare(
    {
        "scope": pl.String, "units": pl.Int64, "never": pl.Int64, "mean": pl.Float64, "lowest": pl.Float64,
        "median": pl.Float64, "highest": pl.Float64,
    }
)  # fmt: skip
APPLIED = declare({"scope": pl.String, "unit": pl.String, "rate": pl.Float64})


def applied_rates(store: Store, agent: str) -> pl.DataFrame:
    """The rates in force for an agent (columns `APPLIED`): scope agent with unit '', then segments and users.

    Empty where no recommendation was ever applied: then `RATE_WITHOUT_DECISION` holds.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH applied AS (
                SELECT recommended_at, rate FROM exploration_rates WHERE agent = $agent AND state = 'applied')
            SELECT 'agent' AS scope, '' AS unit, rate FROM applied
            UNION ALL
            SELECT u.scope, u.unit, u.rate FROM unit_rates AS u JOIN applied USING (recommended_at)
            WHERE u.agent = $agent
            ORDER BY scope, unit""",
            APPLIED,
            {"agent": agent},
        )


def unit_rates(
    store: Store,
    agent: str,
    recommended_at: datetime,
    *,
    scope: Literal["segment", "user"] | None = None,
    search: str = "",
    limit: int = 200,
    offset: int = 0,
) -> pl.DataFrame:
    """Rates of segments and users of one recommendation, segments first, highest first (columns `UNIT_RATES`).

    `search` is a text that the unit's name holds, capitals or not.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(UNIT_RATES)} FROM unit_rates
            WHERE agent = $agent AND recommended_at = $moment AND ($scope IS NULL OR scope = $scope)
                AND ($search = '' OR contains(lower(unit), lower($search)))
            ORDER BY scope, rate DESC, unit LIMIT $limit OFFSET $offset""",
            UNIT_RATES,
            {
                "agent": agent, "moment": recommended_at, "scope": scope, "search": search, "limit": limit,
                "offset": offset,
            },
        )  # fmt: skip


def unit_summary(store: Store, agent: str, recommended_at: datetime) -> pl.DataFrame:
    """How many segments and users one recommendation has rates for, and which (columns `UNIT_SUMMARY`).

    `never` counts the units with rate 0.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT scope, count(*) AS units, count(*) FILTER (rate = 0) AS never, avg(rate) AS mean,
                min(rate) AS lowest, median(rate) AS median, max(rate) AS highest
            FROM unit_rates WHERE agent = $agent AND recommended_at = $moment GROUP BY scope ORDER BY scope""",
            UNIT_SUMMARY,
            {"agent": agent, "moment": recommended_at},
        )


def of_user(store: Store, user_id: str) -> pl.DataFrame:
    """One user's rates at every agent, waiting and applied (columns `UNITS_OF_USER`)."""
    columns = ", ".join(f"u.{column}" for column in UNIT_RATES)
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {columns}, u.recommended_at, r.state
            FROM unit_rates AS u JOIN exploration_rates AS r USING (agent, recommended_at)
            WHERE u.scope = 'user' AND u.unit = $user AND r.state IN ('recommended', 'applied')
            ORDER BY u.agent, r.state DESC""",
            UNITS_OF_USER,
            {"user": user_id},
        )
