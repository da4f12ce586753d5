"""Which groups are asked about next: the most valuable ones that were not asked about on this data."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from pipelines.lessons.drafting import gather
from pipelines.lessons.drafting.gather import Candidate
from store import drafting
from store.connection import Store

__all__ = ["MOST_TRIES", "asked_already", "due"]

MOST_TRIES: Final = 3
"""So often a group is asked about again on the same data when no answer arrives."""
_GROWTH: Final = 1.5
"""By this factor a group must have grown until other rollouts of it are worth another question."""


def due(store: Store, room: int, output_limit: int) -> list[tuple[Candidate, int]]:
    """At most `room` groups, the most valuable first, each with how often it was asked about on the same data.

    `output_limit` is the longest answer that is allowed now, in tokens.
    """
    before = drafting.asked_before(store)
    answered = before.filter(pl.col("status").is_in([*drafting.FINAL, *drafting.OPEN]))
    most = {
        (agent, task): rollouts
        for agent, task, rollouts in answered.group_by("agent", "task").agg(pl.col("rollouts").max()).iter_rows()
    }

    def passed(row: Mapping[str, Any]) -> bool:
        return not _grown(row["rollouts"], most.get((row["agent"], row["task"])))

    found: list[tuple[Candidate, int]] = []
    for candidate in gather.candidates(store, passed=passed):
        why, tries = asked_already(candidate, before, output_limit)
        if why is None:
            found.append((candidate, tries))
        if len(found) == room:
            break
    return found


def asked_already(candidate: Candidate, before: pl.DataFrame, output_limit: int) -> tuple[str | None, int]:
    """Why a group is not asked about (None: it is), and how often it was on the same data.

    `before` has the columns `store.drafting.ASKED_BEFORE`.
    """
    own = before.filter((pl.col("agent") == candidate.agent) & (pl.col("task") == candidate.task))
    for row in own.iter_rows(named=True):
        if row["fingerprint"] == candidate.fingerprint:
            return _same_data(row, output_limit), int(row["tries"])
    grown = candidate.row["rollouts"]
    for row in own.filter(pl.col("status").is_in([*drafting.FINAL, *drafting.OPEN])).iter_rows(named=True):
        if not _grown(grown, row["rollouts"]):
            had = row["rollouts"]
            return f"It was asked about when it had {had:,} rollouts; it has {grown:,}, hardly more.", 0
    return None, 0


def _grown(now: int, before: int | None) -> bool:
    """Whether a group has so many more rollouts than when an answer about it came that it is worth another question."""
    return before is None or now >= _GROWTH * before


def _same_data(row: Mapping[str, Any], output_limit: int) -> str | None:
    status = row["status"]
    if status in drafting.FINAL or status in drafting.OPEN:
        return f"It was asked about on the same data: {status}."
    if status == "truncated" and row["output_limit"] >= output_limit:
        return "Its answer did not fit into TRIMTAB_MODEL_OUTPUT_TOKENS, which is not higher now."
    if status in ("unavailable", "interrupted") and row["tries"] >= MOST_TRIES:
        return f"It was asked about {row['tries']} times on the same data and no answer arrived."
    return None
