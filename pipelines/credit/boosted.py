"""Prefix values by gradient boosting, for agents whose states are too many for cell means (METHODS §4).

Two regressions a fold, on the same features of the prefix: V without the step's choice, Q with it. Histogram gradient
boosting of scikit-learn; fitted on at most `MOST_ROWS` steps of the other folds.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipelines.credit.steps import Prefixes
from pipelines.credit.values import Outcomes, Values

__all__ = ["MOST_ROWS", "boosted"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_ROWS = 200_000
_LEAF = 20
_MOST_CATEGORIES = 254
_ONE_THREAD = 20_000


def boosted(
    prefixes: Prefixes, rows: Bools, telling: Bools, outcomes: Outcomes, z: Floats, random: np.random.Generator
) -> Values:
    """Values and advantages of the steps `rows` (shape (steps,), of one agent), in that order.

    `telling` (shape (steps,)): the steps to learn from. The standard deviation of V is that of a leaf: that of the
    residuals over the root of the smallest leaf.
    """
    chosen = np.flatnonzero(rows)
    trace = prefixes.trace[chosen]
    fold, informative, y = outcomes.fold[trace], telling[chosen], outcomes.mean[trace]
    state, action = _features(prefixes, chosen, z[trace])
    both = np.concatenate([state, action], axis=1)
    seed = int(random.integers(2**31))
    value, quality, sd = (np.zeros(len(chosen)) for _ in range(3))
    for k in np.unique(fold):
        own, train = fold == k, np.flatnonzero(informative & (fold != k))
        if train.size == 0:
            value[own] = quality[own] = z[trace][own]
            sd[own] = 0.5
            continue
        if train.size > MOST_ROWS:
            train = np.sort(random.choice(train, MOST_ROWS, replace=False))
        # Little work is done slower by several threads than by one, far slower when the processors are busy.
        with threadpool_limits(None if train.size > _ONE_THREAD else 1, user_api="openmp"):
            model = _model(state.shape[1], seed).fit(state[train], y[train])
            value[own] = model.predict(state[own])
            sd[own] = np.std(y[train] - model.predict(state[train])) / np.sqrt(_LEAF)
            quality[own] = _model(both.shape[1], seed).fit(both[train], y[train]).predict(both[own])
    value = np.clip(value, 0.0, 1.0)
    return Values(value, sd, np.clip(quality, 0.0, 1.0) - value)


def _features(prefixes: Prefixes, chosen: Ints, z: Floats) -> tuple[Floats, Floats]:
    """Features of the prefix and of the choice; names as codes by frequency within the agent, the first categorical."""
    used = prefixes.used[chosen]
    distinct = sum(((used >> np.uint64(bit)) & np.uint64(1)).astype(np.float64) for bit in range(62))
    last = _own_codes(prefixes.last[chosen])
    state = np.stack(
        [
            last, prefixes.last_failed[chosen], prefixes.last_variant[chosen], prefixes.position[chosen],
            prefixes.errors[chosen], prefixes.flags[chosen] % 2, prefixes.flags[chosen] // 2, distinct,
            prefixes.spend[chosen], z,
        ],
        axis=1,
    ).astype(np.float64)  # fmt: skip
    action = np.stack([_own_codes(prefixes.what[chosen]), prefixes.variant[chosen]], axis=1).astype(np.float64)
    return state, action


def _own_codes(codes: Ints) -> Ints:
    """Codes from 0 within one agent: names are coded by frequency, so the rarest share the last one."""
    return np.minimum(np.unique(codes, return_inverse=True)[1], _MOST_CATEGORIES).astype(np.int64)


def _model(features: int, seed: int) -> HistGradientBoostingRegressor:
    categorical = [index in (0, 10) for index in range(features)]
    return HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=_LEAF, l2_regularization=1.0,
        early_stopping=False, categorical_features=categorical, random_state=seed,
    )  # fmt: skip
