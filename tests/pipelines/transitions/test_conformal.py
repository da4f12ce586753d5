"""Conformal p-values: valid under exchangeability, the finest level with enough others, never against itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.transitions.conformal import NO_GROUP, ConformalConfig, p_values


def test_p_values_are_valid_whatever_the_scores_are():
    random = np.random.default_rng(1)
    score = random.standard_cauchy(20_000)
    group = random.integers(0, 40, score.size)
    found = p_values(score, np.ones(score.size, dtype=bool), [group])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert (found.p <= alpha).mean() <= alpha + 1e-12
        assert (found.p <= alpha).mean() >= alpha - 0.005


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(-1, 2)), min_size=1, max_size=80),
    st.integers(1, 10),
)
def test_p_values_are_those_of_counting_one_by_one(rows, least):
    score = np.array([float(a) for a, _, _ in rows])
    recent = np.array([b for _, b, _ in rows])
    task = np.array([c for _, _, c in rows])
    agent = np.zeros(len(rows), dtype=np.int64)
    found = p_values(score, recent, [task, agent], ConformalConfig(min_others=least))
    for i in range(len(rows)):
        level = -1
        for number, group in enumerate((task, agent)):
            others = [j for j in range(len(rows)) if j != i and recent[j] and group[j] == group[i]]
            if group[i] != NO_GROUP and len(others) >= least:
                level = number
                expected = (1 + sum(score[j] >= score[i] for j in others)) / (1 + len(others))
                break
        assert found.level[i] == level
        if level < 0:
            assert np.isnan(found.p[i])
        else:
            assert found.p[i] == pytest.approx(expected)
            assert found.others[i] == len(others)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        p_values(np.array([1.0, np.nan]), np.ones(2, dtype=bool), [np.zeros(2, dtype=np.int64)])
