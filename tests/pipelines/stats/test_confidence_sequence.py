"""Confidence sequences against published numbers and simulated looking."""

import numpy as np
import pytest

from pipelines.stats.confidence_sequence import difference, mean, radius, sequence
from pipelines.stats.contract import FitRefused


def test_growthbooks_sequential_interval() -> None:
    # GrowthBook gbstats 0.8.0, TestSequentialTTest: relative lift .50336, interval (-.55844, 1.56516) of standard
    # error .33341 at 3000 + 3461 users, tuning 1000. Its ρ² is (-2 ln α + ln(-2 ln α + 1))/t*, ours has the 1 outside
    # the logarithm: the tuning below gives the same ρ².
    spread = -2 * np.log(0.05)
    tune_at = 1000 * (spread + np.log(spread) + 1) / (spread + np.log(spread + 1))
    n = 3000 + 3461
    margin = float(radius(n, n * 0.33341**2, tune_at=tune_at))
    assert (0.50336 - margin, 0.50336 + margin) == pytest.approx((-0.55844, 1.56516), abs=5e-4)


def test_narrowest_about_the_tuned_size() -> None:
    sizes = np.array([100.0, 1000.0, 10_000.0])
    for size in sizes:
        widths = [float(radius(size, 1.0, tune_at=tuned)) for tuned in sizes]
        assert int(np.argmin(widths)) == int(np.flatnonzero(sizes == size)[0])
    assert np.all(np.diff(radius(np.arange(1, 5000), 1.0)) < 0)
    # Within a factor of 2 of the interval that may be looked at once only.
    assert float(radius(1000, 1.0)) < 2 * 1.96 / np.sqrt(1000)


@pytest.mark.parametrize("rate", [0.5, 0.2, 0.06])
def test_truth_is_inside_at_every_look(rate: float) -> None:
    rng = np.random.default_rng(int(rate * 100))
    runs, missed, fixed = 500, 0, 0
    for _ in range(runs):
        values = (rng.random(3000) < rate).astype(float)
        result = sequence(values)
        outside = (result.lower > rate) | (result.upper < rate)
        missed += bool(outside.any())
        t = np.arange(200, 3001)
        average = result.estimate[199:]
        fixed += bool(np.any(np.abs(average - rate) > 1.96 * np.sqrt(average * (1 - average) / t)))
    assert missed / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert fixed / runs > 0.2  # what looking all the time does to an interval made for one look


def test_a_difference_holds_at_every_look() -> None:
    rng = np.random.default_rng(1)
    runs, missed = 200, 0
    for _ in range(runs):
        a, b = rng.random(3000) < 0.55, rng.random(3000) < 0.5
        for n in range(200, 3001, 100):
            x, y = a[:n], b[: n // 2 + 100]
            look = difference((x.size, x.mean(), x.var()), (y.size, y.mean(), y.var()))
            if look.ready and not look.lower <= 0.05 <= look.upper:
                missed += 1
                break
    assert missed / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_weighted_pseudo_outcomes_hold_at_every_look() -> None:
    rng = np.random.default_rng(2)
    runs, missed = 300, 0
    for _ in range(runs):
        propensity = np.where(rng.random(4000) < 0.5, 0.9, 0.1)
        taken = rng.random(4000) < propensity
        weight = np.where(taken, 1 / propensity, 1e-9)
        values = np.where(taken, weight * (rng.random(4000) < 0.4), 0.0)
        result = sequence(values, importance=weight)
        missed += bool(np.any((result.lower > 0.4) | (result.upper < 0.4)))
    assert missed / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_nothing_is_said_while_collecting_or_without_variation() -> None:
    rng = np.random.default_rng(3)
    result = sequence(rng.random(300))
    assert np.isnan(result.lower[:199]).all()
    assert np.isfinite(result.lower[199:]).all()
    assert result.ess[-1] == pytest.approx(300)
    heavy = sequence(rng.random(300), importance=np.where(np.arange(300) % 10 == 0, 20.0, 0.1))
    assert np.isnan(heavy.upper).all()
    assert np.isnan(sequence(np.ones(500)).upper).all()
    assert not mean(199, 0.5, 0.25).ready
    assert mean(200, 0.5, 0.25).ready
    assert not mean(5000, 0.5, 0.25, ess=150).ready
    assert not mean(5000, 1.0, 0.0).ready
    assert not difference((5000, 0.5, 0.25), (150, 0.5, 0.25)).ready
    assert np.isnan(difference((5000, 0.5, 0.25), (150, 0.5, 0.25)).lower)


def test_the_last_look_is_that_of_the_sums() -> None:
    rng = np.random.default_rng(4)
    values = rng.random(1000) + 1e6
    result = sequence(values)
    look = mean(1000, values.mean(), values.var())
    assert look.lower == pytest.approx(result.lower[-1], rel=1e-9)
    assert look.upper - look.lower == pytest.approx(result.upper[-1] - result.lower[-1], rel=1e-4)


def test_refuses_by_name() -> None:
    cases = [
        (lambda: sequence(np.empty(0)), "no_rows"),
        (lambda: sequence(np.array([0.5, np.nan])), "not_finite"),
        (lambda: sequence(np.array([0.5, 0.2]), importance=np.array([1.0, 0.0])), "bad_propensity"),
        (lambda: sequence(np.array([0.5, 0.2]), importance=np.array([1.0, -2.0])), "bad_propensity"),
        (lambda: mean(0, 0.5, 0.25), "no_rows"),
        (lambda: mean(10, np.nan, 0.25), "not_finite"),
        (lambda: mean(10, 0.5, -0.25), "out_of_range"),
        (lambda: difference((0, 0.5, 0.2), (10, 0.5, 0.2)), "no_rows"),
    ]
    for call, reason in cases:
        with pytest.raises(FitRefused) as refusal:
            call()
        assert refusal.value.reason == reason
    with pytest.raises(ValueError, match="alpha"):
        radius(10, 1.0, alpha=1.5)
