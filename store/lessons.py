"""Lessons: what the system, agents and people propose and operators decide. A text is never overwritten.

Proposing is in `store.lesson_proposals`, reviews are in `store.lesson_reviews`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.lesson_lint import UNANSWERED
from store.lesson_proposals import EVIDENCE, PROPOSALS, propose
from store.lesson_serving import STANDING

__all__ = [
    "BLAST_DAYS", "EVIDENCE", "LESSONS", "PROPOSALS", "REVIEWS", "STEPS", "UNDOABLE", "VERSIONS",
    "BlastRadius", "blast_radius", "counts", "evidence", "known", "library", "one", "propose", "queue", "reviews",
    "steps", "undoable", "versions",
]  # fmt: skip

BLAST_DAYS = 7

STEPS = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "step": pl.Int64(),  # position in event time within the trace
        "kind": pl.String(),
        "name": pl.String(),
        "status": pl.String(),
        "input": pl.String(),
        "output": pl.String(),
    }
)
LESSONS = declare(
    {
        "lesson_id": pl.String, "agent": pl.String, "task": pl.String, "segment": pl.String, "user_id": pl.String,
        "state": pl.String, "version": pl.Int32, "origin": pl.String, "tested": pl.Boolean, "value": pl.Float64,
        "holdout": pl.Float64, "expires_at": UTC_TIME, "paused": pl.String, "state_reason": pl.String,
        "state_by": pl.String, "title": pl.String, "when_text": pl.String, "when_not": pl.String,
        "do_text": pl.String, "why": pl.String, "author": pl.String, "trust": pl.String, "taint": pl.String,
        "parents": pl.String, "created_at": UTC_TIME, "updated_at": UTC_TIME, "good": pl.Int64, "bad": pl.Int64,
        "sent_back": pl.Boolean, "expired": pl.Boolean, "linted": pl.Boolean, "blocks": pl.Int64,
        "payoff_width": pl.Float64,
    }
)  # fmt: skip
VERSIONS = declare(
    {
        "version": pl.Int32, "title": pl.String, "when_text": pl.String, "when_not": pl.String, "do_text": pl.String,
        "why": pl.String, "author": pl.String, "created_at": UTC_TIME, "trust": pl.String, "taint": pl.String,
        "parents": pl.String,
    }
)  # fmt: skip
REVIEWS = declare(
    {
        "sequence": pl.Int64, "lesson_id": pl.String, "version": pl.Int32, "action": pl.String, "operator": pl.String,
        "reason": pl.String, "previous_state": pl.String, "reviewed_at": UTC_TIME, "target": pl.String,
        "change": pl.String,
    }
)  # fmt: skip
UNDOABLE = declare(
    {
        "sequence": pl.Int64, "lesson_id": pl.String, "action": pl.String, "operator": pl.String,
        "reviewed_at": UTC_TIME,
    }
)  # fmt: skip

# `sent_back`: it waits for an edit; `expired`: by $now; `blocks`: findings of lint that nobody has overridden;
# `payoff_width`: of the widest interval of its measured payoff, null before it is measured.
_LESSONS = f"""
SELECT l.lesson_id, l.agent, l.task, l.segment, l.user_id, l.state, l.version, l.origin, l.tested, l.value, l.holdout,
    l.expires_at, l.paused, l.state_reason, l.state_by, v.title, v.when_text, v.when_not, v.do_text, v.why, v.author,
    v.trust, v.taint, v.parents, l.created_at, l.updated_at, coalesce(e.good, 0) AS good, coalesce(e.bad, 0) AS bad,
    l.state = 'proposed' AND l.state_reason IS NOT NULL AS sent_back, coalesce(l.expires_at <= $now, false) AS expired,
    c.lesson_id IS NOT NULL AS linted, coalesce(f.blocks, 0) AS blocks, p.payoff_width
FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
LEFT JOIN (
    SELECT lesson_id, count(*) FILTER (role = 'good') AS good, count(*) FILTER (role = 'bad') AS bad
    FROM lesson_evidence GROUP BY lesson_id) AS e USING (lesson_id)
LEFT JOIN (SELECT DISTINCT lesson_id, version FROM lesson_checks) AS c
    ON c.lesson_id = l.lesson_id AND c.version = l.version
LEFT JOIN (
    SELECT lesson_id, version, count(*) AS blocks FROM lesson_lint AS f WHERE {UNANSWERED} GROUP BY lesson_id, version
    ) AS f ON f.lesson_id = l.lesson_id AND f.version = l.version
LEFT JOIN (
    SELECT lesson_id, max(upper - lower) AS payoff_width FROM lesson_payoffs
    WHERE kind = 'lesson' AND measure = 'outcome' AND estimator = 'doubly robust' AND segment IS NULL
        AND run_id = (SELECT max(run_id) FROM payoff_runs)
    GROUP BY lesson_id) AS p ON p.lesson_id = l.lesson_id"""

_ORDERS: Final = {
    "value": "sent_back, coalesce(tested, false) DESC, value DESC NULLS LAST, lesson_id",
    "uncertainty": """sent_back, coalesce(tested, false), payoff_width DESC NULLS FIRST, value DESC NULLS LAST,
        lesson_id""",
}


@dataclass(frozen=True)
class BlastRadius:
    """Whom a lesson reaches once approved: traces in its scope since `since`, and the agents and users behind them."""

    since: datetime
    traces: int
    agents: int
    users: int
    traces_per_day: float
    latest: datetime | None


def steps(store: Store, trace_ids: Sequence[str], kinds: tuple[str, ...], *, characters: int = 4_000) -> pl.DataFrame:
    """Spans of these kinds of these traces in event order (columns `STEPS`), texts cut at `characters`."""
    with store.read() as reader:
        return reader.frame(
            """WITH numbered AS (
                SELECT rowid AS row_no, row_number() OVER (
                    PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS step
                FROM spans
                WHERE trace_id IN (SELECT unnest($trace_ids::VARCHAR[])) AND list_contains($kinds, kind)
            )
            SELECT s.trace_id, s.span_id, n.step, s.kind, s.name, s.status,
                left(s.input, $characters) AS input, left(s.output, $characters) AS output
            FROM spans AS s JOIN numbered AS n ON s.rowid = n.row_no ORDER BY s.trace_id, n.step""",
            STEPS,
            {"trace_ids": list(trace_ids), "kinds": list(kinds), "characters": characters},
        )


def known(store: Store) -> set[str]:
    """The ids of all lessons, whatever their state."""
    with store.read() as reader:
        return set(reader.frame("SELECT lesson_id FROM lessons", pl.Schema({"lesson_id": pl.String()}))["lesson_id"])


def queue(store: Store, *, agent: str | None = None, by: Literal["value", "uncertainty"] = "value") -> pl.DataFrame:
    """What waits for review, what was sent back at the end (columns `LESSONS`).

    By value: tested effects first, then the most valuable. By uncertainty: hypotheses first, then what was never
    measured, then the widest interval of the payoff.
    """
    return _listed(
        store,
        "l.state IN ('proposed', 'approved') AND ($agent IS NULL OR l.agent = $agent)",
        _ORDERS[by],
        {"agent": agent},
    )


def counts(store: Store) -> pl.DataFrame:
    """How many lessons each agent has in each state, by agent and state (columns agent, state, lessons)."""
    with store.read() as reader:
        return reader.frame(
            "SELECT agent, state, count(*) AS lessons FROM lessons GROUP BY ALL ORDER BY agent, state",
            pl.Schema({"agent": pl.String(), "state": pl.String(), "lessons": pl.Int64()}),
        )


def library(store: Store, *, agent: str | None = None, states: tuple[str, ...] | None = None) -> pl.DataFrame:
    """All lessons, the latest change first (columns `LESSONS`); of one agent or some states when they are named."""
    return _listed(
        store,
        "($agent IS NULL OR l.agent = $agent) AND ($states IS NULL OR list_contains($states::VARCHAR[], l.state))",
        "updated_at DESC, lesson_id",
        {"agent": agent, "states": list(states) if states is not None else None},
    )


def one(store: Store, lesson_id: str) -> dict[str, Any]:
    """One lesson as a dictionary of `LESSONS` columns. Raises: `NotFound`."""
    frame = _listed(store, "l.lesson_id = $lesson", "lesson_id", {"lesson": lesson_id})
    if frame.is_empty():
        raise NotFound("lesson", lesson_id)
    return frame.row(0, named=True)


def versions(store: Store, lesson_id: str) -> pl.DataFrame:
    """Every text a lesson has had, newest first (columns `VERSIONS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(VERSIONS)} FROM lesson_versions WHERE lesson_id = $lesson ORDER BY version DESC",
            VERSIONS,
            {"lesson": lesson_id},
        )


def evidence(store: Store, lesson_id: str) -> pl.DataFrame:
    """The traces behind a lesson, good ones first, the clearest of each first (columns `EVIDENCE`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(EVIDENCE)} FROM lesson_evidence WHERE lesson_id = $lesson
            ORDER BY role DESC, if(role = 'good', -reward, reward), trace_id""",
            EVIDENCE,
            {"lesson": lesson_id},
        )


def reviews(store: Store, *, lesson_id: str | None = None, limit: int = 100) -> pl.DataFrame:
    """The latest reviews, newest first (columns `REVIEWS`); of one lesson when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(REVIEWS)} FROM lesson_reviews WHERE $lesson IS NULL OR lesson_id = $lesson
            ORDER BY sequence DESC LIMIT $limit""",
            REVIEWS,
            {"lesson": lesson_id, "limit": limit},
        )


def undoable(store: Store, *, lesson_id: str | None = None) -> pl.DataFrame:
    """The last review of each lesson that was not undone, newest first (columns `UNDOABLE`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT max(sequence) AS sequence, lesson_id, arg_max(action, sequence) AS action,
                arg_max(operator, sequence) AS operator, arg_max(reviewed_at, sequence) AS reviewed_at
            FROM ({STANDING}) WHERE $lesson IS NULL OR lesson_id = $lesson
            GROUP BY lesson_id ORDER BY sequence DESC""",
            UNDOABLE,
            {"lesson": lesson_id},
        )


def blast_radius(
    store: Store,
    agent: str,
    task: str | None,
    now: datetime,
    *,
    segment: str | None = None,
    user_id: str | None = None,
) -> BlastRadius:
    """How many traces, agents and users of the last `BLAST_DAYS` days a lesson of this scope would have reached.

    Agent '*' is every agent; a user's segment is the one stated last, as of the newest run of the job users.
    """
    since = now - timedelta(days=BLAST_DAYS)
    with store.read() as reader:
        row = reader.frame(
            """SELECT count(*) FILTER (seen_at >= $since AND seen_at < $now) AS traces,
                count(DISTINCT agent) FILTER (seen_at >= $since AND seen_at < $now) AS agents,
                count(DISTINCT user_id) FILTER (seen_at >= $since AND seen_at < $now) AS users,
                max(seen_at) AS latest
            FROM traces WHERE ($agent = '*' OR agent = $agent) AND ($task IS NULL OR task = $task)
                AND ($user IS NULL OR user_id = $user)
                AND ($segment IS NULL OR user_id IN (SELECT user_id FROM user_summaries
                    WHERE user_run_id = (SELECT max(user_run_id) FROM user_runs) AND segment = $segment))""",
            declare({"traces": pl.Int64, "agents": pl.Int64, "users": pl.Int64, "latest": UTC_TIME}),
            {"since": since, "now": now, "agent": agent, "task": task, "segment": segment, "user": user_id},
        ).row(0, named=True)
    per_day = row["traces"] / BLAST_DAYS
    return BlastRadius(since, row["traces"], row["agents"], row["users"], per_day, row["latest"])


def _listed(store: Store, where: str, order: str, params: dict[str, object]) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"FROM ({_LESSONS} WHERE {where}) ORDER BY {order}", LESSONS, {**params, "now": store.clock.now()}
        )
