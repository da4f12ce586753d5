"""Tasks: which traces are rollouts of the same thing. Read for grouping, and written so that a trace keeps its task."""

from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from store import meta, rollup
from store.connection import Store
from store.frames import UTC_TIME, Reader, declare, packed, texts_in

UNGROUPED = declare({"trace_id": pl.String, "agent": pl.String, "input": pl.String, "seen_at": UTC_TIME})
GROUPS = pl.Schema({"task": pl.String(), "agent": pl.String(), "representative": pl.String()})
TASK_COUNTS = pl.Schema({"agent": pl.String(), "task": pl.String(), "task_origin": pl.String(), "traces": pl.Int64()})

_INPUTS = pl.Schema({"trace_id": pl.String(), "input": pl.String()})

# Traces that have no task and whose input holds something, oldest first. The preview decides: where it is whole there
# is no need to look for the text behind it.
_PENDING = rf"""
SELECT trace_id, agent, input, seen_at FROM traces
WHERE task IS NULL AND (length(input) >= {rollup.PREVIEW_CHARACTERS} OR regexp_matches(input, '\S'))
    AND ($after_id IS NULL OR (seen_at, trace_id) > ($after_at::TIMESTAMPTZ, $after_id::VARCHAR))
ORDER BY seen_at, trace_id LIMIT $limit"""

# Texts that previews were cut from: what sources stated, roots of spans, and first model calls. Row numbers first,
# texts second; a text that does not begin with the preview is not the one it was cut from.
_TEXTS = f"""
WITH cut AS (
    SELECT trace_id, input AS preview FROM traces
    WHERE trace_id IN (SELECT {texts_in("trace_ids")})
), steps AS (
    SELECT s.rowid AS row_no, s.parent_span_id, s.kind,
        row_number() OVER (PARTITION BY s.trace_id, s.kind
            ORDER BY s.started_at NULLS LAST, s.ordinal NULLS LAST, s.span_id) AS place
    FROM spans AS s SEMI JOIN cut USING (trace_id)
), texts AS (
    SELECT trace_id, left(input, $characters) AS input FROM trace_records
    WHERE rowid IN (SELECT r.rowid FROM trace_records AS r SEMI JOIN cut USING (trace_id))
    UNION ALL
    SELECT trace_id, left(input, $characters) FROM spans
    WHERE rowid IN (SELECT row_no FROM steps WHERE parent_span_id IS NULL OR (kind = 'llm' AND place = 1))
)
SELECT trace_id, min(texts.input) AS input FROM texts JOIN cut USING (trace_id)
WHERE starts_with(texts.input, cut.preview) GROUP BY trace_id"""


@dataclass(frozen=True)
class Position:
    """A place in the list of traces without a task: everything up to it has been seen."""

    seen_at: datetime
    trace_id: str


def ungrouped(
    store: Store, *, after: Position | None = None, limit: int = 20_000, characters: int = 2_000
) -> pl.DataFrame:
    """The oldest traces without a task that have an input (columns `UNGROUPED`), from `after` on.

    Inputs are whole up to `characters`. Traces whose input is missing or blank are left out.
    """
    with store.read() as reader:
        pending = reader.frame(
            _PENDING,
            UNGROUPED,
            {
                "after_at": after.seen_at if after else None, "after_id": after.trace_id if after else None,
                "limit": limit,
            },
        )  # fmt: skip
        return _with_whole_inputs(reader, pending, characters)


def groups(store: Store) -> pl.DataFrame:
    """Every group with the input that stands for it (columns `GROUPS`)."""
    with store.read() as reader:
        return reader.frame("SELECT task, agent, representative FROM task_groups ORDER BY task", GROUPS)


def counts(store: Store) -> pl.DataFrame:
    """How many traces each task has, given or grouped (columns `TASK_COUNTS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT agent, task, task_origin, count(*) AS traces FROM traces WHERE task IS NOT NULL
            GROUP BY ALL ORDER BY traces DESC, agent, task""",
            TASK_COUNTS,
        )


def assign(store: Store, assignments: pl.DataFrame, new_groups: pl.DataFrame) -> int:
    """Give traces their task and keep the groups opened for them; returns how many traces got one.

    `assignments` has trace_id, agent, task and similarity; `new_groups` the columns `GROUPS`. A trace that has a task
    by now keeps it.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        connection.register("fresh_groups", new_groups.select(list(GROUPS)))
        connection.register("fresh_tasks", assignments.select("trace_id", "agent", "task", "similarity"))
        try:
            connection.execute(
                "INSERT INTO task_groups SELECT *, $now FROM fresh_groups ANTI JOIN task_groups USING (task)",
                {"now": now},
            )
            connection.execute(
                """CREATE OR REPLACE TEMP TABLE touched_traces AS
                SELECT trace_id FROM fresh_tasks
                SEMI JOIN (SELECT trace_id FROM traces WHERE task IS NULL) USING (trace_id)
                ANTI JOIN trace_tasks USING (trace_id)"""
            )
            connection.execute(
                """INSERT INTO trace_tasks (trace_id, agent, task, similarity, assigned_at)
                SELECT trace_id, agent, task, similarity, $now
                FROM fresh_tasks SEMI JOIN touched_traces USING (trace_id)""",
                {"now": now},
            )
        finally:
            connection.unregister("fresh_groups")
            connection.unregister("fresh_tasks")
        assigned = int(connection.execute("SELECT count(*) FROM touched_traces").fetchall()[0][0])
        if assigned:
            # The rollup takes a grouped task where none is stated: the same outcome, without reading the spans again.
            connection.execute(
                """UPDATE traces SET task = found.task, task_origin = 'grouped'
                FROM (FROM trace_tasks SEMI JOIN touched_traces USING (trace_id)) AS found
                WHERE traces.trace_id = found.trace_id AND traces.task IS NULL"""
            )
            meta.bump(connection)
        return assigned

    return store.write(work)


def _with_whole_inputs(reader: Reader, pending: pl.DataFrame, characters: int) -> pl.DataFrame:
    cut = pending.filter(pl.col("input").str.len_chars() >= rollup.PREVIEW_CHARACTERS)["trace_id"]
    if cut.is_empty() or characters <= rollup.PREVIEW_CHARACTERS:
        return pending.with_columns(pl.col("input").str.slice(0, characters))
    whole = reader.frame(_TEXTS, _INPUTS, {"trace_ids": packed(cut), "characters": characters})
    joined = pending.join(whole, on="trace_id", how="left", suffix="_whole", maintain_order="left")
    return joined.with_columns(input=pl.coalesce("input_whole", "input")).select(list(UNGROUPED))
