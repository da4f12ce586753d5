"""How much of the error each comparison of a model with its baseline may spend.

The baseline stays, so later comparisons depend on earlier ones and there is no end to them. Comparison k may spend the
share ln(10.5) / ((k + 10) ln^2(k + 10)) of the error: these add up to less than 1 over all k, since the sum from 1 on
lies below the integral of 1 / (x ln^2 x) from 10.5 on. By the union bound a model that never changes is then ever
flagged with at most that error, whatever the dependence.
"""

import math

__all__ = ["looked_at", "penalty"]


def penalty(look: int) -> float:
    """By what the p-value of comparison `look` (from 1 on) is multiplied. Raises ValueError below 1."""
    if look < 1:
        raise ValueError(f"looks count from 1, not {look}")
    return (look + 10) * math.log(look + 10) ** 2 / math.log(10.5)


def looked_at(p: float, look: int) -> float:
    """The p-value of one comparison, made valid for all comparisons up to it."""
    return min(1.0, p * penalty(look))
