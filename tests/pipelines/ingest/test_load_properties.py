"""Whatever the rows: files loaded whole, twice, in parts, in any order and in any chunks give the same store."""

import contextlib
import itertools
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loading import CONTAINERS, loaded, staged, write_rows
from publishing import state

from pipelines.ingest.load import load
from store import batches
from store.connection import Store
from store.errors import IngestCancelled

_FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _maybe(strategy):
    return st.none() | strategy


_traces = st.sampled_from(["a", "b", "c"])
_times = st.sampled_from(
    ["2026-11-01T00:00:00Z", "2026-11-01T00:00:00.5+02:00", "2026-11-01 00:03:00", "2026-11-02", "soon"]
)
_texts = st.sampled_from(["x", "y\nz", 'say "hi"', "ü 👍", "a,b;c\td", "null", "1"])
_objects = st.dictionaries(st.sampled_from(["k", "odd", "n"]), st.integers(0, 2) | st.none() | _texts, max_size=2)
_anything = _maybe(st.integers(0, 3) | _texts | st.lists(st.integers(0, 1), max_size=2))

_SPANS = st.fixed_dictionaries(
    {
        "trace_id": _traces,
        "span_id": _maybe(st.sampled_from(["1", "2", "3"])),
        "kind": st.sampled_from(["llm", "tool", "agent"]),
        "name": _maybe(_texts),
    },
    optional={
        "parent_span_id": _maybe(st.sampled_from(["1", "2", "3", "gone"])),
        "started_at": _maybe(_times),
        "ended_at": _maybe(_times),
        "status": _maybe(st.sampled_from(["ok", "error", "what"])),
        "input": _maybe(_texts),
        "input_tokens": _maybe(st.integers(-1, 3)),
        "cost_usd": _maybe(st.sampled_from([0.1, 0.2, 0.3, 1e-7])),
        "attributes": _maybe(_objects),
        "user_id": _maybe(_texts),
        "odd": _anything,
        "Odd": _anything,
    },
)
_TRACES = st.fixed_dictionaries(
    {"trace_id": _maybe(_traces), "input": _maybe(_texts)},
    optional={
        "output": _maybe(_texts),
        "started_at": _maybe(_times),
        "ended_at": _maybe(_times),
        "status": _maybe(st.sampled_from(["ok", "error"])),
        "output_tokens": _maybe(st.integers(0, 3)),
        "metadata": _maybe(_objects),
        "odd": _anything,
    },
)
_SIGNALS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["thumb", "comment", "rumour"]), "value": _maybe(st.sampled_from([0, 1, 7]))},
    optional={
        "trace_id": _maybe(_traces),
        "signal_id": _maybe(st.sampled_from(["s1", "s2"])),
        "text": _maybe(_texts),
        "occurred_at": _maybe(_times),
        "metadata": _maybe(_objects),
        "odd": _anything,
    },
)
# The first row of each file shows what it is a file of.
_FIRST = {
    "spans": {"trace_id": "a", "span_id": "1", "kind": "llm", "name": "n", "started_at": None, "odd": None},
    "traces": {"trace_id": "a", "input": "i", "started_at": None, "metadata": None, "odd": None},
    "signals": {"trace_id": "a", "kind": "thumb", "value": 1, "text": None, "occurred_at": None, "odd": None},
}


@st.composite
def _files(draw):
    """(kind, container, rows): a file in our own layout with some rows that have to be rejected."""
    kind, rows = draw(
        st.sampled_from([("spans", _SPANS), ("traces", _TRACES), ("signals", _SIGNALS)]).flatmap(
            lambda pair: st.tuples(st.just(pair[0]), st.lists(pair[1], min_size=1, max_size=8))
        )
    )
    return kind, draw(st.sampled_from(CONTAINERS)), [_FIRST[kind], *rows]


def _write(folder: Path, number: int, file: tuple, rows: list[dict] | None = None) -> Path:
    """A file; its parts have the columns of the whole where the container has columns."""
    kind, container, whole = file
    columns = list(dict.fromkeys(key for row in whole for key in row))
    if container == "parquet":
        # One type a column, whatever part of the rows is written.
        texts = [{key: row[key] if row[key] is None else str(row[key]) for key in row} for row in rows or whole]
        return write_rows(folder, f"{kind}{number}.{container}", texts, columns)
    return write_rows(folder, f"{kind}{number}.{container}", rows or whole, columns)


def _state_after(paths: list[Path], **options) -> dict:
    store = Store.open(None, threads=1)
    try:
        for path in paths:
            loaded(store, path, **options)
        return state(store)
    finally:
        store.close()


@_FEW
@given(st.lists(_files(), min_size=1, max_size=2), st.data())
def test_the_store_depends_on_the_rows_alone(files, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [_write(folder, number, file) for number, file in enumerate(files)]
        wanted = _state_after(paths)
        chunk_bytes = data.draw(st.integers(1, 400), "chunk_bytes")
        assert _state_after([*reversed(paths), *paths], chunk_bytes=chunk_bytes) == wanted
        parts = []
        for file in files:
            kind, _, rows = file
            cut = data.draw(st.integers(1, len(rows) - 1), "cut")
            parts += [(file, rows[:cut]), (file, [_FIRST[kind], *rows[cut:]])]
        parts = data.draw(st.permutations(parts), "order")
        cuts = [_write(folder, number, file, rows) for number, (file, rows) in enumerate(parts, start=10)]
        assert _state_after(cuts) == wanted


@_FEW
@given(_files(), _files(), st.data())
def test_a_cancelled_load_leaves_no_trace(earlier, file, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(folder / "store" / "t.duckdb", threads=1)
        try:
            loaded(store, _write(folder, 0, earlier))
            before = state(store)
            path = _write(folder, 1, file)
            asked = itertools.count()
            moment = data.draw(st.integers(0, 3), "moment")
            # Files of one chunk are asked about twice only.
            with contextlib.suppress(IngestCancelled):
                load(store, path, cancelled=lambda: next(asked) >= moment, chunk_bytes=200)
            batch = batches.recent(store).to_dicts()[0]
            if batch["state"] != "done":
                assert batch["state"] == "cancelled"
                assert (batch["received"], batch["error"]) == (
                    0,
                    f"Loading {path.name} was cancelled; nothing of it was applied.",
                )
                assert state(store) == before
            assert staged(store) == []
            loaded(store, path)
            assert state(store) == _state_after([folder / f"{earlier[0]}0.{earlier[1]}", path])
        finally:
            store.close()
