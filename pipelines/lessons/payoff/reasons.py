"""Why there is no number, or what the verdict rests on, in the words of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipelines.exploration.stopping import BETTER, NO_WORSE, OPEN, WORSE
from pipelines.lessons.payoff.effects import CLUSTERS
from pipelines.lessons.payoff.exposed import REASONS

__all__ = ["CHANGED", "Grounds", "missing_unevenly", "refused", "said", "wrong_shares"]

CHANGED: Final = (
    "It was served with different probabilities, so the plain difference mixes times or people. Read the doubly robust "
    "effect."
)


@dataclass(frozen=True)
class Grounds:
    """What one comparison rests on: units with the measure `served` and not (`withheld`), their `people`, the effective
    size of the smaller side and the gate, the units that skewness asks for, whether the measure varies, what is wrong
    with the draws (None: nothing), and decisions that were left out by reason."""

    measure: str
    served: int = 0
    withheld: int = 0
    people: int = 0
    ess: float = 0.0
    gate: float = 0.0
    needed: float = 0.0
    varies: bool = True
    fault: str | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


_WORDS = {"outcome": "outcome", "reward": "reward", "cost_usd": "cost", "tokens": "number of tokens"}


def refused(of: Grounds) -> str | None:
    """Why nothing is said; None where the sample allows it."""
    word = _WORDS[of.measure]
    if of.served + of.withheld == 0:
        return f"No decision can be used: {_left_out(of.dropped) or f'none has a {word}'}."
    if of.withheld == 0:
        return f"It was never withheld in {_units(of.served)} with a known {word}: there is nothing to compare with."
    if of.served == 0:
        return f"It was never served in {_units(of.withheld)} with a known {word}: there is nothing to compare with."
    if of.fault:
        return of.fault
    if of.people < CLUSTERS:
        who = "one person" if of.people == 1 else f"{of.people} people"
        return f"All {_units(of.served + of.withheld)} are of {who}; nothing is said below {CLUSTERS}."
    if not of.varies:
        return f"Every {word} is the same: nothing tells served from withheld."
    if of.ess < of.gate:
        return f"Collecting: the smaller side is worth {_units(int(of.ess))}; nothing is said below {of.gate:.0f}."
    if of.served + of.withheld < of.needed:
        return f"Values of the {word} are too rare or too uneven so far for an interval that holds."
    return None


def said(verdict: str, of: Grounds, margin: float, more: int | None) -> str:
    """What a verdict rests on, with what was left out."""
    better, worse = ("below", "above") if of.measure in ("cost_usd", "tokens") else ("above", "below")
    text = {
        BETTER: f"The whole interval is {better} 0.",
        WORSE: f"The whole interval is {worse} 0.",
        NO_WORSE: f"The interval reaches less than {margin:.3g} {worse} 0.",
        OPEN: f"The interval reaches from {margin:.3g} or more {worse} 0 to {better} 0.",
    }[verdict]
    if verdict in (OPEN, NO_WORSE):
        text += (
            " At this pace it will not be told."
            if more is None
            else f" About {more:,} more decisions if the effect is as it looks."
        )
    left_out = _left_out(of.dropped)
    return f"{text} Left out: {left_out}." if left_out else text


def wrong_shares(served: float, expected: float, units: int) -> str:
    """Draws that did not come as logged."""
    return (
        f"It was served in {100 * served:.1f} % of {units:,} units, by the logged probabilities in "
        f"{100 * expected:.1f} %: draws are lost or changed on the way. Find the cause before reading any effect."
    )


def missing_unevenly(difference: float) -> str:
    """Outcomes that are missing by what was served."""
    how = "more" if difference < 0.0 else "less"
    return (
        f"Outcomes are missing {how} often when it is served, by {100 * abs(difference):.1f} points: those that are "
        "there are not comparable. Ask for feedback at random, or report outcomes of every trace."
    )


def _left_out(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{dropped[key]:,} decisions {words}" for key, words in REASONS.items() if dropped.get(key))


def _units(count: int) -> str:
    return "one unit" if count == 1 else f"{count:,} units"
