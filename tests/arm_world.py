"""Simulated users, arms and rewards of which the truth is known."""

from dataclasses import dataclass

import numpy as np
import polars as pl

ARMS = ("a", "b", "c", "d")
SEGMENTS = ("north", "south", "west")
_TRACE, _NOISE = 0.2, 0.15  # sd of a user's traces around their mean, and of what signals say of a trace


@dataclass(frozen=True)
class World:
    """`rows` as `posterior.ROWS`; `arms` (arms,), `segments` (segments, arms), `users` (users, arms): true means."""

    rows: pl.DataFrame
    arms: np.ndarray
    segments: np.ndarray
    users: np.ndarray
    ids: list[str]
    segment: np.ndarray


def simulate(
    rng,
    *,
    people=200,
    traces=6.0,
    user_common=0.1,
    user_specific=0.06,
    segment_common=0.05,
    segment_specific=0.03,
    steering=0.0,
    logged=True,
    unused=(),
):
    """Draw a world. `steering` > 0 sends the users who are easier to please to the later arms, in logged draws."""
    width = len(ARMS)
    arms = np.array([0.6, 0.65, 0.7, 0.62])
    common = rng.normal(0, segment_common, len(SEGMENTS))
    specific = rng.normal(0, segment_specific, (len(SEGMENTS), width))
    shift = common[:, None] + specific
    segments = arms + shift - shift.mean(axis=0)
    segment = rng.integers(0, len(SEGMENTS), people)
    taste = rng.normal(0, user_common, people)
    users = segments[segment] + taste[:, None] + rng.normal(0, user_specific, (people, width))
    who = np.repeat(np.arange(people), 1 + rng.poisson(traces - 1, people))
    lean = np.arange(width) * steering * np.sign(taste)[:, None]
    odds = np.exp(lean - lean.max(axis=1, keepdims=True))
    odds[:, [ARMS.index(arm) for arm in unused]] = 0.0
    odds = 0.9 * odds / odds.sum(axis=1, keepdims=True) + 0.1 * (odds > 0) / (odds > 0).sum(axis=1, keepdims=True)
    drawn = (rng.random(who.size)[:, None] > np.cumsum(odds[who], axis=1)).sum(axis=1).clip(max=width - 1)
    share = _TRACE**2 / (_TRACE**2 + _NOISE**2)
    # The reward is a posterior mean: it varies less than the truth, by as much as its own sd says.
    mean = users[who, drawn] + rng.normal(0, np.sqrt(share) * _TRACE, who.size)
    ids = [f"u{number:06d}" for number in range(people)]
    rows = pl.DataFrame(
        {
            "arm": np.array(ARMS)[drawn],
            "user_id": np.array(ids)[who],
            "segment": np.array(SEGMENTS)[segment][who],
            "mean": mean,
            "sd": np.full(who.size, np.sqrt(1 - share) * _TRACE),
            "weight": np.ones(who.size),
            "propensity": odds[who, drawn] if logged else np.full(who.size, np.nan),
        }
    ).with_columns(pl.col("propensity").fill_nan(None))
    return World(rows, arms, segments, users, ids, segment)
