"""Examination by position against known truth, a hand computation and refusals."""

from typing import Any

import numpy as np
import pytest

from pipelines.stats.click_model import fit
from pipelines.stats.contract import FitRefused

EXAMINATION = np.array([1.0, 0.7, 0.5, 0.35])


def simulated(
    rng: np.random.Generator, impressions: int, items: int, *, drawn: float, users: int | None = None
) -> dict[str, Any]:
    """Better items stand higher unless the position was drawn; users click more or less (a random effect)."""
    attractive = rng.beta(2, 4, items)
    item = rng.integers(0, items, impressions)
    randomised = rng.random(impressions) < drawn
    merit = attractive[item] + rng.normal(0, 0.15, impressions)
    place = np.where(
        randomised, rng.integers(0, 4, impressions), 3 - np.searchsorted(np.quantile(merit, [0.25, 0.5, 0.75]), merit)
    )
    rate = EXAMINATION[place] * attractive[item]
    rows = {"item": item, "position": place + 1, "randomised": randomised}
    if users is not None:
        who = rng.integers(0, users, impressions)
        rate = rate * rng.choice([0.3, 1.7], users)[who] / 1.7
        rows["users"] = who
    return rows | {"clicked": rng.random(impressions) < rate}


def test_two_positions_and_one_item_are_a_ratio_of_click_through() -> None:
    item = np.zeros(1000, dtype=np.int64)
    position = np.repeat([1, 2], [400, 600])
    clicked = np.zeros(1000, dtype=bool)
    clicked[:100] = True
    clicked[400:490] = True
    result = fit(item, position, clicked, randomised=np.ones(1000, dtype=bool))
    assert result.examination == pytest.approx([1.0, (90 / 600) / (100 / 400)])
    assert result.attractiveness == pytest.approx([0.25])
    assert (result.impressions.tolist(), result.clicks.tolist()) == ([400, 600], [100, 90])
    # The delta method for a ratio of two independent proportions.
    expected = np.sqrt(0.75 / 100 + 0.85 / 90)
    assert result.log_sd[0] == 0.0
    assert result.log_sd[1] == pytest.approx(expected, rel=0.25)


def test_randomised_swaps_recover_examination() -> None:
    rng = np.random.default_rng(1)
    rows = simulated(rng, 500_000, 200, drawn=0.5)
    result = fit(**rows)
    assert result.basis == "randomised"
    assert result.note is None
    assert result.positions.tolist() == [1, 2, 3, 4]
    assert result.examination == pytest.approx(EXAMINATION, abs=0.02)
    by_hand = [rows["clicked"][(rows["position"] == r) & rows["randomised"]].mean() for r in (1, 2, 3, 4)]
    assert result.examination == pytest.approx(np.array(by_hand) / by_hand[0], abs=0.02)


def test_few_impressions_an_item_do_not_bias() -> None:
    rng = np.random.default_rng(2)
    found = [fit(**simulated(rng, 10_000, 4000, drawn=1.0)).examination for _ in range(8)]
    error = np.std(found, axis=0) / np.sqrt(8)
    assert np.all(np.abs(np.mean(found, axis=0) - EXAMINATION) <= 4 * error + 0.005)


def test_without_randomisation_the_model_tells_and_says_so() -> None:
    rng = np.random.default_rng(3)
    result = fit(**simulated(rng, 200_000, 100, drawn=0.0))
    assert (result.basis, result.note) == ("model-based", "not_randomised")
    assert result.examination == pytest.approx(EXAMINATION, abs=0.02)
    assert result.impressions.sum() == 200_000
    few = simulated(rng, 20_000, 50, drawn=0.002)
    assert fit(**few).note == "too_few_randomised"


def test_position_alone_is_not_taken_for_quality() -> None:
    rng = np.random.default_rng(4)
    rows = simulated(rng, 100_000, 100, drawn=0.2)
    raw = [rows["clicked"][rows["position"] == r].mean() for r in (1, 2, 3, 4)]
    assert raw[3] / raw[0] < 0.25  # the naive ratio mixes examination with what stands there
    assert fit(**rows).examination[3] == pytest.approx(0.35, abs=0.03)


@pytest.mark.thorough
@pytest.mark.parametrize("drawn", [1.0, 0.0])
def test_intervals_cover_when_users_differ(drawn: float) -> None:
    rng = np.random.default_rng(5)
    runs, hits = 60, 0.0
    for _ in range(runs):
        result = fit(**simulated(rng, 8000, 25, drawn=drawn, users=240))
        hits += np.mean((result.lower[1:] <= EXAMINATION[1:]) & (EXAMINATION[1:] <= result.upper[1:])) / runs
    assert 0.915 < hits < 0.985


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no rows", "no_rows"), ("one position", "one_position"), ("no clicks", "constant_response"),
        ("all clicks", "constant_response"), ("negative", "out_of_range"), ("few", "too_few_clicks"),
        ("apart", "not_connected"), ("one user", "one_user"),
    ],
)  # fmt: skip
def test_refuses_by_name(name: str, reason: str) -> None:
    rows = simulated(np.random.default_rng(6), 4000, 10, drawn=1.0)
    size = rows["item"].size
    changes: dict[str, dict[str, Any]] = {
        "no rows": {key: values[:0] for key, values in rows.items()},
        "one position": {"position": np.ones(size, dtype=np.int64)},
        "no clicks": {"clicked": np.zeros(size, dtype=bool)},
        "all clicks": {"clicked": np.ones(size, dtype=bool)},
        "negative": {"position": rows["position"] - 3},
        "few": {"clicked": rows["clicked"] & (np.arange(size) < 60)},
        "apart": {"item": rows["item"] + 10 * (rows["position"] > 2)},
        "one user": {"users": np.full(size, 7)},
    }
    with pytest.raises(FitRefused) as refusal:
        fit(**(rows | changes[name]))
    assert refusal.value.reason == reason
