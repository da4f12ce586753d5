"""Transition probabilities, surprise and Bayesian surprise against closed forms, Monte Carlo and a known chain."""

import numpy as np
import pytest

from pipelines.transitions import dirichlet


def _stationary(chain):
    values, vectors = np.linalg.eig(chain.T)
    vector = np.real(vectors[:, np.argmax(np.real(values))])
    return vector / vector.sum()


def test_probabilities_by_hand():
    counts = np.array([[3.0, 1.0], [0.0, 0.0]])
    base = dirichlet.pooled(counts)
    assert base == pytest.approx([3.5 / 5, 1.5 / 5])
    p = dirichlet.predictive(counts, base, 2.0)
    assert p[0] == pytest.approx([(3 + 1.4) / 6, (1 + 0.6) / 6])
    assert p[1] == pytest.approx(base)  # a state never left is like the others


def test_mean_surprise_approaches_the_entropy_of_a_known_chain():
    random = np.random.default_rng(1)
    size, walkers, steps = 30, 4_000, 100
    chain = random.dirichlet(np.full(size, 0.5), size)
    stationary = _stationary(chain)
    entropy = -(stationary[:, None] * chain * np.log(chain)).sum()
    place = random.choice(size, size=walkers, p=stationary)
    cumulative = np.cumsum(chain, axis=1)
    cumulative[:, -1] = 1.0
    source, target = [], []
    for _ in range(steps):
        following = (random.random(walkers)[:, None] > cumulative[place]).sum(axis=1)
        source.append(place)
        target.append(following)
        place = following
    s, t = np.concatenate(source), np.concatenate(target)
    counts = np.bincount(s * size + t, minlength=size * size).reshape(size, size).astype(float)
    base = dirichlet.pooled(counts)
    kappa = dirichlet.concentration(counts, base)
    assert kappa.reason is None
    found = dirichlet.surprise(counts, base, kappa.value)
    assert found.information[s, t].mean() == pytest.approx(entropy, abs=0.01)
    assert found.z[s, t].mean() == pytest.approx(0.0, abs=0.01)
    assert found.z[s, t].std() == pytest.approx(1.0, abs=0.02)


def test_standardised_surprise_has_mean_zero_and_variance_one_under_the_model():
    counts = np.array([[40.0, 8.0, 2.0], [5.0, 5.0, 5.0]])
    base = dirichlet.pooled(counts)
    p = dirichlet.predictive(counts, base, 3.0)
    found = dirichlet.surprise(counts, base, 3.0, included=False)
    assert (p * found.z).sum(axis=1) == pytest.approx([0.0, 0.0], abs=1e-12)
    expected = (found.sd > 0.05).astype(float)
    assert (p * found.z**2).sum(axis=1)[expected == 1.0] == pytest.approx(1.0)


def test_its_own_transition_does_not_vouch_for_itself():
    counts = np.array([[9.0, 1.0]])
    base = np.array([0.5, 0.5])
    found = dirichlet.surprise(counts, base, 2.0)
    assert found.information[0] == pytest.approx([-np.log(9 / 11), -np.log(1 / 11)])
    plain = dirichlet.surprise(counts, base, 2.0, included=False)
    assert plain.information[0] == pytest.approx([-np.log(10 / 12), -np.log(2 / 12)])


@pytest.mark.parametrize("a", [[3.0, 1.0, 0.5], [0.4, 0.2], [50.0, 30.0, 20.0, 0.7]])
def test_bayesian_surprise_is_the_divergence_of_posterior_from_prior(a):
    """KL = E[log p_j] + ln B(prior) - ln B(posterior) under the posterior, the expectation by Monte Carlo."""
    a = np.array(a)
    random = np.random.default_rng(2)
    for j in range(a.size):
        after = a.copy()
        after[j] += 1.0
        drawn = random.dirichlet(after, 400_000)[:, j]
        logs = np.log(drawn)
        estimate = logs.mean() + np.log(a.sum() / a[j])
        closed = dirichlet.bayesian_surprise(a[j : j + 1], np.array([a.sum()]))[0]
        assert closed == pytest.approx(estimate, abs=5 * logs.std() / np.sqrt(logs.size))
        assert closed > 0


def test_the_prior_weight_is_recovered():
    random = np.random.default_rng(3)
    base = random.dirichlet(np.full(12, 2.0))
    rows = np.stack([random.multinomial(100, random.dirichlet(8.0 * base)) for _ in range(400)]).astype(float)
    assert dirichlet.concentration(rows, base).value == pytest.approx(8.0, rel=0.12)


def test_the_users_prior_weight_is_recovered_from_cells():
    random = np.random.default_rng(4)
    population = random.dirichlet(np.full(6, 3.0))
    rows = np.stack([random.multinomial(40, random.dirichlet(20.0 * population)) for _ in range(800)])
    group, to = np.nonzero(rows)
    found = dirichlet.user_concentration(rows[group, to].astype(float), population[to], group)
    assert found.value == pytest.approx(20.0, rel=0.15)


def test_where_the_data_cannot_tell_the_default_is_used_and_said():
    one = np.array([[5.0, 5.0]])
    assert dirichlet.concentration(one, dirichlet.pooled(one)) == dirichlet.Concentration(10.0, "too_few_states")
    alike = np.tile([5000.0, 5000.0], (20, 1))
    assert dirichlet.concentration(alike, dirichlet.pooled(alike)).reason == "highest"
    nothing = np.empty(0)
    assert dirichlet.user_concentration(nothing, nothing, np.empty(0, dtype=np.int64)).reason == "too_few_states"


@pytest.mark.parametrize("counts", [np.array([[1.0, -1.0]]), np.array([[np.nan, 1.0]]), np.array([1.0, 2.0])])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="counts must be a matrix"):
        dirichlet.pooled(counts)


def test_how_a_trace_ended_does_not_change_its_surprise():
    counts = np.array([[30.0, 5.0, 60.0, 2.0, 3.0], [10.0, 0.0, 1.0, 40.0, 0.0]])
    base = dirichlet.pooled(counts)
    found = dirichlet.path_surprise(counts, base, 4.0, 3)
    for matrix in (found.information, found.z, found.bayesian):
        assert (matrix[:, 2] == matrix[:, 3]).all()
        assert (matrix[:, 2] == matrix[:, 4]).all()
    own = (65 - 1 + 4 * base[2:].sum()) / (100 - 1 + 4)
    assert found.information[0, 2] == pytest.approx(-np.log(own))
