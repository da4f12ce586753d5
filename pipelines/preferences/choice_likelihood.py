"""Lists that people chose from, and the likelihood of what they chose: the two kinds of lists of `weights`.

Everything is per item in the order of people and lists; what belongs to a list or a person is a sum over its run.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = [
    "Choices", "constant_of", "constant_scores", "first_constants", "is_list_constant", "log_likelihood", "parts",
    "sample", "scores", "starts",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROWS_AT_ONCE: Final = 200_000


@dataclass(frozen=True)
class Choices:
    """Shown items in the order of users and lists, one entry an item; at least one item, codes without gaps.

    features   (items, features), the last column 1: a person's own readiness to choose anything
    user       code of the person, ascending;  shown  code of the list, ascending, lists of a user together
    chosen     whether it was chosen;  any_number  whether its list is of the kind "pick any"
    examination  probability that its position is looked at (used for "pick any" only)
    place      (items, 2) codes of its constants: the list's own (agent and arm) and the position's, -1 for none
    places     how many codes there are;  segment  (users,) code of each person's segment, from 0
    """

    features: Floats
    user: Ints
    shown: Ints
    chosen: Bools
    any_number: Bools
    examination: Floats
    place: Ints
    places: int
    segment: Ints

    @property
    def users(self) -> int:
        """How many people there are."""
        return len(self.segment)


def scores(part: Choices, weights: Floats, constants: Floats) -> tuple[Floats, Floats]:
    """Gradient (users, p) and expected information (users, p, p) of each person's log-likelihood."""
    first, second, probability = _items(part, weights, constants)
    x = part.features
    begins = starts(part.user)
    gradient = np.add.reduceat(first[:, None] * x, begins, axis=0)
    products = (second[:, None] * x)[:, :, None] * x[:, None, :]
    information = np.add.reduceat(products, begins, axis=0)
    if not part.any_number.all():
        # Within a list of which one item is chosen the items compete: minus the square of the mean feature.
        lists = starts(part.shown)
        mean = np.add.reduceat(np.where(part.any_number, 0.0, probability)[:, None] * x, lists, axis=0)
        owner = starts(part.user[lists])
        information -= np.add.reduceat(mean[:, :, None] * mean[:, None, :], owner, axis=0)
    return gradient, information


def _items(part: Choices, weights: Floats, constants: Floats) -> tuple[Floats, Floats, Floats]:
    """First derivative, expected second derivative and probability of each item's choice by its own utility."""
    utility = np.einsum("ij,ij->i", part.features, weights[part.user]) + constant_of(part, constants)
    chosen = part.chosen.astype(np.float64)
    single = expit(utility)
    seen = part.examination * single
    unseen = np.maximum(1.0 - seen, 1e-12)
    first = (chosen - seen) * (1.0 - single) / unseen
    second = seen * (1.0 - single) ** 2 / unseen
    if part.any_number.all():
        return first, second, seen
    odds = np.exp(np.clip(utility, -30.0, 30.0))
    lists = starts(part.shown)
    total = 1.0 + np.add.reduceat(odds, lists)
    competing = odds / np.repeat(total, np.diff(np.append(lists, len(odds))))
    picked = part.any_number
    return (
        np.where(picked, first, chosen - competing),
        np.where(picked, second, competing),
        np.where(picked, seen, competing),
    )


def log_likelihood(part: Choices, weights: Floats, fixed: Floats) -> Floats:
    """Each person's log-likelihood at weights (users, p); `fixed` is the sum of each item's constants."""
    utility = np.einsum("ij,ij->i", part.features, weights[part.user]) + fixed
    seen = part.examination * expit(utility)
    alone = np.log(np.maximum(np.where(part.chosen, seen, 1.0 - seen), 1e-300))
    if part.any_number.all():
        return np.asarray(np.add.reduceat(alone, starts(part.user)))
    odds = np.where(part.any_number, 0.0, np.exp(np.clip(utility, -30.0, 30.0)))
    lists = starts(part.shown)
    of_lists = -np.log1p(np.add.reduceat(odds, lists))
    items = np.where(part.any_number, alone, np.where(part.chosen, utility, 0.0))
    owner = starts(part.user[lists])
    return np.asarray(np.add.reduceat(items, starts(part.user)) + np.add.reduceat(of_lists, owner))


def constant_scores(part: Choices, weights: Floats, constants: Floats) -> tuple[Floats, Floats]:
    """Gradient and a bound of the curvature of the log-likelihood by each constant."""
    first, second, probability = _items(part, weights, constants)
    gradient, curvature = np.zeros(part.places), np.zeros(part.places)
    for column in range(part.place.shape[1]):
        code = part.place[:, column]
        has = code >= 0
        gradient += np.bincount(code[has], weights=first[has], minlength=part.places)
        if column == 0:
            # All items of a list share this constant: of one choice it moves the list against "ignore".
            lists = starts(part.shown)
            inside = np.add.reduceat(np.where(part.any_number, 0.0, probability), lists)
            own = has[lists]
            curvature -= np.bincount(code[lists][own], weights=(inside**2)[own], minlength=part.places)
            curvature += np.bincount(code[has], weights=second[has], minlength=part.places)
        else:
            bound = np.where(part.any_number, second, probability * (1.0 - probability))
            curvature += np.bincount(code[has], weights=bound[has], minlength=part.places)
    return gradient, np.maximum(curvature, 0.0)


def constant_of(part: Choices, constants: Floats) -> Floats:
    """The sum of each item's constants."""
    padded = np.append(constants, 0.0)  # code -1 reads the last: none
    total: Floats = padded[part.place].sum(axis=1)
    return total


def is_list_constant(choices: Choices) -> Floats:
    """1 for the constants of lists, 0 for those of positions."""
    flags = np.zeros(choices.places)
    flags[np.unique(choices.place[:, 0])] = 1.0
    return flags


def first_constants(choices: Choices) -> Floats:
    """Constants to start from: the log odds of each list constant's share of chosen items."""
    code = choices.place[:, 0]
    shown = np.bincount(code, minlength=choices.places)
    chosen = np.bincount(code, weights=choices.chosen, minlength=choices.places)
    share = (chosen + 0.5) / (shown + 1.0)
    return np.where(shown > 0, np.log(share / (1.0 - share)), 0.0)


def parts(choices: Choices) -> list[tuple[slice, Choices]]:
    """Consecutive people with about `ROWS_AT_ONCE` items together, so that a part's arrays stay in the cache."""
    begins = np.append(starts(choices.user), len(choices.user))
    found, user = [], 0
    while user < choices.users:
        end = int(np.searchsorted(begins, begins[user] + ROWS_AT_ONCE, side="right")) - 1
        end = min(max(end, user + 1), choices.users)
        found.append((slice(user, end), _take(choices, user, end, begins)))
        user = end
    return found


def sample(choices: Choices, most: int) -> Choices:
    """Evenly spaced people, and at least a few of every segment where there are any."""
    kept = np.zeros(choices.users, bool)
    order = np.argsort(choices.segment, kind="stable")
    kept[order[np.linspace(0, choices.users - 1, most).astype(np.int64)]] = True
    for segment in range(int(choices.segment.max()) + 1):
        kept[np.flatnonzero(choices.segment == segment)[:100]] = True
    rows = kept[choices.user]
    renumbered = np.cumsum(kept) - 1
    return replace(
        choices,
        features=choices.features[rows],
        user=renumbered[choices.user[rows]],
        shown=choices.shown[rows],
        chosen=choices.chosen[rows],
        any_number=choices.any_number[rows],
        examination=choices.examination[rows],
        place=choices.place[rows],
        segment=choices.segment[kept],
    )


def _take(choices: Choices, first: int, last: int, begins: Ints) -> Choices:
    rows = slice(int(begins[first]), int(begins[last]))
    shown = choices.shown[rows]
    return replace(
        choices,
        features=choices.features[rows],
        user=choices.user[rows] - first,
        shown=shown - shown[0],
        chosen=choices.chosen[rows],
        any_number=choices.any_number[rows],
        examination=choices.examination[rows],
        place=choices.place[rows],
        segment=choices.segment[first:last],
    )


def starts(codes: Ints) -> Ints:
    """Where each run of equal codes begins."""
    return np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])).astype(np.int64)
