"""Policies for the tests of steering."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipelines.steering.policy import Arm, Limits, Policy, Users

BUILT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def arm(name: str, *, state: Any = "enabled", baseline: bool = False, **definition: Any) -> Arm:
    return Arm(name, "prompt", state, baseline, definition or {"prompt_version": name})


def users_of(people: dict[str, dict[str, Any]], segments: Sequence[str], arms: int) -> Users:
    """People by id, each with any of segment, mean, sd, rate and opted_out."""
    rows = list(people.values())
    nothing = [np.nan] * arms
    return Users(
        index={name: place for place, name in enumerate(people)},
        segment=np.array(
            [list(segments).index(row["segment"]) if row.get("segment") else -1 for row in rows], dtype=np.int32
        ),
        mean=np.array([row.get("mean", nothing) for row in rows], dtype=np.float32).reshape(len(rows), arms),
        sd=np.array([row.get("sd", nothing) for row in rows], dtype=np.float32).reshape(len(rows), arms),
        rate=np.array([row.get("rate", np.nan) for row in rows], dtype=np.float32),
        opted_out=np.array([row.get("opted_out", False) for row in rows], dtype=np.bool_),
    )


def policy_of(
    arms: Sequence[Arm] = (arm("baseline", baseline=True), arm("short answers"), arm("with tools")),
    mean: Sequence[float] = (0.60, 0.58, 0.55),
    sd: Sequence[float] = (0.03, 0.04, 0.05),
    *,
    agent: str = "support-bot",
    version: int = 1,
    segments: dict[str, dict[str, Any]] | None = None,
    people: dict[str, dict[str, Any]] | None = None,
    **changed: Any,
) -> Policy:
    """A policy of three arms; `segments` by name, each with any of mean, sd and rate."""
    held = segments or {}
    nothing = [np.nan] * len(arms)
    policy = Policy(
        agent=agent, version=version, built_at=BUILT, reward_model_id=1, salt="salt", arms=tuple(arms),
        mean=np.array(mean, dtype=np.float64), sd=np.array(sd, dtype=np.float64),
        n=np.full(len(arms), 100, dtype=np.int64), rate=0.2, propensity_floor=0.01, segments=tuple(held),
        segment_mean=np.array([row.get("mean", nothing) for row in held.values()]).reshape(len(held), len(arms)),
        segment_sd=np.array([row.get("sd", nothing) for row in held.values()]).reshape(len(held), len(arms)),
        segment_rate=np.array([row.get("rate", np.nan) for row in held.values()], dtype=np.float64),
        users=users_of(people or {}, tuple(held), len(arms)), never_segments=frozenset(), never_tasks=frozenset(),
        daily_regret_budget=None, solicit_rate=0.02, limits=Limits(off_limits_tools=("shell",), max_spend_usd=0.5),
        instructions="# Playbook\n\n- Ask for the order number.", lesson_ids=("l-1",),
    )  # fmt: skip
    return replace(policy, **changed)
