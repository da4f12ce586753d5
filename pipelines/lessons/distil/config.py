"""When lessons are the same, unused, or without effect."""

from dataclasses import dataclass

from store.errors import SettingsError

__all__ = ["DistilConfig"]


@dataclass(frozen=True)
class DistilConfig:
    """Thresholds of distillation.

    `duplicate`: cosine from which two lessons are one. `conflict`: cosine of conditions from which opposite orders are
    a conflict. `unused_weeks`: how long a served lesson may match no request; `least_decisions`: of its agent in that
    time, without which nothing can be said. `enough_decisions`: after which a lesson whose effect is below
    `least_effect` (reward points, by the upper end of its anytime-valid interval) is without effect.
    """

    duplicate: float = 0.9
    conflict: float = 0.5
    unused_weeks: int = 4
    least_decisions: int = 100
    enough_decisions: int = 2_000
    least_effect: float = 0.02

    def __post_init__(self) -> None:
        if not (0.0 < self.duplicate <= 1.0 and 0.0 < self.conflict <= 1.0):
            raise SettingsError("distil duplicate, conflict", (self.duplicate, self.conflict), "cosines above 0, to 1")
        if min(self.unused_weeks, self.least_decisions, self.enough_decisions) < 1:
            numbers = (self.unused_weeks, self.least_decisions, self.enough_decisions)
            raise SettingsError("distil weeks and decisions", numbers, "whole numbers from 1")
