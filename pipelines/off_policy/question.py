"""Asking the log of one agent: the decisions read once, then any number of what-ifs."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from pipelines.off_policy import what_if
from pipelines.off_policy.estimate import Estimates, evaluate
from pipelines.off_policy.logged import Prepared, prepare
from pipelines.off_policy.targets import Target, words
from pipelines.stats.contract import FitRefused
from store import logged_decisions
from store.connection import Store

__all__ = ["Answer", "Log", "ask", "read"]


@dataclass(frozen=True)
class Log:
    """What one agent's log has for a period.

    `prepared` is None, with the reason in `refused`, when nothing in it can be used. `draws` counts all, `dropped`
    those left out by reason (`store.logged_decisions.REASONS`); outcomes count as settled after `settled`.
    """

    agent: str
    since: datetime | None
    until: datetime | None
    draws: int
    dropped: dict[str, int]
    settled: timedelta
    prepared: Prepared | None
    refused: FitRefused | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that was open to some decision."""
        return self.prepared.choices.arms if self.prepared else ()

    @property
    def segments(self) -> tuple[str, ...]:
        """Every segment of some decision."""
        return self.prepared.choices.segments if self.prepared else ()

    def only_segment(self, segment: str) -> "Log":
        """The decisions of one segment; what was left out stays counted for all."""
        if self.prepared is None:
            return self
        at = self.segments.index(segment) if segment in self.segments else -2
        own = self.prepared.only(self.prepared.choices.segment == at)
        nothing = FitRefused("off-policy estimate", "no_rows", f"there is no usable decision in the segment {segment}.")
        return Log(
            self.agent, self.since, self.until, self.draws, self.dropped, self.settled, own if len(own) else None,
            None if len(own) else nothing,
        )  # fmt: skip

    def ask(self, target: Target, *, alpha: float = 0.05, where_possible: bool = False) -> "Answer":
        """What `target` would have earned, for everyone and by segment."""
        if self.prepared is None:
            refused = self.refused
            key, why = (refused.reason, refused.detail) if refused else ("no_rows", "there is no usable decision.")
            overall = Estimates(
                words(target), "refused", key, why[:1].upper() + why[1:], alpha, 0, dropped=self.dropped
            )
            return Answer(self, overall, pl.DataFrame(schema=what_if.CHANGES))
        overall = evaluate(self.prepared, target, alpha=alpha, dropped=self.dropped, where_possible=where_possible)
        by_segment = what_if.segments(
            self.prepared, target, alpha=alpha, dropped=self.dropped, where_possible=where_possible
        )
        return Answer(self, overall, by_segment)


@dataclass(frozen=True)
class Answer:
    """`overall` for everyone; `segments` (columns `pipelines.off_policy.what_if.CHANGES`) hold together at alpha."""

    log: Log
    overall: Estimates
    segments: pl.DataFrame


def read(
    store: Store,
    agent: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    segment: str | None = None,
    timeout: float | None = None,
) -> Log:
    """The usable decisions of an agent in a period, with the outcome model fitted. Raises: `QueryTimeout`."""
    settled = logged_decisions.outcome_delay(store, agent, timeout=timeout)
    logged = logged_decisions.read(store, agent, since, until, settled=settled, timeout=timeout)
    dropped = logged_decisions.dropped(logged)
    prepared, refused = None, None
    try:
        prepared = prepare(logged_decisions.usable(logged))
    except FitRefused as error:
        refused = error
    log = Log(agent, since, until, logged.height, dropped, settled, prepared, refused)
    return log if segment is None else log.only_segment(segment)


def ask(
    store: Store,
    agent: str,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    segment: str | None = None,
    alpha: float = 0.05,
    where_possible: bool = False,
    timeout: float | None = None,
) -> Answer:
    """What `target` would have earned on an agent's decisions of a period; for several questions `read` once.

    Raises: `QueryTimeout`.
    """
    log = read(store, agent, since=since, until=until, segment=segment, timeout=timeout)
    return log.ask(target, alpha=alpha, where_possible=where_possible)
