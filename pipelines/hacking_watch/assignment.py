"""Which traces compare a candidate with a baseline, and with which weights.

Where the propensities of all arms were logged, each trace gets the overlap weight of its own decision (Li, Morgan &
Zaslavsky 2018, JASA 113:390): with p the probability of the candidate among the two, candidate traces count 1 - p and
baseline traces -p. Both sides then have the same mix of requests and users, and no weight exceeds 1. Without logged
propensities p is the candidate's share, and the comparison is of what was observed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

__all__ = ["OBSERVED", "RANDOMISED", "Comparison", "baseline", "compare", "with_probabilities"]

RANDOMISED: Final = "randomised"
OBSERVED: Final = "observed"
_ENOUGH_LOGGED: Final = 0.95  # of the compared traces must have usable propensities to count as randomised
_TOLERANCE: Final = 0.02  # by which the propensities of a decision may miss 1


@dataclass(frozen=True)
class Comparison:
    """Rows of both sides in order of time with `weight` (signed) and `overlap` p(1 - p); the basis; what was left out.

    `frame` has the columns trace_id, unit, at, weight, overlap.
    """

    frame: pl.DataFrame
    basis: str
    left_out: int


def baseline(traces: pl.DataFrame, axis: str) -> str | None:
    """The arm or version with the most traces, the earliest of equals; None with fewer than two of them."""
    counted = (
        traces.filter(pl.col(axis).is_not_null())
        .group_by(axis)
        .agg(n=pl.len(), first=pl.col("at").min())
        .sort("n", "first", axis, descending=[True, False, False])
    )
    return str(counted[axis][0]) if counted.height > 1 else None


def with_probabilities(traces: pl.DataFrame, axis: str) -> tuple[pl.DataFrame, int]:
    """One agent's traces with `p`: a struct of the probability of every arm or version; and how many are unusable.

    `traces` has trace_id, arm, version, propensities (a JSON object of probabilities by arm, null where not logged).
    Probabilities must lie from 0 to 1, sum to 1, and be above 0 for the arm that was run; others are unusable and
    treated as not logged. The probability of a version is the sum over its arms.
    """
    logged = traces.filter(pl.col("propensities").is_not_null())
    arms = sorted(traces["arm"].drop_nulls().unique().to_list())
    groups = _groups(traces, axis, arms)
    if logged.is_empty() or not arms or groups is None:
        return traces.with_columns(p=pl.lit(None, dtype=pl.Struct({})), usable=pl.lit(False)), 0
    shape = pl.Struct(dict.fromkeys(arms, pl.Float64))
    texts = logged.select("propensities").unique()
    read = _decoded(texts, shape)
    vectors = np.column_stack([read["p"].struct.field(arm).fill_null(0.0).to_numpy() for arm in arms])
    sane = (vectors >= 0.0).all(axis=1) & (np.abs(vectors.sum(axis=1) - 1.0) <= _TOLERANCE)
    summed = {
        group: pl.Series(vectors[:, [arms.index(arm) for arm in members]].sum(axis=1))
        for group, members in groups.items()
    }
    table = texts.with_columns(
        p=pl.DataFrame(summed).to_struct("p"), sane=pl.Series(sane), vector=pl.Series(vectors.tolist())
    )
    placed = pl.DataFrame({"arm": arms, "place": range(len(arms))}, schema={"arm": pl.String(), "place": pl.Int64()})
    joined = traces.join(table, on="propensities", how="left").join(placed, on="arm", how="left")
    own = pl.col("vector").list.get(pl.col("place"), null_on_oob=True)
    joined = joined.with_columns(usable=(pl.col("sane") & (own > 0.0)).fill_null(False)).drop("vector", "place", "sane")
    unusable = int((joined["propensities"].is_not_null() & ~joined["usable"]).sum())
    return joined, unusable


def compare(traces: pl.DataFrame, axis: str, candidate: str, against: str) -> Comparison:
    """The traces of candidate and baseline with their weights; `traces` as `with_probabilities` gives them."""
    both = traces.filter(pl.col(axis).is_in([candidate, against])).with_columns(
        candidate=(pl.col(axis) == candidate).cast(pl.Float64)
    )
    fields = both.schema["p"].to_schema() if isinstance(both.schema["p"], pl.Struct) else {}
    if candidate in fields and against in fields and int(both["usable"].sum()) >= _ENOUGH_LOGGED * both.height:
        first, second = (pl.col("p").struct.field(name) for name in (candidate, against))
        probability = first / (first + second)
        rows = both.filter("usable").with_columns(probability=probability)
        # Where only one of the two could have been run there is nothing to compare it with.
        kept = rows.filter(pl.col("probability").is_between(0.0, 1.0, closed="none"))
        basis = RANDOMISED
    else:
        kept = both.with_columns(probability=pl.lit(both["candidate"].mean()))
        basis = OBSERVED
    p = pl.col("probability")
    frame = kept.select("trace_id", "unit", "at", weight=pl.col("candidate") - p, overlap=p * (1.0 - p)).sort(
        "at", "trace_id"
    )
    return Comparison(frame, basis, both.height - kept.height)


def _groups(traces: pl.DataFrame, axis: str, arms: list[str]) -> dict[str, list[str]] | None:
    """The arms of each group; None where one arm stands for several versions, whose probabilities are then unknown."""
    if axis == "arm":
        return {arm: [arm] for arm in arms}
    pairs = traces.filter(pl.col("arm").is_not_null() & pl.col(axis).is_not_null()).select("arm", axis).unique()
    if pairs["arm"].n_unique() < pairs.height:
        return None
    groups: dict[str, list[str]] = {}
    for arm, group in pairs.sort(axis, "arm").iter_rows():
        groups.setdefault(group, []).append(arm)
    return groups or None


def _decoded(texts: pl.DataFrame, shape: pl.Struct) -> pl.DataFrame:
    """The texts read as `shape`; what is no such object becomes a struct of nulls."""
    try:
        return texts.with_columns(p=pl.col("propensities").str.json_decode(shape))
    except pl.exceptions.PolarsError:
        parts = []
        for text in texts.iter_slices(1):
            try:
                parts.append(text.with_columns(p=pl.col("propensities").str.json_decode(shape)))
            except pl.exceptions.PolarsError:
                parts.append(text.with_columns(p=pl.lit(None, dtype=shape)))
        return pl.concat(parts)
