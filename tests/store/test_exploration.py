"""Exploration rates: one waits, one is applied, and nothing is asked twice on the same evidence."""

import json
from datetime import timedelta

import polars as pl
import pytest

from store import audit, exploration
from store.errors import ActionRefused, NotFound


def _frame(rate=0.1, mean=0.5, agents=("airline",)):
    rows = [
        {"agent": agent, "rate": rate, "lower": 0.05, "upper": 0.15, "decisions": 60, "reason": "because",
         "arms": json.dumps([{"arm": "a", "mean": mean, "sd": 0.1, "n": 30, "best": 0.6}])}
        for agent in agents
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=exploration.RECOMMENDED)


def _later(clock):
    clock.moment += timedelta(hours=1)


def _states(store, agent="airline"):
    return exploration.history(store, agent=agent)["state"].to_list()


def _waiting(store, agent="airline"):
    row = exploration.history(store, agent=agent).row(0, named=True)
    return row["recommended_at"]


def test_a_recommendation_waits_until_it_is_applied(store, clock):
    assert exploration.recommend(store, _frame()) == 1
    exploration.apply(store, "airline", _waiting(store), operator="Ada")
    row = exploration.current(store).row(0, named=True)
    assert (row["state"], row["decided_by"], row["decided_at"]) == ("applied", "Ada", clock.now())
    entry = audit.recent(store).row(0, named=True)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "exploration apply", "agent airline")
    assert json.loads(entry["detail"])["rate"] == 0.1


def test_new_evidence_supersedes_what_waits_and_leaves_what_is_applied(store, clock):
    exploration.recommend(store, _frame(0.1))
    exploration.apply(store, "airline", _waiting(store), operator="Ada")
    _later(clock)
    exploration.recommend(store, _frame(0.2))
    _later(clock)
    exploration.recommend(store, _frame(0.3))
    assert _states(store) == ["recommended", "superseded", "applied"]
    exploration.apply(store, "airline", _waiting(store), operator="Ada")
    assert _states(store) == ["applied", "superseded", "superseded"]
    assert json.loads(audit.recent(store)["detail"][0])["before"] == 0.1


@pytest.mark.parametrize("decision", ["none", "apply", "decline"])
def test_the_same_evidence_is_not_asked_about_again(store, clock, decision):
    exploration.recommend(store, _frame())
    if decision == "apply":
        exploration.apply(store, "airline", _waiting(store), operator="Ada")
    if decision == "decline":
        exploration.decline(store, "airline", _waiting(store), operator="Ada", reason="not now")
    _later(clock)
    assert exploration.recommend(store, _frame(0.1 + 1e-12)) == 0
    assert exploration.recommend(store, _frame(mean=0.6)) == 1


def test_only_what_waits_can_be_decided(store):
    exploration.recommend(store, _frame())
    moment = _waiting(store)
    exploration.apply(store, "airline", moment, operator="Ada")
    with pytest.raises(ActionRefused, match="is applied"):
        exploration.apply(store, "airline", moment, operator="Bob")
    with pytest.raises(ActionRefused, match="is applied"):
        exploration.decline(store, "airline", moment, operator="Bob", reason="late")
    with pytest.raises(NotFound):
        exploration.apply(store, "airline", moment + timedelta(seconds=1), operator="Bob")
    with pytest.raises(NotFound):
        exploration.apply(store, "billing", moment, operator="Bob")
    assert audit.recent(store).height == 1
    assert exploration.current(store)["decided_by"].to_list() == ["Ada"]


def test_declining_needs_a_reason_and_is_recorded(store):
    exploration.recommend(store, _frame())
    with pytest.raises(ActionRefused, match="no reason"):
        exploration.decline(store, "airline", _waiting(store), operator="Ada", reason="  ")
    exploration.decline(store, "airline", _waiting(store), operator="Ada", reason="holiday freeze")
    assert _states(store) == ["declined"]
    assert json.loads(audit.recent(store)["detail"][0])["reason"] == "holiday freeze"
    assert audit.verify(store) is None


def test_agents_are_independent(store, clock):
    exploration.recommend(store, _frame(agents=("airline", "billing")))
    exploration.apply(store, "billing", _waiting(store, "billing"), operator="Ada")
    _later(clock)
    exploration.recommend(store, _frame(0.3, agents=("airline",)))
    assert _states(store, "billing") == ["applied"]
    assert _states(store) == ["recommended", "superseded"]
    assert exploration.current(store).select("agent", "state").rows() == [
        ("airline", "recommended"), ("billing", "applied"),
    ]  # fmt: skip
