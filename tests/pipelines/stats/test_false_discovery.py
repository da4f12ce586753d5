"""Adjusted p-values against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from pipelines.stats.false_discovery import adjust


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from(["bh", "by"]))
def test_equals_scipy(p_values: list[float], method: str) -> None:
    assert adjust(np.array(p_values), method) == pytest.approx(false_discovery_control(p_values, method=method))


def test_tests_not_made_are_not_counted() -> None:
    adjusted = adjust(np.array([0.01, np.nan, 0.04, np.nan]))
    assert adjusted[[0, 2]].tolist() == [0.02, 0.04]
    assert np.isnan(adjusted[[1, 3]]).all()
    assert np.isnan(adjust(np.array([np.nan]))).all()
    assert adjust(np.array([])).size == 0


def test_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        adjust(np.array([0.5, 1.1]))


def test_controls_the_false_discovery_rate() -> None:
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(400):
        p = rng.random(200)
        p[:40] = p[:40] ** 6  # forty real effects
        flagged = adjust(p) <= 0.1
        shares.append(flagged[40:].sum() / max(1, flagged.sum()))
    error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - 0.1 * 160 / 200) < 4 * error  # BH holds it at q times the share of nulls
