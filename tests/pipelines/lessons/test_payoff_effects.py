"""Effects of many lessons at once: against the formula written out, and where the plain difference is wrong."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lessons.payoff.baseline import expected
from pipelines.lessons.payoff.effects import Rows, difference, doubly_robust, limits
from pipelines.stats.confidence_sequence import radius

FOLDS = 5


def rows(n, groups=1, *, seed=0, effect=0.0, people=None):
    random = np.random.default_rng(seed)
    person = np.arange(n) if people is None else random.integers(0, people, n)
    p = random.choice([0.8, 0.9], n)
    served = random.random(n) < p
    left = random.normal(0.0, 0.5, n) + effect * served
    return Rows(random.integers(0, groups, n), groups, left, served, p, person, person % FOLDS)


def written_out(of, group):
    """ξ of one group by a loop, with the variance of sums over people."""
    at = np.flatnonzero(of.group == group)
    xi = []
    for row in at:
        others = [each for each in at if of.fold[each] != of.fold[row]]
        one = [of.left[each] for each in others if of.served[each]]
        none = [of.left[each] for each in others if not of.served[each]]
        d1, d0 = sum(one) / (len(one) + 5.0), sum(none) / (len(none) + 5.0)
        if of.served[row]:
            xi.append(d1 - d0 + (of.left[row] - d1) / of.p[row])
        else:
            xi.append(d1 - d0 - (of.left[row] - d0) / (1.0 - of.p[row]))
    xi = np.array(xi)
    sums = {}
    for value, row in zip(xi - xi.mean(), at, strict=True):
        sums[of.cluster[row]] = sums.get(of.cluster[row], 0.0) + value
    people = len(sums)
    return xi.mean(), sum(each**2 for each in sums.values()) / len(at) ** 2 * people / (people - 1), people


@given(st.integers(0, 10_000))
def test_effects_are_the_formula_written_out(seed):
    of = rows(90, 2, seed=seed, people=12)
    found = doubly_robust(of)
    for group in range(2):
        effect, variance, people = written_out(of, group)
        assert found.effect[group] == pytest.approx(effect, abs=1e-12)
        assert found.clusters[group] == people
        # The larger of the two variances: never less than that of sums over people.
        assert found.sd[group] ** 2 >= variance * (1.0 - 1e-9)


def test_the_variance_is_that_of_people_where_they_matter():
    """Each person's sessions repeat one value: as many observations as people."""
    random = np.random.default_rng(1)
    person = np.repeat(np.arange(400), 10)
    own = random.normal(0.0, 0.5, 400)[person]
    served = np.repeat(random.random(400) < 0.8, 10)  # drawn once a person
    of = Rows(np.zeros(4000, dtype=int), 1, own, served, np.full(4000, 0.8), person, person % FOLDS)
    found = doubly_robust(of)
    exact = np.sqrt(0.25 / 0.8 / 400 + 0.25 / 0.2 / 400)
    assert found.sd[0] == pytest.approx(exact, rel=0.2)


def test_groups_at_once_are_groups_alone():
    of = rows(600, 3, people=80)
    both = (doubly_robust(of), difference(of))
    for group in range(3):
        at = of.group == group
        alone = Rows(
            np.zeros(int(at.sum()), dtype=int), 1, of.left[at], of.served[at], of.p[at], of.cluster[at], of.fold[at]
        )
        for whole, part in zip(both, (doubly_robust(alone), difference(alone)), strict=True):
            for name in ("effect", "variance", "units", "served", "clusters", "ess", "needed"):
                assert getattr(whole, name)[group] == pytest.approx(getattr(part, name)[0], rel=1e-9)


def test_a_change_of_holdout_misleads_the_difference_only():
    """Outcomes rise while the lesson is withheld ever less: the difference calls that an effect."""
    random = np.random.default_rng(2)
    n = 20_000
    late = np.arange(n) >= n // 2
    p = np.where(late, 0.9, 0.5)
    served = random.random(n) < p
    left = np.where(late, 0.3, -0.3) + random.normal(0.0, 0.3, n)
    of = Rows(np.zeros(n, dtype=int), 1, left, served, p, np.arange(n), np.arange(n) % FOLDS)
    robust, plain = doubly_robust(of), difference(of)
    assert abs(robust.effect[0]) < 4 * robust.sd[0]
    assert plain.effect[0] > 0.1
    low, high = limits(robust)
    assert low[0] < 0.0 < high[0]


def test_limits_are_the_confidence_sequence_and_none_below_the_gate():
    of = rows(4000, effect=0.1)
    found = doubly_robust(of)
    low, high = limits(found, alpha=0.01)
    half = float(radius(4000, found.variance[0], alpha=0.01))
    assert (low[0], high[0]) == pytest.approx((found.effect[0] - half, found.effect[0] + half))
    assert found.sd[0] == pytest.approx(np.sqrt(found.variance[0] / 4000))
    for other in (rows(800), rows(4000, people=20)):
        low, high = limits(doubly_robust(other))
        assert np.isnan(low[0])
        assert np.isnan(high[0])


def test_one_side_missing_gives_no_number():
    of = rows(100)
    only = Rows(of.group, 2, of.left, np.ones(100, dtype=bool), of.p, of.cluster, of.fold)
    low, _ = limits(doubly_robust(only))
    assert np.isnan(low).all()
    assert np.isnan(difference(only).effect).all()


def test_the_outcome_model_narrows_and_knows_nothing_of_its_own_outcome():
    random = np.random.default_rng(4)
    n, people = 6000, 300
    person = random.integers(0, people, n)
    level = random.normal(0.0, 0.3, people)
    y = level[person] + random.normal(0.0, 0.2, n)
    at = pl.Series(np.arange(n)).cast(pl.Datetime("us", "UTC"))
    levels = [np.zeros(n, dtype=int)]
    guess = expected(y, levels, person, at)
    assert np.var(y - guess) < 0.6 * np.var(y)
    # The last unit's outcome changes what is expected of other people only.
    changed = y.copy()
    changed[-1] += 100.0
    again = expected(changed, levels, person, at)
    same, others = person == person[-1], person % FOLDS != person[-1] % FOLDS
    assert np.allclose(again[same], guess[same])
    assert not np.allclose(again[others], guess[others])
