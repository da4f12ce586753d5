"""Credit: what estimating it reads, and what a run found: per step, per parallel span and per tool.

Credit of steps is the bulk, so it is kept for two runs: the newest, and the newest that divided the rewards of the
model in use. Runs and their means per tool stay for `KEEP_RUNS` runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS
from store.trace_ranges import trace_ranges

KEEP_RUNS = 60

TRACES = pl.Schema(
    {
        "trace_no": pl.UInt32(),  # 0, 1, ... in the order of rows
        "trace_id": pl.String(),
        "agent": pl.String(),
        "user_id": pl.String(),
        "task": pl.String(),
        "arm": pl.String(),
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
        "signals": pl.Int64(),  # of the trace's own
    }
)
STEPS = pl.Schema(
    {
        "trace_no": pl.UInt32(),
        "position": pl.UInt32(),  # 1, 2, ... within the trace, by start
        "span_id": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "failed": pl.Boolean(),
        "tokens": pl.Int64(),  # null where not stated
        "cost_usd": pl.Float64(),
        "call": pl.UInt64(),  # hash of the arguments; null for what is not a call
        "shape": pl.String(),  # types of the arguments; null where they are not JSON
        "started_us": pl.Int64(),  # microseconds; null where no time is stated: steps then follow one another
        "ended_us": pl.Int64(),
    }
)
CHOICES = pl.Schema(
    {
        "trace_no": pl.UInt32(),
        "arm": pl.String(),
        "propensity": pl.Float64(),  # with which this arm was drawn; null where it is not stated
        "propensities": pl.String(),  # JSON object, arm to probability; null where only that of the drawn arm is known
    }
)
PARALLEL = pl.Schema(
    {
        "trace_no": pl.UInt32(),
        "parent_span_id": pl.String(),
        "batch": pl.Int64(),  # children of one parent with the same number overlapped in time
        "member": pl.String(),  # the child
        "span_id": pl.String(),  # the child itself and every span below it
    }
)
STEP_CREDITS = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "position": pl.Int32(),
        "value": pl.Float64(),
        "credit": pl.Float64(),
        "decision": pl.Float64(),
        "luck": pl.Float64(),
        "sd": pl.Float64(),
    }
)
PARALLEL_CREDITS = pl.Schema(
    {
        "trace_id": pl.String(),
        "parent_span_id": pl.String(),
        "span_id": pl.String(),
        "members": pl.Int32(),
        "credit": pl.Float64(),
        "exact": pl.Boolean(),
    }
)
TOOL_CREDITS = pl.Schema(
    {
        "agent": pl.String(),
        "scope": pl.String(),  # tool, state, variant, arm
        "tool": pl.String(),
        "state": pl.String(),
        "steps": pl.Int64(),
        "traces": pl.Int64(),
        "clusters": pl.Int64(),
        "estimate": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "sd": pl.Float64(),
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
        "basis": pl.String(),
        "reason": pl.String(),
    }
)
RUNS = declare(
    {
        "run_id": pl.Int64, "reward_model_id": pl.Int64, "computed_at": UTC_TIME, "data_version": pl.Int64,
        "code_version": pl.String, "traces": pl.Int64, "steps": pl.Int64, "informative": pl.Int64, "notes": pl.String,
        "parameters": pl.String, "active": pl.Boolean,
    }
)  # fmt: skip
TRACE_CREDITS = pl.Schema(
    {
        "position": pl.Int32(),
        "span_id": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "status": pl.String(),
        "value": pl.Float64(),
        "credit": pl.Float64(),
        "decision": pl.Float64(),
        "luck": pl.Float64(),
        "sd": pl.Float64(),
        "members": pl.Int32(),  # of the spans that ran at once with it; null where it ran alone
        "parallel_credit": pl.Float64(),
    }
)

_SHARES = pl.Schema({"agent": pl.String(), "since": pl.Int64(), "last": pl.String(), "older": pl.Int64()})
_ACTIVE_MODEL = "(SELECT max(reward_model_id) FROM reward_models WHERE active)"

# The run whose credit is shown: the newest of the rewards in use, else the newest.
_SHOWN_RUN = f"""(
    SELECT run_id FROM credit_runs
    ORDER BY reward_model_id IS NOT DISTINCT FROM {_ACTIVE_MODEL} DESC, run_id DESC LIMIT 1)"""

# So many steps are divided at most: what is held of them in memory is about 3 GB for a million.
MOST_STEPS = 1_000_000

# Which traces are taken of each agent: the newest, as many of one agent as of another, up to $most spans. Of those that
# began `since`, the ids up to `last`: where no times are stated, those of a whole file are the same.
_TAKEN = f"""
    WITH aged AS (
        SELECT coalesce(t.agent, '') AS agent, t.trace_id, t.seen_at, t.span_count,
            row_number() OVER (PARTITION BY coalesce(t.agent, '') ORDER BY t.seen_at DESC, t.trace_id) AS age
        FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
    ), counted AS (
        SELECT *, sum(span_count) OVER (ORDER BY age, agent ROWS UNBOUNDED PRECEDING) AS so_far FROM aged
    )
    SELECT agent, epoch_us(arg_max(seen_at, age) FILTER (taken)) AS since,
        arg_max(trace_id, age) FILTER (taken) AS last, count(*) FILTER (NOT taken) AS older
    FROM (SELECT *, so_far <= $most OR age = 1 AS taken FROM counted) GROUP BY agent ORDER BY agent"""

_RECENT = f"""(
    SELECT r.*, t.agent, t.user_id, t.task, t.arm
    FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
    JOIN (SELECT unnest(from_json($taken, '[{{"agent": "VARCHAR", "since": "BIGINT", "last": "VARCHAR"}}]'),
        recursive := true)) AS s ON s.agent = coalesce(t.agent, '')
    WHERE epoch_us(t.seen_at) > s.since OR (epoch_us(t.seen_at) = s.since AND t.trace_id <= s.last))"""

_NUMBERED = f"""
    SELECT (row_number() OVER (ORDER BY t.trace_id) - 1)::UINTEGER AS trace_no, t.trace_id, t.agent, t.user_id, t.task,
        t.arm, t.mean AS reward, t.sd AS reward_sd, t.signals::BIGINT AS signals
    FROM {_RECENT} AS t"""

# The numbers of a range of traces, see `store.trace_ranges`.
_IN_RANGE = "trace_id BETWEEN $first AND $last"
_NUMBERED_RANGE = f"""
    SELECT (row_number() OVER (ORDER BY t.trace_id) - 1 + $start)::UINTEGER AS trace_no, t.trace_id
    FROM {_RECENT} AS t WHERE t.{_IN_RANGE}"""
_RANGE = f"""
    numbered AS MATERIALIZED ({_NUMBERED_RANGE}),
    own AS NOT MATERIALIZED (SELECT * FROM spans SEMI JOIN numbered USING (trace_id) WHERE {_IN_RANGE})"""

# Spans that only enclose others: what they did is what those did, and how they ended is known last.
_CONTAINERS = """
    SELECT s.trace_id, s.span_id FROM own AS s
    SEMI JOIN own AS c ON c.trace_id = s.trace_id AND c.parent_span_id = s.span_id
    WHERE s.kind IN ('agent', 'chain', 'other')"""

_CALLS = "('tool', 'retriever', 'guardrail', 'agent')"
_LONGEST_ARGUMENTS = 4_000
_DATE = r"'\"\d{4}-\d{2}-\d{2}'"  # the engine takes dates for text like any other

_STEPS = f"""
    SELECT n.trace_no, row_number() OVER (
            PARTITION BY n.trace_no
            ORDER BY s.started_at NULLS LAST, s.ordinal NULLS LAST, s.span_id
        )::UINTEGER AS position, s.span_id, s.kind,
        CASE WHEN s.kind = 'llm' AND s.model IS NOT NULL AND s.model <> ''
            THEN coalesce(nullif(trim(replace(s.name, s.model, '')), ''), s.kind) ELSE s.name END AS name,
        coalesce(s.status = 'error', false) AS failed,
        CASE WHEN coalesce(s.input_tokens, s.output_tokens) IS NOT NULL
            THEN coalesce(s.input_tokens, 0) + coalesce(s.output_tokens, 0) END AS tokens, s.cost_usd,
        CASE WHEN s.kind IN {_CALLS} AND s.input IS NOT NULL THEN hash(s.input) END AS call,
        CASE WHEN s.kind IN {_CALLS} AND s.input[1] = '{{' AND length(s.input) <= {_LONGEST_ARGUMENTS}
            AND json_valid(s.input)
            THEN concat(json_structure(s.input), repeat(' date', least(3, len(regexp_extract_all(s.input, {_DATE})))))
            END AS shape, epoch_us(s.started_at) AS started_us, epoch_us(s.ended_at) AS ended_us
    FROM own AS s JOIN numbered AS n USING (trace_id)
    ANTI JOIN containers AS c ON c.trace_id = s.trace_id AND c.span_id = s.span_id"""

_RANGE_STEPS = f"""
    WITH {_RANGE}, containers AS ({_CONTAINERS})
    {_STEPS} ORDER BY trace_no, position"""


@dataclass(frozen=True)
class Evidence:
    """What a run reads, of one snapshot: frames TRACES, STEPS, CHOICES and PARALLEL; versions of rewards and data.

    `older` counts the traces of each agent ("" where none is stated) that are left out because there are newer ones.
    """

    traces: pl.DataFrame
    steps: pl.DataFrame
    choices: pl.DataFrame
    parallel: pl.DataFrame
    reward_model_id: int | None
    data_version: int
    older: Mapping[str, int]


@dataclass(frozen=True)
class Found:
    """What a run found: frames STEP_CREDITS, PARALLEL_CREDITS, TOOL_CREDITS, and what is said about it."""

    steps: pl.DataFrame
    parallel: pl.DataFrame
    tools: pl.DataFrame
    notes: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    reward_model_id: int
    data_version: int
    code_version: str
    traces: int
    informative: int


def evidence(store: Store, *, most: int = MOST_STEPS) -> Evidence:
    """Every trace with its reward by the model in use, its steps, and how its arm was drawn where that is logged.

    Where they have more than `most` spans, the newest of each agent, as many of one as of another.
    """
    with store.read() as reader:
        model = reader.value(f"SELECT {_ACTIVE_MODEL}")
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        shares = reader.frame(_TAKEN, _SHARES, {"most": most})
        recent = {"taken": json.dumps(shares.drop("older").to_dicts())}
        traces = reader.frame(f"SELECT * FROM ({_NUMBERED}) ORDER BY trace_no", TRACES, recent)
        steps, parallel = [pl.DataFrame(schema=STEPS)], [pl.DataFrame(schema=PARALLEL)]
        for each in trace_ranges(traces["trace_id"]):
            within = {"start": each.start, **each.params, **recent}
            steps.append(reader.frame(_RANGE_STEPS, STEPS, within))
            parallel.append(reader.frame(_PARALLEL, PARALLEL, within))
        return Evidence(
            traces=traces,
            steps=pl.concat(steps),
            choices=reader.frame(_LOGGED_CHOICES, CHOICES, recent),
            parallel=pl.concat(parallel),
            reward_model_id=int(model) if isinstance(model, int) else None,
            data_version=int(version) if isinstance(version, int) else 0,
            older={agent: older for agent, older in shares.select("agent", "older").rows() if older},
        )


# How an arm was drawn is stated by the trace's record or by its root span, under the names of the steering endpoint.
_LOGGED_CHOICES = f"""
    WITH stated AS (
        SELECT trace_id, metadata AS said FROM trace_records WHERE contains(metadata, '"steer.arm"')
        UNION ALL
        SELECT trace_id, attributes FROM spans WHERE parent_span_id IS NULL AND contains(attributes, '"steer.arm"')
    ), one AS (
        SELECT trace_id, any_value(json_extract_string(said, '$."steer.arm"')) AS arm,
            any_value(TRY_CAST(json_extract_string(said, '$."steer.propensity"') AS DOUBLE)) AS propensity,
            any_value(json_extract(said, '$."steer.propensities"')::VARCHAR) AS propensities
        FROM stated WHERE json_valid(said) GROUP BY trace_id
    )
    SELECT n.trace_no, coalesce(o.arm, n.arm) AS arm, o.propensity, o.propensities
    FROM one AS o JOIN ({_NUMBERED}) AS n USING (trace_id)
    WHERE coalesce(o.arm, n.arm) IS NOT NULL ORDER BY n.trace_no"""

# Children of one parent that overlapped in time, with all spans below them.
_PARALLEL = f"""
    WITH RECURSIVE {_RANGE}, timed AS (
        SELECT trace_id, parent_span_id, span_id, started_at, ended_at, max(ended_at) OVER (
            PARTITION BY trace_id, parent_span_id ORDER BY started_at, span_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
        FROM own WHERE parent_span_id IS NOT NULL AND started_at IS NOT NULL AND ended_at IS NOT NULL
    ), overlapping AS (
        SELECT DISTINCT trace_id, parent_span_id FROM timed WHERE started_at < busy_until
    ), batches AS (
        SELECT *, count(*) FILTER (busy_until IS NULL OR started_at >= busy_until) OVER (
            PARTITION BY trace_id, parent_span_id ORDER BY started_at, span_id) AS batch
        FROM timed SEMI JOIN overlapping USING (trace_id, parent_span_id)
    ), members AS (
        SELECT * FROM batches QUALIFY count(*) OVER (PARTITION BY trace_id, parent_span_id, batch) > 1
    ), below AS (
        SELECT trace_id, parent_span_id, batch, span_id AS member, span_id FROM members
        UNION
        SELECT b.trace_id, b.parent_span_id, b.batch, b.member, s.span_id
        FROM below AS b JOIN own AS s ON s.trace_id = b.trace_id AND s.parent_span_id = b.span_id
    )
    SELECT n.trace_no, b.parent_span_id, b.batch, b.member, b.span_id
    FROM below AS b JOIN numbered AS n USING (trace_id)
    ORDER BY n.trace_no, b.parent_span_id, b.batch, b.member, b.span_id"""


def record(store: Store, found: Found) -> int:
    """Keep what a run found; returns the run's number."""
    notes = json.dumps(list(found.notes), allow_nan=False)
    parameters = json.dumps(dict(found.parameters), sort_keys=True, allow_nan=False)
    tables = {
        "step_credits": found.steps.select(list(STEP_CREDITS)),
        "parallel_credits": found.parallel.select(list(PARALLEL_CREDITS)),
        "tool_credits": found.tools.select(list(TOOL_CREDITS)),
    }

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            """INSERT INTO credit_runs VALUES ($run, $model, $now, $data_version, $code_version, $traces, $steps,
                $informative, $notes, $parameters)""",
            {
                "run": run, "model": found.reward_model_id, "now": store.clock.now(),
                "data_version": found.data_version, "code_version": found.code_version, "traces": found.traces,
                "steps": found.steps.height, "informative": found.informative, "notes": notes,
                "parameters": parameters,
            },
        )  # fmt: skip

    run = result_rows.publish(store, "credit_runs", tables, add)
    for table in ("step_credits", "parallel_credits"):
        result_rows.remove(store, table, f"run_id NOT IN (SELECT max(run_id) FROM credit_runs UNION ALL {_SHOWN_RUN})")
    result_rows.remove(store, "tool_credits", "run_id <= $oldest", {"oldest": run - KEEP_RUNS})
    return run


def shown_run(store: Store) -> dict[str, Any] | None:
    """The run whose credit pages show, as a dictionary of RUNS; None before the first. `active`: it divides the
    rewards in use."""
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT {", ".join(name for name in RUNS if name != "active")},
                reward_model_id IS NOT DISTINCT FROM {_ACTIVE_MODEL} AS active
            FROM credit_runs WHERE run_id = {_SHOWN_RUN}""",
            RUNS,
        )
    return frame.row(0, named=True) if len(frame) else None


def tools(store: Store, *, agent: str | None = None, scope: str | None = None, limit: int = 2_000) -> pl.DataFrame:
    """Means per choice of the run shown, those with numbers and many steps first (columns TOOL_CREDITS)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(TOOL_CREDITS)} FROM tool_credits
            WHERE run_id = {_SHOWN_RUN} AND ($agent IS NULL OR agent = $agent) AND ($scope IS NULL OR scope = $scope)
            ORDER BY agent NULLS LAST, scope, estimate IS NULL, steps DESC, tool, state LIMIT $limit""",
            TOOL_CREDITS,
            {"agent": agent, "scope": scope, "limit": limit},
        )


def of_trace(store: Store, trace_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """Credit of every step of one trace by the run shown (columns TRACE_CREDITS); no rows where there is none.

    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""WITH own AS (SELECT * FROM step_credits WHERE run_id = {_SHOWN_RUN} AND trace_id = $trace_id),
            named AS (SELECT span_id, any_value(kind) AS kind, any_value(name) AS name, any_value(status) AS status
                FROM spans WHERE trace_id = $trace_id GROUP BY span_id),
            joint AS (SELECT span_id, any_value(members) AS members, any_value(credit) AS parallel_credit
                FROM parallel_credits WHERE run_id = {_SHOWN_RUN} AND trace_id = $trace_id GROUP BY span_id)
            SELECT o.position, o.span_id, n.kind, n.name, n.status, o.value, o.credit, o.decision, o.luck, o.sd,
                j.members, j.parallel_credit
            FROM own AS o LEFT JOIN named AS n USING (span_id) LEFT JOIN joint AS j USING (span_id)
            ORDER BY o.position""",
            TRACE_CREDITS,
            {"trace_id": trace_id},
        )
