"""Yes/no values and categories without what everybody has in common, that stay yes/no values and categories.

Each event of a user has its own expected shares (a new model made "yes" rarer for everybody from some day on). They are
coupled with the user's shares over all events, and a value is redrawn only as far as the two distributions differ: the
maximal coupling (Lindvall 2002, Lectures on the Coupling Method, I.5). What is redrawn depends on a number that belongs
to the session, so a run repeats what the one before it said.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["coupled", "positive"]

Floats = NDArray[np.float64]

_FLOOR: Final = 0.005  # least expected share of a category


def positive(expected: Floats) -> Floats:
    """Rows of shares that are positive and add up to 1."""
    held = np.clip(expected, _FLOOR, 1.0 - _FLOOR)
    return np.asarray(held / held.sum(axis=1, keepdims=True))


def coupled(outcome: Floats, expected: Floats, users: NDArray[np.int64], draw: Floats) -> NDArray[np.int64]:
    """The category of each event as it would be if the same were expected of all events of its user.

    `outcome` is one-hot (n, categories), `expected` the shares of everybody for such an event, `draw` from 0 to 1.
    """
    n = np.bincount(users).astype(np.float64)
    typical = np.stack([np.bincount(users, column) for column in expected.T], axis=1) / n[:, None]
    counted = np.stack([np.bincount(users, column) for column in outcome.T], axis=1)
    own = ((counted + typical) / (n + 1.0)[:, None])[users]
    tilted = own * expected / typical[users]
    tilted /= tilted.sum(axis=1, keepdims=True)
    seen = outcome.argmax(axis=1)
    rows = np.arange(len(seen))
    keep = np.minimum(1.0, own[rows, seen] / tilted[rows, seen])
    redrawn = draw >= keep
    lacking = np.maximum(own - tilted, 0.0)[redrawn]
    if lacking.size:
        share = (draw[redrawn] - keep[redrawn]) / (1.0 - keep[redrawn])
        steps = np.cumsum(lacking, axis=1)
        seen[redrawn] = (steps < (share * steps[:, -1])[:, None]).sum(axis=1).clip(0, outcome.shape[1] - 1)
    return np.asarray(seen, dtype=np.int64)
