"""Visits: who comes when to which agent, how many requests they make, and which arm serves them.

An arm is drawn once per session from a logged policy: the segment's greedy arm, except that a share of decisions is
drawn uniformly from all arms. People who opted out always get the greedy arm.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulate.agents import AGENTS
from pipelines.simulate.arms import Arms
from pipelines.simulate.arrays import Bools, Floats, Ints, hex_ids, pick, stream
from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.population import Population

__all__ = ["DAY_MS", "TURN_SHARES", "Sessions", "draw_sessions"]

DAY_MS = 86_400_000
TURN_SHARES = (0.50, 0.27, 0.15, 0.08)  # share of sessions with 1, 2, 3, 4 requests
_WEEKDAY = (1.0, 1.0, 1.05, 1.05, 1.1, 0.8, 0.7)  # from Monday
_HOUR = np.array([0] * 6 + [2, 5, 8, 9, 8, 7, 8, 7, 6, 6, 7, 9, 10, 9, 7, 4] + [0] * 2, dtype=np.float64)  # UTC


@dataclass(frozen=True)
class Sessions:
    """One entry per session, in order of time. Columns of sessions that were not randomised hold -1 and 1."""

    session_id: list[str]
    decision_id: list[str]
    user: Ints
    agent: Ints
    size: Ints  # requests
    start_ms: Ints  # since the start of the period
    greedy: Ints  # arm; -1: the agent's arms are not randomised
    arm: Ints
    propensity: Floats
    propensities: Floats  # (sessions, arms): zero for arms of other agents
    randomised: Bools  # drawn with more than one possible arm


def draw_sessions(config: SimulationConfig, people: Population, arms: Arms) -> Sessions:
    """Draw sessions whose sizes sum to exactly `config.traces`; every person visits where sessions suffice."""
    rng = stream(config.seed, "sessions")
    sizes = rng.choice(len(TURN_SHARES), size=config.traces, p=TURN_SHARES) + 1
    total = np.cumsum(sizes)
    count = int(np.searchsorted(total, config.traces)) + 1
    sizes = sizes[:count].astype(np.int64)
    sizes[-1] -= total[count - 1] - config.traces

    user = rng.choice(config.users, size=count, p=people.activity / people.activity.sum()).astype(np.int64)
    if count >= config.users:
        user[rng.choice(count, size=config.users, replace=False)] = np.arange(config.users)
    weekday = (np.arange(config.days) + config.start.weekday()) % 7
    by_day = np.array(_WEEKDAY)[weekday]
    day = rng.choice(config.days, size=count, p=by_day / by_day.sum())
    hour = rng.choice(24, size=count, p=_HOUR / _HOUR.sum())
    start_ms = np.sort(day * DAY_MS + hour * 3_600_000 + rng.integers(3_600_000, size=count)).astype(np.int64)

    agent = rng.choice(len(AGENTS), size=count, p=[a.share for a in AGENTS]).astype(np.int64)
    greedy = _greedy(agent, people.segment[user], arms)
    propensities = _propensities(agent, greedy, people.opted_out[user], config.exploration_rate, arms)
    arm = np.where(greedy >= 0, pick(rng.random(count) * propensities.sum(axis=1), propensities), -1)
    propensity = np.where(greedy >= 0, propensities[np.arange(count), np.maximum(arm, 0)], 1.0)
    ids = stream(config.seed, "ids")
    return Sessions(
        session_id=[f"sess_{text}" for text in hex_ids(ids, count, 16)],
        decision_id=[f"dec_{text}" for text in hex_ids(ids, count, 24)],
        user=user,
        agent=agent,
        size=sizes,
        start_ms=start_ms,
        greedy=greedy,
        arm=arm,
        propensity=propensity,
        propensities=propensities,
        randomised=(greedy >= 0) & (propensity < 1.0),
    )


def _greedy(agent: Ints, segment: Ints, arms: Arms) -> Ints:
    greedy = np.full(len(agent), -1, dtype=np.int64)
    for index, definition in enumerate(AGENTS):
        if definition.greedy is not None:
            choice = np.array(definition.greedy)
            per_segment = arms.index(index, choice[:, 0], choice[:, 1])
            greedy[agent == index] = per_segment[segment[agent == index]]
    return greedy


def _propensities(agent: Ints, greedy: Ints, opted_out: Bools, rate: float, arms: Arms) -> Floats:
    own = arms.agent[None, :] == agent[:, None]
    epsilon = np.where(opted_out, 0.0, rate)[:, None]
    uniform = own / own.sum(axis=1, keepdims=True)
    is_greedy = np.arange(len(arms.name))[None, :] == greedy[:, None]
    return np.where((greedy >= 0)[:, None], (1.0 - epsilon) * is_greedy + epsilon * uniform, 0.0)
