"""Means per tool and per arm: coverage of their intervals on known truth, what they refuse, and randomised choices."""

import json

import numpy as np
import polars as pl
import pytest
from credit_frames import NONE, process, steps_frame, traces_frame

from pipelines.credit.credits import assign
from pipelines.credit.randomised import CHOICES, arm_credits
from pipelines.credit.tools import ToolConfig, tool_credits


def _tools(traces, steps, *, seed=1, config=None):
    credited = assign(traces, steps, NONE, np.random.default_rng(seed))
    return tool_credits(credited, np.random.default_rng(seed), config)


def test_intervals_of_tools_cover_the_exact_mean_decision_credit():
    """Over 120 deployments of 600 traces: how often the exact mean Q - V of the steps with each tool lies inside."""
    hits, total = 0, 0
    for seed in range(120):
        played = process(600, seed=100 + seed, users=80)
        exact = played.steps.with_columns(exact=pl.Series(played.decision)).group_by("name").agg(pl.col("exact").mean())
        found = _tools(played.traces, played.steps, seed=seed, config=ToolConfig(replicates=150))
        joined = found.filter(pl.col("scope") == "tool").join(exact, left_on="tool", right_on="name")
        hits += int(joined["exact"].is_between(joined["lower"], joined["upper"]).sum())
        total += joined.height
    assert total == 360
    assert 0.93 <= hits / total <= 0.97


def test_every_scope_is_reported_with_n_interval_q_and_basis():
    played = process(4_000, seed=1)
    found = _tools(played.traces, played.steps)
    tools = found.filter(pl.col("scope") == "tool").sort("tool")
    assert tools["tool"].to_list() == ["answer", "check", "search"]
    assert tools["steps"].sum() == played.steps.height
    assert (tools["basis"] == "predictive").all()
    assert tools.filter(tool="check")["estimate"].item() > 0.05
    assert tools.filter(tool="check")["q_value"].item() < 1e-6
    states = found.filter(pl.col("scope") == "state")
    assert {"first step", "after search", "after search failed"} <= set(states["state"])
    assert found.filter(pl.col("estimate").is_null() == pl.col("reason").is_null()).is_empty()
    known = found.filter(pl.col("estimate").is_not_null())
    assert (
        known.select((pl.col("lower") < pl.col("estimate")) & (pl.col("estimate") < pl.col("upper"))).to_series().all()
    )
    assert known["q_value"].null_count() == 0


def test_uncertain_rewards_widen_the_interval():
    played = process(1_500, seed=8)
    sure = _tools(played.traces, played.steps)
    unsure = _tools(played.traces.with_columns(reward_sd=pl.lit(0.4)), played.steps)
    for one, other in zip(sure["sd"].drop_nulls(), unsure["sd"].drop_nulls(), strict=True):
        assert other > one


def test_the_way_a_tool_is_called_is_told_apart():
    rng = np.random.default_rng(3)
    n = 800
    text = rng.random(n) < 0.3
    rewards = (rng.random(n) < np.where(text, 0.3, 0.8)).astype(float).tolist()
    shape = [value for bad in text for value in ('{"price":"VARCHAR"}' if bad else '{"price":"DOUBLE"}', None)]
    steps = steps_frame(np.repeat(np.arange(n), 2).tolist(), [1, 2] * n, ["find", "answer"] * n, shape=shape)
    found = _tools(traces_frame(rewards, users=[f"u{i % 90}" for i in range(n)]), steps)
    variants = found.filter(pl.col("scope") == "variant").sort("estimate")
    assert variants["tool"].to_list() == ["find", "find"]
    assert "VARCHAR" in variants["state"][0]
    assert variants["estimate"][0] == pytest.approx(-0.5 * 0.7, abs=0.06)
    assert variants["upper"][0] < 0 < variants["lower"][1]


def test_a_tool_without_alternative_claims_nothing():
    rewards = np.random.default_rng(1).random(300).round().tolist()
    steps = steps_frame(np.repeat(np.arange(300), 2).tolist(), [1, 2] * 300, ["look", "answer"] * 300)
    traces = traces_frame(rewards, users=[f"u{i % 50}" for i in range(300)])
    found = _tools(traces, steps)
    assert found["estimate"].null_count() == found.height > 0
    assert set(found["reason"]) == {"no_choice"}
    credited = assign(traces, steps, NONE, np.random.default_rng(1))
    assert (credited.frame["decision"] == 0.0).all()


def test_too_few_steps_and_users_are_said():
    played = process(60, seed=5, users=4)
    found = _tools(played.traces, played.steps)
    assert found["estimate"].null_count() == found.height
    assert set(found["reason"]) <= {"too_few_steps", "too_few_users", "no_choice"}
    assert "too_few_users" in set(found["reason"])


P = {"old": 0.8, "new": 0.1, "bad": 0.1}
GAIN = {"old": 0.0, "new": 0.25, "bad": -0.2}


def _arms(seed, n=3_000, propensities=True, users=200):
    """Arms drawn with logged propensities that depend on the task, which matters for the reward as well."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    listed = [P, {"old": 0.2, "new": 0.6, "bad": 0.2}]
    drawn = [str(rng.choice(list(P), p=list(listed[int(h)].values()))) for h in hard]
    chance = np.where(hard, 0.3, 0.6) + np.array([GAIN[arm] for arm in drawn])
    traces = traces_frame(
        (rng.random(n) < chance).astype(float).tolist(), users=[f"u{i % users}" for i in range(n)], arm=drawn,
        task=["hard" if h else "easy" for h in hard],
    )  # fmt: skip
    logged = pl.DataFrame(
        {
            "trace_no": np.arange(n, dtype=np.uint32), "arm": drawn,
            "propensity": [listed[int(h)][arm] for h, arm in zip(hard, drawn, strict=True)],
            "propensities": [json.dumps(listed[int(h)]) if propensities else None for h in hard],
        },
        schema=CHOICES,
    )  # fmt: skip
    steps = steps_frame(list(range(n)), [1] * n, ["answer"] * n)
    policy = float(np.mean([sum(P_[a] * GAIN[a] for a in P) for P_ in (listed[int(h)] for h in hard)]))
    return assign(traces, steps, NONE, np.random.default_rng(0)), logged, {arm: GAIN[arm] - policy for arm in P}


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "users", "deployments"), [(400, 25, 400), (2_000, 200, 150)])
def test_arms_drawn_at_random_get_a_causal_credit_that_covers_the_truth(n, users, deployments):
    """Few users and draws as well as many. Of 800 and 400 deployments .946 and .953, of single arms .934 to .965."""
    hits, naive = dict.fromkeys(P, 0), []
    for seed in range(5_000, 5_000 + deployments):
        credited, logged, truth = _arms(seed, n, users=users)
        found = arm_credits(credited, logged)
        assert set(found["basis"]) == {"causal"}
        for row in found.to_dicts():
            hits[row["tool"]] += row["lower"] <= truth[row["tool"]] <= row["upper"]
        rewards = credited.outcomes.mean
        naive.append(rewards[(logged["arm"] == "new").to_numpy()].mean() - rewards.mean() - truth["new"])
    assert 0.93 <= sum(hits.values()) / (3 * deployments) <= 0.97, hits
    assert min(hits.values()) / deployments >= 0.92, hits
    assert abs(np.mean(naive)) > 0.04  # the raw mean of the arm is off: it was drawn where tasks are hard


def test_the_drawn_arms_propensity_alone_is_enough():
    credited, logged, truth = _arms(3, propensities=False)
    found = arm_credits(credited, logged)
    for row in found.to_dicts():
        assert row["estimate"] == pytest.approx(truth[row["tool"]], abs=0.08)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_propensity"),
        (float("nan"), "missing_propensity"),
        (0.0, "zero_propensity"),
        (-0.1, "negative_propensity"),
        (1.2, "propensity_above_one"),
        (0.55, "invalid_propensities"),
    ],
)
def test_one_bad_propensity_takes_the_causal_number_away_and_says_why(value, reason):
    credited, logged, _ = _arms(1)
    broken = logged.with_columns(
        propensity=pl.when(pl.col("trace_no") == 17).then(pl.lit(value, dtype=pl.Float64)).otherwise("propensity")
    )
    found = arm_credits(credited, broken)
    assert set(found["reason"]) == {reason}
    assert set(found["basis"]) == {"predictive"}
    assert found["estimate"].null_count() == found.height == 3


@pytest.mark.parametrize("text", ["[1]", "{", '{"old": 2.0}', '{"old": "x"}', '{"old": 0.2, "new": 0.1}'])
def test_a_logged_distribution_that_is_none_is_refused(text):
    credited, logged, _ = _arms(1)
    broken = logged.with_columns(
        propensities=pl.when(pl.col("trace_no") == 17).then(pl.lit(text)).otherwise("propensities")
    )
    assert set(arm_credits(credited, broken)["reason"]) == {"invalid_propensities"}


def test_an_arm_that_is_always_drawn_was_not_randomised():
    credited, logged, _ = _arms(2, n=300)
    forced = logged.with_columns(propensity=pl.lit(1.0), propensities=pl.lit(None, dtype=pl.String))
    found = arm_credits(credited, forced)
    assert set(found["reason"]) == {"not_randomised"}
