"""Which findings of drift belong together: those of many users at one time are one incident (METHODS §7, point 4).

A finding covers the times at which its change may have happened. The time that most of what is left covers is a cause
in common where everybody or a segment as a whole moved, or more than `share` of the users of a segment that were
scanned. Its findings are all of that scope that cover the time, or changed about as near to it as those that do. What
is then left is looked at again; findings in no group are lone ones. Every finding is in one group or lone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.incidents.timeline import moved
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.frames import UTC_TIME, declare

__all__ = ["FINDINGS", "SCANNED", "Group", "GroupingConfig", "group"]

FINDINGS: Final = declare(
    {
        "level": pl.String, "user_id": pl.String, "segment": pl.String, "agent": pl.String, "metric": pl.String,
        "changed_at": UTC_TIME, "changed_from": UTC_TIME, "changed_to": UTC_TIME, "before_mean": pl.Float64,
        "before_n": pl.Int64, "after_mean": pl.Float64, "after_n": pl.Int64, "effect": pl.Float64,
        "effect_sd": pl.Float64, "q_value": pl.Float64,
    }
)  # fmt: skip
SCANNED: Final = pl.Schema({"segment": pl.String(), "users": pl.Int64()})

_MOST_GROUPS: Final = 50
_LEAST_SCANNED: Final = 20  # users of a segment that says something by not being hit
_DEVIATIONS: Final = 4.0  # of the times of a group that still belong to it
_WIDEST_REACH: Final = 14.0  # days
# Those that cover one moment lie closer together than all that belong to it.
_WIDENINGS: Final = 3
_DAY: Final = 86_400.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class GroupingConfig:
    """`share` of the scanned users of a segment, and at least `least_users`, make an incident.

    `widest_days`: a finding covers at most so many days on either side of its likeliest change, and at least
    `least_days`; changes `near_days` apart are the same one.
    """

    share: float = 0.05
    least_users: int = 5
    widest_days: float = 5.0
    least_days: float = 1.0
    near_days: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise SettingsError("incident share", self.share, "a share between 0 and 1")
        if self.least_users < 1 or not 0.0 < self.least_days <= self.widest_days or self.near_days <= 0.0:
            raise SettingsError("incident grouping", self, "at least 1 user, and days above 0 in ascending order")


@dataclass(frozen=True)
class Group:
    """Findings with one cause. `segments` are those hit, () for everybody; `segment` is the one, None for several.

    `changed_at` is when the first metric moved, with quartiles over its findings; `moved` (columns
    `store.incidents.MOVED`) says what moved; `users` were flagged of `scanned` in this scope.
    """

    agent: str | None
    segments: tuple[str, ...]
    changed_at: datetime
    changed_from: datetime
    changed_to: datetime
    users: int
    scanned: int
    findings: pl.DataFrame
    moved: pl.DataFrame

    @property
    def segment(self) -> str | None:
        """The segment that was hit, None for several and for everybody."""
        return self.segments[0] if len(self.segments) == 1 else None

    @property
    def metrics(self) -> list[str]:
        """What moved, the first one first."""
        return self.moved["metric"].to_list()


@dataclass(frozen=True)
class _Rows:
    """Findings as arrays, one entry each; times in days since 1970."""

    frame: pl.DataFrame
    at: Floats
    start: Floats
    end: Floats
    user: NDArray[np.int64]  # -1: of a segment or everybody
    segment: NDArray[np.int64]  # -1: none
    names: Sequence[str]
    population: Bools
    scanned: Floats  # by segment, the last entry: of no segment


def group(
    findings: pl.DataFrame, scanned: pl.DataFrame, config: GroupingConfig | None = None
) -> tuple[list[Group], pl.DataFrame]:
    """The groups, the largest first, and the lone findings (columns `FINDINGS`, one row each).

    Args: `findings` that were flagged and that nothing explains (columns `FINDINGS`); `scanned` users by segment, null
    for those without one (columns `SCANNED`). Raises: `ContractError` for a wrong frame.
    """
    config = config or GroupingConfig()
    findings = require(findings.select(list(FINDINGS)), FINDINGS, "findings", not_null=["level", "metric"])
    undated = findings.filter(pl.col("changed_at").is_null())
    rows = _rows(findings.filter(pl.col("changed_at").is_not_null()), scanned, config)
    free = np.ones(len(rows.at), dtype=np.bool_)
    found: list[tuple[tuple[str, ...], Bools]] = []
    while free.any() and len(found) < _MOST_GROUPS:
        moment = _moment(rows, free, config)
        if moment is None:
            break
        segments = _hit(rows, free, moment, config)
        members = _members(rows, free, moment, segments, config)
        found.append((segments, members))
        free &= ~members
    merged = _merged(rows, found, config)
    groups = [_described(rows, segments, members) for segments, members in merged]
    groups.sort(key=lambda one: (-one.users, -one.findings.height, one.changed_at))
    return groups, pl.concat([rows.frame.filter(free), undated])


def _rows(frame: pl.DataFrame, scanned: pl.DataFrame, config: GroupingConfig) -> _Rows:
    at = frame["changed_at"].dt.epoch("us").to_numpy() / 1e6 / _DAY
    start = frame["changed_from"].fill_null(frame["changed_at"]).dt.epoch("us").to_numpy() / 1e6 / _DAY
    end = frame["changed_to"].fill_null(frame["changed_at"]).dt.epoch("us").to_numpy() / 1e6 / _DAY
    names = sorted({*frame["segment"].drop_nulls(), *scanned["segment"].drop_nulls()})
    place = {name: index for index, name in enumerate(names)}
    by_user = (frame["level"] == "user").to_numpy()
    user = np.where(by_user, frame["user_id"].rank("dense").fill_null(0).cast(pl.Int64).to_numpy(), -1)
    counted = np.zeros(len(names) + 1)
    for name, users in scanned.select(list(SCANNED)).iter_rows():
        counted[place[name] if name is not None else -1] += users
    return _Rows(
        frame=frame, at=at,
        start=np.clip(start, at - config.widest_days, at - config.least_days),
        end=np.clip(end, at + config.least_days, at + config.widest_days),
        user=user.astype(np.int64),
        segment=np.array([place.get(name, -1) for name in frame["segment"]], dtype=np.int64),
        names=names, population=(frame["level"] == "population").to_numpy(), scanned=counted,
    )  # fmt: skip


def _moment(rows: _Rows, free: Bools, config: GroupingConfig) -> float | None:
    """The time that most of what is left covers, None where nothing in common is left."""
    wide = free & (rows.user < 0)
    if wide.any():
        return _peak(rows, wide)
    best, most = None, 0
    for code in [None, *np.unique(rows.segment[free]).tolist()]:
        within = free if code is None else free & (rows.segment == code)
        counted = rows.scanned.sum() if code is None else rows.scanned[code]
        moment = _peak(rows, within)
        users = len(np.unique(rows.user[within & _covers(rows, moment)]))
        if users >= config.least_users and users > config.share * counted and users > most:
            best, most = moment, users
    return best


def _covers(rows: _Rows, moment: float) -> Bools:
    return np.asarray((rows.start <= moment) & (rows.end >= moment))


def _peak(rows: _Rows, within: Bools) -> float:
    """The middle of the time that most of these findings cover, every user counting once in all."""
    _, place, times = np.unique(rows.user[within], return_inverse=True, return_counts=True)
    weight = np.where(rows.user[within] < 0, 1.0, 1.0 / times[place])
    moments = np.concatenate([rows.start[within], rows.end[within]])
    steps = np.concatenate([weight, -weight])
    order = np.lexsort((-steps, moments))  # what begins counts before what ends at the same time
    height = np.cumsum(steps[order])
    best = int(np.argmax(height > height.max() - 1e-9))
    following = moments[order][min(best + 1, len(order) - 1)]
    return float((moments[order][best] + following) / 2.0)


def _hit(rows: _Rows, free: Bools, moment: float, config: GroupingConfig) -> tuple[str, ...]:
    """The segments that were hit, () for everybody."""
    there = free & _covers(rows, moment)
    hit = {int(code) for code in np.unique(rows.segment[there & (rows.user < 0) & (rows.segment >= 0)])}
    for code in np.unique(rows.segment[there & (rows.user >= 0)]).tolist():
        users = len(np.unique(rows.user[there & (rows.segment == code) & (rows.user >= 0)]))
        if code >= 0 and users >= config.least_users and users > config.share * rows.scanned[code]:
            hit.add(code)
    known = {int(code) for code in np.flatnonzero(rows.scanned[:-1] >= _LEAST_SCANNED)} | hit
    everybody = not hit or len(known) == 1 or len(hit) > len(known) / 2
    return () if everybody else tuple(rows.names[code] for code in sorted(hit))


def _members(rows: _Rows, free: Bools, moment: float, segments: tuple[str, ...], config: GroupingConfig) -> Bools:
    """The findings of the scope that cover the moment, or changed as near to it as four of their deviations."""
    scope = free.copy()
    if segments:
        codes = [rows.names.index(name) for name in segments]
        scope &= np.isin(rows.segment, codes) | rows.population
    covering = scope & _covers(rows, moment)
    members = covering
    for _ in range(_WIDENINGS):
        middle = float(np.median(rows.at[members]))
        deviation = 1.4826 * float(np.median(np.abs(rows.at[members] - middle)))
        reach = min(max(config.near_days, _DEVIATIONS * deviation), _WIDEST_REACH)
        members = covering | (scope & (np.abs(rows.at - middle) <= reach))
    return members


def _merged(
    rows: _Rows, found: Sequence[tuple[tuple[str, ...], Bools]], config: GroupingConfig
) -> list[tuple[tuple[str, ...], Bools]]:
    """Groups of the same scope whose middles are near each other as one."""
    merged: list[tuple[tuple[str, ...], Bools]] = []
    for segments, members in sorted(found, key=lambda one: float(np.median(rows.at[one[1]]))):
        near = next(
            (
                place for place, (others, held) in enumerate(merged)
                if others == segments
                and abs(float(np.median(rows.at[members])) - float(np.median(rows.at[held]))) <= config.near_days
            ),
            None,
        )  # fmt: skip
        if near is None:
            merged.append((segments, members))
        else:
            merged[near] = (segments, merged[near][1] | members)
    return merged


def _described(rows: _Rows, segments: tuple[str, ...], members: Bools) -> Group:
    frame = rows.frame.filter(members)
    agents = frame["agent"].drop_nulls().unique().to_list()
    told = moved(frame)
    codes = [rows.names.index(name) for name in segments]
    first: Mapping[str, datetime] = told.row(0, named=True)
    return Group(
        agent=agents[0] if len(agents) == 1 else None,
        segments=segments,
        changed_at=first["moved_at"],
        changed_from=min(first["moved_from"], first["moved_at"]),
        changed_to=max(first["moved_to"], first["moved_at"]),
        users=frame["user_id"].drop_nulls().n_unique(),
        scanned=int(rows.scanned[codes].sum() if segments else rows.scanned.sum()),
        findings=frame,
        moved=told,
    )
