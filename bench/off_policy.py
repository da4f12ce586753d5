"""Off-policy estimates beside Open Bandit Pipeline, on the same synthetic decisions.

obp runs in an environment of its own, DIR/obp of `--peers`: python -m venv DIR/obp; DIR/obp/bin/pip install --no-deps
--ignore-requires-python obp==0.5.5; DIR/obp/bin/pip install numpy scipy scikit-learn pandas pyyaml seaborn matplotlib
tqdm pyarrow torch (its pins are older than Python 3.11). Without it a row has our time only.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.measure import quantile
from bench.off_policy_rounds import LAMBDA, TAU, Rounds, rounds
from pipelines.off_policy.estimate import Estimates, evaluate_rounds
from store import off_policy

__all__ = ["Comparison", "measure", "of_drawn"]

_REPEATS = 5
_PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Comparison:
    """Seconds of six estimates without and with intervals; `apart` the largest difference to the peer's estimates."""

    decisions: int
    points: float
    intervals: float
    peer_points: float | None = None
    peer_intervals: float | None = None
    apart: float | None = None


def measure(environments: Path, scale: int = 1) -> list[Comparison]:
    """A hundred thousand and a million decisions with ten arms, at a `scale`-th of the size."""
    found = []
    for count in (100_000 // scale, 1_000_000 // scale):
        data = rounds(count)
        points, values = _timed(partial(_points, data))
        intervals, _ = _timed(partial(_intervals, data))
        theirs = _peer(environments, count)
        if theirs is None:
            found.append(Comparison(count, points, intervals))
            continue
        apart = max(abs(values[name] - value) for name, value in theirs["values"].items())
        found.append(Comparison(count, points, intervals, theirs["points"], theirs["intervals"], apart))
    return found


def of_drawn(data: Rounds) -> pl.DataFrame:
    """What the estimators need of the arm that was drawn (columns `store.off_policy.ROUNDS`)."""
    at = np.arange(data.arm.size) * data.logged.shape[1] + data.arm
    return pl.DataFrame(
        {
            "propensity": data.logged.ravel().take(at),
            "target": data.target.ravel().take(at),
            "reward": data.reward,
            "fitted": data.model.ravel().take(at),
            "direct": np.einsum("ij,ij->i", data.target, data.model),
        }
    )


def _points(data: Rounds) -> dict[str, float]:
    return off_policy.points(of_drawn(data), tau=TAU, lam=LAMBDA)


def _intervals(data: Rounds) -> Estimates:
    return evaluate_rounds(of_drawn(data), "the target")


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return quantile(seconds, 0.5), result


def _peer(environments: Path, count: int) -> dict[str, Any] | None:
    python = environments / "obp" / "bin" / "python"
    if not python.exists():
        return None
    script = Path(__file__).with_name("off_policy_peer.py")
    done = subprocess.run(
        [python, script, str(count), str(_REPEATS)], capture_output=True, text=True, check=False,
        timeout=_PATIENCE_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"obp: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
