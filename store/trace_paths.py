"""The state abstraction: each trace as a path of abstract steps, kept up to date as traces change.

An abstract step is (kind and name of the span, whether it failed, a coarse class of its arguments, a retry bucket):
METHODS §5. Model calls are not told apart by name, which often holds the model, but by what they follow. Agent, chain
and other spans that contain spans are no steps: their status is known only when all is over. `ABSTRACTION` is the
version of these rules; paths of another version are computed anew, and versions are never mixed.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from store.connection import Store
from store.frames import Reader
from store.trace_ranges import trace_ranges

ABSTRACTION = 1

STATES = pl.Schema(
    {
        "state": pl.UInt64(),
        "kind": pl.String(),
        "name": pl.String(),
        "failed": pl.Boolean(),
        "arguments": pl.String(),
        "retries": pl.Int32(),
    }
)
PATHS = pl.Schema({"trace_id": pl.String(), "states": pl.List(pl.UInt64()), "costs": pl.List(pl.Float32())})
_IDS = pl.Schema({"trace_id": pl.String()})
STEPS = pl.Schema({"step": pl.Int64(), "span_id": pl.String(), **STATES})

# So many traces are written in one transaction, so that live data never waits long for the writer.
_CHUNK = 200_000
_CONTAINERS = "('agent', 'chain', 'other')"

# Types that JSON readers tell apart and people do not. Longer inputs are documents, not arguments.
_LONGEST_INPUT = 20_000
_SHAPE = f"""left(replace(replace(replace(replace(replace(
    json_structure(TRY_CAST(CASE WHEN length(s.input) <= {_LONGEST_INPUT} THEN s.input END AS JSON))::VARCHAR,
    '"UBIGINT"', '"number"'), '"BIGINT"', '"number"'), '"HUGEINT"', '"number"'), '"DOUBLE"', '"number"'),
    '"VARCHAR"', '"text"'), 200)"""

# Abstract steps of the traces that the relation `wanted` (trace_id, trace_no) names, all from $first to $last.
_LABELLED = f"""
own AS NOT MATERIALIZED (SELECT * FROM spans WHERE trace_id BETWEEN $first AND $last),
containers AS (
    SELECT DISTINCT p.trace_id, p.span_id
    FROM (SELECT trace_id, span_id FROM own SEMI JOIN wanted USING (trace_id) WHERE kind IN {_CONTAINERS}) AS p
    JOIN own AS c ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
), chosen AS (
    SELECT w.trace_no, s.span_id, s.kind, left(s.name, 120) AS name, s.started_at, s.ordinal,
        s.status IS NOT DISTINCT FROM 'error' AS failed, s.cost_usd,
        CASE WHEN s.kind = 'tool' THEN {_SHAPE} END AS shape,
        CASE WHEN s.kind = 'tool' THEN hash(s.name, s.input) END AS call
    FROM own AS s JOIN wanted AS w USING (trace_id) ANTI JOIN containers AS c USING (trace_id, span_id)
), ordered AS (
    SELECT *, row_number() OVER along AS step, lag(kind) OVER along AS before_kind, lag(name) OVER along AS before_name,
        lag(failed) OVER along AS before_failed
    FROM chosen WINDOW along AS (PARTITION BY trace_no ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id)
), counted AS (
    SELECT *, CASE WHEN call IS NULL THEN 0
        ELSE least(2, row_number() OVER (PARTITION BY trace_no, call ORDER BY step) - 1) END::INTEGER AS retries
    FROM ordered
), described AS (
    SELECT trace_no, step, span_id, kind, CASE WHEN kind <> 'llm' THEN name END AS name, failed, cost_usd, retries,
        CASE WHEN kind = 'tool' THEN shape
            WHEN kind = 'llm' AND before_kind IS NULL THEN 'opening'
            WHEN kind = 'llm' THEN concat(CASE WHEN before_failed THEN 'after failed ' ELSE 'after ' END,
                CASE before_kind WHEN 'llm' THEN 'model call' WHEN 'tool' THEN coalesce(before_name, 'tool')
                    ELSE before_kind END) END AS arguments
    FROM counted
), labelled AS MATERIALIZED (
    SELECT *, hash({ABSTRACTION}, kind, name, failed, arguments, retries) AS state FROM described
)"""

_PATHS = f"""
WITH wanted AS (
    SELECT trace_id, rowid AS trace_no FROM traces WHERE publication > $after AND trace_id BETWEEN $first AND $last
), {_LABELLED}, lists AS (
    SELECT trace_no, list(state ORDER BY step) AS states,
        list(CASE WHEN cost_usd >= 0 THEN TRY_CAST(cost_usd AS FLOAT) END ORDER BY step) AS costs
    FROM labelled GROUP BY trace_no
)
SELECT w.trace_id, coalesce(l.states, []::UBIGINT[]) AS states, coalesce(l.costs, []::FLOAT[]) AS costs,
    NULL::UBIGINT AS state, NULL AS kind, NULL AS name, NULL::BOOLEAN AS failed, NULL AS arguments,
    NULL::INTEGER AS retries
FROM wanted AS w LEFT JOIN lists AS l USING (trace_no)
UNION ALL
SELECT NULL, NULL, NULL, state, any_value(kind), any_value(name), any_value(failed), any_value(arguments),
    any_value(retries)
FROM labelled GROUP BY state"""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did: `traces` whose paths were computed, and the `publication` up to which paths now stand."""

    traces: int
    publication: int


def refresh(store: Store) -> Refreshed:
    """Compute the paths of all traces that are new or changed since the last refresh.

    Paths go to files, one for a range of traces, and from there in slices into the store, all in the engine; a refresh
    that was stopped half-way is begun again.
    """
    folder = store.exchange()
    files: list[tuple[Path, int]] = []
    try:
        with store.read() as reader:
            after = _progress(reader)
            latest = reader.value("SELECT coalesce(max(publication), -1) FROM traces")
            publication = int(latest) if isinstance(latest, int) else -1
            if publication <= after:
                return Refreshed(0, after)
            wanted = reader.frame(
                "SELECT trace_id FROM traces WHERE publication > $after ORDER BY trace_id", _IDS, {"after": after}
            )
            for number, each in enumerate(trace_ranges(wanted["trace_id"])):
                path = folder / f"paths-{number}.parquet"
                reader.export(path, _PATHS, {"after": after, **each.params})
                rows = reader.value("SELECT count(*) FROM read_parquet($path)", {"path": str(path)})
                files.append((path, int(str(rows))))
        if after < 0:
            store.write(_clear)
        for path, rows in files:
            store.write(lambda connection, path=path: _add_states(connection, path))  # type: ignore[misc]
            for start in range(0, rows, _CHUNK):
                store.write(
                    lambda connection, path=path, start=start: _replace(connection, path, start, search=after >= 0)  # type: ignore[misc]
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    store.write(lambda connection: _finish(connection, publication))
    return Refreshed(wanted.height, publication)


def of_trace(store: Store, trace_id: str) -> pl.DataFrame:
    """The abstract steps of one trace in order, with the spans they are (columns `STEPS`), computed now."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH wanted AS (SELECT $trace_id::VARCHAR AS trace_id, 0 AS trace_no), {_LABELLED}
            SELECT step, span_id, state, kind, name, failed, arguments, retries FROM labelled ORDER BY step""",
            STEPS,
            {"trace_id": trace_id, "first": trace_id, "last": trace_id},
        )


def states(store: Store) -> pl.DataFrame:
    """Every abstract state of the present abstraction (columns `STATES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(STATES)} FROM abstract_states WHERE abstraction = $abstraction ORDER BY state",
            STATES,
            {"abstraction": ABSTRACTION},
        )


def _progress(reader: Reader) -> int:
    value = reader.value(
        "SELECT max(publication) FROM path_progress WHERE abstraction = $abstraction", {"abstraction": ABSTRACTION}
    )
    return int(value) if isinstance(value, int) else -1


def _clear(connection: duckdb.DuckDBPyConnection) -> None:
    for table in ("trace_paths", "abstract_states", "path_progress"):
        connection.execute(f"DELETE FROM {table}")


def _add_states(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    connection.execute(
        f"""INSERT INTO abstract_states BY NAME
        SELECT $abstraction AS abstraction, {", ".join(f"f.{name}" for name in STATES)}
        FROM read_parquet($path) AS f ANTI JOIN abstract_states AS a
            ON a.state = f.state AND a.abstraction = $abstraction
        WHERE f.state IS NOT NULL""",
        {"abstraction": ABSTRACTION, "path": str(path)},
    )


def _replace(connection: duckdb.DuckDBPyConnection, path: Path, start: int, *, search: bool) -> None:
    fresh = """(SELECT trace_id, states, costs FROM read_parquet($path, file_row_number = true)
        WHERE file_row_number >= $start AND file_row_number < $end AND trace_id IS NOT NULL)"""
    part = {"path": str(path), "start": start, "end": start + _CHUNK}
    if search:
        connection.execute(f"DELETE FROM trace_paths WHERE trace_id IN (SELECT trace_id FROM {fresh})", part)
    connection.execute(
        f"INSERT INTO trace_paths SELECT $abstraction, trace_id, states, costs FROM {fresh}",
        {**part, "abstraction": ABSTRACTION},
    )


def _finish(connection: duckdb.DuckDBPyConnection, publication: int) -> None:
    """Note how far paths stand, and let go of paths whose trace is no longer held."""
    connection.execute("DELETE FROM trace_paths WHERE trace_id NOT IN (SELECT trace_id FROM traces)")
    connection.execute("DELETE FROM path_progress")
    connection.execute(
        "INSERT INTO path_progress VALUES ($abstraction, $publication)",
        {"abstraction": ABSTRACTION, "publication": publication},
    )
