"""Fitted transition models: one row an agent and run, with its states, counts, surprise of traces and reliability.

A run is only ever added; the newest one is in use. Details are kept for the last `KEEP_MODELS` runs, the surprise of
single traces, which is the bulk, for the newest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.trace_paths import ABSTRACTION

KEEP_MODELS = 5

MODELS = declare(
    {
        "model_id": pl.Int64, "agent": pl.String, "abstraction": pl.Int32, "fitted_at": UTC_TIME,
        "data_version": pl.Int64, "code_version": pl.String, "reward_model_id": pl.Int64, "window_since": UTC_TIME,
        "window_until": UTC_TIME, "traces": pl.Int64, "steps": pl.Int64, "states": pl.Int32,
        "concentration": pl.Float64, "user_concentration": pl.Float64, "parameters": pl.String,
    }
)  # fmt: skip
STATES = declare(
    {
        "agent": pl.String, "place": pl.Int32, "label": pl.String, "role": pl.String, "visits": pl.Int64,
        "base": pl.Float64, "entropy": pl.Float64, "surprise_sd": pl.Float64, "unseen": pl.Float64,
        "novelty": pl.Float64, "progress": pl.Float64, "progress_se": pl.Float64, "progress_n": pl.Int64,
    }
)  # fmt: skip
FOLDS = declare({"agent": pl.String, "state": pl.UInt64, "place": pl.Int32})
MOVES = declare({"agent": pl.String, "from_place": pl.Int32, "to_place": pl.Int32, "n": pl.Int64})
SURPRISE = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "transitions": pl.Int32, "mean_z": pl.Float64,
        "information": pl.Float64, "bayesian": pl.Float64, "p_value": pl.Float64, "compared": pl.Int32,
        "comparison": pl.String,
    }
)  # fmt: skip
RELIABILITY = declare(
    {
        "agent": pl.String, "arm": pl.String, "measure": pl.String, "estimate": pl.Float64, "lower": pl.Float64,
        "upper": pl.Float64, "traces": pl.Int64,
    }
)  # fmt: skip
WEIGHTS = declare(
    {
        "agent": pl.String, "method": pl.String, "feature": pl.String, "weight": pl.Float64, "lower": pl.Float64,
        "upper": pl.Float64, "ratio": pl.Float64, "ratio_lower": pl.Float64, "ratio_upper": pl.Float64,
        "q_value": pl.Float64, "n": pl.Int64, "note": pl.String,
    }
)  # fmt: skip
# Every derived table with its columns beside model_id, in table order.
_TABLES: dict[str, pl.Schema] = {
    "transition_states": STATES,
    "transition_folds": FOLDS,
    "transition_counts": MOVES,
    "trace_surprise": SURPRISE,
    "reliability": RELIABILITY,
    "inferred_weights": WEIGHTS,
}
_NEWEST = "(SELECT max(model_id) FROM transition_models)"


@dataclass(frozen=True)
class Run:
    """Everything one run fitted: a frame per table (columns of this module without model_id), and its models."""

    models: list[dict[str, Any]]
    frames: Mapping[str, pl.DataFrame]
    data_version: int
    reward_model_id: int | None
    code_version: str


def publish(store: Store, run: Run) -> int:
    """Add a run's models and make them the ones in use; returns its number. Details of old runs are let go."""
    parameters = [json.dumps(entry["parameters"], sort_keys=True, allow_nan=False) for entry in run.models]
    tables = {table: run.frames[table].select(list(schema)) for table, schema in _TABLES.items()}

    def add(connection: duckdb.DuckDBPyConnection, model: int) -> None:
        now = store.clock.now()
        for entry, stated in zip(run.models, parameters, strict=True):
            connection.execute(
                """INSERT INTO transition_models VALUES ($model, $agent, $abstraction, $now, $data_version,
                    $code_version, $reward_model_id, $window_since, $window_until, $traces, $steps, $states,
                    $concentration, $user_concentration, $parameters)""",
                {
                    **entry, "model": model, "abstraction": ABSTRACTION, "now": now,
                    "data_version": run.data_version, "code_version": run.code_version,
                    "reward_model_id": run.reward_model_id, "parameters": stated,
                },
            )  # fmt: skip

    model = result_rows.publish(store, "transition_models", tables, add, number="model_id")
    for table in tables:
        oldest = model - (1 if table == "trace_surprise" else KEEP_MODELS)
        result_rows.remove(store, table, "model_id <= $oldest", {"oldest": oldest})
    return model


def models(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """The models in use, one an agent, most traces first (columns `MODELS`)."""
    return _of_newest(store, "transition_models", MODELS, "traces DESC, agent", agent)


def versions(store: Store, *, limit: int = 50) -> pl.DataFrame:
    """Earlier and present models, newest first (columns `MODELS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(MODELS)} FROM transition_models ORDER BY model_id DESC, agent LIMIT $limit",
            MODELS,
            {"limit": limit},
        )


def states(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """The states of the models in use (columns `STATES`)."""
    return _of_newest(store, "transition_states", STATES, "agent, place", agent)


def folds(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """Which state each abstract step belongs to (columns `FOLDS`)."""
    return _of_newest(store, "transition_folds", FOLDS, "agent, state", agent)


def moves(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """The counts of the models in use (columns `MOVES`)."""
    return _of_newest(store, "transition_counts", MOVES, "agent, from_place, to_place", agent)


def reliability(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """Reliability of agents and their arms (columns `RELIABILITY`)."""
    return _of_newest(store, "reliability", RELIABILITY, "agent, arm NULLS FIRST, measure", agent)


def weights(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """What behaviour says is valued (columns `WEIGHTS`)."""
    return _of_newest(store, "inferred_weights", WEIGHTS, "agent, method, abs(weight) DESC, feature", agent)


def surprise_of_trace(store: Store, trace_id: str) -> pl.DataFrame:
    """The surprise of one trace as a frame of one row or none (columns `SURPRISE`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(SURPRISE)} FROM trace_surprise
            WHERE trace_id = $trace_id AND model_id = {_NEWEST}""",
            SURPRISE,
            {"trace_id": trace_id},
        )


def most_surprising(
    store: Store, *, agents: tuple[str, ...] = (), since: datetime | None = None, limit: int = 50
) -> pl.DataFrame:
    """Traces with the smallest conformal p-values (columns `SURPRISE` and seen_at), the most surprising first."""
    schema = declare({**SURPRISE, "seen_at": UTC_TIME})
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(f"s.{column}" for column in SURPRISE)}, t.seen_at
            FROM trace_surprise AS s JOIN traces AS t USING (trace_id)
            WHERE s.model_id = {_NEWEST} AND s.p_value IS NOT NULL
                AND (len($agents::VARCHAR[]) = 0 OR list_contains($agents::VARCHAR[], s.agent))
                AND ($since::TIMESTAMPTZ IS NULL OR t.seen_at >= $since::TIMESTAMPTZ)
            ORDER BY s.p_value, s.mean_z DESC, s.trace_id LIMIT $limit""",
            schema,
            {"agents": list(agents), "since": since, "limit": limit},
        )


def _of_newest(store: Store, table: str, schema: pl.Schema, order: str, agent: str | None) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(schema)} FROM {table}
            WHERE model_id = {_NEWEST} AND ($agent::VARCHAR IS NULL OR agent = $agent) ORDER BY {order}""",
            schema,
            {"agent": agent},
        )
