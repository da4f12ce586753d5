"""Replay of lessons: those of a logged decision chosen again from the version of the playbook that it names.

What lessons were matched with, the input, is not in the log; a hash of it is. Where a trace of the decision states an
input with that hash, or the agent told none, the choice is made again in full. Otherwise the lessons of the decision
cannot be replayed, and it is counted as one of which only the arm can be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.lessons.serving.choose import Exposure, chooser
from pipelines.steering.asked import found, request_of
from pipelines.steering.policy import Policy
from pipelines.steering.replay import DIFFERENCES, TOLERANCE, difference, replay
from store import decisions, exposures, lesson_sets, policies
from store.connection import Store
from store.lesson_sets import LessonSet

__all__ = ["Replayed", "replay_lessons", "replay_store"]


@dataclass(frozen=True)
class Replayed:
    """`differences` (columns DIFFERENCES) of `decisions`; of `with_lessons` the lessons were chosen again as well, of
    `arms_only` they could not be, since the input is not known."""

    differences: pl.DataFrame
    decisions: int
    with_lessons: int
    arms_only: int

    @property
    def message(self) -> str:
        """What was found, in a sentence or two."""
        told = f"{self.differences.height:,} differences in {self.decisions:,} decisions."
        if self.with_lessons or self.arms_only:
            told += f" The lessons of {self.with_lessons:,} were chosen again."
        if self.arms_only:
            told += f" Of {self.arms_only:,} only the arms were: no trace states the input that they were asked with."
        return told


def replay_store(store: Store, agent: str | None = None, limit: int = 1_000) -> Replayed:
    """Replay the latest `limit` decisions, of one agent or of all."""
    logged = decisions.recent(store, agent, limit)
    stated = exposures.inputs(store, logged["decision_id"].to_list())
    inputs = dict(stated.group_by("decision_id").agg("input").iter_rows())
    held: dict[tuple[str, int], Policy] = {}

    def policy_at(name: str, version: int) -> Policy:
        if (name, version) not in held:
            held[name, version] = policies.at(store, name, version)
        return held[name, version]

    arms = replay(logged, policy_at)
    lessons = replay_lessons(logged, policy_at, lambda name, version: lesson_sets.at(store, name, version), inputs)
    return Replayed(pl.concat([arms, lessons.differences]), logged.height, lessons.with_lessons, lessons.arms_only)


def replay_lessons(
    logged: pl.DataFrame,
    policy_at: Callable[[str, int], Policy],
    lessons_at: Callable[[str, int], LessonSet],
    inputs: Mapping[str, Sequence[str]],
) -> Replayed:
    """The lessons of logged decisions, chosen again.

    Args: `logged` with the columns of `store.decisions.DECISIONS`; `policy_at` and `lessons_at` give the policy and the
    lessons of an agent's version; `inputs` that traces state, by decision.
    """
    differing: list[tuple[object, ...]] = []
    again = unknown = 0
    served = logged.filter(pl.col("playbook_version").is_not_null())
    for (agent, version), rows in served.partition_by(["agent", "playbook_version"], as_dict=True).items():
        choosing = chooser(lessons_at(str(agent), int(version)))
        for row in rows.iter_rows(named=True):
            text = found(row["input_hash"], inputs.get(row["decision_id"], ())) if row["input_hash"] else None
            if text is None and row["input_hash"] is not None:
                unknown += 1
                continue
            again += 1
            policy = policy_at(row["agent"], row["policy_version"])
            choice = choosing.choose(request_of(row, text, policy.salt, policy.arms))
            if not _same(row["exposures"], choice.exposures):
                differing.append(difference(row, "exposures", row["exposures"], choice.exposures))
            if row["lesson_set_hash"] != choice.lesson_set_hash:
                differing.append(difference(row, "lesson_set_hash", row["lesson_set_hash"], choice.lesson_set_hash))
            if row["empty_probability"] != choice.empty_probability:
                differing.append(
                    difference(row, "empty_probability", row["empty_probability"], choice.empty_probability)
                )
    return Replayed(pl.DataFrame(differing, schema=DIFFERENCES, orient="row"), served.height, again, unknown)


def _same(logged: Sequence[Mapping[str, Any]], chosen: Sequence[Exposure]) -> bool:
    """Whether both say the same, numbers up to rounding."""
    if len(logged) != len(chosen):
        return False
    for one, other in zip(logged, chosen, strict=True):
        again = other._asdict()
        for name, value in one.items():
            if isinstance(value, float):
                if abs(value - again[name]) > TOLERANCE:
                    return False
            elif value != again[name]:
                return False
    return True
