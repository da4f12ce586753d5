"""Coverage of the intervals of loadings, intercepts and of the rate of satisfaction, on small worlds of known truth."""

import numpy as np
import polars as pl
import pytest
from scipy.optimize import OptimizeResult, minimize
from scipy.special import expit, logit

from pipelines.rewards import latent
from pipelines.rewards.anchor import design_rate
from pipelines.rewards.latent import Item, LatentFit, fit_latent
from pipelines.rewards.loadings import reported
from pipelines.rewards.response_models import Array, Event, Kept

MEAN, SD = 0.6, 0.9
LOADINGS = {"check": (1.2, -0.2), "copy": (0.5, -1.0), "retry": (-1.0, -0.5), "edit": (0.9, 1.0)}


def _item(kind: str, family: Event | Kept, states: np.ndarray, *, anchor: bool = False) -> Item:
    size = len(family.occurred) if isinstance(family, Event) else len(family.values)
    return Item(kind, None, family, "quality", kind, "observed", states, np.ones(size, dtype=bool), np.zeros(size),
                anchor)  # fmt: skip


def _fitted(rng: np.random.Generator, traces: int, asked: float) -> LatentFit:
    """Traces of one person each: an anchor asked for at random, three events and the share kept of drafts."""
    theta = rng.normal(MEAN, SD, traces)
    states = np.where(rng.random(traces) < asked, rng.random(traces) < expit(theta), -1).astype(np.int64)
    fixed = Event(np.array([0.0, 1.0]), np.ones(2), np.zeros(0), fixed=True)
    items = [_item("thumb", fixed, states, anchor=True)]
    for kind in ("check", "copy", "retry"):
        loading, intercept = LOADINGS[kind]
        happened = (rng.random(traces) < expit(intercept + loading * theta)).astype(np.int64)
        start = np.array([logit(happened.mean()), 0.5 * np.sign(loading)])
        items.append(_item(kind, Event(np.array([0.0, 1.0]), np.ones(2), start), happened))
    loading, intercept = LOADINGS["edit"]
    kept = np.rint((intercept + loading * theta + rng.normal(0.0, 0.5, traces)) / 0.2).astype(np.int64)
    levels, codes = np.unique(kept, return_inverse=True)
    values: Array = np.asarray(levels * 0.2, dtype=np.float64)
    drafts = np.where(rng.random(traces) < 0.3, codes, -1)
    items.append(_item("edit", Kept(values, np.array([0.6, 0.5, 0.0])), drafts))
    return fit_latent(items, traces, np.arange(traces), 0.0, mean=MEAN)


@pytest.mark.thorough
def test_intervals_of_loadings_and_intercepts_cover_where_the_scale_is_hardly_known() -> None:
    """About 240 answers fix the scale. Loading ± 1.96 standard errors covered .90 (edits .87), missing above only."""
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(120):
        fit = _fitted(rng, 600, 0.4)
        row = []
        for index, item in enumerate(fit.items[1:], start=1):
            for found, truth in zip(reported(fit, index), LOADINGS[item.kind], strict=True):
                row.append(found.lower <= truth <= found.upper)
                assert found.lower <= found.value <= found.upper
                assert found.sd == pytest.approx((found.upper - found.lower) / (2 * 1.959964))
        inside.append(row)
    covered = np.mean(inside, axis=0)
    assert 0.93 <= covered[::2].mean() <= 0.97, covered
    assert 0.93 <= covered[1::2].mean() <= 0.97, covered
    # 120 worlds: one is known to .02. The steepest, on which the scale rests, covers up to .99: its scale's weak prior.
    assert np.all(covered >= 0.91), covered


def test_with_a_scale_well_known_the_interval_is_that_of_the_standard_error() -> None:
    fit = _fitted(np.random.default_rng(2), 20_000, 0.9)
    for index in range(1, len(fit.items)):
        own, covariance = fit.own(index)
        loading, sd, intercept, intercept_sd = fit.items[index].family.report(own, covariance)
        for found, value, error in zip(reported(fit, index), (loading, intercept), (sd, intercept_sd), strict=True):
            assert found.value == value
            assert found.sd == pytest.approx(error, rel=0.03)


def test_without_a_scale_the_interval_is_wide_and_finite() -> None:
    fit = _fitted(np.random.default_rng(3), 60, 0.05)
    for index in range(1, len(fit.items)):
        loading, intercept = reported(fit, index)
        assert np.isfinite([loading.lower, loading.upper, intercept.lower, intercept.upper]).all()
        assert loading.sd > 0.3


def test_where_the_fast_climb_leaves_the_range_of_numbers_a_bounded_one_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen once in some 150 worlds: a step of BFGS overflowed, and the fit after it raised."""
    expected = _fitted(np.random.default_rng(6), 400, 0.4)
    climb = minimize

    def lost(*args: object, **kwargs: object) -> OptimizeResult:
        found = climb(*args, **kwargs)
        if kwargs["method"] == "BFGS":
            found.x = np.full_like(found.x, np.nan)
        return found

    monkeypatch.setattr(latent, "minimize", lost)
    found = _fitted(np.random.default_rng(6), 400, 0.4)
    np.testing.assert_allclose(found.free, expected.free, atol=2e-3)
    assert found.converged


def _answers(
    rng: np.random.Generator, users: int, traces: int, asked: float, rare: float, users_sd: float
) -> tuple[pl.DataFrame, float]:
    """Answers asked for with probability `asked`, of half of the traces `rare` times that; the share satisfied."""
    user = np.repeat(np.arange(users), rng.poisson(traces, users))
    satisfied = expit(0.7 + rng.normal(0.0, users_sd, users)[user] + rng.normal(0.0, 0.9, len(user)))
    propensity = asked * np.where(rng.random(len(user)) < 0.5, rare, 1.0)
    at = np.flatnonzero(rng.random(len(user)) < propensity)
    said = (rng.random(len(at)) < satisfied[at]).astype(float)
    return pl.DataFrame({"value": said, "propensity": propensity[at], "user": user[at]}), float(satisfied.mean())


@pytest.mark.thorough
@pytest.mark.parametrize(("asked", "rare"), [(0.03, 1.0), (0.01, 1.0), (0.02, 4.0)])
def test_the_rate_of_answers_asked_for_at_random_covers(asked: float, rare: float) -> None:
    """With 20 to 100 answers of 300 people: .955, .958 and .936 of 2,000."""
    rng = np.random.default_rng(4)
    hits, runs = 0, 1_500
    for _ in range(runs):
        answers, truth = _answers(rng, 300, 7, asked, rare, 0.5)
        found = design_rate(answers, 0.95)
        hits += found.lower <= truth <= found.upper
    assert 0.93 <= hits / runs <= 0.97


@pytest.mark.thorough
def test_the_rate_of_a_few_people_who_answer_often_is_that_of_people_like_them() -> None:
    """Twenty people, some of them always satisfied: the interval is clustered, so it holds for people like these and is
    too wide for these alone (.97 to 1.00, by how much of what they do was asked about).
    """
    rng = np.random.default_rng(5)
    truth = float(expit(0.7 + np.hypot(1.0, 0.9) * rng.normal(size=400_000)).mean())
    hits, runs = 0, 1_500
    for _ in range(runs):
        answers, _ = _answers(rng, 20, 100, 0.03, 1.0, 1.0)
        found = design_rate(answers, 0.95)
        hits += found.lower <= truth <= found.upper
    assert 0.93 <= hits / runs <= 0.97
