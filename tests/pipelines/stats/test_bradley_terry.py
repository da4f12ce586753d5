"""Bradley-Terry fits against published numbers, another package, closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pipelines.stats import bradley_terry, paired
from pipelines.stats.bradley_terry import difference, fit, ranks
from pipelines.stats.contract import FitRefused

# Wikipedia, "Bradley-Terry model", worked example: rows beat columns (A, B, C, D).
WIKIPEDIA = np.array([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]])
# Stigler (1994), Stat. Sci. 9:94-108, as in Agresti (2002), p. 448: the row was cited by the column;
# Biometrika, Communications in Statistics, JASA, JRSS-B.
STIGLER = np.array([[714, 730, 498, 221], [33, 425, 68, 17], [320, 813, 1072, 142], [284, 276, 325, 188]])


def rows_of(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    winner, loser = np.nonzero(wins * (1 - np.eye(len(wins), dtype=int)))
    return winner, loser, np.ones(winner.size), wins[winner, loser].astype(float)


def simulated(
    rng: np.random.Generator, strength: np.ndarray, comparisons: int, ties: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = rng.integers(0, strength.size, comparisons)
    second = (first + rng.integers(1, strength.size, comparisons)) % strength.size
    won = rng.random(comparisons) < 1 / (1 + np.exp(strength[second] - strength[first]))
    return first, second, np.where(rng.random(comparisons) < ties, 0.5, won.astype(float))


def test_wikipedia_example() -> None:
    first, second, score, weight = rows_of(WIKIPEDIA)
    result = fit(first, second, score, items=4, weight=weight, tau=None)
    assert np.exp(result.strength) == pytest.approx([0.640, 1.043, 0.660, 2.270], abs=5e-4)
    assert result.comparisons == 22
    assert result.component.tolist() == [0, 0, 0, 0]


def test_stigler_citations_with_published_errors() -> None:
    first, second, score, weight = rows_of(STIGLER)
    result = fit(first, second, score, items=4, weight=weight, tau=None, robust=False)
    against = [difference(result, journal, 0) for journal in (1, 2, 3)]
    assert [each.estimate for each in against] == pytest.approx([-2.94907, -0.47957, 0.26895], abs=1e-5)
    assert [each.standard_error for each in against] == pytest.approx([0.10255, 0.06059, 0.07083], abs=1e-5)
    assert against[0].upper == pytest.approx(-2.94907 + 1.959964 * 0.10255, abs=1e-4)


# choix 0.4.1 on these wins: ilsr_pairwise(alpha=0, tol=1e-12), centred, and opt_pairwise(alpha=.5), which maximises
# the log-likelihood minus alpha |strengths|^2: our tau = 1.
CHOIX_WINS = np.array(
    [
        [0, 9, 12, 11, 12, 9], [6, 0, 8, 6, 10, 8], [1, 5, 0, 11, 16, 10],
        [2, 1, 9, 0, 6, 8], [1, 0, 4, 4, 0, 12], [1, 1, 5, 4, 8, 0],
    ]
)  # fmt: skip
CHOIX_MAXIMUM = [
    1.553769629685096, 1.046598804919567, -0.043359315628023254, -0.38575137456761716, -1.055386081784781,
    -1.1158716626242415,
]  # fmt: skip
CHOIX_PENALISED = [
    1.3776502387629062, 0.9170402772610224, -0.019718793628078345, -0.3371296996809796, -0.9451210353385374,
    -0.9927209873763341,
]  # fmt: skip


def test_equals_choix() -> None:
    first, second, score, weight = rows_of(CHOIX_WINS)
    plain = fit(first, second, score, items=6, weight=weight, tau=None)
    assert plain.strength == pytest.approx(CHOIX_MAXIMUM, abs=1e-6)
    pulled = fit(first, second, score, items=6, weight=weight, tau=1.0)
    assert pulled.strength == pytest.approx(CHOIX_PENALISED, abs=1e-6)


def test_robust_errors_are_the_textbook_sandwich() -> None:
    rng = np.random.default_rng(1)
    first, second, score = simulated(rng, np.array([0.5, 0.0, -0.5]), 60, ties=0.2)
    users = rng.integers(0, 9, 60)
    result = fit(first, second, score, items=3, users=users, tau=None)
    design = np.zeros((60, 3))
    design[np.arange(60), first], design[np.arange(60), second] = 1.0, -1.0
    design = design[:, 1:]  # item 0 is the origin
    theta = result.strength[1:] - result.strength[0]
    p = 1 / (1 + np.exp(-design @ theta))
    bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
    scores = design * (score - p)[:, None]
    assert scores.sum(axis=0) == pytest.approx(np.zeros(2), abs=1e-8)
    by_user = np.array([scores[users == user].sum(axis=0) for user in np.unique(users)])
    expected = bread @ (by_user.T @ by_user) @ bread * len(by_user) / (len(by_user) - 1)
    assert difference(result, 1, 0).standard_error == pytest.approx(np.sqrt(expected[0, 0]), abs=1e-9)
    apart = difference(result, 1, 2)
    assert apart.standard_error == pytest.approx(
        np.sqrt(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]), abs=1e-9
    )


def test_repeating_a_users_answers_adds_nothing() -> None:
    rng = np.random.default_rng(2)
    first, second, score = simulated(rng, np.array([0.5, 0.0, -0.5, 0.1]), 300)
    users = rng.integers(0, 50, 300)
    once = fit(first, second, score, items=4, users=users, tau=None)
    thrice = fit(np.tile(first, 3), np.tile(second, 3), np.tile(score, 3), items=4, users=np.tile(users, 3), tau=None)
    assert thrice.covariance == pytest.approx(once.covariance, rel=1e-6)


def test_a_tie_is_half_a_win_for_each_and_weights_are_repeated_rows() -> None:
    first, second = np.array([0, 0, 1, 2, 2]), np.array([1, 1, 2, 0, 0])
    tied = fit(first, second, np.array([1.0, 0.5, 1.0, 1.0, 0.5]), items=3, tau=None)
    halves = fit(
        np.array([0, 0, 1, 1, 2, 2, 0]), np.array([1, 1, 0, 2, 0, 0, 2]), np.ones(7), items=3, tau=None,
        weight=np.array([1, 0.5, 0.5, 1, 1, 0.5, 0.5]),
    )  # fmt: skip
    assert tied.strength == pytest.approx(halves.strength, abs=1e-8)
    repeated = fit(np.repeat(first, 3), np.repeat(second, 3), np.repeat([1, 0.5, 1, 1, 0.5], 3), items=3)
    weighted = fit(first, second, np.array([1, 0.5, 1, 1, 0.5]), items=3, weight=np.full(5, 3.0))
    assert weighted.strength == pytest.approx(repeated.strength, abs=1e-8)
    assert weighted.covariance == pytest.approx(repeated.covariance, abs=1e-8)


def test_conjugate_gradients_agree_with_the_dense_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    first, second, score = simulated(rng, rng.normal(0, 1, 60), 2000)
    for tau in (None, 1.0):
        dense = fit(first, second, score, items=60, tau=tau)
        monkeypatch.setattr(bradley_terry, "DENSE_ITEMS", 0)
        sparse = fit(first, second, score, items=60, tau=tau)
        monkeypatch.undo()
        assert sparse.strength == pytest.approx(dense.strength, abs=1e-7)


def test_many_items_are_summed_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    first, second, score = simulated(rng, rng.normal(0, 1, 30), 500, ties=0.1)
    few = fit(first, second, score, items=30, tau=1.0)
    monkeypatch.setattr(paired, "TABLE_CELLS", 0)
    many = fit(first * 10, second * 10, score, items=300, tau=1.0)
    assert many.strength[::10] == pytest.approx(few.strength, abs=1e-7)
    assert np.isnan(many.strength[1])
    assert many.component[1] == -1
    assert many.covariance is not None
    assert many.covariance[::10, ::10] == pytest.approx(few.covariance, abs=1e-7)


def test_components_are_kept_apart() -> None:
    # 0 and 1 beat each other; 2 and 3 too; 4 lost to 0 once and never won; 5 was never compared.
    first, second = np.array([0, 1, 0, 2, 3, 3, 0]), np.array([1, 0, 1, 3, 2, 2, 4])
    score = np.ones(7)
    for tau in (None, 2.0):
        result = fit(first, second, score, items=6, tau=tau)
        assert result.component[0] == result.component[1]
        assert result.component[2] == result.component[3]
        assert len({*result.component.tolist()}) == 4
        assert result.component[5] == -1
        assert np.isnan(result.strength[5])
        with pytest.raises(FitRefused, match="not connected") as refusal:
            difference(result, 0, 2)
        assert refusal.value.reason == "not_connected"
        assert difference(result, 0, 1).estimate > 0
    bridged = difference(result, 0, 4, across=True)
    assert bridged.estimate > 0
    assert bridged.lower < 0
    with pytest.raises(FitRefused, match="not connected"):
        difference(fit(first, second, score, items=6, tau=None), 0, 4, across=True)


def test_maximum_likelihood_inside_components_is_that_of_each_alone() -> None:
    first, second, score, weight = rows_of(WIKIPEDIA)
    alone = fit(first, second, score, items=4, weight=weight, tau=None)
    both = fit(
        np.concatenate([first, first + 4, [0]]), np.concatenate([second, second + 4, [4]]),
        np.concatenate([score, 1 - score, [1.0]]), items=8, weight=np.concatenate([weight, weight, [1.0]]), tau=None,
    )  # fmt: skip
    assert both.strength[:4] == pytest.approx(alone.strength, abs=1e-8)
    assert both.strength[4:] == pytest.approx(-alone.strength, abs=1e-8)
    assert both.covariance is not None
    assert both.covariance[:4, :4] == pytest.approx(alone.covariance, abs=1e-8)


def test_two_items_have_closed_forms() -> None:
    result = fit(np.array([0]), np.array([1]), np.array([0.75]), items=2, weight=np.array([40.0]), tau=None)
    apart = difference(result, 0, 1)
    assert apart.estimate == pytest.approx(np.log(3))
    model = fit(
        np.array([0]), np.array([1]), np.array([0.75]), items=2, weight=np.array([40.0]), tau=None, robust=False
    )
    assert difference(model, 0, 1).standard_error == pytest.approx(np.sqrt(1 / 30 + 1 / 10))
    order = ranks(model, 0, np.random.default_rng(1), draws=40_000)
    assert order.items.tolist() == [0, 1]
    better = norm.cdf(np.log(3) / np.sqrt(1 / 30 + 1 / 10))
    assert order.at_most[0, 0] == pytest.approx(better, abs=0.004)
    assert order.at_most[:, 1].tolist() == [1.0, 1.0]
    assert (order.lower.tolist(), order.upper.tolist()) == ([1, 2], [1, 2])


@pytest.mark.thorough
def test_the_prior_sd_is_estimated_from_twenty_items_on() -> None:
    rng = np.random.default_rng(5)
    for truth in (0.3, 1.5):
        first, second, score = simulated(rng, rng.normal(0, truth, 200), 20_000)
        result = fit(first, second, score, items=200)
        assert result.tau == pytest.approx(truth, rel=0.15)
        assert result.tau_basis == "estimated"
    few = fit(np.array([0, 1, 2]), np.array([1, 2, 0]), np.ones(3), items=3)
    assert (few.tau, few.tau_basis) == (2.0, "default")


@pytest.mark.thorough
def test_intervals_of_differences_and_ranks_cover() -> None:
    rng = np.random.default_rng(6)
    runs, items, covered, rank_covered = 200, 25, 0.0, 0.0
    for _ in range(runs):
        strength = rng.normal(0, 0.7, items)
        first, second, score = simulated(rng, strength, 1500)
        # Each user answers the same comparison twice over: errors that ignore users would be too small.
        users = np.arange(1500) // 10
        result = fit(np.tile(first, 2), np.tile(second, 2), np.tile(score, 2), items=items, users=np.tile(users, 2))
        v = result.covariance
        assert v is not None
        i, j = np.triu_indices(items, 1)
        error = np.sqrt(v[i, i] + v[j, j] - 2 * v[i, j])
        missed = np.abs(result.strength[i] - result.strength[j] - strength[i] + strength[j]) > 1.9760 * error
        covered += 1 - missed.mean()
        order = ranks(result, 0, rng, draws=1000)
        true_rank = 1 + np.argsort(np.argsort(-strength))
        rank_covered += np.mean((order.lower <= true_rank[order.items]) & (true_rank[order.items] <= order.upper))
    assert 0.93 < covered / runs < 0.97
    assert 0.93 < rank_covered / runs < 0.99  # ranks are whole numbers: no interval of them covers .95, these do .973


@given(st.integers(0, 2**32 - 1))
def test_names_and_sides_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, score = simulated(rng, rng.normal(0, 1, 5), 40, ties=0.3)
    result = fit(first, second, score, items=5)
    turned = fit(second, first, 1 - score, items=5)
    assert turned.strength == pytest.approx(result.strength, abs=1e-7, nan_ok=True)
    other = rng.permutation(5)
    renamed = fit(other[first], other[second], score, items=5)
    assert renamed.strength[other] == pytest.approx(result.strength, abs=1e-7, nan_ok=True)
    assert np.nansum(result.strength) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"first": [], "second": [], "score": []}, "no_rows"),
        ({"weight": [0.0, 0.0]}, "no_rows"),
        ({"score": [1.0, np.nan]}, "not_finite"),
        ({"weight": [1.0, np.inf]}, "not_finite"),
        ({"score": [1.0, 2.0]}, "out_of_range"),
        ({"weight": [1.0, -1.0]}, "out_of_range"),
        ({"first": [0, 7]}, "out_of_range"),
        ({"first": [0, -1]}, "out_of_range"),
        ({"second": [1, 1]}, "self_comparison"),
        ({"users": [3, 3]}, "one_user"),
    ],
)
def test_refuses_by_name(change: dict[str, list[float]], reason: str) -> None:
    rows: dict[str, object] = {"first": [0, 1], "second": [1, 0], "score": [1.0, 1.0]}
    rows |= change
    arrays = {
        name: np.array(values, dtype=np.float64 if name in ("score", "weight") else np.int64)
        for name, values in rows.items()
    }
    with pytest.raises(FitRefused) as refusal:
        fit(arrays.pop("first"), arrays.pop("second"), arrays.pop("score"), items=3, **arrays)
    assert refusal.value.reason == reason
    assert "Bradley-Terry" in str(refusal.value)
