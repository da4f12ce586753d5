"""Lists from a log: which features count, what a choice is, and every reason to refuse or to leave something out."""

import numpy as np
import polars as pl
import pytest

from pipelines.preferences import features
from pipelines.preferences.choices import reconstruct
from pipelines.stats.contract import FitRefused

NOBODY = pl.DataFrame(schema={"user_id": pl.String, "segment": pl.String})


def _names(*rows):
    schema = {"agent": pl.String, "name": pl.String, "items": pl.Int64, "numeric": pl.Int64, "sampled": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _shown(lists=150, items=3, *, users=10, several=False, seed=1, **columns):
    random = np.random.default_rng(seed)
    rows = lists * items
    order = np.sort(np.arange(lists) % users)
    picked = random.integers(items + 1, size=lists)
    chosen = (np.tile(np.arange(items), lists) == np.repeat(picked, items)) | (several & (random.random(rows) < 0.3))
    values = {
        "trace_id": [f"t{number:04}" for number in np.repeat(np.arange(lists), items)],
        "user_id": [f"u{number}" for number in np.repeat(order, items)],
        "agent": ["shop"] * rows, "arm": ["a"] * rows,
        "item": [f"i{number}" for number in random.integers(6, size=rows)],
        "position": np.tile(np.arange(1, items + 1), lists), "propensity": [0.5] * rows, "chosen": chosen,
        "feature_0": random.normal(size=rows), "feature_1": random.normal(size=rows),
    }  # fmt: skip
    values |= columns
    return pl.DataFrame(values, schema_overrides={"position": pl.Int32, "propensity": pl.Float64, "arm": pl.String})


TWO = {"price": ["shop"], "health": ["shop"]}


def test_features_are_numbers_that_four_in_five_items_of_an_agent_state():
    found, dropped = features.candidates(
        _names(
            ("shop", "price", 100, 80, 100), ("travel", "price", 10, 1, 100), ("shop", "rare", 79, 79, 100),
            ("shop", "brand", 100, 0, 100), ("shop", "base_rank", 100, 100, 100), (None, "price", 5, 5, 5),
        )
    )  # fmt: skip
    assert found == {"price": ["shop", None]}
    assert {one.feature: one.reason for one in dropped} == {
        "rare": "only 79 % of shown items state it, 80 % are needed",
        "base_rank": "says how the item was shown, not what it is like",
    }


def test_constant_and_collinear_features_are_left_out_by_name():
    shown = _shown()
    first, second = shown["feature_0"], shown["feature_1"]
    shown = shown.with_columns(
        feature_2=pl.lit(3.0), feature_3=2 * first - second, feature_4=pl.Series(first.to_numpy() ** 2)
    )
    available = {name: ["shop"] for name in ("price", "health", "constant", "mixed", "squared")}
    lists = reconstruct(shown, available, NOBODY)
    assert lists.features == ["price", "health", "squared"]
    assert {one.feature: one.reason for one in lists.dropped} == {
        "constant": "the same for every item", "mixed": "collinear with price, health",
    }  # fmt: skip


def test_a_feature_that_only_tells_arms_apart_is_left_out():
    shown = _shown(arm=["a" if number < 225 else "b" for number in range(450)])
    shown = shown.with_columns(feature_2=(pl.col("arm") == "b").cast(pl.Float64))
    lists = reconstruct(shown, {**TWO, "style": ["shop"]}, NOBODY)
    assert [(one.feature, one.reason) for one in lists.dropped] == [
        ("style", "the same for all items that an arm shows")
    ]


def test_of_many_features_those_that_tell_choices_apart_best_are_kept():
    shown = _shown()
    random = np.random.default_rng(5)
    extra = {f"feature_{number}": random.normal(size=shown.height) for number in range(2, 10)}
    strong = shown["chosen"].cast(pl.Float64) + pl.Series(random.normal(size=shown.height))
    shown = shown.with_columns(**{name: pl.Series(value) for name, value in extra.items()}, feature_10=strong)
    lists = reconstruct(shown, {f"f{number}": ["shop"] for number in range(11)}, NOBODY)
    assert len(lists.features) == features.MOST_FEATURES
    assert "f10" in lists.features
    assert len(lists.dropped) == 3
    assert all("beyond the 8" in one.reason for one in lists.dropped)


def test_lists_are_choose_one_unless_several_items_are_chosen():
    one = reconstruct(_shown(), TWO, NOBODY)
    assert one.agents[0]["kind"] == "choose one"
    assert not one.choices.any_number.any()
    assert one.choices.places == 1 + 2
    any_number = reconstruct(_shown(several=True), TWO, NOBODY)
    assert any_number.agents[0]["kind"] == "pick any"
    assert any_number.choices.places == 1
    assert any_number.lists.sum() == 150
    assert any_number.picked.sum() == any_number.choices.chosen.sum()


def test_standardising_keeps_what_is_needed_to_undo_it():
    shown = _shown()
    lists = reconstruct(shown, TWO, NOBODY)
    raw = lists.choices.features[:, :2] * lists.scale + lists.centre
    assert raw == pytest.approx(shown.select("feature_0", "feature_1").to_numpy())
    assert lists.choices.features[:, :2].std(axis=0) == pytest.approx([1.0, 1.0])


def test_a_missing_value_counts_as_the_mean():
    shown = _shown().with_columns(feature_0=pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise("feature_0"))
    lists = reconstruct(shown, TWO, NOBODY)
    assert np.all(lists.choices.features[::10, 0] == 0.0)


@pytest.mark.parametrize(
    ("shown", "available", "reason"),
    [
        (_shown().head(0), TWO, "no_lists"),
        (_shown(), {}, "no_features"),
        (_shown(lists=20), TWO, "too_few_lists"),
        (_shown(chosen=[False] * 450), TWO, "nothing_chosen"),
        (_shown(chosen=[True] * 450), TWO, "everything_chosen"),
        (_shown(users=1), TWO, "one_user"),
        (_shown(feature_0=[1.0] * 450, feature_1=[2.0] * 450), TWO, "no_features"),
    ],
)
def test_a_log_that_says_nothing_is_refused_by_name(shown, available, reason):
    with pytest.raises(FitRefused) as refused:
        reconstruct(shown, available, NOBODY)
    assert refused.value.reason == reason


def test_bad_propensities_and_positions_are_named_and_counted():
    shown = _shown(
        propensity=[None, 0.0, -1.0, float("nan"), 2.0, *[0.5] * 445],
        position=[None, *np.tile([1, 2, 3], 150)[1:].tolist()],
        several=True,
    )
    notes = {note["reason"]: note["n"] for note in reconstruct(shown, TWO, NOBODY).notes}
    assert notes["missing_propensity"] == 1
    assert notes["impossible_propensity"] == 4
    assert notes["missing_position"] == 1


def test_positions_that_no_click_model_fits_are_said(monkeypatch):
    """Every item always at the same position: examination cannot be told from appeal."""
    shown = _shown(several=True, item=[f"i{number}" for number in np.tile(np.arange(3), 150)])
    lists = reconstruct(shown, TWO, NOBODY)
    assert np.all(lists.choices.examination == 1.0)
    assert [note["reason"] for note in lists.notes] == ["no_click_model:not_connected"]


def test_small_segments_share_one_prior():
    shown = _shown(lists=400, users=200)
    users = shown["user_id"].unique(maintain_order=True).to_list()
    stated = pl.DataFrame({"user_id": users, "segment": ["big"] * 150 + ["small"] * 50})
    lists = reconstruct(shown, TWO, stated)
    assert lists.segments == ["big", None]
    assert np.bincount(lists.choices.segment).tolist() == [150, 50]
