"""Contrasts of good and bad rollouts: what comparing them reads, and what the newest run found, for the page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.learning import learnt_from

ROLLOUTS = declare(
    {
        "trace_id": pl.String,
        "trace_key": pl.UInt64,  # of store.failures.CALLS
        "agent": pl.String,
        "task": pl.String,
        "seen_at": UTC_TIME,
        "failed": pl.Boolean,  # the trace ended in error
        "reward": pl.Float64,
        "reward_sd": pl.Float64,
        "outcome": pl.Float64,  # what the trace's own signals say of its reward; null without any
        "outcome_sd": pl.Float64,  # of its noise
        "axis": pl.String,  # first failure label; null where it did not go badly
    }
)
SERVED = declare(
    {
        "lesson_id": pl.String, "agent": pl.String, "task": pl.String, "segment": pl.String, "user_id": pl.String,
        "state": pl.String, "served_since": UTC_TIME, "title": pl.String, "when_text": pl.String, "do_text": pl.String,
    }
)  # fmt: skip
REQUESTS = pl.Schema({"agent": pl.String(), "task": pl.String(), "input": pl.String()})
USER_SHARES = pl.Schema({"agent": pl.String(), "task": pl.String(), "user_id": pl.String(), "share": pl.Float64()})
AGENTS = pl.Schema(
    {
        "agent": pl.String(),
        "traces": pl.Int64(),
        "used": pl.Int64(),
        "set_aside_environment": pl.Int64(),
        "set_aside_request": pl.Int64(),
        "set_aside_exploration": pl.Int64(),
        "without_outcome": pl.Int64(),
        "tasks": pl.Int64(),
        "mixed": pl.Int64(),
        "tested": pl.Int64(),
        "survive": pl.Int64(),
        "findings": pl.Int64(),
        "best_q": pl.Float64(),
        "note": pl.String(),
    }
)
GROUPS = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "traces": pl.Int64(),
        "traces_per_day": pl.Float64(),
        "rollouts": pl.Int64(),
        "set_aside": pl.Int64(),
        "without_outcome": pl.Int64(),
        "mean_outcome": pl.Float64(),
        "standard_error": pl.Float64(),
        "sd_outcome": pl.Float64(),
        "uncovered": pl.Float64(),
        "value": pl.Float64(),
        "best_trace_id": pl.String(),
        "worst_trace_id": pl.String(),
        "good_trace_ids": pl.List(pl.String()),
        "bad_trace_ids": pl.List(pl.String()),
        "kind": pl.String(),
        "step": pl.Int32(),
        "previous_action": pl.String(),
        "best_action": pl.String(),
        "worst_action": pl.String(),
        "best_span_id": pl.String(),
        "worst_span_id": pl.String(),
        "escalate": pl.String(),
    }
)
PATTERNS = pl.Schema(
    {
        "agent": pl.String(),
        "pattern": pl.String(),
        "kind": pl.String(),
        "tool": pl.String(),
        "other_tool": pl.String(),
        "argument": pl.String(),
        "shape": pl.String(),
        "effect": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
        "survives": pl.Boolean(),
        "exact": pl.Boolean(),
        "rollouts_with": pl.Int64(),
        "rollouts_without": pl.Int64(),
        "tasks": pl.Int64(),
        "informative_tasks": pl.Int64(),
        "family": pl.Int64(),
        "same_as": pl.List(pl.String()),
        "explained_by": pl.String(),
        "lesson_id": pl.String(),
        "escalate": pl.String(),
    }
)
RUNS = declare(
    {
        "run_id": pl.Int64, "contrasted_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "reward_model_id": pl.Int64, "failure_run_id": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip

SERVED_STATES = ("canary", "active")
_NEWEST = "(SELECT max(run_id) FROM contrast_runs)"
_TABLES = ("contrast_agents", "contrast_groups", "contrast_patterns")


@dataclass(frozen=True)
class Found:
    """What a run found: frames of the columns `AGENTS`, `GROUPS` and `PATTERNS`."""

    agents: pl.DataFrame
    groups: pl.DataFrame
    patterns: pl.DataFrame


def rollouts(store: Store) -> pl.DataFrame:
    """Every trace that has an agent and a task, also without signals (columns `ROLLOUTS`), by agent, task and id."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.trace_id, hash(t.trace_id) AS trace_key, t.agent, t.task, t.seen_at,
                t.status = 'error' AS failed, r.mean AS reward, r.sd AS reward_sd, r.outcome,
                r.outcome_sd, f.axis
            FROM traces AS t LEFT JOIN (
                SELECT trace_id, mean, sd, outcome, outcome_sd FROM rewards
                WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
            ) AS r USING (trace_id)
            LEFT JOIN (
                SELECT trace_id, axis FROM failure_labels
                WHERE rank = 1 AND run_id = (SELECT max(run_id) FROM failure_runs)
            ) AS f USING (trace_id)
            WHERE t.agent IS NOT NULL AND t.task IS NOT NULL AND {learnt_from("t.user_id")}""",
            ROLLOUTS,
            order=("agent", "task", "trace_id"),
        )


def served(store: Store) -> pl.DataFrame:
    """Lessons that are or were served to agents, with their newest text (columns `SERVED`), by id.

    `served_since` is the last approval or promotion. Retired and superseded ones are among them: what did not help is
    not to be proposed again in the same words.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT l.lesson_id, l.agent, l.task, l.segment, l.user_id,
                CASE WHEN l.paused IS NOT NULL OR l.expires_at <= $now THEN 'paused' ELSE l.state END AS state,
                coalesce(r.served_since, l.updated_at) AS served_since, v.title, v.when_text, v.do_text
            FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
            LEFT JOIN (
                SELECT lesson_id, max(reviewed_at) AS served_since FROM lesson_reviews
                WHERE action IN ('approve', 'promote') GROUP BY lesson_id
            ) AS r USING (lesson_id)
            WHERE l.state IN ('canary', 'active', 'retired', 'superseded', 'graduated') ORDER BY l.lesson_id""",
            SERVED,
            {"now": store.clock.now()},
        )


def requests(store: Store, *, each: int = 3, characters: int = 500) -> pl.DataFrame:
    """The beginnings of up to `each` requests of every task (columns `REQUESTS`), the newest first."""
    with store.read() as reader:
        return reader.frame(
            """SELECT agent, task, left(input, $characters) AS input FROM traces
            WHERE agent IS NOT NULL AND task IS NOT NULL AND input IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY agent, task ORDER BY seen_at DESC, trace_id) <= $each
            ORDER BY agent, task, seen_at DESC, trace_id""",
            REQUESTS,
            {"each": each, "characters": characters},
        )


def user_shares(store: Store, user_ids: list[str]) -> pl.DataFrame:
    """What share of each task's traces comes from each of these users (columns `USER_SHARES`), none left out."""
    with store.read() as reader:
        return reader.frame(
            """WITH counted AS (
                SELECT agent, task, user_id, count(*) AS traces,
                    sum(count(*)) OVER (PARTITION BY agent, task) AS all_traces
                FROM traces WHERE agent IS NOT NULL AND task IS NOT NULL GROUP BY agent, task, user_id
            )
            SELECT agent, task, user_id, traces / all_traces AS share FROM counted
            WHERE list_contains($users::VARCHAR[], user_id) ORDER BY ALL""",
            USER_SHARES,
            {"users": user_ids},
        )


def publish(
    store: Store,
    found: Found,
    *,
    data_version: int,
    code_version: str,
    reward_model_id: int | None,
    failure_run_id: int | None,
    parameters: Mapping[str, object],
) -> int:
    """Keep what a run found in place of the run before; returns the run's number."""
    tables = {
        "contrast_agents": found.agents.select(list(AGENTS)),
        "contrast_groups": found.groups.select(list(GROUPS)),
        "contrast_patterns": found.patterns.select(list(PATTERNS)),
    }

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            "INSERT INTO contrast_runs VALUES ($run, $now, $data_version, $code_version, $model, $labels, $parameters)",
            {
                "run": run, "now": store.clock.now(), "data_version": data_version, "code_version": code_version,
                "model": reward_model_id, "labels": failure_run_id,
                "parameters": json.dumps(parameters, sort_keys=True, allow_nan=False),
            },
        )  # fmt: skip

    run = result_rows.publish(store, "contrast_runs", tables, add)
    for table in _TABLES:
        result_rows.remove(store, table, f"run_id < {_NEWEST}")
    return run


def newest(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "contrast_runs", RUNS)


def agents(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """What the newest run counted for each agent (columns `AGENTS`), by agent."""
    return _rows(store, "contrast_agents", AGENTS, "agent", agent)


def groups(store: Store, *, agent: str | None = None, limit: int | None = None) -> pl.DataFrame:
    """The tasks whose rollouts differ in outcome (columns `GROUPS`), the most valuable first."""
    return _rows(store, "contrast_groups", GROUPS, "value DESC, agent, task", agent, limit)


def patterns(store: Store, *, agent: str | None = None, limit: int | None = None) -> pl.DataFrame:
    """The step patterns that were tested (columns `PATTERNS`), by agent, the smallest p-value first."""
    return _rows(store, "contrast_patterns", PATTERNS, "agent, p_value, pattern", agent, limit)


def _rows(
    store: Store, table: str, schema: pl.Schema, order: str, agent: str | None, limit: int | None = None
) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(schema)} FROM {table}
            WHERE run_id = {_NEWEST} AND ($agent IS NULL OR agent = $agent) ORDER BY {order} LIMIT $limit""",
            schema,
            {"agent": agent, "limit": 2**62 if limit is None else limit},
        )
