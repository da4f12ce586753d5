"""Bits against known channels: binary symmetric, Gaussian, none at all; and the coverage of their intervals."""

import numpy as np
import pytest

from pipelines.signal_yield.information import gaussian_bits, mutual_information, within_strata
from store.errors import JobError


def _entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def _code(values):
    return np.asarray(values, dtype=np.int64)


def _measured(x, y, random, *, stratum=None, user=None, replicates=300):
    n = len(x)
    return within_strata(
        _code(x), _code(y), np.zeros(n, np.int64) if stratum is None else _code(stratum),
        np.arange(n) if user is None else _code(user), replicates=replicates, random=random,
    )  # fmt: skip


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3])
def test_a_binary_symmetric_channel_tells_one_minus_the_entropy_of_its_errors(error):
    random = np.random.default_rng(2)
    x = random.integers(2, size=200_000)
    y = np.where(random.random(len(x)) < error, 1 - x, x)
    truth = 1.0 if error == 0.0 else 1.0 - _entropy(error)
    found = _measured(x, y, random)
    assert found.bits == pytest.approx(truth, abs=0.005)
    assert found.lower - 0.002 <= truth <= found.upper + 0.002


def test_a_gaussian_channel_tells_half_the_log_of_the_variance_ratio():
    """I = -0.5 log2(1 - rho²); cutting both sides into 24 quantiles loses little of it."""
    random = np.random.default_rng(3)
    rho = 0.8
    x = random.normal(size=400_000)
    y = rho * x + np.sqrt(1 - rho**2) * random.normal(size=len(x))
    truth = gaussian_bits(1.0, 1.0 - rho**2)
    assert truth == pytest.approx(-0.5 * np.log2(1 - rho**2))
    cut = [np.searchsorted(np.quantile(v, np.linspace(0, 1, 25)[1:-1]), v) for v in (x, y)]
    found = _measured(*cut, random, replicates=0)
    assert 0.95 * truth < found.bits < truth + 0.005


def test_no_information_is_about_zero_and_unbiased():
    random = np.random.default_rng(4)
    bits = []
    for _ in range(300):
        x, y = random.integers(4, size=250), random.integers(2, size=250)
        bits.append(_measured(x, y, random, replicates=0).bits)
    bits = np.array(bits)
    assert abs(bits.mean()) < 3 * bits.std() / np.sqrt(len(bits))
    assert np.quantile(np.abs(bits), 0.95) < 0.03


@pytest.mark.thorough
def test_intervals_cover_a_weak_a_strong_and_no_channel():
    random = np.random.default_rng(6)
    for error, low, high in ((0.25, 0.93, 0.97), (0.1, 0.93, 0.97), (0.5, 0.95, 1.0)):
        # Of 700: .953, .964 and, without a channel, .997. There 0 is the least that bits can be: the estimate is of the
        # second order, a resample of it spreads more than it does, and no bootstrap of users covers .95.
        truth = 0.0 if error == 0.5 else 1.0 - _entropy(error)
        covered = 0
        for _ in range(500):
            x = random.integers(2, size=600)
            y = np.where(random.random(600) < error, 1 - x, x)
            found = _measured(x, y, random, replicates=250)
            covered += found.lower <= truth <= found.upper
        assert low <= covered / 500 <= high, (error, covered / 500)


def test_dependent_traces_of_one_user_widen_the_interval():
    random = np.random.default_rng(7)
    users = 150
    x = np.repeat(random.integers(2, size=users), 20)
    y = np.where(np.repeat(random.random(users) < 0.2, 20), 1 - x, x)
    alone = _measured(x, y, random)
    clustered = _measured(x, y, random, user=np.repeat(np.arange(users), 20))
    assert clustered.bits == alone.bits
    assert clustered.upper - clustered.lower > 2.5 * (alone.upper - alone.lower)


def test_a_difference_between_strata_is_no_information_within():
    random = np.random.default_rng(8)
    stratum = random.integers(2, size=20_000)
    x = (random.random(20_000) < np.where(stratum == 1, 0.9, 0.1)).astype(int)
    y = (random.random(20_000) < np.where(stratum == 1, 0.8, 0.2)).astype(int)
    assert _measured(x, y, random, replicates=0).bits > 0.15
    within = _measured(x, y, random, stratum=stratum)
    assert within.lower <= 0.0 <= within.upper
    assert abs(within.bits) < 0.001


def test_the_correction_is_millers():
    """(K_xy - K_x - K_y + 1) / (2 n ln 2) below the plug-in: 2 by 2 cells of 25 tell -1 / (200 ln 2)."""
    assert float(mutual_information(np.full((2, 2), 25.0))) == pytest.approx(-1 / (2 * 100 * np.log(2)))
    assert float(mutual_information(np.zeros((2, 2)))) == 0.0


def test_bad_input_is_refused():
    random = np.random.default_rng(0)
    with pytest.raises(JobError, match="needs pairs"):
        _measured([], [], random)
    with pytest.raises(JobError, match="negative"):
        _measured([-1, 0], [0, 1], random)
    with pytest.raises(JobError, match="Variances"):
        gaussian_bits(1.0, 0.0)
    one = _measured([0, 1, 0, 1], [0, 1, 0, 1], random, user=[5, 5, 5, 5])
    assert np.isnan(one.lower)
    assert one.users == 1
