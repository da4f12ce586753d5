"""Drift per user: what is found, what is not, and what is said where there is too little."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta, false_discovery_control

from pipelines.drift.users import EVENTS, FINDINGS, DriftConfig, scan
from pipelines.stats.contract import ContractError
from pipelines.stats.likelihood_ratio import p_value
from pipelines.stats.likelihood_ratio import scan as scan_sequences
from store.errors import SettingsError

START = datetime(2026, 11, 1, tzinfo=UTC)


def events(user: str, values: list[int], metric: str = "reward", hours: int = 1) -> pl.DataFrame:
    times = [START + timedelta(hours=hours * i) for i in range(len(values))]
    return pl.DataFrame({"user_id": user, "metric": metric, "occurred_at": times, "value": values}).cast(EVENTS)


def test_a_change_is_found_and_described() -> None:
    findings = scan(pl.concat([events("ann", [1] * 40 + [0] * 20), events("bob", [1, 0] * 30)]))
    assert findings.schema == FINDINGS
    ann, bob = findings.iter_rows(named=True)
    assert (ann["user_id"], ann["status"], ann["flagged"]) == ("ann", "drift", True)
    assert ann["changed_at"] == START + timedelta(hours=40)
    assert (ann["before_n"], ann["before_mean"], ann["after_n"], ann["after_mean"]) == (40, 1.0, 20, 0.0)
    assert ann["before_upper"] == 1.0
    assert ann["before_lower"] == pytest.approx(beta(40.5, 0.5).ppf(0.025))
    assert ann["after_upper"] == pytest.approx(beta(0.5, 20.5).ppf(0.975))
    assert ann["statistic"] == pytest.approx(-40 * np.log(40 / 60) - 20 * np.log(20 / 60))
    assert (bob["status"], bob["flagged"]) == ("no drift seen", False)
    assert bob["before_n"] + bob["after_n"] == bob["events"] == 60


def test_users_with_few_events_are_listed_with_what_is_missing() -> None:
    findings = scan(pl.concat([events("few", [1] * 19), events("enough", [1] * 20)]))
    few = findings.filter(user_id="few").row(0, named=True)
    assert (few["status"], few["events"], few["missing"], few["flagged"]) == ("not enough data", 19, 1, False)
    assert few["p_value"] is None
    assert findings["user_id"].to_list() == ["enough", "few"]
    assert findings.filter(user_id="enough")["missing"][0] == 0
    only_few = scan(events("few", [1, 0]))
    assert only_few.schema == FINDINGS
    assert scan(pl.DataFrame(schema=EVENTS)).height == 0


def test_order_of_rows_does_not_matter() -> None:
    frame = pl.concat(
        [events("ann", [1] * 30 + [0] * 30), events("bob", [0, 1, 1] * 20), events("ann", [1] * 25, "thumb")]
    )
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    assert scan(shuffled).equals(scan(frame))
    assert scan(frame).select("user_id", "metric").n_unique() == 3


def test_q_values_are_over_all_users_and_metrics() -> None:
    rng = np.random.default_rng(1)
    frames = [events(f"u{i}", (rng.random(80) < 0.5).astype(int).tolist(), f"m{i % 2}") for i in range(30)]
    findings = scan(pl.concat([*frames, events("few", [1, 0])]))
    tested = findings.filter(pl.col("p_value").is_not_null())
    assert tested.height == 30
    assert tested["q_value"].to_list() == pytest.approx(false_discovery_control(tested["p_value"]).tolist())


def test_a_long_history_is_scanned_in_its_newest_events_at_a_price() -> None:
    values = (np.random.default_rng(2).random(2500) < 0.5).astype(int)
    row = scan(events("ann", values.tolist())).row(0, named=True)
    newest = scan_sequences(values[-1000:], np.array([1000]))
    assert (row["events"], row["events_total"]) == (1000, 2500)
    assert row["p_value"] == pytest.approx(min(1.0, 3 * p_value(newest.statistic)[0]))
    assert row["changed_at"] == START + timedelta(hours=1500 + int(newest.before[0]))


def test_false_discoveries_are_held_and_real_changes_found() -> None:
    rng = np.random.default_rng(4)
    users, drifting, length = 600, 60, 300
    rates = np.full((users, length), 0.7)
    rates[:drifting, 150:] = 0.3
    values = (rng.random((users, length)) < rates).astype(int)
    times = [START + timedelta(hours=i) for i in range(length)]
    frame = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{i:03d}" for i in range(users)], length),
            "metric": "reward",
            "occurred_at": times * users,
            "value": values.reshape(-1),
        },
        schema=EVENTS,
    )
    flagged = scan(frame).filter("flagged")
    true = flagged.filter(pl.col("user_id") < f"u{drifting:03d}")
    assert true.height >= 57
    assert (flagged.height - true.height) / flagged.height <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / flagged.height)
    off = ((true["changed_at"] - START).dt.total_hours() - 150).abs()
    assert off.median() <= 10


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (events("ann", [1, 2]), "value must be 0 or 1, came 2 in 1 rows"),
        (events("ann", [1]).with_columns(user_id=pl.lit(None, pl.String)), "user_id may not be null"),
        (events("ann", [1]).drop("metric"), "missing: metric"),
    ],
)
def test_refuses_wrong_events(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        scan(frame)


def test_refuses_wrong_settings() -> None:
    with pytest.raises(SettingsError, match="false_discovery_rate"):
        DriftConfig(false_discovery_rate=0.0)
    with pytest.raises(SettingsError, match="window"):
        DriftConfig(window=15)
