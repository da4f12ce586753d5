"""Decisions in the store: added once, summed by day, and the sessions and costs that a restart begins with."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from store import decisions
from store.connection import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def rows(*changed: dict[str, Any]) -> pl.DataFrame:
    """Decisions, each changed so."""
    usual: dict[str, Any] = {
        "decision_id": "d", "decided_at": NOON, "agent": "a", "policy_version": 1, "user_id": None, "segment": None,
        "session_id": None, "task": None, "unit": "decision:d", "draw": 0.5, "arm": "x", "greedy_arm": "x",
        "explore": False, "propensity": 0.9, "arms": ["x", "y"], "propensities": [0.9, 0.1], "rate": 0.1,
        "allowed_rate": 0.1, "budget_scale": 1.0, "expected_regret": 0.01, "worst_regret": 0.1, "solicit": False,
        "solicit_propensity": 0.0, "sticky": False, "off_policy": True, "note": None, "lesson_set_hash": None,
        "input_hash": None, "source": "key", "playbook_version": None, "empty_probability": None, "exposures": [],
    }  # fmt: skip
    return pl.DataFrame(
        [usual | {"decision_id": f"d-{place}"} | each for place, each in enumerate(changed)], schema=decisions.DECISIONS
    )


def added(store: Store, frame: pl.DataFrame, *, again: bool = False) -> int:
    return store.write(lambda connection: decisions.append(connection, frame, again=again))


def test_decisions_come_back_as_they_went_in(store: Store) -> None:
    frame = rows({"agent": "a", "note": "n"}, {"agent": "b", "decided_at": NOON + timedelta(microseconds=1)})
    assert added(store, frame) == 2
    assert decisions.recent(store).equals(frame.reverse())
    assert decisions.recent(store, "a")["decision_id"].to_list() == ["d-0"]
    assert decisions.recent(store, limit=1)["decision_id"].to_list() == ["d-1"]
    assert added(store, frame.head(0)) == 0


def test_only_what_is_missing_is_added_again(store: Store) -> None:
    first = rows({}, {"decided_at": NOON + timedelta(hours=1)})
    added(store, first)
    more = pl.concat([first, first, rows({"decision_id": "new"}), rows({"decision_id": "new"})])
    assert added(store, more, again=True) == 1
    assert sorted(decisions.recent(store)["decision_id"]) == ["d-0", "d-1", "new"]
    assert added(store, more, again=True) == 0


def test_the_ledger_sums_days_of_utc(store: Store) -> None:
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    last = midnight - timedelta(microseconds=1)
    added(
        store,
        rows(
            {"decided_at": last, "explore": True, "worst_regret": 0.25, "session_id": "s"},
            {"decided_at": NOON, "rate": 0.3, "budget_scale": 0.5, "session_id": "s"},
            {"decided_at": midnight},
            {"decided_at": midnight, "agent": "b"},
            {"decided_at": NOON - timedelta(days=3)},
        ),
    )  # fmt: skip
    ledger = decisions.ledger(store, "a", NOON - timedelta(days=1))
    assert ledger.drop("expected_regret", "worst_regret", "rate").rows() == [
        ("a", date(2026, 11, 20), 2, 1, 1, 1),
        ("a", date(2026, 11, 21), 1, 0, 0, 0),
    ]
    assert ledger["worst_regret"].to_list() == pytest.approx([0.35, 0.1])
    assert ledger["rate"].to_list() == pytest.approx([0.2, 0.1])
    assert decisions.ledger(store, None, NOON - timedelta(days=9)).height == 4


def test_what_was_spent_is_of_the_day_in_utc(store: Store) -> None:
    added(
        store,
        rows({}, {}, {"agent": "b"}, {"decided_at": datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC)}),
    )
    assert decisions.spent_today(store, NOON) == pytest.approx({"a": 0.2, "b": 0.1})
    assert decisions.spent_today(store, NOON + timedelta(days=1)) == {}


def test_of_a_session_the_last_decision_counts(store: Store) -> None:
    added(
        store,
        rows(
            {"session_id": "s", "arm": "x"},
            {"session_id": "s", "arm": "y", "decided_at": NOON + timedelta(seconds=2), "propensities": [1.0, 0.0]},
            {"session_id": "s", "agent": "b", "decided_at": NOON + timedelta(seconds=1)},
            {"session_id": "old", "decided_at": NOON - timedelta(days=2)},
            {"session_id": None},
        ),
    )
    found = decisions.sessions_since(store, NOON - timedelta(days=1))
    assert found.schema == decisions.SESSIONS
    assert found.select("agent", "session_id", "arm").rows() == [("b", "s", "x"), ("a", "s", "y")]
    assert found["propensities"].to_list() == [[0.9, 0.1], [1.0, 0.0]]
    assert decisions.sessions_since(store, NOON - timedelta(days=9), limit=1).rows()[0][:2] == ("a", "s")
