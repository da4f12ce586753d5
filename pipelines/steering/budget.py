"""The daily regret budget of each agent: what its decisions may cost at the worst, in reward points a UTC day."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime

__all__ = ["Budgets"]

# Below this share of the budget the rate goes down in proportion to what is left, in steps of 1 / _STEPS.
_SHORT = 0.25
_STEPS = 64


class Budgets:
    """What each agent's decisions of the day have cost so far; lives in memory, begins with what the store holds.

    For every agent spent + cost ≤ budget at any moment, within one day of the clock. A day never comes back: a clock
    that is set back goes on in the later day, one that is set forward begins a new one.
    """

    def __init__(self, now: datetime, spent: Mapping[str, float] | None = None) -> None:
        """`spent` so far on the UTC day of `now`, by agent."""
        self._day = _day(now)
        self._spent = dict(spent or {})

    @property
    def day(self) -> date:
        """The day that is being counted."""
        return self._day

    def spent(self, agent: str) -> float:
        """What the agent's decisions of the day have cost at the worst."""
        return self._spent.get(agent, 0.0)

    def turn(self, now: datetime) -> None:
        """Begin a new day when it is one."""
        today = _day(now)
        if today > self._day:
            self._day = today
            self._spent.clear()

    def scale(self, agent: str, budget: float | None) -> float:
        """By what to multiply the agent's rates: 1 while enough is left, 0 when nothing is."""
        if budget is None:
            return 1.0
        if not budget > 0.0:
            return 0.0
        left = (budget - self.spent(agent)) / (_SHORT * budget)
        return 1.0 if left >= 1.0 else max(0, math.floor(left * _STEPS)) / _STEPS

    def spend(self, agent: str, budget: float | None, cost: float) -> bool:
        """Count a decision's cost; False, counting nothing, when the budget does not cover it."""
        total = self.spent(agent) + cost
        if budget is not None and cost > 0.0 and not total <= budget:
            return False
        self._spent[agent] = total
        return True


def _day(now: datetime) -> date:
    return now.astimezone(UTC).date()
