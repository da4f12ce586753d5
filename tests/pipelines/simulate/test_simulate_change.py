"""People and models change on the days that the truth states; people are who it says they are."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from pipelines.simulate import Deployment, SimulationConfig, simulate

AssertBinomial = Callable[[float, pl.Series], None]
SIGMAS = 4.0


def test_users_change_on_the_day_they_drift(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    drift = pl.DataFrame(deployment.truth["drift"])
    assert drift.height == round(deployment.config.users * deployment.config.drift_share)
    truth = deployment.truth_traces.join(drift.select("user_id", "at", change="kind"), on="user_id", how="left")
    at = pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")
    assert (
        truth["drifted"] == truth.select((pl.col("started_at").dt.truncate("1h") >= at).fill_null(False)).to_series()
    ).all()
    shifted = truth.filter((pl.col("change") == "satisfaction") & ~pl.col("model_changed"))
    before, after = (shifted.filter(pl.col("drifted") == side) for side in (False, True))
    assert min(before.height, after.height) > 100
    error = math.sqrt(before["theta"].var() / before.height + after["theta"].var() / after.height)  # type: ignore[operator]
    shift = deployment.truth["measurement"]["quality"]["satisfaction_drift"]
    assert abs(after["theta"].mean() - before["theta"].mean() - shift) < SIGMAS * error  # type: ignore[operator]
    assert_binomial(after["satisfied"].sum(), after["satisfaction"])
    assert after["satisfied"].mean() < before["satisfied"].mean() - 0.25  # type: ignore[operator]


def test_taste_is_the_weights_in_force(deployment: Deployment) -> None:
    """Stated and revealed quality differ by the weights, for those who contradict themselves and for no one else."""
    users = {user["user_id"]: user for user in deployment.truth["users"]}
    columns = [f"feature_{name}" for name in deployment.truth["features"]]
    drifting = {one["user_id"] for one in deployment.truth["drift"] if one["kind"] == "preference"}
    contradicting = set(deployment.truth["contradictions"])
    assert len(contradicting) == round(deployment.config.users * deployment.config.contradiction_share)
    assert not contradicting & {one["user_id"] for one in deployment.truth["drift"]}
    for row in deployment.truth_traces.filter(pl.col("user_id").is_in(list(drifting | contradicting))).iter_rows(
        named=True
    ):
        user = users[row["user_id"]]
        after = "_after" if row["drifted"] else ""
        features = np.array([row[column] for column in columns])
        taste = [features @ np.array(user[f"weights_{kind}{after}"]) for kind in ("stated", "revealed")]
        assert math.isclose(row["theta"] - row["theta_revealed"], taste[0] - taste[1], abs_tol=1e-9)
    for user_id, user in users.items():
        stated, revealed = np.array(user["weights_stated"]), np.array(user["weights_revealed"])
        cosine = stated @ revealed / np.linalg.norm(stated) / np.linalg.norm(revealed)
        assert (cosine < math.cos(math.radians(20))) == (user_id in contradicting)
    for user_id in drifting:
        assert users[user_id]["weights_revealed"] != users[user_id]["weights_revealed_after"]


def test_one_model_changes_silently(deployment: Deployment) -> None:
    change = deployment.truth["model_change"]
    traces = deployment.traces.join(
        deployment.truth_traces.select("trace_id", "model_changed", "day", "theta", "failed", "cause", "drifted"),
        on="trace_id",
    )
    expected = (pl.col("model") == change["model"]) & (pl.col("day") >= change["day"])
    assert (traces["model_changed"] == traces.select(expected).to_series()).all()
    of_model = traces.filter(pl.col("model") == change["model"])
    assert set(of_model["model_fingerprint"]) == {change["fingerprint"]}
    calm = of_model.filter(~pl.col("failed") & ~pl.col("drifted"))
    polite = calm["output"].str.starts_with("Certainly!")
    assert (polite == calm["model_changed"]).all()
    other = traces.filter((pl.col("model") != change["model"]) & ~pl.col("failed") & ~pl.col("drifted"))
    differences = []
    for column in ("theta", "output_tokens"):
        means = [
            group.filter((pl.col("day") >= change["day"]) == late)[column].mean()
            for group in (calm, other)
            for late in (True, False)
        ]
        differences.append((means[0] - means[1]) - (means[2] - means[3]))  # type: ignore[operator]
    # The shift itself and what the wordier style costs or gains with these people.
    assert -1.15 < differences[0] < -0.45
    assert differences[1] > 5


def test_shares_of_zero_mean_nobody() -> None:
    quiet = simulate(
        SimulationConfig(
            users=30,
            days=7,
            traces=150,
            drift_share=0.0,
            contradiction_share=0.0,
            opt_out_share=0.0,
            dislike_share=0.0,
            exploration_rate=0.0,
            solicitation_rate=0.0,
            judge_rate=0.0,
            swap_rate=0.0,
        )
    )
    for key in ("drift", "contradictions", "opted_out", "dislike_exploration"):
        assert quiet.truth[key] == []
    assert not quiet.truth_traces["explored"].any()
    assert not quiet.truth_traces["drifted"].any()
    assert (quiet.clicks["position"] == quiet.clicks["base_rank"]).all()
    assert set(quiet.clicks["propensity"]) == {1.0}
    assert "judge" not in set(quiet.signals["kind"])
    assert not quiet.signals["solicited"].fill_null(False).any()
