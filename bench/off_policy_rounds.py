"""Synthetic decisions for off-policy estimators, the same from the same seed; needs NumPy only.

Every number is drawn and computed element by element, so that other packages' environments make the same ones.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["LAMBDA", "TAU", "Rounds", "rounds"]

TAU = 10.0
LAMBDA = 100.0
ARMS = 10
SEED = 20261121


@dataclass(frozen=True)
class Rounds:
    """`arm` and `reward` (rounds,); `logged`, `target` and `model` (rounds, arms): p(a|x), π(a|x) and q(x, a)."""

    arm: np.ndarray
    reward: np.ndarray
    logged: np.ndarray
    target: np.ndarray
    model: np.ndarray


def rounds(count: int) -> Rounds:
    """Rewards 0 or 1 with chances from .2 to .8; weights up to several hundred; a model that is off by .1."""
    random = np.random.default_rng(SEED)
    logged = np.exp(random.standard_normal((count, ARMS)))
    logged /= logged.sum(axis=1, keepdims=True)
    target = np.exp(2.0 * random.standard_normal((count, ARMS)))
    target = target / target.sum(axis=1, keepdims=True)
    arm = np.minimum((random.random(count)[:, None] > logged.cumsum(axis=1)).sum(axis=1), ARMS - 1)
    chance = 0.2 + 0.6 * random.random((count, ARMS))
    reward = (random.random(count) < chance[np.arange(count), arm]).astype(np.float64)
    model = np.clip(chance + 0.1 * random.standard_normal((count, ARMS)), 0.0, 1.0)
    return Rounds(arm, reward, logged, target, model)
