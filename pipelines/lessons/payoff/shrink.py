"""What a lesson probably pays, given its own measurement and those of the agent's other lessons.

    effect_l ~ N(payoff_l, sd_l²)    payoff_l ~ N(μ, τ²)    μ ~ N(0, SCALE²)    τ ~ half-normal(SCALE)

(Gelman et al. 2013, Bayesian data analysis, 5.4; integrated over a grid of τ as by Röver 2020, J. Stat. Softw. 93:6.)
The best of many measurements is too high on average, and is drawn back by as much as noise explains of their spread.
With the prior in place of an estimate of τ, two or three lessons do not make it 0 by chance, and one lesson alone is
drawn towards no effect.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCALE", "posterior"]

Floats = NDArray[np.float64]

SCALE = 0.1
"""In reward points: most lessons move outcomes by less than a tenth (LESSONS.md 0.8)."""

_TAUS = SCALE * (np.arange(80) + 0.5) / 80.0 * 4.0


def posterior(effect: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each payoff, shapes (lessons,).

    Lessons whose `effect` is NaN, or whose `sd` is NaN or 0, get what is known of a lesson of this agent as such.
    """
    known = np.isfinite(effect) & np.isfinite(sd) & (sd > 0.0)
    x = np.where(known, effect, 0.0)[None, :]
    v = np.where(known, sd, 1.0)[None, :] ** 2
    tau = _TAUS[:, None] ** 2
    # Precision of μ and its mean at each τ; unmeasured lessons say nothing of it.
    w = np.where(known[None, :], 1.0 / (v + tau), 0.0)
    precision = w.sum(axis=1, keepdims=True) + SCALE**-2
    centre = (w * x).sum(axis=1, keepdims=True) / precision
    # log p(effects | τ), μ integrated out.
    fit = 0.5 * (np.log(np.where(w > 0.0, w, 1.0)).sum(axis=1) - np.log(precision[:, 0]))
    fit += 0.5 * (precision[:, 0] * centre[:, 0] ** 2 - (w * x**2).sum(axis=1)) - 0.5 * (_TAUS / SCALE) ** 2
    weight = np.exp(fit - fit.max())
    weight = (weight / weight.sum())[:, None]
    keep = np.where(known[None, :], tau / (v + tau), 0.0)  # what is kept of the lesson's own distance to the centre
    means = keep * x + (1.0 - keep) * centre
    variances = np.where(known[None, :], keep * v, tau) + (1.0 - keep) ** 2 / precision
    mean = (weight * means).sum(axis=0)
    variance = (weight * (variances + means**2)).sum(axis=0) - mean**2
    return mean, np.sqrt(np.maximum(variance, 0.0))
