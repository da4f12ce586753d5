"""What the traces behind a proposal say, so that its quotes can be looked for."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from store.connection import Store
from store.scope import ACTIVE_REWARDS

__all__ = ["CHARACTERS", "TEXTS", "TRACES", "texts", "traces"]

TRACES: Final = pl.Schema(
    {
        "trace_id": pl.String(),
        "agent": pl.String(),
        "reward": pl.Float64(),  # the active model's; null without one
        "reward_sd": pl.Float64(),
    }
)
TEXTS: Final = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),  # null: of the trace as a whole
        "step": pl.Int64(),  # of the span in event time
        "kind": pl.String(),  # of the span; null: of the trace
        "field": pl.String(),  # input, output, status_message; null: the span says nothing
        "text": pl.String(),
    }
)
CHARACTERS: Final = 200_000
"""So much of each text is looked at."""

_ROWS: Final = 5_000


def traces(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """Which of these traces there are (columns `TRACES`), by trace."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.trace_id, t.agent, r.mean AS reward, r.sd AS reward_sd
            FROM traces AS t LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
            WHERE list_contains($ids::VARCHAR[], t.trace_id) ORDER BY t.trace_id""",
            TRACES,
            {"ids": list(trace_ids)},
        )


def texts(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """What these traces and their spans say (columns `TEXTS`), a trace's own words first, then by step.

    At most 5,000 rows; a span without words has one with nulls.
    """
    with store.read() as reader:
        return reader.frame(_TEXTS, TEXTS, {"ids": list(trace_ids), "characters": CHARACTERS, "rows": _ROWS})


_TEXTS: Final = """
    WITH whole AS (
        SELECT trace_id, NULL::VARCHAR AS span_id, 0::BIGINT AS step, NULL::VARCHAR AS kind,
            unnest(['input', 'output']) AS field, unnest([input, output]) AS text
        FROM trace_records WHERE list_contains($ids::VARCHAR[], trace_id)
    ), brief AS (
        SELECT trace_id, NULL, 0, NULL, unnest(['input', 'output']), unnest([input, output])
        FROM traces WHERE list_contains($ids::VARCHAR[], trace_id)
            AND trace_id NOT IN (SELECT trace_id FROM whole WHERE text IS NOT NULL)
    ), numbered AS (
        SELECT trace_id, span_id, kind, input, output, status_message, row_number() OVER (
            PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS step
        FROM spans WHERE list_contains($ids::VARCHAR[], trace_id)
    ), said AS (
        SELECT trace_id, span_id, step, kind, unnest(['input', 'output', 'status_message', NULL]) AS field,
            unnest([input, output, status_message, NULL]) AS text
        FROM numbered
    )
    SELECT trace_id, span_id, step, kind, field, left(text, $characters) AS text
    FROM (FROM whole UNION ALL FROM brief UNION ALL FROM said)
    WHERE (text IS NOT NULL AND text <> '') OR (field IS NULL AND span_id IS NOT NULL)
    ORDER BY trace_id, step, span_id, field NULLS LAST LIMIT $rows"""
