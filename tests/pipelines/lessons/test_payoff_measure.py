"""Payoff rows of an agent: what is known of the world comes out, and what cannot be told says why."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payoff_frames import START, exposures, row

from pipelines.lessons.payoff.exposed import REASONS, exposed
from pipelines.lessons.payoff.measure import PayoffConfig, measure, per_gain
from pipelines.stats.contract import ContractError
from store.errors import SettingsError
from store.payoffs import PAYOFFS

OPEN = "can't tell yet"


def test_a_helpful_lesson_is_better_and_says_what_it_costs():
    found = measure("agent", exposures(6000, effect=0.2))
    whole = row(found)
    assert found.rows.schema == PAYOFFS
    assert whole["verdict"] == "better"
    assert whole["lower"] < 0.2 < whole["upper"]
    assert whole["lower"] > 0.0
    assert whole["reason"].startswith("The whole interval is above 0.")
    assert whole["served"] + whole["withheld"] == 6000 - exposures(6000, effect=0.2).filter(status="empty").height
    assert abs(whole["posterior"]) < abs(whole["effect"])
    assert 0.03 < whole["minimum_detectable"] < 0.08
    assert whole["more_decisions"] is None
    assert whole["tokens_per_decision"] == 50.0
    assert whole["usd_per_decision"] == pytest.approx(0.002, abs=0.0002)
    priced = per_gain(found.rows).filter(pl.col("measure") == "outcome", pl.col("estimator") == "doubly robust")
    cost = priced.filter(pl.col("segment").is_null(), kind="lesson").row(0, named=True)
    assert cost["tokens_per_gain"] == pytest.approx(50.0 / whole["effect"])
    assert row(found, measure="tokens")["verdict"] == "worse"
    assert "The whole interval is above 0." in row(found, measure="tokens")["reason"]
    assert row(found, measure="reward")["effect"] == pytest.approx(whole["effect"] / 2, rel=0.02)
    assert row(found, estimator="difference")["effect"] == pytest.approx(whole["effect"], abs=0.02)
    assert found.harm.is_empty()
    assert per_gain(found.rows).filter(pl.col("verdict") != "better")["tokens_per_gain"].null_count() > 0


def test_a_harmful_lesson_is_worse_and_harm():
    found = measure("agent", exposures(6000, effect=-0.2))
    assert row(found)["verdict"] == "worse"
    assert found.harm.select("agent", "lesson_id", "version").rows() == [("agent", "l1", 1)]
    assert found.harm["upper"][0] < 0.0
    assert found.harm["upper"][0] > row(found)["upper"]  # at level .99


def test_segments_hold_together_and_versions_stand_alone():
    first, second = exposures(3000, effect=0.2), exposures(3000, effect=-0.2, seed=1)
    second = second.with_columns(version=pl.lit(2, pl.Int32), unit=pl.lit("v2") + pl.col("unit"))
    found = measure("agent", pl.concat([first, second]))
    assert row(found, version=1)["verdict"] == "better"
    assert row(found, version=2)["verdict"] == "worse"
    assert found.harm["version"].to_list() == [2]
    alone = measure("agent", first)
    assert row(alone)["effect"] == pytest.approx(row(found, version=1)["effect"], abs=0.02)
    segment = row(alone, segment="new")
    assert segment["upper"] - segment["lower"] > 1.4 * (row(alone)["upper"] - row(alone)["lower"])


def test_the_playbook_is_held_against_none():
    one = exposures(12_000, effect=0.1, empty=0.1)
    found = measure("agent", one)
    whole = row(found, kind="playbook", lesson_id=None)
    # Served to .8 of those whose playbook is not empty.
    assert whole["lower"] < 0.08 < whole["upper"]
    assert whole["withheld"] == one.filter(status="empty").height
    two = one.with_columns(lesson_id=pl.lit("l2"))
    twice = measure("agent", pl.concat([one, two]))
    again = row(twice, kind="playbook", lesson_id=None)
    assert (again["served"], again["withheld"]) == (whole["served"], whole["withheld"])
    assert again["tokens_per_decision"] == 100.0
    # A lesson that is certain to be served says nothing itself, but its playbook does; young decisions never do.
    certain = one.with_columns(
        served_probability=1.0 - pl.col("empty_probability"), young=pl.int_range(pl.len()) % 2 == 0
    )
    some = row(measure("agent", certain), kind="playbook", lesson_id=None)
    assert some["served"] + some["withheld"] == 6000


def test_decisions_of_a_session_are_one_observation():
    once = exposures(3000)
    thrice = pl.concat([once.with_columns(decision_id=pl.col("decision_id") + f"-{time}") for time in range(3)])
    found, repeated = row(measure("agent", once)), row(measure("agent", thrice))
    assert repeated["sd"] == pytest.approx(found["sd"])
    assert repeated["served"] == 3 * found["served"]


def test_a_unit_counts_as_it_was_first_assigned():
    """A policy that changes within a session draws anew: what was assigned first counts, of all its outcomes."""
    first = exposures(3000, effect=0.3)
    other = pl.when(pl.col("status") == "served").then(pl.lit("withheld")).otherwise(pl.lit("served"))
    later = first.filter(pl.int_range(pl.len()) % 2 == 0, pl.col("status") != "empty").with_columns(
        decision_id=pl.col("decision_id") + "-later", decided_at=pl.col("decided_at") + timedelta(days=9), status=other
    )  # fmt: skip
    once, both = measure("agent", first), measure("agent", pl.concat([first, later]))
    assert row(both)["effect"] == pytest.approx(row(once)["effect"], abs=1e-9)
    assert row(both)["served"] > row(once)["served"]


def test_an_unlucky_order_of_rows_changes_nothing():
    frame = exposures(2000, users=300)
    one, other = (measure("agent", each).rows for each in (frame, frame.sample(fraction=1.0, shuffle=True, seed=1)))
    order = ["kind", "lesson_id", "segment", "measure", "estimator"]
    numbers = pl.selectors.float()
    for a, b in zip(one.sort(order).select(numbers), other.sort(order).select(numbers), strict=True):
        assert np.allclose(a.to_numpy(), b.to_numpy(), equal_nan=True, rtol=1e-9, atol=1e-12)


def lost_draws(frame):
    """Half of what was withheld was served all the same."""
    odd = pl.int_range(pl.len()) % 2 == 1
    return frame.with_columns(
        status=pl.when(pl.col("status") == "withheld", odd).then(pl.lit("served")).otherwise("status")
    )


def silent(frame):
    """Of what was withheld a tenth more stays without an outcome."""
    quiet = pl.col("decision_id").str.ends_with("7") & (pl.col("status") == "withheld")
    return frame.with_columns(outcome=pl.when(~quiet).then("outcome"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: f.filter(pl.col("status") != "withheld"), "It was never withheld in"),
        (lambda f: f.filter(pl.col("status") != "served"), "It was never served in"),
        (lost_draws, "by the logged probabilities in 80.0 %"),
        (lambda f: f.with_columns(served_probability=pl.col("empty_probability") * 0 + 0.98),
         "could only be served or only be withheld"),
        (lambda f: f.with_columns(served_probability=pl.lit(0.0)), "could only be served or only be withheld"),
        (lambda f: f.with_columns(served_probability=pl.lit(1.7)), "missing or impossible"),
        (lambda f: f.with_columns(served_probability=pl.lit(None, pl.Float64)), "missing or impossible"),
        (lambda f: f.with_columns(served_probability=pl.lit(float("nan"))), "missing or impossible"),
        (lambda f: f.with_columns(empty_probability=pl.lit(1.0)), "missing or impossible"),
        (lambda f: f.with_columns(user_id=pl.lit("only")), "units are of one person; nothing is said below 30"),
        (lambda f: f.with_columns(outcome=pl.lit(1.0)), "Every outcome is the same"),
        (lambda f: f.with_columns(outcome=pl.lit(None, pl.Float64)), "have a trace but no outcome"),
        (lambda f: f.with_columns(outcome=pl.lit(float("nan"))), "have a trace but no outcome"),
        (lambda f: f.with_columns(outcome=pl.lit(None, pl.Float64), traces=pl.lit(0)), "were followed by no trace"),
        (lambda f: f.with_columns(young=pl.lit(True)), "too young: their outcome may still come"),
        (lambda f: f.head(500), "Collecting: the smaller side is worth"),
        (silent, "Outcomes are missing less often when it is served"),
        (lambda f: f.with_columns(status=pl.lit("empty")), "were served no lesson at all"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_says_why(change, why):
    """No number without a verdict's ground: effect and limits are null, and the reason names the cause."""
    found = measure("agent", change(exposures(4000, effect=0.3)))
    whole = row(found)
    assert why in whole["reason"]
    assert whole["verdict"] == OPEN
    assert [whole[name] for name in ("effect", "lower", "upper", "sd")] == [None] * 4
    assert found.harm.is_empty()


def test_a_changed_holdout_leaves_the_plain_difference_out():
    found = measure("agent", exposures(6000, effect=0.2, holdout=np.where(np.arange(6000) < 3000, 0.5, 0.1)))
    plain, robust = row(found, estimator="difference"), row(found)
    assert "different probabilities" in plain["reason"]
    assert (plain["effect"], plain["verdict"]) == (None, OPEN)
    assert robust["verdict"] == "better"
    assert robust["lower"] < 0.2 < robust["upper"]


def test_rare_outcomes_wait():
    frame = exposures(2000, holdout=0.1)
    rare = frame.with_columns(outcome=(pl.int_range(pl.len()) % 500 == 0).cast(pl.Float64))
    whole = row(measure("agent", rare))
    assert whole["effect"] is None
    assert whole["verdict"] == OPEN


def test_every_decision_is_counted_once_or_named():
    frame = exposures(3000).with_columns(
        young=pl.int_range(pl.len()) % 7 == 0,
        outcome=pl.when(pl.int_range(pl.len()) % 5 > 0).then("outcome"),
        traces=(pl.int_range(pl.len()) % 10 > 0).cast(pl.Int64),
        status=pl.when(pl.int_range(pl.len()) % 11 == 0).then(pl.lit("over_budget")).otherwise("status"),
    )
    seen = exposed(frame)
    assert seen.lessons["decisions_outcome"].sum() + seen.dropped["decisions"].sum() == 3000
    assert set(seen.dropped["reason"]) == set(REASONS) - {"bad_propensity", "certain"}
    reason = row(measure("agent", frame))["reason"]
    for key in ("too_young", "no_trace", "no_outcome", "over_budget"):
        assert REASONS[key] in reason


def test_second_tries_without_lessons_are_the_control():
    """Half of first tries fail; a second without lessons always works: retrying alone fixes, and breaks nothing."""
    first = exposures(400, empty=0.5, seed=5).with_columns(task=pl.lit("t"))
    second = first.with_columns(
        unit=pl.lit("again") + pl.col("unit"), decision_id=pl.lit("again") + pl.col("decision_id"),
        decided_at=pl.col("decided_at") + timedelta(days=1), outcome=pl.lit(1.0),
    )  # fmt: skip
    retry = row(measure("agent", pl.concat([first, second])), kind="retry", lesson_id=None, estimator="paired")
    bare = first.filter(pl.col("status") != "served")
    assert retry["served"] == bare.height
    assert (retry["fixed"], retry["broke"]) == (int((bare["outcome"] < 0.5).sum()), 0)
    assert retry["verdict"] == "better"


def test_pairs_of_a_task_are_nearest_in_time_and_used_once():
    at = [START + timedelta(hours=hour) for hour in (0, 1, 2, 9, 10)]
    frame = exposures(5).with_columns(
        decided_at=pl.Series(at, dtype=pl.Datetime("us", "UTC")), task=pl.lit("t"), lesson_id=pl.lit("l1"),
        status=pl.Series(["served", "withheld", "withheld", "withheld", "served"]),
        outcome=pl.Series([1.0, 0.0, 1.0, 1.0, 0.0]),
    )  # fmt: skip
    pair = row(measure("agent", frame), estimator="paired")
    assert (pair["units"], pair["fixed"], pair["broke"]) == (2, 1, 1)


STATUSES = ["served", "withheld", "empty", "over_budget", "?"]
CHANCES = [None, 0.0, 0.2, 0.784, 0.98, 1.0, float("nan"), -1.0]
OUTCOMES = [None, 0.0, 0.5, 1.0, 1.3, float("nan")]


@settings(max_examples=20)
@given(st.data())
def test_whatever_comes_every_row_has_numbers_with_limits_or_a_reason(data):
    count = data.draw(st.integers(1, 150))
    frame = exposures(count, users=data.draw(st.sampled_from([1, 40, 1000])), empty=0.1)
    for column, values in (
        ("status", STATUSES), ("served_probability", CHANCES), ("empty_probability", CHANCES), ("outcome", OUTCOMES),
        ("segment", [None, "a"]), ("task", [None, "t"]), ("user_id", [None, "u"]), ("cost_usd", OUTCOMES),
        ("traces", [0, 1]), ("young", [False, True]), ("version", [1, 2]),
    ):  # fmt: skip
        if data.draw(st.booleans()):
            random = np.random.default_rng(data.draw(st.integers(0, 1000)))
            drawn = pl.Series(values, dtype=frame.schema[column]).gather(random.integers(0, len(values), count))
            keep = pl.Series(random.random(count) < data.draw(st.sampled_from([0.1, 0.5, 1.0])))
            frame = frame.with_columns(pl.when(keep).then(drawn).otherwise(pl.col(column)).alias(column))
    found = measure("agent", frame, PayoffConfig(gate=2.0))
    assert found.rows.schema == PAYOFFS
    floats = found.rows.select(pl.selectors.float())
    assert not floats.select(pl.any_horizontal(pl.all().is_nan() | pl.all().is_infinite()).any()).item()
    assert found.rows["reason"].null_count() == 0
    assert set(found.rows["verdict"]) <= {"better", "no worse", "worse", OPEN}
    limited = found.rows["effect"].is_not_null()
    assert limited.equals(found.rows["lower"].is_not_null().alias("effect"))
    assert limited.equals(found.rows["upper"].is_not_null().alias("effect"))
    assert found.rows.filter(~limited)["verdict"].is_in([OPEN]).all()
    versions = frame.select("lesson_id", "version").unique()
    told = found.rows.filter(pl.col("kind") == "lesson", pl.col("segment").is_null(), measure="outcome")
    assert told.select("lesson_id", "version").unique().height == versions.height


def test_nothing_is_measured_of_nothing():
    found = measure("agent", exposures(0))
    assert found.rows.is_empty()
    assert found.rows.schema == PAYOFFS
    with pytest.raises(ContractError, match="may not be null"):
        measure("agent", exposures(10).with_columns(unit=pl.lit(None, pl.String)))
    with pytest.raises(SettingsError):
        PayoffConfig(alpha=2.0)
