"""Signal yield: what each source said of each trace, and how many bits that was worth, by run."""

import json
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from store import meta, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

TRACES = pl.Schema({"trace_id": pl.String(), "agent": pl.String(), "user_id": pl.String(), "tokens": pl.Int64()})
SIGNALS = pl.Schema(
    {
        "trace_id": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "value": pl.Float64(),
        "annotator_kind": pl.String(),
        "solicited": pl.Boolean(),
    }
)
DERIVED = pl.Schema(
    {"trace_id": pl.String(), "source": pl.String(), "value": pl.Float64()}
)  # one row per trace and source: the mean of its values, null where it speaks without a value
YIELDS = pl.Schema(
    {
        "agent": pl.String(),
        "source": pl.String(),
        "reference": pl.String(),
        "bits": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "when_present": pl.Float64(),
        "share": pl.Float64(),
        "per_thousand_tokens": pl.Float64(),
        "thousand_lower": pl.Float64(),
        "thousand_upper": pl.Float64(),
        "n": pl.Int64(),
        "present": pl.Int64(),
        "users": pl.Int64(),
        "estimator": pl.String(),
        "reason": pl.String(),
    }
)
RUNS = declare(
    {
        "run_id": pl.Int64, "measured_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "traces": pl.Int64, "referenced": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip

STEP_CREDIT = "step credit (worst decision)"
TRANSITIONS = "transitions (surprise)"


def traces(store: Store) -> pl.DataFrame:
    """Every trace with its agent, user and tokens, null where no source counts them (columns `TRACES`), by id."""
    with store.read() as reader:
        return reader.frame(
            """SELECT trace_id, agent, user_id, CASE WHEN input_tokens IS NOT NULL OR output_tokens IS NOT NULL
                THEN coalesce(input_tokens, 0) + coalesce(output_tokens, 0) END AS tokens
            FROM traces""",
            TRACES,
            order=("trace_id",),
        )


def signals(store: Store) -> pl.DataFrame:
    """Every signal whose trace is known but impressions (columns `SIGNALS`), by id.

    Feedback that states to be asked for with a probability that is none counts as volunteered, as it does for rewards.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT coalesce(s.trace_id, l.trace_id) AS trace_id, s.kind, s.name, s.value, s.annotator_kind,
                s.solicited AND (s.propensity IS NULL OR s.propensity BETWEEN 1e-6 AND 1) AS solicited
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
            WHERE s.kind <> 'impression' AND coalesce(s.trace_id, l.trace_id) IS NOT NULL ORDER BY s.signal_id""",
            SIGNALS,
        )


def derived(store: Store) -> pl.DataFrame:
    """What the newest credit run and transition model say of a trace (columns `DERIVED`).

    Of credit the lowest decision credit of its steps: the sum would hold the outcome itself. Of transitions the mean
    surprise -ln p of its steps, without its end: the end is success or failure. p = (n + kappa m) / (n of all + kappa),
    as the model smooths its counts.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT trace_id, $credit AS source, min(decision) AS value FROM step_credits
            WHERE run_id = (SELECT max(run_id) FROM credit_runs) GROUP BY trace_id
            UNION ALL (WITH models AS (
                SELECT model_id, agent, abstraction, concentration FROM transition_models
                WHERE model_id = (SELECT max(model_id) FROM transition_models) AND concentration IS NOT NULL
            ), walked AS (
                SELECT p.trace_id, m.model_id, m.agent, m.concentration, unnest(p.states) AS state,
                    generate_subscripts(p.states, 1) AS step
                FROM trace_paths AS p JOIN traces AS t USING (trace_id)
                JOIN models AS m ON m.agent = coalesce(t.agent, '') AND m.abstraction = p.abstraction
            ), placed AS (
                SELECT w.*, f.place, coalesce(lag(f.place) OVER (PARTITION BY w.trace_id ORDER BY w.step), 0) AS before
                FROM walked AS w JOIN transition_folds AS f USING (model_id, agent, state)
            ), outgoing AS (
                SELECT model_id, agent, from_place, sum(n) AS n FROM transition_counts GROUP BY ALL
            )
            SELECT p.trace_id, $transitions, avg(-ln((coalesce(c.n, 0) + p.concentration * s.base)
                / (coalesce(o.n, 0) + p.concentration))) AS value
            FROM placed AS p JOIN transition_states AS s USING (model_id, agent, place)
            LEFT JOIN outgoing AS o ON o.model_id = p.model_id AND o.agent = p.agent AND o.from_place = p.before
            LEFT JOIN transition_counts AS c ON c.model_id = p.model_id AND c.agent = p.agent
                AND c.from_place = p.before AND c.to_place = p.place
            WHERE s.base > 0 AND p.concentration > 0 GROUP BY p.trace_id)
            ORDER BY source, trace_id""",
            DERIVED,
            {"credit": STEP_CREDIT, "transitions": TRANSITIONS},
        )


def record(
    store: Store,
    yields: pl.DataFrame,
    *,
    traces: int,
    referenced: int,
    parameters: Mapping[str, object],
    data_version: int,
    code_version: str,
) -> int:
    """Keep what a run measured (columns `YIELDS`); returns the run's number."""
    stated = json.dumps(parameters, sort_keys=True, allow_nan=False)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        run = result_rows.next_number(connection, "signal_yield_runs")
        result_rows.insert(connection, "signal_yields", yields.select(list(YIELDS)), key={"run_id": run})
        connection.execute(
            "INSERT INTO signal_yield_runs VALUES ($run, $now, $data, $code, $traces, $referenced, $parameters)",
            {
                "run": run, "now": store.clock.now(), "data": data_version, "code": code_version, "traces": traces,
                "referenced": referenced, "parameters": stated,
            },
        )  # fmt: skip
        meta.bump(connection)
        return run

    return store.write(work)


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "signal_yield_runs", RUNS)


def yields(store: Store) -> pl.DataFrame:
    """What the newest run measured, all agents first, then most bits first (columns `YIELDS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(YIELDS)} FROM signal_yields
            WHERE run_id = (SELECT max(run_id) FROM signal_yield_runs)
            ORDER BY agent NULLS FIRST, bits DESC NULLS LAST, source""",
            YIELDS,
        )
