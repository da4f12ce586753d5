"""What systems find out: checks of the outcome by code, and a judge model with known errors."""

from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from pipelines.simulate.agents import SUPPORT, TRAVEL
from pipelines.simulate.signals import Scene

__all__ = ["JUDGE", "OUTCOME", "write_checks"]

# P(outcome good) = 1 / (1 + exp(-(intercept + loading * theta))), for a share of an agent's traces. The shop has none.
OUTCOME: dict[str, Any] = {
    "intercept": -0.2,
    "loading": 1.2,
    "agents": {
        "travel-desk": {"name": "hold_valid", "share": 0.8, "delay_hours": 12},
        "support-desk": {"name": "resolved_48h", "share": 0.9, "delay_hours": 48},
    },
}
JUDGE = {"sensitivity": 0.86, "specificity": 0.70}  # against what the person says if asked


def write_checks(scene: Scene, rng: np.random.Generator) -> list[pl.DataFrame]:
    """Outcomes and judgements."""
    rollouts = scene.rollouts
    frames = []
    for index, agent in ((TRAVEL, "travel-desk"), (SUPPORT, "support-desk")):
        check = OUTCOME["agents"][agent]
        rows = np.flatnonzero(scene.agent(index) & (rng.random(len(rollouts)) < check["share"]))
        chance = expit(OUTCOME["intercept"] + OUTCOME["loading"] * rollouts.outcomes.theta[rows])
        frames.append(
            scene.signals(
                rows,
                "outcome",
                scene.end_ms[rows] + check["delay_hours"] * 3_600_000 + rng.integers(600_000, size=len(rows)),
                name=check["name"],
                value=(rng.random(len(rows)) < chance).astype(float),
                annotator_kind="code",
                annotator_id=f"check/{check['name']}",
            )
        )
    rows = np.flatnonzero(rng.random(len(rollouts)) < scene.world.config.judge_rate)
    chance = np.where(rollouts.satisfied[rows], JUDGE["sensitivity"], 1.0 - JUDGE["specificity"])
    frames.append(
        scene.signals(
            rows,
            "judge",
            scene.end_ms[rows] + 600_000,
            name="helpfulness",
            value=(rng.random(len(rows)) < chance).astype(float),
            propensity=scene.world.config.judge_rate or None,
            annotator_kind="llm",
            annotator_id="aurora-4-judge",
        )
    )
    return frames
