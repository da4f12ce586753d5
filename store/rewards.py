"""Reward models and what they say: a mean and standard deviation for every trace and every task, by model version.

A version is only ever added; which one is in use is decided when it is published, or by an operator
(`store.reward_versions`). Rewards of single traces are kept for the last `KEEP_REWARDS` versions and always for the one
in use, since they are the bulk: models, their parameters and reports stay for good.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import duckdb
import polars as pl

from store import meta, reward_rows, reward_versions
from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.learning import learnt_from
from store.reward_versions import Report
from store.scope import ACTIVE_REWARDS

KEEP_REWARDS = 14  # two weeks of nightly fits

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
MEASURED_TRACES = declare(
    {
        "trace_id": pl.String, "user_id": pl.String, "session_id": pl.String, "agent": pl.String, "arm": pl.String,
        "task": pl.String, "started_at": UTC_TIME, "ended_at": UTC_TIME,
        "segment": pl.String,  # of the person: by rule, else as metadata state it; null where none is
    }
)  # fmt: skip
MEASURED_SIGNALS = declare(
    {
        "trace_id": pl.String,  # the trace it is about: the one it names, else the one it was linked to
        "session_id": pl.String, "user_id": pl.String, "kind": pl.String, "name": pl.String,
        "item": pl.String, "value": pl.Float64, "position": pl.Int32, "propensity": pl.Float64,
        "base_rank": pl.Int32,  # of an impression: its rank before positions were drawn (metadata.base_rank)
        "solicited": pl.Boolean, "annotator_kind": pl.String, "occurred_at": UTC_TIME,
    }
)  # fmt: skip
BEFORE_TRACE = declare(
    {
        "agent": pl.String,
        "left_out": pl.Int64,  # signals dated more than a day before their trace began
        "counted": pl.Int64,  # signals dated less than that before it
    }
)
OUTCOMES = pl.Schema({"agent": pl.String(), "task": pl.String(), "trace_id": pl.String(), "success": pl.Boolean()})

# Every signal with the trace that it is about: the one it names, else the one it was linked to.
_LOCATED = """(
    SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
    FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id))"""
# Microseconds by which a signal s is dated before its trace t began. Clocks and time zones differ by less than a day;
# what is dated earlier than that is about something else, and no evidence on the trace.
_EARLIER = "epoch_us(coalesce(t.started_at, t.ended_at)) - epoch_us(s.occurred_at)"
_DAY = 86_400_000_000
_EVIDENCE = f"""(
    SELECT s.* FROM {_LOCATED} AS s LEFT JOIN traces AS t ON t.trace_id = s.about
    WHERE ({_EARLIER} > {_DAY}) IS NOT TRUE AND {learnt_from("coalesce(t.user_id, s.user_id)")})"""


@dataclass(frozen=True)
class Evidence:
    """What a fit reads, of one snapshot: frames of columns TRACES and SIGNALS, and the data version.

    `before_trace` (BEFORE_TRACE) counts the signals that are dated before their trace began, for agents with any.
    """

    traces: pl.DataFrame
    signals: pl.DataFrame
    data_version: int
    before_trace: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BEFORE_TRACE))


@dataclass(frozen=True)
class Fitted:
    """What a fit gives: `rewards` has trace_id, mean, sd and signals; `cells` the columns CELLS; `report` the rest."""

    method: str
    parameters: Mapping[str, object]
    rewards: pl.DataFrame
    cells: pl.DataFrame
    signals: int
    data_version: int
    code_version: str
    report: Report = field(default_factory=Report)


def evidence(store: Store, kinds: Sequence[str]) -> Evidence:
    """All traces, and all signals of these kinds with the trace they are about (null when it is not known).

    Signals dated more than a day before their trace began are not among them.
    """
    with store.read() as reader:
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        traces = reader.frame(
            f"""SELECT trace_id, agent, arm, task, user_id FROM traces WHERE {learnt_from("traces.user_id")}""",
            TRACES,
            order=("trace_id",),
        )
        signals = _signals(reader, kinds)
        return Evidence(traces, signals, int(version) if isinstance(version, int) else 0, _before_trace(reader, kinds))


def measured(store: Store) -> Evidence:
    """All traces and all signals as the measurement models read them (MEASURED_TRACES and MEASURED_SIGNALS).

    Signals dated more than a day before their trace began are not among them.
    """
    with store.read() as reader:
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        traces = reader.frame(
            f"""SELECT trace_id, user_id, session_id, agent, arm, task, started_at, ended_at,
                coalesce(g.segment, nullif(
                    json_extract_string(CASE WHEN json_valid(metadata) THEN metadata END, '$.segment'), '')) AS segment
            FROM traces LEFT JOIN user_segments AS g USING (user_id)
            WHERE {learnt_from("traces.user_id")}""",
            MEASURED_TRACES,
            order=("trace_id",),
        )
        located = reader.frame(
            f"""SELECT about AS trace_id, session_id, user_id, kind, name, item, value, position, propensity,
                CASE WHEN kind = 'impression'
                    THEN TRY_CAST(TRY(json_extract_string(metadata, '$.base_rank')) AS INTEGER) END AS base_rank,
                solicited, annotator_kind, occurred_at
            FROM {_EVIDENCE} ORDER BY signal_id""",
            MEASURED_SIGNALS,
        )
        return Evidence(traces, located, int(version) if isinstance(version, int) else 0, _before_trace(reader))


def counts(store: Store) -> tuple[int, int]:
    """How many traces and signals the store holds."""
    with store.read() as reader:
        found = [reader.value(f"SELECT count(*) FROM {table}") for table in ("traces", "signals")]
    traces, held = (int(value) if isinstance(value, int) else 0 for value in found)
    return traces, held


def signals(store: Store, kinds: Sequence[str]) -> pl.DataFrame:
    """All signals of these kinds with the trace they are about, null when it is not known (columns `SIGNALS`).

    Those dated more than a day before their trace began are left out.
    """
    with store.read() as reader:
        return _signals(reader, kinds)


def publish(store: Store, fitted: Fitted, progress: Callable[[float], None] = lambda fraction: None) -> int | None:
    """Add a model version with its rewards and report, and put it in use if the report says so; returns its id.

    Returns None and changes nothing when the version in use, or the newest one, is of the same method, counts as many
    signals and gives every trace the same reward. The very first version is put in use whatever its report says.

    Rewards are written in slices that nobody sees; then the version is added, and put in use, in one short transaction.
    `progress` is told the fraction written and may raise: the version before stays in force and nothing is lost.
    """
    parameters = json.dumps(fitted.parameters, sort_keys=True, allow_nan=False)
    reward_rows.sweep(store, KEEP_REWARDS)
    rows = reward_rows.whole(fitted.rewards)
    with store.read() as reader:
        if _unchanged(reader, fitted, rows):
            return None
        newest = reader.value("SELECT coalesce(max(reward_model_id), 0) FROM reward_models")
    model = (newest if isinstance(newest, int) else 0) + 1
    reward_rows.insert(store, model, rows, progress)
    store.write(lambda connection: _add(connection, model, fitted, parameters, store.clock.now()))
    reward_rows.sweep(store, KEEP_REWARDS)
    return model


def extend(
    store: Store, model: int, fresh: pl.DataFrame, *, publication: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> int:  # fmt: skip
    """Give new and changed traces their reward by a version that is there; returns how many.

    Args: `fresh` with trace_id, mean, sd and signals; `publication` is the last one whose facts they rest on. It is
    noted after the last slice of rewards: cut short, all of them are due again. `progress` may raise between slices.
    """
    rows = reward_rows.whole(fresh)
    reward_rows.replace(store, model, rows, progress)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        connection.execute(
            "UPDATE reward_versions SET publication = $publication WHERE reward_model_id = $model",
            {"publication": publication, "model": model},
        )
        if fresh.height:
            meta.bump(connection)
        return fresh.height

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
    """What is known of every trace of agents that name two or more arms (columns `ARM_REWARDS`): its outcome by the
    model in use, whose noise is in how outcomes vary and not in `sd`; without one its reward.

    Traces without signals of their own are among them, with `signals` 0.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, t.arm, t.user_id, coalesce(r.outcome, r.mean) AS mean,
                CASE WHEN r.outcome IS NULL THEN r.sd ELSE 0 END AS sd, r.signals
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
        f"""SELECT about AS trace_id, kind, value, annotator_kind,
            -- Asked with a probability that is none: it counts as volunteered.
            solicited AND (propensity IS NULL OR propensity BETWEEN 1e-6 AND 1) AS solicited
        FROM {_EVIDENCE}
        WHERE list_contains($kinds, kind) ORDER BY signal_id""",
        SIGNALS,
        {"kinds": list(kinds)},
    )


def _before_trace(reader: Reader, kinds: Sequence[str] | None = None) -> pl.DataFrame:
    return reader.frame(
        f"""SELECT t.agent, count(*) FILTER ({_EARLIER} > {_DAY}) AS left_out,
            count(*) FILTER ({_EARLIER} <= {_DAY}) AS counted
        FROM {_LOCATED} AS s JOIN traces AS t ON t.trace_id = s.about
        WHERE {_EARLIER} > 0 AND ($kinds IS NULL OR list_contains($kinds, s.kind))
        GROUP BY t.agent ORDER BY t.agent""",
        BEFORE_TRACE,
        {"kinds": None if kinds is None else list(kinds)},
    )


def _unchanged(reader: Reader, fitted: Fitted, rows: pl.DataFrame) -> bool:
    alike = reader.any_frame(
        """SELECT reward_model_id FROM reward_models WHERE method = $method AND signals = $signals
        AND (active OR reward_model_id = (SELECT max(reward_model_id) FROM reward_models))""",
        {"method": fitted.method, "signals": fitted.signals},
    )
    return any(reward_rows.same(reader, model, rows) for model in alike["reward_model_id"].to_list())


def _add(connection: duckdb.DuckDBPyConnection, model: int, fitted: Fitted, parameters: str, now: datetime) -> None:
    """List a version whose rewards are written, with its report."""
    held = connection.execute("SELECT count(*) FROM reward_models WHERE active").fetchall()
    report = replace(fitted.report, activate=fitted.report.activate or not held[0][0])
    if report.activate:
        connection.execute("UPDATE reward_models SET active = false WHERE active")
    connection.execute(
        """INSERT INTO reward_models VALUES
        ($model, $method, $now, $data_version, $traces, $signals, $parameters, $code_version, $active)""",
        {
            "model": model, "method": fitted.method, "now": now, "data_version": fitted.data_version,
            "traces": fitted.rewards.height, "signals": fitted.signals,
            "parameters": parameters,
            "code_version": fitted.code_version, "active": report.activate,
        },
    )  # fmt: skip
    reward_versions.write_frame(connection, "reward_cells", model, fitted.cells.select(list(CELLS)))
    reward_versions.write_report(connection, model, report, now)
    meta.bump(connection)
