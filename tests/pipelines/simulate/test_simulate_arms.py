"""Arms are drawn with their logged propensities and are worth what the truth says."""

import json
import math
from collections.abc import Callable

import polars as pl
import pytest

from pipelines.simulate import Deployment

AssertBinomial = Callable[[float, pl.Series], None]
SIGMAS = 4.0


def repeat(probability: float, count: int) -> pl.Series:
    return pl.Series([probability] * count)


def test_arms_are_drawn_with_the_logged_propensities(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    traces = (
        deployment.truth_traces.filter(pl.col("agent") != "support-desk").group_by("session_id").agg(pl.all().first())
    )
    opted_out = traces["user_id"].is_in(deployment.truth["opted_out"])
    assert opted_out.sum() > 30
    assert not traces.filter(opted_out)["explored"].any()
    assert (traces.filter(opted_out)["propensity"] == 1.0).all()
    rate = deployment.config.exploration_rate
    for agent, arms in (("shop-assistant", 6), ("travel-desk", 4)):
        drawn = traces.filter(~opted_out & (pl.col("agent") == agent))
        assert_binomial(drawn["explored"].sum(), repeat(rate * (arms - 1) / arms, drawn.height))
        assert drawn.filter("explored")["propensity"].to_numpy() == pytest.approx(rate / arms)
        assert drawn.filter(~pl.col("explored"))["propensity"].to_numpy() == pytest.approx(1 - rate + rate / arms)
    arms_of_session = (
        deployment.truth_traces.filter(pl.col("agent") != "support-desk")
        .group_by("session_id")
        .agg(pl.col("arm").n_unique())
    )
    assert (arms_of_session["arm"] == 1).all()


def test_each_arm_is_drawn_as_often_as_the_logged_vectors_say(
    deployment: Deployment, assert_binomial: AssertBinomial
) -> None:
    decisions = deployment.traces.filter(pl.col("decision_id").is_not_null()).unique("decision_id", maintain_order=True)
    logged = [json.loads(metadata)["steer.propensities"] for metadata in decisions["metadata"]]
    for agent in deployment.truth["agents"]:
        own = (decisions["agent"] == agent["name"]).to_list()
        vectors = [vector for vector, of_agent in zip(logged, own, strict=True) if of_agent]
        for arm in agent["arms"] if agent["randomised"] else []:
            drawn = (decisions["arm"].filter(pl.Series(own)) == arm["name"]).sum()
            assert_binomial(drawn, pl.Series([vector.get(arm["name"], 0.0) for vector in vectors]))


def test_values_of_arms_agree_with_inverse_propensity_weighting(deployment: Deployment) -> None:
    """An estimate from the log, made of other numbers than the counterfactual it is compared with."""
    for agent in deployment.truth["agents"]:
        if not agent["randomised"]:
            continue
        log = deployment.truth_traces.filter(
            (pl.col("agent") == agent["name"]) & ~pl.col("user_id").is_in(deployment.truth["opted_out"])
        )
        for arm in agent["arms"]:
            weight = (pl.col("arm") == arm["name"]) / pl.col("propensity")
            sessions = log.group_by("session_id").agg(total=(weight * pl.col("quality")).sum(), weight=weight.sum())
            estimate = sessions["total"].sum() / sessions["weight"].sum()
            residual = sessions["total"] - estimate * sessions["weight"]
            error = math.sqrt(float((residual**2).sum())) / float(sessions["weight"].sum())
            assert abs(estimate - arm["value"]) < SIGMAS * error, (agent["name"], arm["name"])
            assert error < 0.1
            if len(arm["greedy_for"]) < 2:  # most people would be explored with, which they dislike on average
                assert arm["value"] < arm["settled_value"] - 0.005


def test_the_engaging_prompt_is_clicked_more_and_worth_less(deployment: Deployment) -> None:
    hack = deployment.truth["reward_hacking"]
    shop = next(agent for agent in deployment.truth["agents"] if agent["name"] == hack["agent"])
    values = {arm["name"]: arm["settled_value"] for arm in shop["arms"]}
    assert values[f"{hack['prompt']}/aurora-4"] < values["v3/aurora-4"] - 0.03
    items = deployment.truth_items.join(deployment.truth_traces.select("trace_id", "arm", "agent"), on="trace_id")
    rates = dict(
        items.filter(pl.col("agent") == hack["agent"])
        .group_by(hacked=pl.col("arm").str.starts_with(hack["prompt"]))
        .agg(pl.col("clicked").mean())
        .iter_rows()
    )
    assert rates[True] > rates[False] + 0.03


def test_people_who_dislike_exploration_are_worse_off_with_it(deployment: Deployment) -> None:
    dislike = deployment.truth["dislike_exploration"]
    explored = deployment.truth_traces.filter("explored")
    by_taste = explored.group_by(dislikes=pl.col("user_id").is_in(dislike)).agg(pl.col("theta").mean(), pl.len())
    theta = {dislikes: mean for dislikes, mean, _ in by_taste.iter_rows()}
    assert theta[True] < theta[False] - 0.7
    tolerance = {user["user_id"]: user["tolerance"] for user in deployment.truth["users"]}
    assert max(tolerance[user] for user in dislike) < -0.7
