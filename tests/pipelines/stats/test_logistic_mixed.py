"""Random-intercept logistic regression against brute-force integration, invariances and simulation."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from pipelines.stats import gauss_hermite, logistic_mixed
from pipelines.stats.contract import FitRefused
from pipelines.stats.logistic_mixed import fit, posterior


def simulated(
    rng: np.random.Generator, users: int, events: int, beta: tuple[float, ...], sd: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    who = np.repeat(np.arange(users), events)
    design = np.column_stack([np.ones(who.size), rng.normal(0, 1, (who.size, len(beta) - 1))])
    intercepts = rng.normal(0, sd, users)
    response = (rng.random(who.size) < expit(design @ np.array(beta) + intercepts[who])).astype(float)
    return response, design, who, intercepts


GRID = np.linspace(-9, 9, 1201)
DENSITY = np.exp(-0.5 * GRID**2) / np.sqrt(2 * np.pi) * (GRID[1] - GRID[0])


def by_grid(
    beta: np.ndarray, sd: float, response: np.ndarray, design: np.ndarray, who: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log-likelihood, posterior means and sds by the trapezoid rule on 1201 points."""
    value, means, sds = 0.0, [], []
    for user in np.unique(who):
        rows = who == user
        linear = (design[rows] @ beta)[:, None] + sd * GRID
        row = weight[rows, None] * (response[rows, None] * linear - np.logaddexp(0, linear))
        joint = np.exp(row.sum(axis=0)) * DENSITY
        total = joint.sum()
        value += np.log(total)
        means.append(sd * float(joint @ GRID / total))
        sds.append(np.sqrt(sd**2 * float(joint @ GRID**2 / total) - means[-1] ** 2))
    return value, np.array(means), np.array(sds)


def test_estimates_are_the_maximum_of_the_integrated_likelihood() -> None:
    rng = np.random.default_rng(1)
    response, design, who, _ = simulated(rng, 60, 7, (0.4, 0.8), 1.2)
    weight = rng.uniform(0.5, 2.0, who.size)
    result = fit(response, design, who, weight=weight, nodes=25)
    best = minimize(
        lambda at: -by_grid(at[:2], at[2], response, design, who, weight)[0], [0.4, 0.8, 1.2], method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 400},
    )  # fmt: skip
    assert [*result.beta, result.sd] == pytest.approx(best.x, abs=2e-5)
    value, means, sds = by_grid(result.beta, result.sd, response, design, who, weight)
    assert result.log_likelihood == pytest.approx(value, abs=1e-6)
    assert result.user_mean == pytest.approx(means, abs=1e-5)
    assert result.user_sd == pytest.approx(sds, abs=1e-5)


def test_covariance_is_the_curvature_and_the_interval_of_sd_the_profile_likelihood() -> None:
    rng = np.random.default_rng(2)
    response, design, who, _ = simulated(rng, 40, 6, (0.2, 0.6), 0.9)
    one = np.ones(who.size)
    result = fit(response, design, who, nodes=25)
    at = np.array([*result.beta, result.sd])

    def value(point: np.ndarray) -> float:
        return by_grid(point[:2], point[2], response, design, who, one)[0]

    step = 1e-3
    unit = np.eye(3) * step
    information = -np.array(
        [
            [
                (value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)) / (4 * step**2)
                for b in unit
            ]
            for a in unit
        ]
    )
    covariance = np.linalg.inv(information)
    assert result.covariance == pytest.approx(covariance[:2, :2], rel=2e-3, abs=1e-5)
    assert result.sd_error == pytest.approx(np.sqrt(covariance[2, 2]), rel=2e-3)
    for limit in (result.sd_lower, result.sd_upper):
        if limit > 0:
            held = minimize(
                lambda beta, sd=limit: -value(np.append(beta, sd)), result.beta, method="Nelder-Mead",
                options={"xatol": 1e-6, "fatol": 1e-8},
            )  # fmt: skip
            assert 2 * (result.log_likelihood + held.fun) == pytest.approx(1.959964**2, abs=0.02)


def test_nine_nodes_are_enough() -> None:
    rng = np.random.default_rng(3)
    response, design, who, _ = simulated(rng, 300, 10, (0.3, -0.7), 1.5)
    nine, many = fit(response, design, who), fit(response, design, who, nodes=31)
    assert [*nine.beta, nine.sd] == pytest.approx([*many.beta, many.sd], abs=2e-3)


def test_order_chunks_and_pilot_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    response, design, who, _ = simulated(rng, 400, 5, (0.3, -0.7), 1.0)
    offset = rng.normal(0, 0.3, who.size)
    result = fit(response, design, who, offset=offset)
    order = rng.permutation(who.size)
    monkeypatch.setattr(gauss_hermite, "CHUNK_ROWS", 37)
    monkeypatch.setattr(logistic_mixed, "PILOT_USERS", 100)
    other = fit(response[order], design[order], who[order] * 2, offset=offset[order], n_users=900)
    assert other.beta == pytest.approx(result.beta, abs=1e-5)
    assert other.sd == pytest.approx(result.sd, abs=1e-5)
    assert other.robust_covariance == pytest.approx(result.robust_covariance, rel=1e-3)
    assert other.user_mean[:800:2] == pytest.approx(result.user_mean, abs=1e-5)
    # Users without rows have the population's intercept and spread.
    assert other.user_mean[1] == 0.0
    assert other.user_sd[[1, 899]] == pytest.approx([other.sd, other.sd])


def test_weights_are_repeated_rows_and_offsets_are_known_parts() -> None:
    rng = np.random.default_rng(5)
    response, design, who, _ = simulated(rng, 80, 6, (0.1, 0.5), 0.8)
    times = rng.integers(1, 4, who.size)
    weighted = fit(response, design, who, weight=times.astype(float))
    repeated = fit(np.repeat(response, times), np.repeat(design, times, axis=0), np.repeat(who, times))
    assert weighted.beta == pytest.approx(repeated.beta, abs=1e-6)
    assert weighted.robust_covariance == pytest.approx(repeated.robust_covariance, abs=1e-8)
    known = fit(response, design[:, :1], who, offset=0.5 * design[:, 1], sd=weighted.sd)
    assert known.note == "sd_given"
    assert np.isnan(known.sd_error)
    assert known.beta.shape == (1,)


def test_posterior_between_fits_is_that_of_the_fit() -> None:
    rng = np.random.default_rng(6)
    response, design, who, _ = simulated(rng, 50, 4, (0.1, 0.5), 0.8)
    result = fit(response, design, who, n_users=52)
    mean, sd = posterior(result.beta, result.sd, response, design, who, n_users=52)
    assert mean == pytest.approx(result.user_mean, abs=1e-4)
    assert sd == pytest.approx(result.user_sd, abs=1e-4)
    # A user who only says yes is not thought to do so for ever.
    yes, spread = posterior(np.zeros(1), 1.0, np.ones(3), np.ones((3, 1)), np.zeros(3, dtype=np.int64))
    assert 0.5 < yes[0] < 1.5
    assert 0.5 < spread[0] < 1.0


def test_ten_events_a_user_recover_the_truth() -> None:
    rng = np.random.default_rng(7)
    response, design, who, _ = simulated(rng, 6000, 10, (0.5, 0.7), 0.8)
    result = fit(response, design, who)
    error = np.sqrt(np.diag(result.robust_covariance))
    assert np.all(np.abs(result.beta - [0.5, 0.7]) < 3.5 * error)
    assert np.all(error < 0.02)
    assert result.sd == pytest.approx(0.8, abs=0.05)
    assert result.note is None


@pytest.mark.thorough
def test_intervals_cover() -> None:
    rng = np.random.default_rng(8)
    runs = 400
    hits = {"beta": 0.0, "robust": 0.0, "sd": 0.0, "user": 0.0}
    for _ in range(runs):
        response, design, who, intercepts = simulated(rng, 150, 6, (0.5, 0.7), 0.8)
        result = fit(response, design, who)
        for name, covariance in (("beta", result.covariance), ("robust", result.robust_covariance)):
            error = np.sqrt(np.diag(covariance))
            hits[name] += np.mean(np.abs(result.beta - [0.5, 0.7]) < 1.96 * error) / runs
        hits["sd"] += (result.sd_lower <= 0.8 <= result.sd_upper) / runs
        hits["user"] += np.mean(np.abs(result.user_mean - intercepts) < 1.96 * result.user_sd) / runs
    assert all(0.93 <= share <= 0.97 for share in hits.values()), hits  # .950, .953, .944, .937 of 1,000


def test_users_that_do_not_differ_are_said_not_to() -> None:
    rng = np.random.default_rng(100)
    notes = []
    for _ in range(12):
        response, design, who, _ = simulated(rng, 40, 5, (0.2, 0.5), 0.0)
        result = fit(response, design, who)
        notes.append(result.note)
        assert result.sd_lower == 0.0 or result.sd > 0.3
        if result.note == "no_spread":
            assert result.sd == 0.0
            assert 0.0 < result.sd_upper < 2.0
            assert np.all(result.user_mean == 0.0)
            assert np.all(np.isfinite(result.robust_covariance))
    assert "no_spread" in notes


def degenerate(name: str) -> tuple[dict[str, Any], str]:
    rng = np.random.default_rng(10)
    response, design, who, _ = simulated(rng, 30, 5, (0.2, 0.5), 0.5)
    rows: dict[str, Any] = {"response": response, "design": design, "users": who}
    separated = np.column_stack([np.ones(who.size), response + rng.normal(0, 0.1, who.size)])
    quasi = np.column_stack([design[:, 0], design[:, 1], response * (who % 3 == 0)])
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "no rows": ({"response": response[:0], "design": design[:0], "users": who[:0]}, "no_rows"),
        "all weights zero": ({"weight": np.zeros(who.size)}, "no_rows"),
        "all positive": ({"response": np.ones(who.size)}, "constant_response"),
        "all negative": ({"response": np.zeros(who.size)}, "constant_response"),
        "one user": ({"users": np.zeros(who.size, dtype=np.int64)}, "one_user"),
        "single events": ({"users": np.arange(who.size)}, "single_events"),
        "separated": ({"design": separated}, "separation"),
        "nearly separated": ({"design": quasi}, "separation"),
        "users always the same": ({"response": (who % 2).astype(float), "design": design[:, :1]}, "separation"),
        "a column twice": ({"design": design[:, [0, 1, 1]]}, "collinear"),
        "a column of zeros": ({"design": design * [1.0, 0.0]}, "collinear"),
        "nan response": ({"response": np.where(who == 3, np.nan, response)}, "not_finite"),
        "nan column": ({"design": np.where(design > 2, np.nan, design)}, "not_finite"),
        "response of two": ({"response": response * 2}, "out_of_range"),
        "negative weight": ({"weight": -np.ones(who.size)}, "out_of_range"),
        "user beyond": ({"n_users": 10}, "out_of_range"),
    }
    change, reason = changes[name]
    return rows | change, reason


@pytest.mark.parametrize(
    "name",
    [
        "no rows", "all weights zero", "all positive", "all negative", "one user", "single events", "separated",
        "nearly separated", "users always the same", "a column twice", "a column of zeros", "nan response",
        "nan column", "response of two", "negative weight", "user beyond",
    ],
)  # fmt: skip
def test_refuses_by_name(name: str) -> None:
    rows, reason = degenerate(name)
    with pytest.raises(FitRefused) as refusal:
        fit(rows.pop("response"), rows.pop("design"), rows.pop("users"), **rows)
    assert refusal.value.reason == reason


def test_one_user_is_fitted_when_the_sd_is_known() -> None:
    rows, _ = degenerate("one user")
    result = fit(rows["response"], rows["design"], rows["users"], sd=0.5)
    assert result.users == 1
    assert np.isnan(result.robust_covariance).all()
    assert np.isfinite(result.covariance).all()


def test_the_column_that_separates_is_named() -> None:
    rows, _ = degenerate("nearly separated")
    with pytest.raises(FitRefused, match="arm B tells the responses apart"):
        fit(rows["response"], rows["design"], rows["users"], names=["one", "length", "arm B"])
