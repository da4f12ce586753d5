"""Which findings follow a known intervention, and so are no surprise.

Findings with one cause are judged together, lone ones each by itself: they follow an intervention of their scope that
happened when the change may have. What an operator noted explains whatever followed it: they know. What the store
derived (a lesson was approved, a new version or model was seen ...) explains a change for the better and one that
matters to nobody; where users fared worse after it, operators have to hear of it, with the intervention as the
suspected cause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl
import polars.selectors as cs

from pipelines.drift.metrics import metric
from pipelines.incidents.grouping import FINDINGS, Group, GroupingConfig, group
from store.drift import EXPLAINED
from store.errors import NotFound

__all__ = ["NO_HARM", "SUBJECT", "Settled", "settle", "worse"]

NO_HARM: Final = frozenset({"cost", "latency", "surprise"})
"""Means to an end: their rise is what a decision may cost, not harm to users."""
SUBJECT: Final = ("level", "user_id", "segment", "agent", "metric")
"""What names a finding of a run."""

_WIDEST: Final = timedelta(days=5)  # on either side of the likeliest time, however unsure it is
_REACTION: Final = timedelta(days=1)  # from an intervention to the first event that can tell of it
_ROUNDS: Final = 4


@dataclass(frozen=True)
class Settled:
    """Where each finding went: into one of `groups`, among the `lone` ones (columns of `grouping.FINDINGS`), or to what
    explains it. `explained` (columns `store.drift.EXPLAINED`) has every finding, null for those that nothing explains.
    """

    groups: list[Group]
    lone: pl.DataFrame
    explained: pl.DataFrame


@dataclass(frozen=True)
class _Known:
    intervention_id: str
    agent: str | None
    segment: str | None
    happened_at: datetime
    noted: bool


def worse(name: str, direction: str) -> bool:
    """Whether users fare worse when this metric moves `direction` (up, down)."""
    if name in NO_HARM:
        return False
    try:
        higher_is = metric(name).higher_is
    except NotFound:
        return True  # one that is not known any more: better said than hidden
    return (higher_is, direction) in (("better", "down"), ("worse", "up"))


def settle(
    findings: pl.DataFrame,
    scanned: pl.DataFrame,
    known: pl.DataFrame,
    agents_of: Mapping[str, frozenset[str]],
    config: GroupingConfig | None = None,
) -> Settled:
    """Group findings, and take out those that follow a known intervention.

    What is left of a group in which some are explained is grouped again: it may be too little for an incident.
    Args: `findings` that were flagged (columns `store.drift.FINDINGS`), `scanned` as `grouping.SCANNED`, `known` as
    `store.interventions.known`, `agents_of` the agents that a user had answers of.
    """
    interventions = [
        _Known(row["intervention_id"], row["agent"], row["segment"], row["happened_at"], row["origin"] == "noted")
        for row in known.iter_rows(named=True)
    ]
    rows = findings.select(list(FINDINGS)).with_columns(cs.float().fill_nan(None))
    told = [pl.DataFrame(schema=EXPLAINED)]
    groups, lone = group(rows, scanned, config)
    for _ in range(_ROUNDS):
        fresh = [_of_group(one, interventions, agents_of) for one in groups]
        if not any(part.height for part in fresh):
            break
        told += fresh
        left = rows.join(pl.concat(told), on=SUBJECT, how="anti", nulls_equal=True, maintain_order="left")
        groups, lone = group(left, scanned, config)
    alone = _of_each(lone, interventions, agents_of)
    told.append(alone)
    explained = rows.select(SUBJECT).join(
        pl.concat(told), on=SUBJECT, how="left", nulls_equal=True, maintain_order="left"
    )
    return Settled(
        groups, lone.join(alone, on=SUBJECT, how="anti", nulls_equal=True), explained.select(list(EXPLAINED))
    )


def _of_group(one: Group, interventions: Sequence[_Known], agents_of: Mapping[str, frozenset[str]]) -> pl.DataFrame:
    """The findings of a group that interventions explain (columns `EXPLAINED`)."""
    start, end = one.changed_from - _REACTION - _REACTION, one.changed_to + _REACTION
    near = [each for each in interventions if start <= each.happened_at <= end]
    rows = one.findings.with_columns(start=pl.lit(start), end=pl.lit(end), middle=pl.lit(one.changed_at))
    return _followed(rows, near, agents_of)


def _of_each(
    lone: pl.DataFrame, interventions: Sequence[_Known], agents_of: Mapping[str, frozenset[str]]
) -> pl.DataFrame:
    """The lone findings that interventions explain, each by its own times (columns `EXPLAINED`)."""
    at = pl.col("changed_at")
    timed = lone.filter(at.is_not_null()).with_columns(
        start=pl.max_horizontal(pl.col("changed_from").fill_null(at), at - _WIDEST) - _REACTION,
        end=pl.max_horizontal(pl.min_horizontal(pl.col("changed_to").fill_null(at), at + _WIDEST), at),
        middle=at,
    )
    return _followed(timed, interventions, agents_of)


def _followed(rows: pl.DataFrame, near: Sequence[_Known], agents_of: Mapping[str, frozenset[str]]) -> pl.DataFrame:
    """What each finding follows: of what happened from its `start` to its `end` the nearest to its `middle`, what
    operators noted first.
    """
    moved = rows.select("metric", up=pl.col("effect").fill_null(0.0) > 0.0)
    harms = {(name, up): worse(name, "up" if up else "down") for name, up in moved.unique().iter_rows()}
    told = rows.with_columns(
        harm=pl.Series([harms[row] for row in moved.iter_rows()], dtype=pl.Boolean),
        explained_by=pl.lit(None, pl.String),
        distance=pl.lit(None, pl.Duration("us")),
        said=pl.lit(False),
    )
    for one in sorted(near, key=lambda one: (not one.noted, one.intervention_id)):
        distance = (pl.lit(one.happened_at) - pl.col("middle")).abs()
        nearer = pl.col("explained_by").is_null() | ((pl.col("said") == one.noted) & (distance < pl.col("distance")))
        fits = nearer & pl.lit(one.happened_at).is_between("start", "end") & _concerned(one, agents_of)
        if not one.noted:
            fits &= ~pl.col("harm")
        told = told.with_columns(
            explained_by=pl.when(fits).then(pl.lit(one.intervention_id)).otherwise("explained_by"),
            distance=pl.when(fits).then(distance).otherwise("distance"),
            said=pl.when(fits).then(pl.lit(one.noted)).otherwise("said"),
        )
    return told.filter(pl.col("explained_by").is_not_null()).select(list(EXPLAINED))


def _concerned(one: _Known, agents_of: Mapping[str, frozenset[str]]) -> pl.Expr:
    """Which findings are in the scope of an intervention. One on a segment says nothing of everybody."""
    fits = pl.lit(True)
    if one.segment is not None:
        fits &= (pl.col("segment") == one.segment).fill_null(False)
    if one.agent is not None:
        users = [user for user, agents in agents_of.items() if one.agent in agents]
        unnamed = pl.when(pl.col("level") == "user").then(pl.col("user_id").is_in(users)).otherwise(pl.lit(True))
        fits &= pl.when(pl.col("agent").is_null()).then(unnamed).otherwise(pl.col("agent") == one.agent)
    return fits
