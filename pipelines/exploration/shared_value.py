"""What a look at one person is worth to everybody else: it also teaches about their segment, and about the agent.

In a Gaussian hierarchy of agent, segment and person a reward of a person is a look at the segment's mean with the
differences between persons as further noise, and at the agent's mean with those between segments too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.exploration.information_value import looks

__all__ = ["Levels", "Shared", "for_segments", "for_users"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Levels:
    """Posteriors of one agent's arms above its users, and what is expected within the horizon.

    `segment` (users,) is each user's, -1 for none; without any segment the arrays of segments have no rows.
    """

    segment: Ints
    segment_mean: Floats  # (segments, arms)
    segment_sd: Floats
    agent_mean: Floats  # (arms,)
    agent_sd: Floats
    noise_sd: float  # of one reward around the person's mean of its arm
    person_sd: float  # of persons around their segment
    ahead: Floats  # (users,) decisions


@dataclass(frozen=True)
class Shared:
    """What a look at a unit is worth to everybody else's decisions, reward points, (units, arms), and the share of the
    unit's decisions that would have to look at each arm for everybody together to learn what pays."""

    worth: Floats
    share: Floats


def for_segments(levels: Levels) -> Shared:
    """For a look at someone of each segment: what it is worth to the other segments."""
    others = np.maximum(levels.ahead.sum() - _of_segments(levels), 0.0)
    of_agent = _of_agent(levels)
    worth = others[:, None] / max(float(levels.ahead.sum()), 1.0) * of_agent.worth
    return Shared(worth, np.broadcast_to(of_agent.share, worth.shape))


def for_users(levels: Levels) -> Shared:
    """For a look at each user: what it is worth to their segment and to the other segments."""
    total = max(float(levels.ahead.sum()), 1.0)
    of_agent = _of_agent(levels)
    known = levels.segment >= 0
    worth = (1.0 - levels.ahead / total)[:, None] * of_agent.worth
    share = np.tile(of_agent.share, (known.size, 1))
    if known.any():
        ahead = _of_segments(levels)
        mean, noise = levels.segment_mean, float(np.hypot(levels.noise_sd, levels.person_sd))
        look = looks(mean, levels.segment_sd, noise, ahead, _gap(mean))
        wide = for_segments(levels)
        at = levels.segment[known]
        rest = np.maximum(1.0 - levels.ahead[known] / np.maximum(ahead[at], 1.0), 0.0)
        worth[known] = rest[:, None] * look.worth[at] + wide.worth[at]
        share[known] = np.maximum((look.best / np.maximum(ahead, 1.0)[:, None])[at], wide.share[at])
    return Shared(worth, share)


def _of_segments(levels: Levels) -> Floats:
    known = levels.segment >= 0
    rows = levels.segment_mean.shape[0]
    return np.bincount(levels.segment[known], weights=levels.ahead[known], minlength=rows).astype(np.float64)


def _of_agent(levels: Levels) -> Shared:
    between = float(levels.segment_mean.var(axis=0).mean()) if levels.segment_mean.shape[0] > 1 else 0.0
    noise = float(np.sqrt(levels.noise_sd**2 + levels.person_sd**2 + between))
    total = float(levels.ahead.sum())
    look = looks(levels.agent_mean, levels.agent_sd, noise, total, _gap(levels.agent_mean))
    return Shared(look.worth, look.best / max(total, 1.0))


def _gap(means: Floats) -> Floats:
    return np.asarray(means.max(axis=-1, keepdims=True) - means)
