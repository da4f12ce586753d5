"""What counts as lasting payoff, as a good and a bad trace, and how training data is divided."""

from dataclasses import dataclass
from typing import Final

from store.errors import SettingsError

__all__ = ["LEAST", "ExportConfig", "LastingConfig"]

LEAST: Final = 10
"""Examples without which the API takes no training file."""


@dataclass(frozen=True)
class LastingConfig:
    """Every run of the payoffs must have said better, for so many days and in so many runs, the newest included."""

    days: float = 14.0
    runs: int = 3

    def __post_init__(self) -> None:
        if not (self.days >= 0 and self.runs >= 1):
            raise SettingsError("graduation days, runs", (self.days, self.runs), "days ≥ 0 and runs ≥ 1")


@dataclass(frozen=True)
class ExportConfig:
    """Rewards from `high` on are good and up to `low` bad, and the standard deviation is `sure` at most; so many
    examples of one task and in all; the share of tasks that validate; tokens of the longest example; whether users
    must have agreed (`stated`), or only not have opted out."""

    high: float = 0.75
    low: float = 0.4
    sure: float = 0.3
    per_task: int = 20
    most: int = 2_000
    validation: float = 0.1
    longest: int = 32_000
    stated: bool = False

    def __post_init__(self) -> None:
        sound = 0 <= self.low < self.high <= 1 and self.sure > 0 and self.per_task >= 1 and self.most >= 1
        if not (sound and 0 <= self.validation < 1 and self.longest >= 1):
            raise SettingsError("graduation export", self, "0 ≤ low < high ≤ 1, counts ≥ 1 and 0 ≤ validation < 1")
