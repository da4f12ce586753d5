"""Labels and verdicts together: coverage and width on real verdicts and in simulation, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipelines.judges.population import Population, Refused, population
from store.judged import JUDGED


def frame(score: np.ndarray, label: np.ndarray, **columns: Any) -> pl.DataFrame:
    """Judged traces with labels (nan: none) asked for with probability `asked`, and judged with `share`."""
    n = len(score)
    asked = columns.pop("asked", np.full(n, 0.1))
    base: dict[str, Any] = {
        "trace_id": np.arange(n).astype(str), "agent": ["a"] * n, "user_id": ["u"] * n, "score": score,
        "judged_probability": columns.pop("share", np.ones(n)), "annotation": label,
        "annotation_probability": np.where(np.isnan(label), np.nan, asked),
    }  # fmt: skip
    for name in JUDGED.names():
        base.setdefault(name, np.full(n, np.nan))
    made = pl.DataFrame({**base, **columns}).select(JUDGED.names())
    return made.with_columns(pl.col(pl.Float64).fill_nan(None)).cast(JUDGED)


def estimated(found: Population | Refused) -> Population:
    assert isinstance(found, Population), found
    return found


def resampled(score: np.ndarray, truth: np.ndarray, *, labels: int, runs: int, seed: int) -> dict[str, float]:
    """How the estimate fares over many draws of so many labels from items whose truth is known."""
    random = np.random.default_rng(seed)
    hit, widths = 0, []
    base = frame(score, np.full(len(score), np.nan))
    for _ in range(runs):
        label = np.full(len(score), np.nan)
        chosen = random.choice(len(score), labels, replace=False)
        label[chosen] = truth[chosen]
        asked = np.where(np.isnan(label), np.nan, labels / len(score))
        both = pl.DataFrame({"annotation": label, "annotation_probability": asked}).fill_nan(None)
        found = estimated(
            population(base.with_columns(both["annotation"], both["annotation_probability"]), "annotation")
        )
        hit += found.combined.lower <= truth.mean() <= found.combined.upper
        alone = found.labels_only.upper - found.labels_only.lower
        widths.append((found.combined.upper - found.combined.lower) / alone)
    return {"coverage": hit / runs, "widest": max(widths), "typical": float(np.median(widths))}


def test_a_useful_judge_narrows_and_a_useless_one_does_not_widen() -> None:
    random = np.random.default_rng(1)
    truth = (random.random(4_000) < 0.7).astype(float)
    good = np.where(random.random(4_000) < 0.9, truth, 1 - truth)
    noise = random.random(4_000)
    useful = resampled(good, truth, labels=100, runs=800, seed=2)
    useless = resampled(noise, truth, labels=100, runs=800, seed=3)
    assert 0.93 <= useful["coverage"] <= 0.97  # .958 and .959 of 1,000
    assert 0.93 <= useless["coverage"] <= 0.97
    assert useful["typical"] < 0.75
    assert useless["typical"] <= 1.02


def test_a_biased_judge_is_corrected_where_it_alone_is_wrong() -> None:
    random = np.random.default_rng(5)
    truth = (random.random(6_000) < 0.4).astype(float)
    lenient = np.where(random.random(6_000) < 0.5, 1.0, truth)
    label = np.where(random.random(6_000) < 0.05, truth, np.nan)
    found = estimated(population(frame(lenient, label, asked=np.full(6_000, 0.05)), "annotation"))
    assert found.judge_only.lower > 0.6
    assert found.combined.lower <= truth.mean() <= found.combined.upper
    assert found.narrower > 0


def test_unequal_probabilities_of_being_judged_are_weighted() -> None:
    """One agent is judged five times as often as the other; the estimate is still of all their traces."""
    random = np.random.default_rng(7)
    hit = 0
    runs = 800
    for _ in range(runs):
        n = 20_000
        rare = random.random(n) < 0.5
        truth = (random.random(n) < np.where(rare, 0.9, 0.3)).astype(float)
        share = np.where(rare, 0.05, 0.25)
        judged = random.random(n) < share
        said = np.where(random.random(n) < 0.85, truth, 1 - truth)
        label = np.where(random.random(n) < 0.1, truth, np.nan)
        found = estimated(population(frame(said[judged], label[judged], share=share[judged]), "annotation"))
        hit += found.combined.lower <= 0.6 <= found.combined.upper
    assert 0.93 <= hit / runs <= 0.97  # .9376 of 2,500


def test_equal_probabilities_change_nothing() -> None:
    random = np.random.default_rng(9)
    truth = (random.random(1_000) < 0.5).astype(float)
    said = np.where(random.random(1_000) < 0.8, truth, 1 - truth)
    label = np.where(random.random(1_000) < 0.1, truth, np.nan)
    one = estimated(population(frame(said, label), "annotation"))
    other = estimated(population(frame(said, label, share=np.full(1_000, 0.01)), "annotation"))
    assert one == other


def test_the_weighted_form_meets_the_plain_one_when_weights_come_close() -> None:
    random = np.random.default_rng(10)
    truth = (random.random(2_000) < 0.5).astype(float)
    said = np.where(random.random(2_000) < 0.8, truth, 1 - truth)
    label = np.where(random.random(2_000) < 0.1, truth, np.nan)
    one = estimated(population(frame(said, label), "annotation"))
    other = estimated(population(frame(said, label, share=0.5 + 1e-9 * random.random(2_000)), "annotation"))
    assert other.combined.estimate == pytest.approx(one.combined.estimate, abs=1e-6)
    assert other.combined.upper - other.combined.lower == pytest.approx(
        one.combined.upper - one.combined.lower, rel=0.05
    )


def test_too_few_or_volunteered_labels_are_refused_with_what_is_missing() -> None:
    label = np.full(500, np.nan)
    label[:49] = 1.0
    few = population(frame(np.ones(500), label), "annotation")
    assert isinstance(few, Refused)
    assert (few.reason, few.have, few.need) == ("few_labels", 49, 50)
    many = frame(np.ones(500), np.tile([0.0, 1.0], 250)).with_columns(annotation_probability=pl.lit(None, pl.Float64))
    volunteered = population(many, "annotation")
    assert isinstance(volunteered, Refused)
    assert "500 more were volunteered" in volunteered.text


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5])
def test_impossible_probabilities_are_refused(bad: float) -> None:
    label = np.full(500, np.nan)
    label[:100] = np.tile([0.0, 1.0], 50)
    asked = np.full(500, 0.2)
    asked[3] = bad
    found = population(frame(np.ones(500), label, asked=asked), "annotation")
    assert isinstance(found, Refused)
    assert found.reason == "bad_propensity"
    share = np.ones(500)
    share[3] = bad
    found = population(frame(np.ones(500), label, share=share), "annotation")
    assert isinstance(found, Refused)
    assert found.reason == "bad_propensity"


def test_labels_that_all_say_the_same_have_an_interval_that_is_not_nothing() -> None:
    label = np.full(500, np.nan)
    label[:60] = 1.0
    found = estimated(population(frame(np.linspace(0, 1, 500), label), "annotation"))
    assert found.combined.upper == 1.0
    assert 0.9 < found.combined.lower < 1.0
    assert found.note is not None


PROMPTS = ("nan", "CoT", "APE", "Dis", "ToT", "Decomp", *(f"gpt4_{i}" for i in range(10)))


def critic(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The critic's verdict and the correctness of every (question, prompt) of a test set."""
    table = pl.read_parquet(folder / f"{name}_test.parquet")
    said = [table[f"llama_critic_{i}"].cast(pl.Float64) for i in range(len(PROMPTS)) if f"llama_critic_{i}" in table]
    truth = [table[prompt].cast(pl.Float64) for prompt in PROMPTS[: len(said)]]
    return pl.concat(said).to_numpy(), pl.concat(truth).to_numpy()


CRITICS = ("gsm8k", "mawps", "svamp")


@pytest.mark.parametrize("name", CRITICS)
def test_on_prompt_oirl_it_covers_and_is_never_much_wider(shared_data: Path, name: str) -> None:
    score, truth = critic(shared_data / "prompt_oirl", name)
    chosen = np.random.default_rng(3).choice(len(score), 4_000, replace=False)
    score, truth = score[chosen], truth[chosen]
    found = resampled(score, truth, labels=100, runs=1_000, seed=17)
    assert 0.93 <= found["coverage"] <= 0.97, found  # .960, .938 and .946 of 500
    assert found["widest"] <= 1.05, found
