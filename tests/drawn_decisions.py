"""Decisions drawn with known propensities from a world whose arms have known rewards, for tests."""

import numpy as np
import polars as pl

from pipelines.off_policy.logged import DECISIONS

ARMS = ("a", "b", "c")
SEGMENTS = ("new", "old")
# Mean reward of each arm (columns) in each segment (rows); a task adds nothing.
WORTH = np.array([[0.5, 0.6, 0.3], [0.5, 0.4, 0.7]])


def drawn(count: int, *, seed: int = 0, rate: float = 0.3, users: int | None = None, certain: bool = False):
    """Decisions (columns DECISIONS); greedy is arm a, each other arm has half the rate. With `users` they come again.

    `certain`: the reward is the arm's worth itself.
    """
    random = np.random.default_rng(seed)
    p = np.array([1.0 - rate, rate / 2, rate / 2])
    arm = random.choice(3, count, p=p)
    user = np.arange(count) if users is None else random.integers(0, users, count)
    segment = user % 2
    worth = WORTH[segment, arm]
    reward = worth if certain else (random.random(count) < worth).astype(float)
    return pl.DataFrame(
        {
            "user_id": [f"u{one}" for one in user],
            "segment": [SEGMENTS[one] for one in segment],
            "task": [f"t{one}" for one in random.integers(0, 4, count)],
            "arm": [ARMS[one] for one in arm],
            "greedy_arm": "a",
            "propensity": p[arm],
            "arms": [list(ARMS)] * count,
            "propensities": [p.tolist()] * count,
            "reward": reward,
            "cluster": pl.Series(user, dtype=pl.UInt64),
        },
        schema=DECISIONS,
    )
