"""Publishing: idempotent, independent of order and of how rows are cut into slices."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import publisher, state

from store.clock import FixedClock
from store.connection import Store

START = datetime(2026, 11, 1, tzinfo=UTC)


def _maybe(strategy):
    return st.one_of(st.none(), strategy)


_ids = st.sampled_from(["a", "b", "c"])
_times = st.integers(0, 5).map(lambda minutes: START + timedelta(minutes=minutes))
_words = st.sampled_from(["x", "y", "long text", "ü"])

_spans = st.fixed_dictionaries(
    {
        "trace_id": _ids,
        "span_id": st.sampled_from(["1", "2", "3"]),
        "parent_span_id": _maybe(st.sampled_from(["1", "2", "3", "gone"])),
        "kind": st.sampled_from(["llm", "tool", "agent"]),
        "name": _maybe(_words),
        "started_at": _maybe(_times),
        "ended_at": _maybe(_times),
        "status": _maybe(st.sampled_from(["ok", "error"])),
        "input": _maybe(_words),
        "input_tokens": _maybe(st.integers(0, 9)),
        "cost_usd": _maybe(st.sampled_from([0.1, 0.2, 0.3, 1e-7])),
        "agent": _maybe(_words),
        "model": _maybe(_words),
    }
)
_traces = st.fixed_dictionaries(
    {"trace_id": _ids, "user_id": _maybe(_words), "ended_at": _maybe(_times), "input": _maybe(_words),
     "status": _maybe(st.sampled_from(["ok", "error"])), "cost_usd": _maybe(st.floats(0, 5))}
)  # fmt: skip
_signals = st.fixed_dictionaries(
    {"signal_id": st.sampled_from(["s1", "s2", "s3"]), "trace_id": _maybe(_ids), "kind": st.just("thumb"),
     "value": _maybe(st.sampled_from([0.0, 1.0])), "occurred_at": _maybe(_times)}
)  # fmt: skip

_rows = st.lists(
    st.one_of(
        st.tuples(st.just("spans"), _spans),
        st.tuples(st.just("traces"), _traces),
        st.tuples(st.just("signals"), _signals),
    ),
    max_size=12,
)


def _publish_all(rows, cuts, folder):
    store = Store.open(None, clock=FixedClock(START), threads=1)
    publish = publisher(store, folder)
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for lower, upper in itertools.pairwise(bounds):
        part = {"spans": [], "traces": [], "signals": []}
        for kind, row in rows[lower:upper]:
            part[kind].append(row)
        publish(**part)
    answer = state(store)
    store.close()
    return answer


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_any_cut_and_any_repetition_give_the_same_store(data, tmp_path_factory):
    rows = data.draw(_rows)
    folder = tmp_path_factory.mktemp("publish")
    once = _publish_all(rows, [], folder)
    repeated = data.draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    shuffled = data.draw(st.permutations(rows + repeated))
    cuts = data.draw(st.lists(st.integers(0, 20), max_size=3))
    assert _publish_all(shuffled, cuts, folder) == once


def test_counts_separate_new_from_known(publish):
    spans = [{"trace_id": "t", "span_id": str(i), "kind": "llm"} for i in range(5)]
    first = publish(spans=spans)
    assert (first.records, first.traces, first.spans) == (5, 1, 5)
    again = publish(spans=[*spans, {"trace_id": "t", "span_id": "6", "kind": "llm"}])
    assert (again.records, again.traces, again.spans) == (1, 0, 1)


def test_a_later_version_supersedes_and_the_earlier_one_is_kept(publish, store):
    begun = {"trace_id": "t", "span_id": "1", "kind": "llm", "started_at": START}
    ended = {**begun, "ended_at": START + timedelta(seconds=3), "output": "done"}
    publish(spans=[ended])
    publish(spans=[begun])
    with store.read() as reader:
        assert reader.value("SELECT output FROM spans") == "done"
        assert reader.value("SELECT count(*) FROM superseded_spans WHERE output IS NULL") == 1
    assert publish(spans=[begun, ended]).records == 0


def test_one_record_with_several_rows_counts_once(publish):
    rows = [{"signal_id": f"s{i}", "kind": "click", "record_no": 1} for i in range(3)]
    published = publish(signals=rows)
    assert (published.records, published.signals) == (1, 3)
