"""The cut of large weights, against the rule written out decision by decision."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from pipelines.off_policy.tuning import LAMBDAS, TAUS, tuned
from store.errors import StoreError

Term = Callable[[float, float], float]


def rounds(seed: int, rows: int, smallest: float) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "propensity": random.uniform(smallest, 1.0, rows) ** 2,
            "target": random.uniform(0.0, 1.0, rows),
            "reward": random.integers(0, 2, rows).astype(float),
            "fitted": random.uniform(0.0, 1.0, rows),
            "direct": random.uniform(0.0, 1.0, rows),
        }
    )


def score(frame: pl.DataFrame, factor: Callable[[float], float]) -> float:
    """Variance over n plus the squared bound of the bias; `factor` is what stands in the weight's place."""
    rows = frame.rows()
    weights = [target / propensity for propensity, target, *_ in rows]
    values = [row[4] + factor(w) * (row[2] - row[3]) for row, w in zip(rows, weights, strict=True)]
    robust = [row[4] + w * (row[2] - row[3]) for row, w in zip(rows, weights, strict=True)]
    n = len(rows)
    mean, whole = sum(values) / n, sum(robust) / n
    variance = sum((value - mean) ** 2 for value in values) / n
    spread = math.log(2.0 / 0.1)
    slack = math.sqrt(2.0 * sum(w * w for w in weights) / n * spread / n) + 2.0 * max(weights) * spread / (3.0 * n)
    bound: float = abs(whole - mean) + slack
    return float(variance / n + bound**2)


@pytest.mark.parametrize(("seed", "rows", "smallest"), [(1, 400, 0.05), (2, 60, 0.01), (3, 2_000, 0.02), (4, 5, 0.3)])
def test_the_best_candidate_by_the_rule(seed: int, rows: int, smallest: float) -> None:
    frame = rounds(seed, rows, smallest)
    switched = [score(frame, lambda w, tau=tau: w if w <= tau else 0.0) for tau in TAUS]  # type: ignore[misc]
    shrunk = [score(frame, lambda w, lam=lam: lam * w / (w * w + lam)) for lam in LAMBDAS]  # type: ignore[misc]
    tau, lam = tuned(frame)
    assert switched[TAUS.index(tau)] == pytest.approx(min(switched), rel=1e-9)
    assert shrunk[LAMBDAS.index(lam)] == pytest.approx(min(shrunk), rel=1e-9)


def test_of_equal_candidates_the_first_is_taken() -> None:
    # No weight is above 2: every τ from there on is the same.
    drawn = pl.DataFrame({"propensity": 0.5, "target": [0.9, 0.1] * 50, "reward": 1.0, "fitted": 0.5, "direct": 0.5})
    assert tuned(drawn, taus=(10.0, 2.0, 5.0), lams=(7.0,)) == (10.0, 7.0)
    assert tuned(drawn, taus=(0.5, 2.0, 5.0), lams=(7.0,)) == (2.0, 7.0)


def test_nothing_to_tune_by() -> None:
    with pytest.raises(StoreError):
        tuned(rounds(1, 0, 0.1))
