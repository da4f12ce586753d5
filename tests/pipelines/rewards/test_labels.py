"""Which labels rewards are judged by, how good judges are against them, and means by arm and segment."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards import fallback
from pipelines.rewards.labels import choose_labels, judge_qualities
from pipelines.rewards.segment_means import SEGMENT_MEANS, segment_means

SCHEMA = {"trace_id": pl.String, "kind": pl.String, "name": pl.String, "value": pl.Float64, "annotator_kind": pl.String,
          "solicited": pl.Boolean, "propensity": pl.Float64}  # fmt: skip


def _signals(*parts):
    """Parts of (count, kind, values, annotator kind, solicited)."""
    rows = [
        (f"t{i}", kind, "n", value if np.isscalar(value) else value[i], who, asked, 0.02)
        for count, kind, value, who, asked in parts
        for i in range(count)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("parts", "basis", "count"),
    [
        ([(60, "thumb", 1.0, "user", True), (400, "outcome", 0.0, "code", None)], "solicited", 60),
        ([(40, "thumb", 1.0, "user", True), (400, "outcome", 0.0, "code", None)], "verified", 400),
        ([(40, "thumb", 1.0, "user", True), (90, "thumb", 0.0, "user", False)], "volunteered", 90),
        ([(9, "thumb", 1.0, "user", True), (8, "outcome", 0.0, "code", None)], "solicited", 9),
        ([(60, "thumb", 7.0, "user", True), (60, "rating", 0.5, "llm", True)], "solicited", 0),
    ],
)
def test_the_best_basis_with_enough_labels_is_chosen(parts, basis, count):
    found = choose_labels(_signals(*parts))
    assert (found.basis, found.frame.height) == (basis, count)


def test_a_trace_has_one_label_and_the_weight_of_its_propensity():
    signals = _signals((60, "thumb", 1.0, "user", True), (60, "thumb", 0.0, "user", True))
    found = choose_labels(signals).frame
    assert found.height == 60
    assert found["label"].unique().to_list() == [0.5]
    assert found["asking"].unique().to_list() == pytest.approx([50.0])
    unsure = choose_labels(signals.with_columns(propensity=pl.lit(-1.0))).frame
    assert unsure["asking"].unique().to_list() == [1.0]


def test_judges_are_measured_against_what_people_answered():
    random = np.random.default_rng(1)
    truth = (random.random(4_000) < 0.7).astype(float)
    said = np.where(truth == 1, random.random(4_000) < 0.86, random.random(4_000) > 0.7).astype(float)
    signals = _signals((4_000, "thumb", truth, "user", True), (4_000, "judge", said, "llm", None))
    quality = judge_qualities(signals)["n"]
    assert quality.sensitivity == pytest.approx(0.86, abs=0.02)
    assert quality.specificity == pytest.approx(0.70, abs=0.04)
    assert quality.labels == 4_000
    few = pl.concat([signals.head(60), signals.tail(4_000)]).with_columns(
        value=pl.when(pl.col("kind") == "thumb").then(1.0).otherwise("value")
    )
    assert judge_qualities(few) == {}


def test_means_by_segment_are_the_means_and_their_sds_know_people():
    random = np.random.default_rng(2)
    person = np.repeat(random.normal(0.6, 0.1, 200), 20)
    frame = pl.DataFrame(
        {"agent": "shop", "arm": "a", "segment": "busy", "user_id": np.repeat([f"u{i}" for i in range(200)], 20),
         "mean": person, "sd": 0.01, "signals": [1, 0] * 2_000}
    )  # fmt: skip
    (row,) = segment_means(frame).to_dicts()
    assert row["mean"] == pytest.approx(person.mean())
    assert row["sd"] == pytest.approx(0.1 / np.sqrt(200), rel=0.15)
    assert (row["n"], row["traces"], row["users"]) == (2_000, 4_000, 200)
    one = segment_means(frame.with_columns(user_id=pl.lit("ada")))
    assert one["sd"].to_list() == [None]
    assert segment_means(frame.with_columns(arm=pl.lit(None, pl.String))).equals(pl.DataFrame(schema=SEGMENT_MEANS))


def test_the_fallback_is_judged_on_people_and_tasks_it_has_not_seen():
    random = np.random.default_rng(3)
    n = 1_500
    task = random.integers(30, size=n)
    chance = np.linspace(0.2, 0.9, 30)[task]
    traces = pl.DataFrame(
        {"trace_id": [f"t{i}" for i in range(n)], "agent": "shop", "task": [f"task {i}" for i in task],
         "user_id": [f"u{i}" for i in random.integers(100, size=n)]}
    )  # fmt: skip
    signals = _signals((n, "thumb", (random.random(n) < chance).astype(float), "user", True)).drop("name", "propensity")
    held = fallback.held_out(traces, signals, random)
    brier = dict(held.metrics.filter(metric="brier").select("held_out", "value").iter_rows())
    # A new person leaves the task known; a new task leaves the mean over tasks.
    assert brier["users"] < brier["tasks"] - 0.02
    assert brier["tasks"] == pytest.approx(brier["users and tasks"], abs=0.01)
    assert held.metrics["n"].unique().to_list() == [n]
    none = fallback.held_out(traces, signals.head(0), random)
    assert none.metrics.is_empty()
    assert none.bins.is_empty()
