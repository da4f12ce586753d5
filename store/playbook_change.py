"""What a change does to a playbook, for an operator to see before it is made (LESSONS A.20: context collapse).

A rewrite that loses lessons, or makes the block much shorter, goes ahead only when the operator says that he has seen
exactly this: the digest of what is lost.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from store.errors import ActionRefused

__all__ = ["MOST_LOST", "Block", "Change", "compare", "digest", "seen"]

MOST_LOST: Final = 0.3
"""Share of a block's tokens that may go without being confirmed."""


@dataclass(frozen=True)
class Block:
    """A playbook of an agent: its text, the lessons that it serves, and its estimated tokens."""

    agent: str
    body: str
    lesson_ids: tuple[str, ...]
    tokens: int


@dataclass(frozen=True)
class Change:
    """What happens to one agent's playbook. `lost` and `gained` are lesson ids; `expected` of the lost are those that
    the change is about, so the others are lost by accident.
    """

    agent: str
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    expected: tuple[str, ...]
    tokens_before: int
    tokens_after: int

    @property
    def shrinks(self) -> float:
        """The share of the block's tokens that goes; 0 when it grows."""
        return max(0.0, 1.0 - self.tokens_after / self.tokens_before) if self.tokens_before else 0.0

    @property
    def alarming(self) -> bool:
        """Whether an operator has to confirm it."""
        return bool(self.lost) or self.shrinks > MOST_LOST

    def __str__(self) -> str:
        parts = [f"{self.agent}: {self.tokens_before:,} to {self.tokens_after:,} tokens"]
        if self.lost:
            parts.append(f"without {', '.join(self.lost)}")
        accidental = [name for name in self.lost if name not in self.expected]
        if accidental:
            parts.append(f"of which {', '.join(accidental)} is not what the change is about")
        return ", ".join(parts)


def compare(before: Sequence[Block], after: Sequence[Block], expected: Iterable[str] = ()) -> tuple[Change, ...]:
    """What changes from the blocks `before` to those `after`, by agent; agents with the same playbook are left out."""
    old, new = ({one.agent: one for one in blocks} for blocks in (before, after))
    about = set(expected)
    changes = []
    for agent in sorted(old | new):
        none = Block(agent, "", (), 0)
        left, right = old.get(agent, none), new.get(agent, none)
        if left != right:
            lost = tuple(sorted(set(left.lesson_ids) - set(right.lesson_ids)))
            gained = tuple(sorted(set(right.lesson_ids) - set(left.lesson_ids)))
            kept = tuple(name for name in lost if name in about)
            changes.append(Change(agent, lost, gained, kept, left.tokens, right.tokens))
    return tuple(changes)


def digest(changes: Sequence[Change]) -> str | None:
    """What an operator confirms: a hash of all that is lost; None when nothing alarming happens."""
    told = [[one.agent, one.lost, one.tokens_before, one.tokens_after] for one in changes if one.alarming]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] if told else None


def seen(action: str, changes: Sequence[Change], confirmed: str | None) -> None:
    """Raises: `ActionRefused` when something is lost and `confirmed` is not the digest of exactly this."""
    wanted = digest(changes)
    if wanted is not None and confirmed != wanted:
        told = "; ".join(str(one) for one in changes if one.alarming)
        raise ActionRefused(action, f"agents would be served less: {told}.", "Look at what is lost, and confirm it.")
