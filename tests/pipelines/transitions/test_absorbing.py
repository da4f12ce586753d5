"""Absorbing chains against Kemeny & Snell's examples, closed forms, simulation, and the coverage of the bands."""

import numpy as np
import pytest
from transition_chains import draw

from pipelines.transitions import dirichlet
from pipelines.transitions.absorbing import ReliabilityConfig, absorption, fundamental, reliability

# START, then three states, then success, failure, ended.
CHAIN = np.array(
    [
        [0.7, 0.2, 0.1, 0.0, 0.0, 0.0],
        [0.1, 0.5, 0.1, 0.2, 0.05, 0.05],
        [0.0, 0.1, 0.4, 0.35, 0.1, 0.05],
        [0.3, 0.0, 0.1, 0.1, 0.45, 0.05],
    ]
)
COSTS = np.array([0.0, 1.0, 2.0, 0.5])


def test_the_random_walk_of_kemeny_and_snell():
    """Finite Markov Chains (1960), ch. 3: five points, the ends absorbing, p = 1/2."""
    q = np.array([[0.0, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.0]])
    n = fundamental(q)
    assert n == pytest.approx(np.array([[1.5, 1.0, 0.5], [1.0, 2.0, 1.0], [0.5, 1.0, 1.5]]))
    assert n.sum(axis=1) == pytest.approx([3.0, 4.0, 3.0])
    r = np.array([[0.5, 0.0], [0.0, 0.0], [0.0, 0.5]])
    assert n @ r == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]))
    for begin in range(3):
        first = np.zeros((1, 5))
        first[0, begin] = 1.0
        found = absorption(np.vstack([first, np.hstack([q, r])]), 2, np.zeros(4))
        assert found.ends == pytest.approx((n @ r)[begin])
        assert found.steps == pytest.approx(n.sum(axis=1)[begin])


@pytest.mark.parametrize(("p", "size", "begin"), [(0.6, 10, 3), (0.45, 7, 5), (0.5, 9, 2)])
def test_the_gamblers_ruin(p, size, begin):
    inner = size - 1
    chain = np.zeros((inner + 1, inner + 2))
    chain[0, begin - 1] = 1.0
    for i in range(1, size):
        chain[i, inner if i + 1 == size else i] += p
        chain[i, inner + 1 if i - 1 == 0 else i - 2] += 1 - p
    odds = (1 - p) / p
    wins = begin / size if p == 0.5 else (1 - odds**begin) / (1 - odds**size)
    duration = begin * (size - begin) if p == 0.5 else (begin - size * wins) / (1 - 2 * p)
    found = absorption(chain, 2, np.ones(inner + 1))
    assert found.ends == pytest.approx([wins, 1 - wins])
    assert found.steps == pytest.approx(duration)
    assert found.cost == pytest.approx(duration + 1)  # START is visited once


def test_a_chain_is_what_its_simulation_shows():
    paths, over = draw(CHAIN, 60_000, np.random.default_rng(1))
    found = absorption(CHAIN, 3, COSTS)
    shares = np.bincount(over, minlength=3) / len(over)
    assert found.ends == pytest.approx(shares, abs=4 * 0.5 / np.sqrt(len(over)))
    lengths = np.array([len(path) for path in paths])
    assert found.steps == pytest.approx(lengths.mean(), abs=4 * lengths.std() / np.sqrt(len(over)))
    spent = np.array([COSTS[path].sum() if path else 0.0 for path in paths])
    assert found.cost == pytest.approx(spent.mean(), abs=4 * spent.std() / np.sqrt(len(over)))
    assert found.ends.sum() == pytest.approx(1.0)


@pytest.mark.thorough
def test_bands_cover_the_truth_as_often_as_they_say():
    """95 % bands of 800 deployments of 300 traces each."""
    random = np.random.default_rng(2)
    truth = absorption(CHAIN, 3, COSTS)
    true = {"end_0": truth.ends[0], "end_1": truth.ends[1], "steps": float(truth.steps), "cost": float(truth.cost)}
    hits = dict.fromkeys(true, 0)
    config = ReliabilityConfig(draws=300)
    runs = 800
    for _ in range(runs):
        paths, over = draw(CHAIN, 300, random)
        source = [place for path in paths for place in (0, *path)]
        target = [place for path, end in zip(paths, over, strict=True) for place in (*(p - 1 for p in path), 3 + end)]
        code = np.array(source) * 6 + np.array(target)
        counts = np.bincount(code, minlength=24).reshape(4, 6).astype(float)
        base = dirichlet.pooled(counts)
        kappa = dirichlet.concentration(counts, base).value
        bands = reliability(counts + kappa * base, 3, COSTS, np.zeros(4), random, config)
        for name, value in true.items():
            hits[name] += bands[name].lower <= value <= bands[name].upper
    coverage = {name: count / runs for name, count in hits.items()}
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage


def test_a_chain_without_a_way_out_is_named():
    endless = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="not absorbing"):
        absorption(endless, 2, np.zeros(2))
    with pytest.raises(ValueError, match="columns"):
        absorption(endless, 3, np.zeros(2))
    with pytest.raises(ValueError, match="positive"):
        reliability(np.array([[1.0, 0.0]]), 2, np.zeros(1), np.zeros(1), np.random.default_rng(0))


def test_committor_and_first_passage_times_of_deeptime():
    """deeptime 0.4.5, markov.tools.analysis: the committor is the probability of success, mfpt the expected steps."""
    chain = np.array(
        [
            [0.7, 0.2, 0.1, 0.0, 0.0],
            [0.1, 0.5, 0.15, 0.2, 0.05],
            [0.0, 0.15, 0.4, 0.35, 0.1],
            [0.3, 0.0, 0.15, 0.1, 0.45],
        ]
    )
    found = absorption(chain, 2, np.zeros(4))
    assert found.ends[0] == pytest.approx(0.5590579710144927, abs=1e-12)
    assert found.steps == pytest.approx(3.517210144927536 - 1.0, abs=1e-12)  # the move out of START is no step
