"""Deliveries of notices: which message goes to which route, how often that was tried, and what came of it.

An attempt is counted before it is made and its outcome kept after. Who is killed between the two leaves a delivery
`sending`, which is tried again under the same id: better an alert twice than never, and the id, which goes along, lets
the other side drop the repeat. Without a kill a notice goes to a route once per opening.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import duckdb
import polars as pl

from store import audit, notices
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.notices import NOTICES

__all__ = [
    "DELIVERIES", "PAST", "PENDING", "UNDER_WAY", "Ending", "begin_attempt", "begin_test", "carried", "end_attempt",
    "has_any", "pending", "plan", "recent", "remove_past", "under_way", "withdraw",
]  # fmt: skip

State = Literal["waiting", "sending", "delivered", "given up", "withdrawn"]

PENDING: Final = declare(
    {"route_id": pl.Int64, "notice_id": pl.Int64, "kind": pl.String, "severity": pl.String, "posted_at": UTC_TIME}
)
UNDER_WAY: Final = declare(
    {
        "delivery_id": pl.String, "route_id": pl.Int64, "state": pl.String, "attempts": pl.Int64, "next_at": UTC_TIME,
        "severity": pl.Int64, "still_open": pl.Int64,
    }
)  # fmt: skip
DELIVERIES: Final = declare(
    {
        "delivery_id": pl.String, "route_id": pl.Int64, "route": pl.String, "planned_at": UTC_TIME, "state": pl.String,
        "attempts": pl.Int64, "next_at": UTC_TIME, "attempted_at": UTC_TIME, "ended_at": UTC_TIME,
        "outcome": pl.String, "test_by": pl.String, "notices": pl.Int64,
    }
)  # fmt: skip

PAST: Final = """SELECT n.notice_id::VARCHAR AS id, '*' AS source, n.closed_at AS at FROM notices AS n
    WHERE n.closed_at IS NOT NULL AND n.notice_id < (SELECT max(notice_id) FROM notices)
        AND n.notice_id NOT IN (SELECT d.notice_id FROM notices_delivered AS d JOIN notice_deliveries AS v
            USING (delivery_id) WHERE v.ended_at IS NULL)
    UNION ALL SELECT delivery_id, '*', coalesce(ended_at, planned_at)
    FROM notice_deliveries WHERE test_by IS NOT NULL"""
"""What is over, since when: closed notices that no message has still to carry, and tests of routes.

The newest notice stays, so that its number is not given a second time.
"""

_GRAVITY: Final = "CASE n.severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END"
_OWN_KEY: Final = "notice route "


@dataclass(frozen=True)
class Ending:
    """What came of an attempt: `outcome` in words; when it is tried again, None for never."""

    delivered: bool
    outcome: str
    next_at: datetime | None = None


def pending(store: Store) -> pl.DataFrame:
    """Open notices that an enabled route was not given yet, oldest first (columns `PENDING`).

    A route is not told that it fails itself.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT r.route_id, n.notice_id, n.kind, n.severity, n.posted_at
            FROM notice_routes AS r JOIN notices AS n ON n.posted_at >= r.since AND n.closed_at IS NULL
                AND n.notice_key <> '{_OWN_KEY}' || r.route_id
            ANTI JOIN notices_delivered AS d ON d.route_id = r.route_id AND d.notice_id = n.notice_id
            WHERE r.enabled AND r.removed_at IS NULL ORDER BY r.route_id, n.posted_at, n.notice_id""",
            PENDING,
        )


def under_way(store: Store) -> pl.DataFrame:
    """Deliveries that have not ended, of enabled routes, oldest first (columns `UNDER_WAY`).

    `severity` is the gravest of its notices (0 info to 2 critical), `still_open` how many of them are open.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT v.delivery_id, v.route_id, v.state, v.attempts, v.next_at, max({_GRAVITY}) AS severity,
                count(*) FILTER (n.notice_id IS NOT NULL AND n.closed_at IS NULL) AS still_open
            FROM notice_deliveries AS v JOIN notice_routes AS r USING (route_id)
                LEFT JOIN notices_delivered AS d USING (delivery_id) LEFT JOIN notices AS n USING (notice_id)
            WHERE v.state IN ('waiting', 'sending') AND v.test_by IS NULL AND r.enabled AND r.removed_at IS NULL
            GROUP BY ALL ORDER BY min(v.planned_at), v.delivery_id""",
            UNDER_WAY,
        )


def has_any(store: Store) -> bool:
    """Whether any route is enabled: without one nothing is to be delivered."""
    with store.read() as reader:
        return bool(reader.value("SELECT count(*) FROM notice_routes WHERE enabled AND removed_at IS NULL"))


def plan(store: Store, route_id: int, notice_ids: Sequence[int]) -> str | None:
    """Put notices into one message to a route; returns its id, None when the route has had all of them."""

    def work(connection: duckdb.DuckDBPyConnection) -> str | None:
        given = {
            int(row[0])
            for row in connection.execute(
                "SELECT notice_id FROM notices_delivered WHERE route_id = $route", {"route": route_id}
            ).fetchall()
        }
        fresh = [notice_id for notice_id in notice_ids if notice_id not in given]
        if not fresh:
            return None
        delivery_id, now = uuid.uuid4().hex, store.clock.now()
        connection.execute(
            """INSERT INTO notice_deliveries
            VALUES ($delivery, $route, $now, 'waiting', 0, $now, NULL, NULL, NULL, NULL)""",
            {"delivery": delivery_id, "route": route_id, "now": now},
        )
        connection.executemany(
            "INSERT INTO notices_delivered VALUES ($delivery, $route, $notice)",
            [{"delivery": delivery_id, "route": route_id, "notice": notice_id} for notice_id in fresh],
        )
        return delivery_id

    return store.write(work)


def begin_attempt(store: Store, delivery_id: str) -> int:
    """Count an attempt that is about to be made; returns its number. On disk when this returns."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        connection.execute(
            """UPDATE notice_deliveries SET state = 'sending', attempts = attempts + 1, attempted_at = $now
            WHERE delivery_id = $delivery""",
            {"now": store.clock.now(), "delivery": delivery_id},
        )
        rows = connection.execute(
            "SELECT attempts FROM notice_deliveries WHERE delivery_id = $delivery", {"delivery": delivery_id}
        ).fetchall()
        if not rows:
            raise NotFound("delivery", delivery_id)
        return int(rows[0][0])

    return store.write(work)


def begin_test(store: Store, route_id: int, *, operator: str) -> str:
    """Count a message by which an operator tests a route; returns its id. Raises: `NotFound`, `ActionRefused`."""
    audit.person("Test the route", operator)

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        rows = connection.execute(
            "SELECT 1 FROM notice_routes WHERE route_id = $route AND removed_at IS NULL", {"route": route_id}
        ).fetchall()
        if not rows:
            raise NotFound("notice route", str(route_id))
        delivery_id, now = uuid.uuid4().hex, store.clock.now()
        connection.execute(
            """INSERT INTO notice_deliveries
            VALUES ($delivery, $route, $now, 'sending', 1, NULL, $now, NULL, NULL, $operator)""",
            {"delivery": delivery_id, "route": route_id, "now": now, "operator": operator},
        )
        audit.append(
            connection, now, operator, "notice route test", f"notice route {route_id}", {"delivery": delivery_id}
        )
        return delivery_id

    return store.write(work)


def end_attempt(store: Store, delivery_id: str, ending: Ending) -> None:
    """Keep what came of an attempt. A route that gives up is a notice itself, until it delivers again."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        state: State = "delivered" if ending.delivered else "given up" if ending.next_at is None else "waiting"
        connection.execute(
            """UPDATE notice_deliveries SET state = $state, outcome = $outcome, next_at = $next, ended_at = $ended
            WHERE delivery_id = $delivery""",
            {
                "state": state, "outcome": ending.outcome, "next": ending.next_at,
                "ended": None if state == "waiting" else now, "delivery": delivery_id,
            },
        )  # fmt: skip
        rows = connection.execute(
            """SELECT r.route_id, r.name, v.attempts, v.test_by FROM notice_deliveries AS v
            JOIN notice_routes AS r USING (route_id) WHERE v.delivery_id = $delivery""",
            {"delivery": delivery_id},
        ).fetchall()
        if not rows:
            return
        route_id, name, attempts, test_by = rows[0]
        if ending.delivered:
            notices.close(connection, now, f"{_OWN_KEY}{route_id}")
        elif state == "given up" and test_by is None:
            notices.post(
                connection, now, kind="notices", key=f"{_OWN_KEY}{route_id}", severity="warning",
                title=f"Notices do not reach {name}",
                text=f"Given up after {attempts} attempts. The last one: {ending.outcome}",
                page="settings", query={"settings": "Notices"},
            )  # fmt: skip

    store.write(work)


def withdraw(store: Store, delivery_id: str) -> None:
    """End a delivery whose notices are all closed."""
    store.write(
        lambda connection: connection.execute(
            """UPDATE notice_deliveries SET state = 'withdrawn', next_at = NULL, ended_at = $now,
                outcome = coalesce(outcome || ' ', '') || 'Everything in it was over before it could be delivered.'
            WHERE delivery_id = $delivery""",
            {"now": store.clock.now(), "delivery": delivery_id},
        )
    )


def remove_past(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> None:
    """Delete these of `PAST`, and the messages of which nothing is left. Call inside a transaction."""
    given = {"ids": list(ids)}
    for table in ("notices_delivered", "notices"):
        connection.execute(f"DELETE FROM {table} WHERE notice_id::VARCHAR IN (SELECT unnest($ids::VARCHAR[]))", given)
    connection.execute(
        """DELETE FROM notice_deliveries WHERE CASE WHEN test_by IS NOT NULL
            THEN delivery_id IN (SELECT unnest($ids::VARCHAR[]))
            ELSE ended_at IS NOT NULL AND delivery_id NOT IN (SELECT delivery_id FROM notices_delivered) END""",
        given,
    )


def carried(store: Store, delivery_id: str) -> pl.DataFrame:
    """The notices in a message, the gravest first, then the oldest (columns `notices.NOTICES`)."""
    columns = ", ".join(f"n.{column}" for column in NOTICES.names())
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {columns} FROM notices_delivered AS d JOIN notices AS n USING (notice_id)
            WHERE d.delivery_id = $delivery ORDER BY {_GRAVITY} DESC, n.posted_at, n.notice_id""",
            NOTICES,
            {"delivery": delivery_id},
        )


def recent(store: Store, *, limit: int = 50) -> pl.DataFrame:
    """The latest deliveries, newest first (columns `DELIVERIES`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT v.delivery_id, v.route_id, r.name AS route, v.planned_at, v.state, v.attempts, v.next_at,
                v.attempted_at, v.ended_at, v.outcome, v.test_by, count(d.notice_id) AS notices
            FROM notice_deliveries AS v LEFT JOIN notice_routes AS r USING (route_id)
                LEFT JOIN notices_delivered AS d USING (delivery_id)
            GROUP BY ALL ORDER BY v.planned_at DESC, v.delivery_id LIMIT $limit""",
            DELIVERIES,
            {"limit": limit},
        )
