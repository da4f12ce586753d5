"""Exposures: which lessons each decision served, withheld or had no room for, with the probability of each.

They are written with their decision (`store.decisions.append`), and never changed.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = ["EXPOSURES", "INPUTS", "LOGGED", "STATUSES", "inputs", "logged", "of_decision", "of_lesson"]

INPUTS = pl.Schema({"decision_id": pl.String(), "input": pl.String()})
STATUSES = ("served", "withheld", "empty", "over_budget")
EXPOSURES = declare(
    {
        "decision_id": pl.String, "decided_at": UTC_TIME, "agent": pl.String, "unit": pl.String,
        "lesson_id": pl.String, "lesson_version": pl.Int32, "playbook_version": pl.Int32, "status": pl.String,
        "served_probability": pl.Float64, "empty_probability": pl.Float64, "match": pl.Float64, "tokens": pl.Int32,
    }
)  # fmt: skip
LOGGED = declare(
    {
        "decision_id": pl.String, "decided_at": UTC_TIME, "unit": pl.String, "user_id": pl.String,
        "segment": pl.String, "session_id": pl.String, "task": pl.String, "arm": pl.String, "lesson_id": pl.String,
        "version": pl.Int32, "playbook_version": pl.Int32, "status": pl.String, "served_probability": pl.Float64,
        "empty_probability": pl.Float64, "match": pl.Float64, "lesson_tokens": pl.Int32, "traces": pl.Int64,
        "executed_arm": pl.String, "reward": pl.Float64, "outcome": pl.Float64, "cost_usd": pl.Float64,
        "tokens": pl.Int64,
    }
)  # fmt: skip
"""`version` of the lesson; `status` of STATUSES; `traces` that name the decision (0: none yet), `executed_arm` what
they ran; over them the mean of the `reward` by the model in use, 0 to 1, and of the `outcome` that their own signals
say (null without), and the sums of `cost_usd` and of `tokens` read and written."""


def logged(store: Store, agent: str, since: datetime | None = None, *, timeout: float | None = None) -> pl.DataFrame:
    """Every lesson of every decision of an agent with what came of it, oldest first (columns LOGGED).

    Lessons that were over the budget are left out: they could not have been served. Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(_LOGGED_SQL, LOGGED, {"agent": agent, "since": since})


def of_decision(store: Store, decision_id: str) -> pl.DataFrame:
    """What was decided about lessons in one decision, in the order of the choice (columns EXPOSURES)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(EXPOSURES)} FROM exposures WHERE decision_id = $decision ORDER BY rowid",
            EXPOSURES,
            {"decision": decision_id},
        )


def of_lesson(store: Store, lesson_id: str, limit: int = 200) -> pl.DataFrame:
    """The latest decisions that could have served a lesson, newest first (columns EXPOSURES)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(EXPOSURES)} FROM exposures WHERE lesson_id = $lesson
            ORDER BY decided_at DESC, decision_id LIMIT $limit""",
            EXPOSURES,
            {"lesson": lesson_id, "limit": limit},
        )


def inputs(store: Store, decision_ids: Sequence[str]) -> pl.DataFrame:
    """The inputs of the traces that name these decisions, in full (columns INPUTS).

    Several for a decision where several are stated: of whole traces and of their root spans.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH named AS MATERIALIZED (
                SELECT trace_id, decision_id FROM traces
                SEMI JOIN (SELECT unnest($ids::VARCHAR[]) AS decision_id) USING (decision_id)
            )
            SELECT DISTINCT decision_id, input FROM (
                SELECT n.decision_id, x.input FROM trace_records AS x JOIN named AS n USING (trace_id)
                UNION ALL
                SELECT n.decision_id, s.input FROM spans AS s JOIN named AS n USING (trace_id)
                WHERE s.parent_span_id IS NULL
            ) WHERE input IS NOT NULL ORDER BY decision_id, input""",
            INPUTS,
            {"ids": list(decision_ids)},
        )


_LOGGED_SQL = """
    WITH shown AS MATERIALIZED (
        SELECT * FROM exposures WHERE agent = $agent AND status <> 'over_budget'
            AND ($since IS NULL OR decided_at >= $since)
    ), made AS MATERIALIZED (
        SELECT decision_id, user_id, segment, session_id, task, arm FROM decisions
        WHERE agent = $agent AND ($since IS NULL OR decided_at >= $since)
    ), came AS (
        SELECT t.decision_id, count(*) AS traces, min(t.arm) AS executed_arm, avg(r.mean) AS reward,
            avg(r.outcome) AS outcome, sum(t.cost_usd) AS cost_usd,
            sum(t.input_tokens + t.output_tokens)::BIGINT AS tokens
        FROM traces AS t SEMI JOIN made USING (decision_id)
        LEFT JOIN (
            SELECT trace_id, mean, outcome FROM rewards
            WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
        ) AS r USING (trace_id)
        GROUP BY t.decision_id
    )
    SELECT e.decision_id, e.decided_at, e.unit, d.user_id, d.segment, d.session_id, d.task, d.arm, e.lesson_id,
        e.lesson_version AS version, e.playbook_version, e.status, e.served_probability, e.empty_probability, e.match,
        e.tokens AS lesson_tokens, coalesce(c.traces, 0) AS traces, c.executed_arm, c.reward, c.outcome, c.cost_usd,
        c.tokens
    FROM shown AS e JOIN made AS d USING (decision_id) LEFT JOIN came AS c USING (decision_id)
    ORDER BY e.decided_at, e.decision_id, e.lesson_id"""
