"""Lists of traces against a plain Python filter and sort of the same rows."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import traces
from store.errors import NotFound, QueryTimeout
from store.scope import Scope, TraceFilter, like_pattern

START = datetime(2026, 11, 1, tzinfo=UTC)


def _row(i):
    """A trace with ties in every sort key and gaps in every optional column."""
    return {
        "trace_id": f"t{i:02d}",
        "agent": ("desk", "shop", None)[i % 3],
        "user_id": f"u{i % 4}",
        "session_id": f"s{i % 5}",
        "task": "refund 10%" if i % 2 else "refund_10x",
        "arm": "a" if i % 2 else "b",
        "model": "m1" if i % 3 else "m2",
        "started_at": START + timedelta(hours=i // 2),
        "ended_at": None if i % 5 == 0 else START + timedelta(hours=i // 2, seconds=i % 7),
        "status": ("ok", "error")[i % 4 == 0],
        "cost_usd": None if i % 6 == 0 else (i % 3) / 10,
        "input": f"question {i}",
        "output": f"answer {i}",
    }


ROWS = [_row(i) for i in range(24)]
REWARDS = {f"t{i:02d}": ((i * 7) % 5 / 5, 0.1, i % 3) for i in range(24) if i % 4}


@pytest.fixture
def filled(store, publish):
    """24 traces; a model that is active and one that is not; signals that name their trace and ones that are linked."""
    publish(
        traces=ROWS,
        spans=[
            {"trace_id": "t03", "span_id": "x", "kind": "tool", "status": "error"},
            {"trace_id": "t05", "span_id": "x", "kind": "llm", "status": "error"},
            {"trace_id": "t05", "span_id": "y", "kind": "tool", "status": "ok"},
        ],
        signals=[
            {"signal_id": "1", "trace_id": "t01", "kind": "thumb", "value": 1.0},
            {"signal_id": "2", "trace_id": "t01", "kind": "comment", "text": "fine"},
            {"signal_id": "3", "trace_id": "t02", "kind": "click", "value": 1.0},
            {"signal_id": "4", "session_id": "s4", "kind": "rating", "value": 0.5},
        ],
    )

    def work(connection):
        connection.execute("INSERT INTO signal_links VALUES ('4', 't04', 'session')")
        for model, active in ((1, False), (2, True)):
            connection.execute(
                "INSERT INTO reward_models VALUES ($m, 'test', $now, 1, 1, 1, '{}', 'test', $active)",
                {"m": model, "now": START, "active": active},
            )
        for trace_id, (mean, sd, signals) in REWARDS.items():
            connection.execute("INSERT INTO rewards VALUES ($t, 2, $m, $s, $n, NULL, NULL)",
                               {"t": trace_id, "m": mean, "s": sd, "n": signals})  # fmt: skip
            connection.execute("INSERT INTO rewards VALUES ($t, 1, 0.99, 0.5, 9, NULL, NULL)", {"t": trace_id})

    store.write(work)
    return store


EVERYTHING = TraceFilter()


def _ids(store, wanted=EVERYTHING, **how):
    return traces.page(store, wanted, **how).rows["trace_id"].to_list()


def _seconds(row):
    return -1.0 if row["ended_at"] is None else (row["ended_at"] - row["started_at"]).total_seconds()


ORACLES = {
    "latest": (lambda r: r["started_at"], True),
    "oldest": (lambda r: r["started_at"], False),
    "longest": (_seconds, True),
    "costliest": (lambda r: -1 if r["cost_usd"] is None else r["cost_usd"], True),
    "lowest reward": (lambda r: REWARDS.get(r["trace_id"], (float("inf"),))[0], False),
    "highest reward": (lambda r: REWARDS.get(r["trace_id"], (float("-inf"),))[0], True),
}


@pytest.mark.parametrize("sort", ORACLES)
def test_each_sort_is_the_sort_of_the_rows_and_pages_do_not_overlap(filled, sort):
    key, reverse = ORACLES[sort]
    expected = [r["trace_id"] for r in sorted(ROWS, key=lambda r: (key(r), r["trace_id"]), reverse=reverse)]
    paged = [i for offset in range(0, 24, 7) for i in _ids(filled, sort=sort, limit=7, offset=offset)]
    assert paged == expected


@pytest.mark.parametrize("sort", traces.SORTS)
def test_neighbours_are_the_rows_beside_it_in_the_list(filled, sort):
    wanted = TraceFilter(Scope(agents=("desk", "shop")))
    listed = _ids(filled, wanted, sort=sort)
    for place, trace_id in enumerate(listed):
        found = traces.neighbours(filled, wanted, trace_id, sort=sort)
        assert found.previous == (listed[place - 1] if place else None)
        assert found.following == (listed[place + 1] if place + 1 < len(listed) else None)
        assert (found.place, found.total) == (place + 1, len(listed))


def test_a_trace_outside_the_list_has_no_place_in_it(filled):
    found = traces.neighbours(filled, TraceFilter(Scope(agents=("desk",))), "t01")
    assert found.place is None
    assert found.total == 8


CASES = {
    "range": (TraceFilter(Scope(START + timedelta(hours=2), START + timedelta(hours=4))), {"t04", "t05", "t06", "t07"}),
    "agents": (TraceFilter(Scope(agents=("desk",))), {r["trace_id"] for r in ROWS if r["agent"] == "desk"}),
    "arm and model": (
        TraceFilter(Scope(arms=("a",), models=("m2",))),
        {r["trace_id"] for r in ROWS if r["arm"] == "a" and r["model"] == "m2"},
    ),
    "user": (TraceFilter(user_id="u1"), {r["trace_id"] for r in ROWS if r["user_id"] == "u1"}),
    "user prefix": (TraceFilter(user_id="u*"), {r["trace_id"] for r in ROWS}),
    "session": (TraceFilter(session_id="s3"), {r["trace_id"] for r in ROWS if r["session_id"] == "s3"}),
    "percent is literal": (TraceFilter(task="*10%*"), {r["trace_id"] for r in ROWS if "%" in r["task"]}),
    "underscore is literal": (TraceFilter(task="refund_*"), {r["trace_id"] for r in ROWS if "_" in r["task"]}),
    "status": (TraceFilter(status="error"), {r["trace_id"] for r in ROWS if r["status"] == "error"}),
    "cost": (TraceFilter(min_cost_usd=0.2), {r["trace_id"] for r in ROWS if (r["cost_usd"] or 0) >= 0.2}),
    "duration": (TraceFilter(min_seconds=5), {r["trace_id"] for r in ROWS if _seconds(r) >= 5}),
    "tool error": (TraceFilter(tool_error=True), {"t03"}),
    "feedback": (TraceFilter(feedback=True), {"t01", "t04"}),
    "reward": (TraceFilter(reward_below=0.3), {t for t, (mean, _, _) in REWARDS.items() if mean < 0.3}),
    "ids": (TraceFilter(trace_ids=("t01", "t99")), {"t01"}),
    "no ids": (TraceFilter(trace_ids=()), set()),
    "hostile": (TraceFilter(user_id="u1' OR 'a'='a"), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_each_filter_lets_through_what_it_says(filled, case):
    wanted, expected = CASES[case]
    page = traces.page(filled, wanted)
    assert set(page.rows["trace_id"]) == expected
    assert page.total == traces.count(filled, wanted) == len(expected)


def test_a_row_carries_its_reward_of_the_active_model_and_its_feedback(filled):
    rows = {row["trace_id"]: row for row in traces.page(filled, TraceFilter()).rows.to_dicts()}
    assert (rows["t01"]["reward"], rows["t01"]["reward_sd"], rows["t01"]["reward_signals"]) == REWARDS["t01"]
    assert rows["t04"]["reward"] is None
    assert (rows["t01"]["feedback"], rows["t02"]["feedback"], rows["t04"]["feedback"]) == (2, 0, 1)
    assert rows["t06"]["seconds"] == 6.0
    assert rows["t05"]["seconds"] is None


def test_one_trace_comes_with_everything(filled):
    row = traces.one(filled, "t01").to_dicts()[0]
    assert row["input"] == "question 1"
    assert row["feedback"] == 2
    assert "decision_id" in row


def test_a_trace_that_is_not_there_is_named(filled):
    with pytest.raises(NotFound, match="'nobody'"):
        traces.one(filled, "nobody")


def test_texts_are_the_latest_statement_cut_where_asked(filled, publish):
    publish(traces=[{"trace_id": "t01", "ended_at": START + timedelta(days=9), "output": "é" * 10}])
    frame = traces.texts(filled, "t01", max_characters=4)
    assert frame.to_dicts() == [{"input": "ques", "output": "éééé", "input_characters": 10, "output_characters": 10}]


def test_a_trace_without_statements_has_no_texts(store, publish):
    publish(spans=[{"trace_id": "t", "span_id": "1", "kind": "llm", "input": "x"}])
    assert traces.texts(store, "t").is_empty()


def test_rollouts_are_the_runs_of_one_agents_task(filled):
    page = traces.rollouts(filled, "refund_10x", "desk", limit=2)
    same = [r["trace_id"] for r in ROWS if r["task"] == "refund_10x" and r["agent"] == "desk"]
    assert page.total == len(same)
    assert page.rows["trace_id"].to_list() == sorted(same, reverse=True)[:2]
    assert traces.rollouts(filled, "refund_10x", None).total == 4


def test_an_empty_store_has_an_empty_page(store):
    page = traces.page(store, TraceFilter())
    assert page.rows.schema == pl.Schema(traces.TRACE_ROWS)
    assert (page.rows.height, page.total) == (0, 0)


def test_a_query_that_takes_too_long_is_stopped(store, monkeypatch):
    monkeypatch.setattr(
        traces,
        "where",
        lambda conditions: "WHERE (SELECT max(a.range * b.range) FROM range(5000000) a, range(5000000) b) > 0",
    )
    with pytest.raises(QueryTimeout):
        traces.page(store, TraceFilter(), timeout=0.05)


def test_the_range_before_is_as_long_and_ends_where_this_one_begins():
    scope = Scope(START, START + timedelta(days=7), agents=("desk",))
    assert scope.previous() == replace(scope, since=START - timedelta(days=7), until=START)
    assert Scope(since=START).previous() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text(alphabet="a*!%_'", max_size=6), st.text(alphabet="a!%_'", max_size=6))
def test_only_the_star_is_special_in_a_pattern(store, pattern, text):
    with store.read() as reader:
        matched = reader.value("SELECT $text LIKE $p ESCAPE '!'", {"text": text, "p": like_pattern(pattern)})
    expected = re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None
    assert matched is expected
