"""What moved first: when each metric of an incident moved, which way and how far.

Where everybody or a segment as a whole was found to have moved, that says it best; else the findings on users do, by
their median and quartiles.
"""

from typing import Final

import numpy as np
import polars as pl

from store.incidents import MOVED

__all__ = ["moved"]

_RANK: Final = {"population": 0, "segment": 1, "user": 2}
_AGREE: Final = 0.75  # share of the findings that went the same way


def moved(findings: pl.DataFrame) -> pl.DataFrame:
    """One row a metric, the first one first (columns `store.incidents.MOVED`).

    Args: `findings` with `changed_at` (columns `pipelines.incidents.grouping.FINDINGS`).
    """
    rows = []
    for (metric,), own in findings.group_by("metric", maintain_order=True):
        rank = own["level"].replace_strict(_RANK, return_dtype=pl.Int64)
        widest = own.filter(rank == rank.min())
        effects = widest["effect"].drop_nulls().to_numpy()
        rows.append(
            {
                "metric": metric,
                "direction": _direction(widest),
                "moved_at": widest["changed_at"].quantile(0.5, "nearest"),
                **_spread(widest),
                "users": own["user_id"].drop_nulls().n_unique(),
                **_means(widest),
                "effect": float(np.median(effects)) if len(effects) else None,
                "effect_sd": _deviation(widest, effects),
            }
        )
    frame = pl.DataFrame(rows, schema={name: kind for name, kind in MOVED.items() if name != "place"})
    ordered = frame.sort("moved_at", "metric").with_row_index("place", offset=1)
    return ordered.cast({"place": pl.Int32}).select(list(MOVED))


def _direction(rows: pl.DataFrame) -> str:
    change = pl.coalesce("effect", pl.col("after_mean") - pl.col("before_mean"))
    up = rows.select(change.alias("change")).drop_nulls()["change"] > 0
    share = up.mean() if len(up) else None
    if share is None or 1.0 - _AGREE < float(share) < _AGREE:  # type: ignore[arg-type]
        return "mixed"
    return "up" if float(share) >= _AGREE else "down"  # type: ignore[arg-type]


def _spread(rows: pl.DataFrame) -> dict[str, object]:
    """Quartiles of the times; of a single finding its own set of times."""
    if rows.height == 1:
        one = rows.row(0, named=True)
        return {
            "moved_from": one["changed_from"] or one["changed_at"], "moved_to": one["changed_to"] or one["changed_at"],
        }  # fmt: skip
    at = rows["changed_at"]
    return {"moved_from": at.quantile(0.25, "nearest"), "moved_to": at.quantile(0.75, "nearest")}


def _means(rows: pl.DataFrame) -> dict[str, object]:
    """Means before and after over the findings, by their n."""
    told: dict[str, object] = {}
    for side in ("before", "after"):
        known = rows.filter(pl.col(f"{side}_mean").is_not_null() & (pl.col(f"{side}_n") > 0))
        n = known[f"{side}_n"].to_numpy()
        told[f"{side}_n"] = int(n.sum())
        told[f"{side}_mean"] = float(np.average(known[f"{side}_mean"].to_numpy(), weights=n)) if len(n) else None
    return told


def _deviation(rows: pl.DataFrame, effects: np.ndarray) -> float | None:
    """Of the median effect: that of the only finding, else from how the findings differ (normal approximation)."""
    if rows.height == 1:
        own = rows["effect_sd"][0]
        return None if own is None else float(own)
    if len(effects) < 2:
        return None
    return float(1.2533 * 1.4826 * np.median(np.abs(effects - np.median(effects))) / np.sqrt(len(effects)))
