"""Queries of the pages on a store of a million and more spans: each asked many times, on varying users and traces."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from bench.data import later, spans_file
from bench.measure import quantile
from pipelines.ingest.load import load
from store import overview, search, spans, traces
from store.connection import Store
from store.scope import Scope, TraceFilter

_USERS = 20_000
_FILE_SPANS = 1_000_000


def filled(work: Path, count: int) -> Path:
    """A store of `count` spans, loaded a million at a time; made once."""
    target = work / f"pages-{count}.duckdb"
    if target.exists():
        return target
    draft = work / f"pages-{count}.part.duckdb"
    store = Store.open(draft)
    first = spans_file(work, "parquet", min(_FILE_SPANS, count), users=_USERS)
    load(store, first)
    for part in range(1, count // _FILE_SPANS):
        file = later(first, part, work / "later.parquet")
        load(store, file)
        file.unlink()
    store.close()
    draft.rename(target)
    return target


def queries(path: str, repeats: int) -> dict[str, tuple[float, float]]:
    """(p50, p95) in milliseconds of each query of the pages."""
    store = Store.open(Path(path))
    chance = random.Random(1)
    everything = Scope()
    newest = traces.page(store, TraceFilter(), limit=1).rows["seen_at"].to_list()[0]
    month = Scope(newest - timedelta(days=30), newest + timedelta(seconds=1))
    ids = traces.page(store, TraceFilter(), limit=1000).rows["trace_id"].to_list()

    def user() -> TraceFilter:
        return TraceFilter(everything, user_id=f"user-{chance.randrange(_USERS)}")

    asked: dict[str, Callable[[], object]] = {
        "latest 50 traces": lambda: traces.page(store, TraceFilter(everything), limit=50),
        "latest 50 of one user": lambda: traces.page(store, user(), limit=50),
        "one trace": lambda: traces.one(store, chance.choice(ids)),
        "its spans": lambda: spans.of_trace(store, chance.choice(ids)),
        "headline of 30 days": lambda: overview.headline(store, month),
        "per-day counts and percentiles": lambda: overview.per_bucket(store, month, "day"),
        "full text, a common word": lambda: search.find(store, "warehouse", TraceFilter(everything)),
        "full text, a word that is nowhere": lambda: search.find(store, "zeppelin", TraceFilter(everything)),
    }
    answer = {}
    for name, ask in asked.items():
        times = []
        for _ in range(max(5, repeats // 10) if name.startswith("full text") else repeats):
            started = time.perf_counter()
            ask()
            times.append((time.perf_counter() - started) * 1000)
        answer[name] = (quantile(times, 0.5), quantile(times, 0.95))
    store.close()
    return answer
