"""Two rollouts of one task step by step: which steps they share and where they part."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

__all__ = ["Pair", "Step", "align", "parting"]


@dataclass(frozen=True)
class Step:
    """One action of a rollout: `number` from 1, `arguments` without white space to tell whether two calls are alike."""

    number: int
    span_id: str
    name: str
    arguments: str | None
    input: str | None
    output: str | None
    failed: bool


@dataclass(frozen=True)
class Pair:
    """A step of each rollout that stand side by side; None where only the other one has it."""

    good: Step | None
    bad: Step | None

    @property
    def kind(self) -> Literal["same", "other arguments", "other action", "only good", "only bad"]:
        """How the two differ."""
        if self.good is None:
            return "only bad"
        if self.bad is None:
            return "only good"
        if self.good.name != self.bad.name:
            return "other action"
        return "same" if self.good.arguments == self.bad.arguments else "other arguments"


def align(good: Sequence[Step], bad: Sequence[Step]) -> list[Pair]:
    """Stand the steps of two rollouts side by side by the names of their actions; every step appears once, in order."""
    matcher = SequenceMatcher(None, [step.name for step in good], [step.name for step in bad], autojunk=False)
    pairs = []
    for _, good_from, good_to, bad_from, bad_to in matcher.get_opcodes():
        for offset in range(max(good_to - good_from, bad_to - bad_from)):
            here, there = good_from + offset, bad_from + offset
            pairs.append(Pair(good[here] if here < good_to else None, bad[there] if there < bad_to else None))
    return pairs


def parting(pairs: Sequence[Pair]) -> int | None:
    """The place of the first pair that is not the same on both sides; None when there is none."""
    return next((place for place, pair in enumerate(pairs) if pair.kind != "same"), None)
