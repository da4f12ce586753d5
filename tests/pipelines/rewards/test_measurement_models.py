"""Response models and the likelihood against independent oracles: finite differences, sums to one, brute force."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.special import expit
from scipy.stats import norm

from pipelines.rewards.anchor import sensitivity
from pipelines.rewards.evidence import dependence, trace_evidence
from pipelines.rewards.grid import GRID, compress
from pipelines.rewards.latent import Item, _Likelihood, fit_latent
from pipelines.rewards.response_models import Array, Event, Family, Graded, Kept, Told

X = np.linspace(-4.0, 4.0, 9)
FAMILIES: list[tuple[Family, Array]] = [
    (Event(np.array([0.0, 1.0]), np.ones(2), np.zeros(2)), np.array([-0.7, 1.3])),
    (Event(np.array([0.0, 0.0, 1.0]), np.array([0.2, 0.9, 1.0]), np.zeros(2)), np.array([-1.0, -0.8])),
    (Told(np.zeros(2)), np.array([-3.0, -1.0])),
    (Graded(np.zeros(5)), np.array([-1.6, 0.1, 0.2, 0.3, 0.9])),
    (Kept(np.array([-1.0, 0.0, 2.0]), np.zeros(3)), np.array([1.0, 0.9, -0.7])),
]


@pytest.mark.parametrize(("family", "free"), FAMILIES, ids=lambda value: type(value).__name__)
def test_derivatives_match_finite_differences(family: Family, free: Array) -> None:
    exact = family.derivatives(free, X)
    step = 1e-6
    for index in range(len(free)):
        shift = np.eye(len(free))[index] * step
        numeric = (family.table(free + shift, X) - family.table(free - shift, X)) / (2 * step)
        np.testing.assert_allclose(exact[index], numeric, atol=1e-6)


@pytest.mark.parametrize(("family", "free"), [FAMILIES[0], FAMILIES[2], FAMILIES[3]], ids=["event", "told", "graded"])
def test_probabilities_sum_to_one(family: Family, free: Array) -> None:
    np.testing.assert_allclose(np.exp(family.table(free, X)).sum(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("family", "free"), FAMILIES, ids=lambda value: type(value).__name__)
def test_information_is_the_variance_of_the_score(family: Family, free: Array) -> None:
    step = 1e-5
    slope = (family.table(free, X + step) - family.table(free, X - step)) / (2 * step)
    if isinstance(family, Kept):
        assert family.information(free, X) == pytest.approx(free[1] ** 2 / np.exp(2 * free[2]))
        return
    if isinstance(family, Event) and len(family.scale) == 3:  # averaged over the scales .2, .9 and 1
        z = free[0] + free[1] * X
        parts = [
            Event(np.array([0.0, 1.0]), np.full(2, a), np.zeros(2)).information(free, X) for a in (0.2, 0.9, 1.0)
        ]  # fmt: skip
        q = 0.2 * expit(z)
        by_hand = (free[1] * 0.2 * expit(z) * expit(-z)) ** 2 / (q * (1 - q))
        np.testing.assert_allclose(parts[0], by_hand)
        np.testing.assert_allclose(family.information(free, X), np.mean(parts, axis=0))
        return
    expected = (np.exp(family.table(free, X)) * slope**2).sum(axis=0)
    # `Told` differentiates on the grid it is given, so it is compared on the fine grid of the fit.
    if isinstance(family, Told):
        fine = GRID[np.abs(GRID) < 4.0]
        numeric = (family.table(free, fine + step) - family.table(free, fine - step)) / (2 * step)
        expected = (np.exp(family.table(free, fine)) * numeric**2).sum(axis=0)
        np.testing.assert_allclose(family.information(free, fine)[1:-1], expected[1:-1], rtol=0.05)
        return
    np.testing.assert_allclose(family.information(free, X), expected, rtol=1e-4)


def test_a_young_negative_is_not_a_zero() -> None:
    """ln(1 - F p): at F -> 0 it says nothing, at F = 1 it is the zero that it looks like."""
    family = Event(np.zeros(3), np.array([1e-9, 0.5, 1.0]), np.zeros(2))
    free = np.array([-0.5, 1.0])
    p = expit(free[0] + free[1] * X)
    np.testing.assert_allclose(family.table(free, X), np.log1p(-np.outer([1e-9, 0.5, 1.0], p)), atol=1e-12)


def test_selection_shifts_the_intercept_only() -> None:
    """Among those who speak up unasked, P(up) = expit(x + ln(r1 / r0))."""
    family, free = Told(np.zeros(2)), np.array([-3.0, -1.0])
    table = family.table(free, X)
    r1, r0 = expit(free)
    np.testing.assert_allclose(table[1] - table[2], X + np.log(r1 / r0))


def _items(seed: int, n: int = 400) -> list[Item]:
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.5, 1.2, n)
    eta = theta + rng.normal(0.0, 0.5, n)

    def item(
        kind: str, family: Family, on: Literal["quality", "report"], states: Array, count: int, *, anchor: bool = False
    ) -> Item:
        seen = np.ones(count, dtype=bool)
        score = np.arange(count, dtype=np.float64)
        return Item(kind, None, family, on, kind, "x", states.astype(np.int64), seen, score, anchor)

    def event() -> Event:
        return Event(np.array([0.0, 1.0]), np.ones(2), np.array([-0.5, 0.5]))

    thumb = np.where(rng.random(n) < 0.3, rng.random(n) < expit(eta), -1)
    grade = np.where(rng.random(n) < 0.5, (rng.random((n, 1)) > expit(np.array([-1.0, 0.5]) - eta[:, None])).sum(1), -1)
    told = np.where(thumb >= 0, -1, np.where(rng.random(n) < 0.2, np.where(rng.random(n) < expit(eta), 1, 2), 0))
    return [
        item(
            "thumb", Event(np.array([0.0, 1.0]), np.ones(2), np.zeros(0), fixed=True), "report", thumb, 2, anchor=True
        ),
        item("told", Told(np.array([-2.0, -2.0])), "report", told, 3),
        item("rating", Graded(np.array([-1.0, 0.2, 0.5])), "report", grade, 3),
        item("copy", event(), "quality", rng.random(n) < expit(-0.5 + theta), 2),
        item("retry", event(), "quality", np.where(rng.random(n) < 0.5, rng.random(n) < expit(-theta), -1), 2),
    ]


def test_gradient_and_scores_match_finite_differences() -> None:
    items = _items(1)
    likelihood = _Likelihood(items, compress([i.states for i in items], 400), 0.5)
    free = likelihood.start(0.4) + 0.1
    _, gradient = likelihood.value(free)
    numeric = approx_fprime(free, lambda at: likelihood.value(at)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, atol=2e-2, rtol=1e-3)
    deviation = (free - likelihood.prior_mean) / likelihood.prior_sd**2
    total = likelihood.patterns.count @ likelihood.scores(free)
    np.testing.assert_allclose(-total + deviation, gradient, atol=1e-6)


def test_likelihood_matches_double_integration() -> None:
    """One trace's likelihood against adaptive quadrature over quality and leniency."""
    items = _items(2)
    patterns = compress([i.states for i in items], 400)
    likelihood = _Likelihood(items, patterns, 0.5)
    free = likelihood.start(0.4)
    found = likelihood.posterior(free)[0]
    mean, sd = free[0], np.exp(free[1])
    for pattern in (len(patterns.count) // 2, len(patterns.count) - 1):
        states = patterns.states[pattern]

        def logs(theta: float, shift: float, on: str, states: Array = states) -> float:
            total = 0.0
            for index, item in enumerate(items):
                if item.on == on and states[index] >= 0:
                    own = free[likelihood.slices[index]]
                    total += item.family.table(own, np.array([theta + shift]))[states[index], 0]
            return total

        def joint(theta: float, logs: Callable[[float, float, str], float] = logs) -> float:
            def at(shift: float) -> float:
                return float(np.exp(logs(theta, shift, "report")) * norm.pdf(shift, 0, 0.5))

            said = float(quad(at, -4, 4, epsabs=1e-7)[0])
            return float(np.exp(logs(theta, 0.0, "quality")) * said * norm.pdf(theta, mean, sd))

        assert found[pattern] == pytest.approx(np.log(quad(joint, -8, 9, epsabs=1e-7)[0]), abs=5e-4)


def test_evidence_times_prior_has_the_moments_of_the_exact_posterior() -> None:
    items = _items(3)
    fitted = fit_latent(items, 400, np.arange(400), 0.0, mean=0.3)
    only = [items[3]]
    found = trace_evidence(
        only, [fitted.own(3)[0]], ["copy"], mean=fitted.mean, sd=fitted.sd, tau=0.0, traces=400
    )  # fmt: skip
    intercept, loading = fitted.own(3)[0]
    for copied in (0, 1):
        row = int(np.flatnonzero(items[3].states == copied)[0])
        sign = 1.0 if copied else -1.0

        def density(theta: float, sign: float = sign) -> float:
            return float(expit(sign * (intercept + loading * theta)) * norm.pdf(theta, fitted.mean, fitted.sd))

        total = quad(density, -9, 9)[0]
        centre = quad(lambda t, f=density: t * f(t), -9, 9)[0] / total
        spread = quad(lambda t, f=density, c=centre: (t - c) ** 2 * f(t), -9, 9)[0] / total
        precision = found.precision[row] + 1 / fitted.sd**2
        assert 1 / precision == pytest.approx(spread, rel=2e-3)
        assert (found.precision[row] * found.location[row] + fitted.mean / fitted.sd**2) / precision == pytest.approx(
            centre, abs=2e-3
        )


def test_weights_of_a_group_sum_to_one_and_add_no_more_than_the_best() -> None:
    items = _items(4)
    fitted = fit_latent(items, 400, np.arange(400), 0.5, mean=0.3)
    free = [fitted.own(index)[0] for index in range(len(items))]
    apart = trace_evidence(items, free, [i.kind for i in items], mean=fitted.mean, sd=fitted.sd, tau=0.5, traces=400)
    groups = ["said", "said", "said", "copy", "retry"]
    together = trace_evidence(items, free, groups, mean=fitted.mean, sd=fitted.sd, tau=0.5, traces=400)
    said = together.weights[:, :3].sum(axis=1)
    assert np.all((np.abs(said - 1.0) < 1e-12) | (said == 0.0))
    assert np.all(together.precision <= apart.precision + 1e-2)
    assert together.precision.mean() < apart.precision.mean()


def test_signals_that_repeat_each_other_share_one_weight() -> None:
    """A copy that is logged twice correlates beyond quality: the groups are merged, those of other items are not."""
    items = _items(5, 2_000)
    twice = replace(items[3], kind="copied", group="copied")
    fitted = fit_latent([*items, twice], 2_000, np.arange(2_000), 0.5, mean=0.3)
    assert dependence(fitted)[3] == dependence(fitted)[5]
    assert len(set(dependence(fitted))) == 5
    apart = fit_latent(items, 2_000, np.arange(2_000), 0.5, mean=0.3)
    assert dependence(apart)[3:] == ["copy", "retry"]


@given(st.floats(0.01, 0.99), st.floats(0.05, 20.0))
def test_sensitivity_inverts_the_selection(rate: float, rho: float) -> None:
    up, down = rate * rho, 1.0 - rate
    assert sensitivity(up / (up + down), [rho])[0] == pytest.approx(rate)


@pytest.mark.parametrize(("rate", "rhos"), [(1.2, [1.0]), (0.5, [0.0]), (0.5, [-1.0]), (0.5, [float("nan")])])
def test_sensitivity_refuses_what_is_no_share_or_ratio(rate: float, rhos: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        sensitivity(rate, rhos)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 60), st.integers(-1, 1)), min_size=1, max_size=60))
def test_compression_loses_nothing(rows: list[tuple[int, int, int]]) -> None:
    columns = list(np.array(rows, dtype=np.int64).T)
    patterns = compress(columns, len(rows))
    np.testing.assert_array_equal(patterns.states[patterns.of_trace], np.array(rows))
    assert patterns.count.sum() == len(rows)
    assert len(np.unique(patterns.states, axis=0)) == len(patterns.count)
