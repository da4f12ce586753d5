"""Our stopping rule beside TensorZero's published one, on the same streams of binary rewards.

TensorZero (track-and-stop, METHODS §6) declares the leader L the winner when the generalised likelihood ratio

    min over i of (μ_L - μ_i + ε)² / (2 (v_L / n_L + v_i / n_i))  >  ln((1 + ln t) / δ)

with means μ, variances v and counts n of each arm over t pulls (Garivier & Kaufmann 2016, "Optimal best arm
identification with fixed confidence", for Gaussian arms). Ours is `pipelines.exploration.stopping`: the confidence
sequence of the propensity-weighted contrast with the baseline. δ = α = .05, ε = 0, ten pulls an arm at least.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.exploration.pseudo_outcomes import BURN_IN, contrast, looks
from pipelines.steering.propensities import propensities

__all__ = ["Row", "Streams", "likelihood_ratio", "measure", "ours"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ALPHA = 0.05
EVERY = 40  # pulls between looks
_LEAST = 10
_TOGETHER = 100  # runs held in memory at once
_REFRESH = 40


class Streams(NamedTuple):
    """Runs side by side: rewards and drawn arms (runs, n), probabilities (runs, n, arms)."""

    reward: Floats
    drawn: Ints
    p: Floats


@dataclass(frozen=True)
class Row:
    """One setting and rule: share of runs with a wrong winner, with the right one, and the median pull of the latter.

    With equal arms every winner is wrong. The median is over all runs, None when less than half have the right one.
    """

    setting: str
    rule: str
    runs: int
    wrong: float
    right: float
    decisions: float | None


def measure(scale: int = 1) -> list[Row]:
    """Every setting with a `scale`-th of its runs."""
    even = partial(_even, n=20_000)
    steered = partial(_steered, n=10_000)
    settings = [
        ("equal, .5 each", 2_000, partial(even, means=(0.5, 0.5))),
        ("equal, .1 each", 2_000, partial(even, means=(0.1, 0.1))),
        ("equal, five of .5", 500, partial(even, means=(0.5,) * 5)),
        ("gap .02", 1_000, partial(even, means=(0.5, 0.52))),
        ("gap .05", 500, partial(even, means=(0.5, 0.55))),
        ("gap .1", 500, partial(even, means=(0.5, 0.6))),
        ("steered, equal, .3 each", 1_000, partial(steered, means=(0.3, 0.3), drift=0.0)),
        ("steered, equal, rising from .3 to .7", 1_000, partial(steered, means=(0.3, 0.3), drift=0.4)),
        ("steered, gap .1", 500, partial(steered, means=(0.5, 0.6), drift=0.0)),
    ]
    rows = []
    for number, (name, runs, draw) in enumerate(settings):
        random = np.random.default_rng(number)
        parts = [_judged(draw(random, min(_TOGETHER, left))) for left in range(max(runs // scale, 10), 0, -_TOGETHER)]
        for place, rule in enumerate(("TensorZero", "ours", "ours, looks at every pull")):
            at, side, best = (np.concatenate([part[place][field] for part in parts]) for field in range(3))
            rows.append(_row(name, rule, at, side, best))
    return rows


def likelihood_ratio(streams: Streams, *, every: int = EVERY, delta: float = ALPHA) -> tuple[Floats, Ints]:
    """TensorZero's rule: the pull at which each run has a winner (inf for never) and which arm that is."""
    arms = streams.p.shape[-1]
    at = slice(every - 1, None, every)
    t = np.arange(1.0, streams.reward.shape[1] + 1.0)[at]
    counts, sums = (
        np.stack([np.cumsum((streams.drawn == arm) * x, axis=1)[:, at] for arm in range(arms)], axis=-1)
        for x in (1.0, streams.reward)
    )
    n = np.maximum(counts, 1.0)
    mean = sums / n
    variance = np.maximum(mean * (1.0 - mean) * n / np.maximum(n - 1.0, 1.0), 1e-12) / n
    leader = mean.argmax(axis=-1)[..., None]
    gap = np.take_along_axis(mean, leader, axis=-1) - mean
    ratio = gap**2 / (2.0 * (np.take_along_axis(variance, leader, axis=-1) + variance))
    np.put_along_axis(ratio, leader, np.inf, axis=-1)
    told = (ratio.min(axis=-1) > np.log((1.0 + np.log(t)) / delta)) & (counts.min(axis=-1) >= _LEAST)
    return _first(told, t, leader[..., 0])


def ours(streams: Streams, *, every: int = EVERY, alpha: float = ALPHA) -> tuple[Floats, Ints]:
    """Our rule, arm 0 as the baseline: an arm wins when it is better, the baseline when all the others are worse."""
    arms = streams.p.shape[-1]
    lower, upper = [], []
    for arm in range(1, arms):
        found = contrast(
            streams.reward, streams.drawn == arm, streams.drawn == 0, streams.p[..., arm], streams.p[..., 0]
        )
        seen = looks(found, alpha=alpha / (arms - 1))
        lower.append(seen.lower)
        upper.append(seen.upper)
    t = np.arange(BURN_IN + 1.0, streams.reward.shape[1] + 1.0)
    at = t % every == 0
    low, high = np.stack(lower, axis=-1)[:, at], np.stack(upper, axis=-1)[:, at]
    better, worse = np.any(low > 0.0, axis=-1), np.all(high < 0.0, axis=-1)
    winner = np.where(better, 1 + np.where(np.isnan(low), -np.inf, low).argmax(axis=-1), 0)
    return _first(np.logical_or(better, worse), t[at], winner)


def _first(told: NDArray[np.bool_], t: Floats, winner: Ints) -> tuple[Floats, Ints]:
    place = told.argmax(axis=1)
    pull = np.where(told.any(axis=1), t[place], np.inf)
    return pull, np.where(told.any(axis=1), np.take_along_axis(winner, place[:, None], axis=1)[:, 0], -1)


def _judged(drawn: tuple[Streams, int]) -> list[tuple[Floats, Ints, Ints]]:
    """Per rule: the pull of the verdict, the winner, and the arm that is best (-1: none)."""
    streams, best = drawn
    found = [likelihood_ratio(streams), ours(streams), ours(streams, every=1)]
    return [(pull, winner, np.full(winner.shape, best)) for pull, winner in found]


def _row(setting: str, rule: str, pull: Floats, winner: Ints, best: Ints) -> Row:
    right = (winner >= 0) & (winner == best)
    median = float(np.median(np.where(right, pull, np.inf)))
    wrong = (winner >= 0) & (winner != best)
    return Row(
        setting, rule, winner.size, float(wrong.mean()), float(right.mean()), median if np.isfinite(median) else None
    )


def _best(means: tuple[float, ...]) -> int:
    return -1 if len(set(means)) == 1 else int(np.argmax(means))


def _even(random: np.random.Generator, runs: int, *, n: int, means: tuple[float, ...]) -> tuple[Streams, int]:
    """Arms drawn evenly."""
    arms = len(means)
    drawn = random.integers(arms, size=(runs, n))
    reward = (random.random((runs, n)) < np.asarray(means)[drawn]).astype(np.float64)
    return Streams(reward, drawn, np.broadcast_to(1.0 / arms, (runs, n, arms))), _best(means)


def _steered(
    random: np.random.Generator, runs: int, *, n: int, means: tuple[float, ...], drift: float
) -> tuple[Streams, int]:
    """Arms drawn as the steering endpoint does it, its posterior from all that came before; `drift` is added to every
    arm's mean over the run."""
    arms, rows = len(means), np.arange(runs)
    good, seen = np.ones((runs, arms)), np.full((runs, arms), 2.0)
    reward, drawn, p = np.empty((runs, n)), np.empty((runs, n), dtype=np.int64), np.empty((runs, n, arms))
    present = np.full((runs, arms), 1.0 / arms)
    for t in range(n):
        if t and t % _REFRESH == 0:
            mean = good / seen
            present = propensities(mean, np.sqrt(mean * (1 - mean) / (seen + 1)), 1.0, propensity_floor=0.05).vector
        drawn[:, t] = (random.random((runs, 1)) > np.cumsum(present, axis=1)[:, :-1]).sum(axis=1)
        reward[:, t] = random.random(runs) < np.asarray(means)[drawn[:, t]] + drift * t / n
        p[:, t] = present
        good[rows, drawn[:, t]] += reward[:, t]
        seen[rows, drawn[:, t]] += 1
    return Streams(reward, drawn, p), _best(means)
