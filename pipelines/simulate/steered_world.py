"""The people and arms of a simulated deployment that is steered, and what can be known of them from rewards.

The posterior is exact: a Gaussian hierarchy of agent, segment and person with known variances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Posterior", "SteeredConfig", "World", "draw_world", "posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SteeredConfig:
    """The world. Rewards are in points (0 to 1 is the range of a reward), sds between arms, segments and persons."""

    users: int = 120
    segments: int = 10
    releases: tuple[int, ...] = (0, 0)  # day on which each arm is enabled; the first one is the baseline
    history: int = 30  # decisions of each person by the baseline before day 0
    baseline: float = 0.12  # what the baseline has over what a new arm is expected to be worth, which is .5
    days: int = 50
    decisions_per_day: float = 5.0  # of a person, Poisson
    arm_sd: float = 0.06
    segment_sd: float = 0.15
    person_sd: float = 0.08
    noise_sd: float = 0.2
    tolerance_sd: float = 0.03
    dislike_share: float = 0.15
    dislike: float = -0.3  # as strong as in the simulated deployment: 1.4 logits
    opt_out_share: float = 0.05
    drift_share: float = 0.1
    found_after_days: int = 3  # a change is found this late
    delay_days: float = 2.0  # mean delay of a reward
    refresh_days: int = 4  # between two recommendations

    @property
    def arms(self) -> int:
        """How many there are in the end."""
        return len(self.releases)


@dataclass(frozen=True)
class World:
    """What is true: one row a person, and the decisions that they will make, in order of day."""

    segment: Ints  # (users,)
    before: Floats  # (users, arms)
    after: Floats  # from `drift_day` on
    drift_day: Floats  # infinity: never
    history: Floats  # (users,) sum of rewards of the baseline before day 0
    tolerance: Floats
    dislikes: Bools
    opted_out: Bools
    user: Ints  # (decisions,)
    day: Ints
    noise: Floats
    arrives: Ints  # day at whose beginning the reward is known
    luck: Floats  # uniform, draws the arm

    def worth(self, user: Ints, day: int) -> Floats:
        """Mean reward of each arm for these people on a day, (n, arms)."""
        return np.where((day >= self.drift_day[user])[:, None], self.after[user], self.before[user])


@dataclass(frozen=True)
class Posterior:
    """Gaussian posteriors of every arm's mean: of persons (users, arms), of segments (segments, arms), of the agent."""

    mean: Floats
    sd: Floats
    segment_mean: Floats
    segment_sd: Floats
    agent_mean: Floats
    agent_sd: Floats

    def of(self, arms: int) -> "Posterior":
        """Of the first arms only."""
        levels = (self.mean, self.sd, self.segment_mean, self.segment_sd, self.agent_mean, self.agent_sd)
        return Posterior(*(values[..., :arms] for values in levels))


def draw_world(config: SteeredConfig, seed: int) -> World:
    """Draw a world."""
    rng = np.random.default_rng([20261121, seed])
    n, arms = config.users, config.arms
    segment = rng.integers(0, config.segments, n)
    base = 0.5 + rng.normal(0.0, config.arm_sd, arms)
    base[0] = 0.5 + config.baseline
    base = base + rng.normal(0.0, config.segment_sd, (config.segments, arms))
    before = base[segment] + rng.normal(0.0, config.person_sd, (n, arms))
    after = base[segment] + rng.normal(0.0, config.person_sd, (n, arms))
    drifts = rng.random(n) < config.drift_share
    dislikes = rng.random(n) < config.dislike_share
    visits = rng.poisson(config.decisions_per_day, (config.days, n))
    day, user = np.repeat(np.indices((config.days, n)).reshape(2, -1), visits.reshape(-1), axis=1)
    order = np.lexsort((rng.random(day.size), day))
    day, user = day[order], user[order]
    return World(
        segment=segment,
        before=before,
        after=after,
        history=config.history * before[:, 0] + rng.normal(0.0, config.noise_sd * config.history**0.5, n),
        drift_day=np.where(drifts, rng.integers(5, max(6, config.days - 5), n), np.inf),
        tolerance=np.where(dislikes, config.dislike, rng.normal(0.0, config.tolerance_sd, n)),
        dislikes=dislikes,
        opted_out=rng.random(n) < config.opt_out_share,
        user=user,
        day=day,
        noise=rng.normal(0.0, config.noise_sd, day.size),
        arrives=day + 1 + rng.geometric(1.0 / (1.0 + config.delay_days), day.size) - 1,
        luck=rng.random(day.size),
    )


def posterior(segment: Ints, config: SteeredConfig, n: Floats, total: Floats) -> Posterior:
    """What is known of every arm given `n` rewards of each person by each arm and their sum, both (users, arms).

    Exact for the Gaussian hierarchy: each level given the one above it is a precision-weighted mean, and the variance
    of what is above is added by the law of total variance.
    """
    person, between, noise = config.person_sd**2, config.segment_sd**2, config.noise_sd**2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(n > 0, total / n, 0.0)
        precision = np.where(n > 0, 1.0 / (person + noise / n), 0.0)
    belongs = (np.arange(config.segments)[:, None] == segment).astype(np.float64)
    weight, weighted = belongs @ precision, belongs @ (precision * mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_segment = np.where(weight > 0, weighted / weight, 0.0)
        lean = np.where(weight > 0, 1.0 / (between + 1.0 / weight), 0.0)
    top_variance = 1.0 / (1.0 / config.arm_sd**2 + lean.sum(axis=0))
    top = top_variance * (0.5 / config.arm_sd**2 + (lean * of_segment).sum(axis=0))
    share = between * lean
    segment_mean = share * of_segment + (1.0 - share) * top
    segment_variance = (1.0 - share) * between + (1.0 - share) ** 2 * top_variance
    own = person * precision
    means = own * mean + (1.0 - own) * segment_mean[segment]
    sds = np.sqrt((1.0 - own) * person + (1.0 - own) ** 2 * segment_variance[segment])
    return Posterior(means, sds, segment_mean, np.sqrt(segment_variance), top, np.sqrt(top_variance))
