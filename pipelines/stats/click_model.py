"""How much of a click is the position's: the position-based click model P(click) = e(position) a(item), e(first) = 1.

Where positions were drawn at random (swaps, shuffles), the clicks of one item fall on its positions in the proportions
n_r e_r / Σ_s n_s e_s, whatever its attractiveness: maximising that conditional likelihood over items compares the
click-through of the same item between positions, uses every swapped pair, and stays consistent with few impressions
per item (intervention harvesting, Agarwal et al. 2019, WSDM; for two positions it is a weighted ratio of click-through
rates). Otherwise all impressions go through expectation-maximisation on the sums of each (item, position) cell
(Wang et al. 2018, WSDM, "Position bias estimation"), which rests on the model and is labelled so.

Errors are a grouped jackknife over users (Shao & Tu 1995, ch. 2): the rows of one user depend on one another, and cells
are too sparse for a formula that estimates each item's click-through.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit

from pipelines.stats.contract import FitRefused, codes

__all__ = ["Examination", "fit"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
MODEL = "click model"
GROUPS = 60  # of users, left out one at a time
EM_ITERATIONS = 2000


@dataclass(frozen=True)
class Examination:
    """Examination by position, relative to the first position; arrays of shape (positions,).

    `log_sd` is the standard error of ln(examination), 0 at the reference; `impressions` and `clicks` are those the
    estimate rests on. `basis` is randomised or model-based, and `note` says why it is not randomised (not_randomised,
    too_few_randomised, not_connected). `attractiveness` (items,) is clicks over examined impressions of all rows, NaN
    for items never shown.
    """

    positions: IntArray
    examination: Array
    log_sd: Array
    lower: Array
    upper: Array
    impressions: IntArray
    clicks: IntArray
    basis: Literal["randomised", "model-based"]
    attractiveness: Array
    note: str | None


@dataclass(frozen=True)
class _Cells:
    """Sums of each (item, position) cell, and of each row its cell, click and jackknife group (rows by group)."""

    item: IntArray
    place: IntArray
    impressions: Array
    clicks: Array
    cell: IntArray
    click: BoolArray
    groups: IntArray  # where each group's rows begin, and the end
    items: int
    places: int


def fit(
    item: IntArray,
    position: IntArray,
    clicked: BoolArray,
    *,
    users: IntArray | None = None,
    randomised: BoolArray | None = None,
    level: float = 0.95,
    min_clicks: int = 20,
) -> Examination:
    """Fit from one row per impression.

    `item` codes, `position` integers (0 or 1 the first), `clicked` booleans, `users` codes (rows count as independent
    without), `randomised` marks the impressions whose position was drawn at random. Every position needs `min_clicks`
    randomised clicks, and positions must be linked by items shown at several; else all rows are used, model-based.
    Raises FitRefused: no_rows, out_of_range, one_position, constant_response, too_few_clicks, not_connected, one_user.
    """
    rows = len(item)
    if rows == 0:
        raise FitRefused(MODEL, "no_rows", "there are no impressions; log what was shown at which position.")
    item, position = codes(MODEL, "items", item, rows), codes(MODEL, "positions", position, rows)
    click = _booleans("clicked", clicked, rows)
    positions, place = np.unique(position, return_inverse=True)
    if positions.size < 2:
        raise FitRefused(MODEL, "one_position", f"everything was shown at position {positions[0]}.")
    if click.all() or not click.any():
        kind = "every" if click.any() else "no"
        raise FitRefused(MODEL, "constant_response", f"{kind} impression of {rows} was clicked.")
    groups = _groups(users, rows)
    note: str | None
    everything = _cells(item, place, click, groups, positions.size)
    cells, note = everything, "not_randomised"
    if randomised is not None and (drawn := _booleans("randomised", randomised, rows)).any():
        part = _cells(item[drawn], place[drawn], click[drawn], groups[drawn], positions.size)
        note = _unusable(part, min_clicks)
        cells = part if note is None else everything
    if note is not None and (problem := _unusable(everything, min_clicks)) is not None:
        detail = {
            "not_connected": "no item was shown at positions of both kinds, so positions cannot be told from items.",
            "too_few": f"every position needs at least {min_clicks} clicks; the rarest has "
            f"{int(_by_place(everything, everything.clicks).min())}.",
        }[problem]
        raise FitRefused(MODEL, "too_few_clicks" if problem == "too_few" else problem, detail)
    if note == "too_few":
        note = "too_few_randomised"
    log_e = _conditional(cells, cells.impressions, cells.clicks, np.zeros(positions.size))
    if note is not None:
        log_e = _expectation_maximisation(cells, cells.impressions, cells.clicks, log_e)
    log_sd, freedom = _jackknife(cells, log_e)
    margin = float(stdtrit(freedom, 0.5 + level / 2.0)) * log_sd
    examination = np.exp(log_e)
    return Examination(
        positions,
        examination,
        log_sd,
        np.exp(log_e - margin),
        np.exp(log_e + margin),
        _by_place(cells, cells.impressions).astype(np.int64),
        _by_place(cells, cells.clicks).astype(np.int64),
        "randomised" if note is None else "model-based",
        _attractiveness(everything, examination),
        note,
    )


def _booleans(name: str, values: BoolArray, rows: int) -> BoolArray:
    array = np.asarray(values)
    if array.dtype != np.bool_ or array.shape != (rows,):
        raise ValueError(f"{name} must be {rows} booleans, came {array.dtype} of shape {array.shape}")
    return array


def _groups(users: IntArray | None, rows: int) -> IntArray:
    """The jackknife group of each row: users (without them, rows) dealt round in a scattered order.

    Scattered, because rows that come in a regular order would make groups more alike than chance does.
    """
    who, count = np.arange(rows), rows
    if users is not None:
        who = np.unique(codes(MODEL, "users", users, rows), return_inverse=True)[1]
        count = int(who.max()) + 1
        if count == 1:
            raise FitRefused(MODEL, "one_user", "all impressions are one user's, so how users differ is unknown.")
    # Knuth's multiplicative hash of the code: the same groups on every run.
    scattered = np.argsort(
        (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**32), kind="stable"
    )
    group = np.empty(count, dtype=np.int64)
    group[scattered] = np.arange(count) % GROUPS
    return group[who]


def _cells(item: IntArray, place: IntArray, click: BoolArray, groups: IntArray, places: int) -> _Cells:
    key, cell = np.unique(item * places + place, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return _Cells(
        key // places,
        key % places,
        np.bincount(cell, minlength=key.size).astype(np.float64),
        np.bincount(cell[click], minlength=key.size).astype(np.float64),
        cell[order],
        click[order],
        np.append(starts, order.size),
        int(item.max()) + 1,
        places,
    )


def _by_place(cells: _Cells, values: Array) -> Array:
    return np.bincount(cells.place, weights=values, minlength=cells.places).astype(np.float64)


def _unusable(cells: _Cells, min_clicks: int) -> Literal["too_few", "not_connected"] | None:
    """Why these cells cannot tell all positions' examination: too few clicks, or positions no item connects."""
    if _by_place(cells, cells.clicks).min() < max(min_clicks, 1):
        return "too_few"
    clicked = np.bincount(cells.item, weights=cells.clicks, minlength=cells.items)[cells.item] > 0
    nodes = cells.items + cells.places
    ends = (cells.item[clicked], cells.items + cells.place[clicked])
    labels = connected_components(coo_array((np.ones(ends[0].size), ends), shape=(nodes, nodes)), directed=False)[1]
    return None if np.unique(labels[cells.items :]).size == 1 else "not_connected"


def _conditional(cells: _Cells, impressions: Array, clicks: Array, log_e: Array) -> Array:
    """ln e (places,) maximising Σ over items of the multinomial likelihood of where their clicks fell (Newton)."""
    total = np.bincount(cells.item, weights=clicks, minlength=cells.items)[cells.item]
    observed = _by_place(cells, clicks)
    for _ in range(100):
        exposure = impressions * np.exp(log_e[cells.place])
        sums = np.bincount(cells.item, weights=exposure, minlength=cells.items)
        share = exposure / np.where(sums > 0, sums, 1.0)[cells.item]
        expected = total * share
        gradient = (observed - _by_place(cells, expected))[1:]
        # Σ over items of clicks (diag π - π πᵀ), by way of the sparse item x position matrix of √clicks π.
        root = coo_array((np.sqrt(total) * share, (cells.item, cells.place)), shape=(cells.items, cells.places)).tocsr()
        information = np.diag(_by_place(cells, expected)) - (root.T @ root).toarray()
        step = np.linalg.lstsq(information[1:, 1:], gradient, rcond=1e-10)[0]
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
        log_e = log_e + np.append(0.0, step)
        if np.abs(step).max() < 1e-8:
            return log_e
    raise FitRefused(MODEL, "separation", "a position's clicks come from items that are never clicked elsewhere.")


def _expectation_maximisation(cells: _Cells, impressions: Array, clicks: Array, log_e: Array) -> Array:
    """ln e by EM on cells, e(first) held at 1 and e ≤ 1 elsewhere, started from `log_e`."""
    tiny = 1e-9
    e = np.clip(np.exp(log_e), tiny, 1.0)
    shown = np.bincount(cells.item, weights=impressions, minlength=cells.items)
    shown_at = _by_place(cells, impressions)
    examined = np.bincount(cells.item, weights=impressions * e[cells.place], minlength=cells.items)
    clicked = np.bincount(cells.item, weights=clicks, minlength=cells.items)
    a = np.clip(clicked / np.maximum(examined, tiny), 1e-6, 1.0 - 1e-6)
    for _ in range(EM_ITERATIONS):
        at_e, at_a = e[cells.place], a[cells.item]
        missed = (impressions - clicks) / np.maximum(1.0 - at_e * at_a, tiny)
        seen = clicks + missed * at_e * (1.0 - at_a)
        liked = clicks + missed * at_a * (1.0 - at_e)
        before = e
        e = np.clip(_by_place(cells, seen) / np.maximum(shown_at, tiny), tiny, 1.0)
        e[0] = 1.0
        a = np.bincount(cells.item, weights=liked, minlength=cells.items) / np.maximum(shown, tiny)
        if np.abs(e - before).max() < 1e-7:
            break
    return np.asarray(np.log(e), dtype=np.float64)


def _jackknife(cells: _Cells, log_e: Array) -> tuple[Array, float]:
    """Standard errors of ln e from leaving out one group of users at a time, and their degrees of freedom.

    EM weighs the same comparisons slightly better than the conditional likelihood, whose errors serve for both.
    """
    count = cells.groups.size - 1
    without = np.empty((count, cells.places))
    for group in range(count):
        rows = slice(cells.groups[group], cells.groups[group + 1])
        cell, click = cells.cell[rows], cells.click[rows]
        impressions = cells.impressions - np.bincount(cell, minlength=cells.item.size)
        clicks = cells.clicks - np.bincount(cell[click], minlength=cells.item.size)
        without[group] = _conditional(cells, impressions, clicks, log_e)
    gap = without - without.mean(axis=0)
    return np.sqrt((count - 1.0) / count * np.sum(gap**2, axis=0)), count - 1.0


def _attractiveness(cells: _Cells, examination: Array) -> Array:
    examined = np.bincount(cells.item, weights=cells.impressions * examination[cells.place], minlength=cells.items)
    clicks = np.bincount(cells.item, weights=cells.clicks, minlength=cells.items)
    return np.where(examined > 0, clicks / np.where(examined > 0, examined, 1.0), np.nan)
