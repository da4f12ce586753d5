"""The trace-level model on traces with a known quality: found, honest about its error, the same when read back."""

import json

import numpy as np
import polars as pl
import pytest
from latent_traces import CONFIG, PRICE, SEGMENT, evidence, material

from pipelines.rewards import trace_model
from pipelines.rewards.features import Encoder, fit_encoder
from pipelines.rewards.trace_model import TraceModel
from pipelines.stats.contract import FitRefused


@pytest.fixture(scope="module")
def fitted():
    facts, tokens, theta = material()
    encoder = fit_encoder(facts, ["step:pay!"], [PRICE], [SEGMENT])
    location, precision = evidence(theta)
    model, prior = trace_model.fit(facts, tokens, encoder, location, precision, CONFIG)
    return facts, tokens, theta, location, precision, model, prior


def test_quality_is_found_without_and_with_ownevidence(fitted):
    _, _, theta, location, precision, model, prior = fitted
    silent = precision == 0
    assert np.corrcoef(prior.mean[silent], theta[silent])[0, 1] > 0.85
    fused = trace_model.fuse(prior, location, precision)
    error = np.abs(fused.mean - theta)
    assert error[~silent].mean() < error[silent].mean()
    assert model.effects.users.variance == pytest.approx(0.25, rel=0.4)
    assert model.effects.tasks.variance == pytest.approx(0.16, rel=0.5)


def test_the_standard_deviations_cover(fitted):
    _, _, theta, location, precision, _, prior = fitted
    fused = trace_model.fuse(prior, location, precision)
    for mean, variance in ((prior.mean, prior.variance), (fused.mean, fused.variance)):
        inside = np.abs(mean - theta) < 1.96 * np.sqrt(variance)
        assert inside.mean() == pytest.approx(0.95, abs=0.02)


def test_weights_are_readable_and_right(fitted):
    weights = {row["feature"]: row for row in trace_model.weights(fitted[5]).to_dicts()}
    assert weights["step:pay!"]["weight"] == pytest.approx(-1.6, abs=0.25)
    assert weights["step:pay!"]["kind"] == "step"
    by_segment = [weights[f"price x segment {name}"]["weight"] + weights["price"]["weight"] for name in "xyz"]
    assert by_segment == pytest.approx([0.8, 0.0, -0.5], abs=0.15)
    said = {words: sum(weights[f"output: word '{word}'"]["weight"] for word in words.split())
            for words in ("are very sorry about", "please find the answer below")}  # fmt: skip
    assert said["are very sorry about"] - said["please find the answer below"] == pytest.approx(-0.9, abs=0.25)
    assert all(row["sd"] > 0 and row["traces"] > 0 for row in weights.values())


def test_a_model_read_back_scores_the_same(fitted):
    facts, tokens, theta, _, _, model, prior = fitted
    again = TraceModel.of(json.loads(json.dumps(model.parameters(), allow_nan=False)))
    scored, first = again.prior(facts, tokens), model.prior(facts, tokens)
    assert scored.mean == pytest.approx(first.mean, abs=1e-3)
    assert scored.variance == pytest.approx(first.variance, rel=1e-2)
    assert np.corrcoef(scored.mean, theta)[0, 1] > np.corrcoef(prior.mean, theta)[0, 1] - 0.01
    unseen, unseen_tokens, truth = material(n=500, users=300, tasks=80, seed=9)
    strangers = unseen.with_columns(user_id=pl.lit("new ") + pl.col("user_id"), task=pl.lit("new ") + pl.col("task"))
    new = again.prior(strangers, unseen_tokens)
    assert np.corrcoef(new.mean, truth)[0, 1] > 0.7
    assert new.variance.mean() > scored.variance.mean()


def test_what_a_trace_says_does_not_enter_its_own_prior(fitted):
    facts, tokens, _, location, precision, model, prior = fitted
    row = int(np.flatnonzero(precision > 0)[3])
    mates = ((facts["user_id"] == facts["user_id"][row]) | (facts["task"] == facts["task"][row])).to_numpy()
    changed = location.copy()
    changed[row] += 3.0
    _, after = trace_model.fit(facts, tokens, model.encoder, changed, precision, CONFIG)
    assert after.features[mates] == pytest.approx(prior.features[mates], abs=0.02)
    assert after.mean[row] == pytest.approx(prior.mean[row], abs=0.02)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts, where, sure: (facts, where, np.where(np.arange(4_000) < 100, 1.0, 0.0)), "too_few_traces"),
        (lambda facts, where, sure: (facts.with_columns(user_id=pl.lit("ada")), where, sure), "too_few_users"),
        (lambda facts, where, sure: (facts, np.full(4_000, 1.5), sure), "constant_labels"),
    ],
)  # fmt: skip
def test_data_that_cannot_carry_it_is_refused_with_a_reason(fitted, change, reason):
    facts, tokens, _, location, precision, model, _ = fitted
    frame, where, sure = change(facts, location, precision)
    with pytest.raises(FitRefused) as refused:
        trace_model.fit(frame, tokens, model.encoder, where, sure, CONFIG)
    assert refused.value.reason == reason


def test_separated_classes_give_finite_numbers(fitted):
    facts, tokens, _, _, precision, model, _ = fitted
    failed = np.zeros(4_000, bool)
    failed[tokens["row"].to_numpy()] = True
    separated, prior = trace_model.fit(facts, tokens, model.encoder, np.where(failed, -3.0, 3.0), precision, CONFIG)
    assert np.all(np.isfinite(prior.mean))
    assert np.all(prior.variance > 0)
    assert prior.mean[failed].max() < prior.mean[~failed].min()
    assert separated.effects.residual > 0


def test_the_encoder_needs_no_column_of_the_fit(fitted):
    facts, tokens, *_ = fitted
    encoder = Encoder.of(json.loads(json.dumps(fitted[5].encoder.parameters())))
    other = facts.head(50).with_columns(
        agent=pl.lit("another"), status=pl.lit(None, pl.String), output=pl.lit(None, pl.String),
        seconds=pl.lit(None, pl.Float64),
    )  # fmt: skip
    matrix = encoder.transform(other, tokens.head(0), 0, 50)
    assert matrix.shape == (50, len(encoder.columns()))
    assert np.all(np.isfinite(matrix))
