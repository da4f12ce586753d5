"""Retention: how long things are kept, by kind and source, and deleting what is older.

    traces      with their spans, signals, rewards and whatever else is known of them, by when they began (else arrived)
    signals     those that belong to no trace held, by when they occurred (else arrived)
    decisions   with the lessons shown, by when they were taken; their source is the name of the key
    rejects     the raw text of records that were not taken, by when they arrived: the counts and reasons stay
    answers     answers of the language model that are kept so as not to be paid for twice, of every source
    notices     those that are closed, by when they were, with the messages that carried nothing else, of every source

The rule of a source goes before that of '*'; without a rule, or with no number of days, things are kept for ever. What
was deleted is counted by batch in `removals`, so that what was received still adds up. Lessons keep their evidence as
figures, without the quotes; means and models keep what they learnt until they are fitted again. Deleted rows leave free
blocks in the file, which are used again; only forgetting a person writes the file anew.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

import duckdb
import polars as pl

from store import audit, meta, notice_deliveries, personal_data
from store.connection import Store
from store.errors import ActionRefused
from store.frames import UTC_TIME, declare

__all__ = ["EVERY_SOURCE", "FORESEEN", "KINDS", "RULES", "Kind", "apply", "foreseen", "put", "removed", "rules"]

Kind = Literal["traces", "signals", "decisions", "rejects", "answers", "notices"]
KINDS: Final = get_args(Kind)
EVERY_SOURCE: Final = "*"
MOST_DAYS: Final = 36_500

RULES: Final = declare(
    {"what": pl.String, "source": pl.String, "days": pl.Int32, "set_by": pl.String, "set_at": UTC_TIME}
)
FORESEEN: Final = declare(
    {"what": pl.String, "source": pl.String, "days": pl.Int32, "due": pl.Int64, "oldest": UTC_TIME}
)

# Rows that a rule can delete: their source, their age, and an id or rowid.
_HELD: Final[dict[str, str]] = {
    "traces": "SELECT trace_id AS id, source, seen_at AS at FROM traces",
    "signals": """SELECT signal_id AS id, s.source, coalesce(s.occurred_at, b.received_at) AS at
        FROM signals AS s LEFT JOIN ingest_batches AS b USING (batch_id)
        WHERE (s.trace_id IS NULL OR s.trace_id NOT IN (SELECT trace_id FROM traces))
            AND s.signal_id NOT IN (SELECT signal_id FROM signal_links)""",
    "decisions": "SELECT decision_id AS id, source, decided_at AS at FROM decisions",
    "rejects": """SELECT r.rowid::VARCHAR AS id, b.source, b.received_at AS at
        FROM ingest_rejects AS r JOIN ingest_batches AS b USING (batch_id) WHERE r.raw IS NOT NULL""",
    "answers": "SELECT rowid::VARCHAR AS id, '*' AS source, answered_at AS at FROM llm_answers",
    "notices": notice_deliveries.PAST,
}
_WITHOUT_SOURCE: Final = ("answers", "notices")
# What goes with a trace that is too old; evidence stays as figures, exports are an operator's own files.
_STAY: Final = ("lesson_evidence", "graduation_sources", "llm_answers", "contrast_groups")
_SLICE: Final = 20_000


@dataclass(frozen=True)
class Applied:
    """What one pass deleted: rows by kind of rule; `more` when there was more than one pass takes."""

    gone: dict[str, int]
    more: bool


def rules(store: Store) -> pl.DataFrame:
    """Every rule (columns `RULES`), by kind and source."""
    with store.read() as reader:
        return reader.frame(f"SELECT {', '.join(RULES)} FROM retention_rules ORDER BY what, source", RULES)


def put(store: Store, what: Kind, source: str, days: int | None, *, by: str) -> None:
    """Keep things of this kind and source for so many days, for ever with None.

    Raises: `ActionRefused` for an unknown kind, a number of days below 1, or without a person's name.
    """
    audit.person("Set retention", by)
    if what not in KINDS or not source.strip() or (what in _WITHOUT_SOURCE and source != EVERY_SOURCE):
        raise ActionRefused("Set retention", f"{what!r} of {source!r} has no retention.", f"Use {', '.join(KINDS)}.")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ActionRefused("Set retention", f"{days:,} days is out of range.", f"Use 1 to {MOST_DAYS:,}, or none.")
    row = {"what": what, "source": source}

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        held = connection.execute(
            "SELECT days FROM retention_rules WHERE what = $what AND source = $source", row
        ).fetchall()
        connection.execute("DELETE FROM retention_rules WHERE what = $what AND source = $source", row)
        connection.execute(
            "INSERT INTO retention_rules VALUES ($what, $source, $days, $by, $now)",
            {**row, "days": days, "by": by, "now": now},
        )
        detail = {"before": held[0][0] if held else "no rule", "after": days}
        audit.append(connection, now, by, "retention set", f"{what} of source {source}", detail)
        meta.bump(connection)

    store.write(work)


def foreseen(store: Store, now: datetime) -> pl.DataFrame:
    """What would be deleted now (columns `FORESEEN`): every kind and source held to which a rule applies."""
    parts = []
    with store.read() as reader:
        for what in KINDS:
            parts.append(
                reader.frame(
                    f"""SELECT $what AS what, h.source, d.days,
                        count(*) FILTER (h.at < $now - to_days(d.days)) AS due, min(h.at) AS oldest
                    FROM ({_HELD[what]}) AS h JOIN ({_days(what)}) AS d USING (source)
                    GROUP BY ALL ORDER BY h.source""",
                    FORESEEN,
                    {"what": what, "now": now},
                )
            )
    return pl.concat(parts)


def removed(store: Store) -> dict[str, int]:
    """How many traces, spans (superseded versions included) and signals were deleted so far, for whatever cause."""
    with store.read() as reader:
        row = reader.frame(
            """SELECT coalesce(sum(traces), 0) AS traces, coalesce(sum(spans), 0) AS spans,
                coalesce(sum(signals), 0) AS signals FROM removals""",
            pl.Schema({"traces": pl.Int64(), "spans": pl.Int64(), "signals": pl.Int64()}),
        ).row(0, named=True)
    return {name: int(count) for name, count in row.items()}


def apply(store: Store, now: datetime, *, slice_rows: int = _SLICE) -> Applied:
    """Delete what is too old, at most `slice_rows` of each kind at once; call again while there is `more`."""

    def work(connection: duckdb.DuckDBPyConnection) -> Applied:
        gone: dict[str, int] = {}
        more = False
        for what in KINDS:
            count = _pass(connection, what, now, slice_rows)
            if count:
                gone[what] = count
                more = more or count >= slice_rows
        if gone:
            audit.append(connection, now, audit.SYSTEM, "retention delete", "store", {"rows": gone})
            meta.bump(connection)
        return Applied(gone, more)

    with store.read() as reader:
        idle = not reader.value("SELECT count(*) FROM retention_rules WHERE days IS NOT NULL")
    return Applied({}, more=False) if idle else store.write(work)


def _days(what: str) -> str:
    """The days that hold for each source of a kind: its own rule, else that of '*'."""
    found = "CASE WHEN own.source IS NULL THEN every.days ELSE own.days END"
    return f"""SELECT s.source, {found} AS days FROM (SELECT DISTINCT source FROM ({_HELD[what]})) AS s
        LEFT JOIN retention_rules AS own ON own.what = $what AND own.source = s.source
        LEFT JOIN retention_rules AS every ON every.what = $what AND every.source = '{EVERY_SOURCE}'
        WHERE {found} IS NOT NULL"""


def _pass(connection: duckdb.DuckDBPyConnection, what: str, now: datetime, most: int) -> int:
    least = connection.execute(
        "SELECT min(days) FROM retention_rules WHERE what = $what AND days IS NOT NULL", {"what": what}
    ).fetchall()[0][0]
    if least is None:
        return 0
    due = connection.execute(
        f"""SELECT h.id FROM ({_HELD[what]}) AS h JOIN ({_days(what)}) AS d USING (source)
        WHERE h.at < $now - to_days(d.days) AND h.at < $latest ORDER BY h.at, h.id LIMIT $most""",
        {"what": what, "now": now, "most": most, "latest": now - timedelta(days=least)},
    ).fetchall()
    if not due:
        return 0
    ids = [row[0] for row in due]
    if what == "notices":
        notice_deliveries.remove_past(connection, ids)
        return len(ids)
    if what in ("rejects", "answers"):
        change = (
            "UPDATE ingest_rejects SET raw = NULL" if what == "rejects" else "DELETE FROM llm_answers"
        ) + " WHERE rowid IN (SELECT unnest($ids::VARCHAR[])::BIGINT)"
        connection.execute(change, {"ids": ids})
        return len(ids)
    personal_data.begin(connection)
    connection.execute(f"INSERT INTO gone_{what} SELECT unnest($ids::VARCHAR[])", {"ids": ids})
    if what == "traces":
        # Signals, also those that were linked to one of them, go with their traces; decisions have a rule of their own.
        connection.execute(
            """INSERT INTO gone_signals
            SELECT signal_id FROM signals WHERE trace_id IN (FROM gone_traces)
            UNION SELECT signal_id FROM superseded_signals WHERE trace_id IN (FROM gone_traces)
            UNION SELECT signal_id FROM signal_links WHERE trace_id IN (FROM gone_traces)"""
        )
        connection.execute("UPDATE lesson_evidence SET quote = NULL WHERE trace_id IN (FROM gone_traces)")
    personal_data.note_removals(connection, "retention", now)
    personal_data.erase(connection, [table for table in personal_data.ERASED if table not in _STAY])
    return len(ids)
