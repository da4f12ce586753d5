"""From a fit to what is shown: weights of everyone, of each segment and of each person, and who contradicts themselves.

The scale of weights is not identified (a person who chooses more consistently has larger ones), so a population's
weights come with their ratios to an anchor feature, the one whose weight is known best, by Fieller's interval (1954).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.preferences.choices import Lists
from pipelines.preferences.rated import Rated
from pipelines.preferences.stated_revealed import Stated
from pipelines.preferences.weights import Pooled
from store.preferences import USER_WEIGHTS, WEIGHTS

__all__ = ["USER_WEIGHTS", "WEIGHTS", "Means", "anchor", "means", "stated_means", "user_weights", "weights"]

Floats = NDArray[np.float64]

_Z95: Final = 1.959963984540054


@dataclass(frozen=True)
class Means:
    """Mean weights of everyone (first) and of each named segment, in units of the features.

    `segments` (None for everyone), mean (rows, d), covariance (rows, d, d), spread (rows, d), users and n per row.
    """

    segments: list[str | None]
    features: list[str]
    mean: Floats
    covariance: Floats
    spread: Floats
    users: list[int]
    n: list[int]


def means(lists: Lists, pooled: Pooled) -> Means:
    """Mean revealed weights with sandwich covariances over people."""
    scale = lists.scale
    width = len(lists.features)
    segment = lists.choices.segment
    groups = pooled.mean.shape[0]
    prior = np.linalg.inv(pooled.spread)
    score = np.einsum("uij,uj->ui", prior[segment], pooled.weights - pooled.mean[segment])
    covariances = np.zeros((groups, width, width))
    for group in range(groups):
        own = segment == group
        marginal = prior[group][None] - prior[group] @ pooled.covariance[own] @ prior[group]
        bread = np.linalg.pinv(marginal.sum(axis=0))
        members = max(2, int(own.sum()))
        meat = score[own].T @ score[own] * members / (members - 1)
        covariances[group] = (bread @ meat @ bread)[:width, :width]
    counts = np.bincount(segment, minlength=groups)
    spread = pooled.spread[:, :width, :width]
    return _stacked(
        lists.features, lists.segments, pooled.mean[:, :width] / scale, covariances / np.outer(scale, scale),
        spread / np.outer(scale, scale), counts,
        np.bincount(segment, weights=lists.lists, minlength=groups),
    )  # fmt: skip


def stated_means(stated: Stated, segments: list[str | None]) -> Means:
    """Mean stated weights of everyone and of each segment."""
    groups = stated.mean.shape[0]
    return _stacked(
        stated.features, segments, stated.mean, stated.mean_covariance, stated.spread,
        np.bincount(stated.segment, minlength=groups),
        np.bincount(stated.segment, weights=stated.statements, minlength=groups),
    )  # fmt: skip


def anchor(revealed: Means) -> str:
    """The feature whose mean weight is known best: the largest in standard errors."""
    certainty = np.abs(revealed.mean[0]) / np.sqrt(np.maximum(np.diag(revealed.covariance[0]), 1e-18))
    return revealed.features[int(np.argmax(certainty))]


def weights(revealed: Means, stated: Means | None, rated: Rated | None, anchored: str) -> pl.DataFrame:
    """The rows of WEIGHTS."""
    rows: list[dict[str, Any]] = []
    for basis, found in (("revealed", revealed), ("stated", stated)):
        if found is None:
            continue
        for place, segment in enumerate(found.segments):
            ratios = _ratios(found.mean[place], found.covariance[place], found.features, anchored)
            for column, feature in enumerate(found.features):
                rows.append(
                    {
                        "scope": "everyone" if place == 0 else "segment",
                        "segment": segment,
                        "basis": basis,
                        "feature": feature,
                        "weight": float(found.mean[place, column]),
                        "sd": float(np.sqrt(max(found.covariance[place, column, column], 0.0))),
                        "spread": float(found.spread[place, column]),
                        **ratios[column],
                        "users": found.users[place],
                        "n": found.n[place],
                    }
                )
    if rated is not None:
        ratios = _ratios(rated.weights, rated.covariance, rated.features, anchored)
        for column, feature in enumerate(rated.features):
            rows.append(
                {
                    "scope": "everyone", "basis": "rated", "feature": feature,
                    "weight": float(rated.weights[column]), "sd": float(np.sqrt(rated.covariance[column, column])),
                    **ratios[column], "users": rated.users, "n": rated.opinions,
                }
            )  # fmt: skip
    return pl.DataFrame(rows, schema=WEIGHTS, orient="row")


def user_weights(lists: Lists, pooled: Pooled, stated: Stated | None) -> pl.DataFrame:
    """The rows of USER_WEIGHTS: everyone who was shown a list, with what they stated where they did."""
    width, users = len(lists.features), len(lists.user_ids)
    variance = np.einsum("uii->ui", pooled.covariance)[:, :width]
    prior = np.einsum("gii->gi", pooled.spread)[lists.choices.segment][:, :width]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(lists.user_ids, dtype=pl.String).gather(np.repeat(np.arange(users), width)),
            "feature": pl.Series(lists.features, dtype=pl.String).gather(np.tile(np.arange(width), users)),
            "weight": (pooled.weights[:, :width] / lists.scale).ravel(),
            "sd": (np.sqrt(variance) / lists.scale).ravel(),
            "leaning": np.clip(variance / prior, 0.0, 1.0).ravel(),
        }
    )
    if stated is None:
        said = pl.DataFrame(schema={"user_id": pl.String, "feature": pl.String, "stated": pl.Float64,
                                    "stated_sd": pl.Float64})  # fmt: skip
    else:
        own, across = len(stated.user_ids), len(stated.features)
        said = pl.DataFrame(
            {
                "user_id": pl.Series(stated.user_ids, dtype=pl.String).gather(np.repeat(np.arange(own), across)),
                "feature": pl.Series(stated.features, dtype=pl.String).gather(np.tile(np.arange(across), own)),
                "stated": stated.weights.ravel(),
                "stated_sd": np.sqrt(np.einsum("uii->ui", stated.covariance)).ravel(),
            }
        )
    joined = frame.join(said, on=["user_id", "feature"], how="left", maintain_order="left")
    return joined.select(list(USER_WEIGHTS))


def _stacked(
    features: list[str],
    segments: list[str | None],
    mean: Floats,
    covariance: Floats,
    spread: Floats,
    counts: NDArray[np.int64],
    n: NDArray[Any],
) -> Means:
    """Everyone as the mixture of the groups, then the named groups."""
    share = counts / counts.sum()
    everyone = share @ mean
    apart = mean - everyone
    total = np.einsum("g,gij->ij", share, spread + apart[:, :, None] * apart[:, None, :])
    named = [place for place, segment in enumerate(segments) if segment is not None]
    return Means(
        segments=[None, *(segments[place] for place in named)],
        features=features,
        mean=np.vstack([everyone, mean[named]]),
        covariance=np.concatenate([np.einsum("g,gij->ij", share**2, covariance)[None], covariance[named]]),
        spread=np.sqrt(np.vstack([np.diag(total), np.einsum("gii->gi", spread[named])])),
        users=[int(counts.sum()), *(int(counts[place]) for place in named)],
        n=[int(n.sum()), *(int(n[place]) for place in named)],
    )


def _ratios(mean: Floats, covariance: Floats, features: list[str], anchored: str) -> list[dict[str, float | None]]:
    """Each weight as a multiple of the anchor's size, with Fieller's interval; null where that is unbounded."""
    empty: dict[str, float | None] = {"ratio": None, "ratio_lower": None, "ratio_upper": None}
    if anchored not in features:
        return [empty for _ in features]
    at = features.index(anchored)
    below, var_below = float(mean[at]), float(covariance[at, at])
    sign = 1.0 if below >= 0 else -1.0
    rows: list[dict[str, float | None]] = []
    curvature = below**2 - _Z95**2 * var_below
    for place in range(len(features)):
        above, var_above, both = float(mean[place]), float(covariance[place, place]), float(covariance[place, at])
        if curvature <= 0:
            rows.append(empty)
            continue
        if place == at:
            rows.append({"ratio": sign, "ratio_lower": sign, "ratio_upper": sign})
            continue
        middle = (above * below - _Z95**2 * both) / curvature
        inside = max(middle**2 - (above**2 - _Z95**2 * var_above) / curvature, 0.0)
        ends = sorted((sign * (middle - np.sqrt(inside)), sign * (middle + np.sqrt(inside))))
        rows.append({"ratio": sign * above / below, "ratio_lower": float(ends[0]), "ratio_upper": float(ends[1])})
    return rows
