"""P(best) against closed forms, a fine grid and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pipelines.stats.quadrature import probability_best


def test_closed_forms() -> None:
    assert probability_best(np.array([0.3]), np.array([1.0])).tolist() == [1.0]
    two = probability_best(np.array([0.5, 0.4]), np.array([0.03, 0.04]))
    assert two[0] == pytest.approx(norm.cdf(0.1 / 0.05))
    assert probability_best(np.zeros(5), np.ones(5)) == pytest.approx(np.full(5, 0.2))


def test_three_arms_by_the_orthant_formula() -> None:
    # Three equal variances: P(first best) is a bivariate orthant probability with correlation one half.
    means = np.array([0.2, 0.0, 0.0])
    expected = norm_orthant(0.2 / np.sqrt(2))
    assert probability_best(means, np.ones(3))[0] == pytest.approx(expected, abs=1e-8)


def norm_orthant(h: float) -> float:
    from scipy.stats import multivariate_normal

    return float(multivariate_normal(mean=[0, 0], cov=[[1, 0.5], [0.5, 1]]).cdf([h, h]))


@pytest.mark.parametrize(("ratio", "tolerance"), [(3.0, 1e-6), (10.0, 5e-3)])
def test_error_against_a_fine_grid(ratio: float, tolerance: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        means = rng.normal(0, 1, 4)
        sds = np.exp(rng.uniform(0, np.log(ratio), 4))
        x = np.linspace((means - 9 * sds).min(), (means + 9 * sds).max(), 40_001)
        below = norm.cdf(x, means[:, None], sds[:, None])
        density = norm.pdf(x, means[:, None], sds[:, None])
        grid = [float(np.sum(density[i] * np.prod(np.delete(below, i, 0), 0)) * (x[1] - x[0])) for i in range(4)]
        assert probability_best(means, sds) == pytest.approx(grid, abs=tolerance)


def test_simulation_within_four_standard_errors() -> None:
    rng = np.random.default_rng(4)
    means, sds, draws = np.array([0.1, 0.0, -0.2, 0.05]), np.array([0.2, 0.1, 0.4, 0.3]), 200_000
    winners = np.bincount(rng.normal(means, sds, (draws, 4)).argmax(axis=1), minlength=4) / draws
    error = np.sqrt(winners * (1 - winners) / draws)
    assert np.all(np.abs(probability_best(means, sds) - winners) < 4 * error)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 3)), min_size=2, max_size=6),
    st.floats(-10, 10),
    st.floats(0.1, 10),
)
def test_rows_sum_to_one_and_shift_and_scale_do_not_matter(
    arms: list[tuple[float, float]], shift: float, scale: float
) -> None:
    means, sds = np.array(arms).T
    best = probability_best(means, sds)
    assert best.sum() == pytest.approx(1.0)
    assert np.all(best >= 0)
    assert probability_best(scale * means + shift, scale * sds) == pytest.approx(best, abs=1e-9)
    stacked = probability_best(np.stack([means, means[::-1]]), np.stack([sds, sds[::-1]]))
    assert stacked[1] == pytest.approx(best[::-1], abs=1e-9)


@pytest.mark.parametrize(
    ("means", "sds"), [([0.0, 1.0], [1.0]), ([], []), ([0.0, 1.0], [1.0, 0.0]), ([0.0, np.nan], [1.0, 1.0])]
)
def test_refuses_what_has_no_answer(means: list[float], sds: list[float]) -> None:
    with pytest.raises(ValueError, match=r"need|must"):
        probability_best(np.array(means), np.array(sds))
