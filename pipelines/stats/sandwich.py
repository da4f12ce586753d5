"""Robust covariance of an estimate: the sandwich, clustered by whoever gave several of the rows.

V = H⁻¹ G H⁻¹ with H the negative second derivative of the objective and G the sum over clusters of s sᵀ, s being a
cluster's summed score (Liang & Zeger 1986, Biometrika 73:13-22). G is multiplied by m/(m-1) for m clusters.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["clustered_scores", "inverse", "sandwich"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def clustered_scores(scores: Array, clusters: IntArray | None) -> Array:
    """Scores of shape (rows, parameters) summed within clusters (codes); unchanged without clusters."""
    if clusters is None:
        return scores
    size = int(clusters.max()) + 1
    summed = np.stack([np.bincount(clusters, weights=column, minlength=size) for column in scores.T], axis=1)
    return np.asarray(summed[np.bincount(clusters, minlength=size) > 0], dtype=np.float64)


def sandwich(bread: Array, scores: Array) -> Array:
    """H⁻¹ G H⁻¹ from `bread` = H⁻¹ (p, p) and one row of `scores` (clusters, p) per independent cluster.

    NaN with a single cluster: its own score is zero at the estimate and says nothing about its spread.
    """
    count = scores.shape[0]
    if count < 2:
        return np.full_like(bread, np.nan)
    meat = scores.T @ scores * (count / (count - 1.0))
    return np.asarray(bread @ meat @ bread, dtype=np.float64)


def inverse(information: Array) -> Array:
    """The inverse of a symmetric positive definite matrix, made symmetric. Raises numpy.linalg.LinAlgError."""
    half = np.linalg.inv(np.linalg.cholesky(information))
    return np.asarray(half.T @ half, dtype=np.float64)
