"""What people value by their ratings: a regression of thumbs and ratings on the mean features of what was shown.

value = agent and kind + Σ_k b_k x_k, least squares with errors clustered by user (Liang & Zeger 1986). Only for the
population: single people do not rate often enough. Volunteered ratings come mostly from the unhappy, which shifts the
constants more than the slopes; the page says so.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.preferences.features import drop_unidentified

__all__ = ["MINIMUM_OPINIONS", "MINIMUM_USERS", "Rated", "regress"]

Floats = NDArray[np.float64]

MINIMUM_OPINIONS: Final = 200
MINIMUM_USERS: Final = 30


@dataclass(frozen=True)
class Rated:
    """Slopes of the features that ratings can tell apart, with their clustered covariance."""

    features: list[str]
    weights: Floats
    covariance: Floats
    opinions: int
    users: int


def regress(opinions: pl.DataFrame, mean_features: pl.DataFrame) -> Rated | None:
    """Fit the regression; None with fewer than 200 opinions on traces with shown items, or 30 people.

    Args: `opinions` of `store.preferences.OPINIONS`; `mean_features` with trace_id and one column a feature.
    """
    frame = opinions.join(mean_features, on="trace_id", how="inner", maintain_order="left")
    names = [name for name in mean_features.columns if name != "trace_id"]
    if frame.height < MINIMUM_OPINIONS or frame["user_id"].n_unique() < MINIMUM_USERS:
        return None
    cell = frame.select(pl.concat_str(pl.col("agent").fill_null(""), pl.lit("\x00"), pl.col("kind"))).to_series()
    codes = np.unique(cell.to_list(), return_inverse=True)[1].astype(np.int64)
    values = frame.select(names).to_numpy()
    kept, _ = drop_unidentified(names, values, codes)
    if not kept:
        return None
    design = _demeaned(values[:, kept], codes)
    outcome = _demeaned(frame["value"].to_numpy()[:, None], codes)[:, 0]
    bread = np.linalg.pinv(design.T @ design)
    slopes = bread @ design.T @ outcome
    residual = outcome - design @ slopes
    users = np.unique(frame["user_id"].to_list(), return_inverse=True)[1]
    scores = np.zeros((int(users.max()) + 1, len(kept)))
    np.add.at(scores, users, design * residual[:, None])
    clusters = scores.shape[0]
    covariance = bread @ (scores.T @ scores) @ bread * clusters / (clusters - 1)
    return Rated([names[k] for k in kept], slopes, covariance, frame.height, clusters)


def _demeaned(values: Floats, codes: NDArray[np.int64]) -> Floats:
    counts = np.bincount(codes)
    return np.stack(
        [column - (np.bincount(codes, weights=column) / counts)[codes] for column in np.ascontiguousarray(values.T)],
        axis=1,
    )
