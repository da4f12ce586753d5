"""Streams that change in the middle and streams that do not, the same from the same seed; needs NumPy only.

Every number is drawn element by element, so that river's environment makes the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CHANGE", "EVENTS", "SCENARIOS", "Scenario"]

EVENTS = 1_000
CHANGE = 500
SEED = 20261121

Draw = Callable[[np.random.Generator, int, int, bool], np.ndarray]


@dataclass(frozen=True)
class Scenario:
    """`draw` gives (streams, events) before or after the change; `kind` 0/1 (`rate`) or `number`."""

    name: str
    kind: str
    draw: Draw

    def streams(self, count: int, *, changed: bool) -> np.ndarray:
        """Streams of 1,000 events, shape (streams, events), that change after the 500th or (not changed) never."""
        random = np.random.default_rng([SEED, sum(map(ord, self.name)), changed])
        halves = self.draw(random, count, CHANGE, False), self.draw(random, count, EVENTS - CHANGE, changed)
        return np.hstack(halves)


def _rates(before: float, after: float) -> Scenario:
    def draw(random: np.random.Generator, count: int, events: int, later: bool) -> np.ndarray:
        return (random.random((count, events)) < (after if later else before)).astype(np.uint8)

    return Scenario(f"rate {before:g} to {after:g}", "rate", draw)


def _scores(random: np.random.Generator, count: int, events: int, later: bool) -> np.ndarray:
    return random.beta(6, 3, (count, events)) if later else random.beta(8, 2, (count, events))


def _costs(random: np.random.Generator, count: int, events: int, later: bool) -> np.ndarray:
    return random.lognormal(0.0, 1.0, (count, events)) * (1.5 if later else 1.0)


SCENARIOS = (
    _rates(0.3, 0.5),
    _rates(0.9, 0.75),
    _rates(0.97, 0.85),
    _rates(0.02, 0.1),
    Scenario("beta(8,2) to beta(6,3)", "number", _scores),
    Scenario("lognormal costs times 1.5", "number", _costs),
)
