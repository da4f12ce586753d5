"""Delays against scipy, closed forms, finite differences and simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from pipelines.stats.contract import FitRefused
from pipelines.stats.delay import fit, fit_logistic, kaplan_meier, log_likelihood
from pipelines.stats.logistic import checked_rows, initial

SHAPE, SCALE = 0.8, 5.0


def simulated(
    rng: np.random.Generator, rows: int, eventual: Any = 0.3, longest: float = 30.0
) -> tuple[np.ndarray, np.ndarray]:
    age = rng.uniform(0, longest, rows)
    delay = SCALE * rng.weibull(SHAPE, rows)
    came = (rng.random(rows) < eventual) & (delay <= age)
    return np.where(came, delay, np.nan), age


def test_recovers_delay_and_share() -> None:
    result = fit(*simulated(np.random.default_rng(1), 20_000))
    assert result.shape == pytest.approx(SHAPE, rel=0.05)
    assert result.scale == pytest.approx(SCALE, rel=0.08)
    assert result.eventual == pytest.approx(0.3, abs=0.015)
    assert result.seen(np.array([0.0, 5.0])) == pytest.approx(
        stats.weibull_min(SHAPE, scale=SCALE).cdf([0, 5]), abs=0.02
    )
    assert result.seen(np.array([result.quantile(0.95)])) == pytest.approx([0.95])


def test_when_all_have_come_it_is_plain_maximum_likelihood() -> None:
    rng = np.random.default_rng(2)
    delay = SCALE * rng.weibull(SHAPE, 500)
    delay[-1] = np.nan
    age = np.full(500, 1e6)
    result = fit(delay, age)
    shape, _, scale = stats.weibull_min.fit(delay[:-1], floc=0)
    assert result.shape == pytest.approx(shape, rel=1e-4)
    assert result.scale == pytest.approx(scale, rel=1e-4)
    assert result.eventual == pytest.approx(499 / 500, rel=1e-4)


def test_the_unit_of_time_does_not_matter() -> None:
    delay, age = simulated(np.random.default_rng(3), 2000)
    days, seconds = fit(delay, age), fit(delay * 86400, age * 86400)
    assert seconds.shape == pytest.approx(days.shape, rel=1e-5)
    assert seconds.scale == pytest.approx(days.scale * 86400, rel=1e-5)
    assert seconds.covariance == pytest.approx(days.covariance, rel=1e-3)


@pytest.mark.thorough
def test_intervals_cover() -> None:
    rng = np.random.default_rng(4)
    truth = np.array([np.log(SHAPE), np.log(SCALE), np.log(0.3 / 0.7)])
    runs, hits = 1000, np.zeros(3)
    for _ in range(runs):
        result = fit(*simulated(rng, 1500))
        found = np.array([np.log(result.shape), np.log(result.scale), np.log(result.eventual / (1 - result.eventual))])
        hits += np.abs(found - truth) < 1.96 * np.sqrt(np.diag(result.covariance))
    assert np.all(np.abs(hits / runs - 0.95) <= 0.02), hits / runs  # .944, .937 and .962 of 1,500


def test_kaplan_meier_is_scipys() -> None:
    delay, age = simulated(np.random.default_rng(5), 300)
    delay, age = np.ceil(delay), np.ceil(age)  # ties of outcomes and of ends of observation
    age = np.fmax(age, delay)
    happened = ~np.isnan(delay)
    result = kaplan_meier(delay, age)
    theirs = stats.ecdf(stats.CensoredData(uncensored=delay[happened], right=age[~happened]))
    assert result.share == pytest.approx(theirs.cdf.evaluate(result.time))
    interval = theirs.cdf.confidence_interval(method="log-log")
    # scipy's log-log interval is that of the cdf; ours of the survival, as in Kalbfleisch & Prentice.
    survival = theirs.sf.confidence_interval(method="log-log")
    assert result.lower == pytest.approx(1 - survival.high.evaluate(result.time), abs=1e-9)
    assert result.upper == pytest.approx(1 - survival.low.evaluate(result.time), abs=1e-9)
    assert np.nanmax(np.abs(interval.low.evaluate(result.time) - result.lower)) < 0.1


def test_kaplan_meier_covers_and_ends_at_one_when_all_came() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(1500):
        result = kaplan_meier(*simulated(rng, 200, eventual=1.0))
        at = np.searchsorted(result.time, 5.0, side="right") - 1
        hits += result.lower[at] <= stats.weibull_min(SHAPE, scale=SCALE).cdf(5.0) <= result.upper[at]
    assert 0.93 <= hits / 1500 <= 0.97  # .9535 of 2,000
    all_came = kaplan_meier(np.array([1.0, 2.0, 2.0]), np.array([9.0, 9.0, 9.0]))
    assert all_came.share == pytest.approx([1 / 3, 1.0])
    assert all_came.upper[-1] == 1.0


@given(st.floats(-30, 30), st.sampled_from([0.0, 1.0, 0.4]), st.floats(0, 1))
def test_derivatives_are_those_of_the_value(eta: float, response: float, seen: float) -> None:
    at = np.array([eta])
    y, f = np.array([response]), np.array([seen])
    _, slope, bend = log_likelihood(at, y, f)
    step = 1e-4
    up, down = log_likelihood(at + step, y, f), log_likelihood(at - step, y, f)
    assert slope == pytest.approx((up[0] - down[0]) / (2 * step), abs=1e-6)
    assert bend == pytest.approx((up[1] - down[1]) / (2 * step), abs=1e-6)


def test_a_young_negative_says_nothing_and_an_old_one_is_a_zero() -> None:
    eta = np.array([0.7, 0.7])
    value, slope, _ = log_likelihood(eta, np.zeros(2), np.array([0.0, 1.0]))
    assert value.tolist() == pytest.approx([0.0, np.log(1 - expit(0.7))])
    assert slope.tolist() == pytest.approx([0.0, -expit(0.7)])


def test_delayed_logistic_is_unbiased_where_the_plain_one_is_not() -> None:
    rng = np.random.default_rng(7)
    runs, hits, naive = 200, np.zeros(2), np.zeros(2)
    for _ in range(runs):
        x = rng.normal(0, 1, 1000)
        design = np.column_stack([np.ones(1000), x])
        delay, age = simulated(rng, 1000, eventual=expit(-0.5 + 0.8 * x), longest=12.0)
        came = (~np.isnan(delay)).astype(float)
        seen = stats.weibull_min(SHAPE, scale=SCALE).cdf(age)
        result = fit_logistic(came, design, seen, users=np.arange(1000) // 2)
        hits += np.abs(result.beta - [-0.5, 0.8]) < 1.96 * np.sqrt(np.diag(result.robust_covariance))
        plain = initial("", checked_rows("", came, design, weight=None, offset=None, names=None))
        naive += plain / runs
    assert np.all(np.abs(hits / runs - 0.95) < 0.04), hits / runs
    assert naive[0] < -0.9


def test_everything_seen_is_plain_logistic_regression() -> None:
    rng = np.random.default_rng(8)
    design = np.column_stack([np.ones(300), rng.normal(0, 1, 300)])
    came = (rng.random(300) < expit(design @ [0.2, 1.0])).astype(float)
    offset = rng.normal(0, 0.5, 300)
    result = fit_logistic(came, design, np.ones(300), offset=offset)
    plain = initial("", checked_rows("", came, design, weight=None, offset=offset, names=None))
    assert result.beta == pytest.approx(plain, abs=1e-6)
    p = expit(offset + design @ plain)
    assert result.covariance == pytest.approx(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None])), rel=1e-5)


@pytest.mark.parametrize(
    ("delay", "age", "reason"),
    [
        ([], [], "no_rows"),
        ([1.0, np.nan], [5.0, np.nan], "not_finite"),
        ([1.0, np.inf], [5.0, 5.0], "not_finite"),
        ([-1.0, np.nan], [5.0, 5.0], "out_of_range"),
        ([6.0, np.nan], [5.0, 5.0], "out_of_range"),
        ([np.nan, np.nan], [5.0, 5.0], "too_few_events"),
        ([1.0, 2.0, np.nan], [5.0, 5.0, 5.0], "too_few_events"),
        ([2.0] * 20, [5.0] * 20, "too_few_events"),
    ],
)
def test_refuses_by_name(delay: list[float], age: list[float], reason: str) -> None:
    with pytest.raises(FitRefused) as refusal:
        fit(np.array(delay), np.array(age))
    assert refusal.value.reason == reason


def test_rows_too_young_to_tell_are_refused() -> None:
    rng = np.random.default_rng(9)
    delay, age = simulated(rng, 400, eventual=0.5, longest=0.5)
    with pytest.raises(FitRefused) as refusal:
        fit(delay, age)
    assert refusal.value.reason == "not_converged"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"response": np.zeros(40)}, "constant_response"),
        ({"seen": np.full(40, 1.5)}, "out_of_range"),
        ({"seen": np.full(40, np.nan)}, "not_finite"),
        ({"users": np.zeros(40, dtype=np.int64)}, "one_user"),
        ({"design": np.column_stack([np.ones(40), np.arange(40) % 2])}, "separation"),
    ],
)
def test_delayed_logistic_refuses_by_name(change: dict[str, Any], reason: str) -> None:
    rows = {
        "response": (np.arange(40) % 2).astype(float),
        "design": np.ones((40, 1)),
        "seen": np.full(40, 0.5),
    }
    with pytest.raises(FitRefused) as refusal:
        fit_logistic(**(rows | change))
    assert refusal.value.reason == reason
