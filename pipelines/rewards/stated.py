"""What people state against what they do: an operator's weight between them, applied to the evidence of each trace.

The evidence of a trace is a Gaussian in its natural parameters, precision x location and precision, which add over
independent signals. So the part of one side is the difference between the evidence of all signals and that of all but
these, and with the operator's weight w (0: only what people do, 1: only what they state, .5: both as they are)

    evidence = all - (1 - min(1, 2w)) stated - (1 - min(1, 2(1 - w))) revealed

Neither side is ever counted more than its own signals warrant. A weight is applied only where an agent's segment has
evidence of both sides; elsewhere there is nothing to weigh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = [
    "REVEALED_KINDS", "STATED_KINDS", "Evidence", "Scoped", "apply_again", "apply_weights", "scoped_weights",
    "weighted_rows",
]  # fmt: skip

Floats = NDArray[np.float64]

_ONE_SIDE = "only one side has evidence: the weight is not applied"
STATED_KINDS = ("thumb", "rating", "comment", "correction", "preference")
REVEALED_KINDS = ("impression", "click", "copy", "edit", "retry", "abandon", "purchase")


@dataclass(frozen=True)
class Evidence:
    """Location and precision of each trace's own evidence; precision 0 and location 0 where there is none."""

    location: Floats
    precision: Floats


@dataclass(frozen=True)
class Scoped:
    """The weight that was applied in one segment of one agent, with the traces on either side; `note` if it was not."""

    agent: str | None
    segment: str | None
    weight: float
    stated: int
    revealed: int
    note: str | None


def scoped_weights(settings: pl.DataFrame, agents: pl.Series, segments: pl.Series) -> Floats:
    """The weight that holds for each trace: its agent and segment's, else its agent's, its segment's, all; else .5."""
    found = pl.DataFrame({"agent": agents.cast(pl.String), "segment": segments.cast(pl.String)})
    found = found.with_columns(weight=pl.lit(0.5))
    weight = pl.col("weight")
    ranked = sorted(
        settings.iter_rows(named=True), key=lambda row: (row["agent"] is not None) * 2 + (row["segment"] is not None)
    )
    for row in ranked:
        here = pl.lit(True)
        for name in ("agent", "segment"):
            if row[name] is not None:
                here = here & pl.col(name).eq_missing(pl.lit(row[name]))
        weight = pl.when(here).then(pl.lit(float(row["weight"]))).otherwise(weight)
    return found.select(weight.cast(pl.Float64).alias("weight"))["weight"].to_numpy()


def apply_weights(
    whole: Evidence,
    weight: Floats,
    agents: pl.Series,
    segments: pl.Series,
    without: Callable[[tuple[str, ...]], Evidence],
) -> tuple[Evidence, list[Scoped]]:
    """Evidence with the operator's weights, and what was done in each segment that has one.

    Args: `without(kinds)` gives the evidence of all signals but those of some kinds; it is asked only for the sides
    that some weight takes down.
    """
    if np.all(weight == 0.5):
        return whole, []
    stated, revealed = _side(whole, without(STATED_KINDS)), _side(whole, without(REVEALED_KINDS))
    frame = pl.DataFrame(
        {
            "agent": agents.cast(pl.String), "segment": segments.cast(pl.String), "weight": weight,
            "stated": stated.precision > 0.0, "revealed": revealed.precision > 0.0,
        }
    )  # fmt: skip
    scopes = (
        frame.filter(pl.col("weight") != 0.5)
        .group_by("agent", "segment", "weight")
        .agg(pl.col("stated").sum(), pl.col("revealed").sum())
        .sort("agent", "segment")
    )
    done = [
        Scoped(**row, note=None if row["stated"] and row["revealed"] else _ONE_SIDE)
        for row in scopes.iter_rows(named=True)
    ]
    both = frame.select(((pl.col("stated").sum() > 0) & (pl.col("revealed").sum() > 0)).over("agent", "segment"))
    return _weighed(whole, stated, revealed, np.where(both.to_series().to_numpy(), weight, 0.5)), done


def apply_again(
    whole: Evidence,
    scopes: Sequence[Scoped],
    agents: pl.Series,
    segments: pl.Series,
    without: Callable[[tuple[str, ...]], Evidence],
) -> Evidence:
    """Evidence of other traces with the weights as an earlier `apply_weights` applied them.

    Whether a segment has evidence of both sides was decided there, on all traces, and holds for these as well. A
    segment that is not among the `scopes` has no weight until the next fit.
    """
    weight = _exact_weights(scopes, agents, segments)
    if np.all(weight == 0.5):
        return whole
    stated, revealed = _side(whole, without(STATED_KINDS)), _side(whole, without(REVEALED_KINDS))
    return _weighed(whole, stated, revealed, weight)


def weighted_rows(scopes: Sequence[Scoped], agents: pl.Series, segments: pl.Series) -> NDArray[np.bool_]:
    """Which traces have a weight other than .5 that was applied."""
    return np.asarray(_exact_weights(scopes, agents, segments) != 0.5)


def _exact_weights(scopes: Sequence[Scoped], agents: pl.Series, segments: pl.Series) -> Floats:
    """The weight that was applied to just this agent and just this segment, null for none; else .5."""
    applied = pl.DataFrame(
        [(one.agent, one.segment, one.weight) for one in scopes if one.note is None],
        schema={"agent": pl.String(), "segment": pl.String(), "weight": pl.Float64()},
        orient="row",
    )
    rows = pl.DataFrame({"agent": agents.cast(pl.String), "segment": segments.cast(pl.String)})
    found = rows.join(applied, on=["agent", "segment"], how="left", nulls_equal=True, maintain_order="left")
    return found["weight"].fill_null(0.5).to_numpy()


def _weighed(whole: Evidence, stated: Evidence, revealed: Evidence, weight: Floats) -> Evidence:
    less_stated = 1.0 - np.minimum(1.0, 2.0 * weight)
    less_revealed = 1.0 - np.minimum(1.0, 2.0 * (1.0 - weight))
    precision = whole.precision - less_stated * stated.precision - less_revealed * revealed.precision
    natural = (
        whole.precision * whole.location
        - less_stated * stated.precision * stated.location
        - less_revealed * revealed.precision * revealed.location
    )
    kept = precision > 1e-9
    return Evidence(np.where(kept, natural / np.where(kept, precision, 1.0), 0.0), np.where(kept, precision, 0.0))


def _side(whole: Evidence, rest: Evidence) -> Evidence:
    """The evidence that is in `whole` and not in `rest`."""
    precision = np.maximum(whole.precision - rest.precision, 0.0)
    natural = whole.precision * whole.location - rest.precision * rest.location
    kept = precision > 1e-9
    return Evidence(np.where(kept, natural / np.where(kept, precision, 1.0), 0.0), np.where(kept, precision, 0.0))
