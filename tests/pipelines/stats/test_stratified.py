"""The stratified comparison against enumeration, the textbook formula, least squares and simulation."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, fisher_exact

from pipelines.stats.stratified import compare


@given(st.data())
def test_exact_p_is_the_share_of_permutations_no_more_likely(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=2))
    strata = np.repeat(np.arange(len(sizes)), sizes)
    has = np.array(data.draw(st.lists(st.booleans(), min_size=len(strata), max_size=len(strata))))
    response = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(strata), max_size=len(strata))))
    result = compare(has, response, strata)
    usable = [s for s in range(len(sizes)) if 0 < has[strata == s].sum() < sizes[s]]
    if not any(0 < response[strata == s].mean() < 1 for s in usable):
        assert np.isnan(result.p_value)
        return
    totals = [
        sum(float((has[strata == s] * np.array(shuffled)).sum()) for s, shuffled in zip(usable, choice, strict=True))
        for choice in product(*[list(permutations(response[strata == s])) for s in usable])
    ]
    values, counts = np.unique(totals, return_counts=True)
    observed = sum(float((has[strata == s] * response[strata == s]).sum()) for s in usable)
    shares = counts / counts.sum()
    expected = shares[shares <= shares[values == observed][0] * (1 + 1e-7)].sum()
    assert result.exact
    assert result.p_value == pytest.approx(expected)


def test_one_stratum_is_fishers_exact_test() -> None:
    has = np.repeat([True, False], [12, 15])
    response = np.concatenate([np.repeat([1.0, 0.0], [9, 3]), np.repeat([1.0, 0.0], [4, 11])])
    result = compare(has, response, np.zeros(27, dtype=np.int64))
    assert result.p_value == pytest.approx(fisher_exact([[9, 3], [4, 11]]).pvalue)
    assert result.effect == pytest.approx(9 / 12 - 4 / 15)


def test_many_strata_are_cochran_mantel_haenszel() -> None:
    rng = np.random.default_rng(1)
    strata = np.repeat(np.arange(300), 6)
    has = rng.random(strata.size) < 0.4
    response = (rng.random(strata.size) < 0.3 + 0.1 * has).astype(float)
    difference = variance = 0.0
    for s in range(300):  # Agresti, Categorical Data Analysis, eq. 6.6, without continuity correction
        x, y = has[strata == s], response[strata == s]
        n, n1, m1 = len(x), x.sum(), y.sum()
        difference += (x * y).sum() - n1 * m1 / n
        variance += n1 * (n - n1) * m1 * (n - m1) / (n**2 * (n - 1))
    result = compare(has, response, strata)
    assert not result.exact
    assert result.p_value == pytest.approx(chi2.sf(difference**2 / variance, 1))


def test_effect_and_interval_are_least_squares_with_one_intercept_per_stratum() -> None:
    rng = np.random.default_rng(2)
    strata = np.repeat(np.arange(12), 5)
    has = rng.random(60) < 0.5
    has[:5] = True  # a stratum without a contrast tells nothing
    response = rng.random(60)
    result = compare(has, response, strata)
    kept = [s for s in range(12) if 0 < has[strata == s].sum() < 5]
    rows = np.isin(strata, kept)
    design = np.column_stack([has[rows], *[strata[rows] == s for s in kept]]).astype(float)
    coefficients = np.linalg.lstsq(design, response[rows], rcond=None)[0]
    residual = response[rows] - design @ coefficients
    bread = np.linalg.inv(design.T @ design)
    sandwich = bread @ (design.T * residual**2) @ design @ bread
    error = np.sqrt(sandwich[0, 0] * rows.sum() / (rows.sum() - len(kept) - 1))
    assert result.effect == pytest.approx(coefficients[0])
    assert (result.upper - result.effect) / error == pytest.approx(result.effect / error - result.lower / error)
    assert 1.9 < (result.upper - result.effect) / error < 2.1
    assert (result.strata, result.rows_with + result.rows_without) == (len(kept), rows.sum())


def test_difficulty_is_not_mistaken_for_an_effect() -> None:
    # Pooled, the property looks good (.74 against .26); within each task it does nothing.
    has = np.concatenate([np.repeat([True, False], [40, 10]), np.repeat([True, False], [10, 40])])
    response = np.concatenate([np.tile([1.0] * 9 + [0.0], 5), np.tile([0.0] * 9 + [1.0], 5)])
    strata = np.repeat([0, 1], 50)
    assert response[has].mean() - response[~has].mean() > 0.4
    result = compare(has, response, strata)
    assert result.effect == pytest.approx(0.0, abs=1e-9)
    assert result.p_value > 0.9


@pytest.mark.thorough
@pytest.mark.parametrize(("tasks", "rollouts", "effect"), [(26, 4, 0.0), (50, 4, 0.2)])
def test_interval_covers_and_p_is_valid(tasks: int, rollouts: int, effect: float) -> None:
    rng = np.random.default_rng(tasks)
    strata = np.repeat(np.arange(tasks), rollouts)
    covered, small, runs = 0, 0, 2000
    for _ in range(runs):
        has = rng.random(strata.size) < 0.4
        chance = rng.uniform(0.05, 0.95 - effect, tasks)[strata] + effect * has
        result = compare(has, (rng.random(strata.size) < chance).astype(float), strata)
        covered += result.lower <= effect <= result.upper
        small += result.p_value <= 0.05
    assert 0.93 <= covered / runs <= 0.97
    if effect == 0.0:
        assert small / runs < 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)
    else:
        assert small / runs > 0.5


def test_nothing_to_compare() -> None:
    result = compare(np.array([True, True, False]), np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1]))
    assert np.isnan(result.effect)
    assert np.isnan(result.p_value)
    assert result.strata == 0
    same = compare(np.array([True, False]), np.array([1.0, 1.0]), np.array([0, 0]))
    assert same.effect == 0.0
    assert np.isnan(same.p_value)
