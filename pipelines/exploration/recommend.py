"""The exploration rate of agents, segments and users: what exploring would teach against what it costs, and how they
take it.

An exploratory decision is drawn among the non-greedy arms b in proportion to P(b is best). With weights w of that kind

    value    Σ w_b · (value of a look at b for the unit's decisions ahead, and for everybody else's; information_value)
    cost     Σ w_b · (m_g - m_b) + max(0, -tolerance): the reward given up, and the displeasure of being explored
    return   value / cost · 4^(2 dial - 1)
    need     return² / (1 + return²), one half where exploring just pays, times the share of cap - floor that it takes
             to get the looks that pay from the decisions ahead (at most all of it)
    lifted   need + (1 - need) · (1 - (1 - ½ drift)(1 - ¼ progress)) · min(1, 2 dial)
    rate     (floor + (cap - floor) lifted) · factor, factor = exp(tolerance / scale), at most 1.5,
             scale = `displeasure` · 4^(2 dial - 1)

The rate grows with what there is to learn, with recent drift and learning progress, with tolerance, and with the dial
from 0 (respect what they prefer: today's reward counts four times) to 1 (gently challenge it: a quarter). It stays
between floor and cap, with two exceptions: nobody is explored who opted out or is on a never-explore list; and the
floor gives way for a user who dislikes it with a probability of 90 % at least. Where so little is left that a
decision's propensity floor would raise it at least twofold, that user's rate is 0.

Interval: the weighted gap between the arms and the tolerance are each moved to the ends of their 95 % intervals, and
what that does to the rate is combined by the method of variance estimates recovery (Zou & Donner 2008, Stat. Med.
27:1693-1702).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.exploration.bounds import UnitBounds
from pipelines.exploration.information_value import looks
from pipelines.exploration.shared_value import Shared
from pipelines.stats.quadrature import probability_best
from pipelines.steering.propensities import PROPENSITY_FLOOR, greedy_arms
from store.errors import SettingsError

__all__ = ["RateConfig", "Rates", "Units", "rates"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_Z95 = 1.959963984540054
_Z90 = 1.2815515655446004  # one-sided
_MOST_FACTOR = 1.5
_DRIFT_WEIGHT, _PROGRESS_WEIGHT = 0.5, 0.25
_LEAST_SD = 1e-9
_LEAST_COST = 1e-6  # arms that cost nothing to try are tried as often as is allowed


@dataclass(frozen=True)
class RateConfig:
    """`displeasure`: a negative tolerance, in reward points, that divides the rate by e at the middle of the dial;
    `propensity_floor` of the policy."""

    displeasure: float = 0.03
    propensity_floor: float = PROPENSITY_FLOOR

    def __post_init__(self) -> None:
        if not self.displeasure > 0.0:
            raise SettingsError("exploration displeasure", self.displeasure, "above 0")


@dataclass(frozen=True)
class Units:
    """What is known of several units of one agent, one entry each; arms on the last axis where there are arms."""

    mean: Floats  # (units, arms), reward points
    sd: Floats  # (units, arms)
    noise_sd: Floats | float  # of one reward around the unit's mean of its arm
    ahead: Floats  # decisions expected within the horizon
    shared: Shared  # what a look at each unit is worth to everybody else
    tolerance: Floats  # reward points; negative: they dislike it
    tolerance_sd: Floats
    drift: Floats  # 0 to 1
    progress: Floats  # 0 to 1
    never: Bools  # opted out or on a list
    people: bool  # users: the floor gives way for those who dislike it


@dataclass(frozen=True)
class Rates:
    """Recommended rates with their 95 % intervals and what they come from, one entry per unit."""

    rate: Floats
    lower: Floats
    upper: Floats
    greedy: Ints
    best: Floats  # (units, arms): probability that each arm is the best
    doubt: Floats  # that another arm than the greedy one is
    value: Floats  # of an exploratory decision to the decisions ahead, reward points
    cost: Floats  # of an exploratory decision, reward points
    need: Floats  # 0 to 1, before drift, progress and tolerance
    factor: Floats  # by tolerance
    dislikes: Bools  # with a probability of 90 % at least


def rates(units: Units, bounds: UnitBounds, config: RateConfig | None = None) -> Rates:
    """The rate of every unit under its bounds; see the module. Vectorised over units; two arms at least."""
    config = config or RateConfig()
    if units.mean.shape[-1] < 2:
        raise ValueError("an exploration rate needs two arms at least")
    sd = np.maximum(units.sd, _LEAST_SD)
    best = probability_best(units.mean, sd)
    greedy = greedy_arms(units.mean)
    dislikes = (units.tolerance + _Z90 * units.tolerance_sd < 0.0) & units.people
    known = _Known(units, bounds, config, best, greedy, dislikes)
    means = units.mean
    value, fill = known.value(means)
    cost = known.cost(means, units.tolerance)
    rate = known.rate(known.need(value, fill, cost), units.tolerance)
    is_greedy = np.arange(means.shape[-1]) == greedy[:, None]
    top = np.take_along_axis(means, greedy[:, None], axis=-1)
    weights = known.weights()
    spread = np.sqrt(
        ((weights * sd) ** 2).sum(axis=-1, keepdims=True) + np.take_along_axis(sd, greedy[:, None], -1) ** 2
    )
    margin = np.where(is_greedy, 0.0, _Z95 * spread)
    ends = []
    for sign in (-1.0, 1.0):
        moved = np.minimum(means + sign * margin, top)
        by_arms = known.rate(known.need(*known.value(moved), known.cost(moved, units.tolerance)), units.tolerance)
        tolerance = units.tolerance + sign * _Z95 * units.tolerance_sd
        by_tolerance = known.rate(known.need(value, fill, known.cost(means, tolerance)), tolerance)
        ends.append(rate + sign * np.hypot(by_arms - rate, by_tolerance - rate))
    return Rates(
        rate=rate,
        lower=np.minimum(np.maximum(ends[0], known.least()), rate),
        upper=np.maximum(np.minimum(ends[1], np.where(units.never, 0.0, bounds.cap)), rate),
        greedy=greedy,
        best=best,
        doubt=1.0 - np.take_along_axis(best, greedy[:, None], axis=-1)[:, 0],
        value=value,
        cost=cost,
        need=known.need(value, fill, cost),
        factor=known.factor(units.tolerance),
        dislikes=dislikes,
    )


@dataclass(frozen=True)
class _Known:
    """Everything a rate depends on but the arms' means and the tolerance, which the interval moves."""

    units: Units
    bounds: UnitBounds
    config: RateConfig
    best: Floats
    greedy: Ints
    dislikes: Bools

    def value(self, means: Floats) -> tuple[Floats, Floats]:
        """What an exploratory decision is worth, and which part of cap - floor the looks that pay take."""
        units, bounds = self.units, self.bounds
        gap = np.take_along_axis(means, self.greedy[:, None], axis=-1) - means
        own = looks(means, np.maximum(units.sd, _LEAST_SD), units.noise_sd, units.ahead, gap)
        others = np.arange(means.shape[-1]) != self.greedy[:, None]
        wanted = np.maximum(own.best / np.maximum(units.ahead, 1.0)[:, None], units.shared.share)
        taken = np.where(others, wanted, 0.0).sum(axis=-1)
        fill = np.minimum(taken / np.maximum(bounds.cap - bounds.floor, _LEAST_COST), 1.0)
        return np.asarray((self.weights() * (own.worth + units.shared.worth)).sum(axis=-1)), fill

    def cost(self, means: Floats, tolerance: Floats) -> Floats:
        top = np.take_along_axis(means, self.greedy[:, None], axis=-1)
        return np.asarray((self.weights() * (top - means)).sum(axis=-1) + np.maximum(-tolerance, 0.0))

    def need(self, value: Floats, fill: Floats, cost: Floats) -> Floats:
        returned = value / np.maximum(cost, _LEAST_COST) * 4.0 ** (2.0 * self.bounds.dial - 1.0)
        return np.asarray(fill * returned**2 / (1.0 + returned**2))

    def factor(self, tolerance: Floats) -> Floats:
        scale = self.config.displeasure * 4.0 ** (2.0 * self.bounds.dial - 1.0)
        return np.exp(np.minimum(tolerance / scale, np.log(_MOST_FACTOR)))

    def rate(self, need: Floats, tolerance: Floats) -> Floats:
        units, bounds = self.units, self.bounds
        lift = 1.0 - (1.0 - _DRIFT_WEIGHT * units.drift) * (1.0 - _PROGRESS_WEIGHT * units.progress)
        lifted = need + (1.0 - need) * lift * np.minimum(1.0, 2.0 * bounds.dial)
        free = (bounds.floor + (bounds.cap - bounds.floor) * lifted) * self.factor(tolerance)
        arms = units.mean.shape[-1]
        least = (arms - 1) * min(self.config.propensity_floor, 1.0 / arms)
        gentle = np.where(free < 0.5 * least, 0.0, np.minimum(free, bounds.cap))
        kept = np.where(self.yields(), gentle, np.clip(free, bounds.floor, bounds.cap))
        return np.asarray(np.where(units.never, 0.0, kept))

    def yields(self) -> Bools:
        """For whom the floor gives way."""
        return np.asarray(self.dislikes & ~self.bounds.own_floor)

    def least(self) -> Floats:
        """The lowest rate that may come out."""
        return np.where(self.units.never | self.yields(), 0.0, self.bounds.floor)

    def weights(self) -> Floats:
        """How exploratory decisions are spread over the arms, (units, arms)."""
        others = np.where(np.arange(self.best.shape[-1]) == self.greedy[:, None], 0.0, self.best)
        total = others.sum(axis=-1, keepdims=True)
        return np.where(total > 0.0, others / np.where(total > 0.0, total, 1.0), 0.0)
