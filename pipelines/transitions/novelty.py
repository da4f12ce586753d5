"""Novelty of states and learning progress: where more experience would still teach something.

Unseen: the Good-Turing estimate n1 / n of the probability that the next step is one never seen from this state (Good
1953, Biometrika 40:237-264). Novelty: 1 / sqrt(n + 1), the count bonus of Bellemare et al. (2016, arXiv 1606.01868).
Learning progress: by how much the newer half of the data lowers the loss on held-out traces (Schmidhuber 1991). Raw
surprise is no reason to explore: a state that is random by nature surprises for ever and teaches nothing.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.transitions.dirichlet import predictive

__all__ = ["CURVE", "Progress", "good_turing", "learning_curve", "learning_progress", "novelty"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CURVE = pl.Schema({"share": pl.Float64(), "transitions": pl.Int64(), "loss": pl.Float64(), "se": pl.Float64()})
_SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Progress:
    """Per from-state: drop of held-out loss in nats a step, its standard error, and held-out steps; NaN without any."""

    drop: Array
    se: Array
    n: Ints


def good_turing(counts: Array) -> Array:
    """Missing mass n1 / n of each row of `counts` (from, to); 1 for a state never left. Shape (from,)."""
    total = counts.sum(axis=1)
    singles = (counts == 1.0).sum(axis=1)
    return np.where(total > 0, singles / np.maximum(total, 1.0), 1.0)


def novelty(visits: Array) -> Array:
    """The count bonus 1 / sqrt(n + 1)."""
    return np.asarray(1.0 / np.sqrt(visits + 1.0), dtype=np.float64)


def learning_progress(
    source: Ints, target: Ints, older: Bools, held: Bools, base: Array, kappa: float, states: int
) -> Progress:
    """What the newer half of the training transitions taught about held-out ones.

    `source` and `target` are the states of each transition, `held` marks those never trained on and `older`, among the
    others, the older half: all (transitions,). `base` is (to,), `states` the number of from-states.
    """
    shape = (states, base.size)
    before = predictive(_matrix(source, target, older & ~held, shape), base, kappa)
    after = predictive(_matrix(source, target, ~held, shape), base, kappa)
    s, t = source[held], target[held]
    gain = np.log(after[s, t]) - np.log(before[s, t])
    n = np.bincount(s, minlength=shape[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(s, weights=gain, minlength=shape[0]) / n
        squares = np.bincount(s, weights=(gain - mean[s]) ** 2, minlength=shape[0])
        se = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1)), np.nan)
    return Progress(mean, se, n.astype(np.int64))


def learning_curve(source: Ints, target: Ints, held: Bools, base: Array, kappa: float, states: int) -> pl.DataFrame:
    """Held-out loss (nats a step) of models of ever more of the training transitions, the oldest first (`CURVE`)."""
    shape = (states, base.size)
    training = np.flatnonzero(~held)
    s, t = source[held], target[held]
    rows = []
    for share in _SHARES:
        most = round(training.size * share)
        if most == 0 or s.size < 2:
            continue
        used = np.zeros(source.size, dtype=bool)
        used[training[:most]] = True
        loss = -np.log(predictive(_matrix(source, target, used, shape), base, kappa)[s, t])
        rows.append((share, most, float(loss.mean()), float(loss.std(ddof=1) / np.sqrt(loss.size))))
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def _matrix(source: Ints, target: Ints, used: Bools, shape: tuple[int, int]) -> Array:
    code = source[used] * shape[1] + target[used]
    return np.bincount(code, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
