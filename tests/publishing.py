"""Rows into a store by way of staging, as loading does it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.ingest.staging import SliceWriter, slice_file
from store.connection import Store
from store.publish import Published, Slice, publish_slice
from store.tombstones import key_of

Publish = Callable[..., Published]


def publisher(store: Store, folder: Path) -> Publish:
    """A function that stages rows in `folder` and publishes them as one slice."""
    count = 0

    def run(
        *,
        traces: Sequence[dict[str, Any]] = (),
        spans: Sequence[dict[str, Any]] = (),
        signals: Sequence[dict[str, Any]] = (),
    ) -> Published:
        nonlocal count
        count += 1
        paths = {}
        with SliceWriter(folder / "slices") as writer:
            for kind, rows in (("trace_records", traces), ("spans", spans), ("signals", signals)):
                numbered = [(row.get("record_no", i), {"source": "test", **row}) for i, row in enumerate(rows, start=1)]
                if writer.rows(count, kind, numbered):
                    paths[kind] = slice_file(folder / "slices", count, kind)
        moment = store.clock.now()
        staged = Slice(paths.get("trace_records"), paths.get("spans"), paths.get("signals"))
        return store.write(lambda connection: publish_slice(connection, 1, moment, staged, lambda: key_of(store)))

    return run


# Every table that must not depend on order; batch ids and the time of receipt do, by their meaning.
_STATE = {
    "traces": "* EXCLUDE (batch_id, seen_at, publication)",
    "trace_records": "* EXCLUDE (batch_id, publication)",
    "spans": "* EXCLUDE (batch_id, publication)",
    "signals": "* EXCLUDE (batch_id, publication)",
    "superseded_spans": "* EXCLUDE (batch_id, publication)",
    "superseded_signals": "* EXCLUDE (batch_id, publication)",
}


def state(store):
    """All rows of all fact tables and the rollup, sorted."""
    with store.read() as reader:
        return {
            table: sorted(map(repr, reader.any_frame(f"SELECT {columns} FROM {table}").rows()))
            for table, columns in _STATE.items()
        }
