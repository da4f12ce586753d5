"""A policy: everything a decision for one agent depends on, immutable, and the same for whoever replays it later."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from store.lesson_sets import LessonSet

__all__ = ["Arm", "ArmState", "Limits", "Policy", "Users"]

Floats = NDArray[np.float64]
ArmState = Literal["enabled", "shadow", "off"]


@dataclass(frozen=True)
class Arm:
    """One alternative. Only enabled arms are drawn; a shadow arm is measured without being served."""

    name: str
    kind: str
    state: ArmState
    baseline: bool
    definition: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What an agent must not do, returned with every decision; None and empty mean no limit."""

    off_limits_tools: tuple[str, ...] = ()
    off_limits_sites: tuple[str, ...] = ()
    off_limits_actions: tuple[str, ...] = ()
    min_delay_seconds: float | None = None
    max_actions_per_minute: float | None = None
    max_spend_usd: float | None = None


@dataclass(frozen=True)
class Users:
    """What is held of single users, one entry each in every array, in the order of `index`."""

    index: dict[str, int]  # user_id to position
    segment: NDArray[np.int32]  # position in `Policy.segments`, -1 for none
    mean: NDArray[np.float32]  # (users, arms); NaN row: the segment's
    sd: NDArray[np.float32]  # of the arms against each other: without what is unsure of the user on all arms alike
    rate: NDArray[np.float32]  # NaN: the segment's, else the agent's
    opted_out: NDArray[np.bool_]


@dataclass(frozen=True)
class Policy:
    """One version of one agent's policy.

    Posteriors are of the mean reward (0 to 1) of each arm, Gaussian. Arrays have the arms on their last axis, in the
    order of `arms`, which holds enabled and shadow arms. Rates are probabilities of leaving the greedy arm.
    """

    agent: str
    version: int
    built_at: datetime
    reward_model_id: int | None
    salt: str
    arms: tuple[Arm, ...]
    mean: Floats  # (arms,)
    sd: Floats
    n: NDArray[np.int64]  # traces behind each arm's posterior
    rate: float
    propensity_floor: float  # of every enabled arm where there is any exploration
    segments: tuple[str, ...]
    segment_mean: Floats  # (segments, arms); NaN row: the agent's
    segment_sd: Floats
    segment_rate: Floats  # (segments,); NaN: the agent's
    users: Users
    never_segments: frozenset[str]
    never_tasks: frozenset[str]
    daily_regret_budget: float | None  # reward points a UTC day
    solicit_rate: float
    limits: Limits
    arm_limits: dict[str, Limits] = field(default_factory=dict)  # where an arm has limits of its own, these in full
    instructions: str = ""  # the playbook in force as one block; served whole where there are no `lessons`
    lesson_ids: tuple[str, ...] = ()  # of the block
    ttl_seconds: float = 60.0
    lessons: LessonSet | None = None  # what each request's lessons are chosen from
    basis: tuple[str, ...] = ()  # of each arm's mean: randomised, observational or prior
    solicit_segments: dict[str, float] = field(default_factory=dict)  # asked for feedback more often, for a time
    solicit_users: dict[str, float] = field(default_factory=dict)

    def solicit_rate_of(self, user_id: str | None, segment: str | None) -> float:
        """With which probability feedback is asked for: the highest that holds for this user."""
        rates = [self.solicit_rate]
        if segment is not None and segment in self.solicit_segments:
            rates.append(self.solicit_segments[segment])
        if user_id is not None and user_id in self.solicit_users:
            rates.append(self.solicit_users[user_id])
        return max(rates)
