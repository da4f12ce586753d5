"""Partial pooling of arms against the joint Gaussian written out in full, and spreads against the truth."""

import numpy as np
import pytest

from pipelines.steering.shrinkage import Spread, shrink, spread


def _dense(y, v, centre, tau_g, tau_d):
    """Posterior mean and covariance of one group's arms, by the covariance matrices of everything."""
    prior = tau_g**2 * np.ones((y.size, y.size)) + tau_d**2 * np.eye(y.size)
    seen = np.isfinite(v)
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + np.diag(v[seen]))
    return centre + gain @ (y - centre)[seen], prior - gain @ prior[seen]


def _one(tau_g, tau_d):
    return Spread(np.array([tau_g]), np.array([tau_d]), np.ones(1))


@pytest.mark.parametrize(("tau_g", "tau_d"), [(0.1, 0.05), (0.0, 0.08), (0.2, 0.0), (0.03, 0.2)])
def test_given_the_spreads_it_is_the_joint_posterior(tau_g, tau_d):
    rng = np.random.default_rng(3)
    y, v = rng.normal(0.6, 0.2, (40, 4)), rng.uniform(0.001, 0.05, (40, 4))
    v[rng.random((40, 4)) < 0.4] = np.inf
    centre = np.array([0.5, 0.6, 0.7, 0.55])
    held = shrink(y, v, centre, np.zeros(4), _one(tau_g, tau_d))
    for group in range(40):
        mean, covariance = _dense(y[group], v[group], centre, tau_g, tau_d)
        np.testing.assert_allclose(held.mean[group], mean, atol=1e-12)
        np.testing.assert_allclose(held.level_sd[group] ** 2, np.diag(covariance), atol=1e-12)
        # Independent errors with these sds are as far apart, over all pairs, as the dependent ones are.
        apart = sum(covariance[a, a] + covariance[b, b] - 2 * covariance[a, b] for a in range(4) for b in range(a))
        assert 3 * (held.sd[group] ** 2).sum() == pytest.approx(apart, abs=1e-12)


def test_a_strict_user_does_not_make_their_only_arm_look_bad():
    y, v = np.array([[0.2, 0.0, 0.0]]), np.array([[0.001, np.inf, np.inf]])
    held = shrink(y, v, np.full(3, 0.7), np.full(3, 0.01), _one(0.2, 0.01))
    assert np.ptp(held.mean[0]) < 0.01
    assert held.mean[0, 1] < 0.3
    assert held.sd[0].max() < held.level_sd[0].max()


def test_a_group_without_anything_has_what_it_is_shrunk_to():
    centre, sd = np.array([0.5, 0.7]), np.array([0.03, 0.04])
    held = shrink(np.zeros((1, 2)), np.full((1, 2), np.inf), centre, sd, _one(0.1, 0.05))
    np.testing.assert_allclose(held.mean[0], centre)
    np.testing.assert_allclose(held.sd[0] ** 2, sd**2 + 0.05**2)


@pytest.mark.parametrize(("tau_g", "tau_d"), [(0.1, 0.06), (0.0, 0.1), (0.15, 0.0), (0.05, 0.15)])
def test_the_spreads_are_found(tau_g, tau_d):
    rng = np.random.default_rng(5)
    v = rng.uniform(0.002, 0.03, (1500, 4))
    truth = rng.normal(0, tau_g, (1500, 1)) + rng.normal(0, tau_d, (1500, 4))
    seen = rng.random((1500, 4)) < 0.7
    found = spread(truth + rng.normal(0, np.sqrt(v)), np.where(seen, v, np.inf))
    assert found.mean == pytest.approx((tau_g, tau_d), abs=0.015)
    assert found.weight.sum() == pytest.approx(1.0)


def test_few_groups_leave_the_spreads_open_and_many_do_not():
    rng = np.random.default_rng(6)

    def width(groups):
        x = rng.normal(0, 0.1, (groups, 1)) + rng.normal(0, 0.05, (groups, 3))
        found = spread(x, np.full((groups, 3), 1e-4))
        return float(np.sqrt(found.weight @ (found.specific - found.weight @ found.specific) ** 2))

    assert width(3) > 3 * width(300)


def test_averaging_over_the_spreads_is_averaging_over_them():
    y, v, centre = np.array([[0.2, 0.9], [0.5, 0.1]]), np.full((2, 2), 0.01), np.array([0.5, 0.6])
    grid = Spread(np.array([0.05, 0.2]), np.array([0.1, 0.02]), np.array([0.3, 0.7]))
    held = shrink(y, v, centre, np.zeros(2), grid)
    parts = [[_dense(y[group], v[group], centre, *pair) for pair in ((0.05, 0.1), (0.2, 0.02))] for group in range(2)]
    for group in range(2):
        means = np.array([part[0] for part in parts[group]])
        variances = np.array([np.diag(part[1]) for part in parts[group]])
        mean = grid.weight @ means
        np.testing.assert_allclose(held.mean[group], mean)
        np.testing.assert_allclose(held.level_sd[group] ** 2, grid.weight @ (variances + (means - mean) ** 2))
