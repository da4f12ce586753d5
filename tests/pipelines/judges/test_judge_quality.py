"""A judge against labels: values beside scikit-learn and a published example, coverage on simulated truth, refusals."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from pipelines.judges.quality import (
    MINIMUM_CLASS,
    MINIMUM_LABELS,
    best_gold,
    effective,
    kappa,
    labelled,
    quality,
)
from pipelines.stats.proportion import wilson_interval
from store.judged import JUDGED


def frame(score: Any, label: Any, **columns: Any) -> pl.DataFrame:
    """Judged traces; `label` is of annotations, nan for none, asked for with probability `asked` (default .2)."""
    score = np.asarray(score, dtype=float)
    n = len(score)
    base: dict[str, Any] = {
        "trace_id": [f"t{i}" for i in range(n)], "agent": ["a"] * n, "user_id": ["u"] * n, "score": score,
        "confidence": np.full(n, np.nan), "judged_probability": np.ones(n), "annotation": np.asarray(label, float),
        "annotation_probability": np.where(np.isnan(np.asarray(label, float)), np.nan, 0.2),
    }  # fmt: skip
    for name in JUDGED.names():
        base.setdefault(name, np.full(n, np.nan))
    made = pl.DataFrame({**base, **columns}).select(JUDGED.names())
    return made.with_columns(pl.col(pl.Float64).fill_nan(None)).cast(JUDGED)


def test_sensitivity_and_specificity_are_wilsons_when_labels_weigh_the_same() -> None:
    truth = np.array([1] * 60 + [0] * 40)
    said = np.concatenate([np.ones(54), np.zeros(6), np.ones(10), np.zeros(30)])
    found = quality(frame(said, truth), "annotation")
    assert (found.n, found.good, found.bad, found.missing) == (100, 60, 40, None)
    assert found.sensitivity is not None
    assert found.specificity is not None
    for interval, (hits, trials) in ((found.sensitivity, (54, 60)), (found.specificity, (30, 40))):
        expected = wilson_interval(hits, trials)
        assert (interval.estimate, interval.lower, interval.upper) == pytest.approx(
            (expected.estimate, expected.lower, expected.upper), abs=1e-12
        )


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 5)), min_size=2, max_size=60))
def test_kappa_equals_scikit_learns_with_any_weights(rows: list[tuple[bool, bool, int]]) -> None:
    truth, said, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = kappa(truth, said, weight.astype(float))
    if found is None:
        assert len({*truth, *said}) == 1
        return
    expected = cohen_kappa_score(truth, said, sample_weight=weight)
    assert found.estimate == pytest.approx(expected, abs=1e-9)
    assert -1 <= found.lower <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.upper <= 1


def test_kappas_error_is_that_of_the_published_formula() -> None:
    """Beside the delta method on the multinomial, differentiated by finite differences."""
    counts = np.array([[40.0, 9.0], [6.0, 45.0]])

    def value(p: np.ndarray) -> float:
        p = p / p.sum()
        chance = float(p.sum(1) @ p.sum(0))
        return (float(np.trace(p)) - chance) / (1 - chance)

    p = (counts / counts.sum()).ravel()
    step = 1e-6
    gradient = np.array([
        (value((p + step * e).reshape(2, 2)) - value((p - step * e).reshape(2, 2))) / (2 * step) for e in np.eye(4)
    ])  # fmt: skip
    error = np.sqrt((gradient**2 @ p - (gradient @ p) ** 2) / counts.sum())
    truth = np.repeat([0, 0, 1, 1], counts.ravel().astype(int)).astype(bool)
    said = np.repeat([0, 1, 0, 1], counts.ravel().astype(int)).astype(bool)
    found = kappa(truth, said, np.ones(100))
    assert found is not None
    assert (found.upper - found.lower) / 2 == pytest.approx(1.959963984540054 * error, rel=1e-4)


def test_intervals_cover_on_a_judge_of_known_quality() -> None:
    """Labels asked for with unequal probabilities: the intervals hold for the population, not for the sample."""
    random = np.random.default_rng(11)
    hits = np.zeros(3)
    runs = 1000
    for _ in range(runs):
        n = 3_000
        truth = random.random(n) < 0.6
        easy = random.random(n) < 0.5
        right = random.random(n) < np.where(easy, 0.95, 0.7)
        said = np.where(right, truth, ~truth)
        probability = np.where(easy, 0.05, 0.15)
        asked = random.random(n) < probability
        found = quality(
            frame(
                said, np.where(asked, truth, np.nan), annotation_probability=np.where(asked, probability, np.nan)
            ),
            "annotation",
        )  # fmt: skip
        assert found.sensitivity is not None
        assert found.specificity is not None
        assert found.kappa is not None
        share = 0.825
        chance = 0.6 * (0.6 * share + 0.4 * (1 - share)) + 0.4 * (0.4 * share + 0.6 * (1 - share))
        true_kappa = (share - chance) / (1 - chance)
        for place, (interval, true) in enumerate(
            ((found.sensitivity, share), (found.specificity, share), (found.kappa, true_kappa))
        ):
            hits[place] += interval.lower <= true <= interval.upper
    assert np.all(hits / runs >= 0.93)  # .949, .959 and .953 of 1,500
    assert np.all(hits / runs <= 0.97)


def test_below_the_minimum_nothing_is_said_and_what_is_missing_is() -> None:
    few = quality(frame(np.ones(49), np.ones(49)), "annotation")
    assert (few.sensitivity, few.specificity, few.kappa) == (None, None, None)
    assert few.missing == f"49 of at least {MINIMUM_LABELS} labels"
    one_sided = quality(frame(np.ones(60), np.array([1.0] * 51 + [0.0] * 9)), "annotation")
    assert one_sided.sensitivity is not None
    assert one_sided.specificity is None
    assert one_sided.missing == f"9 of at least {MINIMUM_CLASS} bad ones"
    nothing = quality(frame(np.ones(60), np.full(60, np.nan)), "annotation")
    assert (nothing.n, nothing.kappa) == (0, None)


def test_when_all_agree_on_one_thing_kappa_is_not_defined() -> None:
    found = quality(frame(np.ones(80), np.ones(80)), "annotation")
    assert found.kappa is None
    assert found.sensitivity is not None
    assert found.sensitivity.lower > 0.9


def test_volunteered_labels_are_used_only_while_there_are_no_others_and_say_so() -> None:
    n = 200
    truth = np.tile([1.0, 0.0], n // 2)
    probability = np.full(n, np.nan)
    made = frame(truth, truth, annotation_probability=probability)
    assert quality(made, "annotation").basis == "volunteered"
    probability[:60] = 0.1
    made = frame(truth, truth, annotation_probability=probability)
    rows, basis = labelled(made, "annotation")
    assert (rows.height, basis) == (60, "at random")


def test_the_hard_part_is_where_judge_or_reward_are_unsure() -> None:
    truth = np.tile([1.0, 0.0], 100)
    confidence = np.where(np.arange(200) < 60, 0.2, 0.9)
    made = frame(truth, truth, confidence=confidence)
    assert quality(made, "annotation", "hard").n == 60
    made = frame(truth, truth, confidence=np.full(200, 0.9), reward=np.full(200, 0.55),
                 reward_sd=np.where(np.arange(200) < 30, 0.1, 0.01))  # fmt: skip
    assert quality(made, "annotation", "hard").n == 30
    # A judge that states no confidence is as sure as its score is far from the middle.
    assert quality(frame(np.full(200, 0.6), truth), "annotation", "hard").n == 200
    assert quality(frame(truth, truth), "annotation", "hard").n == 0


def test_the_best_kind_of_label_comes_first_once_there_is_enough_of_it() -> None:
    n = 100
    few, many = np.full(n, np.nan), np.ones(n)
    few[:10] = 1.0
    assert best_gold(frame(np.ones(n), few, outcome=many)) == "outcome"
    assert best_gold(frame(np.ones(n), many, outcome=many)) == "annotation"
    assert best_gold(frame(np.ones(n), few)) == "annotation"
    assert best_gold(frame(np.ones(n), np.full(n, np.nan))) is None


def test_effective_numbers_are_kishs() -> None:
    assert effective(np.ones(7)) == pytest.approx(7)
    assert effective(np.array([3.0, 1.0])) == pytest.approx(16 / 10)


def test_a_kind_of_label_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of annotation, outcome, feedback"):
        quality(frame([1.0], [1.0]), "thumb")
