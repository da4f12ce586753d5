"""MaxEnt inverse RL recovers known weights on small decision processes; its gradient is exact; bad input is named."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from pipelines.rewards import maxent
from pipelines.rewards.maxent import Decisions, MaxentConfig, MaxentError

TRUE = np.array([-1.0, -2.0, 3.0, 0.8])
NAMES = ["a step", "a failure", "success", "searching"]


def _process(random, states=8, actions=3):
    """Random dynamics with a way out of 5 to 25 % at every step."""
    transition = random.dirichlet(np.full(states, 0.4), (states, actions))
    transition *= 1.0 - random.uniform(0.05, 0.25, (states, actions, 1))
    features = random.uniform(0.0, 1.0, (states, actions, 4))
    available = np.ones((states, actions), dtype=bool)
    available[0, 2] = False
    return transition, available, features


def _behave(random, transition, available, features, choices, users, discount=0.95):
    _, policy = maxent.soft_values(features @ TRUE, transition, available, discount)
    state = random.integers(0, policy.shape[0], choices)
    action = (random.random(choices)[:, None] > np.cumsum(policy, axis=1)[state]).sum(axis=1)
    action = np.minimum(action, policy.shape[1] - 1)
    user = random.integers(0, users, choices)
    return Decisions(transition, available, features, NAMES, state, action, user, np.ones(choices))


def test_soft_values_are_those_of_iterating_the_soft_bellman_equation():
    random = np.random.default_rng(1)
    transition, available, features = _process(random)
    reward = features @ TRUE
    value, policy = maxent.soft_values(reward, transition, available, 0.95)
    plain = np.zeros(8)
    for _ in range(3_000):
        q = np.where(available, reward + 0.95 * transition @ plain, -np.inf)
        plain = np.log(np.exp(q).sum(axis=1))
    assert value == pytest.approx(plain, abs=1e-9)
    assert policy.sum(axis=1) == pytest.approx(1.0)
    assert policy[0, 2] == 0.0


def test_known_weights_are_recovered_up_to_scale_with_intervals():
    random = np.random.default_rng(2)
    found = maxent.fit(
        _behave(random, *_process(random), choices=60_000, users=300), "a step", random,
        MaxentConfig(replicates=60, ridge=1e-6),
    )  # fmt: skip
    assert found.weight == pytest.approx(TRUE, abs=0.2)
    assert found.ratio == pytest.approx(TRUE / abs(TRUE[0]), rel=0.15)
    assert found.gap < 1e-4
    assert np.all(found.lower < TRUE)
    assert np.all(found.upper > TRUE)
    assert (found.users, found.choices, found.notes) == (300, 60_000, ())


def test_the_gradient_is_exact():
    random = np.random.default_rng(3)
    decisions = _behave(random, *_process(random), choices=400, users=5)
    problem = maxent._Problem(decisions, np.ones(4), MaxentConfig())
    cells, n = np.unique(decisions.state * 3 + decisions.action, return_counts=True)
    at = np.array([0.3, -0.5, 0.2, 0.1])
    numeric = approx_fprime(at, lambda theta: problem._likelihood(theta, cells, n.astype(float))[0], 1e-6)
    assert problem.gradient(at, cells, n.astype(float)) == pytest.approx(numeric, rel=1e-4, abs=1e-3)


def test_without_a_future_it_is_the_conditional_logit():
    """Every choice ends the episode: π is the softmax of θ·f, whose maximum the ordinary score equations give."""
    random = np.random.default_rng(4)
    _, available, features = _process(random)
    transition = np.zeros((8, 3, 8))
    decisions = _behave(random, transition, available, features, choices=20_000, users=50)
    found = maxent.fit(decisions, "a step", random, MaxentConfig(replicates=20, ridge=0.0))
    utility = np.where(available, features @ found.weight, -np.inf)
    p = np.exp(utility - utility.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    chosen = features[decisions.state, decisions.action].sum(axis=0)
    expected = np.einsum("ca,caf->f", p[decisions.state], features[decisions.state])
    assert chosen == pytest.approx(expected, rel=1e-4)


def test_what_behaviour_says_nothing_of_is_said_so():
    random = np.random.default_rng(5)
    transition, available, features = _process(random)
    features[:, :, 3] = 0.0
    decisions = _behave(random, transition, available, features, choices=4_000, users=40)
    found = maxent.fit(decisions, "a step", random, MaxentConfig(replicates=20))
    assert found.identified.tolist() == [True, True, True, False]
    assert np.isnan(found.weight[3])
    none = maxent.fit(decisions, "searching", random, MaxentConfig(replicates=20))
    assert np.isnan(none.ratio).all()
    assert "cannot be told from zero" in none.notes[0]
    features[:, :, 3] = features[:, :, 2]
    twins = maxent.fit(replace(decisions, features=features), "a step", random, MaxentConfig(replicates=20))
    assert twins.identified.tolist() == [True, True, False, False]


def test_few_users_get_no_interval():
    random = np.random.default_rng(6)
    decisions = _behave(random, *_process(random), choices=500, users=3)
    found = maxent.fit(decisions, "a step", random)
    assert np.isnan(found.lower).all()
    assert "10 users; 3" in found.notes[0]


def test_bad_input_is_named():
    random = np.random.default_rng(7)
    good = _behave(random, *_process(random), choices=50, users=3)
    cases = {
        "the anchor 'x' is not among": (good, "x"),
        "features must have the shape": (replace(good, features=good.features[:, :, :2]), "a step"),
        "sum to at most 1": (replace(good, transition=good.transition * 3), "a step"),
        "transition must be finite": (replace(good, transition=np.full_like(good.transition, np.nan)), "a step"),
        "at least one choice": (replace(good, n=np.zeros(50)), "a step"),
        "not among the available": (replace(good, available=np.zeros_like(good.available)), "a step"),
    }
    for message, (decisions, anchor) in cases.items():
        with pytest.raises(MaxentError, match=message):
            maxent.fit(decisions, anchor, random)
    endless = np.zeros((1, 1, 1))
    endless[0, 0, 0] = 1.0
    with pytest.raises(MaxentError, match="no finite values"):
        maxent.soft_values(np.ones((1, 1)), endless, np.ones((1, 1), dtype=bool), 1.0)
