"""Full-text search over what went into and came out of traces and spans, newest rows first, within a time budget.

There is no index: a scan of everything takes seconds on a large store. So it goes through blocks of rows from the
newest backwards and says how far it came, which is exact for what it covered.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from store.connection import Store
from store.errors import QueryTimeout
from store.frames import Reader
from store.scope import Params, TraceFilter, filter_conditions, source, where

# Two of DuckDB's row groups: small enough to stop within a fraction of a second, large enough to use both cores.
BLOCK_ROWS = 245_760

_COLUMNS = {"trace_records": ("input", "output"), "spans": ("input", "output", "status_message")}
_IDS = pl.Schema({"trace_id": pl.String})


@dataclass(frozen=True)
class Found:
    """Traces that hold a text, and how much was looked at.

    `trace_ids` newest rows first; `rows` and `rows_total` count statements and spans; `cut` says why the search ended
    early: "time" when the budget was spent, "matches" when there were more than can be listed, None when it did not.
    """

    trace_ids: tuple[str, ...]
    rows: int
    rows_total: int
    seconds: float
    cut: str | None


def find(
    store: Store,
    text: str,
    wanted: TraceFilter,
    *,
    budget: float = 0.8,
    most: int = 5_000,
    block_rows: int = BLOCK_ROWS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Found:
    """Traces that pass the filter and hold `text`, upper and lower case alike, in an input, an output or an error.

    Args: `budget` in seconds; `most` traces to return; `monotonic` a clock in seconds.
    """
    conditions, params = filter_conditions(wanted)
    candidates = f"SEMI JOIN (SELECT t.trace_id FROM {source(wanted)} {where(conditions)}) USING (trace_id)"
    started = monotonic()
    found: dict[str, None] = {}
    rows = rows_total = 0
    cut: str | None = None
    with store.read(timeout=budget) as reader:
        sizes = {table: _rows(reader, table) for table in _COLUMNS}
        rows_total = sum(sizes.values())
        for table, low, high in _blocks(sizes, block_rows):
            if monotonic() - started > budget:
                cut = "time"
                break
            try:
                ids = _matches(reader, table, candidates if conditions else "", {**params, "text": text}, low, high)
            except QueryTimeout:
                cut = "time"
                break
            rows += high - low
            found.update(dict.fromkeys(ids))
            if len(found) > most:
                cut = "matches"
                break
    return Found(tuple(found)[:most], rows, rows_total, monotonic() - started, cut)


def _rows(reader: Reader, table: str) -> int:
    # Deleted rows leave gaps in the row numbers, so this is an upper bound; it costs nothing.
    last = reader.value(f"SELECT max(rowid) FROM {table}")
    return int(str(last)) + 1 if last is not None else 0


def _blocks(sizes: dict[str, int], block_rows: int) -> Iterator[tuple[str, int, int]]:
    for table, size in sizes.items():
        for high in range(size, 0, -block_rows):
            yield table, max(0, high - block_rows), high


def _matches(reader: Reader, table: str, candidates: str, params: Params, low: int, high: int) -> list[str]:
    # contains(lower(..)) is three times as fast as ILIKE and needs no escaping.
    holds = " OR ".join(f"contains(lower({column}), lower($text))" for column in _COLUMNS[table])
    frame = reader.frame(
        f"""SELECT trace_id FROM {table} {candidates}
        WHERE {table}.rowid >= $low AND {table}.rowid < $high AND ({holds})
        GROUP BY trace_id ORDER BY max({table}.rowid) DESC""",
        _IDS,
        {**params, "low": low, "high": high},
    )
    return frame["trace_id"].to_list()
