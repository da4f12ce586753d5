"""Rates of segments and users: decided with their agent's, kept while it counts, applied by themselves if allowed."""

import json
from datetime import timedelta

import polars as pl
import pytest

from store import audit, exploration, result_rows
from store.errors import ActionRefused


def _agents(rate=0.1, mean=0.5, agents=("airline",)):
    rows = [
        {"agent": agent, "rate": rate, "lower": 0.05, "upper": 0.15, "decisions": 60, "reason": "because",
         "arms": json.dumps([{"arm": "a", "mean": mean, "sd": 0.1, "n": 30, "best": 0.6}])}
        for agent in agents
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=exploration.RECOMMENDED)


def _units(rates, agent="airline", scope="user"):
    rows = [
        {"agent": agent, "scope": scope, "unit": unit, "rate": rate, "lower": rate, "upper": rate, "decisions": 5,
         "doubt": 0.4, "progress": 0.0, "drift": 0.0, "tolerance": 0.0, "tolerance_sd": 0.1, "dial": 0.5,
         "reason": "because"}
        for unit, rate in rates.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=exploration.UNIT_RATES)


def _waiting(store, agent="airline"):
    return exploration.history(store, agent=agent)["recommended_at"][0]


def _kept(store):
    with store.read() as reader:
        return reader.value("SELECT count(*) FROM unit_rates")


def _applied(store, agent="airline"):
    return {(scope, unit): rate for scope, unit, rate in exploration.applied_rates(store, agent).iter_rows()}


def test_units_are_decided_with_their_agent(store, clock):
    units = pl.concat([_units({"ada": 0.2, "bob": 0.0}), _units({"young": 0.05}, scope="segment")])
    assert exploration.recommend(store, _agents(), units) == 1
    assert _applied(store) == {}
    moment = _waiting(store)
    exploration.apply(store, "airline", moment, operator="Ada")
    assert _applied(store) == {
        ("agent", ""): 0.1, ("segment", "young"): 0.05, ("user", "ada"): 0.2, ("user", "bob"): 0.0,
    }  # fmt: skip
    assert json.loads(audit.recent(store)["detail"][0])["units"] == 3
    assert exploration.unit_rates(store, "airline", moment)["unit"].to_list() == ["young", "ada", "bob"]
    assert exploration.unit_rates(store, "airline", moment, search="AD")["unit"].to_list() == ["ada"]
    summary = exploration.unit_summary(store, "airline", moment).to_dicts()
    assert [(row["scope"], row["units"], row["never"], row["highest"]) for row in summary] == [
        ("segment", 1, 0, 0.05), ("user", 2, 1, 0.2),
    ]  # fmt: skip
    assert exploration.of_user(store, "bob").select("rate", "state").rows() == [(0.0, "applied")]


def test_only_a_user_whose_rate_moved_makes_a_new_recommendation(store, clock):
    exploration.recommend(store, _agents(), _units({"ada": 0.2, "bob": 0.1}))
    clock.moment += timedelta(hours=1)
    assert exploration.recommend(store, _agents(), _units({"ada": 0.2, "bob": 0.105, "new": 0.1})) == 0
    assert exploration.recommend(store, _agents(), _units({"ada": 0.2, "bob": 0.12})) == 1
    assert exploration.history(store)["state"].to_list() == ["recommended", "superseded"]
    clock.moment += timedelta(hours=1)
    assert exploration.recommend(store, _agents(), _units({"new": 0.2, "ada": 0.2, "bob": 0.12})) == 1
    assert _kept(store) == 3  # those of superseded recommendations are let go


def test_declined_units_are_let_go_and_not_asked_about_again(store, clock):
    exploration.recommend(store, _agents(), _units({"ada": 0.2}))
    exploration.decline(store, "airline", _waiting(store), operator="Ada", reason="no")
    assert _kept(store) == 0
    clock.moment += timedelta(hours=1)
    assert exploration.recommend(store, _agents(), _units({"ada": 0.2})) == 0


def test_what_an_interrupted_run_wrote_is_invisible_and_removed(store, clock):
    result_rows.insert_slices(store, "unit_rates", _units({"lost": 0.2}), key={"recommended_at": clock.now()})
    assert _applied(store) == {}
    clock.moment += timedelta(hours=1)
    exploration.recommend(store, _agents(), _units({"ada": 0.2}))
    exploration.apply(store, "airline", _waiting(store), operator="Ada")
    assert ("user", "lost") not in _applied(store)
    assert _kept(store) == 1


def _bounds(store, scope="agent", unit="", by="Ada", **values):
    none = dict.fromkeys(("floor", "cap", "dial", "daily_regret_budget", "solicit_rate", "automatic"))
    exploration.set_bounds(store, "airline", scope, unit, **{**none, **values}, by=by)


@pytest.mark.parametrize(
    ("limits", "rate", "user", "state"),
    [
        ({"automatic": True}, 0.1, 0.2, "applied"),
        ({"automatic": True}, 0.25, 0.2, "recommended"),  # above the default cap
        ({"automatic": True}, 0.1, 0.21, "recommended"),  # a user's is
        ({"automatic": True, "cap": 0.3}, 0.25, 0.3, "applied"),
        ({"automatic": True, "floor": 0.15}, 0.1, 0.2, "recommended"),
        ({"automatic": True, "floor": 0.05}, 0.1, 0.0, "applied"),  # nobody is explored against a limit
        ({"automatic": False}, 0.1, 0.1, "recommended"),
        ({}, 0.1, 0.1, "recommended"),
    ],
)
def test_automatic_application_keeps_to_the_bounds(store, limits, rate, user, state):
    if limits:
        _bounds(store, **limits)
    exploration.recommend(store, _agents(rate), _units({"ada": user}))
    assert exploration.history(store)["state"].to_list() == [state]
    entries = audit.recent(store).filter(pl.col("action") == "exploration apply")
    assert entries["actor"].to_list() == (["trimtab"] if state == "applied" else [])
    assert len(_applied(store)) == (2 if state == "applied" else 0)


def test_bounds_are_replaced_audited_and_removed_when_empty(store):
    _bounds(store, floor=0.02, cap=0.1, daily_regret_budget=3.0)
    _bounds(store, "user", "ada", dial=0.0)
    _bounds(store, floor=0.02, cap=0.15)
    frame = exploration.bounds(store, "airline")
    assert frame.select("scope", "unit", "floor", "cap", "dial", "daily_regret_budget").rows() == [
        ("agent", "", 0.02, 0.15, None, None), ("user", "ada", None, None, 0.0, None),
    ]  # fmt: skip
    assert json.loads(audit.recent(store)["detail"][0])["before"]["daily_regret_budget"] == 3.0
    written = audit.recent(store).height
    _bounds(store, floor=0.02, cap=0.15)
    assert audit.recent(store).height == written  # nothing changed
    _bounds(store, "user", "ada")
    assert exploration.bounds(store, "airline")["scope"].to_list() == ["agent"]
    assert exploration.bounds(store, "billing").is_empty()
    assert audit.verify(store) is None


@pytest.mark.parametrize(
    ("scope", "unit", "values", "problem"),
    [
        ("agent", "", {"floor": -0.1}, "floor is -0.1"),
        ("agent", "", {"cap": float("nan")}, "cap is nan"),
        ("agent", "", {"floor": 0.3, "cap": 0.2}, "above the cap"),
        ("agent", "", {"daily_regret_budget": float("inf")}, "budget is inf"),
        ("user", "ada", {"automatic": True}, "no automatic of its own"),
        ("segment", "young", {"daily_regret_budget": 1.0}, "no daily_regret_budget"),
        ("user", "", {"dial": 0.1}, "no unit of the scope user"),
        ("agent", "x", {"dial": 0.1}, "no unit of the scope agent"),
        ("team", "x", {"dial": 0.1}, "no scope 'team'"),
    ],
)
def test_impossible_bounds_are_refused(store, scope, unit, values, problem):
    with pytest.raises(ActionRefused, match=problem):
        _bounds(store, scope, unit, **values)
    assert exploration.bounds(store, "airline").is_empty()
