"""Tasks: what users ask for, again and again, so that its rollouts can be compared.

The shop assistant and the travel desk state the task's key. The support desk does not: its requests are paraphrases of
a hidden task, which only the truth names, for grouping by text to find.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulate.agents import KINDS, SHOP, SUPPORT, TRAVEL
from pipelines.simulate.arrays import Floats, Ints, stream
from pipelines.simulate.catalogue import OCCASIONS, PURPOSES, ROUTES, STAPLES
from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.intents import INTENTS

__all__ = ["DIFFICULTY_SD", "Tasks", "draw_tasks"]

DIFFICULTY_SD = 0.6  # of a task's effect on quality, logits
_ROLLOUTS_PER_TASK = 25  # aimed at, as far as the catalogue of tasks reaches


@dataclass(frozen=True)
class Tasks:
    """All tasks as columns; subject and occasion index the catalogue, or the intents for the support desk."""

    key: list[str]
    agent: Ints
    kind: Ints  # index into KINDS
    subject: Ints
    occasion: Ints
    difficulty: Floats  # logits added to quality
    popularity: Floats  # sums to 1 within an agent


def draw_tasks(config: SimulationConfig) -> Tasks:
    """Choose the tasks of each agent, how hard each is and how often it is asked for."""
    rng = stream(config.seed, "tasks")
    rows: list[tuple[str, int, int, int, int]] = []
    for agent, share, subjects, occasions in (
        (SHOP, 0.45, [staple.noun.replace(" ", "-") for staple in STAPLES], OCCASIONS),
        (TRAVEL, 0.30, [route.city.lower() for route in ROUTES], PURPOSES),
    ):
        count = int(np.clip(config.traces * share / _ROLLOUTS_PER_TASK, 6, len(subjects) * len(occasions)))
        chosen = np.sort(rng.choice(len(subjects) * len(occasions), size=count, replace=False))
        for subject, occasion in zip(*np.divmod(chosen, len(occasions)), strict=True):
            rows.append((f"{subjects[subject]}/{occasions[occasion].key}", agent, agent, int(subject), int(occasion)))
    rows += [(intent.key, SUPPORT, KINDS.index(intent.kind), i, 0) for i, intent in enumerate(INTENTS)]
    agents = np.array([row[1] for row in rows])
    popularity = rng.gamma(3.0, size=len(rows))
    totals = np.bincount(agents, weights=popularity)
    return Tasks(
        key=[row[0] for row in rows],
        agent=agents,
        kind=np.array([row[2] for row in rows]),
        subject=np.array([row[3] for row in rows]),
        occasion=np.array([row[4] for row in rows]),
        difficulty=rng.normal(0.0, DIFFICULTY_SD, len(rows)),
        popularity=popularity / totals[agents],
    )
