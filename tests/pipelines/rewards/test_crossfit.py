"""Cross-fitting by people and tasks at once: equal to fits on the rows themselves, and blind to its own cell."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from pipelines.rewards.crossfit import Grams, fold_of, solve

FOLDS = 3


def _data(n=600, p=6, seed=1):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p)).astype(np.float32)
    z = x @ np.linspace(-1, 1, p) + 0.7 + random.normal(size=n)
    return x, z, random.uniform(0.2, 1.0, n), random.integers(FOLDS * FOLDS, size=n)


def _solved(x, z, weight, cell, **more):
    grams = Grams(FOLDS * FOLDS, x.shape[1])
    for start in range(0, len(z), 97):
        at = slice(start, start + 97)
        grams.add(x[at], z[at], weight[at], cell[at])
    return solve(grams, FOLDS, **more)


def test_every_cell_is_fitted_on_the_rows_of_other_people_and_other_tasks():
    x, z, weight, cell = _data()
    fitted = _solved(x, z, weight, cell, penalties=[7.0])
    for number in range(FOLDS * FOLDS):
        train = (cell // FOLDS != number // FOLDS) & (cell % FOLDS != number % FOLDS)
        oracle = Ridge(alpha=7.0).fit(x[train], z[train], sample_weight=weight[train])
        assert fitted.coefficients[number, 1:] == pytest.approx(oracle.coef_, abs=1e-4)
        assert fitted.coefficients[number, 0] == pytest.approx(oracle.intercept_, abs=1e-4)
    whole = Ridge(alpha=7.0).fit(x, z, sample_weight=weight)
    assert fitted.whole[1:] == pytest.approx(whole.coef_, abs=1e-4)


def test_the_loss_is_the_loss_out_of_fold():
    x, z, weight, cell = _data()
    fitted = _solved(x, z, weight, cell, penalties=[7.0])
    predicted = (x * fitted.coefficients[cell, 1:]).sum(axis=1) + fitted.coefficients[cell, 0]
    assert fitted.loss == pytest.approx(float((weight * (z - predicted) ** 2).sum()), rel=1e-4)
    mean = np.average(z, weights=weight)
    assert fitted.explained == pytest.approx(1 - fitted.loss / (weight * (z - mean) ** 2).sum(), abs=1e-4)


def test_the_penalty_is_small_where_features_tell_and_large_where_they_do_not():
    x, z, weight, cell = _data()
    told = _solved(x, z, weight, cell)
    noise = _solved(x, np.random.default_rng(2).normal(size=len(z)), weight, cell)
    assert told.penalties["all"] < noise.penalties["all"] == 300.0
    assert told.explained > 0.4
    assert noise.explained < 0.02


def test_a_group_of_noise_is_shrunk_more_than_one_that_tells():
    x, z, weight, cell = _data()
    noise = np.random.default_rng(4).normal(size=(len(z), 60)).astype(np.float32)
    groups = ["tells"] * 6 + ["noise"] * 60
    one = _solved(np.concatenate([x, noise], axis=1), z, weight, cell)
    two = _solved(np.concatenate([x, noise], axis=1), z, weight, cell, groups=groups)
    assert two.penalties["noise"] > 10 * two.penalties["tells"]
    assert two.explained > one.explained


def test_folds_are_stable_and_keep_a_name_together():
    names = pl.Series(["ada", "bob", None, "ada", None])
    lone = pl.Series(["t1", "t2", "t3", "t4", "t5"])
    fold = fold_of(names, lone, 5)
    assert fold[0] == fold[3]
    assert fold.tolist() == fold_of(names, lone, 5).tolist()
    many = fold_of(pl.Series([f"user {i}" for i in range(1000)]), pl.Series([str(i) for i in range(1000)]), 5)
    assert np.bincount(many).min() > 150


def test_cells_must_be_folds_by_folds():
    with pytest.raises(ValueError, match="expected 3 x 3"):
        solve(Grams(4, 1), 3)
