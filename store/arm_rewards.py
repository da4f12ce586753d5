"""What the posteriors of arms rest on: rewards of traces that ran an arm, their users, and how late signals come."""

from dataclasses import dataclass

import polars as pl

from store import segments
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_OUTCOMES

__all__ = ["DELAYS", "PEOPLE", "RUN", "TRACES", "ArmEvidence", "delays", "evidence", "run_arms"]

TRACES = declare(
    {
        "agent": pl.String, "arm": pl.String, "user_id": pl.String, "done_at": UTC_TIME, "mean": pl.Float64,
        "sd": pl.Float64, "propensity": pl.Float64,
    }
)  # fmt: skip
PEOPLE = pl.Schema({"agent": pl.String(), "user_id": pl.String(), "segment": pl.String()})
DELAYS = declare({"agent": pl.String, "signals": pl.Int64, "hours": pl.List(pl.Float64)})
RUN = declare(
    {
        "agent": pl.String, "arm": pl.String, "traces": pl.Int64, "recent": pl.Int64, "model": pl.String,
        "models": pl.Int64, "agent_version": pl.String, "prompt_version": pl.String, "latest": UTC_TIME,
    }
)  # fmt: skip

_SHARES = ", ".join(str(each / 100) for each in range(101))
# What is shown comes at once; verdicts and annotations come whenever someone finds the time.
_NOT_OUTCOMES = "('impression', 'annotation', 'judge', 'demonstration')"
_METADATA = "CASE WHEN json_valid(t.metadata) THEN t.metadata END"


@dataclass(frozen=True)
class ArmEvidence:
    """`traces` with signals that ran an arm (TRACES), the `people` of each agent (PEOPLE), and the reward model."""

    traces: pl.DataFrame
    people: pl.DataFrame
    reward_model_id: int | None


def evidence(store: Store) -> ArmEvidence:
    """The rewards of traces with signals of their own, and every agent's users with their segment (`store.segments`).

    `propensity` is that of the arm that ran, where our decision or the trace states one and it is the arm decided on.
    """
    with store.read() as reader:
        model = reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active")
        traces = reader.frame(
            f"""SELECT t.agent, t.arm, t.user_id, coalesce(t.ended_at, t.started_at) AS done_at, r.mean, r.sd,
                CASE
                    WHEN d.arm IS NOT NULL THEN
                        CASE WHEN d.arm = trim(nfc_normalize(t.arm)) AND d.off_policy THEN d.propensity END
                    WHEN coalesce(json_extract_string({_METADATA}, '$."steer.arm"'), t.arm) = t.arm THEN
                        TRY_CAST(json_extract_string({_METADATA}, '$."steer.propensity"') AS DOUBLE)
                END AS propensity
            FROM {ACTIVE_OUTCOMES} AS r JOIN traces AS t USING (trace_id)
            LEFT JOIN (
                SELECT decision_id, any_value(trim(nfc_normalize(arm))) AS arm, any_value(propensity) AS propensity,
                    any_value(off_policy) AS off_policy
                FROM decisions SEMI JOIN traces USING (decision_id) GROUP BY decision_id
            ) AS d ON d.decision_id = t.decision_id
            WHERE t.agent IS NOT NULL AND t.arm IS NOT NULL
            ORDER BY t.agent, t.trace_id""",
            TRACES,
        )
        people = reader.frame(
            f"""SELECT t.agent, t.user_id, g.segment FROM (
                SELECT DISTINCT agent, user_id FROM traces WHERE agent IS NOT NULL AND user_id IS NOT NULL) AS t
                LEFT JOIN {segments.expression()} AS g USING (user_id)
            ORDER BY t.agent, t.user_id""",
            PEOPLE,
        )
    return ArmEvidence(traces, people, int(model) if isinstance(model, int) else None)


def delays(store: Store) -> pl.DataFrame:
    """How many hours after its trace a signal came, as 101 quantiles by agent (columns `DELAYS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH late AS (
                SELECT t.agent, greatest(epoch_us(s.occurred_at) - epoch_us(coalesce(t.ended_at, t.started_at)), 0)
                    / 3.6e9 AS hours
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id)
                WHERE s.kind NOT IN {_NOT_OUTCOMES} AND t.agent IS NOT NULL
                    AND s.annotator_kind IS DISTINCT FROM 'llm')
            SELECT agent, count(*) AS signals, quantile_cont(hours, [{_SHARES}]) AS hours
            FROM late WHERE hours IS NOT NULL GROUP BY agent ORDER BY agent""",
            DELAYS,
        )


def run_arms(store: Store, *, recent_days: int = 14) -> pl.DataFrame:
    """The arms that traces name, and what they ran (columns `RUN`), by agent and arm.

    `recent` counts traces of the agent's newest `recent_days` days; `models` how many different ones ran.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, t.arm, count(*) AS traces,
                count(*) FILTER (t.seen_at > n.newest - to_days($days)) AS recent,
                arg_max(t.model, t.seen_at) AS model, count(DISTINCT t.model) AS models,
                arg_max(t.agent_version, t.seen_at) AS agent_version,
                arg_max(json_extract_string({_METADATA}, '$.prompt_version'), t.seen_at) AS prompt_version,
                max(t.seen_at) AS latest
            FROM traces AS t JOIN (SELECT agent, max(seen_at) AS newest FROM traces GROUP BY agent) AS n USING (agent)
            WHERE t.arm IS NOT NULL GROUP BY t.agent, t.arm ORDER BY t.agent, t.arm""",
            RUN,
            {"days": recent_days},
        )
