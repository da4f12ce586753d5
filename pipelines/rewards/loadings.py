"""The fitted items as a table: what each kind of signal says of quality, with standard errors."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipelines.rewards.latent import Item, LatentFit
from pipelines.rewards.measured import LOADINGS
from pipelines.rewards.response_models import Array, IntArray

__all__ = ["loading_rows"]

_UNSURE = 1.0  # standard deviation of a loading from which it is the weak prior that speaks


def loading_rows(
    agent: str | None, fit: LatentFit, items: Sequence[Item], weights: Array, users: IntArray
) -> pl.DataFrame:
    """One row per item (columns LOADINGS); `weights` (items,) mean tempering weights, `users` (traces,) codes."""
    fitted = {id(item): index for index, item in enumerate(fit.items)}
    rows = []
    for item, weight in zip(items, weights, strict=True):
        signalled = np.concatenate([item.signalled, [False]])[item.states]
        if item.name == "given":
            signalled = item.states == 1
        index = fitted.get(id(item))
        free, covariance = fit.own(index) if index is not None else (np.zeros(0), np.zeros((0, 0)))
        loading, loading_sd, intercept, intercept_sd = item.family.report(free, covariance)
        rows.append(
            (
                agent, item.kind, item.name, int(signalled.sum()), len(np.unique(users[signalled])),
                int((item.states >= 0).sum()), loading, loading_sd, intercept, intercept_sd, float(weight), item.anchor,
                item.basis, _note(loading, loading_sd),
            )
        )  # fmt: skip
    return pl.DataFrame(rows, schema=LOADINGS, orient="row")


def _note(loading: float, sd: float) -> str | None:
    if sd >= _UNSURE:
        return "too little data: the loading is mostly its weak prior"
    if sd > 0.0 and abs(loading) < 1.96 * sd:
        return "not told apart from saying nothing of quality"
    return None
