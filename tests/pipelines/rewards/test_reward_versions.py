"""Which versions take over by themselves, and when one is fitted anew."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.rewards.versions import decide, due
from store.reward_versions import METRICS

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _metrics(brier, spread=0.004, loss=0.5, basis="solicited"):
    rows = [
        ("users and tasks", "brier", brier, brier - spread, brier + spread, 500, 100, basis),
        ("users and tasks", "log_loss", loss, loss - spread, loss + spread, 500, 100, basis),
    ]
    return pl.DataFrame(rows, schema=METRICS, orient="row")


def _active(**changes):
    return {"reward_model_id": 3, "method": "trace_model", "decided_by": None, "fitted_at": NOW, "traces": 1_000,
            "signals": 1_000, **changes}  # fmt: skip


def test_the_first_version_takes_over():
    assert decide("trace_model", _metrics(0.2), None, _metrics(0.2)).activate


@pytest.mark.parametrize(
    ("fresh", "takes_over"),
    [
        (_metrics(0.20), True),
        (_metrics(0.15), True),
        (_metrics(0.204), True),  # within the tolerance
        (_metrics(0.23), False),
        (_metrics(0.23, spread=0.2), True),  # within chance
        (_metrics(0.20, loss=0.56), False),
        (_metrics(0.23, basis="verified"), True),  # other labels: nothing to compare
    ],
)
def test_a_refit_takes_over_unless_it_is_worse(fresh, takes_over):
    decision = decide("trace_model", fresh, _active(), _metrics(0.20), newest=3)
    assert decision.activate is takes_over
    assert takes_over or "worse than chance and the tolerance" in decision.reason


def test_another_method_waits_for_an_operator_but_the_fallback_gives_way():
    assert not decide("other", _metrics(0.1), _active(), _metrics(0.2)).activate
    fallback = _active(method="empirical_bayes")
    assert decide("trace_model", _metrics(0.3), fallback, _metrics(0.2)).activate
    assert not decide("trace_model", _metrics(0.1), {**fallback, "decided_by": "Ada"}, _metrics(0.2)).activate
    assert not decide("empirical_bayes", _metrics(0.1), _active(), _metrics(0.2)).activate
    # Without it what is new has no reward at all.
    assert decide("empirical_bayes", _metrics(0.4), fallback, _metrics(0.2)).activate


def test_what_an_operator_chose_over_a_newer_version_stays():
    chosen = _active(decided_by="Ada")
    assert not decide("trace_model", _metrics(0.1), chosen, _metrics(0.2), newest=4).activate
    assert decide("trace_model", _metrics(0.1), chosen, _metrics(0.2), newest=3).activate


def test_a_version_is_fitted_anew_at_night_or_when_the_data_has_grown():
    same = {"traces": 1_000, "signals": 1_000}
    assert due(None, NOW, **same) is not None
    assert due(_active(), NOW + timedelta(hours=1), **same) is None
    assert due(_active(), NOW + timedelta(hours=21), **same) == "the nightly fit"
    assert due(_active(), NOW, traces=1_090, signals=1_000) is None
    assert "1,200 traces against 1,000" in due(_active(), NOW, traces=1_200, signals=1_000)
    assert "signals" in due(_active(), NOW, traces=1_000, signals=1_200)
    assert due(_active(method="empirical_bayes"), NOW, **same) is not None


def test_a_version_that_waits_is_not_fitted_again_on_every_run():
    later = NOW + timedelta(hours=24)
    grown = {"traces": 1_200, "signals": 1_200}
    waiting = _active(reward_model_id=4, fitted_at=later, **grown)
    assert due(_active(), later, **grown, newest=waiting) is None
    assert due(_active(), later, traces=1_400, signals=1_200, newest=waiting) is not None
    assert due(_active(), later + timedelta(hours=21), **grown, newest=waiting) == "the nightly fit"
