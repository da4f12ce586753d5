"""Logged decisions with their outcomes: the one definition of which can be learnt from, and why others cannot.

A row is one draw. Decisions of a session repeat its first assignment, so a session is one row, as is a decision of its
own. Its traces are those that name one of its decisions; its reward is the mean over them, by the reward model in use.
Beside the decisions of `POST /v1/steer` there are those that traces state themselves under the same names (`steer.*` in
the record's metadata or the root span's attributes), where the decision is not one of ours.

What cannot be used stays in the frame with the reason in `dropped`: the arm that ran counts, not the assigned one, and
a propensity that was not logged is not made up. Of several reasons the first in the order of `REASONS` is given.
"""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.scope import ACTIVE_OUTCOMES, SIGNAL_TRACES

__all__ = ["LOGGED", "REASONS", "agents", "dropped", "outcome_delay", "read", "usable"]

LOGGED = declare(
    {
        "decision_id": pl.String, "origin": pl.String, "agent": pl.String, "user_id": pl.String, "segment": pl.String,
        "session_id": pl.String, "task": pl.String, "decided_at": UTC_TIME, "policy_version": pl.Int64,
        "arm": pl.String, "executed_arm": pl.String, "greedy_arm": pl.String, "explore": pl.Boolean,
        "propensity": pl.Float64, "arms": pl.List(pl.String), "propensities": pl.List(pl.Float64), "rate": pl.Float64,
        "solicit": pl.Boolean, "solicit_propensity": pl.Float64, "decisions": pl.Int64, "traces": pl.Int64,
        "trace_id": pl.String, "reward": pl.Float64, "reward_sd": pl.Float64, "signals": pl.Int64,
        "cost_usd": pl.Float64, "young": pl.Boolean, "cluster": pl.UInt64, "dropped": pl.String,
    }
)  # fmt: skip
"""`origin` steer or trace; `arm` as assigned; `decisions` and `traces` of the draw, `trace_id` one of them;
`reward` 0 to 1 and `reward_sd` of the mean over its traces; `cost_usd` of all; `young`: outcomes may still come;
`cluster` the user and UTC day (the draw where there is no user); `dropped` of REASONS, null where it can be used."""

REASONS: Final = {
    "no_trace": "no trace followed them",
    "mixed_arms": "their traces ran several arms",
    "other_arm": "another arm was executed than assigned",
    "too_young": "their outcome may still come",
    "no_reward": "their traces have no reward",
    "missing_propensities": "the probability of each arm was not logged",
    "impossible_propensities": "the logged probabilities are impossible",
    "not_off_policy": "the arm was not drawn at random, or was marked as not to be used",
}

_ROUNDING = 1e-4  # logged with six digits by those who write them as text
_SETTLED = 0.95  # share of outcomes that have come by the delay below
_LONGEST_DELAY = timedelta(days=14)

# Verdicts and annotations come whenever someone finds the time, which says nothing about outcomes.
_NOT_OUTCOMES = ("annotation", "judge", "demonstration")

_OWN = """
    SELECT decision_id, agent, user_id, segment, session_id, task, decided_at, policy_version, arm, greedy_arm, explore,
        propensity, arms, propensities, rate, solicit, solicit_propensity, sticky, off_policy, unit
    FROM decisions WHERE agent = $agent
        AND ($since IS NULL OR decided_at >= $since) AND ($until IS NULL OR decided_at < $until)"""

# Several draws of one session that agree are one; a session that was drawn anew (its arm was switched off) is mixed.
_DRAWS = """
    SELECT unit, arg_min(decision_id, decided_at) FILTER (NOT sticky) AS first_id, count(*) AS decisions,
        min(arm) <> max(arm) AS several_assigned
    FROM own GROUP BY unit HAVING first_id IS NOT NULL"""

# Traces of our decisions with their unit, and those of the agent that may state a decision of their own.
_TRACES = """
    SELECT t.trace_id, t.decision_id, t.arm, t.user_id, t.session_id, t.task, t.seen_at, t.cost_usd, o.unit
    FROM traces AS t LEFT JOIN own AS o USING (decision_id)
    WHERE o.unit IS NOT NULL OR (t.agent = $agent AND t.arm IS NOT NULL
        AND ($since IS NULL OR t.seen_at >= $since) AND ($until IS NULL OR t.seen_at < $until))"""


def _first(column: str) -> str:
    """What the first trace with a value says."""
    return f"arg_min({column}, (t.seen_at, t.trace_id))"


_OUTCOME = """count(*) AS traces, min(t.arm) AS executed_arm,
        coalesce(min(t.arm) <> max(t.arm), false) AS several_executed, min(t.trace_id) AS trace_id,
        avg(r.mean) AS reward, sqrt(sum(r.sd * r.sd)) / nullif(count(r.sd), 0) AS reward_sd,
        sum(r.signals)::BIGINT AS signals, sum(t.cost_usd) AS cost_usd"""

# Where a trace states its decision itself. A distribution is an object, or the same as text (span attributes are flat).
_STATED = """
    SELECT x.trace_id, x.metadata AS said FROM trace_records AS x SEMI JOIN foreign_traces AS m USING (trace_id)
    WHERE contains(x.metadata, '"steer.arm"') AND json_valid(x.metadata)
    UNION ALL
    SELECT s.trace_id, s.attributes FROM spans AS s SEMI JOIN foreign_traces AS m USING (trace_id)
    WHERE s.parent_span_id IS NULL AND contains(s.attributes, '"steer.arm"') AND json_valid(s.attributes)"""

_SAID = """
    SELECT trace_id, min(json_extract_string(said, '$."steer.arm"')) AS arm,
        min(TRY_CAST(json_extract_string(said, '$."steer.propensity"') AS DOUBLE)) AS propensity,
        min(json_extract_string(said, '$."steer.propensities"')) AS distribution,
        min(TRY_CAST(json_extract_string(said, '$."steer.explore"') AS BOOLEAN)) AS explore,
        min(TRY_CAST(json_extract_string(said, '$."steer.policy.version"') AS BIGINT)) AS policy_version,
        min(json_extract_string(said, '$.segment')) AS segment
    FROM stated GROUP BY trace_id"""


def read(
    store: Store,
    agent: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    settled: timedelta | None = None,
    timeout: float | None = None,
) -> pl.DataFrame:
    """Every draw of an agent decided from `since` (inclusive) to `until` (exclusive), oldest first (columns LOGGED).

    A draw is young when its decision is more recent than `settled` (None: `outcome_delay`). Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        if settled is None:
            settled = _delay(reader, agent)
        return reader.frame(
            _SQL,
            LOGGED,
            {"agent": agent, "since": since, "until": until, "settled_at": store.clock.now() - settled},
        )


def usable(logged: pl.DataFrame) -> pl.DataFrame:
    """The rows of `read` that off-policy estimates may use."""
    return logged.filter(pl.col("dropped").is_null())


def dropped(logged: pl.DataFrame) -> dict[str, int]:
    """How many rows of `read` are left out, by reason (keys of REASONS, in that order; only those that occur)."""
    found = logged.group_by("dropped").len()
    counted = dict(zip(found["dropped"].to_list(), found["len"].to_list(), strict=True))
    return {reason: counted[reason] for reason in REASONS if reason in counted}


def outcome_delay(store: Store, agent: str, *, timeout: float | None = None) -> timedelta:
    """How long after the end of a trace 95 % of an agent's outcomes have come; at most 14 days, 0 without outcomes.

    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return _delay(reader, agent)


def agents(store: Store, *, timeout: float | None = None) -> pl.DataFrame:
    """The agents that have decisions of their own here (columns agent, decisions, newest), most decisions first."""
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """SELECT agent, count(*)::BIGINT AS decisions, max(decided_at) AS newest FROM decisions
            GROUP BY agent ORDER BY decisions DESC, agent""",
            declare({"agent": pl.String, "decisions": pl.Int64, "newest": UTC_TIME}),
        )


def _delay(reader: Reader, agent: str) -> timedelta:
    seconds = reader.value(
        f"""WITH own AS (SELECT trace_id, coalesce(ended_at, started_at) AS done_at FROM traces
            WHERE agent = $agent AND coalesce(ended_at, started_at) IS NOT NULL)
        SELECT quantile_cont(epoch_us(s.occurred_at) - epoch_us(o.done_at), {_SETTLED}) / 1e6
        FROM {SIGNAL_TRACES} AS l JOIN own AS o USING (trace_id) JOIN signals AS s USING (signal_id)
        WHERE l.kind NOT IN $late AND s.occurred_at >= o.done_at""",
        {"agent": agent, "late": list(_NOT_OUTCOMES)},
    )
    return min(timedelta(seconds=seconds), _LONGEST_DELAY) if isinstance(seconds, float) else timedelta(0)


# Not a number is the largest of all, so it is above 1.
_POSSIBLE = f"""list_min(propensities) >= 0 AND list_max(propensities) <= 1 AND len(arms) = len(propensities)
        AND abs(list_sum(propensities) - 1) <= {_ROUNDING} AND propensity > 0
        AND abs(propensities[list_position(arms, arm)] - propensity) <= {_ROUNDING}"""

_SQL = f"""
    WITH own AS MATERIALIZED ({_OWN}), draws AS ({_DRAWS}), agent_traces AS MATERIALIZED ({_TRACES}),
    own_outcomes AS (
        SELECT t.unit, {_OUTCOME} FROM agent_traces AS t LEFT JOIN {ACTIVE_OUTCOMES} AS r USING (trace_id)
        WHERE t.unit IS NOT NULL GROUP BY t.unit
    ), own_rows AS (
        SELECT o.decision_id, 'steer' AS origin, o.agent, o.user_id, o.segment, o.session_id, o.task, o.decided_at,
            o.policy_version, o.arm, c.executed_arm, o.greedy_arm, o.explore, o.propensity, o.arms, o.propensities,
            o.rate, o.solicit, o.solicit_propensity, d.decisions, coalesce(c.traces, 0) AS traces, c.trace_id,
            c.reward, c.reward_sd, c.signals, c.cost_usd, o.off_policy,
            d.several_assigned OR coalesce(c.several_executed, false) AS mixed
        FROM draws AS d JOIN own AS o ON o.decision_id = d.first_id LEFT JOIN own_outcomes AS c ON c.unit = d.unit
    ), foreign_traces AS MATERIALIZED (
        SELECT t.* EXCLUDE (unit) FROM agent_traces AS t ANTI JOIN decisions AS d USING (decision_id)
        WHERE t.unit IS NULL
    ), stated AS ({_STATED}), said AS ({_SAID}),
    stated_outcomes AS (
        SELECT coalesce(t.decision_id, t.trace_id) AS decision_id, {_first("t.user_id")} AS user_id,
            {_first("coalesce(g.segment, s.segment)")} AS segment, {_first("t.session_id")} AS session_id,
            {_first("t.task")} AS task,
            min(t.seen_at) AS decided_at, min(s.policy_version) AS policy_version, min(s.arm) AS arm,
            min(s.arm) <> max(s.arm) AS several_assigned, {_first("s.explore")} AS explore,
            min(s.propensity) AS propensity, {_first("s.distribution")} AS distribution, {_OUTCOME}
        FROM said AS s JOIN foreign_traces AS t USING (trace_id) LEFT JOIN {ACTIVE_OUTCOMES} AS r USING (trace_id)
            LEFT JOIN user_segments AS g ON g.user_id = t.user_id
        GROUP BY coalesce(t.decision_id, t.trace_id)
    ), distributions AS (
        SELECT distribution, map_keys(said) AS arms, map_values(said) AS propensities
        FROM (SELECT distribution, json_transform(distribution, '"MAP(VARCHAR, DOUBLE)"') AS said
            FROM (SELECT DISTINCT distribution FROM stated_outcomes
                WHERE json_valid(distribution) AND json_type(distribution) = 'OBJECT'))
    ), stated_rows AS (
        SELECT s.decision_id, 'trace' AS origin, $agent AS agent, s.user_id, s.segment, s.session_id, s.task,
            s.decided_at, s.policy_version, s.arm, s.executed_arm,
            CASE WHEN len(d.arms) > 0 THEN d.arms[list_position(d.propensities, list_max(d.propensities))] END
                AS greedy_arm,
            s.explore, s.propensity, d.arms, d.propensities, NULL::DOUBLE AS rate, NULL::BOOLEAN AS solicit,
            NULL::DOUBLE AS solicit_propensity, 1 AS decisions, s.traces, s.trace_id, s.reward, s.reward_sd, s.signals,
            s.cost_usd, coalesce(list_max(d.propensities) < 1, true) AS off_policy,
            s.several_assigned OR s.several_executed AS mixed
        FROM stated_outcomes AS s LEFT JOIN distributions AS d USING (distribution)
    ), both_rows AS (
        SELECT *, decided_at > $settled_at AS young FROM (FROM own_rows UNION ALL BY NAME FROM stated_rows)
    )
    SELECT {", ".join(name for name in LOGGED if name not in ("cluster", "dropped"))},
        CASE WHEN user_id IS NULL THEN hash(decision_id)
            ELSE hash(user_id, epoch_us(decided_at) // 86400000000) END AS cluster,
        CASE WHEN traces = 0 AND NOT young THEN 'no_trace' WHEN mixed THEN 'mixed_arms'
            WHEN executed_arm <> arm THEN 'other_arm' WHEN young THEN 'too_young' WHEN reward IS NULL THEN 'no_reward'
            WHEN propensity IS NULL OR coalesce(len(propensities), 0) = 0
                OR list_count(propensities) < len(propensities) THEN 'missing_propensities'
            WHEN NOT coalesce({_POSSIBLE}, false) THEN 'impossible_propensities'
            WHEN NOT off_policy THEN 'not_off_policy' END AS dropped
    FROM both_rows ORDER BY decided_at, decision_id"""
