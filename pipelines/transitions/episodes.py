"""The paths of one agent's traces as arrays of transitions between the states of its model.

Place 0 is START, 1 to S are the states, and the ends success, failure and ended follow as S + 1, S + 2, S + 3. A
transition goes from one of S + 1 from-states to one of S + 3 to-states; to-state j is place j + 1.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.transitions import ENDS

__all__ = ["Transitions", "count_matrix", "encode", "expected_counts", "folded_counts", "user_cells"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Transitions:
    """All transitions in order of trace and step; `source`, `target` (to-state), `trace` and `cost` are (transitions,).

    `cost` is that of the step at `source`, NaN where unknown and for START. `traces` counts episodes, `states` S.
    """

    source: Ints
    target: Ints
    trace: Ints
    cost: Array
    traces: int
    states: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many from-states and to-states there are."""
        return self.states + 1, self.states + len(ENDS)

    def newest(self, most: int) -> "Transitions":
        """The last transitions, in whole traces, where there are more than `most`; traces keep their numbers."""
        if self.source.size <= most:
            return self
        kept = self.trace > self.trace[self.source.size - most - 1]
        return Transitions(
            self.source[kept], self.target[kept], self.trace[kept], self.cost[kept], self.traces, self.states
        )


def encode(episodes: pl.DataFrame, folds: pl.DataFrame, states: int) -> Transitions:
    """Transitions of `episodes` (states, costs, verdict, in this order) by `folds` (state, place).

    Raises ValueError for a verdict that is no end, or an abstract state that `folds` does not place.
    """
    lengths = episodes["states"].list.len().to_numpy().astype(np.int64)
    raw = _flat(episodes["states"], pl.UInt64())
    cost = _flat(episodes["costs"], pl.Float32()).cast(pl.Float64).to_numpy()
    known = folds.sort("state")
    keys, places = known["state"].to_numpy(), known["place"].to_numpy().astype(np.int64)
    at = np.searchsorted(keys, raw.to_numpy())
    missing = (
        (at >= keys.size) | (keys[np.minimum(at, keys.size - 1)] != raw.to_numpy()) if keys.size else raw.len() > 0
    )
    if np.any(missing):
        raise ValueError(f"{int(np.sum(missing))} steps are in an abstract state that the model does not place")
    ends = episodes["verdict"].replace_strict(
        {end: states + place for place, end in enumerate(ENDS)}, default=None, return_dtype=pl.Int64()
    )
    if ends.null_count():
        raise ValueError(f"verdicts must be one of {', '.join(ENDS)}; {ends.null_count()} are not")
    # Each trace gets one place more than it has steps: START before the first, its end after the last.
    moves = lengths + 1
    first = np.concatenate([[0], np.cumsum(moves)[:-1]]).astype(np.int64)
    total = int(moves.sum())
    source = np.zeros(total, dtype=np.int64)
    target = np.empty(total, dtype=np.int64)
    costs = np.full(total, np.nan)
    is_start = np.zeros(total, dtype=bool)
    is_start[first] = True
    is_end = np.zeros(total, dtype=bool)
    is_end[first + lengths] = True
    placed = places[at] if keys.size else np.empty(0, dtype=np.int64)
    source[~is_start], costs[~is_start] = placed, cost
    target[~is_end] = placed - 1
    target[is_end] = ends.to_numpy()
    trace = np.repeat(np.arange(episodes.height), moves)
    return Transitions(source, target, trace, costs, episodes.height, states)


def count_matrix(transitions: Transitions) -> Array:
    """How often each from-state was followed by each to-state: (from, to)."""
    rows, columns = transitions.shape
    code = transitions.source * columns + transitions.target
    return np.bincount(code, minlength=rows * columns).reshape(rows, columns).astype(np.float64)


def expected_counts(transitions: Transitions, success: pl.Series, used: Bools | None = None) -> Array:
    """As `count_matrix`, each trace ending in success and in failure with its probabilities of either.

    `success` (traces,) is the probability of success, null where there is no verdict: that ends as `ended`. `used`
    (traces,) are the traces that count. Probabilities add up to the expected number; counts over a threshold do not.
    """
    rows, columns = transitions.shape
    size = transitions.states
    kept = np.ones(transitions.source.size, dtype=bool) if used is None else used[transitions.trace]
    inside = kept & (transitions.target < size)
    code = transitions.source[inside] * columns + transitions.target[inside]
    matrix = np.bincount(code, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    last = kept & (transitions.target >= size)
    source, chance = transitions.source[last], success.to_numpy().astype(np.float64)[transitions.trace[last]]
    judged = ~np.isnan(chance)
    for place, weights in enumerate((np.where(judged, chance, 0.0), np.where(judged, 1.0 - chance, 0.0), ~judged)):
        matrix[:, size + place] = np.bincount(source, weights=weights, minlength=rows)
    return matrix


def folded_counts(counts: pl.DataFrame, folds: pl.DataFrame, states: int) -> Array:
    """The matrix of `count_matrix` from counts made in SQL (`store.transitions.COUNTS` of one agent)."""
    cells = _placed(counts, folds, states).group_by("source", "target").agg(pl.col("n").sum())
    matrix = np.zeros((states + 1, states + len(ENDS)))
    matrix[cells["source"].to_numpy(), cells["target"].to_numpy()] = cells["n"].to_numpy()
    return matrix


def user_cells(counts: pl.DataFrame, folds: pl.DataFrame, states: int) -> tuple[Array, Ints, Ints, Ints]:
    """Counts of single users (`store.transitions.USER_COUNTS` of one agent) by (user, from-state, to-state).

    Returns n, from-state, to-state and the number of (user, from-state), each (cells,).
    """
    placed = _placed(counts, folds, states).group_by("user_id", "source", "target").agg(pl.col("n").sum())
    placed = placed.sort("user_id", "source", "target").with_columns(group=pl.struct("user_id", "source").rle_id())
    n, source, target, group = (placed[name].to_numpy() for name in ("n", "source", "target", "group"))
    return n.astype(np.float64), source.astype(np.int64), target.astype(np.int64), group.astype(np.int64)


def _placed(counts: pl.DataFrame, folds: pl.DataFrame, states: int) -> pl.DataFrame:
    ends = pl.col("verdict").replace_strict(
        {end: states + place for place, end in enumerate(ENDS)}, default=None, return_dtype=pl.Int64()
    )
    placed = (
        counts.join(folds.select("state", source="place"), on="state", how="left")
        .join(folds.select(next_state="state", target="place"), on="next_state", how="left")
        .with_columns(
            source=pl.when(pl.col("state").is_null()).then(0).otherwise("source").cast(pl.Int64),
            target=pl.when(pl.col("next_state").is_null()).then(ends).otherwise(pl.col("target") - 1).cast(pl.Int64),
        )
    )
    if placed["source"].null_count() or placed["target"].null_count():
        raise ValueError("counts name an abstract state that the model does not place")
    return placed


def _flat(lists: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The values of all lists one after another; empty lists leave nothing."""
    filled = lists.filter(lists.list.len() > 0)
    return filled.explode().cast(dtype) if filled.len() else pl.Series(lists.name, [], dtype=dtype)
