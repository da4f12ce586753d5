"""Shrunk payoffs: against plain integration, and on worlds where the truth is known."""

import numpy as np
import pytest

from pipelines.lessons.payoff.power import minimum_detectable, units_needed
from pipelines.lessons.payoff.shrink import SCALE, posterior
from pipelines.stats.confidence_sequence import radius


def integrated(effect, sd, draws=400_000):
    """The same model by weighing draws from its prior."""
    random = np.random.default_rng(0)
    mu = random.normal(0.0, SCALE, draws)[:, None]
    tau = np.abs(random.normal(0.0, SCALE, draws))[:, None]
    v = sd**2 + tau**2
    log = (-0.5 * (effect - mu) ** 2 / v - 0.5 * np.log(v)).sum(axis=1)
    weight = np.exp(log - log.max())[:, None]
    keep = tau**2 / v
    mean = keep * effect + (1 - keep) * mu
    first = (weight * mean).sum(axis=0) / weight.sum()
    second = (weight * (keep * sd**2 + mean**2)).sum(axis=0) / weight.sum()
    return first, np.sqrt(second - first**2)


def test_it_is_the_integral():
    effect, sd = np.array([0.2, 0.05, -0.02, 0.0]), np.array([0.05, 0.03, 0.04, 0.1])
    for found, wanted in zip(posterior(effect, sd), integrated(effect, sd), strict=True):
        assert found == pytest.approx(wanted, abs=0.003)


def test_the_best_of_useless_lessons_is_drawn_back():
    random = np.random.default_rng(1)
    kept = []
    for _ in range(50):
        measured = random.normal(0.0, 0.04, 30)
        mean, _ = posterior(measured, np.full(30, 0.04))
        kept.append(mean[np.argmax(measured)] / measured.max())
    assert np.mean(kept) < 0.35


def test_posteriors_cover_what_lessons_pay():
    random = np.random.default_rng(2)
    inside = []
    for _ in range(60):
        true = random.normal(0.02, 0.05, 20)
        sd = random.uniform(0.01, 0.1, 20)
        mean, spread = posterior(true + random.normal(0.0, sd), sd)
        inside.append(np.abs(mean - true) <= 1.96 * spread)
    assert 0.92 < np.mean(inside) < 0.98


def test_unmeasured_lessons_are_as_the_others_but_wider():
    measured, sd = np.array([0.1, 0.12, 0.11, np.nan]), np.array([0.01, 0.01, 0.01, np.nan])
    mean, spread = posterior(measured, sd)
    assert 0.08 < mean[3] < 0.12
    assert spread[3] > 2 * spread[:3].max()
    nothing, wide = posterior(np.array([np.nan]), np.array([np.nan]))
    assert nothing[0] == 0.0
    assert wide[0] == pytest.approx(np.sqrt(2) * SCALE, rel=0.05)


def test_power_is_that_of_the_look_itself():
    """At the number of units that power .9 asks for, nine of ten estimates have told the effect apart."""
    random = np.random.default_rng(3)
    for effect, variance in ((0.1, 1.5), (-0.05, 0.8)):
        n = units_needed(effect, variance, alpha=0.01, power=0.9)
        estimates = abs(effect) + random.normal(0.0, np.sqrt(variance / n), 20_000)
        told = np.mean(estimates > float(radius(n, variance, alpha=0.01)))
        assert told == pytest.approx(0.9, abs=0.01)
        assert minimum_detectable(n, variance, alpha=0.01, power=0.9) == pytest.approx(abs(effect), rel=1e-3)
    assert units_needed(0.0, 1.0) == np.inf
