"""The knapsack against every subset of small sets, and within its bound for large ones."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lessons.serving import knapsack
from pipelines.lessons.serving.knapsack import best

SMALL = st.lists(st.tuples(st.floats(1e-6, 1.0), st.integers(1, 60)), min_size=1, max_size=10)


def best_of_all(items, budget):
    """The value of the best subset, by trying all."""
    return max(
        sum(items[i][0] for i in subset)
        for size in range(len(items) + 1)
        for subset in combinations(range(len(items)), size)
        if sum(items[i][1] for i in subset) <= budget
    )


def taken(items, budget):
    values, tokens = np.array([each[0] for each in items]), np.array([each[1] for each in items], dtype=np.int64)
    chosen, left = best(values, tokens, budget)
    assert sorted([*chosen.tolist(), *left.tolist()]) == list(range(len(items)))
    assert tokens[chosen].sum() <= budget
    density = values / tokens
    for part in (chosen, left):
        assert (np.diff(density[part]) <= 0).all()
    return float(values[chosen].sum())


@given(SMALL, st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_small_sets_are_solved_exactly(items, budget):
    assert taken(items, budget) == pytest.approx(best_of_all(items, budget), abs=1e-9)


@given(SMALL, st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_large_sets_are_worth_half_of_the_best_at_least(items, budget):
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(knapsack, "EXACT_CELLS", -1)
        assert taken(items, budget) >= best_of_all(items, budget) / 2 - 1e-9


def test_large_sets_of_small_lessons_are_nearly_the_best():
    random = np.random.default_rng(3)
    values, tokens = random.uniform(0.001, 0.1, 5_000), random.integers(30, 120, 5_000)
    chosen, _ = best(values, tokens, 2_000)
    order = np.argsort(-values / tokens)
    sums = np.cumsum(tokens[order])
    whole = int(np.searchsorted(sums, 2_000, side="right"))
    # The relaxation in which a part of a lesson may be taken is an upper bound (Dantzig 1957).
    bound = values[order[:whole]].sum() + values[order[whole]] * (2_000 - sums[whole - 1]) / tokens[order[whole]]
    assert values[chosen].sum() >= 0.98 * bound


def test_ties_go_to_those_that_come_first():
    values, tokens = np.full(300, 0.5), np.full(300, 10, dtype=np.int64)
    assert best(values, tokens, 55)[0].tolist() == [0, 1, 2, 3, 4]
    assert best(values, tokens, 2_005)[0].tolist() == list(range(200))
    assert best(values, tokens, 9)[0].tolist() == []
    assert best(values[:0], tokens[:0], 100)[0].tolist() == []
