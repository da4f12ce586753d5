"""Paths of abstract steps: what a step becomes, kept up to date as traces change, and counted in SQL."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from loop_data import NOW, shop
from polars.testing import assert_frame_equal
from publishing import publisher

from pipelines.transitions.abstraction import labels
from store import trace_paths, transitions
from store.clock import FixedClock
from store.connection import Store
from store.trace_ranges import trace_ranges


@pytest.fixture
def opened(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield store, publisher(store, tmp_path)
    store.close()


def _span(trace, span, kind, name, second, **more):
    return {
        "trace_id": trace, "span_id": span, "kind": kind, "name": name, "started_at": NOW + timedelta(seconds=second),
        "status": "ok", **more,
    }  # fmt: skip


def _words(store, trace_id):
    steps = trace_paths.of_trace(store, trace_id)
    table = dict(labels(steps.unique("state")).select("state", "level0").iter_rows())
    return [table[state] for state in steps["state"]]


def test_what_a_step_becomes(opened):
    store, publish = opened
    search = {"input": '{"city": "Rome", "nights": 2}'}
    publish(
        spans=[
            _span("t", "root", "agent", "travel", 0, status="error"),
            _span("t", "plan", "chain", "plan", 1, parent_span_id="root"),
            _span("t", "m1", "llm", "chat gpt-9", 2, parent_span_id="plan"),
            _span("t", "h1", "tool", "hotels", 3, parent_span_id="plan", status="error", **search),
            _span("t", "h2", "tool", "hotels", 4, parent_span_id="plan", **search),
            _span("t", "h3", "tool", "hotels", 5, parent_span_id="plan", input='{"city": "Pisa", "nights": 2.5}'),
            _span("t", "m2", "llm", "chat other", 6, parent_span_id="root"),
            _span("t", "r", "retriever", "faq", 7, parent_span_id="root"),
            _span("t", "x", "tool", "note", 8, parent_span_id="root", input="{not json"),
            _span("t", "leaf", "chain", "tidy", 9, parent_span_id="root"),
        ]
    )
    assert _words(store, "t") == [
        "model call opening", "hotels (city: text, nights: number), failed",
        "hotels (city: text, nights: number), again", "hotels (city: text, nights: number)",
        "model call after hotels", "retriever faq", "note", "chain tidy",
    ]  # fmt: skip
    assert trace_paths.of_trace(store, "t")["span_id"].to_list() == ["m1", "h1", "h2", "h3", "m2", "r", "x", "leaf"]


def test_a_late_span_changes_only_its_own_trace(opened):
    store, publish = opened
    publish(spans=[_span("a", "1", "tool", "x", 1), _span("b", "1", "tool", "x", 1)])
    assert trace_paths.refresh(store).traces == 2
    assert trace_paths.refresh(store).traces == 0
    publish(spans=[_span("a", "2", "tool", "y", 2, cost_usd=0.25)])
    assert trace_paths.refresh(store).traces == 1
    with store.read() as reader:
        rows = dict(reader.any_frame("SELECT trace_id, len(states) FROM trace_paths ORDER BY 1").rows())
        costs = reader.any_frame("SELECT costs FROM trace_paths WHERE trace_id = 'a'")["costs"][0].to_list()
    assert rows == {"a": 2, "b": 1}
    assert costs == [None, 0.25]
    assert trace_paths.states(store).height == 2


def test_stored_paths_are_those_of_one_trace_at_a_time(opened):
    store, publish = opened
    traces, spans, _ = shop()
    publish(traces=traces, spans=spans)
    trace_paths.refresh(store)
    with store.read() as reader:
        stored = reader.frame("SELECT trace_id, states, costs FROM trace_paths ORDER BY trace_id", trace_paths.PATHS)
    assert stored.height == 120
    for trace_id, states in stored.select("trace_id", "states").head(20).iter_rows():
        assert trace_paths.of_trace(store, trace_id)["state"].to_list() == states


@pytest.mark.parametrize("most", [1, 7, 119, 120])
def test_paths_do_not_depend_on_how_many_traces_are_taken_at_once(opened, monkeypatch, most):
    store, publish = opened
    traces, spans, _ = shop()
    publish(traces=traces, spans=spans)

    def stored():
        assert trace_paths.refresh(store).traces == 120
        with store.read() as reader:
            paths = reader.any_frame("SELECT * FROM trace_paths ORDER BY trace_id")
        return paths, trace_paths.states(store)

    whole = stored()
    store.write(lambda connection: connection.execute("UPDATE path_progress SET publication = -1"))
    monkeypatch.setattr(trace_paths, "trace_ranges", lambda ids: trace_ranges(ids, most))
    again = stored()
    assert whole[0].height == 120
    for one, other in zip(whole, again, strict=True):
        assert_frame_equal(one, other)


def test_counts_in_sql_are_those_of_numpy(opened):
    store, publish = opened
    traces, spans, _ = shop()
    traces += [{"trace_id": "empty", "agent": "shop", "status": "error"}]
    publish(traces=traces, spans=spans)
    trace_paths.refresh(store)
    observed = transitions.observed(store)
    expected: dict[tuple, int] = {}
    per_user: dict[tuple, int] = {}
    for agent, user, verdict, states in observed.episodes.select("agent", "user_id", "verdict", "states").iter_rows():
        line = [None, *states]
        moves = [(agent, a, b, None) for a, b in pairwise(line)] + [(agent, line[-1], None, verdict)]
        for move in moves:
            expected[move] = expected.get(move, 0) + 1
            if user is not None:
                per_user[user, *move] = per_user.get((user, *move), 0) + 1
    assert {row[:-1]: row[-1] for row in observed.counts.iter_rows()} == expected
    assert {row[:-1]: row[-1] for row in observed.user_counts.iter_rows()} == per_user
    ada = transitions.one_users_counts(store, "ada")
    assert {("ada", *row[:-1]): row[-1] for row in ada.iter_rows()} == {
        key: n for key, n in per_user.items() if key[0] == "ada"
    }
    sampled = transitions.user_counts(store, limit=100)
    assert 0 < sampled["user_id"].n_unique() < observed.user_counts["user_id"].n_unique()
    assert sampled.equals(observed.user_counts.filter(pl.col("user_id").is_in(sampled["user_id"].unique().to_list())))


def test_verdicts_come_from_status_and_the_active_rewards(opened):
    store, publish = opened
    publish(traces=[{"trace_id": name, "agent": "a", "status": status} for name, status in (
        ("failed", "error"), ("good", "ok"), ("bad", "ok"), ("silent", "ok"))])  # fmt: skip
    trace_paths.refresh(store)

    def rewards(connection):
        connection.execute("INSERT INTO reward_models VALUES (1, 'm', now(), 0, 4, 3, '{}', 'c', true)")
        connection.execute(
            """INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals) VALUES
            ('failed', 1, 0.9, 0.1, 1), ('good', 1, 0.5, 0.1, 2), ('bad', 1, 0.49, 0.1, 1),
            ('silent', 1, 0.9, 0.3, 0)"""
        )

    store.write(rewards)
    verdicts = dict(transitions.observed(store).episodes.select("trace_id", "verdict").iter_rows())
    assert verdicts == {"failed": "failure", "good": "success", "bad": "failure", "silent": "ended"}
    assert transitions.active_rewards(store) == 1


def test_paths_of_another_abstraction_are_computed_anew(opened):
    store, publish = opened
    publish(spans=[_span("a", "1", "tool", "x", 1)])
    trace_paths.refresh(store)
    store.write(lambda connection: connection.execute("UPDATE trace_paths SET abstraction = 0"))
    store.write(lambda connection: connection.execute("UPDATE path_progress SET abstraction = 0"))
    assert transitions.observed(store).episodes.is_empty()
    assert trace_paths.refresh(store).traces == 1
    with store.read() as reader:
        assert reader.any_frame("SELECT DISTINCT abstraction FROM trace_paths").rows() == [(trace_paths.ABSTRACTION,)]
    assert np.all(transitions.counts(store).select(pl.col("n")).to_numpy() == 1)
