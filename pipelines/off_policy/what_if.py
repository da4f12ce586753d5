"""What another policy would have changed, for everyone and for each segment, on the same decisions.

The change is the mean of DR's pseudo-outcome minus the reward as it was, decision by decision, so that what both
policies share cancels. Segments are several looks at once: each of K has its limits at α/K.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from pipelines.off_policy import targets
from pipelines.off_policy.estimate import Estimates, evaluate
from pipelines.off_policy.logged import Prepared
from pipelines.off_policy.targets import Target

__all__ = ["CHANGES", "MOST_SEGMENTS", "compare", "every_arm", "row", "segments"]

MOST_SEGMENTS = 20

CHANGES = pl.Schema(
    {
        "target": pl.String(),
        "segment": pl.String(),  # null: everyone
        "decisions": pl.Int64(),
        "ess": pl.Float64(),
        "max_weight_share": pl.Float64(),
        "verdict": pl.String(),  # ok, collecting, refused
        "reason": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "logged_value": pl.Float64(),
        "gain": pl.Float64(),
        "gain_lower": pl.Float64(),
        "gain_upper": pl.Float64(),
    }
)


def segments(
    prepared: Prepared,
    target: Target,
    *,
    alpha: float = 0.05,
    dropped: Mapping[str, int] | None = None,
    where_possible: bool = False,
) -> pl.DataFrame:
    """One row a segment (columns CHANGES), most decisions first; the MOST_SEGMENTS largest, at alpha over their number.

    Arguments as `pipelines.off_policy.estimate.evaluate`. Decisions without a segment are in none.
    """
    of = prepared.choices.segment
    counts = np.bincount(of[of >= 0], minlength=len(prepared.choices.segments))
    largest = [int(at) for at in np.argsort(-counts, kind="stable")[:MOST_SEGMENTS] if counts[at] > 0]
    rows = []
    for at in largest:
        found = evaluate(
            prepared.only(of == at), target, alpha=alpha / len(largest), dropped=dropped,
            where_possible=where_possible,
        )  # fmt: skip
        rows.append(row(found, prepared.choices.segments[at]))
    return pl.DataFrame(rows, schema=CHANGES)


def compare(
    prepared: Prepared,
    asked: list[Target],
    *,
    alpha: float = 0.05,
    dropped: Mapping[str, int] | None = None,
    where_possible: bool = False,
) -> pl.DataFrame:
    """One row a target (columns CHANGES), for everyone, in the order asked, at alpha over their number."""
    rows = [
        row(
            evaluate(
                prepared, target, alpha=alpha / max(len(asked), 1), dropped=dropped, where_possible=where_possible,
                    ),
            None,
        )
        for target in asked
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=CHANGES)


def every_arm(prepared: Prepared) -> list[Target]:
    """The questions "everyone gets this arm", one for each arm that was ever open."""
    return [targets.FixedArm(arm) for arm in prepared.choices.arms]


def row(found: Estimates, segment: str | None) -> dict[str, object]:
    """An answer as a row of CHANGES."""
    return {
        "target": found.target, "segment": segment, "decisions": found.n, "ess": found.ess,
        "max_weight_share": found.max_weight_share, "verdict": found.verdict, "reason": found.reason,
        "value": found.value, "lower": found.lower, "upper": found.upper, "logged_value": found.logged_value,
        "gain": found.gain, "gain_lower": found.gain_lower, "gain_upper": found.gain_upper,
    }  # fmt: skip
