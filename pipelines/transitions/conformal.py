"""Conformal p-values of episodes: how unusual is this one among recent ones of its kind?

p = (1 + #{others at least as high}) / (1 + others): under exchangeability P(p <= α) <= α whatever the scores are (Vovk,
Gammerman & Shafer 2005; Laxhammar & Falkman 2011). Others are the recent episodes of the same agent and task, or of the
agent where the task has too few; the episode itself is never among them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_GROUP", "ConformalConfig", "Unusual", "p_values"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_GROUP = -1


@dataclass(frozen=True)
class ConformalConfig:
    """With fewer `others` than this no p-value can reach .05, so none is given."""

    min_others: int = 20


@dataclass(frozen=True)
class Unusual:
    """p-values (NaN where there is too little to compare with), how many others, and the level used (0, 1, -1 none)."""

    p: Array
    others: Ints
    level: Ints


def p_values(score: Array, recent: Bools, levels: list[Ints], config: ConformalConfig | None = None) -> Unusual:
    """One-sided p-values of high scores.

    `score` (episodes,), `recent` those that serve as others, `levels` group codes from the finest to the coarsest, each
    (episodes,) with `NO_GROUP` where an episode is in none. The finest level with enough others is used.
    Raises ValueError for a score that is not finite.
    """
    config = config or ConformalConfig()
    if not np.all(np.isfinite(score)):
        raise ValueError("scores must be finite")
    p = np.full(score.size, np.nan)
    others = np.zeros(score.size, dtype=np.int64)
    level = np.full(score.size, -1, dtype=np.int64)
    ranks = np.unique(score, return_inverse=True)[1].astype(np.int64)
    span = int(ranks.max(initial=0)) + 1
    for number, group in enumerate(levels):
        usable = recent & (group != NO_GROUP)
        key = np.sort(group[usable] * span + ranks[usable])
        end = np.searchsorted(key, (group + 1) * span, side="left")
        available = end - np.searchsorted(key, group * span, side="left") - usable
        at_least = end - np.searchsorted(key, group * span + ranks, side="left") - usable
        chosen = (level < 0) & (group != NO_GROUP) & (available >= config.min_others)
        p[chosen] = (1.0 + at_least[chosen]) / (1.0 + available[chosen])
        others[chosen], level[chosen] = available[chosen], number
    return Unusual(p, others, level)
