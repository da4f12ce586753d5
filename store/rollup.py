"""The trace rollup: one row a trace, computed from everything held about it.

`traces` is always the same function of `trace_records`, `spans` and `trace_tasks`, whatever order they arrived in:
what a source states about the whole trace goes first, then what its spans add up to (`store.trace_totals`). Where
nothing states how a trace ended, it failed if its last step did: an error that the agent went on from is not the
trace's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import polars as pl

from store import publications, trace_totals
from store.frames import UTC_TIME, conform, declare, fetched
from store.publications import ANYWHERE, Places
from store.trace_totals import RECORDS, SPANS, STATED

PREVIEW_CHARACTERS = 500

PREVIEWS = pl.Schema({"row": pl.Int64, "input": pl.String, "output": pl.String})
"""The first characters of the texts of spans."""

KNOWN = declare({"trace_id": pl.String, "seen_at": UTC_TIME, "batch_id": pl.Int64})
"""What a trace keeps from when it was first seen."""

# Made once: each takes half a millisecond, of which a commit of live data has few.
_NO_SPANS, _NO_RECORDS, _NO_PREVIEWS, _NONE_KNOWN = (schema.to_frame() for schema in (SPANS, RECORDS, PREVIEWS, KNOWN))


def _no_previews(rows: pl.Series) -> pl.DataFrame:
    return _NO_PREVIEWS


@dataclass(frozen=True)
class Touched:
    """What a publication brought, as far as the rollup goes.

    `traces` are the ids, each once. `spans` (columns `trace_totals.SPANS`) hold all spans of those traces that are new
    to the store; `row` counts them from -1 downwards, so that none has the number of a row of the store. `previews`
    gives `PREVIEWS` of some of these rows. `records` is whether there are statements about traces among what came,
    `places` where else the store may hold something of these traces.
    """

    traces: pl.Series
    spans: pl.DataFrame = field(default_factory=lambda: _NO_SPANS)
    previews: Callable[[pl.Series], pl.DataFrame] = _no_previews
    records: bool = True
    places: Places = ANYWHERE


def everything(connection: duckdb.DuckDBPyConnection) -> Touched:
    """Every trace, for a full recomputation: all spans are in the store already."""
    ids = connection.execute("SELECT DISTINCT trace_id FROM trace_records UNION SELECT DISTINCT trace_id FROM spans")
    return Touched(fetched(ids)["trace_id"])


def refresh(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    received_at: datetime,
    touched: Touched,
    publication: int | None = None,
) -> int:
    """Recompute the traces that were touched; returns how many are new to the store.

    Call inside a transaction, after the facts were inserted. `publication` is the one going on; None: a new one.
    """
    if publication is None:
        publication = publications.begin(connection)
    if touched.traces.is_empty():
        return 0
    places = touched.places.with_also(publication)
    with offered(connection, "affected", pl.DataFrame({"trace_id": touched.traces})):
        known = _NONE_KNOWN
        spans, held_previews = touched.spans, _NO_PREVIEWS
        if not touched.places.nowhere:
            known = _taken_out(connection, touched.places)
        if not known.is_empty():
            held = _held(connection, touched.places, publication)
            spans = pl.concat([held.select(SPANS.names()), spans])
            held_previews = held.select(PREVIEWS.names())
        records = _NO_RECORDS
        if touched.records or not known.is_empty():
            records = _records(connection, places)
        totals = trace_totals.of_spans(spans)
        chosen = pl.concat([totals["opening"], totals["closing"]]).unique()
        previews = pl.concat([held_previews, touched.previews(chosen.filter(chosen < 0))])
        stated = trace_totals.of_records(records)
        keys = "SELECT hash(trace_id) AS key FROM affected"
        publications.note(connection, "trace_publications", keys, publication)
    with offered(connection, "rolled_up", _rows(touched.traces, stated, totals, previews, known)):
        connection.execute(_INSERT, {"batch_id": batch_id, "received_at": received_at, "publication": publication})
    return touched.traces.len() - known.height


@contextmanager
def offered(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> Iterator[None]:
    """Let statements read a frame by this name. After an error it stays until the next of that name replaces it."""
    connection.register(name, frame.to_arrow())
    yield
    connection.unregister(name)


_HELD = declare({**SPANS, "input": pl.String, "output": pl.String})

# Up to so many row numbers go into a statement as literals.
_FEW = 5_000


def _taken_out(connection: duckdb.DuckDBPyConnection, places: Places) -> pl.DataFrame:
    """Remove the rows of affected traces that were there before, and say which they are (columns `KNOWN`)."""
    found = connection.execute(
        f"""DELETE FROM traces WHERE trace_id IN (SELECT trace_id FROM affected) AND {places.within}
        RETURNING {", ".join(KNOWN)}"""
    )
    return conform(fetched(found), KNOWN)


def _held(connection: duckdb.DuckDBPyConnection, places: Places, publication: int) -> pl.DataFrame:
    """The spans of affected traces that the store had before this publication, with previews.

    A late span changes the rollup of its trace, so all spans of a trace that was there before count again.
    """
    # Of the conditions only that on publications lets row groups of another time be skipped unread.
    within = f"{places.within} AND publication <> {publication:d}"
    own = "trace_id IN (SELECT trace_id FROM affected)"
    numbers = fetched(connection.execute(f"SELECT rowid AS row FROM spans WHERE {within} AND {own}"))["row"]
    if numbers.is_empty():
        return _HELD.to_frame()
    if numbers.len() <= _FEW:
        # Literal row numbers let the scan skip the row groups, and so the long texts, that hold none of them.
        own = f"rowid IN ({', '.join(map(str, numbers))})"
    made = {
        "row": "rowid", "has_input": "input IS NOT NULL", "has_output": "output IS NOT NULL",
        "input": f"left(input, {PREVIEW_CHARACTERS})", "output": f"left(output, {PREVIEW_CHARACTERS})",
    }  # fmt: skip
    columns = ", ".join(f"{made.get(column, column)} AS {column}" for column in _HELD)
    found = connection.execute(f"SELECT {columns} FROM spans WHERE {within} AND {own}")
    return conform(fetched(found), _HELD)


def _records(connection: duckdb.DuckDBPyConnection, places: Places) -> pl.DataFrame:
    """All statements about the affected traces."""
    if not connection.execute(f"SELECT 1 FROM trace_records WHERE {places.within} LIMIT 1").fetchall():
        return _NO_RECORDS
    texts = {text: f"left({text}, {PREVIEW_CHARACTERS}) AS {text}" for text in ("input", "output")}
    columns = ", ".join(texts.get(column, column) for column in RECORDS)
    found = connection.execute(
        f"SELECT {columns} FROM trace_records SEMI JOIN affected USING (trace_id) WHERE {places.within}"
    )
    return conform(fetched(found), RECORDS)


def _rows(
    traces: pl.Series, stated: pl.DataFrame, totals: pl.DataFrame, previews: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """A row for each trace: what is stated about it, else what its spans add up to."""
    texts = [
        previews.select(pl.col("row").alias(place), pl.col(text).alias(f"span_{text}"))
        for place, text in (("opening", "input"), ("closing", "output"))
    ]
    spans = totals.join(texts[0], on="opening", how="left").join(texts[1], on="closing", how="left")
    joined = (
        pl.DataFrame({"trace_id": traces})
        .join(stated, on="trace_id", how="left")
        .join(spans, on="trace_id", how="left", suffix="_of_spans")
        .join(known, on="trace_id", how="left")
    )
    return joined.with_columns(_FILLED).select(_ROW)


_BOTH = ("source", *STATED, "model", "started_at", "ended_at", "input_tokens", "output_tokens", "cost_usd")
_FAILED = pl.when(pl.col("last_status") == "error").then(pl.lit("error")).otherwise(pl.lit("unknown"))
_COUNTS = ("span_count", "error_count", "tool_count")
_FILLED = (
    *(pl.coalesce(column, f"{column}_of_spans") for column in _BOTH if column != "agent"),
    pl.coalesce("agent", "agent_of_spans", "agent_span_name", "root_name"),
    pl.coalesce("status", "root_status", _FAILED),
    pl.coalesce("input", "span_input"),
    pl.coalesce("output", "span_output"),
    pl.col(_COUNTS).fill_null(0),
)
_ROW = ("trace_id", *_BOTH, "status", "input", "output", *_COUNTS, "metadata", "seen_at", "batch_id")

_INSERT = """
INSERT INTO traces BY NAME
SELECT a.* REPLACE (
        coalesce(a.task, g.task) AS task,
        coalesce(a.started_at, a.seen_at, $received_at) AS seen_at,
        coalesce(a.batch_id, $batch_id) AS batch_id
    ),
    CASE WHEN a.task IS NOT NULL THEN 'given' WHEN g.task IS NOT NULL THEN 'grouped' END AS task_origin,
    $publication AS publication
FROM rolled_up AS a LEFT JOIN trace_tasks AS g USING (trace_id)"""
