"""The nightly jobs on a large store: seconds of each, and the memory of the process that runs them.

The store is written by SQL, not by loading: a deployment of several agents, arms, tasks and tools in which quality
depends on the arm, the task and the person, with explicit and implicit signals that depend on quality.
"""

import multiprocessing
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines.jobs import REGISTRY
from pipelines.runner import Runner
from store.connection import Store
from store.settings import Settings

# Jobs that other processes or people feed; the others are what runs every night.
_NOT_NIGHTLY = ("inbox", "pull", "judges")

# A number from 0 to 1 that depends on the row and a salt only.
_CHANCE = "(hash({row}, {salt}) >> 11) / 9007199254740992.0"

_TRACES = f"""
CREATE TEMP TABLE made AS
SELECT *, 1 / (1 + exp(-theta)) > {_CHANCE.format(row="i", salt=5)} AS satisfied FROM (
    SELECT i, i % $users AS u, (hash(i, 1) % 4)::INTEGER AS a, (hash(i, 2) % 3)::INTEGER AS arm,
        (hash(i, 3) % 200)::INTEGER AS task,
        0.6 + 0.4 * (hash(i, 2) % 3) - 0.5 * ((hash(i, 3) % 200) / 100.0 - 1)
            + 2 * ({_CHANCE.format(row="i % $users", salt=4)} - 0.5) + 3 * ({_CHANCE.format(row="i", salt=6)} - 0.5)
            AS theta,
        TIMESTAMPTZ '2026-09-01 00:00:00+00' + to_microseconds(i * (60 * 86400000000 // $traces)) AS moment
    FROM range($traces) AS r(i))"""

_INSERTS = (
    """INSERT INTO traces BY NAME
    SELECT 't' || i AS trace_id, 'bench' AS source, 'agent-' || a AS agent, 'v' || (i * 3 // $traces) AS agent_version,
        'u' || u AS user_id, 's' || (i // 3) AS session_id, 'task-' || a || '-' || task AS task, 'given' AS task_origin,
        'arm-' || arm AS arm, 'model-' || (arm % 2) AS model, moment AS started_at,
        moment + INTERVAL 8 SECOND AS ended_at, moment AS seen_at,
        CASE WHEN theta < -1.5 THEN 'error' ELSE 'ok' END AS status,
        'please find item ' || task || ' for me' AS input, 'here is what I found for ' || task AS output,
        500 + i % 300 AS input_tokens, 100 + i % 200 AS output_tokens, 0.002 AS cost_usd, 5 AS span_count,
        (theta < -1.5)::INTEGER AS error_count, 3 AS tool_count, 1 AS batch_id, 1 AS publication FROM made""",
    """INSERT INTO spans BY NAME
    SELECT 't' || i AS trace_id, i || '-' || n AS span_id, CASE WHEN n > 0 THEN i || '-0' END AS parent_span_id,
        n AS ordinal, CASE n WHEN 0 THEN 'agent' WHEN 4 THEN 'llm' ELSE 'tool' END AS kind,
        CASE n WHEN 0 THEN 'run' WHEN 4 THEN 'answer' ELSE 'tool-' || (hash(i, n) % 12)::VARCHAR END AS name,
        moment + to_seconds(n::DOUBLE) AS started_at, moment + to_seconds(n + 0.9) AS ended_at,
        CASE WHEN n = 3 AND theta < -1.5 THEN 'error' ELSE 'ok' END AS status, '{"q": "' || task || '"}' AS input,
        'result ' || task AS output, 100 AS input_tokens, 30 AS output_tokens, 0.0004 AS cost_usd, 'bench' AS source,
        hash(i, n) AS content_hash, 1 AS batch_id, 1 AS publication FROM made, range(5) AS r(n)""",
)

_SIGNALS = (
    ("thumb", "true", "satisfied::INTEGER::DOUBLE", "0.02", "true", "user"),
    ("thumb", "true", "satisfied::INTEGER::DOUBLE", "CASE WHEN satisfied THEN 0.03 ELSE 0.2 END", "false", "user"),
    ("rating", "a = 1", "CASE WHEN satisfied THEN 0.75 ELSE 0.25 END", "0.08", "false", "user"),
    ("outcome", "a < 3", "(theta + {noise} > 0)::INTEGER::DOUBLE", "0.4", "NULL", "code"),
    ("retry", "true", "0.0", "1 / (1 + exp(2.5 + theta))", "NULL", "user"),
    ("abandon", "true", "0.0", "1 / (1 + exp(2.2 + theta))", "NULL", "user"),
    ("copy", "a = 2", "1.0", "1 / (1 + exp(2.0 - theta))", "NULL", "user"),
    ("purchase", "a = 0", "1.0", "1 / (1 + exp(2.5 - theta))", "NULL", "user"),
)


@dataclass(frozen=True)
class JobFigures:
    """One job: seconds, and what it said of itself."""

    job: str
    seconds: float
    message: str


def build(path: Path, traces: int, users: int) -> None:
    """Write the store."""
    store = Store.open(path, memory_limit="3GB")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        sizes = {"traces": traces, "users": users}
        connection.execute(_TRACES, sizes)
        connection.execute(_INSERTS[0], {"traces": traces})
        connection.execute(_INSERTS[1])
        for number, (kind, among, value, chance, solicited, annotator) in enumerate(_SIGNALS):
            draw = _CHANCE.format(row="i", salt=20 + number)
            noise = f"3 * ({_CHANCE.format(row='i', salt=40 + number)} - 0.5)"
            connection.execute(
                f"""INSERT INTO signals BY NAME
                SELECT '{number}-' || i AS signal_id, 't' || i AS trace_id, 'u' || u AS user_id, '{kind}' AS kind,
                    {value.format(noise=noise)} AS value, CASE WHEN {solicited} THEN {chance} END AS propensity,
                    {solicited} AS solicited, '{annotator}' AS annotator_kind,
                    moment + INTERVAL 1 MINUTE AS occurred_at, 'bench' AS source,
                    hash(i, {number}) AS content_hash, 1 AS batch_id, 1 AS publication
                FROM made WHERE {among} AND {draw} < {chance}"""
            )
        # Shown sets of four items for a tenth of the traces, with clicks.
        connection.execute(
            """INSERT INTO signals BY NAME
            SELECT 'i' || i || '-' || n AS signal_id, 't' || i AS trace_id, 'u' || u AS user_id,
                'impression' AS kind, 'item-' || (hash(i, n) % 500)::VARCHAR AS item, n + 1 AS position,
                0.9 AS propensity, '{"price": ' || (hash(i, n, 7) % 100) / 50.0 || ', "health": '
                || (hash(i, n, 8) % 100) / 50.0 || '}' AS metadata, 'user' AS annotator_kind,
                moment + INTERVAL 2 SECOND AS occurred_at, 'bench' AS source, hash(i, n, 9) AS content_hash,
                1 AS batch_id, 1 AS publication
            FROM made, range(4) AS r(n) WHERE i % 10 = 0"""
        )
        connection.execute(
            """INSERT INTO signals BY NAME
            SELECT 'c' || i AS signal_id, 't' || i AS trace_id, 'u' || u AS user_id, 'click' AS kind,
                'item-' || (hash(i, hash(i, 11) % 4) % 500)::VARCHAR AS item,
                1 + (hash(i, 11) % 4)::INTEGER AS position,
                1.0 AS value, 'user' AS annotator_kind, moment + INTERVAL 9 SECOND AS occurred_at, 'bench' AS source,
                hash(i, 12) AS content_hash, 1 AS batch_id, 1 AS publication
            FROM made WHERE i % 10 = 0 AND hash(i, 13) % 2 = 0"""
        )
        connection.execute("DROP TABLE made")
        connection.execute("UPDATE store_meta SET value = value + 1 WHERE key = 'data_version'")

    store.write(work)
    store.close()


def measure(folder: Path, traces: int, users: int) -> tuple[list[JobFigures], float]:
    """Run every nightly job once in a process of its own; returns their figures and its peak memory in MB."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nightly.duckdb"
    path.unlink(missing_ok=True)
    build(path, traces, users)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, (path,))


def _run(path: Path) -> tuple[list[JobFigures], float]:
    store = Store.open(path)
    figures = []
    try:
        runner = Runner(store, Settings(db=path))
        for name in REGISTRY:
            if name in _NOT_NIGHTLY:
                continue
            started = time.perf_counter()
            outcome = runner.run(name, "manual")
            seconds = time.perf_counter() - started
            figures.append(JobFigures(name, seconds, outcome.error or outcome.message or ""))
            print(f"{name}: {seconds:.1f} s, {figures[-1].message}", flush=True)
    finally:
        store.close()
    return figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
