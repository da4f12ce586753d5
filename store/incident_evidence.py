"""What incidents are judged by: who was scanned, which agents a user has, and the traces around a change."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import polars as pl

from store import drift_events
from store.connection import Store
from store.frames import declare, packed, texts_in

__all__ = ["AROUND", "MODELS", "SCANNED", "agents_of", "around", "models", "scanned", "users_of"]

SCANNED = pl.Schema({"segment": pl.String(), "users": pl.Int64()})
AROUND = declare(
    {
        "user_id": pl.String, "after": pl.Boolean, "value": pl.Float64, "model": pl.String, "fingerprint": pl.String,
        "agent_version": pl.String, "arm": pl.String, "source": pl.String, "weekday": pl.String,
        "lessons": pl.List(pl.String), "tools": pl.List(pl.String),
    }
)  # fmt: skip
MODELS = pl.Schema({"model": pl.String(), "traces": pl.Int64()})

_TRACES: Final = 60_000  # of about so many traces the cause is sought

_FRAME: Final = """
    FROM traces AS t WHERE t.user_id IS NOT NULL AND t.started_at >= $since AND t.started_at < $until
        AND ($agent IS NULL OR t.agent = $agent)"""


def scanned(store: Store, run_id: int) -> pl.DataFrame:
    """How many users of each segment a run of `drift` scanned, null for those without one (columns `SCANNED`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT segment, count(DISTINCT user_id) AS users FROM drift_findings
            WHERE run_id = $run AND level = 'user' GROUP BY segment ORDER BY segment""",
            SCANNED,
            {"run": run_id},
        )


def agents_of(store: Store, user_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """The agents that these users had traces of."""
    with store.read() as reader:
        found = reader.frame(
            f"""SELECT DISTINCT user_id, agent FROM traces
            WHERE agent IS NOT NULL AND user_id IN (SELECT {texts_in("users")})""",
            pl.Schema({"user_id": pl.String(), "agent": pl.String()}),
            {"users": packed(user_ids)},
        )
    held: dict[str, set[str]] = {}
    for user, agent in found.iter_rows():
        held.setdefault(user, set()).add(agent)
    return {user: frozenset(agents) for user, agents in held.items()}


def around(
    store: Store,
    metric: str,
    *,
    moment: datetime,
    since: datetime,
    until: datetime,
    agent: str | None = None,
    users: Sequence[str] | None = None,
    category: str | None = None,
) -> pl.DataFrame:
    """The values of a metric in the traces around a change, and what each trace ran (columns `AROUND`).

    Args: `after` is whether a trace began at `moment` or later; `users` None for everybody; of a metric whose values
    are categories, whether the value is `category`. Of many traces those of some users, always the same ones.
    """
    measure = drift_events.MEASURES.get(metric)
    if measure is None:
        return pl.DataFrame(schema=AROUND)
    of_category = measure.nature == "category"
    value = "(m.category = $category)::DOUBLE" if of_category else "m.value"
    params: dict[str, object] = {"since": since, "until": until, "agent": agent, "moment": moment}
    if users is not None:
        params["users"] = packed(users)
    if of_category:
        params["category"] = category
    chosen = f"AND t.user_id IN (SELECT {texts_in('users')})" if users is not None else ""
    with store.read() as reader:
        window = {name: params[name] for name in ("since", "until", "agent")}
        total = int(str(reader.value(f"SELECT count(*) {_FRAME}", window)))
        return reader.frame(
            f"""WITH chosen AS MATERIALIZED (
                SELECT t.trace_id, t.user_id, t.started_at, t.model, t.model_fingerprint AS fingerprint,
                    t.agent_version, t.arm, t.source, t.decision_id, t.tool_count {_FRAME}
                    AND hash(t.user_id) % $step = 0 {chosen}
            ), valued AS (
                SELECT m.trace_id, avg({value}) AS value FROM ({measure.sql.format(who="true")}) AS m
                SEMI JOIN chosen USING (trace_id) GROUP BY m.trace_id
            ), tools AS (
                SELECT trace_id, list_sort(list_distinct(list(left(name, 120)))) AS tools FROM spans
                SEMI JOIN chosen USING (trace_id) WHERE kind = 'tool' AND name IS NOT NULL GROUP BY trace_id
            ), lessons AS (
                SELECT c.trace_id, list_sort(list_distinct(list(e.lesson_id))) AS lessons
                FROM chosen AS c JOIN exposures AS e ON e.decision_id = c.decision_id
                WHERE e.status = 'served' GROUP BY c.trace_id
            )
            SELECT c.user_id, c.started_at >= $moment AS after, v.value, c.model, c.fingerprint, c.agent_version,
                c.arm, c.source, dayname(c.started_at AT TIME ZONE 'UTC') AS weekday,
                coalesce(l.lessons, []::VARCHAR[]) AS lessons, coalesce(o.tools, []::VARCHAR[]) AS tools
            FROM chosen AS c JOIN valued AS v USING (trace_id) LEFT JOIN tools AS o USING (trace_id)
                LEFT JOIN lessons AS l USING (trace_id)
            WHERE isfinite(v.value) ORDER BY c.started_at, c.trace_id""",
            AROUND,
            {**params, "step": max(1, total // _TRACES) if users is None else 1},
        )


def models(store: Store, *, since: datetime, until: datetime, agent: str | None = None) -> pl.DataFrame:
    """How many traces each model answered within a time (columns `MODELS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.model, count(*) AS traces {_FRAME} AND t.model IS NOT NULL GROUP BY t.model
            ORDER BY traces DESC, t.model""",
            MODELS,
            {"since": since, "until": until, "agent": agent},
        )


def users_of(store: Store, run_id: int, segments: Sequence[str]) -> list[str]:
    """The users of these segments that a run of `drift` scanned."""
    with store.read() as reader:
        found = reader.frame(
            f"""SELECT DISTINCT user_id FROM drift_findings
            WHERE run_id = $run AND level = 'user' AND segment IN (SELECT {texts_in("segments")}) ORDER BY user_id""",
            pl.Schema({"user_id": pl.String()}),
            {"run": run_id, "segments": packed(segments)},
        )
    return found["user_id"].to_list()
