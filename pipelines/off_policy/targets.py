"""Policies asked about: for each logged decision, the probability of every arm had that policy decided.

All are computed from what was logged with the decision (its eligible arms, their propensities, its greedy arm), so none
can choose an arm that was not open to it then, except a fixed arm, which says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AsLogged", "BySegment", "Choices", "FixedArm", "Rate", "Target", "words"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """What decisions were chosen from. Shapes: `logged` (decisions, arms), zero for arms that were not open to one;
    `greedy` (decisions,) indices into `arms`; `segment` (decisions,) indices into `segments`, -1 for none."""

    arms: tuple[str, ...]
    logged: Floats
    greedy: Ints
    segments: tuple[str, ...]
    segment: Ints


@dataclass(frozen=True)
class AsLogged:
    """The policy as it ran."""

    def vectors(self, choices: Choices) -> Floats:
        """(decisions, arms)."""
        return choices.logged


@dataclass(frozen=True)
class FixedArm:
    """Everyone gets one arm, whether it was open to them or not."""

    arm: str

    def vectors(self, choices: Choices) -> Floats:
        """(decisions, arms); rows of zeros when the arm was never open to anyone."""
        vectors = np.zeros_like(choices.logged)
        if self.arm in choices.arms:
            vectors[:, choices.arms.index(self.arm)] = 1.0
        return vectors


@dataclass(frozen=True)
class Rate:
    """The greedy arm, but with probability `rate` another one, drawn in proportion to the logged propensities.

    A decision to which only its greedy arm was open keeps it.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"a rate lies from 0 to 1, came {self.rate}")

    def vectors(self, choices: Choices) -> Floats:
        """(decisions, arms)."""
        rows = np.arange(len(choices.greedy))
        others = choices.logged.copy()
        others[rows, choices.greedy] = 0.0
        left = others.sum(axis=1)
        vectors = others * np.divide(self.rate, left, out=np.zeros_like(left), where=left > 0.0)[:, None]
        vectors[rows, choices.greedy] = np.where(left > 0.0, 1.0 - self.rate, 1.0)
        return np.asarray(vectors)


@dataclass(frozen=True)
class BySegment:
    """Another policy for each segment named, and `otherwise` for everyone else."""

    of: Mapping[str, "Target"]
    otherwise: "Target" = AsLogged()

    def vectors(self, choices: Choices) -> Floats:
        """(decisions, arms)."""
        vectors = np.array(self.otherwise.vectors(choices))
        for segment, target in self.of.items():
            if segment in choices.segments:
                own = choices.segment == choices.segments.index(segment)
                vectors[own] = target.vectors(choices)[own]
        return vectors


Target = AsLogged | FixedArm | Rate | BySegment


def words(target: Target) -> str:
    """The policy asked about, as it is named on a page."""
    match target:
        case AsLogged():
            return "the policy as it ran"
        case FixedArm(arm):
            return f"everyone gets {arm}"
        case Rate(rate):
            return f"exploring at a rate of {100 * rate:.3g} %"
        case BySegment(of, otherwise):
            parts = [f"{segment}: {words(one)}" for segment, one in of.items()]
            return "; ".join([*parts, f"everyone else: {words(otherwise)}"])
