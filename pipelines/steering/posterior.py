"""The posterior of each arm's mean reward: of the agent, of its segments, of its users (METHODS 6).

Only traces with signals of their own count: the rewards of others are predictions that know nothing of the arm.

- Delay. A trace is young until `SETTLED` of the signals of its agent come, two weeks at most. Young traces
  are left out; where that would leave less than half of them they count by 1 / F(age), at most `MOST_YOUNG`, F being
  the share of signals that come by that age.
- Confounding. Where an arm has traces drawn at random with a logged propensity that weigh as much as `LEAST_DRAWN`
  independent ones, the agent's and the segments' means rest on those alone, weighted by 1 / propensity (at most
  `MOST_WEIGHT`); else on all traces as they are, and the basis says "observational".
- The agent's arms lean on their common mean as far as little is known of them (`_pooled`); an arm without any trace has
  that mean, and an sd that lets it be the best.
- Segments lean on the agent, users on their segment (`shrinkage`). A user has numbers of their own on all arms or on
  none: none where they would not change a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.steering.arm_means import Spreads, arm_means, spreads
from pipelines.steering.shrinkage import Spread, shrink, spread

__all__ = ["ROWS", "Posterior", "delay_weights", "posterior"]

Floats = NDArray[np.float64]

SETTLED = 0.95
LONGEST_YOUTH = 14 * 24.0  # hours
MOST_YOUNG = 5.0
MOST_WEIGHT = 100.0
LEAST_DRAWN = 30.0
LEAST_ARM_SD = 0.1  # between arms of an agent, as far as an arm without any trace is concerned
NOTHING_KNOWN = (0.5, 0.29)  # mean and sd of a reward about which nothing is known: uniform from 0 to 1
_TELLING = 0.05  # of the sd: what moves a user's arms less against each other changes no decision worth a row
_HOUR = 3_600_000_000

ROWS = pl.Schema(
    {
        "arm": pl.String(),
        "user_id": pl.String(),
        "segment": pl.String(),  # of the user
        "mean": pl.Float64(),
        "sd": pl.Float64(),
        "weight": pl.Float64(),  # by `delay_weights`
        "propensity": pl.Float64(),  # null: not drawn, or not logged
    }
)


@dataclass(frozen=True)
class Posterior:
    """Of one agent, Gaussian; arrays have its `arms` last. `sd` is what matters in comparing arms, see `shrinkage`.

    `basis` of each arm: randomised, observational, or prior. `users` are those of which something of their own is held.
    """

    arms: tuple[str, ...]
    mean: Floats
    sd: Floats
    n: NDArray[np.int64]
    basis: tuple[str, ...]
    segments: tuple[str, ...]
    segment_mean: Floats
    segment_sd: Floats
    users: tuple[str, ...]
    user_mean: Floats
    user_sd: Floats
    user_level_sd: Floats
    spread_of_segments: tuple[float, float]  # common and specific
    spread_of_users: tuple[float, float]
    young: int  # traces left out


def delay_weights(done_at: pl.Series, now: datetime, quantiles: Sequence[float] | None) -> Floats:
    """What each trace counts for its age, 0 for left out; 1 where its time or the delays are not known.

    `quantiles` of the delay in hours at even shares from 0 to 1.
    """
    if not quantiles or done_at.is_empty():
        return np.ones(len(done_at))
    hours = (pl.lit(now) - pl.col("done_at")).dt.total_microseconds() / _HOUR
    age = pl.DataFrame({"done_at": done_at}).select(hours.alias("age"))["age"].to_numpy().astype(np.float64)
    delays = np.asarray(quantiles, dtype=np.float64)
    shares = np.linspace(0.0, 1.0, delays.size)
    old = np.isnan(age) | (age >= min(np.interp(SETTLED, shares, delays), LONGEST_YOUTH))
    if old.mean() >= 0.5:
        return np.asarray(old, dtype=np.float64)
    # Equal delays: the largest share that has come by then.
    seen = np.append(0.0, shares)[np.searchsorted(delays, np.nan_to_num(age, nan=np.inf), side="right")]
    with np.errstate(divide="ignore"):
        weight = np.where(seen > 0.0, 1.0 / seen, MOST_YOUNG)
    return np.where(old, 1.0, np.minimum(weight, MOST_YOUNG))


def posterior(rows: pl.DataFrame, arms: Sequence[str], *, elsewhere: tuple[float, float] = NOTHING_KNOWN) -> Posterior:
    """The posterior of one agent's arms.

    Args: `rows` (columns ROWS), one a trace with signals; those of other arms than `arms` are left out; `elsewhere`
    mean and sd of a reward where the agent has no trace at all.
    """
    young = int((rows["weight"] <= 0.0).sum())
    known = (
        rows.filter(pl.col("arm").is_in(list(arms)) & (pl.col("weight") > 0.0))
        .with_row_index("row")
        .with_columns(
            cluster=pl.coalesce("u:" + pl.col("user_id"), "r:" + pl.col("row").cast(pl.String)),
            drawn=pl.col("propensity").is_between(0.0, 1.0, closed="right").fill_null(False),
        )
    )
    index = {arm: place for place, arm in enumerate(arms)}
    found = spreads(known)
    usable, drawn_arms = _comparable(known)
    seen, variance, n = _table(arm_means(usable, ["arm"], found), [], index)
    mean, sd = _pooled(seen[0], variance[0], elsewhere)
    basis = tuple(
        "prior" if not n[0, place] else "randomised" if arm in drawn_arms else "observational"
        for arm, place in index.items()
    )
    segments = known["segment"].drop_nulls().unique().sort().to_list()
    segment_mean, segment_sd, segment_spread = _segments(usable, segments, index, found, mean, sd)
    users = known.filter(pl.col("user_id").is_not_null())
    held = _users(users, segments, index, found, (mean, sd), (segment_mean, segment_sd))
    return Posterior(
        tuple(arms), mean, sd, n[0], basis, tuple(segments), segment_mean, segment_sd, *held[:4],
        segment_spread.mean if segment_spread else (0.0, 0.0), held[4], young,
    )  # fmt: skip


def _comparable(known: pl.DataFrame) -> tuple[pl.DataFrame, set[str]]:
    """The traces whose mean is compared between arms, with their weight; and the arms for which they were drawn."""
    drawn = known.filter("drawn").with_columns(
        weight=pl.col("weight") * (1.0 / pl.col("propensity")).clip(upper_bound=MOST_WEIGHT)
    )
    size = drawn.group_by("arm").agg(size=pl.col("weight").sum() ** 2 / (pl.col("weight") ** 2).sum())
    enough = set(size.filter(pl.col("size") >= LEAST_DRAWN)["arm"].to_list())
    rest = known.filter(~pl.col("arm").is_in(list(enough)))
    usable = pl.concat([drawn.filter(pl.col("arm").is_in(list(enough))), rest]).with_columns(randomised=pl.col("drawn"))
    return usable, enough


def _pooled(seen: Floats, variance: Floats, elsewhere: tuple[float, float]) -> tuple[Floats, Floats]:
    """Means and sds of the arms, (arms,): each its own data with the agent's arms as a weak prior.

    The prior's sd is the spread between arms (DerSimonian & Laird 1986, the estimator of moments) and at least
    LEAST_ARM_SD, with the error of the prior's mean; so an arm with hundreds of traces hardly moves.
    """
    there = np.isfinite(variance)
    if not there.any():
        return np.full(seen.size, elsewhere[0]), np.full(seen.size, elsewhere[1])
    y, v = seen[there], variance[there]
    weight = 1.0 / v
    heterogeneity = weight @ (y - weight @ y / weight.sum()) ** 2 - (y.size - 1)
    scale = weight.sum() - (weight @ weight) / weight.sum()
    between = max(heterogeneity / scale, LEAST_ARM_SD**2) if y.size > 1 else LEAST_ARM_SD**2
    among = 1.0 / (v + between)
    centre = float(among @ y / among.sum())
    prior = between + 1.0 / float(among.sum())
    precision = 1.0 / prior + np.where(there, 1.0 / np.where(there, variance, 1.0), 0.0)
    pull = centre / prior + np.where(there, seen / np.where(there, variance, 1.0), 0.0)
    return pull / precision, np.sqrt(1.0 / precision)


def _segments(
    usable: pl.DataFrame, segments: Sequence[str], index: Mapping[str, int], found: Spreads, mean: Floats, sd: Floats
) -> tuple[Floats, Floats, Spread | None]:
    """Means and sds of the arms in each segment, (segments, arms), and the spread between segments."""
    if not segments:
        return np.empty((0, len(index))), np.empty((0, len(index))), None
    stated = usable.filter(pl.col("segment").is_not_null())
    own, variance, _ = _table(arm_means(stated, ["segment", "arm"], found), segments, index)
    between = spread(own - mean, variance)
    held = shrink(own, variance, mean, sd, between)
    return held.mean, held.sd, between


def _users(
    known: pl.DataFrame,
    segments: Sequence[str],
    index: Mapping[str, int],
    found: Spreads,
    agent: tuple[Floats, Floats],
    segment: tuple[Floats, Floats],
) -> tuple[tuple[str, ...], Floats, Floats, Floats, tuple[float, float]]:
    """Users with numbers of their own, those numbers (users, arms) as in `Posterior`, and the spread between users."""
    width = len(index)
    if known.is_empty():
        return (), np.empty((0, width)), np.empty((0, width)), np.empty((0, width)), (0.0, 0.0)
    people = known.group_by("user_id").agg(pl.col("segment").drop_nulls().first()).sort("user_id")
    cells = known.group_by("user_id", "arm").agg(
        mean=pl.col("mean").mean(), variance=pl.lit(found.within) / pl.len(), n=pl.len().cast(pl.Int64)
    )
    own, variance, _ = _table(cells, people["user_id"].to_list(), index, key="user_id")
    place = {name: code for code, name in enumerate(segments)}
    code = (
        people["segment"].replace_strict(place, default=len(segments), return_dtype=pl.Int64).fill_null(len(segments))
    )
    centre = np.vstack([segment[0], agent[0]])[code.to_numpy()]
    centre_sd = np.vstack([segment[1], agent[1]])[code.to_numpy()]
    between = spread(own - centre, variance)
    held = shrink(own, variance, centre, centre_sd, between)
    moved = held.mean - centre
    moved -= moved.mean(axis=1, keepdims=True)
    tells = (np.abs(moved) > _TELLING * centre_sd).any(axis=1)
    tells |= (np.abs(held.sd / centre_sd - 1.0) > _TELLING).any(axis=1)
    return (
        tuple(people["user_id"].filter(pl.Series(tells)).to_list()),
        held.mean[tells], held.sd[tells], held.level_sd[tells], between.mean,
    )  # fmt: skip


def _table(
    cells: pl.DataFrame, groups: Sequence[str], index: Mapping[str, int], *, key: str = "segment"
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Means, variances (inf for none) and counts as (groups, arms); a single row where cells are of the whole agent."""
    shape = (len(groups) if groups else 1, len(index))
    mean, variance = np.zeros(shape), np.full(shape, np.inf)
    n = np.zeros(shape, dtype=np.int64)
    if cells.is_empty():
        return mean, variance, n
    column = cells["arm"].replace_strict(dict(index), return_dtype=pl.Int64).to_numpy()
    if groups:
        places = pl.DataFrame({key: list(groups), "place": np.arange(len(groups))})
        row = cells.select(key).join(places, on=key, how="left", maintain_order="left")["place"].to_numpy()
    else:
        row = np.zeros(cells.height, dtype=np.int64)
    mean[row, column], variance[row, column] = cells["mean"].to_numpy(), cells["variance"].to_numpy()
    n[row, column] = cells["n"].to_numpy()
    return mean, variance, n
