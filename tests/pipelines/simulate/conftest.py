"""One simulated deployment for all tests of its contents, and a small one written to disk."""

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.simulate import Deployment, SimulationConfig, simulate, write

SMALL = SimulationConfig(users=40, days=14, traces=300, seed=5, end=date(2026, 3, 1))


@pytest.fixture(scope="session")
def deployment() -> Deployment:
    """Large enough for marginals to be told from the truth."""
    return simulate(SimulationConfig(users=300, days=28, traces=12_000, seed=3))


@pytest.fixture(scope="session")
def small() -> Deployment:
    """Small enough to be written, read and simulated again."""
    return simulate(SMALL)


@pytest.fixture(scope="session")
def written(small: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small deployment's files."""
    out = tmp_path_factory.mktemp("deployment")
    write(small, out)
    return out


@pytest.fixture
def assert_binomial() -> Callable[[float, pl.Series], None]:
    """Asserts that a count is likely among independent draws with these probabilities: within four standard errors."""

    def check(successes: float, probabilities: pl.Series) -> None:
        expected = float(probabilities.sum())
        sd = math.sqrt(float((probabilities * (1.0 - probabilities)).sum()))
        assert len(probabilities) > 30
        assert abs(successes - expected) <= 4.0 * sd + 1e-9, (successes, expected, sd)

    return check
