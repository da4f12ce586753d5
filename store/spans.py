"""Spans: those of one trace in step order without texts, the texts of some steps, one span with everything, and the
first steps of many traces."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare

SPAN_ROWS = declare(
    {
        "step": pl.Int64, "span_id": pl.String, "parent_span_id": pl.String, "kind": pl.String, "name": pl.String,
        "started_at": UTC_TIME, "ended_at": UTC_TIME, "status": pl.String, "status_message": pl.String,
        "model": pl.String, "input_tokens": pl.Int64, "output_tokens": pl.Int64, "cost_usd": pl.Float64,
    }
)  # fmt: skip

SPAN_TEXTS = pl.Schema(
    {
        "step": pl.Int64, "span_id": pl.String, "kind": pl.String, "name": pl.String, "status": pl.String,
        "status_message": pl.String, "input": pl.String, "output": pl.String, "input_characters": pl.Int64,
        "output_characters": pl.Int64,
    }
)  # fmt: skip

SPAN_DETAIL = declare(
    {**SPAN_ROWS, "input": pl.String, "output": pl.String, "attributes": pl.String, "links": pl.String,
     "source": pl.String, "input_characters": pl.Int64, "output_characters": pl.Int64}
)  # fmt: skip

STEPS = declare(
    {
        "trace_id": pl.String, "step": pl.Int64, "span_id": pl.String, "kind": pl.String, "name": pl.String,
        "status": pl.String, "status_message": pl.String, "input": pl.String, "output": pl.String,
    }
)  # fmt: skip

# Steps are numbered in event time as in the rollup, from 1.
_NUMBERED = """
    SELECT rowid AS row_no,
        row_number() OVER (ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS step
    FROM spans WHERE trace_id = $trace_id"""

_LENGTHS = "length(s.input) AS input_characters, length(s.output) AS output_characters"


@dataclass(frozen=True)
class SpanPage:
    """The first spans of a trace (SPAN_ROWS, in step order) and how many there are in all."""

    rows: pl.DataFrame
    total: int


def of_trace(store: Store, trace_id: str, *, limit: int = 10_000, timeout: float | None = None) -> SpanPage:
    """The spans of one trace in step order, without their texts. Raises: `QueryTimeout`."""
    own = [column for column in SPAN_ROWS.names() if column not in ("step", "status_message")]
    with store.read(timeout=timeout) as reader:
        total = reader.value("SELECT count(*) FROM spans WHERE trace_id = $trace_id", {"trace_id": trace_id})
        rows = reader.frame(
            f"""SELECT n.step, {", ".join(f"s.{column}" for column in own[:7])},
                left(s.status_message, 300) AS status_message, {", ".join(f"s.{column}" for column in own[7:])}
            FROM spans AS s JOIN ({_NUMBERED} ORDER BY step LIMIT $limit) AS n ON s.rowid = n.row_no
            ORDER BY n.step""",
            SPAN_ROWS,
            {"trace_id": trace_id, "limit": limit},
        )
    return SpanPage(rows, int(str(total)))


def of_traces(store: Store, trace_ids: Sequence[str], *, most: int, characters: int) -> pl.DataFrame:
    """The first `most` spans of each trace in step order, every text cut at `characters` (columns `STEPS`)."""
    with store.read() as reader:
        return reader.frame(
            """WITH numbered AS MATERIALIZED (
                SELECT rowid AS row_no, row_number() OVER (
                    PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS step
                FROM spans WHERE trace_id IN (SELECT unnest($traces::VARCHAR[])) QUALIFY step <= $most)
            SELECT s.trace_id, n.step, s.span_id, s.kind, s.name, s.status,
                left(s.status_message, $characters) AS status_message, left(s.input, $characters) AS input,
                left(s.output, $characters) AS output
            FROM spans AS s JOIN numbered AS n ON s.rowid = n.row_no ORDER BY s.trace_id, n.step""",
            STEPS,
            {"traces": list(trace_ids), "most": most, "characters": characters},
        )


def texts(
    store: Store,
    trace_id: str,
    *,
    first_step: int = 1,
    last_step: int = 100,
    max_characters: int = 200_000,
    timeout: float | None = None,
) -> pl.DataFrame:
    """Inputs and outputs of the steps from `first_step` to `last_step`, each cut at `max_characters` (SPAN_TEXTS).

    The full lengths stand beside them, null where there is no text. Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT n.step, s.span_id, s.kind, s.name, s.status, left(s.status_message, $most) AS status_message,
                left(s.input, $most) AS input, left(s.output, $most) AS output, {_LENGTHS}
            FROM spans AS s
            JOIN (SELECT * FROM ({_NUMBERED}) WHERE step BETWEEN $first_step AND $last_step) AS n ON s.rowid = n.row_no
            ORDER BY n.step""",
            SPAN_TEXTS,
            {"trace_id": trace_id, "first_step": first_step, "last_step": last_step, "most": max_characters},
        )


def one(
    store: Store, trace_id: str, span_id: str, *, max_characters: int = 200_000, timeout: float | None = None
) -> pl.DataFrame:
    """One span with its texts and attributes, each cut at `max_characters`, as a frame of one row (SPAN_DETAIL).

    Raises: `NotFound`; `QueryTimeout`.
    """
    own = [column for column in SPAN_ROWS.names() if column != "step"]
    cut = ", ".join(f"left(s.{column}, $most) AS {column}" for column in ("input", "output", "attributes", "links"))
    with store.read(timeout=timeout) as reader:
        frame = reader.frame(
            f"""SELECT n.step, {", ".join(f"s.{column}" for column in own)}, {cut}, s.source, {_LENGTHS}
            FROM spans AS s JOIN ({_NUMBERED}) AS n ON s.rowid = n.row_no
            WHERE s.trace_id = $trace_id AND s.span_id = $span_id LIMIT 1""",
            SPAN_DETAIL,
            {"trace_id": trace_id, "span_id": span_id, "most": max_characters},
        )
    if frame.is_empty():
        raise NotFound("span", span_id)
    return frame
