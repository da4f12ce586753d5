"""What rates would do if they were applied: who is explored, how often, and what that may cost a day.

Every person's posterior and rate go through the propensities by which decisions are drawn. Where there are many people
an even share of them is taken, and said so.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.quadrature import probability_best
from pipelines.steering.propensities import effective_rate, greedy_arms, regret, vector
from store.policy import Policy

__all__ = ["Exposure", "Preview", "posteriors", "preview"]

Floats = NDArray[np.float64]
# People times arms squared, which is what the probabilities of being the best cost: about two seconds.
_MOST_WORK = 1_200_000


@dataclass(frozen=True)
class Exposure:
    """Of all decisions of a day: people with a rate above 0, decisions that leave the greedy arm, and their cost.

    Regrets are reward points a day against the greedy arm: `expected`, and `worst` at the ends of 95 % intervals.
    """

    people: int
    explored: float
    expected: float
    worst: float


@dataclass(frozen=True)
class Preview:
    """`proposed` beside what is in force `now`; of `people`, `sampled` were computed; `arms` are those enabled."""

    people: int
    sampled: int
    arms: int
    never: int
    per_day: float
    proposed: Exposure
    now: Exposure


def preview(held: Policy, rate: float, units: pl.DataFrame, per_day: float) -> Preview:
    """What an agent's `rate` with the rates of `units` (scope, unit, rate, decisions) would do.

    Args: `held` the policy in force; `per_day` decisions of the agent a day. A person counts for as many decisions as
    `units` says they took, plus one.
    """
    enabled = np.array([place for place, arm in enumerate(held.arms) if arm.state == "enabled"], dtype=np.int64)
    users = held.users
    count = len(users.index)
    rows = np.arange(count)
    proposed, weight = _proposed(held, rate, units)
    in_force = _in_force(held)
    never = users.opted_out.copy() if count else np.zeros(1, dtype=np.bool_)
    if count:
        banned = np.array([name in held.never_segments for name in held.segments] + [False], dtype=np.bool_)
        never |= banned[users.segment]
        mean, sd = posteriors(held, rows)
    else:
        mean, sd = held.mean[None, :], held.sd[None, :]
    proposed, in_force = np.where(never, 0.0, proposed), np.where(never, 0.0, in_force)
    total = max(count, 1)
    step = max(1, -(-total * max(enabled.size, 1) ** 2 // _MOST_WORK))
    picked = np.arange(0, total, step)
    share = weight[picked] / weight[picked].sum()
    if enabled.size < 2:
        sides = [Exposure(0, 0.0, 0.0, 0.0)] * 2
    else:
        m, sd = mean[picked][:, enabled], np.maximum(sd[picked][:, enabled], 1e-9)
        best, greedy = probability_best(m, sd), greedy_arms(m)
        doubt = 1.0 - np.take_along_axis(best, greedy[:, None], axis=-1)[:, 0]
        floor = held.propensity_floor
        sides = []
        for rates in (proposed, in_force):
            rate_drawn = effective_rate(rates[picked], doubt, enabled.size, propensity_floor=floor)
            drawn = vector(best, greedy, rate_drawn, propensity_floor=floor)
            expected, worst = regret(m, sd, drawn, greedy)
            sides.append(
                Exposure(
                    int((rates > 0.0).sum()) if count else 0,
                    float(per_day * (share @ rate_drawn)),
                    float(per_day * (share @ expected)),
                    float(per_day * (share @ worst)),
                )
            )
    return Preview(
        count, picked.size if count else 0, int(enabled.size), int(never.sum()) if count else 0, per_day, *sides
    )


def _proposed(held: Policy, rate: float, units: pl.DataFrame) -> tuple[Floats, Floats]:
    """The proposed rate of each person, and for how many decisions they count."""
    count = len(held.users.index)
    if not count:
        return np.array([rate]), np.ones(1)
    of_segments = dict(units.filter(scope="segment").select("unit", "rate").iter_rows())
    by_code = np.array([of_segments.get(name, rate) for name in held.segments] + [rate], dtype=np.float64)
    people = pl.DataFrame(
        {"unit": list(held.users.index), "row": list(held.users.index.values())},
        schema={"unit": pl.String, "row": pl.Int64},
    )
    own = people.join(units.filter(scope="user").select("unit", "rate", "decisions"), on="unit", how="left").sort("row")
    stated = own["rate"].to_numpy().astype(np.float64)
    weight = own["decisions"].fill_null(0).to_numpy().astype(np.float64) + 1.0
    return np.where(np.isnan(stated), by_code[held.users.segment], stated), weight


def _in_force(held: Policy) -> Floats:
    if not held.users.index:
        return np.array([held.rate])
    by_code = np.append(np.where(np.isnan(held.segment_rate), held.rate, held.segment_rate), held.rate)
    own = held.users.rate.astype(np.float64)
    return np.asarray(np.where(np.isnan(own), by_code[held.users.segment], own))


def posteriors(held: Policy, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Means and sds of people, (people, arms): their own, else their segment's, else the agent's."""
    result = []
    for own, of_segment, of_agent in (
        (held.users.mean, held.segment_mean, held.mean), (held.users.sd, held.segment_sd, held.sd),
    ):  # fmt: skip
        wide = np.vstack([np.where(np.isnan(of_segment), of_agent, of_segment), of_agent])
        own = own[rows].astype(np.float64)
        result.append(np.where(np.isnan(own), wide[held.users.segment[rows]], own))
    return result[0], result[1]
