"""Maximum causal entropy inverse reinforcement learning on abstract states: what logged behaviour acts as if it valued.

Behaviour is π(a|s) = exp(Q(s,a) - V(s)) with Q(s,a) = θ·f(s,a) + γ Σ P(s'|s,a) V(s') and V(s) = log Σ_a exp Q(s,a)
(Ziebart, Bagnell & Dey 2010, ICML). The gradient of the log-likelihood of the observed choices is observed minus
expected feature counts; with G = ∂V/∂θ, which solves (I - γ P_π) G = Σ_a π f, it is Σ n(s,a) (f + γ P G - G(s)), exact
for every γ. Scale and shaping are not identified by behaviour alone (Ng, Harada & Russell 1999): weights are reported
as ratios to an anchor feature, with intervals by bootstrap over users, and only where the anchor itself is not zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Decisions", "MaxentConfig", "MaxentError", "Weights", "fit", "soft_values"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


_MOST_STEPS = 100
_NO_INFORMATION = 1e-9
_CONVERGED = 1e-11  # predicted gain of log-likelihood per choice


class MaxentError(ValueError):
    """Decisions from which nothing can be learned; the text says what was expected and what came."""


@dataclass(frozen=True)
class Decisions:
    """A finite decision process and what was chosen in it.

    `transition` (states, actions, states) is P(s'|s,a), rows summing to at most 1: what is missing ends the episode;
    `available` (states, actions) says what can be chosen; `features` (states, actions, features). Choices are given as
    `state`, `action`, `user` (codes from 0) and how often, `n`, all (choices,).
    """

    transition: Array
    available: Bools
    features: Array
    names: Sequence[str]
    state: Ints
    action: Ints
    user: Ints
    n: Array


@dataclass(frozen=True)
class MaxentConfig:
    """Discount γ, ridge on θ (of features of unit spread), bootstrap replicates, level, and users that are enough."""

    discount: float = 0.95
    ridge: float = 1e-3
    replicates: int = 100
    level: float = 0.95
    min_users: int = 10


@dataclass(frozen=True)
class Weights:
    """θ per feature with its interval, and the ratio to |θ of the anchor| with its interval; NaN where undefined.

    `identified` is False for features of which the choices say nothing beside the others: never different, or the same
    as others together.
    `gap` is the largest absolute difference of observed and expected feature counts per choice at the solution.
    """

    names: tuple[str, ...]
    weight: Array
    lower: Array
    upper: Array
    ratio: Array
    ratio_lower: Array
    ratio_upper: Array
    identified: Bools
    anchor: str
    choices: float
    users: int
    gap: float
    notes: tuple[str, ...]


def soft_values(
    reward: Array, transition: Array, available: Bools, discount: float, start: Array | None = None
) -> tuple[Array, Array]:
    """V (states,) and π (states, actions) of soft value iteration, by Newton steps on the soft Bellman equation.

    States without actions are ends: V is 0 there. Raises MaxentError where no finite V exists.
    """
    acts = available.any(axis=1)
    value = np.zeros(reward.shape[0]) if start is None else start.copy()
    identity = np.eye(reward.shape[0])
    for _ in range(200):
        q = np.where(available, reward + discount * transition @ value, -np.inf)
        top = np.where(acts, q.max(axis=1, initial=-np.inf), 0.0)
        weight = np.where(available, np.exp(q - top[:, None]), 0.0)
        total = weight.sum(axis=1)
        updated = np.where(acts, top + np.log(np.where(acts, total, 1.0)), 0.0)
        policy = weight / np.where(acts, total, 1.0)[:, None]
        residual = updated - value
        if not np.all(np.isfinite(residual)):
            break
        if np.abs(residual).max() < 1e-10:
            return updated, policy
        step = identity - discount * np.einsum("sa,sat->st", policy, transition)
        try:
            value = value + np.linalg.solve(step, residual)
        except np.linalg.LinAlgError:
            break
    raise MaxentError("soft value iteration found no finite values; lower the discount")


def fit(decisions: Decisions, anchor: str, random: np.random.Generator, config: MaxentConfig | None = None) -> Weights:
    """Fit θ by maximum likelihood with a small ridge.

    Args: `anchor` names the feature whose weight is the unit. Raises MaxentError for shapes that differ, probabilities
    out of range, a choice that was not available, or an anchor that is not among the names.
    """
    config = config or MaxentConfig()
    _check(decisions, anchor)
    spread = _spread(decisions)
    problem = _Problem(decisions, spread, config)
    cells, cell = np.unique(decisions.state * decisions.available.shape[1] + decisions.action, return_inverse=True)
    users = int(decisions.user.max()) + 1
    by_user = sparse.csr_matrix((decisions.n, (decisions.user, cell)), shape=(users, cells.size))
    everyone = np.asarray(by_user.sum(axis=0)).ravel()
    theta = problem.solve(cells, everyone, np.zeros(len(decisions.names)))
    identified = problem.identified(theta, cells, everyone)
    gap = float(np.abs(problem.gradient(theta, cells, everyone)).max() / everyone.sum())
    names = tuple(decisions.names)
    at = names.index(anchor)
    active = int(np.count_nonzero(np.asarray(by_user.sum(axis=1)).ravel()))
    notes: list[str] = []
    draws = np.empty((0, theta.size))
    if active >= config.min_users:
        draws = np.stack(
            [
                problem.solve(cells, random.multinomial(users, np.full(users, 1.0 / users)) @ by_user, theta)
                for _ in range(config.replicates)
            ]
        )
    else:
        notes.append(f"Intervals need {config.min_users} users; {active} are known.")
    scaled, scaled_draws = theta / spread, draws / spread
    tail = 100.0 * (1.0 - config.level) / 2.0
    lower, upper = _limits(scaled_draws, tail, theta.size)
    ratio = np.full(theta.size, np.nan)
    ratio_lower, ratio_upper = ratio.copy(), ratio.copy()
    if not identified[at] or not lower[at] * upper[at] > 0.0:
        notes.append(f"The weight of {anchor} cannot be told from zero, so there are no ratios to it.")
    else:
        ratio = scaled / abs(scaled[at])
        ratio_lower, ratio_upper = _limits(scaled_draws / np.abs(scaled_draws[:, [at]]), tail, theta.size)
    for array in (scaled, lower, upper, ratio, ratio_lower, ratio_upper):
        array[~identified] = np.nan
    return Weights(
        names, scaled, lower, upper, ratio, ratio_lower, ratio_upper, identified, anchor, float(everyone.sum()), active,
        gap, tuple(notes),
    )  # fmt: skip


class _Problem:
    """The likelihood as a function of θ (on features of unit spread) and of how often each cell was chosen."""

    def __init__(self, decisions: Decisions, spread: Array, config: MaxentConfig) -> None:
        self._transition, self._available = decisions.transition, decisions.available
        self._features = decisions.features / spread
        self._config = config
        self._value = np.zeros(decisions.available.shape[0])

    def solve(self, cells: Ints, n: Array, start: Array) -> Array:
        """θ at the maximum of the penalised likelihood, by Fisher scoring with step halving."""
        total = max(float(n.sum()), 1.0)
        ridge = self._config.ridge
        theta = start
        value, slope, information = self._likelihood(theta, cells, n)
        value = value / total - ridge * float(theta @ theta) / 2.0
        for _ in range(_MOST_STEPS):
            gradient = slope / total - ridge * theta
            # The tiny diagonal keeps the system solvable where features are collinear.
            curvature = information / total + (ridge + _NO_INFORMATION) * np.eye(theta.size)
            step = np.linalg.solve(curvature, gradient)
            gain = float(gradient @ step) / 2.0
            if gain < _CONVERGED:
                break
            # Scoring may overshoot: halve until the likelihood rises by a share of what was predicted.
            for size in (1.0, 0.5, 0.25, 0.125, 0.0625, 0.015625, 0.001):
                trial = theta + size * step
                likelihood, slope, information = self._likelihood(trial, cells, n)
                improved = likelihood / total - ridge * float(trial @ trial) / 2.0
                if improved >= value + 0.1 * size * gain:
                    break
            theta, value = trial, improved
        return theta

    def identified(self, theta: Array, cells: Ints, n: Array) -> Bools:
        """Whether each weight has information of its own, beside that about the others, per choice."""
        information = self._likelihood(theta, cells, n)[2] / max(float(n.sum()), 1.0)
        own = 1.0 / np.diag(np.linalg.inv(information + _NO_INFORMATION * np.eye(theta.size)))
        return np.asarray(own > 100.0 * _NO_INFORMATION, dtype=bool)

    def gradient(self, theta: Array, cells: Ints, n: Array) -> Array:
        """Observed minus expected feature counts."""
        return self._likelihood(theta, cells, n)[1]

    def _likelihood(self, theta: Array, cells: Ints, n: Array) -> tuple[float, Array, Array]:
        """Log-likelihood, its gradient, and the Fisher information: the covariance of the score of each choice."""
        discount, actions = self._config.discount, self._available.shape[1]
        reward = self._features @ theta
        value, policy = soft_values(reward, self._transition, self._available, discount, self._value)
        self._value = value
        step = np.einsum("sa,sat->st", policy, self._transition)
        slopes = np.linalg.solve(np.eye(value.size) - discount * step, np.einsum("sa,saf->sf", policy, self._features))
        score = self._features + discount * self._transition @ slopes - slopes[:, None, :]
        q = reward + discount * self._transition @ value - value[:, None]
        s, a = cells // actions, cells % actions
        visits = np.bincount(s, weights=n, minlength=value.size)
        weighted = (visits[:, None] * policy)[:, :, None] * score
        return float(n @ q[s, a]), n @ score[s, a], np.einsum("saf,sag->fg", weighted, score)


def _spread(decisions: Decisions) -> Array:
    """Standard deviation of each feature over available actions; 1 where it never differs."""
    spread = decisions.features[decisions.available].std(axis=0)
    return np.where(spread > 1e-9, spread, 1.0)


def _limits(draws: Array, tail: float, size: int) -> tuple[Array, Array]:
    if draws.shape[0] == 0:
        return np.full(size, np.nan), np.full(size, np.nan)
    lower, upper = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return lower, upper


def _check(decisions: Decisions, anchor: str) -> None:
    states, actions = decisions.available.shape
    wanted = {"transition": (states, actions, states), "features": (states, actions, len(decisions.names))}
    for name, shape in wanted.items():
        came = getattr(decisions, name)
        if came.shape != shape:
            raise MaxentError(f"{name} must have the shape {shape}, came {came.shape}")
        if not np.all(np.isfinite(came)):
            raise MaxentError(f"{name} must be finite")
    if np.any(decisions.transition < 0) or np.any(decisions.transition.sum(axis=2) > 1.0 + 1e-9):
        raise MaxentError("transition must hold probabilities that sum to at most 1 for each state and action")
    if anchor not in decisions.names:
        raise MaxentError(f"the anchor {anchor!r} is not among the features {', '.join(decisions.names)}")
    if decisions.n.size == 0 or np.any(decisions.n < 0) or not decisions.n.sum() > 0:
        raise MaxentError("there must be at least one choice, and none counted a negative number of times")
    if not np.all(decisions.available[decisions.state, decisions.action]):
        raise MaxentError("a choice was made that is not among the available ones")
