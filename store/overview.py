"""What the Overview asks: headline numbers of a scope, over time and per agent, and what waits for an operator."""

from typing import Literal

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS, EXPLICIT_KINDS, FEEDBACK_TRACES, SECONDS, Scope, scope_conditions, where

Bucket = Literal["hour", "day", "week"]

# `known` traces state whether they succeeded, `costed` a cost, `timed` both times; `feedback` have an explicit signal.
# `reward_variance` is the variance of the traces' means, `reward_sd2` the mean of their own variances;
# `reward_shared_sd` is what traces without signals have in common: the sd of their tasks' means, averaged over all.
_MEASURES = {
    "traces": pl.Int64, "known": pl.Int64, "errors": pl.Int64, "users": pl.Int64, "feedback": pl.Int64,
    "costed": pl.Int64, "cost_usd": pl.Float64, "timed": pl.Int64, "seconds_p50": pl.Float64, "seconds_p95": pl.Float64,
    "rewarded": pl.Int64, "reward": pl.Float64, "reward_variance": pl.Float64, "reward_sd2": pl.Float64,
    "reward_shared_sd": pl.Float64,
}  # fmt: skip

HEADLINE = declare(_MEASURES)
AGENTS = declare({"agent": pl.String, **_MEASURES, "newest": UTC_TIME})
PER_BUCKET = declare({"bucket": UTC_TIME, "agent": pl.String, "traces": pl.Int64, "errors": pl.Int64})
REWARD_PER_BUCKET = declare(
    {"bucket": UTC_TIME, "rewarded": pl.Int64, "reward": pl.Float64, "reward_variance": pl.Float64,
     "reward_sd2": pl.Float64, "reward_shared_sd": pl.Float64}
)  # fmt: skip
EXTENT = declare(
    {"traces": pl.Int64, "spans": pl.Int64, "signals": pl.Int64, "batches": pl.Int64, "reward_models": pl.Int64,
     "lessons_held": pl.Boolean, "decisions_held": pl.Boolean, "oldest": UTC_TIME, "newest": UTC_TIME}
)  # fmt: skip
SEGMENTS = pl.Schema({"field": pl.String, "value": pl.String, "traces": pl.Int64})
WAITING = pl.Schema(
    {"lessons": pl.Int64, "exploration_rates": pl.Int64, "violations": pl.Int64, "arms_off": pl.Int64,
     "flagged_users": pl.Int64, "reject_batches": pl.Int64, "rejects": pl.Int64}
)  # fmt: skip

_REWARD_MEASURES = """
    count(r.mean) AS rewarded, avg(r.mean) AS reward, var_samp(r.mean) AS reward_variance,
    avg(r.sd * r.sd) AS reward_sd2,
    avg(CASE WHEN r.signals = 0 THEN coalesce(c.sd, r.sd)
        WHEN r.mean IS NOT NULL THEN 0 END) AS reward_shared_sd"""

_MEASURES_SQL = f"""
    count(*) AS traces,
    count(*) FILTER (t.status IN ('ok', 'error')) AS known,
    count(*) FILTER (t.status = 'error') AS errors,
    count(DISTINCT t.user_id) AS users,
    count(f.trace_id) AS feedback,
    count(t.cost_usd) AS costed, sum(t.cost_usd) AS cost_usd,
    count({SECONDS}) AS timed,
    quantile_cont({SECONDS}, 0.5) AS seconds_p50, quantile_cont({SECONDS}, 0.95) AS seconds_p95,
    {_REWARD_MEASURES}"""

# What the active model says of the task of a trace.
_TASKS = """(
    SELECT agent, task, sd FROM reward_cells
    WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
) AS c ON c.agent IS NOT DISTINCT FROM t.agent AND c.task IS NOT DISTINCT FROM t.task"""

_SOURCE = f"""traces AS t
    LEFT JOIN {FEEDBACK_TRACES} AS f USING (trace_id)
    LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
    LEFT JOIN {_TASKS}"""

# Where a bucket begins, in microseconds since 1970 (a Thursday; weeks begin on Monday): the engine's own function
# walks a calendar for every trace.
_HOUR = 3_600_000_000
_BUCKETS: dict[Bucket, tuple[int, int]] = {
    "hour": (_HOUR, 0), "day": (24 * _HOUR, 0), "week": (168 * _HOUR, 72 * _HOUR)
}  # fmt: skip


def _bucket(bucket: Bucket) -> str:
    width, shift = _BUCKETS[bucket]
    return f"epoch_us(t.seen_at) - ((epoch_us(t.seen_at) + {shift}) % {width} + {width}) % {width}"


def headline(store: Store, scope: Scope, *, timeout: float | None = None) -> pl.DataFrame:
    """The measures of all traces in the scope, as one row (HEADLINE). Raises: `QueryTimeout`."""
    conditions, params = scope_conditions(scope)
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"SELECT {_MEASURES_SQL} FROM {_SOURCE} {where(conditions)}",
            HEADLINE,
            {**params, "explicit": list(EXPLICIT_KINDS)},
        )


def agents(store: Store, scope: Scope, *, limit: int = 100, timeout: float | None = None) -> pl.DataFrame:
    """The measures of each agent in the scope, the busiest first (AGENTS). Raises: `QueryTimeout`."""
    conditions, params = scope_conditions(scope)
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT t.agent, {_MEASURES_SQL}, max(t.seen_at) AS newest FROM {_SOURCE} {where(conditions)}
            GROUP BY t.agent ORDER BY traces DESC, t.agent LIMIT $limit""",
            AGENTS,
            {**params, "explicit": list(EXPLICIT_KINDS), "limit": limit},
        )


def per_bucket(store: Store, scope: Scope, bucket: Bucket, *, timeout: float | None = None) -> pl.DataFrame:
    """Traces and failed ones in each hour, day or week (from Monday) in UTC and of each agent (PER_BUCKET).

    Raises: `QueryTimeout`.
    """
    conditions, params = scope_conditions(scope)
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT make_timestamptz(begun) AS bucket, agent, traces, errors FROM (
                SELECT {_bucket(bucket)} AS begun, t.agent AS agent,
                    count(*) AS traces, count(*) FILTER (t.status = 'error') AS errors
                FROM traces AS t {where(conditions)} GROUP BY ALL)
            ORDER BY bucket, agent""",
            PER_BUCKET,
            params,
        )


def reward_per_bucket(store: Store, scope: Scope, bucket: Bucket, *, timeout: float | None = None) -> pl.DataFrame:
    """Rewards of the active model in each hour, day or week in UTC (REWARD_PER_BUCKET). Raises: `QueryTimeout`."""
    conditions, params = scope_conditions(scope)
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT make_timestamptz(begun) AS bucket, * EXCLUDE (begun) FROM (
                SELECT {_bucket(bucket)} AS begun, {_REWARD_MEASURES}
                FROM traces AS t JOIN {ACTIVE_REWARDS} AS r USING (trace_id) LEFT JOIN {_TASKS} {where(conditions)}
                GROUP BY begun)
            ORDER BY bucket""",
            REWARD_PER_BUCKET,
            params,
        )


def extent(store: Store, *, timeout: float | None = None) -> pl.DataFrame:
    """How much the store holds and from when to when, as one row (EXTENT)."""
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """SELECT count(*) AS traces, (SELECT count(*) FROM spans) AS spans,
                (SELECT count(*) FROM signals) AS signals,
                (SELECT count(*) FROM ingest_batches) AS batches,
                (SELECT count(*) FROM reward_models WHERE active) AS reward_models,
                EXISTS (FROM lessons) AS lessons_held, EXISTS (FROM decisions) AS decisions_held,
                min(seen_at) AS oldest, max(seen_at) AS newest
            FROM traces""",
            EXTENT,
        )


def segments(store: Store, *, limit: int = 200, timeout: float | None = None) -> pl.DataFrame:
    """The values of agent, arm and model that traces have, the `limit` most frequent of each (SEGMENTS)."""
    counted = " UNION ALL ".join(
        f"""SELECT '{column}' AS field, {column} AS value, count(*) AS traces
        FROM traces WHERE {column} IS NOT NULL GROUP BY ALL"""
        for column in ("agent", "arm", "model")
    )
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""FROM ({counted})
            QUALIFY row_number() OVER (PARTITION BY field ORDER BY traces DESC, value) <= $limit
            ORDER BY field, traces DESC, value""",
            SEGMENTS,
            {"limit": limit},
        )


def waiting(store: Store, scope: Scope, *, timeout: float | None = None) -> pl.DataFrame:
    """What waits for an operator, as one row of counts (WAITING).

    Rejects are of batches received, and violations of guardrails found, since `scope.since`; arms those that a
    guardrail switched off; users those that the latest drift run flagged
    for a change that nothing known explains.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """SELECT
                (SELECT count(*) FROM lessons WHERE state = 'proposed') AS lessons,
                (SELECT count(*) FROM exploration_rates WHERE state = 'recommended') AS exploration_rates,
                (SELECT count(*) FROM guardrail_violations
                    WHERE $since::TIMESTAMPTZ IS NULL OR found_at >= $since::TIMESTAMPTZ) AS violations,
                (SELECT count(*) FROM arms WHERE state = 'off' AND state_by = 'trimtab') AS arms_off,
                (SELECT count(DISTINCT user_id) FROM drift_findings
                    WHERE flagged AND level = 'user' AND explained_by IS NULL
                        AND run_id = (SELECT max(run_id) FROM drift_runs)) AS flagged_users,
                count(*) AS reject_batches, coalesce(sum(rejected), 0)::BIGINT AS rejects
            FROM ingest_batches
            WHERE rejected > 0 AND ($since::TIMESTAMPTZ IS NULL OR received_at >= $since::TIMESTAMPTZ)""",
            WAITING,
            {"since": scope.since},
        )
