"""Shapley values: what each member of a coalition adds, averaged over all orders of joining (Shapley 1953).

Exact over all coalitions for few members, with sampled orders beyond (Castro, Gómez & Tejada 2009, Computers &
Operations Research 36:1726-1730). Many games of the same size are solved at once.
"""

from collections.abc import Callable
from math import factorial

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_EXACT", "coalitions", "draw_orders", "exact", "from_orders", "sampled"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST_EXACT = 8


def exact(worth: Floats) -> Floats:
    """Shapley values of games with n members, shape (games, n).

    Args: `worth` (games, 2^n): what each coalition is worth; bit i of the column's number is member i, column 0 the
    empty one. Raises ValueError when the columns are no power of two.
    """
    coalitions = worth.shape[1]
    members = coalitions.bit_length() - 1
    if coalitions != 1 << members:
        raise ValueError(f"expected 2^n coalitions, came {coalitions}")
    masks = np.arange(coalitions)
    size = np.array([int(mask).bit_count() for mask in masks])
    values = np.empty((worth.shape[0], members))
    for member in range(members):
        without = masks[(masks >> member) & 1 == 0]
        weight = np.array([factorial(s) * factorial(members - s - 1) / factorial(members) for s in size[without]])
        values[:, member] = (worth[:, without | (1 << member)] - worth[:, without]) @ weight
    return values


def draw_orders(members: int, random: np.random.Generator, orders: int = 200) -> Ints:
    """Random orders of joining, each also in reverse, which cancels part of the noise: shape (2 orders, members)."""
    drawn = random.permuted(np.tile(np.arange(members), (orders, 1)), axis=1)
    return np.concatenate([drawn, drawn[:, ::-1]])


def coalitions(orders: Ints) -> NDArray[np.bool_]:
    """Who has joined after 0, 1, ... members of each order: shape (orders, members + 1, members)."""
    count, members = orders.shape
    place = np.empty_like(orders)
    np.put_along_axis(place, orders, np.broadcast_to(np.arange(members), (count, members)), axis=1)
    return place[:, None, :] < np.arange(members + 1)[None, :, None]


def from_orders(orders: Ints, worth: Floats) -> Floats:
    """Shapley values of one game from `worth` (orders, members + 1) of the coalitions of `coalitions`.

    They sum to what all are worth minus what nobody is, whatever orders were drawn.
    """
    added = np.empty((len(orders), orders.shape[1]))
    np.put_along_axis(added, orders, np.diff(worth, axis=1), axis=1)
    return np.asarray(added.mean(axis=0))


def sampled(
    worth: Callable[[NDArray[np.bool_]], Floats], members: int, random: np.random.Generator, orders: int = 200
) -> Floats:
    """Shapley values of one game from sampled orders; `worth` values coalitions given as flags (rows, members)."""
    drawn = draw_orders(members, random, orders)
    joined = coalitions(drawn)
    return from_orders(drawn, worth(joined.reshape(-1, members)).reshape(len(drawn), members + 1))
