"""Texts: a user who asks about something else is found, everybody doing so is not, and hostile texts do no harm."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from drift_values import START, population
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from pipelines.drift import likelihoods, text_scan, texts
from pipelines.drift.detection import DetectionConfig, detect, gate
from pipelines.drift.metrics import METRICS, listed
from store.drift_events import WORDS

pytestmark = pytest.mark.usefixtures("one_thread")

METRIC = METRICS[WORDS]
CONFIG = DetectionConfig(permutations=200)
TOPICS = {
    "travel": ["flight", "hotel", "beach", "museum", "train", "ticket", "island", "ferry", "passport", "tour"],
    "food": ["soup", "bread", "cheese", "recipe", "oven", "salad", "pasta", "dinner", "rice", "lemon"],
}
COMMON = ["please", "can", "you", "find", "me", "a", "good", "one", "for", "my", "the", "and", "i", "want", "to"]


@pytest.fixture(scope="module")
def one_thread():
    """As in the processes of jobs: threads of small products wait for each other."""
    with threadpool_limits(1):
        yield


def asked(topic, random):
    """What somebody may write: words of a topic between common ones."""
    return " ".join([*random.choice(COMMON, 6), *random.choice(TOPICS[topic], 4)])


def of_topics(share):
    """Texts about food with probability `share(user, day)`, else about travel."""

    def values(user, day, random):
        food = random.random(user.size) < share(user, day)
        return [asked("food" if each else "travel", random) for each in food]

    return values


def scanned(frame, config=CONFIG):
    whole = text_scan.scan(METRIC, lambda _: frame, 1, config, np.random.default_rng(3))
    assert whole is not None
    return whole


def test_a_user_whose_topic_changes_is_found_and_stationary_users_are_not():
    users, moved = 40, 3
    frame = population(users, 90, of_topics(lambda user, day: np.where((user < moved) & (day > 25), 0.9, 0.3)))
    found = scanned(frame).found
    gated = gate(found, CONFIG)
    flagged = gated.filter("flagged")
    assert {"u0000", "u0001", "u0002"} <= set(flagged["user_id"])
    assert flagged.height <= moved + 2
    for row in flagged.filter(pl.col("user_id") <= "u0002").iter_rows(named=True):
        # Splits are on a coarse grid.
        assert abs(row["changed_at"] - START - timedelta(days=25)) < timedelta(days=8)
        assert (row["effect"], row["before_mean"], row["after_mean"], row["effect_sd"]) == (None,) * 4
        assert (row["events"], row["events_total"], row["before_n"] + row["after_n"]) == (80, 90, 80)
    still = found.filter(pl.col("user_id") > "u0002")["p_value"].to_numpy()
    for level in (0.05, 0.2):
        assert np.sum(still <= level) <= binom.ppf(0.999, still.size, level)


def test_what_everybody_asks_about_anew_is_no_users_drift():
    frame = population(40, 90, of_topics(lambda user, day: np.where(day > 25, 0.95, 0.05)))
    found = scanned(frame)
    p = found.found["p_value"].to_numpy()
    assert gate(found.found, CONFIG)["flagged"].sum() == 0
    assert np.sum(p <= 0.05) <= binom.ppf(0.999, p.size, 0.05)
    assert found.measured["explained"][0] > 0.05
    # Without what they share taken away, it would be everybody's.
    raw = detect(
        frame.select(
            pl.lit("user").alias("level"), "user_id", "segment", pl.lit(None, pl.String).alias("agent"),
            pl.lit(WORDS).alias("metric"), pl.lit("embedding").alias("likelihood"),
            pl.lit(0.0).alias("practical"), "occurred_at", pl.lit(0.0).alias("value"),
            pl.lit(None, pl.Float64).alias("residual"), pl.lit(None, pl.String).alias("block"),
            pl.Series("vector", texts.vectors(frame["category"])).arr.to_list(),
        ).filter(pl.col("user_id") < "u0008"),
        CONFIG, random=np.random.default_rng(1),
    )  # fmt: skip
    assert raw["p_value"].max() < 0.01


@pytest.mark.parametrize(
    "texts_of",
    [
        lambda number: "",
        lambda number: "the same again",
        lambda number: "\x00<script>alert(1)</script> ' OR 1=1 --" if number % 2 else "🜏‮ zalgo̷̢",
        lambda number: "!!! ..." if number % 3 else "x" * 1000,
    ],
)
def test_empty_equal_and_hostile_texts_are_scanned_without_a_finding(texts_of):
    found = scanned(population(3, 80, lambda user, day, random: [texts_of(number) for number in range(user.size)]))
    assert found.found.height == 3
    assert found.found["p_value"].is_between(0.0, 1.0).all()
    assert gate(found.found, CONFIG)["flagged"].sum() == 0


def test_too_few_sessions_are_said_and_nobody_is_no_result():
    frame = population(4, 25, of_topics(lambda user, day: 0.5))
    whole = scanned(frame)
    assert whole.found["status"].to_list() == ["not enough data"] * 4
    assert whole.found["missing"].to_list() == [15] * 4
    row = whole.measured.row(0, named=True)
    assert (row["subjects"], row["scanned"], row["too_few"], row["missing_median"]) == (4, 0, 4, 15.0)
    assert text_scan.scan(METRIC, lambda _: frame.clear(), 2, CONFIG, np.random.default_rng(1)) is None


def test_slices_scan_every_user_once_and_an_incremental_scan_repeats_the_full_one():
    frame = population(6, 50, of_topics(lambda user, day: 0.5))
    parts = [frame.filter(pl.col("user_id") < "u0003"), frame.filter(pl.col("user_id") >= "u0003"), frame.clear()]
    both = text_scan.scan(METRIC, parts.__getitem__, 3, CONFIG, np.random.default_rng(3))
    assert both is not None
    assert sorted(both.found["user_id"]) == [f"u000{number}" for number in range(6)]
    assert both.states.height == 6
    known = text_scan.learn(lambda _: frame, 1)
    assert known is not None
    own = frame.filter(user_id="u0000")
    again = [text_scan.scan_users(METRIC, own, known, CONFIG, np.random.default_rng(5)) for _ in range(2)]
    assert again[0].equals(again[1])
    assert again[0]["statistic"][0] == pytest.approx(
        scanned(frame).found.filter(user_id="u0000")["statistic"][0], rel=0.2
    )


@pytest.mark.parametrize(("sessions", "look"), [(40, 40), (79, 40), (80, 80), (700, 640), (1400, 1280), (3000, 2560)])
def test_a_look_has_what_came_since_the_look_before_and_no_more_than_the_bound(sessions, look):
    numbered = pl.DataFrame({"user_id": "ann", "at": range(1, sessions + 1)}).with_columns(
        place=pl.col("at"), n=pl.lit(sessions, pl.Int64)
    )
    kept = text_scan._looked_at(numbered, 40)
    at, place = kept["at"].to_list(), kept["place"].to_list()
    assert place == list(range(look - len(place) + 1, look + 1))
    assert at[-1] == look
    assert len(at) == min(look, text_scan.MOST_SESSIONS)
    assert at[0] <= look // 2 + max(1, look // 640)
    assert len(set(np.diff(at))) == 1


def test_a_change_long_ago_in_a_long_history_does_not_cost_more_sessions_than_the_bound():
    frame = population(2, 700, of_topics(lambda user, day: np.where((user == 0) & (day > 40), 0.9, 0.2)))
    ann = scanned(frame).found.filter(user_id="u0000").row(0, named=True)
    assert (ann["events"], ann["events_total"], ann["missing"]) == (320, 700, 0)
    assert ann["p_value"] < 1e-3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=60) | st.none(), min_size=1, max_size=8))
def test_a_texts_vector_depends_on_the_text_alone(written):
    series = pl.Series("text", written, dtype=pl.String)
    together = texts.vectors(series)
    assert together.shape == (len(written), texts.DIMENSIONS)
    assert np.isfinite(together).all()
    alone = np.concatenate([texts.vectors(series[place : place + 1]) for place in range(len(written))])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_projection_keeps_angles_and_one_script_without_spaces_has_words_too():
    same, other, third = texts.vectors(
        pl.Series(["flight hotel beach museum", "museum BEACH hotel flight", "soup bread cheese recipe"])
    )
    np.testing.assert_allclose(same, other, atol=1e-6)
    assert np.linalg.norm(same) == pytest.approx(1.0, abs=0.35)
    assert abs(same @ third) < 0.4
    tea, more_tea, train = texts.vectors(pl.Series(["我想买绿茶", "想买绿茶吗", "火车几点开"]))
    assert tea @ more_tea > 0.4 > abs(tea @ train)


def test_the_registry_lists_the_metric_with_its_likelihood_and_reason():
    assert METRIC in listed([])
    assert METRIC.likelihood == "embedding"
    assert likelihoods.choose(np.zeros(0), METRIC) == (
        "embedding", "The values are texts: their embeddings are compared."
    )  # fmt: skip
    row = scanned(population(2, 45, of_topics(lambda user, day: 0.5))).measured.row(0, named=True)
    assert (row["level"], row["metric"], row["likelihood"]) == ("user", WORDS, "embedding")
    assert (row["reason"], row["threshold"]) == ("The values are texts: their embeddings are compared.", 0.0)
