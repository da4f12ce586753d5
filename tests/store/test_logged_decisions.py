"""Logged decisions with outcomes: what becomes one row, and why what is left out is left out."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from store import decisions, logged_decisions, rewards

START = datetime(2026, 11, 1, tzinfo=UTC)
ARMS = ["a", "b"]


def _decision(name, arm="a", **columns):
    p = columns.pop("propensities", [0.9, 0.1])
    session = columns.get("session_id")
    unit = f"session:{session}" if session else f"decision:{name}"
    return {
        "decision_id": name, "decided_at": START, "agent": "shop", "policy_version": 1, "user_id": "ada",
        "segment": "new", "session_id": None, "task": None, "unit": unit, "draw": 0.5, "arm": arm, "greedy_arm": "a",
        "explore": arm != "a", "propensity": p[ARMS.index(arm)],
        "arms": ARMS, "propensities": p, "rate": 0.1, "allowed_rate": 0.1, "budget_scale": 1.0, "expected_regret": 0.0,
        "worst_regret": 0.0, "solicit": False, "solicit_propensity": 0.0, "sticky": False, "off_policy": True,
        "note": None, "lesson_set_hash": None, "input_hash": None, "source": "key", **columns,
    }  # fmt: skip


def _decide(store, *rows):
    frame = pl.DataFrame(rows, schema=decisions.DECISIONS, orient="row")
    store.write(lambda connection: decisions.append(connection, frame))


def _trace(name, decision, arm="a", **columns):
    return {"trace_id": name, "agent": "shop", "decision_id": decision, "arm": arm, "started_at": START, **columns}


def _reward(store, means, signals=1):
    frame = pl.DataFrame(
        {"trace_id": list(means), "mean": list(means.values()), "sd": 0.3, "signals": signals},
        schema_overrides={"signals": pl.Int32, "mean": pl.Float64},
    )
    rewards.publish(store, rewards.Fitted("m", {}, frame, pl.DataFrame(schema=rewards.CELLS), len(means), 1, "0"))


def _by_id(frame):
    return {row["decision_id"]: row for row in frame.iter_rows(named=True)}


def test_a_decision_has_the_mean_reward_of_its_traces(store, publish):
    _decide(store, _decision("d1"), _decision("d2", "b"))
    publish(traces=[_trace("t1", "d1", cost_usd=1.0), _trace("t2", "d1", cost_usd=2.0), _trace("t3", "d2", "b")])
    _reward(store, {"t1": 1.0, "t2": 0.5, "t3": 0.2})
    found = logged_decisions.read(store, "shop")
    assert found.schema == logged_decisions.LOGGED
    rows = _by_id(found)
    assert rows["d1"]["reward"] == 0.75
    assert rows["d1"]["traces"] == 2
    assert rows["d1"]["signals"] == 2
    assert rows["d1"]["reward_sd"] == pytest.approx(0.3 / 2**0.5)
    assert rows["d1"]["cost_usd"] == 3.0
    assert rows["d1"]["trace_id"] == "t1"
    assert rows["d1"]["executed_arm"] == "a"
    assert rows["d2"]["propensity"] == 0.1
    assert rows["d2"]["explore"]
    assert rows["d2"]["arms"] == ARMS
    # Both are of one user on one day.
    assert rows["d1"]["cluster"] == rows["d2"]["cluster"]
    assert logged_decisions.usable(found).height == 2
    assert logged_decisions.dropped(found) == {}


def test_decisions_of_a_session_are_one_draw(store, publish):
    later = START + timedelta(minutes=5)
    _decide(
        store,
        _decision("d2", session_id="s", sticky=True, decided_at=later),
        _decision("d1", session_id="s"),
        _decision("d3", session_id="z", user_id=None),
    )
    publish(traces=[_trace("t1", "d1"), _trace("t2", "d2"), _trace("t3", "d3")])
    _reward(store, {"t1": 0.0, "t2": 1.0, "t3": 1.0})
    rows = _by_id(logged_decisions.read(store, "shop"))
    assert rows.keys() == {"d1", "d3"}
    assert (rows["d1"]["decisions"], rows["d1"]["traces"], rows["d1"]["reward"]) == (2, 2, 0.5)
    assert rows["d1"]["cluster"] != rows["d3"]["cluster"]


def test_what_repeats_a_draw_from_before_the_period_is_not_a_draw_of_it(store):
    _decide(
        store,
        _decision("d1", session_id="s"),
        _decision("d2", session_id="s", sticky=True, decided_at=START + timedelta(days=2)),
        _decision("d3", decided_at=START + timedelta(days=2)),
    )
    found = logged_decisions.read(store, "shop", START + timedelta(days=1))
    assert found["decision_id"].to_list() == ["d3"]
    assert logged_decisions.read(store, "shop", until=START + timedelta(days=1))["decision_id"].to_list() == ["d1"]
    assert logged_decisions.read(store, "another").is_empty()


def test_what_is_left_out_says_why(store, publish):
    young = store.clock.now() - timedelta(minutes=1)
    _decide(
        store,
        _decision("no trace"),
        _decision("other arm"),
        _decision("two arms"),
        _decision("anew 1", session_id="s"),
        _decision("anew 2", "b", session_id="s", decided_at=START + timedelta(hours=1)),
        _decision("young", decided_at=young),
        _decision("unrewarded"),
        _decision("unequal", propensity=0.5),
        _decision("sum", propensities=[0.9, 0.3]),
        _decision("zero", propensities=[0.0, 1.0]),
        _decision("fixed", propensities=[1.0, 0.0], off_policy=False),
        _decision("silent"),
        _decision("good"),
    )
    names = ["young", "unequal", "sum", "zero", "fixed", "good", "anew 1", "anew 2", "two arms", "other arm"]
    extra = [_trace("x", "two arms", "b"), _trace("t unrewarded", "unrewarded"), _trace("t silent", "silent", None)]
    publish(
        traces=[*(_trace(f"t {name}", name, "b" if name in ("other arm", "anew 2") else "a") for name in names), *extra]
    )
    _reward(store, {f"t {name}": 0.5 for name in [*names, "silent"]} | {"x": 0.5})
    found = logged_decisions.read(store, "shop", settled=timedelta(hours=1))
    assert {name: row["dropped"] for name, row in _by_id(found).items()} == {
        "no trace": "no_trace", "other arm": "other_arm", "two arms": "mixed_arms", "anew 1": "mixed_arms",
        "young": "too_young", "unrewarded": "no_reward", "unequal": "impossible_propensities",
        "sum": "impossible_propensities", "zero": "impossible_propensities", "fixed": "not_off_policy",
        # A trace that does not say which arm ran has the one it was told to run.
        "silent": None, "good": None,
    }  # fmt: skip
    assert logged_decisions.dropped(found) == {
        "no_trace": 1, "mixed_arms": 2, "other_arm": 1, "too_young": 1, "no_reward": 1, "impossible_propensities": 3,
        "not_off_policy": 1,
    }  # fmt: skip
    assert set(logged_decisions.usable(found)["decision_id"]) == {"silent", "good"}
    assert found.filter("young")["decision_id"].to_list() == ["young"]


def _said(name, arm="a", distribution=None, propensity=0.9, **columns):
    said = {"steer.decision_id": f"d {name}", "steer.arm": arm, "segment": "old"}
    if propensity is not None:
        said["steer.propensity"] = propensity
    if distribution is not None:
        said["steer.propensities"] = distribution
    trace = _trace(f"t {name}", f"d {name}", arm, user_id="bo", session_id="s", task="x", **columns)
    return {**trace, "metadata": json.dumps(said)}


def test_decisions_that_traces_state_themselves_are_read_where_they_are_not_ours(store, publish):
    _decide(store, _decision("d ours"))
    publish(
        traces=[
            _said("object", distribution={"a": 0.9, "b": 0.1}),
            _said("text", "b", json.dumps({"a": 0.9, "b": 0.1}), 0.1),
            _said('odd "name', 'a"b', {'a"b': 0.9, "b": 0.1}),
            _said("alone"),
            _said("negative", distribution={"a": 1.5, "b": -0.5}, propensity=1.5),
            _said("certain", distribution={"a": 1.0}, propensity=1.0),
            _said("words", distribution="often"),
            _said("twice", distribution='{"a": 0.5, "a": 0.5}'),
            _said("null", distribution={"a": 0.9, "b": None}),
            _said("unnumbered", distribution={"a": 0.9, "b": "NaN"}),
            _said("none", distribution={}),
            _said("ours", distribution={"a": 0.5, "b": 0.5}, propensity=0.5),
            _trace("t plain", None),
        ],
    )
    _reward(store, {f"t {name}": 0.5 for name in (
        "object", "text", 'odd "name', "alone", "negative", "certain", "words", "twice", "null", "unnumbered", "none",
        "ours", "plain")})  # fmt: skip
    rows = _by_id(logged_decisions.read(store, "shop"))
    assert {name.removeprefix("d "): row["dropped"] for name, row in rows.items()} == {
        "object": None, "text": None, 'odd "name': None, "alone": "missing_propensities",
        "negative": "impossible_propensities", "certain": "not_off_policy", "words": "missing_propensities",
        "twice": "impossible_propensities", "null": "missing_propensities", "unnumbered": "impossible_propensities",
        "none": "missing_propensities", "ours": None,
    }  # fmt: skip
    assert rows["d ours"]["origin"] == "steer"
    assert rows["d ours"]["propensity"] == 0.9
    text = rows["d text"]
    assert (text["origin"], text["arm"], text["greedy_arm"], text["segment"]) == ("trace", "b", "a", "old")
    assert text["arms"] == ARMS
    assert text["propensities"] == [0.9, 0.1]
    assert text["user_id"] == "bo"


def test_a_root_span_states_a_decision_as_well(store, publish):
    said = {
        "steer.decision_id": "d",
        "steer.arm": "b",
        "steer.propensity": 0.1,
        "steer.propensities": '{"a":0.9,"b":0.1}',
    }
    publish(
        spans=[
            {"trace_id": "t", "span_id": "1", "kind": "agent", "name": "shop", "agent": "shop", "arm": "b",
             "decision_id": "d", "started_at": START, "attributes": json.dumps(said)}
        ]
    )  # fmt: skip
    _reward(store, {"t": 1.0})
    rows = _by_id(logged_decisions.read(store, "shop"))
    assert rows["d"]["dropped"] is None
    assert rows["d"]["propensity"] == 0.1
    assert rows["d"]["reward"] == 1.0


def test_outcomes_are_settled_when_nearly_all_have_come(store, publish):
    publish(
        traces=[_trace(f"t{i}", f"d{i}", ended_at=START) for i in range(101)],
        signals=[
            {"signal_id": f"s{i}", "trace_id": f"t{i}", "kind": "purchase", "value": 1.0,
             "occurred_at": START + timedelta(seconds=i)}
            for i in range(101)
        ]
        + [{"signal_id": "late", "trace_id": "t0", "kind": "annotation", "value": 1.0,
            "occurred_at": START + timedelta(days=9)}],
    )  # fmt: skip
    assert logged_decisions.outcome_delay(store, "shop") == timedelta(seconds=95)
    assert logged_decisions.outcome_delay(store, "another") == timedelta(0)


def test_agents_with_decisions(store):
    _decide(store, _decision("d1"), _decision("d2", agent="bar"), _decision("d3"))
    assert logged_decisions.agents(store).rows() == [("shop", 2, START), ("bar", 1, START)]
