"""The choice model against another package, logistic regression and simulation."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from pipelines.stats.conditional_logit import fit, pool, probabilities
from pipelines.stats.contract import FitRefused
from pipelines.stats.logistic import checked_rows, initial


def simulated(
    rng: np.random.Generator,
    weights: np.ndarray,
    users: int,
    choices: int,
    largest: int = 5,
    constant: float | None = 0.3,
) -> dict[str, Any]:
    """Sets of 2 to `largest` options per user; `weights` is (d,) or (users, d)."""
    d = weights.shape[-1]
    sizes = rng.integers(2, largest + 1, users * choices)
    sets = np.repeat(np.arange(sizes.size), sizes)
    owner = np.repeat(np.arange(users), choices)[sets]
    features = rng.normal(0, 1, (sets.size, d))
    utility = np.einsum("rd,rd->r", features, np.broadcast_to(weights, (users, d))[owner]) + rng.gumbel(size=sets.size)
    top = np.full(sizes.size, -np.inf) if constant is None else constant + rng.gumbel(size=sizes.size)
    np.maximum.at(top, sets, utility)
    return {"features": features, "sets": sets, "chosen": utility == top[sets], "users": owner}


# xlogit 0.2.7, MultinomialLogit on 120 sets of 4 options, started four times where it had stopped, because its BFGS
# stops about 1e-5 early: coefficients and log-likelihood, and the option chosen in each set. The features are a
# formula, so that no file is needed.
XLOGIT_CHOSEN = (
    "331331310230011130123320100320201111213030220033330022100103"
    "333323333113013301223123101013021031121021111032203223223310"
)
XLOGIT_WEIGHTS = [0.790460547418369, -0.46558037622251647, 0.27276757762119785]
XLOGIT_LOG_LIKELIHOOD = -126.36764327007793


def test_equals_xlogit() -> None:
    fraction = np.modf(np.sin(np.arange(1, 1441) * 12.9898 + 4.0) * 43758.5453)[0] % 1.0
    features = (fraction * 4 - 2).reshape(480, 3).round(3)
    chosen = np.arange(480) % 4 == np.repeat([int(digit) for digit in XLOGIT_CHOSEN], 4)
    result = fit(features, np.repeat(np.arange(120), 4), chosen, outside=False)
    assert result.weights == pytest.approx(XLOGIT_WEIGHTS, abs=1e-6)
    assert result.log_likelihood == pytest.approx(XLOGIT_LOG_LIKELIHOOD, abs=1e-6)


def test_two_options_are_logistic_regression_on_differences() -> None:
    rng = np.random.default_rng(1)
    rows = simulated(rng, np.array([0.8, -0.4]), 1, 400, largest=2, constant=None)
    result = fit(rows["features"], rows["sets"], rows["chosen"], outside=False)
    gap = rows["features"][::2] - rows["features"][1::2]
    checked = checked_rows("", rows["chosen"][::2].astype(float), gap, weight=None, offset=None, names=None)
    assert result.weights == pytest.approx(initial("", checked), abs=1e-7)
    p = expit(gap @ result.weights)
    assert result.covariance == pytest.approx(np.linalg.inv(gap.T @ (gap * (p * (1 - p))[:, None])), rel=1e-6)
    assert result.null_log_likelihood == pytest.approx(400 * np.log(0.5))


def test_the_outside_option_is_an_option_of_zeros_with_a_constant() -> None:
    rng = np.random.default_rng(2)
    rows = simulated(rng, np.array([0.8, -0.4]), 20, 30)
    implicit = fit(rows["features"], rows["sets"], rows["chosen"], users=rows["users"])
    sets = np.unique(rows["sets"])
    took = np.bincount(rows["sets"], weights=rows["chosen"])
    explicit = fit(
        np.vstack([np.pad(rows["features"], ((0, 0), (0, 1))), np.tile([0, 0, 1.0], (sets.size, 1))]),
        np.concatenate([rows["sets"], sets]), np.concatenate([rows["chosen"], took == 0]), outside=False,
        users=np.concatenate([rows["users"], sets // 30]),
    )  # fmt: skip
    assert implicit.weights == pytest.approx(explicit.weights, abs=1e-7)
    assert implicit.covariance == pytest.approx(explicit.covariance, abs=1e-8)
    assert implicit.robust_covariance == pytest.approx(explicit.robust_covariance, abs=1e-8)
    assert implicit.log_likelihood == pytest.approx(explicit.log_likelihood)
    p = probabilities(implicit.weights, rows["features"], rows["sets"])
    q = probabilities(
        explicit.weights, np.column_stack([rows["features"], np.zeros(p.size)]), rows["sets"], outside=False
    )
    assert np.all(p < q)
    assert np.all(np.bincount(rows["sets"], weights=p) < 1)
    assert np.bincount(rows["sets"], weights=q) == pytest.approx(np.ones(sets.size))


def test_at_the_maximum_expected_features_are_the_observed_ones() -> None:
    rng = np.random.default_rng(3)
    rows = simulated(rng, np.array([0.5, -1.0, 0.2]), 10, 50)
    order = rng.permutation(len(rows["sets"]))
    features, sets, chosen = rows["features"][order], rows["sets"][order], rows["chosen"][order]
    result = fit(features, sets, chosen)
    p = probabilities(result.weights, features, sets)
    assert p @ features == pytest.approx(chosen @ features, abs=1e-6)
    assert p.sum() == pytest.approx(chosen.sum(), abs=1e-6)
    took = np.bincount(sets, weights=chosen)
    left = 1 - np.bincount(sets, weights=p)
    value = np.log(p[chosen]).sum() + np.log(left[took == 0]).sum()
    assert result.log_likelihood == pytest.approx(value)


@pytest.mark.thorough
def test_intervals_cover_with_users_repeating_themselves() -> None:
    rng = np.random.default_rng(4)
    truth, hits, naive, runs = np.array([0.8, -0.4]), 0.0, 0.0, 600
    for _ in range(runs):
        rows = simulated(rng, truth, 60, 6)
        twice = {name: np.concatenate([values, values]) for name, values in rows.items()}
        twice["sets"] = np.concatenate([rows["sets"], rows["sets"] + 100_000])
        result = fit(twice["features"], twice["sets"], twice["chosen"], users=twice["users"])
        gap = np.abs(result.weights - [*truth, 0.3])
        hits += np.mean(gap < 2.0 * np.sqrt(np.diag(result.robust_covariance))) / runs
        naive += np.mean(gap < 2.0 * np.sqrt(np.diag(result.covariance))) / runs
    assert 0.93 <= hits <= 0.97  # .947 of 1,000
    assert naive < 0.88


def test_users_weights_are_recovered_and_cover() -> None:
    rng = np.random.default_rng(5)
    users, spread = 300, np.array([0.5, 0.8])
    truth = np.array([0.6, -0.3]) + rng.normal(0, 1, (users, 2)) * spread
    rows = simulated(rng, truth, users, 60)
    result = pool(rows["features"], rows["sets"], rows["chosen"], rows["users"], n_users=users + 1)
    assert result.inflation == 1.0
    assert result.choices[:users].tolist() == [60] * users
    for j in range(2):
        assert np.corrcoef(result.weights[:users, j], truth[:, j])[0, 1] > 0.9
        assert np.sqrt(result.between[j, j]) == pytest.approx(spread[j], rel=0.15)
    error = np.sqrt(np.diagonal(result.covariance[:users], axis1=1, axis2=2))[:, :2]
    assert 0.93 < np.mean(np.abs(result.weights[:users, :2] - truth) < 1.96 * error) < 0.97
    assert np.all(np.abs(result.mean[:2] - truth.mean(axis=0)) < 4 * np.sqrt(np.diag(result.mean_covariance))[:2])
    # Nobody's choices: the population.
    assert result.weights[users] == pytest.approx(result.mean)
    assert result.covariance[users] == pytest.approx(result.between)


def test_users_with_few_choices_lean_on_the_population_and_still_cover() -> None:
    rng = np.random.default_rng(6)
    users = 400
    truth = np.array([0.6, -0.3]) + rng.normal(0, 1, (users, 2)) * [0.5, 0.8]
    rows = simulated(rng, truth, users, 12)
    result = pool(rows["features"], rows["sets"], rows["chosen"], rows["users"])
    assert result.inflation == 1.15
    raw = np.array([truth[:, j].std() for j in range(2)])
    assert np.all(result.weights[:, :2].std(axis=0) < raw)
    error = np.sqrt(np.diagonal(result.covariance, axis1=1, axis2=2))[:, :2]
    assert 0.93 < np.mean(np.abs(result.weights[:, :2] - truth) < 1.96 * error) < 0.975


def test_users_alike_are_pooled_completely() -> None:
    rng = np.random.default_rng(7)
    rows = simulated(rng, np.array([0.6, -0.3]), 100, 20)
    result = pool(rows["features"], rows["sets"], rows["chosen"], rows["users"])
    assert np.sqrt(result.between[0, 0]) < 0.25
    population = fit(rows["features"], rows["sets"], rows["chosen"], users=rows["users"])
    assert result.mean == pytest.approx(population.weights, abs=0.1)


def change(name: str) -> tuple[dict[str, Any], str]:
    rng = np.random.default_rng(8)
    rows = simulated(rng, np.array([0.8, -0.4]), 10, 20)
    features, sets, chosen = rows["features"], rows["sets"], rows["chosen"]
    first = np.concatenate([[True], sets[1:] != sets[:-1]])
    best = np.isin(np.arange(sets.size), [np.flatnonzero(sets == s)[0] for s in np.unique(sets)[::2]])
    per_set = rng.normal(0, 1, 200)[sets]
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "no rows": ({"features": features[:0], "sets": sets[:0], "chosen": chosen[:0], "users": sets[:0]}, "no_rows"),
        "nan": ({"features": np.where(features > 2, np.nan, features)}, "not_finite"),
        "negative weight": ({"weight": -np.ones(sets.size)}, "out_of_range"),
        "set of two users": ({"users": np.arange(sets.size) % 2}, "out_of_range"),
        "many chosen": ({"chosen": np.ones(sets.size, dtype=bool)}, "many_chosen"),
        "nothing chosen": ({"chosen": np.zeros(sets.size, dtype=bool)}, "constant_response"),
        "always chosen": ({"chosen": first}, "constant_response"),
        "no choice": ({"outside": False}, "no_choice"),
        "same in every set": ({"features": np.column_stack([features, per_set]), "outside": False,
                               "chosen": first}, "not_identified"),
        "twice": ({"features": features[:, [0, 1, 1]]}, "not_identified"),
        "separated": ({"features": np.column_stack([features, best.astype(float)]), "chosen": best}, "separation"),
    }  # fmt: skip
    changed, reason = changes[name]
    return rows | changed, reason


@pytest.mark.parametrize(
    "name",
    [
        "no rows", "nan", "negative weight", "set of two users", "many chosen", "nothing chosen", "always chosen",
        "no choice", "same in every set", "twice", "separated",
    ],
)  # fmt: skip
def test_refuses_by_name(name: str) -> None:
    rows, reason = change(name)
    with pytest.raises(FitRefused) as refusal:
        fit(rows.pop("features"), rows.pop("sets"), rows.pop("chosen"), **rows)
    assert refusal.value.reason == reason


def test_one_user_cannot_be_pooled() -> None:
    rows = simulated(np.random.default_rng(9), np.array([0.8, -0.4]), 1, 20)
    with pytest.raises(FitRefused) as refusal:
        pool(rows["features"], rows["sets"], rows["chosen"], rows["users"])
    assert refusal.value.reason == "one_user"


def test_a_user_beyond_is_refused() -> None:
    rows = simulated(np.random.default_rng(10), np.array([0.8, -0.4]), 5, 20)
    with pytest.raises(FitRefused) as refusal:
        pool(rows["features"], rows["sets"], rows["chosen"], rows["users"], n_users=4)
    assert refusal.value.reason == "out_of_range"
