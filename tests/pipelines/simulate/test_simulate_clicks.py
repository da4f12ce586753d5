"""Clicks, choices and swaps follow their models, within binomial bounds of four standard errors."""

import json
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from pipelines.simulate import Deployment

AssertBinomial = Callable[[float, pl.Series], None]
SIGMAS = 4.0


def repeat(probability: float, count: int) -> pl.Series:
    return pl.Series([probability] * count)


@pytest.mark.parametrize("position", [1, 2, 3, 4, 5])
def test_clicks_follow_examination_times_attractiveness(
    deployment: Deployment, position: int, assert_binomial: AssertBinomial
) -> None:
    examination = deployment.truth["measurement"]["click"]["examination"]
    items = deployment.truth_items.filter(pl.col("attractiveness").is_not_null() & (pl.col("position") == position))
    clicks = deployment.clicks.filter(pl.col("position") == position)
    assert clicks.height == items.height
    assert_binomial(clicks["clicked"].sum(), examination[position - 1] * items["attractiveness"])
    # Ranked by popularity: without correction, position and attractiveness would be mistaken for one another.
    first = deployment.truth_items.filter(pl.col("base_rank") == 1)["attractiveness"].mean()
    last = deployment.truth_items.filter(pl.col("base_rank") == 5)["attractiveness"].mean()
    assert first > last + 0.03  # type: ignore[operator]


def test_swaps_identify_examination(deployment: Deployment) -> None:
    """Clicks on first-ranked items at position r against position 1, as an estimator would see them."""
    examination = deployment.truth["measurement"]["click"]["examination"]
    moved = (
        deployment.clicks.filter(pl.col("base_rank") == 1).group_by("position").agg(pl.col("clicked").mean(), pl.len())
    )
    rates = {position: (rate, count) for position, rate, count in moved.iter_rows()}
    top, top_count = rates[1]
    for position in (2, 3, 4, 5):
        rate, count = rates[position]
        sd = math.sqrt(rate * (1 - rate) / count + (rate / top) ** 2 * top * (1 - top) / top_count) / top
        assert abs(rate / top - examination[position - 1]) < SIGMAS * sd


def test_swaps_happen_with_the_logged_propensity(deployment: Deployment, assert_binomial: AssertBinomial) -> None:
    clicks = deployment.clicks
    lists = clicks.group_by("session", "ts").agg(
        swapped=(pl.col("base_rank") != pl.col("position")).any(),
        ranks=pl.col("base_rank").sort(),
    )
    assert_binomial(lists["swapped"].sum(), repeat(deployment.config.swap_rate, lists.height))
    assert (lists["ranks"].list.eval(pl.element().cast(pl.String)).list.join("") == "12345").all()
    for propensity, rows in clicks.group_by("propensity", "base_rank", "position"):
        stated, rank, _ = propensity
        assert_binomial(rows.height, repeat(stated, (clicks["base_rank"] == rank).sum()))  # type: ignore[arg-type]


def test_offers_are_chosen_by_a_logit_with_an_outside_option(
    deployment: Deployment, assert_binomial: AssertBinomial
) -> None:
    offers = deployment.truth_items.filter(pl.col("choice").is_not_null())
    for (position,), rows in offers.group_by("position"):
        clicks = deployment.signals.filter((pl.col("kind") == "click") & (pl.col("position") == position))
        assert_binomial(clicks.height, rows["choice"])
    lists = offers.group_by("trace_id").agg(pl.col("choice").sum(), pl.col("clicked").sum())
    assert lists["clicked"].max() == 1
    assert lists["choice"].max() < 1.0  # type: ignore[operator]


def test_choices_reveal_the_weights_of_a_segment(deployment: Deployment) -> None:
    """Among two offers shown together, the log odds differ by the difference in utility."""
    weights = {user["user_id"]: user["weights_revealed"] for user in deployment.truth["users"]}
    drifting = {one["user_id"] for one in deployment.truth["drift"]}
    shown = deployment.signals.filter((pl.col("kind") == "impression") & ~pl.col("user_id").is_in(list(drifting)))
    truth = deployment.truth_items.select("trace_id", "position", "choice")
    rows = shown.head(2_000).join(truth, on=["trace_id", "position"]).sort("trace_id", "position").to_dicts()
    compared = 0
    for one, other in pairwise(rows):
        if one["trace_id"] == other["trace_id"]:
            features = [list(json.loads(row["metadata"]).values()) for row in (one, other)]
            utility = np.array(features) @ np.array(weights[one["user_id"]])
            assert math.isclose(math.log(one["choice"] / other["choice"]), utility[0] - utility[1], abs_tol=1e-9)
            compared += 1
    assert compared > 1_000
