"""What audits of guardrails read: the traces that came since the last audit, their actions, and what they cost.

How far the audits have come is the number of the last publication they covered (`store.publications`): a trace that
gets a late span is published anew, and audited anew.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import duckdb
import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, Reader, declare, packed, texts_in

TRACES = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "arm": pl.String, "decision_id": pl.String,
        "session_id": pl.String, "seen_at": UTC_TIME, "cost_usd": pl.Float64,
        "fresh": pl.Boolean,
    }
)  # fmt: skip
ACTIONS = declare(
    {
        "trace_id": pl.String, "span_id": pl.String, "kind": pl.String, "name": pl.String, "started_at": UTC_TIME,
        "input": pl.String, "attributes": pl.String,
    }
)  # fmt: skip
STARTS = declare(
    {"agent": pl.String, "unit": pl.String, "trace_id": pl.String, "span_id": pl.String, "name": pl.String,
     "started_at": UTC_TIME}
)  # fmt: skip
COSTS = declare({"trace_id": pl.String, "span_id": pl.String, "spent_at": UTC_TIME, "cost_usd": pl.Float64})

_AUDITED: Final = "guardrails_audited"
_REWARDS_CHANGED: Final = """SELECT max(changed_at) FROM (
    SELECT fitted_at AS changed_at FROM reward_models WHERE active
    UNION ALL SELECT finished_at FROM job_runs WHERE job = 'rewards' AND status = 'succeeded' AND rows > 0)"""
_CHOSEN: Final = f"(SELECT {texts_in('ids')} AS trace_id)"


def covered(store: Store) -> tuple[int, int]:
    """The last publication that audits have covered, and the newest one there is."""
    with store.read() as reader:
        rows = reader.any_frame(
            "SELECT key, value FROM store_meta WHERE key IN ('publication', $key)", {"key": _AUDITED}
        )
    held = dict(rows.iter_rows())
    return int(held.get(_AUDITED, 0)), int(held.get("publication", 0))


def cover(store: Store, publication: int) -> None:
    """Note that audits have covered everything up to this publication."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute("SELECT 1 FROM store_meta WHERE key = $key", {"key": _AUDITED}).fetchall()
        change = "UPDATE store_meta SET value = $at WHERE key = $key"
        connection.execute(
            change if held else "INSERT INTO store_meta VALUES ($key, $at)", {"key": _AUDITED, "at": publication}
        )

    store.write(work)


def traces(store: Store, agents: Sequence[str], *, since: datetime, after: int, until: int) -> pl.DataFrame:
    """Traces of these agents that began at `since` or later: the `fresh` ones, published after one publication and
    up to another, and the others of their sessions (columns `TRACES`), by time."""
    own = ", ".join(name for name in TRACES if name != "fresh")
    with store.read() as reader:
        return reader.frame(
            f"""WITH fresh AS (
                SELECT trace_id, agent, session_id FROM traces
                WHERE publication > $after AND publication <= $until AND seen_at >= $since
                    AND list_contains($agents, agent)
            ), sessions AS (SELECT DISTINCT agent, session_id FROM fresh WHERE session_id IS NOT NULL),
            chosen AS (
                SELECT trace_id FROM fresh
                UNION SELECT t.trace_id FROM traces AS t SEMI JOIN sessions AS s
                    ON s.agent = t.agent AND s.session_id = t.session_id WHERE t.seen_at >= $since
            )
            SELECT {own}, trace_id IN (SELECT trace_id FROM fresh) AS fresh
            FROM traces SEMI JOIN chosen USING (trace_id) ORDER BY seen_at, trace_id""",
            TRACES,
            {"agents": list(agents), "since": since, "after": after, "until": until},
        )


def actions(store: Store, trace_ids: Sequence[str], *, texts: bool = True) -> pl.DataFrame:
    """The calls of tools and retrievers of these traces with their arguments (columns `ACTIONS`), by time.

    Without `texts` arguments and attributes are null, which is much faster.
    """
    said = "input, attributes" if texts else "NULL AS input, NULL AS attributes"
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(ACTIONS.names()[:-2])}, {said} FROM spans SEMI JOIN {_CHOSEN} AS c USING (trace_id)
            WHERE kind IN ('tool', 'retriever') AND publication >= $least
            ORDER BY trace_id, started_at NULLS LAST, ordinal, span_id""",
            ACTIONS,
            {"ids": packed(trace_ids), "least": _first_publication(reader, trace_ids)},
        )


def starts(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """When the calls of tools of these traces began (columns `STARTS`), in order; calls without a time are left out.

    A unit is the session of an agent, or the trace where no session is known.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, coalesce('session:' || t.session_id, 'trace:' || t.trace_id) AS unit, t.trace_id,
                s.span_id, s.name, s.started_at
            FROM (FROM spans SEMI JOIN {_CHOSEN} AS c USING (trace_id)) AS s JOIN traces AS t USING (trace_id)
            WHERE s.kind = 'tool' AND s.started_at IS NOT NULL AND s.publication >= $least
            ORDER BY t.agent, unit, s.started_at, s.ordinal NULLS LAST, s.trace_id, s.span_id""",
            STARTS,
            {"ids": packed(trace_ids), "least": _first_publication(reader, trace_ids)},
        )


def costs(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """What single spans of these traces cost, without those that sum up others (columns `COSTS`), by time."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH own AS (
                SELECT trace_id, span_id, parent_span_id, coalesce(ended_at, started_at) AS spent_at, ordinal, cost_usd
                FROM spans SEMI JOIN {_CHOSEN} AS c USING (trace_id)
                WHERE cost_usd IS NOT NULL AND publication >= $least
            )
            SELECT trace_id, span_id, spent_at, cost_usd FROM own AS o
            WHERE NOT EXISTS (
                SELECT 1 FROM own AS c WHERE c.trace_id = o.trace_id AND c.parent_span_id = o.span_id)
            ORDER BY trace_id, spent_at NULLS LAST, ordinal, span_id""",
            COSTS,
            {"ids": packed(trace_ids), "least": _first_publication(reader, trace_ids)},
        )


def growth(store: Store, agent: str, *, since: datetime) -> tuple[int, int]:
    """How many traces of an agent with an arm began after `since`, and how many there are."""
    with store.read() as reader:
        rows = reader.any_frame(
            """SELECT count(*) FILTER (seen_at > $since) AS new, count(*) AS held FROM traces
            WHERE agent = $agent AND arm IS NOT NULL""",
            {"agent": agent, "since": since},
        )
    new, held = rows.row(0)
    return int(new), int(held)


def rewards_changed_at(store: Store) -> datetime | None:
    """When rewards last changed: a model came into use, or the job wrote some; None before the first time."""
    with store.read() as reader:
        value = reader.value(f"SELECT ({_REWARDS_CHANGED})")
    return value if isinstance(value, datetime) else None


def pending(store: Store) -> bool:
    """Whether an audit or a look would find something: facts since the last audit, a safety floor that has had no look
    since it was switched on and that an arm could be held against, or rewards newer than the last look at them."""
    with store.read() as reader:
        value = reader.value(
            f"""WITH rules AS (SELECT * FROM guardrails WHERE state = 'on'), looked AS (
                SELECT agent, guardrail_id, max(looked_at) AS looked_at FROM safety_looks GROUP BY ALL
            ), floors AS (
                SELECT r.subject, r.updated_at, l.looked_at FROM rules AS r LEFT JOIN looked AS l
                    USING (agent, guardrail_id)
                WHERE r.kind = 'safety_floor' AND EXISTS (SELECT 1 FROM arms AS a
                    WHERE a.agent = r.agent AND a.state = 'enabled' AND NOT a.baseline
                        AND (r.arm IS NULL OR r.arm = a.arm))
                    AND EXISTS (SELECT 1 FROM arms AS a WHERE a.agent = r.agent AND a.baseline)
            )
            SELECT EXISTS (FROM rules) AND (
                (SELECT value FROM store_meta WHERE key = 'publication')
                    > coalesce((SELECT value FROM store_meta WHERE key = $audited), 0)
                OR EXISTS (FROM floors WHERE looked_at IS NULL OR looked_at < updated_at)
                OR EXISTS (FROM floors WHERE subject = 'reward' AND looked_at
                    < ({_REWARDS_CHANGED})))""",
            {"audited": _AUDITED},
        )
    return bool(value)


def _first_publication(reader: Reader, trace_ids: Sequence[str]) -> int:
    """The oldest publication that brought facts of these traces: a scan skips what lies before it."""
    value = reader.value(
        f"""SELECT min(publication) FROM trace_publications
        SEMI JOIN (SELECT hash(trace_id) AS key FROM {_CHOSEN}) AS c USING (key)""",
        {"ids": packed(trace_ids)},
    )
    return value if isinstance(value, int) else 0
