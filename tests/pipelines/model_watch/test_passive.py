"""Silent changes planted in made-up answers are found, and changes of traffic or of everybody are not."""

import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from pipelines.model_watch import series
from pipelines.model_watch.fingerprints import newest_arrival
from pipelines.model_watch.looks import looked_at, penalty
from pipelines.model_watch.measures import FINGERPRINT, MEASURES, TOGETHER
from pipelines.model_watch.passive import PassiveConfig, watch
from pipelines.model_watch.scan import CALIBRATION, SCHEDULE, scan
from pipelines.model_watch.series import Sequence, SeriesConfig
from pipelines.stats.sequential_calibration import calibrate
from store.interventions import INTERVENTIONS
from tests.pipelines.model_watch.answer_world import FIRST, OPENINGS, always, answers, changed, evenly, traces

SINCE = 24


def found(rows: list[dict[str, Any]], **anchors: datetime) -> pl.DataFrame:
    return watch(answers(rows), anchors, PassiveConfig()).found


def flagged(frame: pl.DataFrame) -> set[tuple[str, str]]:
    return set(frame.filter("flagged").select("model", "metric").iter_rows())


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("refusal share", {"refusals": 0.25}),
        ("sentence length", {"words": 12}),
        ("tokens per character", {"tokens": 0.32}),
        ("latency", {"seconds": 4.0}),
        ("usual openings", {"openings": (*OPENINGS[1:], "Certainly! Let me look", "Happy to assist you")}),
        (FINGERPRINT, {"fingerprint": "fp_two"}),
    ],
)
def test_a_planted_change_is_found_where_it_is_and_nowhere_else(metric: str, change: dict[str, Any]) -> None:
    frame = found(traces(np.random.default_rng(1), styles=changed("new", SINCE, **change)))
    assert ("new", metric) in flagged(frame)
    # The other model did not change, though its difference from the one that did has.
    assert {model for model, _ in flagged(frame)} == {"new"}
    row = frame.row(by_predicate=(pl.col("model") == "new") & (pl.col("metric") == metric), named=True)
    assert abs(row["changed_at"] - (FIRST + timedelta(days=SINCE))) <= timedelta(days=2)
    assert row["before_n"] + row["after_n"] == row["n"] == 36 * 16
    assert row["p_value"] < 0.01
    assert row["effect_lower"] <= row["effect"] <= row["effect_upper"]


def test_another_mixture_of_traffic_is_no_change_of_the_model() -> None:
    def shifted(model: str, day: int) -> list[str]:
        return ["seats"] * (3 if day >= SINCE else 13) + ["refunds"] * (13 if day >= SINCE else 3)

    def shifted_for_one(model: str, day: int) -> list[str]:
        return shifted(model, day) if model == "new" else evenly(model, day)

    for traffic in (shifted, shifted_for_one):
        made = traces(np.random.default_rng(2), traffic=traffic)
        assert flagged(found(made)) == set()
        # As seen, the figures do move: refusals and seconds of the harder task count more.
        frame = answers(made).filter(pl.col("model") == "new")
        late = pl.col("answered_at") >= FIRST + timedelta(days=SINCE)
        assert frame.filter(late)["seconds"].mean() > 1.3 * frame.filter(~late)["seconds"].mean()  # type: ignore[operator]


def test_what_hits_every_model_is_no_change_of_one() -> None:
    made = traces(np.random.default_rng(3), styles=changed("*", SINCE, seconds=4.0))
    assert flagged(found(made)) == set()
    alone = traces(np.random.default_rng(3), models=("only",), styles=changed("only", SINCE, seconds=4.0))
    frame = found(alone)
    assert ("only", "latency") in flagged(frame)
    assert '"compared_with": []' in frame.filter(pl.col("metric") == "latency")["detail"].item()


def test_models_that_never_change_are_left_in_peace() -> None:
    alarms = [flagged(found(traces(np.random.default_rng(100 + seed), styles=always, days=30))) for seed in range(4)]
    assert alarms == [set()] * 4


def test_too_little_says_how_much_is_missing() -> None:
    frame = found(traces(np.random.default_rng(4), days=9))
    assert set(frame.filter(pl.col("metric").is_in(["latency", "surprise"]))["status"]) == {"not enough data"}
    assert '"missing_periods": 5' in frame.filter(pl.col("metric") == "latency")["detail"][0]
    assert flagged(frame) == set()
    assert watch(answers(traces(np.random.default_rng(4), days=1)).clear(), {}, PassiveConfig()).found.is_empty()


def test_an_anchor_makes_a_change_a_known_one() -> None:
    made = traces(np.random.default_rng(5), days=40, styles=changed("new", SINCE, words=12))
    assert ("new", "sentence length") in flagged(found(made))
    assert flagged(found(made, new=FIRST + timedelta(days=SINCE))) == set()


def test_what_follows_an_approved_lesson_is_explained_and_a_new_fingerprint_is_not() -> None:
    made = traces(np.random.default_rng(5), styles=changed("new", SINCE, words=12, fingerprint="fp_two"))
    lesson = {
        "intervention_id": "lesson:1", "kind": "lesson", "agent": "desk", "segment": None, "origin": "derived",
        "happened_at": FIRST + timedelta(days=SINCE, hours=9), "title": "Answer at length",
    }  # fmt: skip

    def with_known(**other: Any) -> pl.DataFrame:
        known = pl.DataFrame([lesson | other], schema=INTERVENTIONS)
        return watch(answers(made), {}, PassiveConfig(), known).found

    explained = with_known()
    assert flagged(explained) == {("new", FINGERPRINT)} | {("new", TOGETHER)} & flagged(explained)
    row = explained.row(by_predicate=(pl.col("model") == "new") & (pl.col("metric") == "sentence length"), named=True)
    assert row["status"] == "explained"
    assert '"explained_by": ["lesson:1"]' in row["detail"]
    assert ("new", "sentence length") in flagged(with_known(happened_at=FIRST + timedelta(days=SINCE - 8)))
    assert ("new", "sentence length") in flagged(with_known(agent="another"))
    assert ("new", "sentence length") in flagged(with_known(kind="source"))
    assert ("new", FINGERPRINT) not in flagged(with_known(kind="model", origin="noted", agent=None))


def test_daily_figures_count_every_answer_once() -> None:
    seen = watch(answers(traces(np.random.default_rng(6), days=5)), {}, PassiveConfig()).figures
    whole = seen.filter((pl.col("metric") == "latency") & pl.col("agent").is_null())
    by_agent = seen.filter((pl.col("metric") == "latency") & pl.col("agent").is_not_null())
    assert whole["n"].to_list() == by_agent["n"].to_list() == [16] * 10
    assert whole["mean"].to_list() == by_agent["mean"].to_list()


def test_all_measures_together_see_what_no_single_one_can_be_sure_of() -> None:
    e = watch(answers(traces(np.random.default_rng(7), days=60, styles=changed("new", 35, words=10, seconds=3.0))), {},
              PassiveConfig()).found.filter(pl.col("metric") == TOGETHER)  # fmt: skip
    changed_one = e.filter(pl.col("model") == "new").row(0, named=True)
    assert changed_one["flagged"]
    assert changed_one["e_value"] > 40
    assert not e.filter(pl.col("model") == "old")["flagged"].item()


def test_the_place_of_a_new_fingerprint_has_the_probability_of_the_hypergeometric_law() -> None:
    made = answers(traces(np.random.default_rng(8), models=("m",), days=6, styles=changed("m", 5, fingerprint="b")))
    arrival = newest_arrival(made)
    assert arrival is not None
    # 80 sessions without, then 16 with: all 16 among the last 16 of 96; two fingerprints, 120 looks.
    assert arrival.p_value == pytest.approx(float(hypergeom.pmf(16, 96, 16, 16)) * 2 * 120, rel=1e-6)
    assert (arrival.before_n, arrival.after_n, arrival.share.estimate, arrival.earlier) == (80, 16, 1.0, "fp_one")
    assert newest_arrival(made.filter(pl.col("fingerprint") == "b")) is None
    assert newest_arrival(made.with_columns(fingerprint=pl.lit(None, pl.String))) is None
    # Two fingerprints that take turns from the start are nothing new.
    turns = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("a")).otherwise(pl.lit("b"))
    assert newest_arrival(made.with_columns(fingerprint=turns)) is None


def test_the_calibration_is_that_of_the_schedule() -> None:
    again = calibrate(SCHEDULE, random=np.random.default_rng(9), streams=400)
    held = CALIBRATION[SCHEDULE]
    assert again.c[0] == pytest.approx(held.c[0], abs=0.7)
    assert again.b == pytest.approx(held.b, abs=0.3)


def noise(random: np.random.Generator, periods: int, skewed: bool) -> Sequence:
    """Days of a model and its comparison, of a rare yes or no where `skewed`."""
    drawn = [random.binomial(20, 0.05, periods) / 20.0 if skewed else random.normal(size=periods) for _ in range(2)]
    flat = np.full(periods, 0.0475 / 20 if skewed else 1.0)
    count = np.full(periods, 20)
    days = [FIRST.date() + timedelta(days=day) for day in range(periods)]
    own = drawn[0] - 0.05 * skewed
    return Sequence(list(days), own, flat, own - drawn[1] + 0.05 * skewed, 2 * flat, count, drawn[0] * 20, ("x",), 0)


@pytest.mark.parametrize("skewed", [False, True])
def test_daily_looks_at_nothing_raise_no_more_than_they_may(skewed: bool) -> None:
    random = np.random.default_rng(10)
    runs, least = 40, []
    for _ in range(runs):
        whole = noise(random, 60, skewed)
        looks = [
            scan(
                Sequence(
                    whole.first_day[:day], whole.own[:day], whole.own_variance[:day],
                    None if whole.compared is None else whole.compared[:day],
                    None if whole.compared_variance is None else whole.compared_variance[:day],
                    whole.answers[:day], whole.total[:day], whole.others, 0,
                ),
                day,
            )
            for day in range(14, 61, 3)
        ]  # fmt: skip
        least.append(min(look.p_value for look in looks if look is not None))
    for level in (0.02, 0.2):
        assert sum(p <= level for p in least) <= binom.ppf(0.999, runs, level)


def test_the_spending_of_comparisons_adds_up_to_less_than_one() -> None:
    spent = sum(1.0 / penalty(look) for look in range(1, 20_000))
    rest = math.log(10.5) / math.log(20_009)  # the integral beyond
    assert spent < 1.0
    assert spent + rest == pytest.approx(1.0, abs=0.01)
    assert looked_at(0.5, 1) == 1.0
    with pytest.raises(ValueError, match="count from 1"):
        penalty(0)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 40))
def test_periods_lose_no_answer_and_are_large_enough(counts: list[int], least: int) -> None:
    periods = series._periods(counts, least)
    assert len(periods) == len(counts)
    sizes: dict[int, int] = {}
    for period, count in zip(periods, counts, strict=True):
        sizes[period] = sizes.get(period, 0) + count
    waiting = sizes.pop(-1, 0)
    assert waiting < least
    assert all(size >= least for size in sizes.values())
    assert list(sizes) == list(range(len(sizes)))


def test_residuals_of_each_kind_of_answer_add_up_to_nothing() -> None:
    made = answers(traces(np.random.default_rng(12), days=8))
    frame = series.residuals(made, MEASURES["latency"], SeriesConfig())
    assert frame.height == made.height
    assert frame["residual"].sum() == pytest.approx(0.0, abs=1e-9)
    rare = made.with_columns(task=pl.col("trace_id"), agent_version=pl.col("trace_id"))
    assert series.residuals(rare, MEASURES["latency"], SeriesConfig())["residual"].null_count() == made.height
