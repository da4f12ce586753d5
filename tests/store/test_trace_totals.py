"""What spans and statements add up to, against the same rules written trace by trace in plain Python."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import trace_totals
from store.trace_totals import RECORDS, SPANS, STATED

_START = datetime(2026, 11, 1, tzinfo=UTC)
_times = st.none() | st.integers(0, 4).map(lambda seconds: _START + timedelta(seconds=seconds))
_few = st.none() | st.sampled_from(["x", "y", "ü"])
_tokens = st.none() | st.integers(0, 9)
_ids = st.sampled_from(["1", "2", "3", "4", "5"])

_span = st.fixed_dictionaries(
    {
        "parent_span_id": st.none() | _ids | st.just("never came"),
        "ordinal": st.none() | st.integers(0, 2),
        "kind": st.sampled_from(["llm", "tool", "agent", "other"]),
        "name": _few,
        "started_at": _times,
        "ended_at": _times,
        "status": st.sampled_from([None, "ok", "error"]),
        "model": _few,
        "input_tokens": _tokens,
        "output_tokens": _tokens,
        "cost_usd": st.sampled_from([None, 0.1, 0.2, 1e-7, 3e-13, 1e16, float("inf"), float("nan")]),
        "source": st.sampled_from(["a", "b"]),
        **dict.fromkeys(STATED, _few),
        "has_input": st.booleans(),
        "has_output": st.booleans(),
    }
)
_spans = st.dictionaries(st.tuples(st.sampled_from(["t", "u", "ü"]), _ids), _span, min_size=1, max_size=12)


def _first(values):
    return next((value for value in values if value is not None), None)


def _sum(values):
    given = [value for value in values if value is not None]
    return sum(given) if given else None


def _cost(span):
    cost = span["cost_usd"]
    return None if cost is None or not abs(cost) < 1e16 else Decimal(round(cost * 1e12)).scaleb(-12)


def _expected(spans):
    """The totals of one trace."""
    steps = sorted(
        spans,
        key=lambda s: (
            s["started_at"] is None, s["started_at"] or _START, s["ordinal"] is None, s["ordinal"] or 0, s["span_id"],
        ),
    )  # fmt: skip
    ids = {step["span_id"] for step in steps}
    orphans = [step for step in steps if step["parent_span_id"] not in ids]
    root = (orphans or steps)[0]
    calls = [step for step in steps if step["kind"] == "llm"] or [root]
    said = {step["parent_span_id"] for step in steps if (step["input_tokens"], step["output_tokens"]) != (None, None)}
    paid = {step["parent_span_id"] for step in steps if _cost(step) is not None}
    models = [step for step in steps if step["model"] is not None]
    most = max(models, key=lambda s: (s["input_tokens"] or 0) + (s["output_tokens"] or 0), default={"model": None})
    ends = [end for step in steps if (end := step["ended_at"] or step["started_at"]) is not None]
    cost = _sum(_cost(step) for step in steps if step["span_id"] not in paid)
    return {
        "trace_id": root["trace_id"],
        "source": root["source"],
        **{column: _first(step[column] for step in steps) for column in STATED},
        "agent_span_name": _first(step["name"] for step in steps if step["kind"] == "agent"),
        "model": most["model"],
        "started_at": min((step["started_at"] for step in steps if step["started_at"]), default=None),
        "ended_at": max(ends, default=None),
        "input_tokens": _sum(step["input_tokens"] for step in steps if step["span_id"] not in said),
        "output_tokens": _sum(step["output_tokens"] for step in steps if step["span_id"] not in said),
        "cost_usd": None if cost is None else float(cost),
        "span_count": len(steps),
        "error_count": sum(step["status"] == "error" for step in steps),
        "tool_count": sum(step["kind"] == "tool" for step in steps),
        "last_status": steps[-1]["status"],
        "root_status": root["status"] if len(orphans) == 1 else None,
        "root_name": root["name"],
        "opening": (root if root["has_input"] else calls[0])["row"],
        "closing": (root if root["has_output"] else calls[-1])["row"],
    }


@settings(max_examples=150, deadline=None)
@given(_spans, st.randoms(use_true_random=False))
def test_totals_of_spans_in_any_order(spans, chance):
    rows = [
        {"row": -1 - number, "trace_id": trace, "span_id": span, **fields}
        for number, ((trace, span), fields) in enumerate(spans.items())
    ]
    expected = [_expected([row for row in rows if row["trace_id"] == trace]) for trace in {key[0] for key in spans}]
    chance.shuffle(rows)
    found = trace_totals.of_spans(pl.DataFrame(rows, schema=SPANS))
    assert sorted(found.to_dicts(), key=lambda row: row["trace_id"]) == sorted(expected, key=lambda r: r["trace_id"])


def test_no_spans_add_up_to_nothing():
    assert trace_totals.of_spans(SPANS.to_frame()).is_empty()
    assert trace_totals.of_records(RECORDS.to_frame()).is_empty()


@pytest.mark.parametrize("tokens", [2**62, 2**63 - 1])
def test_a_sum_too_large_for_its_column_is_the_largest_that_fits(tokens):
    rows = [
        {"row": n, "trace_id": "t", "span_id": str(n), "kind": "llm", "source": "a", "input_tokens": tokens,
         "has_input": False, "has_output": False}
        for n in range(3)
    ]  # fmt: skip
    assert trace_totals.of_spans(pl.DataFrame(rows, schema=SPANS))["input_tokens"].to_list() == [2**63 - 1]


_record = st.fixed_dictionaries(
    {
        "trace_id": st.sampled_from(["t", "u"]),
        "source": st.sampled_from(["a", "b"]),
        **dict.fromkeys((*STATED, "model", "status", "input", "output", "metadata"), _few),
        "started_at": _times,
        "ended_at": _times,
        "input_tokens": _tokens,
        "output_tokens": _tokens,
        "cost_usd": st.sampled_from([None, 0.5]),
    }
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_record, max_size=6))
def test_of_several_statements_the_latest_that_says_it_counts(records):
    rows = [{**record, "content_hash": number} for number, record in enumerate(records)]
    latest_first = sorted(
        rows,
        key=lambda row: (row["ended_at"] is not None, row["ended_at"] or _START, row["content_hash"]),
        reverse=True,
    )
    fields = [column for column in RECORDS.names() if column not in ("trace_id", "content_hash")]
    expected = [
        {"trace_id": trace}
        | {field: _first(row[field] for row in latest_first if row["trace_id"] == trace) for field in fields}
        for trace in sorted({row["trace_id"] for row in rows})
    ]
    assert trace_totals.of_records(pl.DataFrame(rows[::-1], schema=RECORDS)).to_dicts() == expected
