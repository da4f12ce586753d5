"""Which backups are kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Kept", "surplus"]


@dataclass(frozen=True)
class Kept:
    """One backup: `sound` unless verifying it failed."""

    backup_id: int
    made_at: datetime
    sound: bool


def surplus(backups: Iterable[Kept], *, daily: int, weekly: int) -> list[int]:
    """The ids of the backups that need not be kept, oldest first.

    Kept are the newest sound one of each of the newest `daily` days (at least 1) and `weekly` ISO weeks that have one,
    by UTC, however long ago they are: backups never go because none is made any more. One that is not sound goes when
    a newer sound one is there; until then the newest `daily` of them stay, for nobody can say what they are worth.
    """
    newest_first = sorted(backups, key=lambda one: (one.made_at, one.backup_id), reverse=True)
    sound = [one for one in newest_first if one.sound]
    days: dict[object, int] = {}
    weeks: dict[object, int] = {}
    for one in sound:
        days.setdefault(one.made_at.date(), one.backup_id)
        weeks.setdefault(one.made_at.isocalendar()[:2], one.backup_id)
    keep = {*list(days.values())[: max(daily, 1)], *list(weeks.values())[:weekly]}
    doubtful = [one for one in newest_first if not one.sound and (not sound or one.made_at >= sound[0].made_at)]
    keep |= {one.backup_id for one in doubtful[: max(daily, 1)]}
    return [one.backup_id for one in reversed(newest_first) if one.backup_id not in keep]
