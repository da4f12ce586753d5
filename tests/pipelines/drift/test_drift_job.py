"""The job `drift` on a store: everybody's change is nobody's, a user's own is found, and what happens in between."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from loop_data import run_loop
from polars.testing import assert_frame_equal
from publishing import publisher

from pipelines.drift import job
from store import drift, drift_states, job_runs, users
from store.clock import FixedClock
from store.connection import Store

START = datetime(2026, 9, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
USERS, FEW, EVENTS, DAYS, CHANGE, OWN = 24, 8, 80, 60, 30, 35


def _traces(users=USERS, seed=1, first=0, events=EVENTS, days=(0, DAYS), change=CHANGE, moved=()):
    """Sessions of all users: answers of everybody grow at `change`, the cost of `ann` trebles at `OWN`."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(users):
        user = "ann" if number == 0 else f"user {number:02}"
        for at, day in enumerate(np.sort(random.uniform(*days, events))):
            dear = 3.0 if (user == "ann" and day >= OWN) or user in moved else 1.0
            rows.append(
                {"trace_id": f"{user} {first + at}", "agent": "shop", "agent_version": "1", "model": "m",
                 "user_id": user, "session_id": f"{user} {first + at}",
                 "started_at": START + timedelta(days=float(day)),
                 "task": ["book", "cancel"][int(random.random() < 0.5)],
                 "cost_usd": dear * float(np.exp(random.normal(0, 0.5))),
                 "output_tokens": int(200 * (1.6 if day >= change else 1.0) * np.exp(random.normal(0, 0.3))),
                 "metadata": json.dumps({"segment": ["north", "south"][number % 2]})}
            )  # fmt: skip
    return rows


def _open(folder):
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    return store, publisher(store, folder)


@pytest.fixture
def fresh(tmp_path):
    """An empty store and what publishes into it."""
    store, publish = _open(tmp_path)
    yield store, publish
    store.close()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A store in which everybody and ann changed, after the first run."""
    store, publish = _open(tmp_path_factory.mktemp("drift"))
    publish(traces=_traces())
    users.count(store)
    result = run_loop(store, "drift")["drift"]
    yield store, publish, result
    store.close()


def test_what_hits_everybody_is_found_above_users_and_not_in_them(scanned):
    store, _, result = scanned
    assert result.rows == USERS
    flagged = drift.findings(store, flagged_only=True)
    everybody = flagged.filter(level="population").row(0, named=True)
    assert (everybody["agent"], everybody["metric"], everybody["segment"]) == ("shop", "output length", None)
    assert abs(everybody["changed_at"] - START - timedelta(days=CHANGE)) <= timedelta(days=2)
    assert everybody["after_mean"] / everybody["before_mean"] == pytest.approx(1.6, rel=0.1)
    segments = flagged.filter(level="segment", metric="output length")
    assert sorted(segments["segment"]) == ["north", "south"]
    assert flagged.filter(level="user", metric="output length").is_empty()


def test_a_users_own_change_is_found(scanned):
    store, _, _ = scanned
    own = drift.findings(store, level="user", flagged_only=True)
    assert own.select("user_id", "metric").rows() == [("ann", "cost")]
    row = own.row(0, named=True)
    assert row["likelihood"] == "log"
    assert row["segment"] == "north"
    assert abs(row["changed_at"] - START - timedelta(days=OWN)) <= timedelta(days=4)
    assert row["changed_from"] <= row["changed_at"] <= row["changed_to"]
    assert row["effect"] == pytest.approx(np.log(3), abs=0.35)
    assert row["practical"] > 0.95
    assert drift.first_flagged(store, ["ann", "user 01"]) == {"ann": NOW}


def test_what_was_measured_is_said_with_its_likelihood(scanned):
    store, _, _ = scanned
    measured = {(row["level"], row["metric"]): row for row in drift.measured(store).iter_rows(named=True)}
    cost = measured["user", "cost"]
    assert (cost["likelihood"], cost["subjects"], cost["scanned"], cost["flagged"]) == ("log", USERS, USERS, 1)
    assert "skewed" in cost["reason"]
    assert measured["user", "task mix"]["likelihood"] == "categorical"
    assert measured["user", "output length"]["explained"] > 0.15
    assert measured["segment", "cost"]["subjects"] == 2
    assert "reward" not in {metric for _, metric in measured}
    run = drift.latest_run(store)
    assert (run["users"], run["scanned"], run["flagged"], run["too_few"]) == (USERS, USERS, 1, 0)


def test_states_stand_where_the_scan_stood(scanned):
    store, _, _ = scanned
    state = drift_states.of_user(store, "ann").filter(metric="cost").row(0, named=True)
    values = drift.user_events(store, "ann", "cost")["value"]
    assert (state["n"], state["minimum"], state["maximum"]) == (EVENTS, values.min(), values.max())
    assert state["mean"] == pytest.approx(values.mean())
    assert state["reference_sd"] == pytest.approx(values.std())
    assert (state["s_plus"], state["suspected"]) == (0.0, False)


def test_between_full_scans_only_who_looks_changed_is_scanned(tmp_path):
    store, publish = _open(tmp_path)
    publish(traces=_traces(change=0))
    users.count(store)
    assert run_loop(store, "drift")["drift"].rows == USERS
    before = drift.findings(store, limit=10_000)
    assert run_loop(store, "drift")["drift"].message == "Nothing new to count."
    publish(traces=_traces(seed=2, first=EVENTS, events=40, days=(DAYS, DAYS + 18), change=0, moved=("user 05",)))
    result = run_loop(store, "drift")["drift"]
    assert f"{USERS:,} users have new values" in result.message
    assert 1 <= result.rows <= 4
    after = drift.findings(store, limit=10_000)
    assert after["run_id"].unique().to_list() == [1]
    assert "user 05" in drift.findings(store, metric="cost", level="user", flagged_only=True)["user_id"]
    keys = ["level", "user_id", "segment", "agent", "metric"]
    assert after.select(keys).sort(keys).equals(before.select(keys).sort(keys))
    run = drift.latest_run(store)
    assert (run["rescanned"], run["refreshed_at"]) == (result.rows, NOW)
    assert drift_states.of_user(store, "user 01").filter(metric="cost")["n"].to_list() == [EVENTS + 40]
    # The same by a full scan: the sums in between have lost nothing.
    between = drift_states.of_user(store, "user 03").filter(metric="cost").row(0, named=True)
    store.clock.moment += job.FULL_EVERY
    assert run_loop(store, "drift")["drift"].rows == USERS
    full = drift_states.of_user(store, "user 03").filter(metric="cost").row(0, named=True)
    assert drift.latest_run(store)["run_id"] == 2
    for name in ("n", "mean", "m2", "minimum", "maximum", "first_at", "last_at"):
        assert (
            between[name] == pytest.approx(full[name]) if isinstance(full[name], float) else between[name] == full[name]
        )
    store.close()


def test_a_person_gets_a_full_scan(fresh):
    store, publish = fresh
    publish(traces=_traces(FEW, events=42))
    assert run_loop(store, "drift")["drift"].rows == FEW
    assert run_loop(store, "drift")["drift"].rows == 0
    job_runs.begin(store, job="drift", cause="manual", attempt=1, watermark=0, code_version="c")
    assert run_loop(store, "drift")["drift"].rows == FEW
    assert drift.latest_run(store)["run_id"] == 2


def test_last_week_rewritten_late_is_counted_afresh(fresh):
    store, publish = fresh
    rows = _traces(FEW, events=42)
    publish(traces=rows)
    run_loop(store, "drift")
    # Costs of the newest week come corrected, and two traces that nobody had seen.
    week = [row for row in rows if row["started_at"] >= START + timedelta(days=DAYS - 7)]
    publish(traces=[{**row, "cost_usd": 9.0, "ended_at": row["started_at"] + timedelta(seconds=1)} for row in week])
    publish(traces=[{**rows[0], "trace_id": f"late {i}", "session_id": f"late {i}"} for i in range(2)])
    run_loop(store, "drift")
    for user in ("ann", "user 07"):
        state = drift_states.of_user(store, user).filter(metric="cost").row(0, named=True)
        values = drift.user_events(store, user, "cost")["value"]
        assert state["n"] == values.len() == (44 if user == "ann" else 42)
        assert state["mean"] == pytest.approx(values.mean())
        assert state["maximum"] == 9.0


def test_a_renamed_user_is_the_new_name_after_the_next_full_scan(fresh):
    store, publish = fresh
    rows = [row for row in _traces(FEW, events=42) if row["user_id"] in ("ann", "user 01")]
    publish(traces=rows)
    run_loop(store, "drift")
    publish(traces=[
        {**row, "user_id": "anna", "ended_at": row["started_at"] + timedelta(seconds=1)}
        for row in rows if row["user_id"] == "ann"
    ])  # fmt: skip
    store.clock.moment += job.FULL_EVERY
    run_loop(store, "drift")
    with store.read() as reader:
        names = drift_states.of_metric(reader, "cost")["user_id"].sort().to_list()
    assert names == ["anna", "user 01"]
    assert set(drift.findings(store, level="user")["user_id"]) == {"anna", "user 01"}


def test_the_same_data_twice_changes_nothing(fresh):
    store, publish = fresh
    rows = _traces(FEW, events=42)
    publish(traces=rows)
    run_loop(store, "drift")
    first = drift.findings(store, limit=10_000).drop("run_id", "found_at")
    publish(traces=rows)
    store.clock.moment += job.FULL_EVERY
    run_loop(store, "drift")
    assert_frame_equal(drift.findings(store, limit=10_000).drop("run_id", "found_at"), first)


def test_users_with_too_few_events_are_counted_and_said(fresh):
    store, publish = fresh
    yearly = [
        {"trace_id": f"y{year}", "agent": "shop", "user_id": "yearly", "cost_usd": 1.0 + year,
         "started_at": datetime(2020 + year, 3, 1, tzinfo=UTC)}
        for year in range(6)
    ]  # fmt: skip
    publish(traces=yearly)
    result = run_loop(store, "drift")["drift"]
    assert result.rows == 0
    assert "1 users have too few events" in result.message
    run = drift.latest_run(store)
    assert (run["users"], run["scanned"], run["too_few"], run["missing_median"]) == (1, 0, 1, 34.0)
    assert drift.findings(store).is_empty()
    assert drift_states.of_user(store, "yearly").filter(metric="cost")["n"].to_list() == [6]


def test_times_are_instants_whatever_their_zone(tmp_path):
    found = []
    for name, shift in (("utc", 0), ("tokyo", 9)):
        folder = tmp_path / name
        folder.mkdir()
        store, publish = _open(folder)
        zone = timezone(timedelta(hours=shift))
        rows = [{**row, "started_at": row["started_at"].astimezone(zone)} for row in _traces(FEW, events=42)]
        publish(traces=rows)
        run_loop(store, "drift")
        found.append(drift.findings(store, limit=10_000).drop("found_at"))
        store.close()
    assert_frame_equal(found[0], found[1])
    assert found[0].height > 0


def test_nothing_to_measure_is_no_run(fresh):
    store, _ = fresh
    assert run_loop(store, "drift")["drift"].rows == 0
    assert drift.latest_run(store) is None
    assert pl.DataFrame(schema=drift.METRICS).equals(drift.measured(store))
