"""Which trace a signal belongs to when it does not name one: by its span, else by session, else by user and time.

A pure function of `signals` and `traces`, recomputed as a whole, so the order in which they arrived cannot matter.
Only traces of sessions and users that such a signal names are looked at.
"""

from functools import partial

import duckdb
import polars as pl

from store import meta
from store.connection import Store

__all__ = ["USER_WINDOW_MINUTES", "refresh"]

# A click without a session counts for the user's latest trace if it came within this time of the trace's start.
USER_WINDOW_MINUTES = 30

# Commits wait while so many links are changed.
_AT_ONCE = 50_000
_CHANGES = pl.Schema({"signal_id": pl.String(), "trace_id": pl.String(), "linked_by": pl.String()})

# What differs between the links that are kept and those that would be: without a trace where there is to be none.
_CHANGED = f"""
WITH annotated AS (
    SELECT signal_id, span_id FROM signals WHERE trace_id IS NULL AND span_id IS NOT NULL
), lone_spans AS (
    SELECT span_id, min(trace_id) AS trace_id FROM spans SEMI JOIN annotated USING (span_id)
    GROUP BY span_id HAVING count(DISTINCT trace_id) = 1
), by_span AS (
    SELECT signal_id, trace_id FROM annotated JOIN lone_spans USING (span_id)
), loose AS (
    SELECT signal_id, session_id, user_id, occurred_at FROM signals ANTI JOIN by_span USING (signal_id)
    WHERE trace_id IS NULL AND (session_id IS NOT NULL OR user_id IS NOT NULL)
), session_starts AS (
    SELECT session_id, started_at, max(trace_id) AS trace_id FROM traces SEMI JOIN loose USING (session_id)
    WHERE started_at IS NOT NULL GROUP BY ALL
), user_starts AS (
    SELECT user_id, started_at, max(trace_id) AS trace_id FROM traces
    SEMI JOIN (SELECT user_id FROM loose WHERE session_id IS NULL) USING (user_id)
    WHERE started_at IS NOT NULL GROUP BY ALL
), lone_sessions AS (
    SELECT session_id, any_value(trace_id) AS trace_id FROM traces
    SEMI JOIN (SELECT session_id FROM loose WHERE occurred_at IS NULL) USING (session_id)
    GROUP BY session_id HAVING count(*) = 1
), by_session AS (
    SELECT l.signal_id, t.trace_id FROM loose AS l ASOF JOIN session_starts AS t
        ON l.session_id = t.session_id AND l.occurred_at >= t.started_at
    UNION
    SELECT l.signal_id, t.trace_id FROM loose AS l JOIN lone_sessions AS t USING (session_id)
    WHERE l.occurred_at IS NULL
), by_user AS (
    SELECT l.signal_id, t.trace_id FROM loose AS l ASOF JOIN user_starts AS t
        ON l.user_id = t.user_id AND l.occurred_at >= t.started_at
    WHERE l.session_id IS NULL AND l.occurred_at <= t.started_at + INTERVAL {USER_WINDOW_MINUTES} MINUTES
), fresh AS (
    SELECT signal_id, trace_id, 'span' AS linked_by FROM by_span
    UNION ALL SELECT signal_id, trace_id, 'session' FROM by_session
    UNION ALL SELECT signal_id, trace_id, 'user' FROM by_user
)
SELECT signal_id, f.trace_id, f.linked_by FROM fresh AS f FULL JOIN signal_links AS k USING (signal_id)
WHERE f.trace_id IS DISTINCT FROM k.trace_id OR f.linked_by IS DISTINCT FROM k.linked_by
ORDER BY signal_id"""


def refresh(store: Store) -> int:
    """Recompute the links; returns how many were added, changed or removed.

    They are computed beside the writer, from one snapshot. What is deleted before they are written gets no link; what
    comes meanwhile gets its own when they are recomputed.
    """
    with store.read() as reader:
        changes = reader.frame(_CHANGED, _CHANGES)
    for part in changes.iter_slices(_AT_ONCE):
        store.write(partial(_apply, part))
    return changes.height


def _apply(changes: pl.DataFrame, connection: duckdb.DuckDBPyConnection) -> None:
    connection.register("changed_links", changes)
    try:
        connection.execute("DELETE FROM signal_links WHERE signal_id IN (SELECT signal_id FROM changed_links)")
        connection.execute(
            """INSERT INTO signal_links (signal_id, trace_id, linked_by)
            SELECT signal_id, trace_id, linked_by FROM changed_links
            SEMI JOIN signals USING (signal_id) SEMI JOIN traces USING (trace_id)"""
        )
    finally:
        connection.unregister("changed_links")
    meta.bump(connection)
