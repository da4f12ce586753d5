"""Lessons that are to go for what was measured of them: harmful, without effect, unused, or superseded."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import polars as pl

from pipelines.lessons.distil.config import DistilConfig
from pipelines.lessons.distil.lesson import SERVED, WAITING, Lesson
from pipelines.lessons.distil.proposal import Proposal
from store.distilling import Library

__all__ = ["harmful", "superseded", "unused", "without_effect"]


def harmful(lessons: Sequence[Lesson]) -> Iterator[Proposal]:
    """Served lessons whose newest verdict is worse."""
    for one in lessons:
        if one.state in SERVED and one.payoff is not None and one.payoff.verdict == "worse":
            reason = f"{one.title!r} does harm: effect {_interval(one)} after {one.payoff.decisions:,} decisions."
            yield Proposal("retire", "harmful", None, ((one, None),), reason)


def without_effect(lessons: Sequence[Lesson], config: DistilConfig) -> Iterator[Proposal]:
    """Served lessons that, after enough decisions, pay less than what is worth their tokens."""
    for one in lessons:
        payoff = one.payoff
        if one.state not in SERVED or payoff is None or payoff.verdict in ("worse", "better"):
            continue
        if payoff.decisions < config.enough_decisions or payoff.upper is None or payoff.upper >= config.least_effect:
            continue
        reason = (
            f"{one.title!r} has no effect worth its tokens: {_interval(one)} after {payoff.decisions:,} decisions, "
            f"below {config.least_effect:g}."
        )
        yield Proposal("retire", "no_effect", None, ((one, None),), reason)


def unused(lessons: Sequence[Lesson], library: Library, config: DistilConfig) -> Iterator[Proposal]:
    """Lessons that have been served for N weeks and matched no decision in them, although their agents decided.

    Where few decisions about lessons are known, nothing is said: steering may not be in use.
    """
    window = timedelta(weeks=config.unused_weeks)
    per_agent = {
        row["agent"]: row["decisions"]
        for row in library.exposed.filter(pl.col("lesson_id").is_null()).iter_rows(named=True)
    }
    matched = set(library.exposed["lesson_id"].drop_nulls())
    for one in lessons:
        decided = sum(per_agent.values()) if one.agent == "*" else per_agent.get(one.agent, 0)
        served = one.state in SERVED and not one.paused and library.now - one.since >= window
        if served and one.lesson_id not in matched and decided >= config.least_decisions:
            reason = f"{one.title!r} matched none of {decided:,} decisions in {config.unused_weeks} weeks."
            yield Proposal("retire", "unused", None, ((one, None),), reason)


def superseded(lessons: Sequence[Lesson], library: Library) -> Iterator[Proposal]:
    """Lessons that a served one supersedes by a link, and that are still served or wait."""
    known = {one.lesson_id: one for one in lessons}
    links = library.links.filter(pl.col("kind") == "supersedes").sort("other_id", "lesson_id")
    told = set()
    for row in links.iter_rows(named=True):
        new, old = known.get(row["lesson_id"]), known.get(row["other_id"])
        if new is None or old is None or new.state not in SERVED or old.state not in (*SERVED, *WAITING):
            continue
        if old.lesson_id not in told:
            told.add(old.lesson_id)
            reason = f"{new.title!r} supersedes {old.title!r}, which is {old.state} all the same."
            yield Proposal("retire", "superseded", new, ((old, None),), reason)


def _interval(one: Lesson) -> str:
    payoff = one.payoff
    if payoff is None or payoff.effect is None:
        return "unknown"
    if payoff.lower is None or payoff.upper is None:
        return f"{payoff.effect:+.3f}"
    return f"{payoff.effect:+.3f} ({payoff.lower:+.3f} to {payoff.upper:+.3f})"
