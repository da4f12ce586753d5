"""Detection from events to findings: what is found, where, how large; what is left out; how much of it is false."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import false_discovery_control

from pipelines.drift.detection import FINDINGS, SEQUENCES, DetectionConfig, detect, gate
from pipelines.stats.contract import ContractError
from pipelines.stats.likelihood_ratio import Bernoulli, NormalScores
from pipelines.stats.likelihood_ratio import scan as scan_sequences
from pipelines.stats.sequential_calibration import NotCalibrated, Schedule, Tail, missing, p_value
from store.errors import SettingsError

START = datetime(2026, 1, 1, tzinfo=UTC)
RATE, NUMBER = Schedule("bernoulli", 20, 1000, 10), Schedule("gaussian", 20, 1000, 20)


def events(values: Any, user: str | None = "ann", *, hours: float = 1.0, **columns: Any) -> pl.DataFrame:
    """One sequence, an event each hour; other columns of SEQUENCES (and category, vector) by name."""
    given = {
        "level": "user", "user_id": user, "segment": "s", "agent": None, "metric": "thumbs", "likelihood": "bernoulli",
        "practical": 0.1, "residual": None, "block": None, "value": values,
        "occurred_at": [START + timedelta(hours=hours * i) for i in range(len(values))], **columns,
    }  # fmt: skip
    frame = pl.DataFrame(given, strict=False)
    return frame.cast({name: dtype for name, dtype in SEQUENCES.items() if name in frame.columns})  # type: ignore[arg-type]


def found(frame: pl.DataFrame, config: DetectionConfig | None = None) -> pl.DataFrame:
    return gate(detect(frame, config, random=np.random.default_rng(1)), config)


def test_a_change_is_found_and_described() -> None:
    findings = found(pl.concat([events([1] * 40 + [0] * 20), events([1, 0] * 30, "bob")]))
    assert findings.schema == FINDINGS
    ann, bob = findings.iter_rows(named=True)
    assert (ann["user_id"], ann["status"], ann["flagged"], ann["segment"]) == ("ann", "drift", True, "s")
    assert ann["statistic"] == pytest.approx(-40 * np.log(40 / 60) - 20 * np.log(20 / 60))
    share = np.array([40 / 60])
    assert ann["p_value"] == pytest.approx(p_value(np.array([ann["statistic"]]), 60, RATE, share=share)[0])
    assert ann["changed_at"] == START + timedelta(hours=40)
    assert START + timedelta(hours=38) <= ann["changed_from"] <= ann["changed_at"] <= ann["changed_to"]
    assert (ann["before_n"], ann["before_mean"], ann["after_n"], ann["after_mean"]) == (40, 1.0, 20, 0.0)
    assert -1.0 < ann["effect"] < -0.8
    assert 0.0 < ann["effect_sd"] < 0.2
    assert ann["practical"] > 0.99
    assert (bob["status"], bob["flagged"]) == ("no drift seen", False)
    assert abs(bob["effect"]) < 0.02
    assert bob["practical"] < 0.1


def test_looks_are_those_of_the_schedule_however_often_the_job_runs() -> None:
    values = ([1] * 40 + [0] * 39)[:79]
    rows = [found(events(values[:n])).row(0, named=True) for n in (60, 61, 79)]
    assert [row["events"] for row in rows] == [60, 60, 60]
    assert [row["events_total"] for row in rows] == [60, 61, 79]
    assert rows[0]["statistic"] == rows[2]["statistic"]


@pytest.mark.parametrize(
    ("likelihood", "least"), [("bernoulli", 20), ("gaussian", 40), ("log", 40), ("categorical", 40)]
)
def test_users_below_the_minimum_are_listed_with_what_is_missing(likelihood: str, least: int) -> None:
    values = [float(i % 2) + (likelihood == "log") for i in range(least)]
    findings = found(
        pl.concat([events(values[:-1], "few", likelihood=likelihood), events(values, "enough", likelihood=likelihood)])
    )
    few = findings.filter(user_id="few").row(0, named=True)
    assert (few["status"], few["missing"], few["flagged"], few["p_value"]) == ("not enough data", 1, False, None)
    assert few["changed_at"] is few["changed_from"] is few["effect"] is few["before_n"] is None
    assert findings.filter(user_id="enough")["status"][0] == "no drift seen"
    assert findings["user_id"].to_list() == ["enough", "few"]


def test_one_event_a_year_is_not_enough_and_no_events_are_nothing() -> None:
    yearly = found(events([1, 0, 1], hours=8760)).row(0, named=True)
    assert (yearly["status"], yearly["missing"], yearly["events_total"]) == ("not enough data", 17, 3)
    assert found(pl.DataFrame(schema=SEQUENCES)).schema == FINDINGS


def test_gaps_in_time_change_nothing_but_times() -> None:
    whole = events([1] * 40 + [0] * 20)
    gap = whole.with_columns(
        occurred_at=pl.col("occurred_at")
        + pl.when(pl.int_range(60) >= 50).then(timedelta(days=365)).otherwise(timedelta())
    )
    for column in ("statistic", "p_value", "changed_at", "effect"):
        assert found(gap)[column].equals(found(whole)[column])


def test_order_of_users_does_not_matter_and_events_go_by_time() -> None:
    frame = pl.concat([events([1] * 30 + [0] * 30), events([0, 1, 1] * 20, "bob"), events([1] * 25, metric="reward")])
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    assert_frame_equal(found(shuffled), found(frame))  # but for rounding


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_values_that_are_none_are_left_out_and_counted(bad: float | None) -> None:
    values = [1.0] * 40 + [0.0] * 20
    clean = found(events(values)).row(0, named=True)
    dirty = found(events([*values[:10], bad, *values[10:], bad])).row(0, named=True)
    assert (dirty["ignored"], clean["ignored"]) == (2, 0)
    assert (dirty["statistic"], dirty["events"]) == (clean["statistic"], clean["events"])
    only = found(events([bad] * 50)).row(0, named=True)
    assert (only["status"], only["ignored"], only["events_total"]) == ("not enough data", 50, 0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.floats(), st.none(), st.sampled_from([0.0, 1.0, -1.0, 1e99, 1e-300])), max_size=50),
    st.sampled_from(["gaussian", "log", "categorical"]),
    st.sampled_from(["user", "segment", "population"]),
)
def test_any_numbers_give_numbers(values: list[float | None], likelihood: str, level: str) -> None:
    values = values * 3
    findings = found(events(pl.Series(values, dtype=pl.Float64), likelihood=likelihood, level=level))
    if not values:
        assert findings.is_empty()
        return
    row = findings.row(0, named=True)
    assert row["events"] <= row["events_total"] <= len(values) - row["ignored"]
    if row["p_value"] is None:
        assert row["missing"] > 0
    else:
        assert 0.0 <= row["p_value"] <= row["q_value"] <= 1.0
        assert 0.0 <= row["practical"] <= 1.0
        assert row["effect_sd"] >= 0.0
        assert np.isfinite(row["effect"])
        assert row["before_n"] + row["after_n"] == row["events"]
        assert row["changed_from"] <= row["changed_at"] <= row["changed_to"]


def test_equal_values_are_no_drift() -> None:
    for likelihood in ("bernoulli", "gaussian", "log", "categorical"):
        row = found(events([1.0] * 100, likelihood=likelihood)).row(0, named=True)
        assert (row["status"], row["p_value"], row["statistic"]) == ("no drift seen", 1.0, 0.0)


def test_costs_are_compared_as_ratios_and_scanned_by_rank() -> None:
    random = np.random.default_rng(3)
    costs = random.lognormal(0, 0.5, 200) * np.repeat([1.0, 2.0], 100)
    raw = found(events([*costs, 0.0, -1.0], likelihood="log", practical=np.log(1.2))).row(0, named=True)
    assert raw["ignored"] == 2  # no logarithm
    assert raw["flagged"]
    assert raw["effect"] == pytest.approx(np.log(2.0), abs=0.2)
    assert raw["after_mean"] / raw["before_mean"] == pytest.approx(2.0, abs=0.5)
    expected = scan_sequences(np.log(costs), np.array([200]), NormalScores())
    assert raw["statistic"] == pytest.approx(expected.statistic[0])


def test_residuals_are_scanned_and_values_shown() -> None:
    """A change of everybody, taken out of the residual, is nobody's drift."""
    random = np.random.default_rng(4)
    noise = random.normal(0, 1, 200)
    values = noise + np.repeat([0.0, 3.0], 100)
    common = found(events(values, likelihood="gaussian", residual=noise)).row(0, named=True)
    own = found(events(noise, likelihood="gaussian", residual=values)).row(0, named=True)
    assert (common["flagged"], own["flagged"]) == (False, True)
    assert own["effect"] == pytest.approx(3.0, abs=0.6)
    assert abs(own["after_mean"] - own["before_mean"]) < 1.0


def test_sessions_are_averaged_so_that_alike_events_are_not_taken_for_many() -> None:
    """Ten events of a session are all the same: as single events they are drift in most users."""
    random = np.random.default_rng(5)
    frames = []
    for user in range(60):
        session = (random.random(60) < 0.5).astype(float)
        names = [f"{user} {i // 10}" for i in range(600)]
        frames.append(events(np.repeat(session, 10), f"u{user:02d}", block=names))
    frame = pl.concat(frames)
    findings = found(frame)
    assert findings["events_total"].unique().to_list() == [60]
    assert findings.filter(pl.col("p_value") <= 0.05).height <= 8  # binomial(60, .05): p = .004
    alone = detect(frame.with_columns(block=pl.lit(None, pl.String)), random=random)
    assert alone.filter(pl.col("p_value") <= 0.05).height >= 30
    shares = found(events([1.0, 0.0] * 60, block=[str(i // 3) for i in range(120)]))
    assert shares["likelihood"].to_list() == ["gaussian"]


def test_days_of_a_segment_count_once_and_are_looked_at_daily() -> None:
    random = np.random.default_rng(6)
    values = random.normal(0, 1, 40) + np.repeat([0.0, 4.0], [21, 19])
    day = {"level": "segment", "likelihood": "gaussian", "metric": "reward", "hours": 24.0, "user": None}
    once = found(events(values, **day)).row(0, named=True)
    twice = found(pl.concat([events(values, **day)] * 2)).row(0, named=True)
    assert {**once} == {**twice}
    assert (once["events"], once["flagged"], once["segment"], once["user_id"]) == (40, True, "s", None)
    assert once["changed_at"] == START + timedelta(days=21)
    schedule = Schedule("gaussian", 1, 400, 7)
    assert once["p_value"] == pytest.approx(p_value(np.array([once["statistic"]]), 40, schedule)[0])
    assert found(events(values[:13], **day))["missing"].to_list() == [1]


def test_categories_say_which_share_changed() -> None:
    random = np.random.default_rng(7)
    tools = np.concatenate(
        [random.choice(["find", "buy", "ask"], 100), random.choice(["find", "buy", "ask"], 100, p=[0.1, 0.1, 0.8])]
    )
    row = found(events([None] * 200, likelihood="categorical", category=tools)).row(0, named=True)
    assert (row["flagged"], row["category"], row["ignored"]) == (True, "ask", 0)
    k = row["before_n"]
    assert row["before_mean"] == pytest.approx(np.mean(tools[:k] == "ask"))
    assert row["after_mean"] == pytest.approx(np.mean(tools[k:] == "ask"))
    assert row["psi"] > 0.3
    assert row["effect"] == pytest.approx(0.47, abs=0.2)
    many = found(events(random.integers(0, 40, 400), likelihood="categorical")).row(0, named=True)
    assert many["status"] == "no drift seen"


def test_texts_are_compared_as_vectors_with_sessions_kept_together() -> None:
    random = np.random.default_rng(8)
    vectors = random.normal(size=(2, 160, 100))
    vectors[0, 90:] += 1.0
    frames = [
        events([0.0] * 160, user, likelihood="embedding", vector=rows.tolist())
        for user, rows in zip(("ann", "bob"), vectors, strict=True)
    ]
    ann, bob = (
        found(
            pl.concat(
                [
                    *frames,
                    events([0.0] * 30, "few", likelihood="embedding", vector=[[1.0]] * 30).with_columns(
                        vector=pl.lit([0.5] * 100)
                    ),
                ]
            )
        )
        .sort("user_id")[:2]
        .iter_rows(named=True)
    )
    assert (ann["flagged"], bob["flagged"], ann["events"]) == (True, False, 160)
    assert abs((ann["changed_at"] - START).total_seconds() / 3600 - 90) <= 10
    hole = vectors[0].tolist()
    hole[3] = [float("nan")] * 100
    assert found(events([0.0] * 160, likelihood="embedding", vector=hole))["ignored"].to_list() == [1]


def test_a_long_history_is_scanned_in_its_newest_window_and_pays_for_the_others() -> None:
    values = (np.random.default_rng(2).random(2_505) < 0.5).astype(int)
    row = found(events(values)).row(0, named=True)
    newest = scan_sequences(values[1_500:2_500], np.array([1_000]), Bernoulli())
    assert (row["events"], row["events_total"]) == (1_000, 2_505)
    assert row["statistic"] == newest.statistic[0]
    share = np.array([values[1_500:2_500].mean()])
    assert row["p_value"] == pytest.approx(p_value(newest.statistic, 2_505, RATE, share=share)[0])
    assert row["changed_at"] == START + timedelta(hours=1_500 + int(newest.before[0]))


def test_a_segment_of_two_metrics_is_one_family() -> None:
    random = np.random.default_rng(1)
    frames = [events(random.random(80) < 0.5, f"u{i}", metric=f"m{i % 2}") for i in range(30)]
    findings = found(pl.concat([*frames, events([1, 0], "few")])).filter(pl.col("p_value").is_not_null())
    assert findings["q_value"].to_list() == pytest.approx(false_discovery_control(findings["p_value"]).tolist())


def test_few_of_those_flagged_are_false_and_most_changed_users_are_found() -> None:
    """2,000 users, 2 % changed, two segments, histories of 10 to 300 events, many below the minimum."""
    random = np.random.default_rng(9)
    users, changed = 2_000, 40
    lengths = np.where(np.arange(users) < changed, 300, random.integers(10, 300, users))
    owner = np.repeat(np.arange(users), lengths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rate = np.where((owner < changed) & (place >= 150), 0.3, 0.7)
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(owner).cast(pl.String), "segment": pl.Series(owner % 2).cast(pl.String),
            "value": (random.random(owner.size) < rate).astype(float),
            "occurred_at": pl.Series(place * 3_600_000_000).cast(pl.Datetime("us", "UTC")),
        }
    ).with_columns(
        level=pl.lit("user"), agent=pl.lit(None, pl.String), metric=pl.lit("thumbs"), likelihood=pl.lit("bernoulli"),
        practical=pl.lit(0.1), residual=pl.lit(None, pl.Float64), block=pl.lit(None, pl.String),
    )  # fmt: skip
    findings = found(frame)
    few = findings.filter(status="not enough data")
    assert few.height == np.sum(lengths < 20)
    assert few["missing"].min() >= 1
    flagged = findings.filter("flagged")
    true = flagged.filter(pl.col("user_id").cast(pl.Int64) < changed)
    assert true.height >= 38
    assert flagged.height - true.height <= 6
    assert (true["effect"] + 0.4).abs().mean() < 0.1
    off = ((true["changed_at"] - datetime(1970, 1, 1, tzinfo=UTC)).dt.total_hours() - 150).abs()
    assert off.median() <= 10
    low, high = (true[name].dt.epoch("s") / 3600 for name in ("changed_from", "changed_to"))
    assert ((low <= 150) & (high >= 150)).mean() > 0.6


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (events([1, 2]), "value of likelihood bernoulli must be 0 or 1; 1 rows are not"),
        (events([1], user=None), "user_id may not be null"),
        (events([1]).drop("metric"), "missing: metric"),
        (
            events([1]).with_columns(pl.col("occurred_at").dt.convert_time_zone("Asia/Tokyo")),
            "column occurred_at must be",
        ),
        (events([1], level="team"), "level must be one of user, segment, population; came 'team'"),
        (events([1], likelihood="poisson"), "likelihood must be one of"),
        (events([1], likelihood="embedding"), "needs a column vector"),
        (events([1] * 2, likelihood="embedding", vector=[[1.0], [1.0, 2.0]]), "must be of one length"),
    ],
)
def test_refuses_wrong_sequences(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        detect(frame, random=np.random.default_rng(1))


def test_settings_are_checked_and_new_schedules_need_a_calibration() -> None:
    with pytest.raises(SettingsError, match="false_discovery_rate"):
        DetectionConfig(false_discovery_rate=0.0)
    with pytest.raises(SettingsError, match="two segments"):
        DetectionConfig(window=20)
    with pytest.raises(SettingsError, match="multiple of look_every"):
        DetectionConfig(window=1_001)
    config = DetectionConfig(look_every=10)
    assert missing(DetectionConfig().schedules()) == []
    assert Schedule("bernoulli", 10, 1000, 10) in missing(config.schedules())
    with pytest.raises(NotCalibrated):
        found(events([1, 0] * 20), config)
    known = {Schedule("bernoulli", 10, 1000, 10): Tail((7.0, 8.0, 8.2, 8.4), 0.9, 2.0)}
    assert found(events([1, 0] * 15), DetectionConfig(look_every=10, calibrated=known))["events"].to_list() == [30]
