"""Whether a lesson holds on the traces that it would stand for after a merge (LESSONS A.20, "faulty consolidation").

What can be checked without running the agent is what the lesson says about tools: to use one, to do without one, to
call one before another. A supporting trace is a good one of any member; the lesson must hold on all of them. An
opposing trace is one that speaks against it: a bad one on which it holds, or a good one on which it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.lessons.distil.lesson import Lesson, Trace
from pipelines.lessons.lint.polarity import Claims, claims

__all__ = ["Checked", "Seen", "check", "holds"]


@dataclass(frozen=True)
class Seen:
    """A trace of a member's evidence, and whether the kept lesson holds on it; None where that cannot be told."""

    lesson_id: str
    trace_id: str
    role: str
    reward: float
    holds: bool | None


@dataclass(frozen=True)
class Checked:
    """The result, in words too, with the traces that support the kept lesson and those that oppose it."""

    verdict: Literal["holds", "fails", "cannot be checked"]
    why: str
    supporting: tuple[Seen, ...]
    opposing: tuple[Seen, ...]


def check(keep: Lesson, members: Sequence[Lesson]) -> Checked:
    """Check the text of `keep` against the evidence of all `members`, among them `keep` itself."""
    said = claims(f"{keep.title}. {keep.do_text}")
    seen = [
        Seen(member.lesson_id, trace.trace_id, trace.role, trace.reward, holds(said, trace))
        for member in members
        for trace in member.evidence
    ]
    supporting = tuple(one for one in seen if one.role == "good")
    opposing = tuple(one for one in seen if one.holds is not None and one.holds == (one.role == "bad"))
    told = [one for one in supporting if one.holds is not None]
    if not seen:
        return Checked("cannot be checked", "None of these lessons has a trace behind it.", supporting, opposing)
    if not (said.use or said.avoid or said.orders):
        why = "The text names no tool to use or to do without, so no trace can show whether it was followed."
        return Checked("cannot be checked", why, supporting, opposing)
    if not told:
        return Checked("cannot be checked", "The steps of the supporting traces are not known.", supporting, opposing)
    failed = [one for one in told if not one.holds]
    if failed:
        why = f"It does not hold on {len(failed)} of {len(told)} supporting traces, first {failed[0].trace_id}."
        return Checked("fails", why, supporting, opposing)
    unknown = len(supporting) - len(told)
    why = f"It holds on all {len(told)} supporting traces"
    why += f"; of {unknown} more the steps are not known." if unknown else "."
    return Checked("holds", why, supporting, opposing)


def holds(said: Claims, trace: Trace) -> bool | None:
    """Whether a trace did what is said about tools; None where its steps are not known, or nothing applies to it."""
    if trace.called is None:
        return None
    first: dict[str, int] = {}
    for place, name in enumerate(trace.called):
        first.setdefault(name.casefold(), place)
    asked = [name in first for name in said.use]
    asked += [name not in first for name in said.avoid]
    asked += [first[one] < first[other] for one, other in said.orders if one in first and other in first]
    return all(asked) if asked else None
