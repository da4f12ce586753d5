"""Reward models and what they say: a mean and standard deviation for every trace and every task, by model version.

A version is only ever added; the newest one is active. Rewards of single traces are kept for the last `KEEP_REWARDS`
versions, since they are the bulk: models and their parameters stay for good.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from store import meta
from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.scope import ACTIVE_REWARDS

KEEP_REWARDS = 5
_SAME = 1e-9  # two fits of the same data differ by less: sums are not taken in a fixed order

TRACES = pl.Schema(
    {
        "trace_id": pl.String(),
        "agent": pl.String(),
        "arm": pl.String(),
        "task": pl.String(),
        "user_id": pl.String(),
    }
)
SIGNALS = pl.Schema(
    {
        "trace_id": pl.String(),
        "kind": pl.String(),
        "value": pl.Float64(),
        "annotator_kind": pl.String(),
        "solicited": pl.Boolean(),
    }
)
MODELS = declare(
    {
        "reward_model_id": pl.Int64, "method": pl.String, "fitted_at": UTC_TIME, "data_version": pl.Int64,
        "traces": pl.Int64, "signals": pl.Int64, "parameters": pl.String, "code_version": pl.String,
        "active": pl.Boolean,
    }
)  # fmt: skip
CELLS = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "traces": pl.Int64(),
        "observed": pl.Int64(),
        "raw_mean": pl.Float64(),
        "mean": pl.Float64(),
        "sd": pl.Float64(),
    }
)
COVERAGE = declare(
    {
        "kind": pl.String, "signals": pl.Int64, "with_value": pl.Int64, "solicited": pl.Int64, "unlinked": pl.Int64,
        "traces": pl.Int64, "share": pl.Float64, "mean": pl.Float64, "latest": UTC_TIME,
    }
)  # fmt: skip
ARM_REWARDS = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "user_id": pl.String(),
        "mean": pl.Float64(),
        "sd": pl.Float64(),
        "signals": pl.Int64(),
    }
)
OUTCOMES = pl.Schema({"agent": pl.String(), "task": pl.String(), "trace_id": pl.String(), "success": pl.Boolean()})

# Every signal with the trace that it is about: the one it names, else the one it was linked to.
_LOCATED = """(
    SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
    FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id))"""


@dataclass(frozen=True)
class Evidence:
    """What a fit reads, of one snapshot: frames of columns TRACES and SIGNALS, and the data version."""

    traces: pl.DataFrame
    signals: pl.DataFrame
    data_version: int


@dataclass(frozen=True)
class Fitted:
    """What a fit gives: `rewards` has trace_id, mean, sd and signals; `cells` the columns CELLS."""

    method: str
    parameters: Mapping[str, object]
    rewards: pl.DataFrame
    cells: pl.DataFrame
    signals: int
    data_version: int
    code_version: str


def evidence(store: Store, kinds: Sequence[str]) -> Evidence:
    """All traces, and all signals of these kinds with the trace they are about (null when it is not known)."""
    with store.read() as reader:
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        traces = reader.frame("SELECT trace_id, agent, arm, task, user_id FROM traces ORDER BY trace_id", TRACES)
        return Evidence(traces, _signals(reader, kinds), int(version) if isinstance(version, int) else 0)


def signals(store: Store, kinds: Sequence[str]) -> pl.DataFrame:
    """All signals of these kinds with the trace they are about, null when it is not known (columns `SIGNALS`)."""
    with store.read() as reader:
        return _signals(reader, kinds)


def publish(store: Store, fitted: Fitted) -> int | None:
    """Add a model version with its rewards and make it the active one; returns its id.

    Returns None and changes nothing when the active model is of the same method, counts as many signals and gives every
    trace the same reward.
    """
    parameters = json.dumps(fitted.parameters, sort_keys=True, allow_nan=False)

    def work(connection: duckdb.DuckDBPyConnection) -> int | None:
        connection.register("fresh_rewards", fitted.rewards.select("trace_id", "mean", "sd", "signals"))
        connection.register("fresh_cells", fitted.cells.select(list(CELLS)))
        try:
            if _unchanged(connection, fitted):
                return None
            model = _scalar(connection, "SELECT coalesce(max(reward_model_id), 0) + 1 FROM reward_models")
            connection.execute("UPDATE reward_models SET active = false WHERE active")
            connection.execute(
                """INSERT INTO reward_models VALUES
                ($model, $method, $now, $data_version, $traces, $signals, $parameters, $code_version, true)""",
                {
                    "model": model, "method": fitted.method, "now": store.clock.now(),
                    "data_version": fitted.data_version, "traces": fitted.rewards.height, "signals": fitted.signals,
                    "parameters": parameters, "code_version": fitted.code_version,
                },
            )  # fmt: skip
            connection.execute(
                "INSERT INTO rewards SELECT trace_id, $model, mean, sd, signals FROM fresh_rewards", {"model": model}
            )
            connection.execute(
                f"INSERT INTO reward_cells SELECT $model, {', '.join(CELLS)} FROM fresh_cells", {"model": model}
            )
        finally:
            connection.unregister("fresh_rewards")
            connection.unregister("fresh_cells")
        for table in ("rewards", "reward_cells"):
            connection.execute(
                f"DELETE FROM {table} WHERE reward_model_id <= $oldest", {"oldest": model - KEEP_REWARDS}
            )
        meta.bump(connection)
        return model

    return store.write(work)


def models(store: Store, limit: int = 50) -> pl.DataFrame:
    """Every model version, newest first (columns `MODELS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(MODELS)} FROM reward_models ORDER BY reward_model_id DESC LIMIT $limit",
            MODELS,
            {"limit": limit},
        )


def cells(store: Store, *, agent: str | None = None, limit: int = 1_000) -> pl.DataFrame:
    """Tasks by the active model's posterior mean, lowest first, those with signals only (columns `CELLS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(CELLS)} FROM reward_cells
            WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
                AND observed > 0 AND ($agent IS NULL OR agent = $agent)
            ORDER BY mean, agent, task LIMIT $limit""",
            CELLS,
            {"agent": agent, "limit": limit},
        )


def coverage(store: Store) -> pl.DataFrame:
    """Per kind of signal: how many there are, how many traces have one and which share of all traces that is.

    Columns `COVERAGE`; `mean` is over values from 0 to 1, `unlinked` counts signals whose trace is not in the store.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT s.kind, count(*) AS signals, count(s.value) AS with_value,
                count(*) FILTER (s.solicited) AS solicited, count(*) FILTER (t.trace_id IS NULL) AS unlinked,
                count(DISTINCT t.trace_id) AS traces,
                count(DISTINCT t.trace_id) / (SELECT nullif(count(*), 0) FROM traces)::DOUBLE AS share,
                avg(s.value) FILTER (s.value BETWEEN 0 AND 1) AS mean, max(s.occurred_at) AS latest
            FROM {_LOCATED} AS s LEFT JOIN traces AS t ON t.trace_id = s.about
            GROUP BY s.kind ORDER BY traces DESC, signals DESC, s.kind""",
            COVERAGE,
        )


def by_arm(store: Store) -> pl.DataFrame:
    """The active model's reward of every trace of agents that name two or more arms (columns `ARM_REWARDS`).

    Traces without signals of their own are among them, with `signals` 0.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, t.arm, t.user_id, r.mean, r.sd, r.signals
            FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
            WHERE t.agent IS NOT NULL AND t.arm IS NOT NULL AND t.agent IN (
                SELECT agent FROM traces WHERE arm IS NOT NULL GROUP BY agent HAVING count(DISTINCT arm) > 1)
            ORDER BY t.agent, t.arm, t.trace_id""",
            ARM_REWARDS,
        )


def outcomes(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """Success or failure of every rollout whose outcome is known (columns `OUTCOMES`): what pass^k is computed from.

    A rollout succeeds when the mean of its outcome signals is at least .5. Verdicts of language models are left out.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, t.task, t.trace_id, avg(s.value) >= 0.5 AS success
            FROM {_LOCATED} AS s JOIN traces AS t ON t.trace_id = s.about
            WHERE s.kind = 'outcome' AND s.annotator_kind IS DISTINCT FROM 'llm' AND s.value BETWEEN 0 AND 1
                AND t.task IS NOT NULL AND ($agent IS NULL OR t.agent = $agent)
            GROUP BY ALL ORDER BY t.agent, t.task, t.trace_id""",
            OUTCOMES,
            {"agent": agent},
        )


def _signals(reader: Reader, kinds: Sequence[str]) -> pl.DataFrame:
    return reader.frame(
        f"""SELECT about AS trace_id, kind, value, annotator_kind, solicited FROM {_LOCATED}
        WHERE list_contains($kinds, kind) ORDER BY signal_id""",
        SIGNALS,
        {"kinds": list(kinds)},
    )


def _unchanged(connection: duckdb.DuckDBPyConnection, fitted: Fitted) -> bool:
    same_model = _scalar(
        connection,
        "SELECT count(*) FROM reward_models WHERE active AND method = $method AND signals = $signals",
        {"method": fitted.method, "signals": fitted.signals},
    )
    return bool(same_model) and not _scalar(
        connection,
        f"""SELECT count(*) FROM fresh_rewards AS n FULL JOIN {ACTIVE_REWARDS} AS o USING (trace_id)
        WHERE n.mean IS NULL OR o.mean IS NULL OR n.signals <> o.signals
            OR abs(n.mean - o.mean) > {_SAME} OR abs(n.sd - o.sd) > {_SAME}""",
    )


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None) -> int:
    return int(connection.execute(sql, dict(parameters) if parameters else None).fetchall()[0][0])
