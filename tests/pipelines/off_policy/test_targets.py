"""Policies asked about: proper distributions over what was open to each decision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.off_policy.targets import AsLogged, BySegment, Choices, FixedArm, Rate, words


def _choices(seed, count=50, arms=4):
    random = np.random.default_rng(seed)
    logged = random.dirichlet(np.ones(arms), count)
    logged[random.random((count, arms)) < 0.2] = 0.0
    logged[:, 0] += 0.05
    logged[:2] = np.eye(arms)[:2]
    logged /= logged.sum(axis=1, keepdims=True)
    names = tuple("abcd")[:arms]
    return Choices(names, logged, logged.argmax(axis=1), ("new", "old"), random.integers(-1, 2, count))


@given(st.integers(0, 1_000), st.floats(0.0, 1.0))
def test_a_rate_is_the_probability_of_leaving_the_greedy_arm(seed, rate):
    choices = _choices(seed)
    vectors = Rate(rate).vectors(choices)
    rows = np.arange(len(choices.greedy))
    others = choices.logged.sum(axis=1) - choices.logged[rows, choices.greedy] > 0
    assert vectors.sum(axis=1) == pytest.approx(np.ones(50))
    assert vectors[rows, choices.greedy][others] == pytest.approx(np.full(others.sum(), 1.0 - rate))
    assert (vectors[rows, choices.greedy][~others] == 1.0).all()
    assert (vectors[choices.logged == 0.0] == 0.0).all()
    # Among the others the logged proportions stay.
    for i in np.flatnonzero(others)[:5]:
        left = np.delete(choices.logged[i], choices.greedy[i])
        assert np.delete(vectors[i], choices.greedy[i]) == pytest.approx(rate * left / left.sum())


def test_the_logged_rate_is_the_policy_as_it_ran():
    choices = _choices(1, arms=2)
    assert AsLogged().vectors(choices) is choices.logged
    even = Choices(("a", "b"), np.tile([0.9, 0.1], (5, 1)), np.zeros(5, int), (), np.full(5, -1))
    assert Rate(0.1).vectors(even) == pytest.approx(even.logged)


def test_one_arm_for_everyone_and_by_segment():
    choices = _choices(2)
    assert (FixedArm("c").vectors(choices)[:, 2] == 1.0).all()
    assert FixedArm("unknown").vectors(choices).sum() == 0.0
    mixed = BySegment({"old": FixedArm("b"), "unseen": FixedArm("a")}, Rate(0.0)).vectors(choices)
    old = choices.segment == 1
    assert (mixed[old, 1] == 1.0).all()
    assert (mixed[~old, choices.greedy[~old]] == 1.0).all()
    assert (choices.logged <= 1.0).all()


def test_a_rate_outside_0_to_1_is_no_policy():
    with pytest.raises(ValueError, match="from 0 to 1"):
        Rate(1.1)


def test_targets_in_words():
    assert words(Rate(0.1)) == "exploring at a rate of 10 %"
    assert words(BySegment({"new": FixedArm("b")})) == "new: everyone gets b; everyone else: the policy as it ran"
