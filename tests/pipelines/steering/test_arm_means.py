"""Means of arms: the sandwich against statsmodels' algebra by hand, spreads against the truth, the edge cases."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from pipelines.steering.arm_means import LEAST_CLUSTERS, Spreads, arm_means, spreads

_OPEN = Spreads(0.01, 0.04)


def _frame(rng, people=40, traces=300, arms=("a", "b")):
    who = rng.integers(0, people, traces)
    taste = rng.normal(0, 0.1, people)
    return pl.DataFrame(
        {
            "arm": rng.choice(arms, traces), "cluster": [f"u:{each}" for each in who],
            "mean": 0.6 + taste[who] + rng.normal(0, 0.2, traces), "sd": rng.uniform(0.01, 0.1, traces),
            "weight": rng.uniform(0.5, 4, traces), "randomised": np.full(traces, True),
        }
    )  # fmt: skip


def test_mean_and_variance_are_those_of_weighted_least_squares_with_clusters():
    frame = _frame(np.random.default_rng(1))
    found = arm_means(frame, ["arm"], _OPEN)
    for row in found.to_dicts():
        own = frame.filter(arm=row["arm"])
        w, r = own["weight"].to_numpy(), own["mean"].to_numpy()
        mean = np.average(r, weights=w)
        codes = own["cluster"].to_numpy()
        sums = np.array([(w * (r - mean))[codes == code].sum() for code in np.unique(codes)])
        held = np.array([w[codes == code].sum() for code in np.unique(codes)])
        effective = held.sum() ** 2 / (held**2).sum()
        stretch = (student.ppf(0.975, effective - 1) / 1.959963984540054) ** 2
        variance = stretch * len(sums) / (len(sums) - 1) * (sums**2).sum() / w.sum() ** 2
        assert row["mean"] == pytest.approx(mean, rel=1e-12)
        assert row["variance"] == pytest.approx(variance, rel=1e-9)
        assert (row["n"], row["clusters"]) == (own.height, pytest.approx(effective))


def test_it_is_never_surer_than_the_rewards_together():
    frame = _frame(np.random.default_rng(2)).with_columns(mean=pl.lit(0.7), sd=pl.lit(0.3), weight=pl.lit(1.0))
    found = arm_means(frame, ["arm"], _OPEN)
    np.testing.assert_allclose(found["variance"], 0.09 / found["n"])


def test_few_users_are_not_taken_for_many():
    frame = pl.DataFrame(
        {
            "arm": ["a"] * 400, "cluster": ["u:1"] * 200 + ["u:2"] * 200, "mean": [0.5] * 400, "sd": [0.01] * 400,
            "weight": [1.0] * 400, "randomised": [True] * 400,
        }
    )  # fmt: skip
    row = arm_means(frame, ["arm"], _OPEN).row(0, named=True)
    assert row["clusters"] < LEAST_CLUSTERS
    assert row["variance"] == pytest.approx(0.01 / 2 + 0.04 / 400)


def test_the_spreads_are_those_of_the_simulation():
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(800), rng.integers(1, 9, 800))
    arm = rng.choice(["a", "b"], who.size)
    taste = rng.normal(0, 0.12, (800, 2))
    frame = pl.DataFrame(
        {
            "arm": arm, "cluster": [f"u:{each}" for each in who], "sd": np.full(who.size, 0.01),
            "mean": 0.5 + 0.2 * (arm == "b") + taste[who, (arm == "b").astype(int)] + rng.normal(0, 0.2, who.size),
        }
    )  # fmt: skip
    found = spreads(frame)
    assert (found.between, found.within) == (pytest.approx(0.0144, rel=0.15), pytest.approx(0.04, rel=0.05))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_spreads_of_hardly_anything_are_finite(rows):
    frame = _frame(np.random.default_rng(4)).head(rows)
    found = spreads(frame)
    assert np.isfinite([found.between, found.within]).all()
    assert found.within > 0
    assert arm_means(frame, ["arm"], found).height <= rows


def test_one_trace_a_user_puts_everything_between_them():
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "arm": ["a"] * 500, "cluster": [f"u:{each}" for each in range(500)], "mean": rng.normal(0.5, 0.2, 500),
            "sd": [0.05] * 500,
        }
    )  # fmt: skip
    found = spreads(frame)
    assert found.between == pytest.approx(frame["mean"].var(), rel=1e-9)
