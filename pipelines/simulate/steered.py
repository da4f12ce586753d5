"""A simulated deployment that is steered: does learning the exploration rate beat fixing it?

People of several segments make decisions day by day. What an arm is worth to a person is the sum of the arm's mean, the
segment's and the person's deviation from it; some people change on a day. A decision that explores shifts the reward of
the person by their tolerance: some dislike it, some opted out. Rewards are noisy and arrive days later. Everything is
drawn from one seed, and every policy meets the same world.

Steered decisions use the functions that the server uses: posterior means and sds go to `exploration.recommend.rates`,
with tolerance measured by `exploration.tolerance.measure`, then to `steering.propensities`, under `steering.budget`.
Fixed rates leave the greedy arm of the same posterior with a constant probability, for any other arm alike.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration.bounds import UnitBounds
from pipelines.exploration.drift_boost import boost
from pipelines.exploration.recommend import RateConfig, Units, rates
from pipelines.exploration.shared_value import Levels, for_users
from pipelines.exploration.tolerance import DECISIONS, measure
from pipelines.simulate.steered_world import Posterior, SteeredConfig, World, draw_world, posterior
from pipelines.stats.quadrature import probability_best
from pipelines.steering import propensities
from pipelines.steering.budget import Budgets

__all__ = ["FixedRate", "Outcome", "Steered", "SteeredConfig", "World", "draw_world", "posterior", "run"]

HORIZON_DAYS = 30.0  # for which a look is worth something
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Steered:
    """Rates as recommended every day; `budget` in reward points a day (None: no limit)."""

    dial: float = 0.5
    floor: float = 0.01
    cap: float = 0.2
    budget: float | None = None
    propensity_floor: float = propensities.PROPENSITY_FLOOR


@dataclass(frozen=True)
class FixedRate:
    """Leave the greedy arm with this probability, for any other arm alike."""

    rate: float


@dataclass(frozen=True)
class Outcome:
    """What a run cost. Regret against the best arm of each person, cost against the greedy arm, by day (days,)."""

    regret: Floats
    cost: Floats  # what the propensities truly cost on average, displeasure included
    spent: Floats  # worst-case regret as the budget counts it
    explored: Ints  # (users, days) decisions that left the greedy arm
    decided: Ints  # (users, days)
    rate: Floats  # (users, days) probability of leaving the greedy arm that was in force


def run(world: World, config: SteeredConfig, policy: Steered | FixedRate) -> Outcome:
    """Let a policy decide for everyone, day by day. Tolerance and rates are brought up to date every few days."""
    log = _Log.empty(world)
    shape = (config.users, config.days)
    explored, decided, used = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape)
    regret, cost, spent = (np.zeros(config.days) for _ in range(3))
    allowed = np.zeros(config.users)
    tolerance = _Tolerance(np.zeros(config.users), np.ones(config.users))
    starts = np.searchsorted(world.day, np.arange(config.days + 1))
    sums = _Sums(world, config)
    for day in range(config.days):
        today = np.arange(starts[day], starts[day + 1])
        sums.add(world, log, day)
        user = world.user[today]
        if day % config.refresh_days == 0:
            tolerance = _tolerance(world, log, config, day)
        arms = sum(release <= day for release in config.releases)
        known = posterior(world.segment, config, sums.n, sums.freed(tolerance.mean)).of(arms)
        means, sds = known.mean, known.sd
        if day % config.refresh_days == 0 and isinstance(policy, Steered):
            allowed = _recommended(world, config, policy, day, known, tolerance)
        greedy = propensities.greedy_arms(means)
        if isinstance(policy, FixedRate):
            rate = np.where(world.opted_out, 0.0, policy.rate)
            others = np.full((config.users, arms), 1.0 / (arms - 1))
            vector = np.where(np.arange(arms) == greedy[:, None], 1.0 - rate[:, None], rate[:, None] * others)
            drawn = vector[user]
            used[:, day] = rate
        else:
            drawn, spent[day] = _steer(means, sds, greedy, allowed, user, policy)
            doubt = 1.0 - np.take_along_axis(probability_best(means, sds), greedy[:, None], axis=-1)[:, 0]
            used[:, day] = propensities.effective_rate(allowed, doubt, arms, propensity_floor=policy.propensity_floor)
        arm = np.minimum((drawn.cumsum(axis=1) < world.luck[today, None]).sum(axis=1), arms - 1)
        explore = arm != greedy[user]
        worth = world.worth(user, day)[:, :arms]
        got = np.take_along_axis(worth, arm[:, None], axis=1)[:, 0] + explore * world.tolerance[user]
        regret[day] = float((worth.max(axis=1) - got).sum())
        top = np.take_along_axis(worth, greedy[user][:, None], axis=1)
        shifted = worth + np.where(np.arange(arms) == greedy[user][:, None], 0.0, world.tolerance[user][:, None])
        cost[day] = float((drawn * (top - shifted)).sum())
        decided[:, day] = np.bincount(user, minlength=config.users)
        explored[:, day] = np.bincount(user[explore], minlength=config.users)
        log.arm[today], log.explore[today], log.reward[today] = arm, explore, got + world.noise[today]
    return Outcome(regret, cost, spent, explored, decided, used)


@dataclass(frozen=True)
class _Log:
    """What was decided and what came of it, one entry per decision of the world, filled day by day."""

    arm: Ints
    explore: Bools
    reward: Floats

    @classmethod
    def empty(cls, world: World) -> "_Log":
        n = world.day.size
        return cls(np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n))


class _Sums:
    """Rewards that have arrived, summed by person and arm, (users, arms)."""

    def __init__(self, world: World, config: SteeredConfig) -> None:
        """Begin with the baseline's history."""
        self.shape = (config.users, config.arms)
        self.n, self.total, self.explored = np.zeros(self.shape), np.zeros(self.shape), np.zeros(self.shape)
        self.n[:, 0], self.total[:, 0] = config.history, world.history
        self.order = np.argsort(world.arrives, kind="stable")
        self.starts = np.searchsorted(world.arrives[self.order], np.arange(config.days + 2))

    def add(self, world: World, log: _Log, day: int) -> None:
        """Count what arrives on a day."""
        here = self.order[self.starts[day] : self.starts[day + 1]]
        code, size = world.user[here] * self.shape[1] + log.arm[here], self.shape[0] * self.shape[1]
        for sums, weights in (
            (self.n, np.ones(here.size)),
            (self.total, log.reward[here]),
            (self.explored, log.explore[here].astype(np.float64)),
        ):
            sums += np.bincount(code, weights=weights, minlength=size).astype(np.float64).reshape(self.shape)

    def freed(self, tolerance: Floats) -> Floats:
        """Sums of rewards without what exploring by itself did to them: that is no property of the arm."""
        return np.asarray(self.total - self.explored * tolerance[:, None])


@dataclass(frozen=True)
class _Tolerance:
    mean: Floats  # (users,)
    sd: Floats


def _tolerance(world: World, log: _Log, config: SteeredConfig, day: int) -> _Tolerance:
    """What is measured of everyone's tolerance by the day."""
    n = config.users
    here = np.flatnonzero((world.arrives <= day) & (world.day < day))
    names = pl.Series([f"{user:06d}" for user in range(n)])
    frame = pl.DataFrame(
        {
            "agent": pl.repeat("simulated", here.size, eager=True),
            "user_id": names.gather(world.user[here]),
            "segment": pl.Series(world.segment[world.user[here]]).cast(pl.String),
            "arm": pl.Series(log.arm[here]).cast(pl.String),
            "explore": log.explore[here],
            "reward": np.clip(log.reward[here], 0.0, 1.0),
            "reward_sd": np.zeros(here.size),
            "age_days": (day - world.day[here]).astype(np.float64),
        },
        schema=DECISIONS,
    )
    measured, populations = measure(frame)
    known = populations.get("simulated")
    mean = np.full(n, 0.0 if known is None else known.mean)
    sd = np.full(n, 1.0 if known is None else np.hypot(known.mean_sd, known.between_sd))
    place = measured["user_id"].cast(pl.Int64).to_numpy()
    mean[place], sd[place] = measured["tolerance"].to_numpy(), measured["tolerance_sd"].to_numpy()
    return _Tolerance(mean, sd)


def _recommended(
    world: World, config: SteeredConfig, policy: Steered, day: int, known: Posterior, tolerance: _Tolerance
) -> Floats:
    """The rate of every person as the job recommends it on what is known by the day."""
    n = config.users
    ahead = np.full(n, config.decisions_per_day * HORIZON_DAYS)
    levels = Levels(
        world.segment, known.segment_mean, known.segment_sd, known.agent_mean, known.agent_sd,
        config.noise_sd, config.person_sd, ahead,
    )  # fmt: skip
    since = np.where(world.drift_day + config.found_after_days <= day, day - world.drift_day, np.nan)
    units = Units(
        mean=known.mean,
        sd=known.sd,
        noise_sd=config.noise_sd,
        ahead=ahead,
        shared=for_users(levels),
        tolerance=tolerance.mean,
        tolerance_sd=tolerance.sd,
        drift=boost(since),
        progress=np.zeros(n),
        never=world.opted_out,
        people=True,
    )
    bounds = UnitBounds(
        np.full(n, policy.floor), np.full(n, policy.cap), np.full(n, policy.dial), np.zeros(n, np.bool_)
    )
    return rates(units, bounds, RateConfig(propensity_floor=policy.propensity_floor)).rate


_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_BATCHES = 8  # in which a day's decisions come; the budget's scale is asked before each


def _steer(
    means: Floats, sds: Floats, greedy: Ints, allowed: Floats, user: Ints, policy: Steered
) -> tuple[Floats, float]:
    """Propensities of the day's decisions, in order, (decisions, arms), and the worst-case regret they spent."""
    budget, least = policy.budget, policy.propensity_floor
    best = probability_best(means, sds)
    doubt = 1.0 - np.take_along_axis(best, greedy[:, None], axis=-1)[:, 0]
    arms = means.shape[1]
    budgets = Budgets(_DAY)
    drawn = np.zeros((user.size, arms))
    spent = 0.0
    for part in np.array_split(np.arange(user.size), 1 if budget is None else _BATCHES):
        who = user[part]
        rate = propensities.effective_rate(
            allowed[who] * budgets.scale("a", budget), doubt[who], arms, propensity_floor=least
        )
        vector = propensities.vector(best[who], greedy[who], rate, propensity_floor=least)
        _, worst = propensities.regret(means[who], sds[who], vector, greedy[who])
        covered = np.fromiter((budgets.spend("a", budget, float(cost)) for cost in worst), np.bool_, part.size)
        sure = np.arange(arms) == greedy[who][:, None]
        drawn[part] = np.where(covered[:, None], vector, sure)
        spent += float(worst[covered].sum())
    return drawn, spent
