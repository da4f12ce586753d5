"""Which arm, model or prompt is preferred: Bradley-Terry strengths from pairs, with rank intervals and verdicts.

Pairs are comparisons that people made, and pairs of traces of one task that ran on different arms: the one with the
higher reward wins, a difference of less than .02 is a tie. Of a user's own traces of a task pairs are made first, then
of different users'; each trace is used once, so that pairs are independent but for the user (clustered errors).
"""

from typing import Any, Final, Literal

import numpy as np
import polars as pl

from pipelines.stats import bradley_terry
from pipelines.stats.contract import FitRefused
from pipelines.stats.proportion import Interval, verdict
from store.preferences import RANKINGS as RANKED

__all__ = ["MARGIN", "MINIMUM_COMPARISONS", "PAIRS", "RANKED", "pairs_of_rewards", "rank"]

MINIMUM_COMPARISONS: Final = 30  # of an item, before anything is said of it
MARGIN: Final = 0.2  # logits: a loss of 5 points of the chance to win does not matter
_TIE: Final = 0.02
_MOST_GROUPS: Final = 500

PAIRS = pl.Schema(
    {
        "agent": pl.String(), "axis": pl.String(), "basis": pl.String(), "winner": pl.String(), "loser": pl.String(),
        "tie": pl.Boolean(), "user_id": pl.String(),
    }
)  # fmt: skip


def pairs_of_rewards(
    rewarded: pl.DataFrame, axis: Literal["arm", "model"], random: np.random.Generator
) -> pl.DataFrame:
    """Pairs of traces of one task under different arms or models (PAIRS), from `store.preferences.REWARDED`."""
    known = rewarded.filter(pl.col(axis).is_not_null() & pl.col("mean").is_finite())
    shuffled = known.with_columns(order=pl.Series(random.permutation(known.height))).sort("order").drop("order")
    own = _paired(shuffled, ["agent", "task", "user_id"], axis)
    used = pl.concat([own.select(pl.col("first").alias("trace_id")), own.select(pl.col("second").alias("trace_id"))])
    rest = _paired(shuffled.join(used, on="trace_id", how="anti", maintain_order="left"), ["agent", "task"], axis)
    both = pl.concat([own, rest])
    first_wins = pl.col("first_mean") >= pl.col("second_mean")
    return both.select(
        "agent",
        axis=pl.lit(axis),
        basis=pl.lit("rewards"),
        winner=pl.when(first_wins).then("first_item").otherwise("second_item"),
        loser=pl.when(first_wins).then("second_item").otherwise("first_item"),
        tie=(pl.col("first_mean") - pl.col("second_mean")).abs() < _TIE,
        user_id="user_id",
    ).cast(PAIRS)


def rank(pairs: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Strengths, ranks and verdicts of every group of agent, axis and basis (RANKED); `pairs` of columns PAIRS."""
    rows: list[dict[str, Any]] = []
    groups = pairs.group_by("agent", "axis", "basis", maintain_order=True)
    for count, ((agent, axis, basis), group) in enumerate(groups):
        if count == _MOST_GROUPS:
            break
        shared = {"agent": agent, "axis": axis, "basis": basis}
        rows.extend({**shared, **row} for row in _rank_group(group, random))
    return pl.DataFrame(rows, schema=RANKED, orient="row")


def _paired(frame: pl.DataFrame, stratum: list[str], axis: str) -> pl.DataFrame:
    """Neighbours of each stratum, each row used once, that differ in `axis`.

    Rows of the rarer items are spread among the others by sorting on their place within the item.
    """
    item = pl.col(axis)
    placed = (
        frame.drop_nulls([name for name in stratum if name == "user_id"])
        .with_columns(turn=pl.int_range(pl.len()).over(*stratum, axis), size=pl.len().over(*stratum, axis))
        .with_columns(at=(pl.col("turn") + 0.5) / pl.col("size"))
        .sort(*stratum, "at", maintain_order=True, nulls_last=True)
        .with_columns(place=pl.int_range(pl.len()).over(*stratum))
    )
    following = {
        "second": pl.col("trace_id"), "second_item": item, "second_mean": pl.col("mean")
    }  # fmt: skip
    paired = placed.with_columns(**{name: value.shift(-1).over(*stratum) for name, value in following.items()}).filter(
        (pl.col("place") % 2 == 0) & pl.col("second").is_not_null() & (pl.col("second_item") != item)
    )
    return paired.select(
        "agent", "user_id", "second", "second_item", "second_mean",
        first="trace_id", first_item=axis, first_mean="mean",
    )  # fmt: skip


def _rank_group(group: pl.DataFrame, random: np.random.Generator) -> list[dict[str, Any]]:
    items = sorted(set(group["winner"]) | set(group["loser"]))
    code = {item: place for place, item in enumerate(items)}
    first = np.array([code[item] for item in group["winner"]], dtype=np.int64)
    second = np.array([code[item] for item in group["loser"]], dtype=np.int64)
    # A comparison by nobody known is a cluster of its own.
    users = np.unique(_people(group), return_inverse=True)[1].astype(np.int64)
    counts = np.bincount(np.concatenate([first, second]), minlength=len(items))
    people = [len(np.unique(users[(first == place) | (second == place)])) for place in range(len(items))]
    rows: list[dict[str, Any]] = [
        {"item": item, "component": 0, "comparisons": int(counts[place]), "users": people[place]}
        for place, item in enumerate(items)
    ]
    try:
        fit = bradley_terry.fit(
            first, second, np.where(group["tie"].to_numpy(), 0.5, 1.0), items=len(items), users=users
        )
    except FitRefused as refused:
        for row in rows:
            row["reason"] = refused.detail
        return rows
    for component in sorted({int(value) for value in fit.component if value >= 0}):
        members = np.flatnonzero(fit.component == component).tolist()
        for place in members:
            rows[place]["component"] = component
        if len(members) < 2:
            rows[members[0]]["reason"] = "its wins and losses do not connect it with anything else"
            continue
        _describe(fit, component, members, rows, random)
    return rows


def _people(group: pl.DataFrame) -> list[str]:
    return [user if user is not None else f"\x00{place}" for place, user in enumerate(group["user_id"].to_list())]


def _describe(
    fit: bradley_terry.Strengths,
    component: int,
    members: list[int],
    rows: list[dict[str, Any]],
    random: np.random.Generator,
) -> None:
    """Fill in strength, ranks, difference to the reference and verdict of the items of one component."""
    reference = max(members, key=lambda place: (rows[place]["comparisons"], -place))
    ranks = bradley_terry.ranks(fit, component, random)
    for at, place in enumerate(ranks.items.tolist()):
        rows[place] |= {
            "strength": float(fit.strength[place]),
            "rank_lower": int(ranks.lower[at]),
            "rank_upper": int(ranks.upper[at]),
            "best": float(ranks.at_most[at, 0]),
            "reference": rows[reference]["item"],
        }
    for place in members:
        row = rows[place]
        if row["comparisons"] < MINIMUM_COMPARISONS:
            row["reason"] = f"{row['comparisons']} of {MINIMUM_COMPARISONS} comparisons"
        elif place == reference:
            row["reason"] = "the others are compared with it"
        else:
            gap = bradley_terry.difference(fit, place, reference)
            interval = Interval(gap.estimate, gap.lower, gap.upper)
            row |= {
                "difference": gap.estimate,
                "difference_lower": gap.lower,
                "difference_upper": gap.upper,
                "verdict": verdict(interval, margin=MARGIN, higher_is_better=True),
            }
