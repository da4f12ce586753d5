"""What a lesson is expected to pay, by which it is chosen: the posterior of its effect, and some optimism.

    worth = mean + OPTIMISM x min(sd, PRIOR_SD)

an upper confidence bound (Lai & Robbins, "Asymptotically efficient adaptive allocation rules", 1985). Mean and sd are
those that the job `payoffs` found; a lesson that was not measured has the prior of one that passed review, a small
positive mean and a wide spread. So a lesson of which little is known is served until its payoff is known, instead of
never. One whose worth is not above 0 is expected to harm, and is not chosen.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from store.lesson_sets import ServedLesson

__all__ = ["OPTIMISM", "PRIOR_MEAN", "PRIOR_SD", "expected"]

PRIOR_MEAN: Final = 0.01
PRIOR_SD: Final = 0.05
OPTIMISM: Final = 1.0
"""Reward points, 0 to 1; standard deviations that are added."""


def expected(lessons: Sequence[ServedLesson]) -> NDArray[np.float64]:
    """The worth of each of n lessons, (n,) in reward points."""
    return np.array([_worth(lesson.payoff, lesson.payoff_sd) for lesson in lessons], dtype=np.float64)


def _worth(mean: float | None, sd: float | None) -> float:
    if mean is None or sd is None or not (isfinite(mean) and isfinite(sd)):
        mean, sd = PRIOR_MEAN, PRIOR_SD
    return mean + OPTIMISM * min(sd, PRIOR_SD)
