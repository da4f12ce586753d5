"""What a response to drift would touch, counted: decisions a day, lessons served, lists and statements of a user."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from store.connection import Store
from store.preferences import STATED_GOAL

__all__ = ["DAYS", "Traffic", "agents_with_arms", "lesson_traffic", "preference_evidence", "traffic"]

DAYS: Final = 14
"""Over so many days back decisions are counted."""

_WHOSE: Final = """decided_at >= $since AND ($agent IS NULL OR agent = $agent)
    AND ($user IS NULL OR user_id = $user) AND ($segment IS NULL OR segment = $segment)"""


@dataclass(frozen=True)
class Traffic:
    """`decisions` of the last `DAYS` days, of `users` users."""

    decisions: int
    users: int

    @property
    def a_day(self) -> float:
        """Decisions a day."""
        return self.decisions / DAYS


def traffic(store: Store, *, agent: str | None, user_id: str | None, segment: str | None) -> Traffic:
    """The decisions of an agent, a user or a segment; None stands for all."""
    params = {"since": _since(store), "agent": agent, "user": user_id, "segment": segment}
    with store.read() as reader:
        row = reader.frame(
            f"SELECT count(*) AS decisions, count(DISTINCT user_id) AS users FROM decisions WHERE {_WHOSE}",
            pl.Schema({"decisions": pl.Int64(), "users": pl.Int64()}),
            params,
        ).row(0)
    return Traffic(*row)


def lesson_traffic(store: Store, lesson_id: str, segment: str) -> tuple[int, int]:
    """Decisions of the last `DAYS` days that were served a lesson: of a segment, and in all."""
    with store.read() as reader:
        row = reader.frame(
            """SELECT count(*) FILTER (d.segment = $segment) AS own, count(*) AS everybody
            FROM exposures AS e JOIN decisions AS d USING (decision_id)
            WHERE e.status = 'served' AND e.lesson_id = $lesson AND e.decided_at >= $since""",
            pl.Schema({"own": pl.Int64(), "everybody": pl.Int64()}),
            {"since": _since(store), "lesson": lesson_id, "segment": segment},
        ).row(0)
    return int(row[0]), int(row[1])


def preference_evidence(store: Store, user_id: str, since: datetime) -> dict[str, int]:
    """How many lists and statements a user's preferences rest on, from before and from after a time."""
    with store.read() as reader:
        return reader.frame(
            """WITH lists AS (
                SELECT DISTINCT t.trace_id, t.seen_at AS moment
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id)
                WHERE s.kind = 'impression' AND coalesce(t.user_id, s.user_id) = $user
            ), stated AS (
                SELECT occurred_at AS moment FROM signals
                WHERE kind = 'preference' AND name = $name AND user_id = $user AND isfinite(value))
            SELECT (SELECT count(*) FROM lists WHERE moment < $since) AS lists_before,
                (SELECT count(*) FROM lists WHERE moment >= $since) AS lists_after,
                (SELECT count(*) FROM stated WHERE moment < $since) AS statements_before,
                (SELECT count(*) FROM stated WHERE moment >= $since) AS statements_after""",
            pl.Schema(
                dict.fromkeys(("lists_before", "lists_after", "statements_before", "statements_after"), pl.Int64())
            ),
            {"user": user_id, "name": STATED_GOAL, "since": since},
        ).row(0, named=True)


def agents_with_arms(store: Store, *, user_id: str | None = None, segment: str | None = None) -> list[str]:
    """The agents with two or more enabled arms that a user (a segment) had traces or decisions of, the most first."""
    with store.read() as reader:
        found = reader.frame(
            """WITH used AS (
                SELECT agent, count(*) AS n FROM traces WHERE user_id = $user AND agent IS NOT NULL GROUP BY agent
                UNION ALL
                SELECT agent, count(*) FROM decisions WHERE user_id = $user OR segment = $segment GROUP BY agent)
            SELECT agent, sum(n)::BIGINT AS n FROM used
            SEMI JOIN (SELECT agent FROM arms WHERE state = 'enabled' GROUP BY agent HAVING count(*) > 1) USING (agent)
            GROUP BY agent ORDER BY n DESC, agent""",
            pl.Schema({"agent": pl.String(), "n": pl.Int64()}),
            {"user": user_id, "segment": segment},
        )
    return found["agent"].to_list()


def _since(store: Store) -> datetime:
    return store.clock.now() - timedelta(days=DAYS)
