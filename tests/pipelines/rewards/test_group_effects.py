"""Effects of people and tasks: variances found, effects shrunk, and nothing of a row in what is expected of it."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards.group_effects import fit_effects, known_effect


def _data(tau_user=0.6, tau_task=0.4, residual=0.5, users=400, tasks=150, n=8_000, seed=3):
    random = np.random.default_rng(seed)
    user, task = random.integers(users, size=n), random.integers(tasks, size=n)
    own_user, own_task = random.normal(0, tau_user, users), random.normal(0, tau_task, tasks)
    precision = random.uniform(0.2, 2.0, n) * (random.random(n) < 0.8)
    noise = random.normal(size=n) / np.sqrt(np.where(precision > 0, precision, 1.0))
    observed = own_user[user] + own_task[task] + random.normal(0, residual, n) + noise
    names = pl.Series([f"u{i}" for i in user]), pl.Series([f"t{i}" for i in task])
    return np.where(precision > 0, observed, 0.0), precision, names, (own_user[user], own_task[task])


def test_variances_and_effects_are_found():
    observed, precision, (users, tasks), (true_user, true_task) = _data()
    found = fit_effects(observed, precision, users, tasks)
    assert found.users.variance == pytest.approx(0.36, rel=0.2)
    assert found.tasks.variance == pytest.approx(0.16, rel=0.3)
    assert found.residual == pytest.approx(0.25, abs=0.1)
    for effect, truth in ((found.users, true_user), (found.tasks, true_task)):
        error = (effect.mean - truth) / np.sqrt(effect.sd2)
        assert np.mean(np.abs(error) < 1.96) == pytest.approx(0.95, abs=0.03)


def test_without_groups_that_differ_there_are_no_effects():
    observed, precision, (users, tasks), _ = _data(tau_user=0.0, tau_task=0.0)
    found = fit_effects(observed, precision, users, tasks)
    assert found.users.variance < 0.03
    assert found.tasks.variance < 0.03


def test_what_a_row_says_does_not_enter_what_is_expected_of_it():
    observed, precision, (users, tasks), _ = _data(n=2_000)
    row = int(np.flatnonzero(precision > 0)[0])
    before = fit_effects(observed, precision, users, tasks)
    changed = observed.copy()
    changed[row] += 0.5
    after = fit_effects(changed, precision, users, tasks)
    # Only by the variances, which all rows share, may it move at all.
    assert after.users.mean[row] == pytest.approx(before.users.mean[row], abs=0.01)
    mates = (users == users[row]).to_numpy() & (tasks != tasks[row]).to_numpy()
    assert np.all(after.users.mean[mates] > before.users.mean[mates] + 0.001)


def test_later_rows_get_the_effect_of_their_group_and_strangers_the_prior():
    observed, precision, (users, tasks), (true_user, _) = _data()
    found = fit_effects(observed, precision, users, tasks)
    mean, sd2 = known_effect(found.users, pl.Series([users[0], "a stranger", None]))
    assert mean[0] == pytest.approx(true_user[0], abs=3 * sd2[0] ** 0.5)
    assert mean[1:].tolist() == [0.0, 0.0]
    assert sd2[0] < sd2[1] == sd2[2] == found.users.variance


def test_too_few_groups_have_no_variance():
    observed, precision, _, _ = _data(n=500)
    names = pl.Series([f"u{i % 4}" for i in range(500)])
    found = fit_effects(observed, precision, names, pl.Series([None] * 500, dtype=pl.String))
    assert found.users.variance == 0.0
    assert found.tasks.mean.tolist() == [0.0] * 500
