"""Sessions and the arm each was given, so that a session keeps its arm whatever policy comes meanwhile."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

__all__ = ["CAPACITY", "LIFETIME_SECONDS", "Assignment", "Sessions"]

CAPACITY = 200_000
LIFETIME_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """How a unit got its arm: what every further decision of its session repeats."""

    policy_version: int
    unit: str
    draw: float
    arm: str
    greedy_arm: str
    propensity: float
    arms: tuple[str, ...]  # the eligible set
    propensities: tuple[float, ...]
    rate: float
    allowed_rate: float
    budget_scale: float
    expected_regret: float
    worst_regret: float
    off_policy: bool

    @property
    def explore(self) -> bool:
        """Whether it left the greedy arm."""
        return self.arm != self.greedy_arm


class Sessions:
    """The sessions seen last: at most `capacity`, forgotten `lifetime` seconds after their last decision.

    A session that was forgotten is drawn again. Its draw is the same, so under the same policy its arm is as well.
    """

    def __init__(
        self,
        capacity: int = CAPACITY,
        lifetime: float = LIFETIME_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is monotonic, in seconds: changes of the time of day end no session."""
        self._capacity, self._lifetime, self._clock = capacity, lifetime, clock
        self._held: OrderedDict[tuple[str, str], tuple[float, Assignment]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, agent: str, session_id: str) -> Assignment | None:
        """The assignment of a session, which counts as used now; None for a new or forgotten one."""
        key = (agent, session_id)
        entry = self._held.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now - entry[0] > self._lifetime:
            del self._held[key]
            return None
        self._held[key] = (now, entry[1])
        self._held.move_to_end(key)
        return entry[1]

    def put(self, agent: str, session_id: str, assignment: Assignment) -> None:
        """Remember a session's assignment in place of an earlier one."""
        self._keep((agent, session_id), self._clock(), assignment)

    def restore(self, frame: pl.DataFrame, now: datetime) -> None:
        """Take up sessions of an earlier process (columns `store.decisions.SESSIONS`, oldest first) at time `now`."""
        present = self._clock()
        tuples: dict[tuple[object, ...], tuple[object, ...]] = {}
        for row in frame.drop("explore").iter_rows(named=True):
            agent, session_id, decided_at = row.pop("agent"), row.pop("session_id"), row.pop("decided_at")
            for name in ("arms", "propensities"):
                values = tuple(row[name])
                row[name] = tuples.setdefault(values, values)  # a few different ones among very many
            age = max(0.0, (now - decided_at).total_seconds())
            self._keep((agent, session_id), present - age, Assignment(**row))

    def _keep(self, key: tuple[str, str], moment: float, assignment: Assignment) -> None:
        self._held[key] = (moment, assignment)
        self._held.move_to_end(key)
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)
