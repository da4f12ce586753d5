"""Absorbing Markov chains: where traces end, after how many steps and at what cost, with credible bands.

With Q the transitions among transient states and R those into ends, the fundamental matrix (I - Q)^-1 holds the
expected visits, F = (I - Q)^-1 R the probabilities of each end (Kemeny & Snell 1960, Finite Markov Chains, ch. 3).
Bands are quantiles over draws of every row from its Dirichlet posterior (as TraceToChain, arXiv 2604.24579).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Absorption", "Band", "ReliabilityConfig", "absorption", "fundamental", "reliability"]

Array = NDArray[np.float64]
_BLOCK_CELLS = 4_000_000  # cells drawn at once: bounds memory


@dataclass(frozen=True)
class ReliabilityConfig:
    """How many draws, and the level of the bands."""

    draws: int = 500
    level: float = 0.95


@dataclass(frozen=True)
class Absorption:
    """From START: probability of each end (..., ends), expected steps (...) and expected cost (...)."""

    ends: Array
    steps: Array
    cost: Array


@dataclass(frozen=True)
class Band:
    """A quantity at the posterior mean of the chain, with its credible band."""

    estimate: float
    lower: float
    upper: float


def fundamental(q: Array) -> Array:
    """(I - Q)^-1 of substochastic matrices (..., transient, transient): expected visits to each state.

    Raises ValueError when from some state no end can be reached.
    """
    try:
        return np.asarray(np.linalg.inv(np.eye(q.shape[-1]) - q), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError("from at least one state no end can be reached: the chain is not absorbing") from error


def absorption(chain: Array, ends: int, costs: Array) -> Absorption:
    """Where the chain ends when it begins in state 0 (START).

    `chain` is (..., transient, transient - 1 + ends): the columns are the states 1.., then the ends; nothing leads back
    to START. `costs` is (..., transient), the cost of one visit. Steps count visits without START.
    Raises ValueError for another shape, or when no end can be reached.
    """
    transient = chain.shape[-2]
    if chain.shape[-1] != transient - 1 + ends or ends < 1:
        raise ValueError(f"a chain of {transient} states and {ends} ends has {transient - 1 + ends} columns")
    system = np.zeros((*chain.shape[:-2], transient, transient))
    system[..., :, 1:] = chain[..., :, : transient - 1]
    system = np.eye(transient) - system
    # Visits from START solve x (I - Q) = e_0: one right-hand side instead of the whole inverse.
    start = np.zeros((*chain.shape[:-2], transient, 1))
    start[..., 0, 0] = 1.0
    try:
        visits = np.linalg.solve(np.swapaxes(system, -1, -2), start)[..., 0]
    except np.linalg.LinAlgError as error:
        raise ValueError("from at least one state no end can be reached: the chain is not absorbing") from error
    reached = np.einsum("...s,...se->...e", visits, chain[..., :, transient - 1 :])
    return Absorption(reached, visits[..., 1:].sum(axis=-1), (visits * costs).sum(axis=-1))


def reliability(
    posterior: Array,
    ends: int,
    costs: Array,
    cost_se: Array,
    random: np.random.Generator,
    config: ReliabilityConfig | None = None,
) -> dict[str, Band]:
    """Bands of the absorbing chain whose rows have the Dirichlet parameters `posterior` (transient, to), all positive.

    `costs` is the mean cost of a visit to each transient state and `cost_se` its standard error. The first two ends are
    success and failure. Keys: end_0, end_1, .., first_of_two (success of those that ended either way), steps, cost.
    """
    config = config or ReliabilityConfig()
    if posterior.ndim != 2 or not np.all(np.isfinite(posterior)) or np.any(posterior <= 0):
        raise ValueError("Dirichlet parameters must be a matrix of finite positive numbers")
    centre = _measures(absorption(posterior / posterior.sum(axis=1, keepdims=True), ends, costs))
    block = max(1, _BLOCK_CELLS // posterior.size)
    parts = []
    for begin in range(0, config.draws, block):
        size = min(block, config.draws - begin)
        # Parameters near zero underflow: a draw of nothing at all is replaced by the mean of its row.
        drawn = random.standard_gamma(posterior, size=(size, *posterior.shape))
        total = drawn.sum(axis=-1, keepdims=True)
        chain = np.where(total > 0.0, drawn, posterior) / np.where(total > 0.0, total, posterior.sum(axis=1)[:, None])
        # A state that in this draw never ends and never leaves would make the chain endless.
        chain = np.maximum(chain, 1e-12)
        chain /= chain.sum(axis=-1, keepdims=True)
        cost = np.maximum(costs + cost_se * random.standard_normal((size, costs.size)), 0.0)
        parts.append(_measures(absorption(chain, ends, cost)))
    tail = (1.0 - config.level) / 2.0
    bands = {}
    for name, value in centre.items():
        lower, upper = np.quantile(np.concatenate([part[name] for part in parts]), [tail, 1.0 - tail])
        # The mean of a share next to 0 or 1 can lie beyond nearly all of its draws.
        bands[name] = Band(float(value[0]), min(float(lower), float(value[0])), max(float(upper), float(value[0])))
    return bands


def _measures(found: Absorption) -> dict[str, Array]:
    ends = np.atleast_2d(found.ends)
    measures = {f"end_{place}": ends[:, place] for place in range(ends.shape[1])}
    if ends.shape[1] > 1:
        judged = ends[:, 0] + ends[:, 1]
        measures["first_of_two"] = ends[:, 0] / np.maximum(judged, 1e-300)
    return {**measures, "steps": np.atleast_1d(found.steps), "cost": np.atleast_1d(found.cost)}
