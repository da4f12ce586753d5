"""Routes of notices: where they go beside the page, which ones, and when. What a route has to be: `notice_route.py`."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, Reader, declare
from store.notice_route import ACTION, Email, QuietHours, Route, Webhook, checked, require

__all__ = ["HeldRoute", "add", "change", "held", "listed", "remove", "switch"]

_MOST_ROUTES: Final = 20
_COLUMNS: Final = (
    "route_id, name, channel, target, kinds, least_severity, quiet_from, quiet_to, quiet_zone, critical_passes, "
    "group_minutes, enabled, since"
)
_SCHEMA: Final = declare(
    {
        "route_id": pl.Int64, "name": pl.String, "channel": pl.String, "target": pl.String, "kinds": pl.String,
        "least_severity": pl.String, "quiet_from": pl.String, "quiet_to": pl.String, "quiet_zone": pl.String,
        "critical_passes": pl.Boolean, "group_minutes": pl.Int64, "enabled": pl.Boolean, "since": UTC_TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class HeldRoute:
    """A route as it is kept; notices posted before `since` are not sent."""

    route_id: int
    route: Route
    enabled: bool
    since: datetime


def add(store: Store, route: Route, *, operator: str) -> int:
    """Keep a new route, which sends what is posted from now on; returns its id. Raises: `ActionRefused`."""
    audit.person(ACTION, operator)
    route = checked(route)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        rows = connection.execute(
            "SELECT coalesce(max(route_id), 0) + 1, count(*) FILTER (removed_at IS NULL) FROM notice_routes"
        ).fetchall()
        route_id, held_already = rows[0]
        require(held_already < _MOST_ROUTES, f"there are {held_already} routes", "Remove one first.")
        _other_name(connection, route.name, int(route_id))
        now = store.clock.now()
        connection.execute(
            """INSERT INTO notice_routes VALUES ($route, $name, $channel, $target, $kinds, $least_severity, $quiet_from,
                $quiet_to, $quiet_zone, $critical_passes, $group_minutes, true, $now, $operator, $now, NULL)""",
            {**_values(route), "route": route_id, "now": now, "operator": operator},
        )
        audit.append(connection, now, operator, "notice route add", f"notice route {route_id}", _detail(route))
        return int(route_id)

    return store.write(work)


def change(store: Store, route_id: int, route: Route, *, operator: str) -> None:
    """Set a route up differently. Raises: `NotFound`, `ActionRefused`."""
    audit.person(ACTION, operator)
    route = checked(route)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        before = _held(connection, route_id)
        _other_name(connection, route.name, route_id)
        now = store.clock.now()
        values = _values(route)
        assignments = ", ".join(f"{column} = ${column}" for column in values)
        connection.execute(
            f"""UPDATE notice_routes SET {assignments}, changed_by = $operator, changed_at = $now
            WHERE route_id = $route""",
            {**values, "operator": operator, "now": now, "route": route_id},
        )
        detail = {"before": _detail(before.route), "after": _detail(route)}
        audit.append(connection, now, operator, "notice route change", f"notice route {route_id}", detail)

    store.write(work)


def switch(store: Store, route_id: int, *, enabled: bool, operator: str) -> None:
    """Stop or resume a route; what was posted meanwhile is not sent. Raises: `NotFound`."""
    audit.person(ACTION, operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        before = _held(connection, route_id)
        now = store.clock.now()
        since = ", since = $now" if enabled else ""
        connection.execute(
            f"""UPDATE notice_routes SET enabled = $enabled, changed_by = $operator, changed_at = $now{since}
            WHERE route_id = $route""",
            {"enabled": enabled, "operator": operator, "now": now, "route": route_id},
        )
        action = "notice route resume" if enabled else "notice route stop"
        detail = {"before": {"enabled": before.enabled}, "after": {"enabled": enabled}}
        audit.append(connection, now, operator, action, f"notice route {route_id}", detail)

    store.write(work)


def remove(store: Store, route_id: int, *, operator: str) -> None:
    """Remove a route; what it delivered stays listed. Raises: `NotFound`."""
    audit.person("Remove the route", operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        before = _held(connection, route_id)
        now = store.clock.now()
        connection.execute(
            "UPDATE notice_routes SET removed_at = $now, enabled = false WHERE route_id = $route",
            {"now": now, "route": route_id},
        )
        detail = {"before": _detail(before.route)}
        audit.append(connection, now, operator, "notice route remove", f"notice route {route_id}", detail)

    store.write(work)


def held(store: Store, route_id: int) -> HeldRoute:
    """One route. Raises: `NotFound`."""
    for one in listed(store):
        if one.route_id == route_id:
            return one
    raise NotFound("notice route", str(route_id))


def listed(store: Store) -> list[HeldRoute]:
    """Every route that was not removed, by name."""
    with store.read() as reader:
        return within(reader)


def within(reader: Reader) -> list[HeldRoute]:
    """As `listed`, of a snapshot."""
    frame = reader.frame(f"SELECT {_COLUMNS} FROM notice_routes WHERE removed_at IS NULL ORDER BY name", _SCHEMA)
    return [_route(row) for row in frame.iter_rows(named=True)]


def _route(row: dict[str, Any]) -> HeldRoute:
    stated = json.loads(row["target"])
    target: Webhook | Email
    if row["channel"] == "webhook":
        target = Webhook(**stated)
    else:
        target = Email(**{**stated, "recipients": tuple(stated["recipients"])})
    quiet = None
    if row["quiet_from"] is not None:
        quiet = QuietHours(row["quiet_from"], row["quiet_to"], row["quiet_zone"])
    route = Route(
        row["name"], target, tuple(json.loads(row["kinds"])), row["least_severity"], quiet, row["critical_passes"],
        row["group_minutes"],
    )  # fmt: skip
    return HeldRoute(row["route_id"], route, row["enabled"], row["since"])


def _values(route: Route) -> dict[str, object]:
    """The columns that an operator decides."""
    return {
        "name": route.name,
        "channel": "webhook" if isinstance(route.target, Webhook) else "email",
        "target": json.dumps(asdict(route.target), sort_keys=True),
        "kinds": json.dumps(list(route.kinds)),
        "least_severity": route.least_severity,
        "quiet_from": route.quiet and route.quiet.start,
        "quiet_to": route.quiet and route.quiet.end,
        "quiet_zone": route.quiet and route.quiet.zone,
        "critical_passes": route.critical_passes,
        "group_minutes": route.group_minutes,
    }


def _detail(route: Route) -> dict[str, object]:
    """What the audit log keeps: of a webhook's address only the host, as its path may be a secret."""
    detail = asdict(route)
    if isinstance(route.target, Webhook) and route.target.url is not None:
        parts = urlsplit(route.target.url)
        detail["target"]["url"] = f"{parts.scheme}://{parts.netloc}/…"
    return detail


def _held(connection: duckdb.DuckDBPyConnection, route_id: int) -> HeldRoute:
    for one in within(Reader(connection, None)):
        if one.route_id == route_id:
            return one
    raise NotFound("notice route", str(route_id))


def _other_name(connection: duckdb.DuckDBPyConnection, name: str, route_id: int) -> None:
    taken = connection.execute(
        "SELECT 1 FROM notice_routes WHERE name = $name AND route_id <> $route AND removed_at IS NULL",
        {"name": name, "route": route_id},
    ).fetchall()
    require(not taken, f"there is a route {name!r} already", "Choose another name.")
