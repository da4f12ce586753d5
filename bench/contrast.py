"""Contrasting a million traces: reading them, comparing them, and writing drafts.

The store is written by SQL: 50 agents with 200 tasks each, five spans a trace of which four are calls of one of 12
tools, and rewards whose outcomes depend on the task, on a tool that is left out and on the type of an argument.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from bench.measure import alone
from bench.planted_causes import Recovered, recovered
from pipelines.lessons import job
from pipelines.lessons.contrast import ContrastConfig, contrast
from store import contrasts
from store.connection import Store

__all__ = ["Figures", "build", "causes", "measure"]

_TASKS_PER_AGENT = 200
_MADE = """
CREATE TEMP TABLE made AS
SELECT i, (i % $groups) // $tasks AS a, i % $groups AS task, hash(i, 1) % 100 < 15 AS skipped,
    hash(i, 2) % 100 < 10 AS worded,
    TIMESTAMPTZ '2026-09-01 00:00:00+00' + to_microseconds(i * (60 * 86400000000 // $traces)) AS moment
FROM range($traces) AS r(i)"""
_INSERTS = (
    """INSERT INTO traces BY NAME
    SELECT 't' || i AS trace_id, 'bench' AS source, 'agent-' || a AS agent, 'u' || (i % 5000) AS user_id,
        'task-' || task AS task, 'given' AS task_origin, moment AS started_at, moment AS seen_at, 'ok' AS status,
        'please find item ' || task || ' for me' AS input, 5 AS span_count, 0 AS error_count, 4 AS tool_count,
        1 AS batch_id, 1 AS publication FROM made""",
    """INSERT INTO spans BY NAME
    SELECT 't' || i AS trace_id, i || '-' || n AS span_id, CASE WHEN n > 0 THEN i || '-0' END AS parent_span_id,
        n AS ordinal, CASE n WHEN 0 THEN 'agent' ELSE 'tool' END AS kind,
        CASE n WHEN 0 THEN 'run' WHEN 1 THEN 'search' WHEN 4 THEN 'check'
            ELSE 'tool-' || (hash(i, n) % 10)::VARCHAR END AS name,
        moment + to_seconds(n::DOUBLE) AS started_at, 'ok' AS status,
        CASE WHEN n = 1 AND worded THEN '{"q": "item", "limit": "ten"}'
            WHEN hash(i, n, 3) % 4 = 0 THEN '{"q": "item ' || task || '", "limit": 10, "page": 2}'
            ELSE '{"q": "item ' || task || '", "limit": 10}' END AS input,
        'result ' || task AS output, 'bench' AS source, hash(i, n) AS content_hash, 1 AS batch_id, 1 AS publication
    FROM made, range(5) AS r(n) WHERE n < 4 OR NOT skipped""",
    """INSERT INTO reward_models
    SELECT 1, 'bench', now(), 1, count(*), count(*), '{}', 'bench', true FROM made""",
    """INSERT INTO rewards BY NAME
    SELECT 't' || i AS trace_id, 1 AS reward_model_id, 0.6 AS mean, 0.2 AS sd, 1 AS signals, outcome,
        0.3 AS outcome_sd
    FROM (SELECT i, 0.7 + 0.2 * ((hash(task, 5) % 100) / 100.0 - 0.5) - 0.2 * skipped::INTEGER
        - 0.15 * worded::INTEGER + 0.8 * ((hash(i, 6) >> 11) / 9007199254740992.0 - 0.5) AS outcome FROM made)""",
)


@dataclass(frozen=True)
class Figures:
    """Wall and processor seconds of a contrast alone and with reading and drafting, peak memory in MB, what was found.

    On a shared machine the processor seconds of both cores together say what the wall would be on a quiet one.
    """

    traces: int
    groups: int
    seconds: float
    processor_seconds: float
    peak_mb: float
    whole_seconds: float
    whole_processor_seconds: float
    whole_peak_mb: float
    tested: int
    findings: int


def build(path: Path, traces: int, groups: int) -> None:
    """Write the store."""
    store = Store.open(path, memory_limit="3GB")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(_MADE, {"traces": traces, "groups": groups, "tasks": _TASKS_PER_AGENT})
        for insert in _INSERTS:
            connection.execute(insert)
        connection.execute("DROP TABLE made")
        connection.execute("UPDATE store_meta SET value = value + 1 WHERE key = 'data_version'")

    store.write(work)
    store.close()


def measure(folder: Path, scale: int) -> Figures:
    """Contrast a `scale`-th of a million traces in a `scale`-th of 10,000 groups, each measure in its own process."""
    traces, groups = 1_000_000 // scale, max(10_000 // scale, _TASKS_PER_AGENT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "contrast.duckdb"
    build(path, traces, groups)
    alone(_written, str(path), str(folder))
    pure = alone(_compared, str(folder))
    whole = alone(_whole, str(path))
    return Figures(
        traces, groups, pure.value["seconds"], pure.value["processor"], pure.peak_mb, whole.value["seconds"],
        whole.value["processor"], whole.peak_mb, whole.value["tested"], whole.value["findings"],
    )  # fmt: skip


def causes(folder: Path, seeds: range) -> list[Recovered]:
    """What is recovered of the simulated deployments of these seeds."""
    found = []
    for seed in seeds:
        found.append(recovered(seed, folder / f"seed-{seed}"))
        print(found[-1], flush=True)
    return found


def _written(path: str, folder: str) -> None:
    store = Store.open(Path(path), memory_limit="2GB")
    rollouts = contrasts.rollouts(store)
    rollouts.write_parquet(f"{folder}/rollouts.parquet")
    job.read_calls(store, rollouts["trace_id"].to_list()).write_parquet(f"{folder}/calls.parquet")
    store.close()


def _compared(folder: str) -> dict[str, float]:
    rollouts, calls = pl.read_parquet(f"{folder}/rollouts.parquet"), pl.read_parquet(f"{folder}/calls.parquet")
    started, before = time.perf_counter(), time.process_time()
    contrast(rollouts, calls)
    return {"seconds": time.perf_counter() - started, "processor": time.process_time() - before}


def _whole(path: str) -> dict[str, float]:
    store = Store.open(Path(path), memory_limit="2GB")
    started, before = time.perf_counter(), time.process_time()
    examined = job.examine(store, ContrastConfig())
    store.close()
    if examined is None:
        raise RuntimeError("the store of the benchmark has no outcomes")
    agents = examined.found.agents
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - before,
        "tested": int(agents["tested"].sum()),
        "findings": int(agents["findings"].sum()),
    }
