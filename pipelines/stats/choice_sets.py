"""Shown sets and what was chosen from them: their check, and the choice likelihood with its derivatives.

Options are rows sorted by user and set, so that every sum over a set or a user is one pass (`np.add.reduceat`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.contract import FitRefused, codes, numbers, within

__all__ = ["MODEL", "Choices", "checked", "per_set", "require_identified", "shares"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
MODEL = "choice model"


@dataclass(frozen=True)
class Choices:
    """Options sorted by (user, set): features, where sets begin, set of each option, chosen; then per set."""

    features: Array
    starts: IntArray
    set_of: IntArray
    chosen: Array
    observed: Array  # (d, sets): the features of what was chosen; the outside option's constant last
    weight: Array  # per set
    user: IntArray  # per set, codes 0..len(users)-1
    users: IntArray  # the codes as given, ascending
    outside: bool
    names: tuple[str, ...]


def checked(
    features: Array,
    sets: IntArray,
    chosen: BoolArray,
    users: IntArray | None,
    weight: Array | None,
    outside: bool,
    names: Sequence[str] | None,
) -> Choices:
    features = numbers(MODEL, "features", features)
    if features.ndim != 2:
        raise ValueError(f"features must have two dimensions, came {features.shape}")
    rows, d = features.shape
    if rows == 0:
        raise FitRefused(MODEL, "no_rows", "there is no shown set; log what was shown with each choice.")
    sets = codes(MODEL, "sets", sets, rows)
    picked = np.asarray(chosen)
    if picked.dtype != np.bool_ or picked.shape != (rows,):
        raise ValueError(f"chosen must be {rows} booleans, came {picked.dtype} of shape {picked.shape}")
    owner = sets if users is None else codes(MODEL, "users", users, rows)
    weight = np.ones(rows) if weight is None else numbers(MODEL, "weights", weight, (rows,))
    within(MODEL, "weights", weight, 0.0, np.inf)
    labels = tuple(names) if names is not None else tuple(f"feature {j}" for j in range(d))
    if len(labels) != d:
        raise ValueError(f"expected {d} names, came {len(labels)}")
    if np.any((owner[1:] < owner[:-1]) | ((owner[1:] == owner[:-1]) & (sets[1:] < sets[:-1]))):
        order = np.lexsort((sets, owner))
        features, weight = features[order], weight[order]
        sets, owner, picked = sets[order], owner[order], picked[order]
    starts = np.flatnonzero(np.diff(sets, prepend=-1) | np.diff(owner, prepend=-1))
    if starts.size != np.unique(sets[starts]).size:
        raise FitRefused(MODEL, "out_of_range", "a shown set belongs to more than one user.")
    set_of = np.repeat(np.arange(starts.size), np.diff(np.append(starts, rows)))
    taken = np.add.reduceat(picked.astype(np.float64), starts)
    if taken.max() > 1:
        raise FitRefused(MODEL, "many_chosen", f"{int((taken > 1).sum())} of {starts.size} sets have several choices.")
    if not outside and taken.min() == 0:
        raise FitRefused(
            MODEL,
            "no_choice",
            f"{int((taken == 0).sum())} of {starts.size} sets have no choice; allow the outside option.",
        )
    if outside and taken.min() == taken.max():
        kind = "every set has a choice" if taken[0] else "no set has a choice"
        raise FitRefused(MODEL, "constant_response", f"{kind}, so the outside option has no finite constant.")
    present, user = np.unique(owner[starts], return_inverse=True)
    features = np.asfortranarray(features)  # columns are read one by one
    observed = np.empty((d + outside, starts.size))
    for j in range(d):
        observed[j] = np.add.reduceat(picked * features[:, j], starts)
    if outside:
        observed[d] = 1.0 - taken
    return Choices(
        features, starts, set_of, picked.astype(np.float64), observed, weight[starts], user, present, outside, labels
    )


def require_identified(choices: Choices) -> None:
    """Weights are told by differences inside sets (the outside option's features are zero)."""
    d = choices.features.shape[1]
    _, _, second = per_set(choices, np.zeros((1, d + choices.outside)), False)
    spread = second[0]
    scale = np.sqrt(np.maximum(np.diag(spread), 0.0))
    reach = np.sqrt(np.mean(choices.features**2, axis=0))
    names = (*choices.names, *(("outside option",) if choices.outside else ()))
    same = [choices.names[j] for j in range(d) if scale[j] <= 1e-9 * max(reach[j], 1e-300) * choices.starts.size**0.5]
    if same:
        raise FitRefused(MODEL, "not_identified", f"the same for all options of every set: {', '.join(same)}.")
    values, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    if values[0] < 1e-10 * values[-1]:
        involved = [name for name, part in zip(names, vectors[:, 0], strict=True) if abs(part) > 0.05]
        raise FitRefused(MODEL, "not_identified", f"these features determine one another: {', '.join(involved)}.")


def shares(choices: Choices, weights: Array, by_user: bool) -> tuple[Array, Array, Array]:
    """Log-likelihood of each set, and the probabilities of its options and of the outside option.

    `weights` is (users, d) with `by_user`, else one row for all.
    """
    d = choices.features.shape[1]
    if by_user:
        user = choices.user[choices.set_of]
        utility = sum((choices.features[:, j] * weights[user, j] for j in range(d)), np.zeros(user.size))
        own = weights[choices.user].T
    else:
        utility = choices.features @ weights[0, :d]
        own = np.broadcast_to(weights.T, (weights.shape[1], choices.starts.size))
    top = np.maximum.reduceat(utility, choices.starts)
    if choices.outside:
        top = np.maximum(top, own[d])
    strength = np.exp(utility - top[choices.set_of])
    ignored = np.exp(own[d] - top) if choices.outside else np.zeros(top.size)
    total = np.add.reduceat(strength, choices.starts) + ignored
    value = np.einsum("ds,ds->s", choices.observed, own) - top - np.log(total)
    return value, strength / total[choices.set_of], ignored / total


def per_set(choices: Choices, weights: Array, by_user: bool) -> tuple[Array, Array, Array]:
    """Log-likelihood of each set, and gradient (g, d) and information (g, d, d) summed by user, or over all (g = 1)."""
    value, p, ignored = shares(choices, weights, by_user)
    d = choices.features.shape[1]
    expected = np.empty_like(choices.observed)
    weighed = choices.features * p[:, None]
    for j in range(d):
        expected[j] = np.add.reduceat(weighed[:, j], choices.starts)
    if choices.outside:
        expected[d] = ignored
    surprise = choices.weight * (choices.observed - expected)
    weighed *= choices.weight[choices.set_of][:, None]
    if not by_user:
        information = -(expected * choices.weight) @ expected.T
        information[:d, :d] += choices.features.T @ weighed
        if choices.outside:
            information[d, d] += choices.weight @ ignored
        return value, surprise.sum(axis=1)[None, :], information[None]
    sets = np.flatnonzero(np.diff(choices.user, prepend=-1))
    rows = choices.starts[sets]
    gradient = np.add.reduceat(surprise, sets, axis=1).T
    by_users = np.empty((sets.size, *choices.observed.shape[:1] * 2))
    for i in range(choices.observed.shape[0]):
        for j in range(i + 1):
            part = -np.add.reduceat(choices.weight * expected[i] * expected[j], sets)
            if i < d:
                part += np.add.reduceat(weighed[:, i] * choices.features[:, j], rows)
            elif i == j:
                part += np.add.reduceat(choices.weight * ignored, sets)
            by_users[:, i, j] = by_users[:, j, i] = part
    return value, gradient, by_users
