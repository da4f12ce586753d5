"""What people say and do has the rates that the truth states, within binomial bounds of four standard errors."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import kstest

from pipelines.simulate import Deployment

AssertBinomial = Callable[[float, pl.Series], None]
SIGMAS = 4.0


def repeat(probability: float, count: int) -> pl.Series:
    return pl.Series([probability] * count)


def test_solicited_thumbs_are_a_random_sample(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    thumbs = deployment.signals.filter((pl.col("kind") == "thumb") & pl.col("solicited"))
    rate = deployment.config.solicitation_rate
    assert_binomial(thumbs.height, repeat(rate, deployment.traces.height))
    truth = thumbs.join(deployment.truth_traces, on="trace_id")
    assert_binomial(truth["value"].sum(), truth["satisfaction"])
    by_agent = deployment.truth_traces.group_by("agent").agg(pl.col("satisfaction").mean())
    stated = {agent["name"]: agent["satisfaction_rate"] for agent in deployment.truth["agents"]}
    assert dict(by_agent.iter_rows()) == pytest.approx(stated)


def test_voluntary_thumbs_miss_the_truth_by_far(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    rates = deployment.truth["measurement"]["thumb"]
    thumbs = deployment.signals.filter((pl.col("kind") == "thumb") & ~pl.col("solicited"))
    assert thumbs["propensity"].null_count() == thumbs.height
    truth = deployment.truth_traces.join(thumbs.select("trace_id", "value"), on="trace_id", how="left")
    for agent in deployment.truth["agents"]:
        given = truth.filter((pl.col("agent") == agent["name"]) & pl.col("value").is_not_null())
        assert given["value"].mean() <= agent["satisfaction_rate"] - 0.3  # type: ignore[operator]
        assert agent["voluntary_thumbs"] == {"count": given.height, "share_up": pytest.approx(given["value"].mean())}
    asked = 1.0 - rates["solicitation_rate"]
    for satisfied, rate in ((True, rates["rate_if_satisfied"]), (False, rates["rate_if_not"])):
        at_risk = truth.filter(pl.col("satisfied") == satisfied)
        assert_binomial(at_risk["value"].count(), repeat(rate * asked, at_risk.height))
        assert (at_risk["value"].drop_nulls() == float(satisfied)).all()


def test_stated_goals_are_the_stated_weights_with_error(deployment: Deployment) -> None:
    users = {user["user_id"]: user["weights_stated"] for user in deployment.truth["users"]}
    features = deployment.truth["features"]
    start = deployment.config.start
    first = deployment.signals.filter(
        (pl.col("name") == "stated_goal") & (pl.col("occurred_at").dt.date() == start.date())
    )
    assert first.height == len(users) * len(features)
    errors = [
        value - users[user][features.index(item)]
        for user, item, value in first.select("user_id", "item", "value").iter_rows()
    ]
    sd = deployment.truth["measurement"]["stated_goal"]["sd"]
    assert abs(float(np.mean(errors))) < SIGMAS * sd / math.sqrt(len(errors))
    assert abs(float(np.std(errors)) - sd) < SIGMAS * sd / math.sqrt(2 * len(errors))


def test_purchases_come_late_and_some_not_in_time(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    model = deployment.truth["measurement"]["purchase"]
    truth = deployment.truth_traces
    last = truth.filter(
        (pl.col("turn") == pl.col("turn").max().over("session_id")) & (pl.col("agent") != "support-desk")
    )
    at_risk = last.filter(~pl.col("failed"))
    chance = pl.Series(expit(model["intercept"] + model["loading"] * at_risk["theta_revealed"].to_numpy()))
    assert_binomial(at_risk["bought"].sum(), chance)
    assert truth["bought"].sum() == at_risk["bought"].sum()
    bought = truth.filter("bought")
    hours = ((bought["bought_at"] - bought["ended_at"]).dt.total_milliseconds() / 3_600_000).to_numpy()
    scale = (0.0, model["delay_scale_hours"])
    assert kstest(hours, "weibull_min", args=(model["delay_shape"], *scale)).pvalue > 1e-3
    seen = deployment.signals.filter(pl.col("kind") == "purchase")
    in_time = bought.filter(pl.col("bought_at") < deployment.config.until)
    assert 0 < in_time.height < bought.height
    assert sorted(seen["session_id"]) == sorted(in_time["session_id"])


def test_retries_follow_answers_that_did_not_help(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    model = deployment.truth["measurement"]["retry"]
    truth = deployment.truth_traces.sort("session_id", "turn").with_columns(
        next_task=pl.col("task").shift(-1).over("session_id"),
        again=pl.col("retry_of_previous").shift(-1).over("session_id"),
    )
    at_risk = truth.filter(pl.col("next_task").is_not_null())
    chance = pl.Series(expit(model["intercept"] + model["loading"] * at_risk["theta_revealed"].to_numpy()))
    assert_binomial(at_risk["retried"].sum(), chance)
    assert (at_risk["retried"] == at_risk["again"]).all()
    retried = at_risk.filter("retried")
    assert (retried["task"] == retried["next_task"]).all()
    assert set(deployment.signals.filter(pl.col("kind") == "retry")["trace_id"]) == set(retried["trace_id"])


def test_outcomes_and_judgements_have_their_error_rates(
    deployment: Deployment, assert_binomial: AssertBinomial
) -> None:
    truth = deployment.truth_traces
    outcome = deployment.truth["measurement"]["outcome"]
    checked = deployment.signals.filter(pl.col("kind") == "outcome").join(truth, on="trace_id")
    assert set(checked["agent"]) == set(outcome["agents"])
    chance = expit(outcome["intercept"] + outcome["loading"] * checked["theta"].to_numpy())
    assert_binomial(checked["value"].sum(), pl.Series(chance))
    for tail in (chance < 0.4, chance > 0.9):
        assert_binomial(checked["value"].filter(pl.Series(tail)).sum(), pl.Series(chance[tail]))
    judge = deployment.truth["measurement"]["judge"]
    judged = deployment.signals.filter(pl.col("kind") == "judge").join(truth, on="trace_id")
    assert_binomial(judged.height, repeat(judge["rate"], truth.height))
    for satisfied, rate in ((True, judge["sensitivity"]), (False, 1.0 - judge["specificity"])):
        group = judged.filter(pl.col("satisfied") == satisfied)
        assert_binomial(group["value"].sum(), repeat(rate, group.height))


def test_ratings_follow_a_cumulative_logit(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    model = deployment.truth["measurement"]["rating"]
    leniency = {user["user_id"]: user["leniency"] for user in deployment.truth["users"]}
    rated = deployment.signals.filter(pl.col("kind") == "rating").join(
        deployment.truth_traces.select("trace_id", "theta"), on="trace_id"
    )
    stars = 1 + 4 * rated["value"]
    latent = model["loading"] * rated["theta"] + rated["user_id"].replace_strict(leniency)
    # Who rates depends on being satisfied, which is drawn apart from the stars, so these are unbiased given theta.
    for below, cutpoint in enumerate(model["cutpoints"], start=1):
        assert_binomial((stars <= below).sum(), pl.Series(expit(cutpoint - latent.to_numpy())))
