"""One lesson as distillation sees it: its text, its evidence and what it pays."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from pipelines.lessons.lint.words import folded
from store.distilling import Library

__all__ = ["Lesson", "Payoff", "Trace", "lessons", "rank"]

SERVED: Final = ("canary", "active")
WAITING: Final = ("proposed", "approved")
_VERDICTS: Final = {"better": 0, "no worse": 1, "can't tell yet": 2, "worse": 4}


@dataclass(frozen=True)
class Payoff:
    """The newest measurement of this version: `effect` is served minus withheld in reward points."""

    verdict: str
    effect: float | None
    lower: float | None
    upper: float | None
    decisions: int


@dataclass(frozen=True)
class Trace:
    """A trace of the evidence and the tools it called, in order; None where its steps are not known."""

    trace_id: str
    role: str
    reward: float
    called: tuple[str, ...] | None


@dataclass(frozen=True)
class Lesson:
    """A lesson with its evidence, sorted; `payoff` is the worst over agents where it is for all of them."""

    lesson_id: str
    version: int
    state: str
    agent: str
    task: str | None
    segment: str | None
    user_id: str | None
    title: str
    when_text: str
    when_not: str
    do_text: str
    created_at: datetime
    since: datetime
    paused: bool
    evidence: tuple[Trace, ...]
    payoff: Payoff | None

    @property
    def scope(self) -> tuple[str | None, ...]:
        """Whom it is for."""
        return (self.agent, self.task, self.segment, self.user_id)

    @property
    def text(self) -> str:
        """All words that are compared."""
        return f"{self.title}\n{self.when_text}\n{self.do_text}"

    @property
    def words(self) -> tuple[str, ...]:
        """All of its folded words: equal for texts that differ in case, white space or punctuation only."""
        return tuple(folded(f"{self.title}\n{self.when_text}\n{self.when_not}\n{self.do_text}"))


def lessons(library: Library) -> list[Lesson]:
    """The lessons of a library by id, whatever the order of its rows."""
    called: dict[str, tuple[str, ...]] = {
        str(trace): tuple(rows.sort("position")["name"])
        for (trace,), rows in library.actions.group_by("trace_id", maintain_order=True)
    }
    evidence: dict[str, list[Trace]] = {}
    for row in library.evidence.unique().sort("lesson_id", "role", "trace_id", "reward").iter_rows(named=True):
        trace = Trace(row["trace_id"], row["role"], row["reward"], called.get(row["trace_id"]))
        evidence.setdefault(row["lesson_id"], []).append(trace)
    payoffs = _payoffs(library.payoffs)
    return [_lesson(row, evidence, payoffs) for row in library.lessons.sort("lesson_id").iter_rows(named=True)]


def rank(lesson: Lesson) -> tuple[Any, ...]:
    """Sorts the lesson that is worth keeping first: served, by verdict, payoff, evidence, age, then id."""
    payoff = lesson.payoff
    return (
        0 if lesson.state in SERVED else 1 if lesson.state in WAITING else 2,
        _VERDICTS.get(payoff.verdict, 3) if payoff else 3,
        -(payoff.effect or 0.0) if payoff else 0.0,
        -len(lesson.evidence),
        lesson.created_at,
        lesson.lesson_id,
    )


def _lesson(row: dict[str, Any], evidence: dict[str, list[Trace]], payoffs: dict[tuple[str, int], Payoff]) -> Lesson:
    name, version = row["lesson_id"], row["version"]
    return Lesson(
        lesson_id=name, version=version, state=row["state"], agent=row["agent"], task=row["task"],
        segment=row["segment"], user_id=row["user_id"], title=row["title"], when_text=row["when_text"],
        when_not=row["when_not"] or "", do_text=row["do_text"], created_at=row["created_at"], since=row["since"],
        paused=row["paused"], evidence=tuple(evidence.get(name, ())), payoff=payoffs.get((name, version)),
    )  # fmt: skip


def _payoffs(rows: pl.DataFrame) -> dict[tuple[str, int], Payoff]:
    """The reward's where it was measured, else the outcome's; of several agents the one with the worst verdict."""
    found: dict[tuple[str, int], Payoff] = {}
    measured = rows.sort("lesson_id", "version", "agent", "measure", descending=[False, False, False, True])
    for row in measured.unique(["lesson_id", "version", "agent"], keep="first", maintain_order=True).iter_rows(
        named=True
    ):
        one = Payoff(row["verdict"], row["effect"], row["lower"], row["upper"], row["decisions"])
        held = found.get((row["lesson_id"], row["version"]))
        if held is None or _VERDICTS.get(one.verdict, 3) > _VERDICTS.get(held.verdict, 3):
            found[row["lesson_id"], row["version"]] = one
    return found
