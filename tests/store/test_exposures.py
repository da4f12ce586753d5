"""Exposures are stored with their decision, once, and come back with what came of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from given_rewards import give
from publishing import Publish

from store import decisions, exposures
from store.connection import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def exposed(lesson_id: str, status: str, probability: float = 0.882) -> dict[str, Any]:
    return {
        "lesson_id": lesson_id, "lesson_version": 2, "status": status, "served_probability": probability, "match": 1.0,
        "tokens": 40,
    }  # fmt: skip


def rows(*changed: dict[str, Any]) -> pl.DataFrame:
    usual: dict[str, Any] = {
        "decided_at": NOON, "agent": "shop", "policy_version": 1, "user_id": "u", "segment": "new", "session_id": None,
        "task": "refund", "unit": "decision:d", "draw": 0.5, "arm": "x", "greedy_arm": "x", "explore": False,
        "propensity": 1.0, "arms": ["x"], "propensities": [1.0], "rate": 0.0, "allowed_rate": 0.0, "budget_scale": 1.0,
        "expected_regret": 0.0, "worst_regret": 0.0, "solicit": False, "solicit_propensity": 0.0, "sticky": False,
        "off_policy": False, "note": None, "lesson_set_hash": None, "input_hash": None, "source": "key",
        "playbook_version": 3, "empty_probability": 0.02, "exposures": [],
    }  # fmt: skip
    return pl.DataFrame([usual | each for each in changed], schema=decisions.DECISIONS)


TWO = rows(
    {
        "decision_id": "d-0",
        "exposures": [exposed("b", "served"), exposed("a", "withheld"), exposed("z", "over_budget", 0.0)],
    },
    {"decision_id": "d-1", "decided_at": NOON + timedelta(minutes=1), "exposures": [exposed("a", "empty")]},
    {"decision_id": "d-2", "decided_at": NOON + timedelta(minutes=2)},
)


def added(store: Store, frame: pl.DataFrame, *, again: bool = False) -> int:
    return store.write(lambda connection: decisions.append(connection, frame, again=again))


def test_they_travel_in_their_decision(store: Store) -> None:
    assert added(store, TWO) == 3
    assert decisions.recent(store).equals(TWO.reverse())
    assert decisions.one(store, "d-1") == TWO.row(1, named=True)
    assert decisions.one(store, "unknown") is None
    held = exposures.of_decision(store, "d-0")
    assert held.select("lesson_id", "status", "served_probability").rows() == [
        ("b", "served", 0.882), ("a", "withheld", 0.882), ("z", "over_budget", 0.0),
    ]  # fmt: skip
    assert held["playbook_version"].unique().to_list() == [3]
    assert exposures.of_lesson(store, "a")["decision_id"].to_list() == ["d-1", "d-0"]
    assert exposures.of_lesson(store, "a", limit=1).height == 1


def test_what_is_handed_over_again_is_stored_once(store: Store) -> None:
    added(store, TWO.head(1))
    assert added(store, pl.concat([TWO, TWO]), again=True) == 2
    assert added(store, TWO, again=True) == 0
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM exposures") == 4


def test_neither_is_stored_without_the_other(store: Store) -> None:
    broken = TWO.with_columns(playbook_version=pl.lit(None, pl.Int32))
    with pytest.raises((duckdb.Error, Exception), match="NOT NULL"):
        added(store, broken)
    assert decisions.recent(store).is_empty()


def test_files_of_before_have_no_lessons(store: Store) -> None:
    old = TWO.drop("playbook_version", "empty_probability", "exposures")
    whole = decisions.completed(old)
    assert whole.schema == decisions.DECISIONS
    assert whole["exposures"].to_list() == [[], [], []]
    assert pl.concat([whole, TWO]).height == 6
    assert added(store, old) == 3
    assert decisions.recent(store)["playbook_version"].to_list() == [None, None, None]


def test_what_came_of_a_decision(store: Store, publish: Publish) -> None:
    added(store, TWO)
    publish(
        traces=[
            {"trace_id": "t0", "agent": "shop", "decision_id": "d-0", "arm": "x", "started_at": NOON, "cost_usd": 0.5,
             "input_tokens": 10, "output_tokens": 5},
            {"trace_id": "t1", "agent": "shop", "decision_id": "d-0", "arm": "x", "started_at": NOON, "cost_usd": 0.25,
             "input_tokens": 1, "output_tokens": 1},
        ]
    )  # fmt: skip
    give(store, pl.DataFrame({"trace_id": ["t0", "t1"], "mean": [0.2, 0.6]}))
    found = exposures.logged(store, "shop")
    assert found.select("decision_id", "lesson_id", "status", "traces").rows() == [
        ("d-0", "a", "withheld", 2), ("d-0", "b", "served", 2), ("d-1", "a", "empty", 0),
    ]  # fmt: skip
    first = found.row(0, named=True)
    assert (first["cost_usd"], first["tokens"], first["executed_arm"], first["arm"]) == (0.75, 17, "x", "x")
    assert first["reward"] == pytest.approx(0.4)
    assert (first["user_id"], first["segment"], first["task"], first["version"]) == ("u", "new", "refund", 2)
    assert found.row(2, named=True)["reward"] is None
    assert exposures.logged(store, "shop", NOON + timedelta(seconds=1)).height == 1
    assert exposures.logged(store, "bank").is_empty()


def test_inputs_are_those_that_traces_state(store: Store, publish: Publish) -> None:
    publish(
        traces=[
            {"trace_id": "t0", "agent": "shop", "decision_id": "d-0", "started_at": NOON, "input": "x" * 2_000},
            {"trace_id": "t1", "agent": "shop", "decision_id": "d-1", "started_at": NOON},
        ]
    )
    found = exposures.inputs(store, ["d-0", "d-1", "d-2"])
    assert found.rows() == [("d-0", "x" * 2_000)]
    assert exposures.inputs(store, []).is_empty()
