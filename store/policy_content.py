"""A policy without its users as JSON: equal texts for equal policies, and every number back as it was.

Of its lessons only the version of the playbook is written: that says which they are, and never changes.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.policy import Limits, Policy

__all__ = ["decode", "encode", "limits", "numbers", "table"]


def encode(policy: Policy, columns: list[str]) -> str:
    """All but the users as JSON: equal texts for equal policies."""
    content = {
        "columns": columns,
        "arms": [asdict(arm) for arm in policy.arms],
        "salt": policy.salt,
        "mean": _listed_numbers(policy.mean),
        "sd": _listed_numbers(policy.sd),
        "n": policy.n.tolist(),
        "rate": float(policy.rate),
        "propensity_floor": float(policy.propensity_floor),
        "segments": list(policy.segments),
        "segment_mean": [_listed_numbers(row) for row in policy.segment_mean],
        "segment_sd": [_listed_numbers(row) for row in policy.segment_sd],
        "segment_rate": _listed_numbers(policy.segment_rate),
        "never_segments": sorted(policy.never_segments),
        "never_tasks": sorted(policy.never_tasks),
        "daily_regret_budget": policy.daily_regret_budget,
        "solicit_rate": float(policy.solicit_rate),
        "limits": asdict(policy.limits),
        "arm_limits": {name: asdict(limits) for name, limits in policy.arm_limits.items()},
        "playbook_version": policy.lessons.playbook_version if policy.lessons is not None else None,
        "instructions": policy.instructions if policy.lessons is None else "",
        "lesson_ids": list(policy.lesson_ids) if policy.lessons is None else [],
        "ttl_seconds": float(policy.ttl_seconds),
        "basis": list(policy.basis),
    }
    # Left out where nothing holds, as in versions from before there was any.
    if policy.solicit_segments:
        content["solicit_segments"] = policy.solicit_segments
    if policy.solicit_users:
        content["solicit_users"] = policy.solicit_users
    return json.dumps(content, sort_keys=True, allow_nan=False)


def decode(row: dict[str, Any]) -> dict[str, Any]:
    """What `encode` wrote, of a listed version."""
    content: dict[str, Any] = json.loads(row["content"])
    return content


def _listed_numbers(numbers: NDArray[np.float64]) -> list[float | None]:
    """Numbers that JSON can hold: null for NaN."""
    return [None if np.isnan(number) else float(number) for number in numbers]


def numbers(listed: list[float | None], width: int) -> NDArray[np.float64]:
    return np.array([np.nan if number is None else number for number in listed], dtype=np.float64).reshape(width)


def table(listed: list[list[float | None]], width: int) -> NDArray[np.float64]:
    return np.array([numbers(row, width) for row in listed], dtype=np.float64).reshape(len(listed), width)


def limits(held: dict[str, Any]) -> Limits:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
    return Limits(**values)
