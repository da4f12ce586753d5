"""Guardrails: what agents must not do, what was done against it, and the looks of safety floors at each arm.

A definition is never changed, so that a violation says what was in force: it is switched off, and another one made.
A violation that was recorded stays, whatever its trace says later.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

import duckdb
import polars as pl

from store import audit, meta, result_rows
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, conform, declare, packed, texts_in
from store.guardrail_definition import ACTION, KINDS, METRICS, checked, name
from store.policy import Limits

__all__ = [
    "COUNTS", "FOUND", "GUARDRAILS", "KINDS", "LOOKS", "METRICS", "SEEN_LOOK", "VIOLATIONS", "add_looks",
    "add_violations", "define", "limits_of", "listed", "looks", "set_state", "violation_counts", "violations",
]  # fmt: skip

GUARDRAILS = declare(
    {
        "agent": pl.String, "guardrail_id": pl.String, "arm": pl.String, "kind": pl.String, "subject": pl.String,
        "threshold": pl.Float64, "on_violation": pl.String, "state": pl.String, "created_by": pl.String,
        "created_at": UTC_TIME, "updated_at": UTC_TIME,
    }
)  # fmt: skip
FOUND = declare(
    {
        "agent": pl.String, "guardrail_id": pl.String, "trace_id": pl.String, "span_id": pl.String,
        "decision_id": pl.String, "arm": pl.String, "occurred_at": UTC_TIME, "observed": pl.Float64,
        "detail": pl.String, "action": pl.String,
    }
)  # fmt: skip
VIOLATIONS = declare({**FOUND, "found_at": UTC_TIME, "kind": pl.String, "subject": pl.String, "threshold": pl.Float64})
IN_TRACES = {name: VIOLATIONS[name] for name in ("trace_id", "guardrail_id", "span_id", "kind", "detail")}
COUNTS = declare({"agent": pl.String, "guardrail_id": pl.String, "violations": pl.Int64, "traces": pl.Int64,
                  "latest": UTC_TIME})  # fmt: skip
LOOKS = declare(
    {
        "agent": pl.String, "guardrail_id": pl.String, "arm": pl.String, "looked_at": UTC_TIME, "n_arm": pl.Int64,
        "n_baseline": pl.Int64, "estimate": pl.Float64, "lower": pl.Float64, "upper": pl.Float64,
        "verdict": pl.String, "basis": pl.String,
    }
)  # fmt: skip
KIND_OF = {name: GUARDRAILS[name] for name in ("agent", "guardrail_id", "kind")}
BROKEN = declare({"agent": pl.String, "guardrail_id": pl.String, "arm": pl.String, "looked_at": UTC_TIME})
SEEN_LOOK = [name for name in LOOKS.names() if name != "looked_at"]

_COLUMNS: Final = ", ".join(GUARDRAILS.names())
# Kinds of which a trace has at most one violation, whichever span is its evidence.
_ONCE_A_TRACE: Final = ("min_delay_seconds", "max_actions_per_minute", "max_spend_usd")


def define(
    store: Store,
    agent: str,
    *,
    kind: str,
    subject: str | None = None,
    threshold: float | None = None,
    arm: str | None = None,
    on_violation: str = "alert",
    by: str,
) -> str:
    """Keep a new guardrail, switched on, and return its id, which is a hash of the definition.

    `subject` is the tool (`*` for any text), the site or action (see `store.guardrail_subjects`), or the metric of a
    safety floor (`METRICS`); `threshold` is in seconds, actions, US dollars, or the metric's unit. `arm` None: all.
    Raises: `ActionRefused` naming the first field that cannot be used, or when there is this guardrail already.
    """
    row = checked(agent, kind=kind, subject=subject, threshold=threshold, arm=arm, on_violation=on_violation)
    by = name("by", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = _state(connection, row["agent"], row["guardrail_id"])
        if held is not None:
            remedy = "Nothing is to be done." if held == "on" else "Switch it on again."
            raise ActionRefused(ACTION, f"there is this guardrail already, and it is {held}.", remedy)
        now = store.clock.now()
        connection.execute(
            """INSERT INTO guardrails VALUES
            ($agent, $guardrail_id, $arm, $kind, $subject, $threshold, $on_violation, 'on', $by, $now, $now)""",
            {**row, "by": by, "now": now},
        )
        audit.append(connection, now, by, "guardrail define", _subject(row["guardrail_id"]), row)
        meta.bump(connection)

    store.write(work)
    return cast(str, row["guardrail_id"])


def set_state(store: Store, agent: str, guardrail_id: str, state: str, *, by: str, reason: str | None = None) -> None:
    """Switch a guardrail on or off; switching off needs a reason. What it found stays.

    Raises: `NotFound`; `ActionRefused` naming the field that cannot be used, or when it is in this state already.
    """
    action = "Switching the guardrail"
    if state not in ("on", "off"):
        raise ActionRefused(action, f"the field state is {state!r:.100}.", "Expected on or off.")
    stated = (reason or "").strip()
    if state == "off" and not stated:
        raise ActionRefused(action, "the field reason is empty.", "Write why it may be switched off.")
    by = name("by", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = _state(connection, agent, guardrail_id)
        if held is None:
            raise NotFound("guardrail", f"{agent} {guardrail_id}")
        if held == state:
            raise ActionRefused(action, f"it is {state} already.", "Nothing is to be done.")
        now = store.clock.now()
        connection.execute(
            "UPDATE guardrails SET state = $state, updated_at = $now WHERE agent = $agent AND guardrail_id = $id",
            {"state": state, "now": now, "agent": agent, "id": guardrail_id},
        )
        detail = {"agent": agent, "reason": stated or None, "before": held, "after": state}
        audit.append(connection, now, by, f"guardrail {state}", _subject(guardrail_id), detail)
        meta.bump(connection)

    store.write(work)


def listed(store: Store, *, agent: str | None = None, state: str | None = None) -> pl.DataFrame:
    """Guardrails by agent, arm, kind and subject (columns `GUARDRAILS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM guardrails
            WHERE ($agent IS NULL OR agent = $agent) AND ($state IS NULL OR state = $state)
            ORDER BY agent, arm NULLS FIRST, kind, subject NULLS FIRST, guardrail_id""",
            GUARDRAILS,
            {"agent": agent, "state": state},
        )


def limits_of(store: Store, agent: str) -> tuple[Limits, dict[str, Limits]]:
    """The agent's limits, and those of each arm that has some of its own, in full; of guardrails that are on.

    Where several limit the same thing the tightest holds: an arm's own come on top of the agent's.
    """
    rows = listed(store, agent=agent, state="on")
    shared = _tightest(rows.filter(pl.col("arm").is_null()))
    arms = rows["arm"].drop_nulls().unique().sort().to_list()
    own = {arm: _tightest(rows.filter(pl.col("arm").is_null() | (pl.col("arm") == arm))) for arm in arms}
    return shared, {arm: found for arm, found in own.items() if found != shared}


def unknown(store: Store, found: pl.DataFrame) -> pl.DataFrame:
    """Of what an audit found (columns `FOUND`) the rows that are not recorded, as they came.

    Recorded is the same guardrail, trace and span; of delays, rates and spending the same guardrail and trace.
    """
    rows = conform(found.select(list(FOUND)), FOUND).with_row_index("place")
    if rows.is_empty():
        return rows.drop("place")
    traces = rows["trace_id"].unique().to_list()
    with store.read() as reader:
        kinds = reader.frame("SELECT agent, guardrail_id, kind FROM guardrails", KIND_OF)
        held = reader.frame(
            """SELECT agent, guardrail_id, trace_id, span_id FROM guardrail_violations
            WHERE trace_id IN (SELECT unnest($traces::VARCHAR[]))""",
            {name: FOUND[name] for name in ("agent", "guardrail_id", "trace_id", "span_id")},
            {"traces": traces},
        )
    once = kinds.select("agent", "guardrail_id", once=pl.col("kind").is_in(_ONCE_A_TRACE))
    key = ["agent", "guardrail_id", "trace_id", "evidence"]
    evidence = pl.when(~pl.col("once")).then("span_id").alias("evidence")
    known = held.join(once, on=["agent", "guardrail_id"]).with_columns(evidence)
    return (
        rows.join(once, on=["agent", "guardrail_id"])
        .with_columns(evidence)
        .unique(key, keep="first", maintain_order=True)
        .join(known, on=key, how="anti", nulls_equal=True)
        .sort("place")
        .select(list(FOUND))
    )


def add_violations(store: Store, found: pl.DataFrame) -> pl.DataFrame:
    """Record those of an audit's findings (columns `FOUND`) that are `unknown`, and return them.

    One audit goes on at a time (`pipelines.runner`), so nobody else adds the same meanwhile.
    """
    added = unknown(store, found)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        result_rows.insert(connection, "guardrail_violations", added, key={"found_at": store.clock.now()})
        meta.bump(connection)

    if added.height:
        store.write(work)
    return added


def violations(
    store: Store,
    *,
    agent: str | None = None,
    guardrail_id: str | None = None,
    trace_id: str | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> pl.DataFrame:
    """What was done against guardrails, found last first (columns `VIOLATIONS`, with the guardrail's definition)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(f"v.{name}" for name in FOUND)}, v.found_at, g.kind, g.subject, g.threshold
            FROM guardrail_violations AS v JOIN guardrails AS g USING (agent, guardrail_id)
            WHERE ($agent IS NULL OR v.agent = $agent) AND ($guardrail IS NULL OR v.guardrail_id = $guardrail)
                AND ($trace IS NULL OR v.trace_id = $trace) AND ($since IS NULL OR v.found_at >= $since)
            ORDER BY v.found_at DESC, v.occurred_at DESC NULLS LAST, v.trace_id, v.guardrail_id, v.span_id
            LIMIT $limit""",
            VIOLATIONS,
            {"agent": agent, "guardrail": guardrail_id, "trace": trace_id, "since": since, "limit": limit},
        )


def violations_in(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """What was done against guardrails in these traces (columns `IN_TRACES`), unordered."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT v.trace_id, v.guardrail_id, v.span_id, g.kind, v.detail
            FROM guardrail_violations AS v JOIN guardrails AS g USING (agent, guardrail_id)
            SEMI JOIN (SELECT {texts_in("ids")} AS trace_id) AS c ON c.trace_id = v.trace_id""",
            IN_TRACES,
            {"ids": packed(trace_ids)},
        )


def violation_counts(store: Store, *, since: datetime | None = None) -> pl.DataFrame:
    """How many violations each guardrail has that were found since, and in how many traces (columns `COUNTS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT agent, guardrail_id, count(*) AS violations, count(DISTINCT trace_id) AS traces,
                max(found_at) AS latest
            FROM guardrail_violations WHERE $since IS NULL OR found_at >= $since GROUP BY ALL ORDER BY ALL""",
            COUNTS,
            {"since": since},
        )


def add_looks(store: Store, found: pl.DataFrame) -> int:
    """Keep looks of safety floors (columns `SEEN_LOOK`) as of now; returns how many."""
    rows = found.select(SEEN_LOOK)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        result_rows.insert(connection, "safety_looks", rows, key={"looked_at": store.clock.now()})
        meta.bump(connection)
        return rows.height

    return store.write(work) if rows.height else 0


def looks(
    store: Store,
    *,
    agent: str | None = None,
    guardrail_id: str | None = None,
    arm: str | None = None,
    newest: bool = False,
    limit: int = 1_000,
) -> pl.DataFrame:
    """Looks of safety floors, latest first (columns `LOOKS`); `newest`: only the last one of each guardrail and arm."""
    last = "QUALIFY row_number() OVER (PARTITION BY agent, guardrail_id, arm ORDER BY looked_at DESC, n_arm DESC) = 1"
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(LOOKS)} FROM safety_looks
            WHERE ($agent IS NULL OR agent = $agent) AND ($guardrail IS NULL OR guardrail_id = $guardrail)
                AND ($arm IS NULL OR arm = $arm)
            {last if newest else ""} ORDER BY looked_at DESC, agent, guardrail_id, arm LIMIT $limit""",
            LOOKS,
            {"agent": agent, "guardrail": guardrail_id, "arm": arm, "limit": limit},
        )


def last_broken(store: Store) -> pl.DataFrame:
    """When each safety floor last switched each arm off (columns `BROKEN`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT l.agent, l.guardrail_id, l.arm, max(l.looked_at) AS looked_at
            FROM safety_looks AS l JOIN guardrails AS g USING (agent, guardrail_id)
            WHERE l.verdict = 'worse' AND l.basis = 'randomised' AND g.on_violation = 'switch_off' GROUP BY ALL""",
            BROKEN,
        )


def _tightest(rows: pl.DataFrame) -> Limits:
    def subjects(kind: str) -> tuple[str, ...]:
        return tuple(rows.filter(pl.col("kind") == kind)["subject"].drop_nulls().unique().sort().to_list())

    def thresholds(kind: str) -> list[float]:
        return rows.filter(pl.col("kind") == kind)["threshold"].drop_nulls().to_list()

    return Limits(
        off_limits_tools=subjects("off_limits_tool"),
        off_limits_sites=subjects("off_limits_site"),
        off_limits_actions=subjects("off_limits_action"),
        min_delay_seconds=max(thresholds("min_delay_seconds"), default=None),
        max_actions_per_minute=min(thresholds("max_actions_per_minute"), default=None),
        max_spend_usd=min(thresholds("max_spend_usd"), default=None),
    )


def _state(connection: duckdb.DuckDBPyConnection, agent: object, guardrail_id: object) -> str | None:
    rows = connection.execute(
        "SELECT state FROM guardrails WHERE agent = $agent AND guardrail_id = $id",
        {"agent": agent, "id": guardrail_id},
    ).fetchall()
    return str(rows[0][0]) if rows else None


def _subject(guardrail_id: object) -> str:
    return f"guardrail {guardrail_id}"
