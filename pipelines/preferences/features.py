"""Which features of shown items weights are fitted for: numbers in their metadata, without what tells nothing apart."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["COVERAGE", "MOST_FEATURES", "Dropped", "candidates", "drop_unidentified", "keep_strongest"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

COVERAGE: Final = 0.8  # share of an agent's shown items that must state a number
MOST_FEATURES: Final = 8  # people do not choose often enough for more weights of their own
_LEAST_VARIATION: Final = 1e-4  # of a feature's variance: what constants and the other features leave unexplained

# Numbers that logs keep of how an item was shown, not of what it is like.
_BOOKKEEPING: Final = frozenset(
    {
        "base_rank", "clicked", "click", "count", "id", "impression", "impressions", "index", "item", "item_id",
        "label", "position", "propensity", "rank", "score", "session", "session_id", "slot", "time", "timestamp",
        "trace_id", "ts", "user", "user_id", "weight",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Dropped:
    """A feature that no weight is fitted for, and why."""

    feature: str
    reason: str


def candidates(names: pl.DataFrame) -> tuple[dict[str, list[str | None]], list[Dropped]]:
    """Features and the agents whose items state them (`names` of `store.preferences.NAMES`), and what is left out.

    A feature counts for an agent when at least 80 % of its sampled items state a finite number under that name.
    """
    found: dict[str, list[str | None]] = {}
    dropped: dict[str, Dropped] = {}
    for agent, name, _, numeric, sampled in names.select("agent", "name", "items", "numeric", "sampled").iter_rows():
        if numeric == 0:
            continue
        if name.lower() in _BOOKKEEPING:
            dropped.setdefault(name, Dropped(name, "says how the item was shown, not what it is like"))
        elif numeric >= COVERAGE * sampled:
            found.setdefault(name, []).append(agent)
        else:
            share = 100 * numeric / sampled
            dropped.setdefault(
                name, Dropped(name, f"only {share:.0f} % of shown items state it, {100 * COVERAGE:.0f} % are needed")
            )
    return found, [entry for name, entry in sorted(dropped.items()) if name not in found]


def drop_unidentified(names: list[str], values: Floats, cell: Ints) -> tuple[list[int], list[Dropped]]:
    """Columns of `values` (items, features) to keep, in order, and those that nothing can be said of, with the reason.

    `cell` numbers the constant of each item's list. Left out are features that are the same for all items of a
    constant, and those that the ones before them determine.
    """
    kept: list[int] = []
    dropped: list[Dropped] = []
    inside = _without_means(values, cell)
    basis: list[Floats] = []
    for place, name in enumerate(names):
        total = float(np.sum((values[:, place] - values[:, place].mean()) ** 2))
        if total <= 1e-12 * max(1.0, float(np.sum(values[:, place] ** 2))):
            dropped.append(Dropped(name, "the same for every item"))
            continue
        own = inside[:, place]
        if float(own @ own) < _LEAST_VARIATION * total:
            dropped.append(Dropped(name, "the same for all items that an arm shows"))
            continue
        rest = own.copy()
        for direction in basis:
            rest -= (rest @ direction) * direction
        if float(rest @ rest) < _LEAST_VARIATION * float(own @ own):
            others = _explained_by(own, inside[:, kept], [names[k] for k in kept])
            dropped.append(Dropped(name, f"collinear with {others}"))
            continue
        basis.append(rest / np.sqrt(rest @ rest))
        kept.append(place)
    return kept, dropped


def keep_strongest(names: list[str], values: Floats, chosen: Bools, cell: Ints) -> tuple[list[int], list[Dropped]]:
    """At most `MOST_FEATURES` columns: those that tell chosen from other items best, by each one's score test."""
    if len(names) <= MOST_FEATURES:
        return list(range(len(names))), []
    inside = _without_means(values, cell)
    residual = _without_means(chosen.astype(np.float64)[:, None], cell)[:, 0]
    score = np.abs(inside.T @ residual) / np.sqrt((inside**2).T @ residual**2 + 1e-12)
    best = sorted(np.argsort(-score, kind="stable")[:MOST_FEATURES].tolist())
    reason = f"beyond the {MOST_FEATURES} features that tell chosen items apart best"
    return best, [Dropped(name, reason) for place, name in enumerate(names) if place not in best]


def _without_means(values: Floats, cell: Ints) -> Floats:
    """`values` (items, columns) minus the mean of their cell."""
    counts = np.maximum(np.bincount(cell), 1)
    columns = [column - (np.bincount(cell, weights=column) / counts)[cell] for column in np.ascontiguousarray(values.T)]
    return np.stack(columns, axis=1)


def _explained_by(own: Floats, others: Floats, names: list[str]) -> str:
    """The names of the features that make up a collinear one."""
    coefficients, *_ = np.linalg.lstsq(others, own, rcond=None)
    share = np.abs(coefficients) * np.sqrt((others**2).sum(axis=0))
    involved = [name for name, part in zip(names, share, strict=True) if part > 0.05 * share.max()]
    return ", ".join(involved)
