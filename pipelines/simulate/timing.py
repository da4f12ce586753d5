"""When each step starts and ends: steps follow one another, the agent's own span encloses them, children lie within."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.simulate.agents import MODELS
from pipelines.simulate.arrays import Floats, Ints
from pipelines.simulate.outcomes import World
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.script import Script
from pipelines.simulate.sessions import Sessions

__all__ = ["StepTimes", "step_times", "trace_starts"]

_SPREAD = 0.35  # standard deviation of the log of a duration
_REFERENCE_MS = 900.0  # latency of the model that the slots' medians are for
_CHANGED_SPEED = 0.8  # latency of the silently changed model against before


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds since the start of the trace, (traces of the agent, slots)."""

    start: Ints
    end: Ints


def step_times(world: World, rollouts: Rollouts, script: Script, rng: np.random.Generator) -> StepTimes:
    """Draw the durations of one agent's steps: log-normal, longer for the larger model and for wordy answers."""
    slots = script.slots
    shape = script.present.shape
    arm = rollouts.outcomes.arm[script.rows]
    latency = np.array([model.latency_ms for model in MODELS])[world.arms.model[arm]] / _REFERENCE_MS
    latency = latency * np.where(rollouts.outcomes.model_changed[script.rows], _CHANGED_SPEED, 1.0)
    wordy = 1.0 - 0.35 * rollouts.outcomes.features[script.rows, 0]
    duration: Floats = np.array([slot.median_ms for slot in slots]) * rng.lognormal(0.0, _SPREAD, shape)
    for index, slot in enumerate(slots):
        if slot.kind == "llm":
            duration[:, index] *= latency * (wordy if index == len(slots) - 1 else 1.0)
    lasts = np.maximum(np.rint(duration), 2).astype(np.int64)
    gap = rng.integers(3, 25, size=shape)

    follows = np.array([index > 0 and slot.parent == 0 for index, slot in enumerate(slots)])
    taken = np.where(script.present & follows, lasts + gap, 0)
    end = np.cumsum(taken, axis=1)
    start = end - lasts
    for index, slot in enumerate(slots):
        if slot.parent:  # a child takes a third of its parent, from one millisecond in
            start[:, index] = start[:, slot.parent] + 1
            end[:, index] = start[:, index] + lasts[:, slot.parent] // 3
    start[:, 0] = 0
    end[:, 0] = taken.sum(axis=1) + 4
    return StepTimes(start, end)


def trace_starts(
    sessions: Sessions,
    rollouts: Rollouts,
    scripts: Sequence[Script],
    times: Sequence[StepTimes],
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Start and end of each trace in milliseconds since the start of the period; turns follow after time to think."""
    lasts = np.zeros(len(rollouts), dtype=np.int64)
    for script, time in zip(scripts, times, strict=True):
        lasts[script.rows] = time.end[:, 0]
    thinks = np.clip(rng.exponential(75_000.0, len(rollouts)), 8_000.0, 600_000.0).astype(np.int64)
    spent = np.where(rollouts.turn > 0, thinks, 0)
    # Within a session: start = session start + earlier traces + pauses up to this one.
    elapsed = np.cumsum(lasts + spent) - lasts
    first = np.flatnonzero(rollouts.turn == 0)
    start = sessions.start_ms[rollouts.session] + elapsed - elapsed[first][rollouts.session]
    return start, start + lasts
