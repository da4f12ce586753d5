"""What can be asked of the simulated deployment; everything else is fixed and reported in its truth."""

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta

from store.errors import SettingsError

__all__ = ["SimulationConfig"]

_RANGES: dict[str, tuple[float, float]] = {
    "users": (20, 1_000_000),
    "days": (7, 730),
    "traces": (100, 5_000_000),
    "seed": (0, 2**63 - 1),
    "exploration_rate": (0.0, 1.0),
    "solicitation_rate": (0.0, 0.5),
    "judge_rate": (0.0, 1.0),
    "swap_rate": (0.0, 0.9),
    "drift_share": (0.0, 0.25),
    "contradiction_share": (0.0, 0.25),
    "dislike_share": (0.0, 0.5),
    "opt_out_share": (0.0, 0.5),
    "injections": (1, 20),
}


@dataclass(frozen=True)
class SimulationConfig:
    """Size, period and shares of a simulated deployment. Raises SettingsError for a value out of range.

    users                 people who use the agents
    days                  length of the period; its last day is `end`
    traces                requests answered, over all agents
    seed                  the same seed gives the same files, byte for byte
    end                   last day of the period, whole and in UTC
    exploration_rate      share of randomised decisions drawn uniformly from all arms
    solicitation_rate     probability with which a trace's user is asked for a thumb
    judge_rate            probability with which a trace is labelled by the judge model
    swap_rate             probability with which the first item of a list changes places with a random other one
    drift_share           share of users whose preferences or satisfaction change on a known day
    contradiction_share   share of users whose stated goals contradict their behaviour
    dislike_share         share of users who strongly dislike exploratory decisions
    opt_out_share         share of users who opted out of exploration
    injections            traces whose user message attempts a prompt injection
    model_change_day      0-based day on which one model silently changes; two thirds into the period when None
    """

    users: int = 400
    days: int = 28
    traces: int = 4000
    seed: int = 7
    end: date = date(2026, 11, 20)
    exploration_rate: float = 0.2
    solicitation_rate: float = 0.02
    judge_rate: float = 0.1
    swap_rate: float = 0.2
    drift_share: float = 0.05
    contradiction_share: float = 0.08
    dislike_share: float = 0.15
    opt_out_share: float = 0.03
    injections: int = 2
    model_change_day: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _RANGES:
                self._require(field.name, whole=field.type is int)
        if not isinstance(self.end, date) or isinstance(self.end, datetime):
            raise SettingsError("end", self.end, "a date, such as 2026-11-20")
        if not date(1971, 1, 1) <= self.end - timedelta(days=self.days) or self.end > date(2169, 12, 31):
            raise SettingsError("end", self.end, "a date that keeps the period between 1971 and 2169")
        if self.traces < self.users:
            raise SettingsError("traces", self.traces, f"at least one per user ({self.users})")
        change = self.model_change_day
        if change is not None and not (
            isinstance(change, int) and not isinstance(change, bool) and 1 <= change < self.days
        ):
            raise SettingsError("model_change_day", change, f"a whole number from 1 to {self.days - 1}, or None")

    def _require(self, name: str, *, whole: bool) -> None:
        value = getattr(self, name)
        low, high = _RANGES[name]
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            noun = "a whole number" if whole else "a number"
            raise SettingsError(name, value, f"{noun} from {low:g} to {high:g}")

    @property
    def start(self) -> datetime:
        """First moment of the period, UTC."""
        return datetime.combine(self.end - timedelta(days=self.days - 1), time(), UTC)

    @property
    def until(self) -> datetime:
        """First moment after the period, UTC: what happens from then on is not in the files."""
        return self.start + timedelta(days=self.days)

    @property
    def change_day(self) -> int:
        """0-based day on which one model silently changes."""
        return round(self.days * 0.68) if self.model_change_day is None else self.model_change_day

    @property
    def deployment_day(self) -> int:
        """0-based day on which the support desk's new prompt replaces the old one: a known intervention."""
        return round(self.days * 0.4)
