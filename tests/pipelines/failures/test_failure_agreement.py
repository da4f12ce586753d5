"""Cohen's kappa against scikit-learn, its published variance, and its coverage."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from pipelines.failures.agreement import kappa
from store.errors import JobError


def _pairs(table):
    first, second = [], []
    for i, row in enumerate(table):
        for j, count in enumerate(row):
            first += [f"c{i}"] * count
            second += [f"c{j}"] * count
    return pl.Series(first), pl.Series(second)


def test_kappa_equals_scikit_learn():
    random = np.random.default_rng(1)
    first = random.integers(4, size=500)
    second = np.where(random.random(500) < 0.6, first, random.integers(5, size=500))
    found = kappa(pl.Series(first.astype(str)), pl.Series(second.astype(str)))
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.observed == pytest.approx((first == second).mean())


def test_the_variance_is_that_of_fleiss_cohen_and_everitt():
    """Their example of 200 cases and three categories: kappa .429, standard error .0537 under the alternative."""
    found = kappa(*_pairs([[106, 10, 4], [22, 28, 10], [2, 12, 6]]))
    assert found.kappa == pytest.approx(0.429, abs=5e-4)
    assert (found.upper - found.lower) / (2 * 1.959964) == pytest.approx(0.0537, abs=2e-3)


def test_the_interval_covers():
    random = np.random.default_rng(5)
    shares = np.array([[0.30, 0.05, 0.05], [0.05, 0.25, 0.05], [0.02, 0.03, 0.20]])
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    truth = (np.trace(shares) - rows @ columns) / (1 - rows @ columns)
    covered = 0
    for _ in range(600):
        table = random.multinomial(150, shares.ravel()).reshape(3, 3)
        found = kappa(*_pairs(table))
        covered += found.lower <= truth <= found.upper
    assert 0.93 <= covered / 600 <= 0.97


def test_what_cannot_be_told_is_named():
    none = pl.Series([], dtype=pl.String)
    assert kappa(none, none).reason == "nothing was labelled twice"
    same = pl.Series(["a"] * 30)
    assert kappa(same, same).kappa is None
    assert "same label" in kappa(same, same).reason
    few = kappa(pl.Series(["a", "b", "a"]), pl.Series(["a", "b", "b"]))
    assert few.kappa is not None
    assert few.lower is None
    with pytest.raises(JobError, match="two labels"):
        kappa(pl.Series(["a"]), pl.Series(["a", "b"]))
    with pytest.raises(JobError, match="null"):
        kappa(pl.Series(["a", None]), pl.Series(["a", "b"]))
