"""What a weight of one agent does to what is expected of its traces, and that it does nothing to others."""

import json

import numpy as np
import polars as pl
import pytest
from latent_traces import CONFIG, PRICE, SEGMENT, evidence, material

from pipelines.rewards import trace_model
from pipelines.rewards.features import fit_encoder
from pipelines.rewards.stated import Evidence, Scoped
from pipelines.rewards.weighted_agents import Correction, correct, fit_corrections

_SHIFT = 0.7


@pytest.fixture(scope="module")
def fitted():
    """Two agents that share features; with its weight, shop's evidence is of a lower quality where a step failed."""
    facts, tokens, theta = material(n=6_000)
    facts = facts.with_columns(agent=pl.Series(["shop", "desk"] * 3_000))
    encoder = fit_encoder(facts, ["step:pay!"], [PRICE], [SEGMENT])
    location, precision = evidence(theta)
    whole, prior = trace_model.fit(facts, tokens, encoder, location, precision, CONFIG)
    failed = np.isin(np.arange(len(theta)), tokens["row"].to_numpy())
    shop = (facts["agent"] == "shop").to_numpy()
    moved = theta - np.where(shop, _SHIFT + 0.8 * failed, 0.0)
    weighted = Evidence(np.where(precision > 0, location + (moved - theta), 0.0), precision)
    return facts, tokens, encoder, whole, prior, weighted, theta, moved, shop


def _segments(facts):
    return facts[SEGMENT]


def _scopes(*, note=None):
    return [Scoped("shop", segment, 0.0, 100, 100, note) for segment in "xyz"]


def _corrected(fitted, scopes, config=CONFIG):
    facts, tokens, encoder, _, prior, weighted, *_ = fitted
    return fit_corrections(facts, tokens, _segments(facts), encoder, prior, weighted, scopes, config)


def test_the_agent_follows_its_weight_and_no_other_moves(fitted):
    *_, prior, _, theta, moved, shop = fitted
    after, (correction,), notes = _corrected(fitted, _scopes())
    assert correction.agent == "shop"
    assert notes == []
    for name in ("mean", "variance", "features", "disagreement"):
        assert np.array_equal(getattr(after, name)[~shop], getattr(prior, name)[~shop])
    error = after.mean[shop] - moved[shop]
    assert abs(error.mean()) < 0.05
    assert np.corrcoef(after.mean[shop], moved[shop])[0, 1] > 0.85
    before = np.mean(np.abs(prior.mean - theta)[shop] < 1.96 * np.sqrt(prior.variance[shop]))
    assert np.mean(np.abs(error) < 1.96 * np.sqrt(after.variance[shop])) > before - 0.02


def test_a_weight_in_one_segment_leaves_the_others_as_they_are(fitted):
    facts, *_, prior, _, _, _, shop = fitted
    after, _, _ = _corrected(fitted, _scopes()[:1])
    inside = shop & (_segments(facts) == "x").to_numpy()
    assert np.array_equal(after.mean[~inside], prior.mean[~inside])
    assert (after.mean[inside] - prior.mean[inside]).mean() < -0.6


def test_a_correction_read_back_says_the_same_of_other_traces(fitted):
    facts, tokens, _, model, *_, moved, shop = fitted
    _, corrections, _ = _corrected(fitted, _scopes())
    kept = [Correction.of(json.loads(json.dumps(one.parameters(), allow_nan=False))) for one in corrections]
    first = model.prior(facts, tokens)
    scored = correct(facts, tokens, _segments(facts), first, kept, _scopes())
    again = correct(facts, tokens, _segments(facts), first, corrections, _scopes())
    assert scored.mean == pytest.approx(again.mean, abs=1e-3)
    assert np.array_equal(scored.mean[~shop], first.mean[~shop])
    assert abs((scored.mean - moved)[shop].mean()) < 0.05
    assert correct(facts, tokens, _segments(facts), first, [], _scopes()) is first


def test_too_little_evidence_gives_no_correction_and_says_so(fitted):
    *_, prior, _, _, _, _ = fitted
    few = trace_model.TraceModelConfig(folds=3, min_traces=5_000, chunk=700)
    after, corrections, (note,) = _corrected(fitted, _scopes(), few)
    assert after is prior
    assert corrections == []
    assert (note["agent"], note["reason"]) == ("shop", "weight_on_evidence_only")


def test_a_weight_that_was_not_applied_corrects_nothing(fitted):
    *_, prior, _, _, _, _ = fitted
    assert _corrected(fitted, _scopes(note="only one side has evidence"))[0] is prior
    assert _corrected(fitted, [])[0] is prior
