"""What judges said beside what people and outcomes say of the same traces: what a judge's quality is read from.

A judge is whoever sends signals of kind judge under one name: a rubric of ours (each version is a judge of its own) or
the evaluator of another system.
"""

from typing import Final

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS

GOLDS: Final = ("annotation", "outcome", "feedback")
"""What a judge is compared with: people's annotations, outcomes, and thumbs and ratings of users."""

OWN_SOURCE: Final = "trimtab"
"""The source of the verdicts of our own rubrics."""

JUDGES = declare(
    {
        "judge": pl.String, "source": pl.String, "version": pl.Int32, "verdicts": pl.Int64, "traces": pl.Int64,
        "mean": pl.Float64, "latest": UTC_TIME,
    }
)  # fmt: skip
JUDGED = pl.Schema(
    {
        "trace_id": pl.String(), "agent": pl.String(), "user_id": pl.String(), "score": pl.Float64(),
        "confidence": pl.Float64(), "judged_probability": pl.Float64(), "annotation": pl.Float64(),
        "annotation_probability": pl.Float64(), "outcome": pl.Float64(), "outcome_probability": pl.Float64(),
        "feedback": pl.Float64(), "feedback_probability": pl.Float64(), "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
    }
)  # fmt: skip

_LOCATED: Final = """(
    SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
    FROM signals AS s LEFT JOIN signal_links AS l ON l.signal_id = s.signal_id AND s.trace_id IS NULL)"""

# Other systems' metadata is anything; only ours is known to hold a version.
_VERSION: Final = f"""CASE WHEN source = '{OWN_SOURCE}'
    THEN TRY_CAST(json_extract_string(TRY_CAST(metadata AS JSON), '$.rubric_version') AS INTEGER) END"""


def judges(store: Store, *, timeout: float | None = None) -> pl.DataFrame:
    """Every judge with verdicts from 0 to 1 (columns `JUDGES`), the one with most of them first.

    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT coalesce(name, 'unnamed') AS judge, source, {_VERSION} AS version, count(*) AS verdicts,
                count(DISTINCT about) AS traces, avg(value) AS mean, max(occurred_at) AS latest
            FROM {_LOCATED} WHERE kind = 'judge' AND value BETWEEN 0 AND 1
            GROUP BY ALL ORDER BY verdicts DESC, judge, source, version DESC""",
            JUDGES,
        )


def judged(
    store: Store,
    judge: str,
    source: str,
    version: int | None,
    *,
    agent: str | None = None,
    timeout: float | None = None,
) -> pl.DataFrame:
    """The traces that one judge scored, one row each, with what else is known of them (columns `JUDGED`).

    `score` is the mean of its verdicts of the trace. `judged_probability` is that with which the trace was chosen, 1
    for judges of other systems. `annotation`, `outcome` and `feedback` are means of labels from 0 to 1 (annotations
    of the judge's name or of none), each with the logged probability with which it was asked for; null where it was
    volunteered. Labels of a rubric belong to all its versions. `confidence` and the reward's `mean` and `sd` where they
    are known. Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH verdicts AS MATERIALIZED (
                SELECT about AS trace_id, avg(value) AS score, avg(CASE WHEN propensity > 0 AND propensity <= 1
                        AND source = '{OWN_SOURCE}' THEN propensity ELSE 1 END) AS judged_probability,
                    avg(TRY_CAST(json_extract_string(TRY_CAST(metadata AS JSON), '$.confidence') AS DOUBLE))
                        AS confidence
                FROM {_LOCATED}
                WHERE kind = 'judge' AND value BETWEEN 0 AND 1 AND coalesce(name, 'unnamed') = $judge
                    AND source = $source AND ({_VERSION}) IS NOT DISTINCT FROM $version AND about IS NOT NULL
                GROUP BY about
            ), said AS (
                SELECT about AS trace_id,
                    CASE kind WHEN 'annotation' THEN 'annotation' WHEN 'outcome' THEN 'outcome' ELSE 'feedback' END
                        AS gold,
                    value, solicited AND propensity > 0 AND propensity <= 1 AS asked, propensity
                FROM {_LOCATED}
                WHERE kind IN ('annotation', 'outcome', 'thumb', 'rating') AND value BETWEEN 0 AND 1
                    AND annotator_kind IS DISTINCT FROM 'llm'
                    AND (kind <> 'annotation' OR name IS NULL OR name = $judge)
                    AND about IN (SELECT trace_id FROM verdicts)
            ), labels AS (
                SELECT trace_id, gold, coalesce(avg(value) FILTER (asked), avg(value)) AS label,
                    max(propensity) FILTER (asked) AS probability
                FROM said GROUP BY trace_id, gold
            ), wide AS (
                SELECT trace_id, {", ".join(_wide(gold) for gold in GOLDS)} FROM labels GROUP BY trace_id
            )
            SELECT v.trace_id, t.agent, t.user_id, v.score, v.confidence, v.judged_probability,
                {", ".join(f"w.{gold}, w.{gold}_probability" for gold in GOLDS)}, r.mean AS reward, r.sd AS reward_sd
            FROM verdicts AS v JOIN traces AS t USING (trace_id) LEFT JOIN wide AS w USING (trace_id)
            LEFT JOIN (FROM {ACTIVE_REWARDS} SEMI JOIN verdicts USING (trace_id)) AS r USING (trace_id)
            WHERE $agent IS NULL OR t.agent = $agent ORDER BY v.trace_id""",
            JUDGED,
            {"judge": judge, "source": source, "version": version, "agent": agent},
        )


def _wide(gold: str) -> str:
    return f"""max(label) FILTER (gold = '{gold}') AS {gold},
        max(probability) FILTER (gold = '{gold}') AS {gold}_probability"""
