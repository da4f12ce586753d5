"""No signal carries more than its share of a composite."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.hacking_watch.composite import cap_contributions
from store.errors import JobError


def _shares(weights, covariance):
    return weights * (covariance @ weights) / (weights @ covariance @ weights)


def test_a_dominating_signal_is_scaled_to_the_cap_exactly():
    covariance = np.diag([9.0, 1.0, 1.0])
    found = cap_contributions(np.ones(3), covariance)
    assert found.shares == pytest.approx([0.5, 0.25, 0.25])
    assert found.weights == pytest.approx([np.sqrt(2) / 3, 1, 1])
    assert found.capped.tolist() == [True, False, False]


def test_balanced_signals_are_left_alone():
    weights = np.array([1.0, 2.0, 1.5])
    found = cap_contributions(weights, np.eye(3) + 0.1, cap=0.7)
    assert found.weights == pytest.approx(weights)
    assert not found.capped.any()


@given(
    st.lists(st.floats(0.05, 20.0), min_size=3, max_size=6),
    st.integers(0, 10_000),
    st.sampled_from([0.4, 0.5, 0.8]),
)
def test_after_capping_every_share_is_below_the_cap_or_the_reason_is_named(scales, seed, cap):
    random = np.random.default_rng(seed)
    root = random.normal(size=(len(scales), len(scales) + 2)) * np.array(scales)[:, None]
    covariance = root @ root.T
    found = cap_contributions(np.ones(len(scales)), covariance, cap)
    assert (found.weights <= 1.0 + 1e-12).all()
    if found.reason is None:
        assert (_shares(found.weights, covariance) <= cap + 1e-6).all()
        assert found.shares.sum() == pytest.approx(1.0)


def test_what_cannot_be_capped_is_said():
    assert "cannot each stay below" in cap_contributions(np.ones(1), np.eye(1)).reason
    assert cap_contributions(np.ones(2), np.zeros((2, 2))).reason == "no signal varies"


@pytest.mark.parametrize(
    ("weights", "covariance", "cap"),
    [
        (np.ones(2), np.eye(3), 0.5),
        (np.array([1.0, -1.0]), np.eye(2), 0.5),
        (np.array([1.0, np.nan]), np.eye(2), 0.5),
        (np.ones(2), np.array([[1.0, 2.0], [2.0, 1.0]]), 0.5),
        (np.ones(2), np.array([[1.0, 0.5], [0.1, 1.0]]), 0.5),
        (np.ones(2), np.eye(2), 0.0),
    ],
)
def test_what_is_no_covariance_or_weight_is_refused(weights, covariance, cap):
    with pytest.raises(JobError):
        cap_contributions(weights, covariance, cap)
