"""Which incident a group of findings belongs to: the one it was seen as before, a resolved one that is back, or none.

A change stays in the data for as long as the scans look back, so run after run finds it again. A group is what an
incident was where their scopes agree, the times of the change overlap and a metric is the same. A resolved incident is
back when one of its metrics moves the same way again later, or when the same change has come to hit twice the share of
users that it hit when it was resolved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pipelines.incidents.grouping import Group

__all__ = ["Held", "Match", "match"]

Kind = Literal["new", "seen", "back"]

NEAR: Final = timedelta(days=3)
BACK_WITHIN: Final = timedelta(days=60)
_GREW: Final = 2.0


@dataclass(frozen=True)
class Held:
    """An incident as it is kept; `directions` of its metrics (up, down, mixed)."""

    incident_id: str
    agent: str | None
    segment: str | None
    changed_at: datetime
    changed_from: datetime
    changed_to: datetime
    users: int
    scanned: int
    state: str
    resolved_at: datetime | None
    last_seen_at: datetime
    directions: Mapping[str, str]


@dataclass(frozen=True)
class Match:
    """What a group is: `incident_id` None for a new incident."""

    kind: Kind
    incident_id: str | None


def match(groups: Sequence[Group], held: Sequence[Held]) -> list[Match]:
    """What each group is; no incident belongs to two groups, the nearest in time having it."""
    wanted = sorted(
        (_distance(group, incident), place, incident.incident_id)
        for place, group in enumerate(groups)
        for incident in held
        if _same(group, incident)
    )
    taken: dict[int, str] = {}
    for _, place, incident_id in wanted:
        if place not in taken and incident_id not in taken.values():
            taken[place] = incident_id
    known = {incident.incident_id: incident for incident in held}
    found: list[Match] = []
    for place, group in enumerate(groups):
        if place in taken:
            incident = known[taken[place]]
            grew = incident.state == "resolved" and _share(group.users, group.scanned) > _GREW * max(
                _share(incident.users, incident.scanned), 1e-9
            )
            found.append(Match("back" if grew and group.users else "seen", incident.incident_id))
            continue
        again = next((one for one in held if one.incident_id not in taken.values() and _again(group, one)), None)
        if again is not None:
            taken[place] = again.incident_id
        found.append(Match("new", None) if again is None else Match("back", again.incident_id))
    return found


def _scope(group: Group, incident: Held) -> bool:
    """Whether the scopes agree; one that names no segment or agent is the wider one of the same."""
    segment = group.segment == incident.segment or group.segment is None or incident.segment is None
    return segment and (group.agent == incident.agent or group.agent is None or incident.agent is None)


def _same(group: Group, incident: Held) -> bool:
    overlap = group.changed_from <= incident.changed_to + NEAR and incident.changed_from <= group.changed_to + NEAR
    return overlap and _scope(group, incident) and not set(group.metrics).isdisjoint(incident.directions)


def _again(group: Group, incident: Held) -> bool:
    if incident.state != "resolved" or incident.resolved_at is None or not _scope(group, incident):
        return False
    if not incident.resolved_at < group.changed_at <= incident.resolved_at + BACK_WITHIN:
        return False
    moved = dict(group.moved.select("metric", "direction").iter_rows())
    return any(incident.directions.get(metric) == direction for metric, direction in moved.items())


def _distance(group: Group, incident: Held) -> timedelta:
    return abs(group.changed_at - incident.changed_at)


def _share(users: int, scanned: int) -> float:
    return users / scanned if scanned else 0.0
