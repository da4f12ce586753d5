"""Outcomes are unbiased for groups of traces, where posterior means are drawn towards what was expected."""

import measured_world
import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from pipelines.rewards import measurement
from pipelines.rewards.measured import MeasurementConfig
from pipelines.rewards.outcome import LEAST_RELIABILITY, outcomes

FIT = [{"agent": "a", "mean": 0.4, "sd": 1.1, "leniency_sd": 0.3}]


def a_site(up: float, prior_mean: float, prior_sd: float, leniency_sd: float) -> tuple[float, float]:
    """Location and precision of a lone thumb by brute force: the Gaussian that turns the prior into the posterior."""
    theta = np.linspace(prior_mean - 9 * prior_sd, prior_mean + 9 * prior_sd, 20_001)
    shift = np.linspace(-6, 6, 401)
    weight = np.exp(-0.5 * shift**2)
    chance = expit(theta[:, None] + leniency_sd * shift) @ (weight / weight.sum())
    mass = np.exp(-0.5 * ((theta - prior_mean) / prior_sd) ** 2) * (chance if up else 1.0 - chance)
    mass /= mass.sum()
    mean = float(mass @ theta)
    precision = 1.0 / (float(mass @ theta**2) - mean**2) - prior_sd**-2
    return (mean * (precision + prior_sd**-2) - prior_mean * prior_sd**-2) / precision, precision


def test_the_outcome_of_a_lone_thumb_is_the_thumb() -> None:
    sites = np.array([a_site(up, 0.4, 1.1, 0.3) for up in (0.0, 1.0)])
    found, noise = outcomes(pl.Series(["a", "a"]), sites[:, 0], sites[:, 1], FIT)
    assert found == pytest.approx([0.0, 1.0], abs=0.02)
    # The noise of a coin of the agent's rate, up to how much quality itself varies.
    rate = expit(0.4)
    assert noise == pytest.approx([np.sqrt(rate * (1 - rate))] * 2, abs=0.1)


def test_signals_that_say_next_to_nothing_give_no_outcomes() -> None:
    weakest = LEAST_RELIABILITY / (1 - LEAST_RELIABILITY) / 1.1**2
    for factor, missing in ((0.9, True), (1.1, False)):
        found, noise = outcomes(pl.Series(["a"] * 3), np.zeros(3), np.array([0.0, 1.0, 1.0]) * weakest * factor, FIT)
        assert np.isnan(found).tolist() == np.isnan(noise).tolist() == [True, missing, missing]


def test_agents_without_a_scale_have_no_outcomes() -> None:
    found, _ = outcomes(pl.Series(["b", None]), np.zeros(2), np.ones(2), FIT)
    assert np.isnan(found).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_mean_outcome_of_a_group_is_its_true_mean_reward(seed: int) -> None:
    world = measured_world.build(seed, users=400, sessions=6, solicited=0.3)
    fit = measurement.fit(world.traces, world.signals, MeasurementConfig(now=measured_world.NOW))
    rows = world.traces.select("trace_id").join(fit.evidence, on="trace_id", how="left", maintain_order="left")
    precision = rows["precision"].fill_null(0.0).to_numpy()
    found, _ = outcomes(world.traces["agent"], rows["location"].fill_null(0.0).to_numpy(), precision,
                        fit.parameters["agents"])  # fmt: skip
    known = np.isfinite(found)
    assert known.mean() > 0.9
    truth = expit(world.theta + world.leniency[world.user])
    latent = fit.parameters["agents"][0]
    prior = latent["sd"] ** -2
    posterior = (rows["location"].fill_null(0.0).to_numpy() * precision + latent["mean"] * prior) / (precision + prior)
    # Groups such as arms make: their quality differs, their people and their signals do not.
    better = np.random.default_rng(seed).random(len(truth)) < expit(2.0 * (world.theta - measured_world.MEAN))
    for group in (better & known, ~better & known):
        difference = found[group] - truth[group]
        # What the fit does not know of the agent's mean is common to all its groups; the line bends by .02 out here.
        sd = np.hypot(difference.std() / np.sqrt(group.sum()), 0.2 * latent["mean_sd"])
        assert abs(difference.mean()) < 3 * sd + 0.02, (difference.mean(), sd)
    gap = truth[better].mean() - truth[~better].mean()
    assert found[better & known].mean() - found[~better & known].mean() == pytest.approx(gap, rel=0.12)
    drawn_in = expit(posterior[better]).mean() - expit(posterior[~better]).mean()
    assert drawn_in < 0.8 * gap, "posterior means do understate the difference, or this test shows nothing"
