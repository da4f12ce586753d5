"""The gate: Simes against the definition, and how many of what it lets through is false."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from pipelines.stats.hierarchical_gate import open_gate, simes


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=40))
def test_simes_is_the_smallest_adjusted_p_value(leaves: list[tuple[int, float]]) -> None:
    groups, p = np.array([group for group, _ in leaves]), np.array([value for _, value in leaves])
    combined = simes(p, groups, 6)
    for group in range(6):
        members = p[groups == group]
        if members.size:
            assert combined[group] == pytest.approx(false_discovery_control(members).min())
        else:
            assert np.isnan(combined[group])


def test_one_group_is_plain_benjamini_hochberg() -> None:
    p = np.random.default_rng(1).random(200) ** 3
    gate = open_gate(p, np.zeros(200, dtype=int), q=0.05)
    plain = false_discovery_control(p)
    np.testing.assert_array_equal(gate.q_value <= 0.05, plain <= 0.05)


def test_closed_groups_let_nobody_through_and_untested_leaves_stay_untested() -> None:
    p = np.array([1e-9, 0.2, np.nan, 0.04, 0.5, 0.6])
    gate = open_gate(p, np.array([0, 0, 0, 1, 1, 1]), q=0.05)
    assert gate.q_value[0] == pytest.approx(5e-9)  # everybody; 2e-9 within, x 2 groups for one open
    assert gate.q_value[3] == pytest.approx(0.24)  # .04 x 3 within, x 2 groups for one open
    assert np.isnan(gate.q_value[2])
    assert gate.everybody == pytest.approx(5e-9)
    nothing = open_gate(np.array([np.nan, np.nan]), np.array([0, 3]), q=0.05)
    assert np.isnan(nothing.q_value).all()
    assert open_gate(np.zeros(0), np.zeros(0, dtype=int), q=0.05).q_value.size == 0


@pytest.mark.parametrize("concentrated", [False, True])
def test_few_of_those_let_through_are_false(concentrated: bool) -> None:
    """Changed users spread over all segments, or all in one of forty."""
    random = np.random.default_rng(7)
    shares, power = [], []
    for _ in range(100):
        p = random.random(2_000)
        groups = np.repeat(np.arange(40), 50)
        changed = groups == 3 if concentrated else random.random(2_000) < 0.05
        p[changed] = random.beta(0.08, 1.0, changed.sum())
        found = open_gate(p, groups, q=0.05).q_value <= 0.05
        shares.append(np.sum(found & ~changed) / max(found.sum(), 1))
        power.append(found[changed].mean())
    assert np.mean(shares) <= 0.05 + 4 * np.std(shares) / np.sqrt(100)
    assert np.mean(power) > 0.4


@pytest.mark.parametrize(
    ("p", "groups", "q"), [([0.1, 0.2], [0], 0.05), ([0.1], [0], 1.5), ([1.5], [0], 0.05)]
)  # fmt: skip
def test_refuses_wrong_input(p: list[float], groups: list[int], q: float) -> None:
    with pytest.raises(ValueError, match="p-value"):
        open_gate(np.array(p), np.array(groups), q=q)
