"""Does what came before the present state matter? An order-2 chain against the order-1 chain on held-out traces.

p(s''|s,s') = (n(s,s',s'') + κ₂ p(s''|s')) / (n(s,s') + κ₂): the order-2 chain has the order-1 chain as its prior (as in
MacKay & Peto 1995), so it can only lose by the price of its parameters. History matters here when the held-out loss is
more than 2 % lower (METHODS §5) and the 95 % interval over traces of the gain lies above zero.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.transitions.dirichlet import (
    DirichletConfig,
    concentration,
    pooled,
    predictive,
    user_concentration,
)

__all__ = ["OrderConfig", "OrderVerdict", "order_test"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Verdict = Literal["history matters here", "no history needed", "can't tell yet"]

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class OrderConfig:
    """The gain that matters, as a share of the order-1 loss, and how many held-out traces are enough."""

    threshold: float = 0.02
    min_traces: int = 30


@dataclass(frozen=True)
class OrderVerdict:
    """Held-out losses (nats a step), the gain of order 2 as a share of the order-1 loss with its interval, and n."""

    verdict: Verdict
    loss_first: float | None
    loss_second: float | None
    gain: float | None
    lower: float | None
    upper: float | None
    traces: int
    transitions: int


def order_test(
    source: Ints, target: Ints, trace: Ints, held: Bools, states: tuple[int, int], config: OrderConfig | None = None
) -> OrderVerdict:
    """Compare the two chains.

    `source` and `target` of each transition in order within each `trace` (0 is START and begins a trace), `held` the
    transitions of held-out traces: all (transitions,). `states` is how many from-states and to-states there are; a
    to-state j is the from-state j + 1.
    """
    config = config or OrderConfig()
    held_traces = int(np.unique(trace[held]).size)
    if held_traces < config.min_traces or not np.any(~held):
        return OrderVerdict("can't tell yet", None, None, None, None, None, held_traces, int(held.sum()))
    # START is before every first step: it stands in for the state before it.
    before = np.where(source == 0, 0, np.concatenate([[0], source[:-1]]))
    counts = np.bincount(source[~held] * states[1] + target[~held], minlength=states[0] * states[1])
    matrix = counts.reshape(states).astype(np.float64)
    base = pooled(matrix)
    first = predictive(matrix, base, concentration(matrix, base).value)
    p_first = first[source[held], target[held]]
    p_second = _second_order(before, source, target, held, states, first)
    loss_first, loss_second = -np.log(p_first), -np.log(p_second)
    gain, margin = _ratio(loss_first - loss_second, loss_first, trace[held])
    lower, upper = gain - margin, gain + margin
    verdict: Verdict = "can't tell yet"
    if gain > config.threshold and lower > 0.0:
        verdict = "history matters here"
    elif upper < config.threshold:
        verdict = "no history needed"
    return OrderVerdict(
        verdict, float(loss_first.mean()), float(loss_second.mean()), gain, lower, upper, held_traces, int(held.sum())
    )


def _second_order(
    before: Ints, source: Ints, target: Ints, held: Bools, states: tuple[int, int], first: Array
) -> Array:
    """p(target | before, source) of the held-out transitions."""
    pairs, pair = np.unique(before * states[0] + source, return_inverse=True)
    triples, triple = np.unique(pair * states[1] + target, return_inverse=True)
    training = ~held
    n_pair = np.bincount(pair[training], minlength=pairs.size).astype(np.float64)
    n_triple = np.bincount(triple[training], minlength=triples.size).astype(np.float64)
    of_pair, to = triples // states[1], triples % states[1]
    prior = first[pairs[of_pair] % states[0], to]
    seen = n_triple > 0
    group = np.unique(of_pair[seen], return_inverse=True)[1]
    kappa = user_concentration(n_triple[seen], prior[seen], group, DirichletConfig(highest=1e6)).value
    p = (n_triple + kappa * prior) / (n_pair[of_pair] + kappa)
    return np.asarray(p[triple[held]], dtype=np.float64)


def _ratio(gain: Array, loss: Array, trace: Ints) -> tuple[float, float]:
    """Sum of gains over sum of losses and the 95 % margin of that ratio, with traces as clusters (delta method)."""
    codes = np.unique(trace, return_inverse=True)[1]
    gains, losses = np.bincount(codes, weights=gain), np.bincount(codes, weights=loss)
    ratio = float(gains.sum() / losses.sum())
    residual = gains - ratio * losses
    n = gains.size
    se = float(np.sqrt(np.sum(residual**2) * n / (n - 1)) / losses.sum())
    return ratio, _Z95 * se
