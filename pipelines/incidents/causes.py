"""What a shift came with: how much of it the values of an attribute explain (models, versions, arms, tools ...).

A mean M = sum of p_v m_v over the values v of an attribute moves because the shares p_v do, or the means m_v within.

    moved over    the part of the shift between values (Kitagawa 1955; Oaxaca 1973): sum of (p'_v - p_v) m_v over the
                  shift, m_v the value's mean over both sides, of a new value the one that it has
    only there    the part that goes when the traces of one value are left out: 1 - (shift of the others) / shift

Shares are held against a bootstrap over users (Bayesian; Rubin 1981), whose quantiles are the interval. This is what
the shift came with, and not proof of what caused it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["ATTRIBUTES", "LEAST_TRACES", "LISTED", "Suspect", "suspects"]

Floats = NDArray[np.float64]

ATTRIBUTES: Final = {
    "model": "model", "fingerprint": "model", "agent_version": "version", "arm": "arm", "source": "source",
    "weekday": "seasonality",
}  # fmt: skip
"""The columns of evidence with one value a trace, and the cause that each stands for."""
LISTED: Final = {"lessons": "lesson", "tools": "tool"}
"""The columns with a list of values a trace."""
LEAST_TRACES: Final = 20  # on each side
_MOST_VALUES: Final = 12
_DRAWS: Final = 200
_LEVEL: Final = 0.9


@dataclass(frozen=True)
class Suspect:
    """One possible cause: the `share` of the shift that it explains, with an interval of level .9.

    `how` is "moved over" (traffic went from `before` to `name`; of lists: more or fewer traces have it) or "only
    there". `n_before` and `n_after` are the traces with it.
    """

    cause: str
    column: str
    name: str
    how: Literal["moved over", "only there"]
    before: str | None
    share: float
    lower: float
    upper: float
    n_before: int
    n_after: int


@dataclass(frozen=True)
class _Cells:
    """Sums of values and counts by value of the attribute, (draws, values, sides); the first draw is the data."""

    names: list[str]
    sums: Floats
    counts: Floats


def suspects(evidence: pl.DataFrame, random: np.random.Generator) -> list[Suspect]:
    """The possible causes, the best founded first.

    Args: `evidence` has a row a trace with user_id, after (is it after the change), value, the columns of `ATTRIBUTES`
    (String) and of `LISTED` (List of String). Nothing comes of fewer than `LEAST_TRACES` on a side.
    """
    sides = evidence["after"].sum()
    if min(sides, evidence.height - sides) < LEAST_TRACES:
        return []
    users = evidence["user_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    weights = np.vstack([np.ones(users.max() + 1), random.exponential(size=(_DRAWS, users.max() + 1))])
    found: list[Suspect] = []
    for column, cause in ATTRIBUTES.items():
        if evidence[column].drop_nulls().n_unique() < 2:
            continue
        cells = _cells(evidence, users, evidence[column].fill_null("none"), weights)
        found += _moved_over(column, cause, cells)
        found += [one for place in range(len(cells.names)) if (one := _only_there(column, cause, cells, place))]
    for column, cause, name, told in _with_and_without(evidence):
        cells = _cells(evidence, users, told, weights)
        if one := _only_there(column, cause, cells, cells.names.index(name)):
            found.append(one)
        # Traces that began to have it, or ceased to.
        found += [replace(one, name=name, before=None) for one in _moved_over(column, cause, cells)]
    sure = [one for one in found if np.isfinite([one.share, one.lower, one.upper]).all()]
    return sorted(sure, key=lambda one: (-round(one.lower, 2), -round(one.share, 2)))


def _with_and_without(evidence: pl.DataFrame) -> Iterator[tuple[str, str, str, pl.Series]]:
    """Each frequent value of a list, with whether a trace has it."""
    for column, cause in LISTED.items():
        counted = evidence[column].explode().drop_nulls().value_counts().sort("count", column, descending=[True, False])
        for name in counted[column].head(_MOST_VALUES).to_list():
            has = evidence[column].list.contains(name).fill_null(False)
            yield column, cause, name, has.replace_strict({True: name, False: ""}, return_dtype=pl.String)


def _cells(evidence: pl.DataFrame, users: NDArray[np.int64], values: pl.Series, weights: Floats) -> _Cells:
    counted = values.value_counts(name="n").sort("n", values.name, descending=[True, False])
    names = counted[values.name].head(_MOST_VALUES).to_list()
    codes = values.replace_strict({name: i for i, name in enumerate(names)}, default=len(names)).cast(pl.Int64)
    side = evidence["after"].cast(pl.Int64).to_numpy()
    width = 2 * (len(names) + 1)
    place = (users * width + 2 * codes.to_numpy() + side).astype(np.int64)
    size = weights.shape[1] * width
    value = evidence["value"].to_numpy().astype(np.float64)
    shape = (weights.shape[1], width)
    sums = weights @ np.bincount(place, value, minlength=size).reshape(shape)
    counts = weights @ np.bincount(place, minlength=size).reshape(shape)
    grid = (len(weights), len(names) + 1, 2)
    return _Cells(names, sums.reshape(grid), counts.reshape(grid))


def _moved_over(column: str, cause: str, cells: _Cells) -> list[Suspect]:
    total = cells.counts.sum(axis=1)
    shift = _ratio(cells.sums[..., 1].sum(axis=1), total[:, 1]) - _ratio(cells.sums[..., 0].sum(axis=1), total[:, 0])
    p = cells.counts / total[:, None, :]
    means = _ratio(cells.sums, cells.counts)
    # Both sides count alike, so that a change within a value is no part of the shift between values.
    known = np.where(np.isnan(means), means[..., ::-1], means)
    middle = np.nan_to_num(known).mean(axis=-1)
    between = ((p[..., 1] - p[..., 0]) * middle).sum(axis=1)
    share = between / np.where(shift == 0.0, np.nan, shift)
    gained = p[0, : len(cells.names), 1] - p[0, : len(cells.names), 0]
    to, away = int(np.argmax(gained)), int(np.argmin(gained))
    if not np.isfinite(share[0]) or gained[to] <= 0.02:
        return []
    lower, upper = _interval(share)
    n = cells.counts[0, to]
    return [
        Suspect(
            cause,
            column,
            cells.names[to],
            "moved over",
            cells.names[away],
            float(share[0]),
            lower,
            upper,
            int(n[0]),
            int(n[1]),
        )
    ]


def _only_there(column: str, cause: str, cells: _Cells, place: int) -> Suspect | None:
    counts, sums = cells.counts, cells.sums
    others = counts.sum(axis=1) - counts[:, place]
    if min(counts[0, place].min(), others[0].min()) < LEAST_TRACES:
        return None
    total = counts.sum(axis=1)
    shift = _ratio(sums[..., 1].sum(axis=1), total[:, 1]) - _ratio(sums[..., 0].sum(axis=1), total[:, 0])
    rest = _ratio(sums.sum(axis=1) - sums[:, place], others)
    share = 1.0 - (rest[:, 1] - rest[:, 0]) / np.where(shift == 0.0, np.nan, shift)
    if not np.isfinite(share[0]):
        return None
    lower, upper = _interval(share)
    n = counts[0, place]
    return Suspect(
        cause, column, cells.names[place], "only there", None, float(share[0]), lower, upper, int(n[0]), int(n[1])
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(above / np.where(below > 0.0, below, np.nan))


def _interval(draws: Floats) -> tuple[float, float]:
    tail = 100.0 * (1.0 - _LEVEL) / 2.0
    low, high = np.nanpercentile(draws[1:], [tail, 100.0 - tail])
    return float(low), float(high)
