"""Changes of texts, as vectors: mean discrepancy over splits, with permutations of sessions."""

from typing import Any, Final

import numpy as np
import polars as pl

from pipelines.drift.looks import DetectionConfig
from pipelines.drift.sequences import Group
from pipelines.stats.contract import ContractError
from pipelines.stats.mean_discrepancy import project, split_discrepancy

__all__ = ["of_vectors"]

_FIRST: Final = 99  # permutations, and the p-value from which on they are enough
_FAR: Final = 0.2

_SCHEMA: Final = pl.Schema(
    {
        "events": pl.Int64(),
        "events_total": pl.Int64(),
        "missing": pl.Int64(),
        "statistic": pl.Float64(),
        "p_value": pl.Float64(),
        "changed_at": pl.Datetime("us", "UTC"),
        "before_n": pl.Int64(),
        "after_n": pl.Int64(),
    }
)


def of_vectors(group: Group, config: DetectionConfig, random: np.random.Generator) -> pl.DataFrame:
    """Findings of a group of likelihood embedding: its own columns of `detection.FINDINGS`.

    A sequence is looked at when it has twice the events of its last look, from two segments on, and look j spends
    1/(j (j+1)) of the error, so p-values hold for all looks. A change of texts has no size in a unit: `statistic` is in
    standard deviations, and `effect` stays null. Means only are compared (linear kernel): what everybody has in common
    was taken from the means and from nothing else. Raises ContractError for vectors of different lengths.
    """
    found: list[dict[str, Any]] = []
    totals = group.totals().tolist()
    widths = group.rows["vector"].list.len().unique()
    if widths.len() > 1:
        raise ContractError(
            "drift sequences", f"vectors of {group.metric} must be of one length, came {sorted(widths)}."
        )
    # One projection for all, so that distances are the same for every sequence.
    seed = random.integers(2**63)
    begin = 0
    least = 2 * config.min_segment_other
    for total in totals:
        rows = group.rows.slice(begin, total)
        begin += total
        counted = max(total, int(rows["place"][-1] or 0)) if total else 0
        looks, events = 0, least
        while events <= counted:
            looks, events = looks + 1, 2 * events
        if not looks:
            found.append({"events": counted, "events_total": counted, "missing": least - counted})
            continue
        seen = rows.head(events // 2 - (counted - total)).tail(config.window)
        vectors = project(np.array(seen["vector"].to_list(), dtype=np.float64), random=np.random.default_rng(seed))
        alone = pl.lit("row ") + pl.int_range(pl.len()).cast(pl.String)
        blocks = seen.select(pl.coalesce(pl.lit("block ") + pl.col("block"), alone).rank("dense")).to_series()
        for permutations in (_FIRST, config.permutations):
            change = split_discrepancy(
                vectors, blocks.to_numpy(), random=random, min_segment=config.min_segment_other,
                permutations=permutations, kernel="linear",
            )  # fmt: skip
            # Most sequences are far from a finding (Besag & Clifford 1991, Biometrika 78:301).
            if change.p_value >= _FAR:
                break
        row = {
            "events": seen.height, "events_total": counted, "missing": 0, "statistic": change.statistic,
            "p_value": min(1.0, change.p_value * looks * (looks + 1)),
        }  # fmt: skip
        if change.before:
            row |= {
                "changed_at": seen["occurred_at"][change.before], "before_n": change.before,
                "after_n": seen.height - change.before,
            }  # fmt: skip
        found.append(row)
    return group.subjects.drop("practical").hstack(pl.DataFrame(found, schema=_SCHEMA))
