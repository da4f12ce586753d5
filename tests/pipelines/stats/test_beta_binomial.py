"""Moment fit and update of the beta-binomial against closed forms, quadrature, scipy and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pipelines.stats.beta_binomial import MomentsConfig, fit_prior, interval, update


def test_equal_cells_match_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    cells, n = 40, 12
    k = rng.binomial(n, rng.beta(2.0, 3.0, cells)).astype(float)
    p = k / n
    m = p.mean()
    v = m * (1 - m)
    correlation = (np.sum((p - m) ** 2) - v * (cells - 1) / n) / (v * (cells - 1) * (1 - 1 / n))
    prior = fit_prior(k, np.full(cells, float(n)))
    assert prior.concentration == pytest.approx(1 / correlation - 1)
    assert prior.reason is None
    # The mean's Jeffreys posterior: effective trials of the pooled share are N / (1 + (n - 1) rho).
    effective = cells * n / (1 + (n - 1) * correlation)
    assert prior.mean == pytest.approx((m * effective + 0.5) / (effective + 1))
    assert prior.mean_variance == pytest.approx(prior.mean * (1 - prior.mean) / (effective + 2))


@pytest.mark.parametrize("kappa", [1.0, 5.0, 25.0])
def test_unequal_cells_recover_kappa(kappa: float) -> None:
    rng = np.random.default_rng(int(kappa))
    estimates = []
    for _ in range(60):
        n = rng.integers(2, 40, 300)
        k = rng.binomial(n, rng.beta(kappa * 0.3, kappa * 0.7, n.size))
        estimates.append(1 / (1 + fit_prior(k.astype(float), n.astype(float)).concentration))
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - 1 / (1 + kappa)) < 4 * error


def test_interval_of_the_mean_covers() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(2000):
        n = rng.integers(1, 15, 30)
        k = rng.binomial(n, rng.beta(2 * 0.35, 2 * 0.65, 30))
        prior = fit_prior(k.astype(float), n.astype(float))
        lower, upper = interval(np.array([prior.mean]), np.array([prior.mean_variance**0.5]))
        covered += lower[0] <= 0.35 <= upper[0]
    assert 0.93 <= covered / 2000 <= 0.97  # .9425 of 4,000


@pytest.mark.parametrize(
    ("successes", "trials", "reason", "kappa"),
    [
        ([], [], "no_trials", 10.0),
        ([0.0, 0.0], [0.0, 0.0], "no_trials", 10.0),
        ([3.0, 1.0], [4.0, 4.0], "too_few_cells", 10.0),
        ([4.0] * 6, [4.0] * 6, "constant", 10.0),
        ([0.0] * 6, [4.0] * 6, "constant", 10.0),
        ([0.0, 1.0] * 3, [1.0] * 6, "single_trials", 10.0),
        ([2.0] * 6, [4.0] * 6, "not_detected", 1000.0),
        ([0.0, 9.0] * 3, [9.0] * 6, "all_or_nothing", 0.1),
    ],
)
def test_unidentified_kappa_is_named(successes: list[float], trials: list[float], reason: str, kappa: float) -> None:
    prior = fit_prior(np.array(successes), np.array(trials))
    assert prior.reason == reason
    assert prior.concentration == pytest.approx(kappa)
    assert 0 < prior.mean < 1
    assert 0 < prior.mean_variance < 0.25


def test_the_configured_default_is_used() -> None:
    assert fit_prior(np.array([]), np.array([]), MomentsConfig(default=3.0)).concentration == 3.0


def test_update_of_a_certain_prior_is_the_conjugate_one() -> None:
    mean, variance = update(np.array([0.3]), np.array([0.0]), 8.0, np.array([5.0]), np.array([7.0]))
    exact = stats.beta(8 * 0.3 + 5, 8 * 0.7 + 2)
    assert mean[0] == pytest.approx(exact.mean())
    assert variance[0] == pytest.approx(exact.var())


def test_update_agrees_with_beta_binomial_predictive() -> None:
    k = np.arange(8.0)
    mean, variance = update(np.full(8, 0.3), np.zeros(8), 8.0, k, np.full(8, 7.0))
    weights = stats.betabinom(7, 8 * 0.3, 8 * 0.7).pmf(k)
    assert weights @ mean == pytest.approx(0.3)
    total_variance = weights @ variance + weights @ (mean - 0.3) ** 2
    assert total_variance == pytest.approx(stats.beta(2.4, 5.6).var())


@pytest.mark.parametrize(("k", "n", "c"), [(0.0, 0.0, 0.11), (1.0, 1.0, 0.11), (2.5, 4.0, 3.0)])
def test_update_of_an_uncertain_prior_against_quadrature(k: float, n: float, c: float) -> None:
    mu = stats.beta(3.0, 5.0)

    def moment(power: int) -> float:
        def integrand(x: float) -> float:
            a, b = c * x + k, c * (1 - x) + n - k
            mean = a / (a + b)
            value = mean if power == 1 else mean * (1 - mean) / (a + b + 1) + mean**2
            return float(value * mu.pdf(x))

        return float(integrate.quad(integrand, 0, 1)[0])

    mean, variance = update(np.array([mu.mean()]), np.array([mu.var()]), c, np.array([k]), np.array([n]))
    assert mean[0] == pytest.approx(moment(1), abs=1e-9)
    assert variance[0] == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-9)


@given(st.floats(0.05, 50), st.floats(0.05, 50), st.sampled_from([0.5, 0.9, 0.95]))
def test_interval_is_the_matching_beta(a: float, b: float, level: float) -> None:
    exact = stats.beta(a, b)
    lower, upper = interval(np.array([exact.mean()]), np.array([exact.std()]), level)
    tail = (1 - level) / 2
    assert lower[0] == pytest.approx(exact.ppf(tail), abs=1e-6)
    assert upper[0] == pytest.approx(exact.ppf(1 - tail), abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_interval_is_ordered_and_inside(mean: float, sd: float) -> None:
    lower, upper = interval(np.array([mean]), np.array([sd]))
    assert 0 <= lower[0] <= upper[0] <= 1
