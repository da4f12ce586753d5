"""Hacking watch: what it reads of traces and signals, and what each run found."""

import json
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from store import meta, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

TRACES = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "arm": pl.String, "version": pl.String, "user_id": pl.String,
        "at": UTC_TIME, "propensities": pl.String,
    }
)  # fmt: skip
MEASURES = pl.Schema(
    {
        "trace_id": pl.String(),
        "role": pl.String(),  # proxy or gold
        "measure": pl.String(),  # of a proxy its name, of gold where it comes from
        "value": pl.Float64(),
    }
)
FOUND = declare(
    {
        "agent": pl.String, "axis": pl.String, "candidate": pl.String, "baseline": pl.String, "role": pl.String,
        "measure": pl.String, "difference": pl.Float64, "lower": pl.Float64, "upper": pl.Float64, "n": pl.Int64,
        "units": pl.Int64, "ess": pl.Float64, "basis": pl.String, "alarm": pl.Boolean, "alarm_since": UTC_TIME,
        "reason": pl.String,
    }
)  # fmt: skip
RUNS = declare(
    {
        "run_id": pl.Int64, "watched_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "comparisons": pl.Int64, "alarms": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip

# A member of a JSON object whose value is an object of numbers: the vector that the decision was drawn from.
_PROPENSITIES = r'"steer\.propensities"\s*:\s*(\{[^{}]*\})'


def traces(store: Store) -> pl.DataFrame:
    """Traces of agents with several arms or versions (columns `TRACES`), by time.

    `propensities` is the JSON object of probabilities by arm that the decision was logged with, from the trace's
    metadata or its root span's attributes; null where it was not logged.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH several AS (
                SELECT agent FROM traces WHERE agent IS NOT NULL GROUP BY agent
                HAVING count(DISTINCT arm) > 1 OR count(DISTINCT agent_version) > 1
            ), logged AS (
                SELECT trace_id, any_value(regexp_extract(attributes, $vector, 1)) AS propensities FROM spans
                WHERE parent_span_id IS NULL AND contains(attributes, 'steer.propensities') GROUP BY trace_id
            )
            SELECT t.trace_id, t.agent, t.arm, t.agent_version AS version, t.user_id, t.seen_at AS at,
                coalesce(nullif(regexp_extract(t.metadata, $vector, 1), ''), nullif(g.propensities, ''))
                    AS propensities
            FROM traces AS t SEMI JOIN several USING (agent) LEFT JOIN logged AS g USING (trace_id)
            ORDER BY t.seen_at, t.trace_id""",
            TRACES,
            {"vector": _PROPENSITIES},
        )


def measures(store: Store) -> pl.DataFrame:
    """Per trace the proxies and the gold signals (columns `MEASURES`), values from 0 to 1, unordered.

    click: the share of the items shown that were clicked (where none was logged as shown, those in the click log);
    volunteered feedback: thumbs and ratings that nobody asked for; judge: verdicts of language models; gold: solicited
    thumbs and ratings, and outcomes checked by code.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH located AS (
                SELECT coalesce(s.trace_id, l.trace_id) AS trace_id, s.kind, s.value, s.annotator_kind,
                    coalesce(s.solicited, false) AS solicited
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                WHERE coalesce(s.trace_id, l.trace_id) IS NOT NULL
            ), clicks AS (
                SELECT trace_id, count(*) FILTER (kind = 'click' AND coalesce(value, 1) > 0) AS clicked,
                    greatest(count(*) FILTER (kind = 'impression'), count(*) FILTER (kind = 'click')) AS shown
                FROM located WHERE kind IN ('click', 'impression') GROUP BY trace_id
            ), told AS (
                SELECT trace_id, value, CASE
                    WHEN kind IN ('thumb', 'rating') AND annotator_kind IS DISTINCT FROM 'llm' AND solicited
                        THEN 'solicited feedback'
                    WHEN kind IN ('thumb', 'rating') AND annotator_kind IS DISTINCT FROM 'llm'
                        THEN 'volunteered feedback'
                    WHEN kind = 'outcome' AND annotator_kind = 'code' THEN 'verified outcome'
                    WHEN kind = 'judge' THEN 'judge' END AS measure
                FROM located WHERE value BETWEEN 0 AND 1
            )
            SELECT trace_id, 'proxy' AS role, 'click' AS measure, least(clicked / shown, 1.0)::DOUBLE AS value
            FROM clicks WHERE shown > 0
            UNION ALL
            SELECT trace_id, if(measure IN ('solicited feedback', 'verified outcome'), 'gold', 'proxy'), measure,
                avg(value) FROM told WHERE measure IS NOT NULL GROUP BY ALL""",
            MEASURES,
        )


def record(
    store: Store,
    found: pl.DataFrame,
    *,
    alarms: int,
    parameters: Mapping[str, object],
    data_version: int,
    code_version: str,
) -> int:
    """Keep what a run found (columns `FOUND`), of earlier runs only the alarms; returns the run's number."""
    stated = json.dumps(parameters, sort_keys=True, allow_nan=False)
    comparisons = found.select("agent", "axis", "candidate").n_unique() if found.height else 0

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        run = result_rows.next_number(connection, "hacking_watch_runs")
        connection.execute("DELETE FROM hacking_watch WHERE NOT alarm")
        result_rows.insert(connection, "hacking_watch", found.select(list(FOUND)), key={"run_id": run})
        connection.execute(
            "INSERT INTO hacking_watch_runs VALUES ($run, $now, $data, $code, $comparisons, $alarms, $parameters)",
            {
                "run": run, "now": store.clock.now(), "data": data_version, "code": code_version,
                "comparisons": comparisons, "alarms": alarms, "parameters": stated,
            },
        )  # fmt: skip
        meta.bump(connection)
        return run

    return store.write(work)


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "hacking_watch_runs", RUNS)


def found(store: Store) -> pl.DataFrame:
    """What the newest run found, alarms first (columns `FOUND`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(FOUND)} FROM hacking_watch
            WHERE run_id = (SELECT max(run_id) FROM hacking_watch_runs)
            ORDER BY alarm DESC, agent, axis, candidate, role, measure""",
            FOUND,
        )
