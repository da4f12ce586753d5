"""What safety floors hold: one number a trace for each metric of `store.guardrail_definition.METRICS`."""

from typing import Final

import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_OUTCOMES, SECONDS, SIGNAL_TRACES

MEASURED = declare({"trace_id": pl.String, "arm": pl.String, "seen_at": UTC_TIME, "value": pl.Float64})

# A model that declines says so in how its answer ended.
_REFUSED: Final = (
    r'"[a-z_.]*finish_reasons?[a-z_.0-9]*"\s*:\s*(\[\s*)?(\\?")(refusal|content_filter|safety|recitation)\b'
)
# The mean of the values that a trace got, of signals that have a good and a bad end.
_MEAN_OF: Final = ("thumb", "rating", "outcome")
# Whether it happened at all.
_HAPPENED: Final = ("purchase", "correction", "retry", "abandon")

_OF_TRACE: Final = {
    "reward": f"SELECT trace_id, mean AS value FROM {ACTIVE_OUTCOMES}",
    "error_rate": "SELECT trace_id, (status = 'error')::DOUBLE AS value FROM traces",
    "cost_usd": "SELECT trace_id, cost_usd AS value FROM traces",
    "latency_seconds": f"SELECT trace_id, {SECONDS} AS value FROM traces AS t",
    "refusal": """SELECT t.trace_id, (r.trace_id IS NOT NULL)::DOUBLE AS value FROM traces AS t LEFT JOIN (
        SELECT DISTINCT trace_id FROM spans WHERE kind = 'llm' AND contains(attributes, 'finish_reason')
            AND regexp_matches(attributes, $refused, 'i')) AS r USING (trace_id)""",
    **{
        kind: f"""SELECT l.trace_id, avg(s.value) AS value FROM {SIGNAL_TRACES} AS l JOIN signals AS s USING (signal_id)
        WHERE l.kind = '{kind}' AND s.annotator_kind IS DISTINCT FROM 'llm' AND s.value BETWEEN 0 AND 1
        GROUP BY l.trace_id"""
        for kind in _MEAN_OF
    },
    **{
        kind: f"""SELECT t.trace_id, (h.trace_id IS NOT NULL)::DOUBLE AS value FROM traces AS t LEFT JOIN (
            SELECT DISTINCT l.trace_id FROM {SIGNAL_TRACES} AS l JOIN signals AS s USING (signal_id)
            WHERE l.kind = '{kind}' AND coalesce(s.value, 1) > 0) AS h USING (trace_id)"""
        for kind in _HAPPENED
    },
}


def measured(store: Store, agent: str, metric: str) -> pl.DataFrame:
    """The metric of every trace of an agent that has an arm and a value, by time (columns `MEASURED`).

    reward: what the trace's own signals say of it by the model in use, where they say anything; error_rate, refusal,
    purchase, correction, retry and abandon 0 or 1; thumb, rating and outcome the mean of what people and code said,
    where they said anything; cost_usd; latency_seconds.
    Raises: `NotFound` for another metric.
    """
    if metric not in _OF_TRACE:
        raise NotFound("metric", metric)
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.trace_id, t.arm, t.seen_at, m.value FROM traces AS t JOIN ({_OF_TRACE[metric]}) AS m
                USING (trace_id)
            WHERE t.agent = $agent AND t.arm IS NOT NULL AND m.value IS NOT NULL ORDER BY t.seen_at, t.trace_id""",
            MEASURED,
            {"agent": agent, **({"refused": _REFUSED} if metric == "refusal" else {})},
        )
