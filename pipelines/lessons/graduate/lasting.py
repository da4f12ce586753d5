"""Which lessons have lasting payoff: active, trusted, and better in every run of the payoffs for weeks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import polars as pl

from pipelines.exploration.stopping import BETTER
from pipelines.lessons.graduate.config import LastingConfig
from pipelines.lessons.payoff.measure import DOUBLY_ROBUST
from store import lessons, payoffs
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_versions import EVERY_AGENT

__all__ = ["Standing", "chosen", "lasting", "standings"]

# Runs come about once a day: of fourteen days the first and the last count as whole ones.
_SLACK: Final = timedelta(hours=12)


@dataclass(frozen=True)
class Standing:
    """A lesson for one agent, measured on `units`: `missing` says what it lacks to graduate, None when it may."""

    agent: str
    lesson_id: str
    version: int
    title: str
    runs: int
    days: float
    effect: float | None
    lower: float | None
    upper: float | None
    units: int
    missing: str | None


def lasting(history: pl.DataFrame, version: int, config: LastingConfig) -> tuple[int, float, str | None]:
    """How many runs in a row up to the newest found a version better on the outcome, over how many days, and what is
    missing to call that lasting. `history` of columns `store.payoffs.HISTORY`, oldest first."""
    own = history.filter(
        pl.col("measure") == "outcome", pl.col("estimator") == DOUBLY_ROBUST, pl.col("version") == version
    )
    words = own["verdict"].to_list()
    count = next((place for place, word in enumerate(reversed(words)) if word != BETTER), len(words))
    if not count:
        return 0, 0.0, _not_better(words[-1] if words else "not measured")
    times = own["found_at"].to_list()
    span: timedelta = times[-1] - times[-count]
    days = span / timedelta(days=1)
    if count < config.runs:
        return count, days, f"{count} of {config.runs} runs of the payoffs in a row found it better"
    if span + _SLACK < timedelta(days=config.days):
        return count, days, f"it was found better for {days:.0f} of {config.days:.0f} days"
    return count, days, None


def standings(store: Store, agents: Sequence[str] = (), config: LastingConfig | None = None) -> list[Standing]:
    """The active lessons of agents (all when none is named) that were measured: first those that may graduate."""
    config = config or LastingConfig()
    newest = payoffs.newest(store).filter(
        pl.col("kind") == "lesson", pl.col("measure") == "outcome", pl.col("estimator") == DOUBLY_ROBUST,
        pl.col("segment").is_null(),
    )  # fmt: skip
    found = []
    for lesson in lessons.library(store, states=("active",)).iter_rows(named=True):
        mine = newest.filter(pl.col("lesson_id") == lesson["lesson_id"], pl.col("version") == lesson["version"])
        for row in mine.iter_rows(named=True):
            if not agents or row["agent"] in agents:
                found.append(_standing(store, lesson, row, config))
    return sorted(found, key=lambda one: (one.missing is not None, one.agent, -(one.effect or 0.0), one.lesson_id))


def chosen(store: Store, agent: str, lesson_ids: Sequence[str], config: LastingConfig | None = None) -> list[Standing]:
    """These lessons of an agent, or all that may graduate when none is named. Raises: `ActionRefused` when one may
    not, or there is none."""
    if agent == EVERY_AGENT or not agent.strip():
        raise ActionRefused("Export", "no agent was named.", "Name one: a model is trained on one agent's traces.")
    known = {one.lesson_id: one for one in standings(store, [agent], config)}
    for lesson_id in lesson_ids:
        one = known.get(lesson_id)
        missing = one.missing if one else f"it is not active, or was not measured for {agent}"
        if missing is not None:
            raise ActionRefused("Export", f"lesson {lesson_id} may not graduate: {missing}.", "Leave it out, or wait.")
    picked = [one for one in known.values() if (one.lesson_id in lesson_ids if lesson_ids else one.missing is None)]
    if not picked:
        raise ActionRefused("Export", f"no lesson of {agent} has lasting payoff.", "Wait until the payoffs have told.")
    return picked


def _not_better(word: str) -> str:
    return f"the newest payoffs say “{word}” on the outcome, not “{BETTER}”"


def _standing(store: Store, lesson: dict[str, Any], row: dict[str, Any], config: LastingConfig) -> Standing:
    runs, days = 0, 0.0
    missing: str | None = _not_better(row["verdict"])
    if row["verdict"] == BETTER:
        history = payoffs.history(store, lesson["lesson_id"], agents=[row["agent"]])
        runs, days, missing = lasting(history, lesson["version"], config)
    if lesson["trust"] in (None, "untrusted"):
        missing = "its text is untrusted: words of users or tools stand in it"
    if lesson["paused"] is not None:
        missing = f"it is paused ({lesson['paused']})"
    return Standing(
        row["agent"], lesson["lesson_id"], lesson["version"], lesson["title"], runs, days, row["effect"], row["lower"],
        row["upper"], row["units"], missing,
    )  # fmt: skip
