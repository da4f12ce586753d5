"""Live data: cut into requests in any way, in any order and sent again, it gives what one file would have given."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import publisher, state

from pipelines.ingest.tables import table_of
from pipelines.live.intake import LiveIntake
from pipelines.live.prepare import Prepared
from store import live
from store.clock import FixedClock
from store.connection import Store
from store.errors import StoreError
from store.live import LiveReject

START = datetime(2026, 11, 1, tzinfo=UTC)
KINDS = {"spans": "spans", "traces": "trace_records", "signals": "signals"}


def _open():
    return Store.open(None, clock=FixedClock(START), threads=1)


def _request(rows):
    """(kind, row) pairs as a request: each is a record of its own."""
    numbered = {}
    for number, (kind, row) in enumerate(rows):
        numbered.setdefault(KINDS[kind], []).append((number, {"source": "test", **row}))
    return Prepared({kind: table_of(kind, each) for kind, each in numbered.items()}, len(rows))


def _by_file(publish, rows):
    publish(**{kind: [row for each, row in rows if each == kind] for kind in KINDS})


def _send(store, requests, *, at_once):
    """Send requests one by one, or all before the first is answered, so that they share transactions."""
    intake = LiveIntake(store)
    futures = []
    for rows in requests:
        future = intake.submit("test", _request(rows))
        if at_once:
            futures.append(future)
        else:
            future.result(30)
    intake.close()
    for future in futures:
        future.result(0)


def _maybe(strategy):
    return st.one_of(st.none(), strategy)


_traces = st.sampled_from(["a", "b", "c"])
_times = st.integers(0, 6).map(lambda minutes: START + timedelta(minutes=minutes))
_spans = st.fixed_dictionaries(
    {
        "trace_id": _traces,
        "span_id": st.sampled_from(["1", "2", "3", "4"]),
        "parent_span_id": _maybe(st.sampled_from(["1", "2", "3", "4", "never"])),
        "kind": st.sampled_from(["llm", "tool", "agent"]),
        "started_at": _maybe(_times),
        "ended_at": _maybe(_times),
        "status": _maybe(st.sampled_from(["ok", "error"])),
        "input": _maybe(st.sampled_from(["x", "long text", "ü"])),
        "input_tokens": _maybe(st.integers(0, 9)),
        "output_tokens": _maybe(st.integers(0, 9)),
        "cost_usd": _maybe(st.sampled_from([0.1, 0.2, 1e-7])),
        "attributes": _maybe(st.just({"k": [1, "ü"]})),
    }
)
_records = st.fixed_dictionaries({"trace_id": _traces, "user_id": _maybe(st.just("u")), "ended_at": _maybe(_times)})
_signals = st.fixed_dictionaries(
    {
        "signal_id": st.sampled_from(["s1", "s2", "s3"]),
        "trace_id": _maybe(_traces),
        "kind": st.just("thumb"),
        "value": st.sampled_from([0.0, 1.0]),
        "occurred_at": _maybe(_times),
    }
)
_rows = st.lists(
    st.one_of(
        st.tuples(st.just("spans"), _spans),
        st.tuples(st.just("spans"), _spans),
        st.tuples(st.just("traces"), _records),
        st.tuples(st.just("signals"), _signals),
    ),
    min_size=1,
    max_size=14,
)


def _cut(rows, cuts):
    bounds = sorted({0, *(cut % (len(rows) + 1) for cut in cuts), len(rows)})
    return [rows[lower:upper] for lower, upper in itertools.pairwise(bounds)]


def _state_by_file(rows, folder):
    """What a store holds that got everything in one file."""
    store = _open()
    _by_file(publisher(store, folder), rows)
    held = state(store)
    store.close()
    return held


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_order_and_resending_gives_what_one_slice_gives(data, tmp_path_factory):
    rows = data.draw(_rows)
    expected = _state_by_file(rows, tmp_path_factory.mktemp("live"))

    again = data.draw(st.lists(st.sampled_from(rows), max_size=5))
    requests = _cut(data.draw(st.permutations(rows + again)), data.draw(st.lists(st.integers(0, 20), max_size=5)))
    store = _open()
    _send(store, requests, at_once=data.draw(st.booleans()))
    assert state(store) == expected
    with store.read() as reader:
        counts = reader.any_frame("SELECT received, accepted, duplicate, rejected FROM ingest_batches").row(0)
    assert (counts[0], counts[3]) == (len(rows) + len(again), 0)
    assert counts[0] == counts[1] + counts[2] + counts[3]
    distinct = {(kind, repr(sorted(row.items(), key=str))) for kind, row in rows}
    assert counts[1] == len(distinct)
    store.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_half_by_file_and_half_live_gives_the_same_store(data, tmp_path_factory):
    rows = data.draw(_rows)
    folder = tmp_path_factory.mktemp("mixed")
    expected = _state_by_file(rows, folder / "one")

    again = data.draw(st.lists(st.sampled_from(rows), max_size=3))
    parts = _cut(data.draw(st.permutations(rows + again)), data.draw(st.lists(st.integers(0, 20), max_size=4)))
    store = _open()
    publish = publisher(store, folder / "mixed")
    for part in parts:
        if data.draw(st.booleans()):
            _by_file(publish, part)
        else:
            _send(store, [part], at_once=False)
    assert state(store) == expected
    store.close()


def _current(rows):
    """The version of each span that counts, by (trace, span); those that only the hash could rank are left out."""
    versions = {}
    for row in rows:
        versions.setdefault((row["trace_id"], row["span_id"]), []).append(row)
    floor = datetime.min.replace(tzinfo=UTC)
    kept = {}
    for key, each in versions.items():
        last = max(row["ended_at"] or floor for row in each)
        best = {repr(row): row for row in each if (row["ended_at"] or floor) == last}
        if len(best) > 1:
            return None
        kept[key] = next(iter(best.values()))
    return kept


def _rollup(spans):
    """Totals of one trace, computed span by span: what lies below goes before what a parent repeats."""

    def children(span):
        return [each for each in spans if each["parent_span_id"] == span["span_id"]]

    def total(name, *reports):
        counted = [
            span[name]
            for span in spans
            if span[name] is not None
            and not any(child[report] is not None for child in children(span) for report in reports)
        ]
        return sum(counted) if counted else None

    starts = [span["started_at"] for span in spans if span["started_at"] is not None]
    ends = [end for span in spans if (end := span["ended_at"] or span["started_at"]) is not None]
    return {
        "span_count": len(spans),
        "error_count": sum(span["status"] == "error" for span in spans),
        "tool_count": sum(span["kind"] == "tool" for span in spans),
        "input_tokens": total("input_tokens", "input_tokens", "output_tokens"),
        "output_tokens": total("output_tokens", "input_tokens", "output_tokens"),
        "started_at": min(starts, default=None),
        "ended_at": max(ends, default=None),
    }


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_rollup_is_what_the_spans_add_up_to(data):
    spans = data.draw(st.lists(_spans, min_size=1, max_size=12))
    kept = _current(spans)
    if kept is None:
        spans = [dict(row, span_id=str(number)) for number, row in enumerate(spans, start=1)]
        kept = _current(spans)
    store = _open()
    requests = _cut([("spans", row) for row in spans], data.draw(st.lists(st.integers(0, 20), max_size=4)))
    _send(store, requests, at_once=data.draw(st.booleans()))
    names = "span_count, error_count, tool_count, input_tokens, output_tokens, started_at, ended_at"
    with store.read() as reader:
        found = {
            row.pop("trace_id"): row for row in reader.any_frame(f"SELECT trace_id, {names} FROM traces").to_dicts()
        }
    store.close()
    traces = {trace for trace, _ in kept}
    expected = {trace: _rollup([row for (owner, _), row in kept.items() if owner == trace]) for trace in traces}
    assert found == expected


def test_rows_by_file_and_live_are_duplicates_of_each_other(tmp_path):
    """The content of a row hashes alike in a file of staging and in memory, whatever its columns hold."""
    span = {
        "trace_id": "t", "span_id": "1", "parent_span_id": "0", "ordinal": 3, "kind": "llm", "name": "ü\n",
        "model": "m", "started_at": START + timedelta(microseconds=1), "ended_at": START + timedelta(seconds=1),
        "status": "ok", "status_message": "", "input": "x" * 5_000, "output": "\u2028", "input_tokens": 2**40,
        "output_tokens": 0, "cost_usd": 1e-7, "attributes": {"a": [1, 2.5, None]}, "links": [{"trace_id": "q"}],
    }  # fmt: skip
    bare = {"trace_id": "t", "span_id": "2", "kind": "other"}
    signal = {"signal_id": "s", "trace_id": "t", "kind": "thumb", "value": -0.0, "position": 1, "solicited": False,
              "propensity": 0.1, "occurred_at": START, "metadata": {"k": "v"}}  # fmt: skip
    trace = {"trace_id": "t", "user_id": "u", "metadata": {"k": 1}}
    rows = [("spans", span), ("spans", bare), ("signals", signal), ("traces", trace)]
    for file_first in (True, False):
        store = _open()
        publish = publisher(store, tmp_path / str(file_first))
        if file_first:
            _by_file(publish, rows)
            before = state(store)
            _send(store, [rows], at_once=False)
            batch = live.last_seen(store).to_dicts()[0]
            assert (batch["received"], batch["accepted"], batch["duplicate"]) == (4, 0, 4)
        else:
            _send(store, [rows], at_once=False)
            before = state(store)
            kept = {kind: [row for each, row in rows if each == kind] for kind in KINDS}
            published = publish(**kept)
            assert (published.records, published.spans, published.signals) == (0, 0, 0)
        assert state(store) == before
        store.close()


def test_a_day_and_source_has_one_batch_and_rejects_are_numbered_through(clock, store):
    for _ in range(2):
        rejects = [LiveReject("spans[1]", "no id"), LiveReject("w" * 900, "r" * 9_000)]
        live.commit(store, [live.LiveRows("a", {}, 3, rejects), live.LiveRows("b", {}, 0)])
    with store.read() as reader:
        assert reader.any_frame(
            "SELECT source, file_name, state, received, rejected, duplicate FROM ingest_batches ORDER BY 1"
        ).rows() == [("a", "live 2026-11-20", "done", 6, 4, 2), ("b", "live 2026-11-20", "done", 0, 0, 0)]
        rejects = reader.any_frame(
            "SELECT record_no, length(column_name), length(reason) FROM ingest_rejects ORDER BY 1"
        ).rows()
    assert rejects == [(1, 8, 5), (2, 500, 2000), (4, 8, 5), (5, 500, 2000)]
    assert {row["source"] for row in live.last_seen(store).to_dicts()} == {"a", "b"}


def test_a_new_day_begins_a_new_batch(tmp_path):
    clock = FixedClock(START)
    store = Store.open(tmp_path / "t.duckdb", clock=clock, threads=1)
    live.commit(store, [live.LiveRows("a", {}, 1, [LiveReject("x", "y")])])
    clock.moment = START + timedelta(days=1)
    live.commit(store, [live.LiveRows("a", {}, 2, [LiveReject("x", "y")] * 2)])
    seen = live.last_seen(store).to_dicts()
    assert [(row["batch_id"], row["received"], row["last_seen"]) for row in seen] == [(2, 2, clock.now())]
    store.close()


def test_nothing_is_applied_of_groups_of_which_one_fails(store):
    spans = _request([("spans", {"trace_id": "t", "span_id": "1", "kind": "llm"})]).tables["spans"]
    spans = spans.append_column("file_row_number", spans.column("record_no"))
    before = state(store)
    groups = [live.LiveRows("a", {"spans": spans}, 1), live.LiveRows("b", {"spans": spans.drop_columns(["kind"])}, 1)]
    with pytest.raises(StoreError, match="kind"):
        live.commit(store, groups)
    assert state(store) == before
    assert live.last_seen(store).is_empty()
