"""What distillation proposes, and its identity."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import polars as pl

from pipelines.lessons.distil.check import Checked, Seen
from pipelines.lessons.distil.lesson import Lesson
from store.distilling import MEMBERS, PROPOSALS

__all__ = ["Cause", "Proposal", "frames"]

Cause = Literal[
    "exact", "near", "unused", "harmful", "conflict", "superseded", "no_effect", "repeats",
]  # fmt: skip


_UNCHECKED: Final = Checked("cannot be checked", "No other text takes its place.", (), ())


@dataclass(frozen=True)
class Proposal:
    """A merge into `keep`, a retirement, or a finding that a person has to look into.

    `members` are the lessons that would go, each with its cosine with `keep` where that was measured.
    """

    kind: Literal["merge", "retire", "escalate"]
    cause: Cause
    keep: Lesson | None
    members: tuple[tuple[Lesson, float | None], ...]
    reason: str
    similarity: float | None = None
    method: str | None = None
    checked: Checked = _UNCHECKED

    @property
    def proposal_id(self) -> str:
        """A hash of what is proposed about which texts: the same on later data."""
        named = [[one.lesson_id, one.version] for one, _ in self.members]
        kept = [self.keep.lesson_id, self.keep.version] if self.keep else None
        return hashlib.sha256(json.dumps([self.kind, self.cause, kept, sorted(named)]).encode()).hexdigest()[:16]


def frames(proposals: Sequence[Proposal]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Proposals and their members as the store keeps them (columns PROPOSALS and MEMBERS)."""
    rows, members = [], []
    for one in proposals:
        first = one.keep or one.members[0][0]
        rows.append(
            {
                "proposal_id": one.proposal_id, "kind": one.kind, "cause": one.cause, "agent": first.agent,
                "keep_id": one.keep.lesson_id if one.keep else None,
                "keep_version": one.keep.version if one.keep else None, "similarity": one.similarity,
                "method": one.method, "checked": one.checked.verdict, "reason": f"{one.reason} {_check(one)}".strip(),
                "supporting": _json(one.checked.supporting), "opposing": _json(one.checked.opposing),
            }
        )  # fmt: skip
        key = {"proposal_id": one.proposal_id}
        if one.keep is not None:
            members.append({**key, "lesson_id": one.keep.lesson_id, "version": one.keep.version, "role": "keep"})
        role = "merge" if one.kind == "merge" else "retire"
        for lesson, cosine in one.members:
            members.append(
                {**key, "lesson_id": lesson.lesson_id, "version": lesson.version, "role": role, "cosine": cosine}
            )
    return pl.DataFrame(rows, schema=PROPOSALS), pl.DataFrame(members, schema=MEMBERS)


def _check(one: Proposal) -> str:
    if one.kind != "merge":
        return ""
    return (
        one.checked.why if one.checked.verdict != "cannot be checked" else f"This cannot be checked: {one.checked.why}"
    )


def _json(seen: Sequence[Seen]) -> str:
    return json.dumps([asdict(one) for one in seen])
