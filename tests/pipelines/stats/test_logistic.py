"""Plain logistic regression and its sandwich against scikit-learn and the textbook."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from pipelines.stats.contract import FitRefused, codes, numbers, within
from pipelines.stats.logistic import checked_rows, initial
from pipelines.stats.sandwich import clustered_scores, inverse, sandwich


def test_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    design = np.column_stack([np.ones(500), rng.normal(0, 1, (500, 3))])
    response = (rng.random(500) < expit(design @ [0.3, 1.0, -0.5, 0.0])).astype(float)
    weight = rng.uniform(0.2, 2.0, 500)
    ours = initial("model", checked_rows("model", response, design, weight=weight, offset=None, names=None))
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(design, response, sample_weight=weight)
    assert ours == pytest.approx(theirs.coef_[0], abs=1e-5)


def test_clusters_of_one_are_rows_and_repeated_rows_add_nothing() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, (50, 2))
    bread = inverse(np.array([[4.0, 1.0], [1.0, 3.0]]))
    assert bread == pytest.approx(np.linalg.inv([[4.0, 1.0], [1.0, 3.0]]))
    plain = sandwich(bread, clustered_scores(scores, None))
    assert plain == pytest.approx(bread @ (scores.T @ scores) @ bread * 50 / 49)
    assert sandwich(bread, clustered_scores(scores, rng.permutation(50))) == pytest.approx(plain)
    twice = np.vstack([scores, scores])
    clusters = np.tile(np.arange(50), 2) * 3
    assert sandwich(bread / 2, clustered_scores(twice, clusters)) == pytest.approx(plain)
    assert np.isnan(sandwich(bread, clustered_scores(scores, np.zeros(50, dtype=np.int64)))).all()


def test_checks_name_what_is_wrong() -> None:
    with pytest.raises(FitRefused, match="2 of 3 values of scores are missing or infinite") as refusal:
        numbers("model", "scores", [1.0, np.nan, np.inf])
    assert (refusal.value.model, refusal.value.reason) == ("model", "not_finite")
    with pytest.raises(ValueError, match="scores must have the shape"):
        numbers("model", "scores", [1.0, 2.0], (3,))
    with pytest.raises(FitRefused, match="users must lie from 0 to 4; they go from 1 to 5"):
        codes("model", "users", np.array([1, 5]), 2, 5)
    with pytest.raises(ValueError, match="users must be 2 integers"):
        codes("model", "users", np.array([1.0, 2.0]), 2)
    with pytest.raises(FitRefused, match="weights must lie from 0 to 1; they go from -1 to 1"):
        within("model", "weights", np.array([-1.0, 1.0]), 0.0, 1.0)
    assert codes("model", "users", np.empty(0, dtype=np.int64), 0).size == 0
