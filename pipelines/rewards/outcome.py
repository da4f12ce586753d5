"""Outcomes: what a trace's own signals say of its reward, unbiased, for comparing groups of traces such as arms.

A reward is a posterior mean: it lies between what was expected of the trace and what its signals say. That is the best
single guess, but means of it are drawn towards what is expected: an arm that is new and much better looks only a little
better. Animal breeding knows the problem, and the remedy, as deregression (Garrick, Taylor & Fernando 2009, Genet. Sel.
Evol. 41:55): take out what was expected, and undo the shrinkage.

Against the agent's own N(mu, s²) alone, the evidence (location l, precision p) of a trace moves its quality theta to
c = mu + k (l - mu), with k = p / (p + 1 / s²). Over that distribution E c = mu and cov(c, theta) = var c = s² E k, so
mu + (c - mu) / E k has the mean mu and regresses on theta with the slope 1. (Dividing by each trace's own k would not
do: how much a trace's signals tell depends on what they say.) The reward g(theta) is a curve, so its best line is used,
the reward as the measurement model defines it; the calibration of predictions is not for what is no prediction:

    outcome = E g(theta) + b (c - mu) / E k,   b = cov(g(theta), theta) / s²,   sd = b s sqrt(1 / E k - 1)

Where the only signal is the thumb that fixes the scale, the outcome is that thumb, 0 or 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, roots_hermitenorm

__all__ = ["LEAST_RELIABILITY", "common_sds", "in_place_of_rewards", "outcomes"]

Floats = NDArray[np.float64]

LEAST_RELIABILITY = 0.02
"""Of an agent's evidence, E k: under it the noise is over seven times the spread of quality."""

_NODES, _WEIGHTS = roots_hermitenorm(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LEAST_SPREAD = 0.05


def outcomes(
    agents: pl.Series, location: Floats, precision: Floats, fits: Sequence[Mapping[str, Any]]
) -> tuple[Floats, Floats]:
    """The outcome of every trace and the standard deviation of its noise; NaN without evidence or scale.

    Args: per trace (traces,) its agent's name, `location` and `precision` of its evidence; `fits` one row an agent with
    `agent`, `mean` and `sd` of its latent quality and `leniency_sd` of people, as `MeasurementFit.parameters` has them.
    """
    outcome, noise = np.full(len(location), np.nan), np.full(len(location), np.nan)
    for fit in fits:
        rows = np.flatnonzero(agents.eq_missing(fit["agent"]).to_numpy() & (precision > 0.0))
        mean, spread = float(fit["mean"]), max(float(fit["sd"]), _LEAST_SPREAD)
        told = precision[rows] / (precision[rows] + spread**-2)
        reliability = float(told.mean()) if len(rows) else 0.0
        if reliability < LEAST_RELIABILITY:
            continue
        expected, slope = _line(mean, spread, float(fit["leniency_sd"]))
        outcome[rows] = expected + slope * told * (location[rows] - mean) / reliability
        noise[rows] = slope * spread * np.sqrt(max(1.0 / reliability - 1.0, 0.0))
    return outcome, noise


def common_sds(fits: Sequence[Mapping[str, Any]]) -> dict[str | None, float]:
    """By agent, the sd of the error that all its outcomes share, since its mean quality is not known exactly."""
    slopes = {
        fit["agent"]: _line(float(fit["mean"]), max(float(fit["sd"]), _LEAST_SPREAD), float(fit["leniency_sd"]))[1]
        for fit in fits
    }
    return {fit["agent"]: slopes[fit["agent"]] * float(fit["mean_sd"]) for fit in fits}


def in_place_of_rewards(rewarded: pl.DataFrame) -> pl.DataFrame:
    """Rewards (mean, sd) with the outcome (outcome) in their place where there is one: what means of groups rest on.

    The noise of outcomes is in how they vary, so their own sd is 0 here.
    """
    known = pl.col("outcome").is_not_null()
    return rewarded.with_columns(
        mean=pl.coalesce("outcome", "mean"), sd=pl.when(known).then(0.0).otherwise(pl.col("sd"))
    )


def _line(mean: float, spread: float, leniency: float) -> tuple[float, float]:
    """Mean and slope of the best line through the reward, s(theta + leniency) on average, over N(mean, spread²)."""
    reward = expit(mean + spread * _NODES[:, None] + leniency * _NODES) @ _WEIGHTS
    expected = float(_WEIGHTS @ reward)
    return expected, float(_WEIGHTS @ ((reward - expected) * _NODES)) / spread
