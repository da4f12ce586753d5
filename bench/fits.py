"""The statistical fits beside packages that fit the same model, on the same simulated data.

A peer runs in an environment of its own, DIR/<package> of `--peers`, because most cannot be installed beside our numpy:
python -m venv DIR/choix; DIR/choix/bin/pip install choix==0.4.1 (so too xlogit==0.2.7 and statsmodels==0.15.0).
Without it a row has our time only.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bench.measure import quantile
from pipelines.stats import bradley_terry, click_model, conditional_logit, logistic_mixed

Array = NDArray[np.float64]
_REPEATS = 5
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Fit:
    """One row: what was fitted, our seconds and what they gave, and a peer's on the same data.

    `apart` is the largest difference between the two estimates, `note` what is known about the truth.
    """

    what: str
    seconds: float
    note: str
    peer: str
    peer_seconds: float | None = None
    apart: float | None = None

    @property
    def times(self) -> float | None:
        """How many times faster than the peer."""
        return None if self.peer_seconds is None else self.peer_seconds / self.seconds


def measure(work: Path, environments: Path, scale: int = 1) -> list[Fit]:
    """Every fit at a `scale`-th of its size; data for the peers goes to `work`."""
    random = np.random.default_rng(1)
    cases = (
        lambda: _bradley_terry(random, 100, 1_000_000 // scale),
        lambda: _bradley_terry(random, 1000, 100_000 // min(scale, 5)),
        lambda: _conditional_logit(random, 100_000 // scale),
        lambda: _user_weights(random, 20_000 // scale),
        lambda: _random_intercepts(random, 500, 40),
        lambda: _random_intercepts(random, 100_000 // scale, 10, alone=True),
        lambda: _clicks(random, 200_000 // scale),
    )
    fits = []
    for case in cases:
        what, seconds, values, note, (peer, name), data = case()
        theirs = _peer(peer, name, data, work, environments) if name else None
        if theirs is None:
            fits.append(Fit(what, seconds, note, f"{peer} (not installed)" if name else ""))
            continue
        apart = float(np.abs(np.array(theirs["values"])[: values.size] - values).max())
        fits.append(Fit(what, seconds, note, peer, theirs["seconds"], apart))
    return fits


# What was fitted, our seconds, our estimates, a note, (peer, its case in fit_peers), the data.
_Case = tuple[str, float, Array, str, tuple[str, str], dict[str, Any]]


def _timed(fit: Callable[[], Any], repeats: int = _REPEATS) -> tuple[float, Any]:
    """Median seconds of `repeats` runs, and the last result."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = fit()
        seconds.append(time.perf_counter() - started)
    return quantile(seconds, 0.5), result


def _peer(peer: str, case: str, data: dict[str, Any], work: Path, environments: Path) -> dict[str, Any] | None:
    python = environments / peer / "bin" / "python"
    if not python.exists():
        return None
    file = work / "fit.npz"
    np.savez(file, **data)
    script = Path(__file__).with_name("fit_peers.py")
    done = subprocess.run(
        [python, script, case, file], capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS
    )
    file.unlink()
    if done.returncode:
        raise RuntimeError(f"{peer}, {case}: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _bradley_terry(random: np.random.Generator, items: int, comparisons: int) -> _Case:
    strength = random.normal(0, 1, items)
    first = random.integers(0, items, comparisons)
    second = (first + random.integers(1, items, comparisons)) % items
    won = random.random(comparisons) < expit(strength[first] - strength[second])
    score = won.astype(np.float64)
    seconds, fit = _timed(lambda: bradley_terry.fit(first, second, score, items=items, tau=None))
    error = float(np.std(fit.strength - strength))
    data = {"winner": np.where(won, first, second), "loser": np.where(won, second, first), "items": items}
    what = f"Bradley-Terry, {items:,} items, {comparisons:,} comparisons, with covariance"
    return what, seconds, fit.strength, f"error of a strength {error:.3f}", ("choix", "bradley_terry"), data


def _choices(random: np.random.Generator, weights: Array, sets: int) -> dict[str, Any]:
    """Sets of five options; `weights` (d,) or one row per set (sets, d)."""
    features = random.normal(0, 1, (sets * 5, weights.shape[-1]))
    by_row = np.repeat(np.broadcast_to(weights, (sets, weights.shape[-1])), 5, axis=0)
    utility = (np.einsum("rd,rd->r", features, by_row) + random.gumbel(size=sets * 5)).reshape(sets, 5)
    chosen = utility == utility.max(axis=1, keepdims=True)
    return {"features": features, "sets": np.repeat(np.arange(sets), 5), "chosen": chosen.ravel()}


def _conditional_logit(random: np.random.Generator, sets: int) -> _Case:
    truth = np.array([0.8, -0.5, 0.3, 0.0, 1.0, -1.2])
    data = _choices(random, truth, sets)
    seconds, fit = _timed(lambda: conditional_logit.fit(data["features"], data["sets"], data["chosen"], outside=False))
    note = f"largest error of a weight {np.abs(fit.weights - truth).max():.3f}"
    return f"conditional logit, {sets:,} sets of 5", seconds, fit.weights, note, ("xlogit", "conditional_logit"), data


def _user_weights(random: np.random.Generator, sets: int) -> _Case:
    users = max(sets // 50, 2)
    owner = np.arange(sets) * users // sets
    truth = np.array([0.8, -0.5, 0.3]) + random.normal(0, 0.5, (users, 3))
    data = _choices(random, truth[owner], sets) | {"users": np.repeat(owner, 5)}
    seconds, fit = _timed(
        lambda: conditional_logit.pool(
            data["features"], data["sets"], data["chosen"], data["users"], n_users=users, outside=False
        )
    )
    error = np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2))
    inside = float(np.mean(np.abs(fit.weights - truth) < 1.96 * error))
    values = np.abs(np.concatenate([fit.mean, np.sqrt(np.diag(fit.between))]))
    what = f"weights of {users:,} users, {sets:,} sets of 5"
    return what, seconds, values, f"users' intervals cover {inside:.3f}", ("xlogit", "user_weights"), data


def _random_intercepts(random: np.random.Generator, users: int, events: int, alone: bool = False) -> _Case:
    who = np.repeat(np.arange(users), events)
    design = np.column_stack([np.ones(who.size), random.normal(0, 1, (who.size, 2))])
    truth = np.array([0.4, 0.7, -0.3])
    intercept = random.normal(0, 0.8, users)
    response = (random.random(who.size) < expit(design @ truth + intercept[who])).astype(np.float64)
    seconds, fit = _timed(lambda: logistic_mixed.fit(response, design, who), 1 if alone else _REPEATS)
    inside = float(np.mean(np.abs(fit.user_mean - intercept) < 1.96 * fit.user_sd))
    errors = np.sqrt(np.diag(fit.covariance))
    note = (
        f"coefficients within {np.abs(fit.beta - truth).max():.4f} (standard errors up to {errors.max():.4f}), "
        f"sd {fit.sd:.3f} of .8, users' intervals cover {inside:.3f}"
    )
    what = f"logistic with {users:,} user intercepts, {events} events each"
    peer = ("", "") if alone else ("statsmodels", "random_intercepts")
    data = {"response": response, "design": design, "users": who}
    return what, seconds, np.append(fit.beta, fit.sd), note, peer, data


def _clicks(random: np.random.Generator, impressions: int) -> _Case:
    truth = np.array([1.0, 0.7, 0.5, 0.35, 0.25])
    attractive = random.beta(2, 4, 500)
    item, place = random.integers(0, 500, impressions), random.integers(0, 5, impressions)
    drawn = random.random(impressions) < 0.2
    clicked = random.random(impressions) < truth[place] * attractive[item]
    seconds, fit = _timed(lambda: click_model.fit(item, place, clicked, randomised=drawn))
    note = f"examination within {np.abs(fit.examination - truth).max():.3f}, {fit.basis}"
    return f"click model, {impressions:,} impressions", seconds, fit.examination, note, ("", ""), {}
