"""One user's history: what was decided for them, which lessons they got, what went wrong, and what they chose."""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare, packed, texts_in
from store.scope import ACTIVE_REWARDS

__all__ = [
    "CHANGED", "CHOICES", "DECIDED", "EXPLORED", "FAILED", "INCIDENTS", "LESSONS", "changed", "choices", "decided",
    "explored", "failed", "incidents", "lessons",
]  # fmt: skip

EXPLORED = declare(
    {
        "agent": pl.String, "decisions": pl.Int64, "explored": pl.Int64, "rate": pl.Float64, "since": UTC_TIME,
        "until": UTC_TIME, "rewarded_explored": pl.Int64, "reward_explored": pl.Float64, "rewarded_greedy": pl.Int64,
        "reward_greedy": pl.Float64,
    }
)  # fmt: skip
DECIDED = declare(
    {
        "decision_id": pl.String, "decided_at": UTC_TIME, "agent": pl.String, "arm": pl.String,
        "greedy_arm": pl.String, "explore": pl.Boolean, "propensity": pl.Float64, "rate": pl.Float64,
        "note": pl.String, "trace_id": pl.String, "reward": pl.Float64,
    }
)  # fmt: skip
LESSONS = declare(
    {
        "agent": pl.String, "lesson_id": pl.String, "title": pl.String, "state": pl.String, "served": pl.Int64,
        "withheld": pl.Int64, "over_budget": pl.Int64, "rewarded_served": pl.Int64, "reward_served": pl.Float64,
        "rewarded_withheld": pl.Int64, "reward_withheld": pl.Float64, "latest": UTC_TIME,
    }
)  # fmt: skip
FAILED = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "task": pl.String, "seen_at": UTC_TIME, "axis": pl.String,
        "origin": pl.String, "rule": pl.String, "confidence": pl.Float64, "detail": pl.String, "reward": pl.Float64,
        "bad": pl.Int64, "traces": pl.Int64,
    }
)  # fmt: skip
CHOICES = declare(
    {"bucket": UTC_TIME, "feature": pl.String, "lists": pl.Int64, "preferred": pl.Float64, "variance": pl.Float64}
)
INCIDENTS = declare({"incident_id": pl.String, "title": pl.String, "state": pl.String, "changed_at": UTC_TIME})
CHANGED = declare(
    {
        "user_id": pl.String, "scanned": pl.Int64, "metrics": pl.List(pl.String), "effects": pl.List(pl.Float64),
        "changed_at": UTC_TIME,
    }
)  # fmt: skip

_CAME = f"""(
    SELECT t.decision_id, min(t.trace_id) AS trace_id, avg(r.mean) FILTER (r.signals > 0) AS reward
    FROM traces AS t SEMI JOIN made USING (decision_id) LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
    GROUP BY t.decision_id)"""


def explored(store: Store, user_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """How often each agent explored on this user, and the rewards with and without (EXPLORED). Raises: `QueryTimeout`.

    `rate` is the mean of the rates in force; rewards are of decisions that a trace with signals names.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH made AS MATERIALIZED (SELECT * FROM decisions WHERE user_id = $user)
            SELECT m.agent, count(*) AS decisions, count(*) FILTER (m.explore) AS explored, avg(m.rate) AS rate,
                min(m.decided_at) AS since, max(m.decided_at) AS until,
                count(c.reward) FILTER (m.explore) AS rewarded_explored,
                avg(c.reward) FILTER (m.explore) AS reward_explored,
                count(c.reward) FILTER (NOT m.explore) AS rewarded_greedy,
                avg(c.reward) FILTER (NOT m.explore) AS reward_greedy
            FROM made AS m LEFT JOIN {_CAME} AS c USING (decision_id)
            GROUP BY m.agent ORDER BY decisions DESC, m.agent""",
            EXPLORED,
            {"user": user_id},
        )


def decided(store: Store, user_id: str, *, limit: int = 200, timeout: float | None = None) -> pl.DataFrame:
    """The latest decisions for a user with the trace and reward that came of each (DECIDED). Raises: `QueryTimeout`."""
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH made AS MATERIALIZED (
                SELECT * FROM decisions WHERE user_id = $user ORDER BY decided_at DESC, decision_id LIMIT $limit)
            SELECT m.decision_id, m.decided_at, m.agent, m.arm, m.greedy_arm, m.explore, m.propensity, m.rate, m.note,
                c.trace_id, c.reward
            FROM made AS m LEFT JOIN {_CAME} AS c USING (decision_id) ORDER BY m.decided_at DESC, m.decision_id""",
            DECIDED,
            {"user": user_id, "limit": limit},
        )


def lessons(store: Store, user_id: str, *, limit: int = 200, timeout: float | None = None) -> pl.DataFrame:
    """Each lesson that decisions for this user served, withheld or had no room for (LESSONS), the most served first.

    Rewards are means over decisions that a trace with signals names. Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH made AS MATERIALIZED (SELECT decision_id, decided_at FROM decisions WHERE user_id = $user),
            shown AS MATERIALIZED (
                SELECT e.* FROM exposures AS e SEMI JOIN made USING (decision_id)
                WHERE e.decided_at BETWEEN (SELECT min(decided_at) FROM made) AND (SELECT max(decided_at) FROM made)
            ), counted AS (
                SELECT e.agent, e.lesson_id, count(*) FILTER (e.status = 'served') AS served,
                    count(*) FILTER (e.status IN ('withheld', 'empty')) AS withheld,
                    count(*) FILTER (e.status = 'over_budget') AS over_budget,
                    count(c.reward) FILTER (e.status = 'served') AS rewarded_served,
                    avg(c.reward) FILTER (e.status = 'served') AS reward_served,
                    count(c.reward) FILTER (e.status IN ('withheld', 'empty')) AS rewarded_withheld,
                    avg(c.reward) FILTER (e.status IN ('withheld', 'empty')) AS reward_withheld,
                    max(e.decided_at) AS latest
                FROM shown AS e LEFT JOIN {_CAME} AS c USING (decision_id) GROUP BY e.agent, e.lesson_id)
            SELECT c.agent, c.lesson_id, v.title, l.state, c.* EXCLUDE (agent, lesson_id)
            FROM counted AS c LEFT JOIN lessons AS l USING (lesson_id)
                LEFT JOIN lesson_versions AS v ON v.lesson_id = l.lesson_id AND v.version = l.version
            ORDER BY c.served DESC, c.withheld DESC, c.agent, c.lesson_id LIMIT $limit""",
            LESSONS,
            {"user": user_id, "limit": limit},
        )


def failed(store: Store, user_id: str, *, limit: int = 500, timeout: float | None = None) -> pl.DataFrame:
    """What went wrong for a user: the first label of each of their bad traces, newest first (FAILED).

    `bad` and `traces` count the user's bad traces and all of them; deliberate exploration is among the labels.
    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH mine AS MATERIALIZED (SELECT trace_id, agent, task, seen_at FROM traces WHERE user_id = $user)
            SELECT t.trace_id, t.agent, t.task, t.seen_at, f.axis, f.origin, f.rule, f.confidence, f.detail,
                r.mean AS reward, count(*) OVER () AS bad, (SELECT count(*) FROM mine) AS traces
            FROM failure_labels AS f JOIN mine AS t USING (trace_id) LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
            WHERE f.rank = 1 AND f.run_id = (SELECT max(run_id) FROM failure_runs)
            ORDER BY t.seen_at DESC, t.trace_id LIMIT $limit""",
            FAILED,
            {"user": user_id, "limit": limit},
        )


def choices(
    store: Store,
    user_id: str,
    features: Sequence[str],
    *,
    bucket: Literal["week", "month"] = "month",
    timeout: float | None = None,
) -> pl.DataFrame:
    """What a user chose against what they were shown, by time and feature (CHOICES). Raises: `QueryTimeout`.

    `preferred` is the mean over lists of (mean of the chosen items minus mean of the shown items), in units of the
    feature; lists in which nothing, or everything, was chosen say nothing and are left out. `variance` is between
    lists, null of one list.
    """
    if not features:
        return pl.DataFrame(schema=CHOICES)
    paths = [f'$."{name}"' for name in features]
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """WITH mine AS MATERIALIZED (SELECT trace_id, seen_at FROM traces WHERE user_id = $user),
            linked AS MATERIALIZED (FROM signal_links SEMI JOIN mine USING (trace_id)),
            located AS MATERIALIZED (
                SELECT s.trace_id AS about, s.kind, s.item, s.position, s.value, s.metadata
                FROM signals AS s SEMI JOIN mine USING (trace_id) WHERE s.kind IN ('impression', 'click')
                UNION ALL
                SELECT l.trace_id, s.kind, s.item, s.position, s.value, s.metadata
                FROM signals AS s JOIN linked AS l USING (signal_id)
                WHERE s.kind IN ('impression', 'click') AND s.trace_id IS NULL
            ), clicks AS (SELECT DISTINCT about, item, position FROM located
                WHERE kind = 'click' AND coalesce(value, 1) > 0),
            shown AS (
                SELECT s.about, s.item, s.position,
                    any_value(json_extract_string(s.metadata, $paths::VARCHAR[])) AS stated,
                    bool_or(c.about IS NOT NULL) AS chosen
                FROM located AS s LEFT JOIN clicks AS c ON c.about = s.about
                    AND CASE WHEN c.item IS NOT NULL THEN c.item = s.item ELSE c.position = s.position END
                WHERE s.kind = 'impression' AND (s.item IS NOT NULL OR s.position IS NOT NULL)
                    AND json_valid(s.metadata)
                GROUP BY ALL
            ), values AS (
                SELECT about, chosen, unnest($names::VARCHAR[]) AS feature,
                    TRY_CAST(unnest(stated) AS DOUBLE) AS value
                FROM shown
            ), lists AS (
                SELECT about, feature, avg(value) FILTER (chosen) - avg(value) AS preferred
                FROM values WHERE isfinite(value) AND abs(value) < 1e100
                GROUP BY ALL HAVING count(*) FILTER (chosen) BETWEEN 1 AND count(*) - 1
            )
            SELECT date_trunc($bucket, t.seen_at) AS bucket, l.feature, count(*) AS lists,
                avg(l.preferred) AS preferred, var_samp(l.preferred) AS variance
            FROM lists AS l JOIN mine AS t ON t.trace_id = l.about GROUP BY ALL ORDER BY bucket, l.feature""",
            CHOICES,
            {"user": user_id, "paths": paths, "names": list(features), "bucket": bucket},
        )


def changed(store: Store, user_ids: Sequence[str], *, timeout: float | None = None) -> pl.DataFrame:
    """Which of these users the newest drift run scanned, and which metrics of theirs it flagged (CHANGED).

    `scanned` counts metrics; `metrics` are the flagged ones that no known change explains, the surest first, `effects`
    theirs, and `changed_at` is the latest of their changes. Users that were not scanned have no row.
    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH own AS (
                SELECT *, flagged AND explained_by IS NULL AS counts FROM drift_findings
                WHERE level = 'user' AND run_id = (SELECT max(run_id) FROM drift_runs)
                    AND user_id IN (SELECT {texts_in("users")}))
            SELECT user_id, count(*) AS scanned,
                coalesce(list(metric ORDER BY p_value, metric) FILTER (counts), []) AS metrics,
                coalesce(list(effect ORDER BY p_value, metric) FILTER (counts), []) AS effects,
                max(changed_at) FILTER (counts) AS changed_at
            FROM own GROUP BY user_id ORDER BY user_id""",
            CHANGED,
            {"users": packed(user_ids)},
        )


def incidents(store: Store, user_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """The incidents that a user's findings belong to, those not resolved first (INCIDENTS). Raises: `QueryTimeout`."""
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """SELECT incident_id, title, state, changed_at FROM incidents AS i
            WHERE EXISTS (FROM incident_findings AS f
                WHERE f.incident_id = i.incident_id AND f.run_id = i.run_id AND f.user_id = $user)
            ORDER BY state = 'resolved', changed_at DESC, incident_id LIMIT 50""",
            INCIDENTS,
            {"user": user_id},
        )
