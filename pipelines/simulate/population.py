"""The people: segments, what each person values, says they value, how lenient they are, and when they change.

Preferences are weights over readable features of an answer, in logits: person = segment + own deviation. What a person
states may contradict how they act: the stated weights decide what they report (thumbs, ratings), the revealed weights
what they do (clicks, choices, purchases); for most people the two are the same.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulate.arrays import Bools, Floats, Ints, stream
from pipelines.simulate.config import SimulationConfig

__all__ = [
    "DEVIATION_SD",
    "FEATURES",
    "LENIENCY_SD",
    "NO_DRIFT",
    "PREFERENCE",
    "SATISFACTION",
    "SATISFACTION_SHIFT",
    "SEGMENTS",
    "Population",
    "Segment",
    "draw_population",
]

FEATURES = ("brevity", "explanation", "price", "novelty", "health")  # each from -1 to 1; price 1 is cheap


@dataclass(frozen=True)
class Segment:
    """A group of people: its share, mean weights in the order of FEATURES, and mean response to exploration."""

    name: str
    share: float
    weights: tuple[float, float, float, float, float]
    tolerance: float


SEGMENTS = (
    Segment("bargain_hunters", 0.30, (0.3, -0.2, 1.5, -0.1, 0.0), -0.05),
    Segment("health_minded", 0.25, (-0.2, 0.6, -0.2, 0.1, 1.5), -0.10),
    Segment("explorers", 0.20, (-0.3, 0.4, 0.0, 1.5, 0.2), 0.30),
    Segment("busy_professionals", 0.25, (1.5, -0.5, 0.2, 0.0, 0.3), -0.15),
)
DEVIATION_SD = 0.35  # of a person's weights around the segment's
LENIENCY_SD = 0.3  # of a person's shift, in logits, when they report how satisfied they are
DISLIKE = -1.4  # shift of quality, in logits, when a decision explores with someone who dislikes it
SATISFACTION_SHIFT = -2.2  # logits, from the day a person of that kind drifts
NO_DRIFT, SATISFACTION, PREFERENCE = 0, 1, 2

_PLANS = ("free", "plus", "family")
_REGIONS = ("DE", "FR", "GB", "IE", "NL", "PT")
_FIRST_NAMES = [
    "Ada",
    "Ben",
    "Carla",
    "Dev",
    "Elif",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Keiko",
    "Lena",
    "Marco",
    "Nadia",
    "Omar",
    "Petra",
    "Quinn",
    "Rosa",
    "Sam",
    "Tara",
    "Uwe",
    "Vera",
]


@dataclass(frozen=True)
class Population:
    """One entry per person in every array; weights are (users, features)."""

    user_id: list[str]
    first_name: list[str]
    plan: list[str]
    region: list[str]
    segment: Ints
    activity: Floats  # relative rate of visits
    leniency: Floats  # logits
    tolerance: Floats  # logits added to quality when a decision explores
    dislikes_exploration: Bools
    opted_out: Bools
    contradicts: Bools
    revealed: Floats
    stated: Floats
    drift: Ints  # NO_DRIFT, SATISFACTION or PREFERENCE
    drift_day: Floats  # days since the start of the period; infinity for those who do not drift
    revealed_after: Floats
    stated_after: Floats

    def weights(self, user: Ints, day: Floats, *, stated: bool) -> Floats:
        """Weights in force for each (user, day): rows of stated or revealed weights, (n, features)."""
        before, after = (self.stated, self.stated_after) if stated else (self.revealed, self.revealed_after)
        return np.asarray(np.where((day >= self.drift_day[user])[:, None], after[user], before[user]))

    def shift(self, user: Ints, day: Floats) -> Floats:
        """Change of satisfaction, in logits, in force for each (user, day)."""
        shifted = (self.drift[user] == SATISFACTION) & (day >= self.drift_day[user])
        return np.where(shifted, SATISFACTION_SHIFT, 0.0)


def draw_population(config: SimulationConfig) -> Population:
    """Draw the people. Those who contradict themselves or drift are among the more active, where it can be seen."""
    rng = stream(config.seed, "population")
    n = config.users
    shares = np.array([segment.share for segment in SEGMENTS])
    segment = rng.choice(len(SEGMENTS), size=n, p=shares).astype(np.int64)
    activity = rng.lognormal(0.0, 1.0, n)
    tolerance = np.array([s.tolerance for s in SEGMENTS])[segment] + rng.normal(0.0, 0.15, n)
    dislikes = rng.random(n) < config.dislike_share
    tolerance = np.where(dislikes, DISLIKE + rng.normal(0.0, 0.15, n), tolerance)

    revealed = np.array([s.weights for s in SEGMENTS])[segment] + rng.normal(0.0, DEVIATION_SD, (n, len(FEATURES)))
    by_activity = np.argsort(-activity, kind="stable")
    drifting = rng.permutation(by_activity[: n // 4])[: round(n * config.drift_share)]
    others = np.setdiff1d(by_activity[: n // 2], drifting)
    contradicting = rng.permutation(others)[: round(n * config.contradiction_share)]
    contradicts = np.zeros(n, bool)
    contradicts[contradicting] = True
    health = FEATURES.index("health")
    revealed[contradicting, health] = rng.normal(-0.9, 0.1, len(contradicting))
    stated = revealed.copy()
    stated[contradicting, health] = rng.normal(1.4, 0.1, len(contradicting))

    drift = np.full(n, NO_DRIFT)
    drift[drifting] = np.where(np.arange(len(drifting)) % 2 == 0, SATISFACTION, PREFERENCE)
    drift_day = np.full(n, np.inf)
    drift_day[drifting] = np.floor(rng.uniform(0.35, 0.6, len(drifting)) * config.days)
    revealed_after = _after_drift(revealed, drift)
    return Population(
        user_id=[f"user-{number:06x}" for number in rng.choice(16**6, size=n, replace=False)],
        first_name=[_FIRST_NAMES[i] for i in rng.integers(len(_FIRST_NAMES), size=n)],
        plan=[_PLANS[i] for i in rng.choice(3, size=n, p=[0.6, 0.3, 0.1])],
        region=[_REGIONS[i] for i in rng.integers(len(_REGIONS), size=n)],
        segment=segment,
        activity=activity,
        leniency=rng.normal(0.0, LENIENCY_SD, n),
        tolerance=tolerance,
        dislikes_exploration=dislikes,
        opted_out=rng.random(n) < config.opt_out_share,
        contradicts=contradicts,
        revealed=revealed,
        stated=stated,
        drift=drift.astype(np.int64),
        drift_day=drift_day,
        revealed_after=revealed_after,
        stated_after=stated + (revealed_after - revealed),
    )


def _after_drift(weights: Floats, drift: Ints) -> Floats:
    """Someone whose preferences drift comes to want the opposite of what they wanted most, and twice the price."""
    after = weights.copy()
    changed = np.flatnonzero(drift == PREFERENCE)
    strongest = np.argmax(np.abs(weights[changed]), axis=1)
    after[changed, strongest] *= -1.0
    after[changed, FEATURES.index("price")] += 0.8
    return after
