"""The Overview's numbers against Python's own statistics over the same rows."""

import statistics
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from store import overview
from store.scope import Scope

START = datetime(2026, 11, 2, tzinfo=UTC)  # a Monday


def _row(i):
    return {
        "trace_id": f"t{i:03d}",
        "agent": None if i % 11 == 0 else ("desk", "shop")[i % 2],
        "user_id": None if i % 13 == 0 else f"u{i % 6}",
        "arm": f"a{i % 2}",
        "model": "m",
        "started_at": START + timedelta(hours=5 * i),
        "ended_at": None if i % 7 == 0 else START + timedelta(hours=5 * i, seconds=i),
        "status": ("ok", "error", None, "ok")[i % 4],
        "cost_usd": None if i % 5 == 0 else i / 100,
    }


ROWS = [_row(i) for i in range(60)]
REWARDS = {row["trace_id"]: (i % 10 / 10, 0.1 + i / 1000) for i, row in enumerate(ROWS) if i % 3}
FEEDBACK = {"t001", "t002", "t040"}
SCOPE = Scope(START + timedelta(days=1), START + timedelta(days=9), agents=("desk", "shop"))


@pytest.fixture
def filled(store, publish):
    """60 traces over 12 days, two thirds of them rewarded."""
    publish(
        traces=ROWS,
        signals=[
            *(
                {"signal_id": f"f{t}{n}", "trace_id": t, "kind": "thumb", "value": 1.0}
                for t in FEEDBACK
                for n in (1, 2)
            ),
            {"signal_id": "click", "trace_id": "t050", "kind": "click", "value": 1.0},
        ],
    )

    def work(connection):
        connection.execute("INSERT INTO reward_models VALUES (1, 'm', $now, 1, 1, 1, '{}', 'c', true)", {"now": START})
        connection.executemany(
            "INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals) VALUES (?, 1, ?, ?, 1)",
            [(t, m, s) for t, (m, s) in REWARDS.items()],
        )

    store.write(work)
    return store


def _in_scope(row, scope=SCOPE):
    return scope.since <= row["started_at"] < scope.until and row["agent"] in scope.agents


def _check(measures, rows):
    seconds = [(r["ended_at"] - r["started_at"]).total_seconds() for r in rows if r["ended_at"]]
    rewards = [REWARDS[r["trace_id"]] for r in rows if r["trace_id"] in REWARDS]
    assert measures["traces"] == len(rows)
    assert measures["known"] == sum(r["status"] is not None for r in rows)
    assert measures["errors"] == sum(r["status"] == "error" for r in rows)
    assert measures["users"] == len({r["user_id"] for r in rows} - {None})
    assert measures["feedback"] == sum(r["trace_id"] in FEEDBACK for r in rows)
    assert measures["costed"] == sum(r["cost_usd"] is not None for r in rows)
    assert measures["cost_usd"] == pytest.approx(sum(r["cost_usd"] or 0 for r in rows))
    assert measures["timed"] == len(seconds)
    assert measures["seconds_p50"] == pytest.approx(statistics.median(seconds))
    assert measures["seconds_p95"] == pytest.approx(np.percentile(seconds, 95))
    assert measures["rewarded"] == len(rewards)
    assert measures["reward"] == pytest.approx(statistics.mean(m for m, _ in rewards))
    assert measures["reward_variance"] == pytest.approx(statistics.variance(m for m, _ in rewards))
    assert measures["reward_sd2"] == pytest.approx(statistics.mean(s * s for _, s in rewards))


def test_the_headline_is_the_statistics_of_the_rows_in_scope(filled):
    _check(overview.headline(filled, SCOPE).to_dicts()[0], [r for r in ROWS if _in_scope(r)])


def test_each_agent_has_its_own_statistics_the_busiest_first(filled):
    frame = overview.agents(filled, Scope())
    for row in frame.to_dicts():
        if row["agent"] is not None:
            _check(row, [r for r in ROWS if r["agent"] == row["agent"]])
    assert frame["traces"].to_list() == sorted(frame["traces"].to_list(), reverse=True)
    assert frame["traces"].sum() == 60
    assert overview.agents(filled, Scope(), limit=1).height == 1


def test_a_scope_without_traces_has_zeros_and_nulls(filled):
    row = overview.headline(filled, Scope(until=START)).to_dicts()[0]
    assert (row["traces"], row["errors"], row["rewarded"], row["feedback"]) == (0, 0, 0, 0)
    assert row["seconds_p50"] is None
    assert row["reward"] is None


@pytest.mark.parametrize(("bucket", "floor"), [
    ("hour", lambda t: t.replace(minute=0, second=0)),
    ("day", lambda t: t.replace(hour=0)),
    ("week", lambda t: t.replace(hour=0) - timedelta(days=t.weekday())),
])  # fmt: skip
def test_buckets_add_up_to_the_traces_in_scope(filled, bucket, floor):
    frame = overview.per_bucket(filled, SCOPE, bucket)
    expected = {}
    for row in filter(_in_scope, ROWS):
        counts = expected.setdefault((floor(row["started_at"]), row["agent"]), [0, 0])
        counts[0] += 1
        counts[1] += row["status"] == "error"
    assert {(b, a): [n, e] for b, a, n, e in frame.rows()} == expected
    assert frame["bucket"].is_sorted()


def test_rewards_per_day_are_those_of_that_days_traces(filled):
    frame = overview.reward_per_bucket(filled, Scope(), "day")
    by_day = {}
    for row in ROWS:
        if row["trace_id"] in REWARDS:
            by_day.setdefault(row["started_at"].replace(hour=0), []).append(REWARDS[row["trace_id"]])
    assert frame["bucket"].to_list() == sorted(by_day)
    for bucket, n, mean, _, sd2, _ in frame.rows():
        assert n == len(by_day[bucket])
        assert mean == pytest.approx(statistics.mean(m for m, _ in by_day[bucket]))
        assert sd2 == pytest.approx(statistics.mean(s * s for _, s in by_day[bucket]))


def test_the_extent_counts_everything(filled):
    row = overview.extent(filled).to_dicts()[0]
    assert (row["traces"], row["spans"], row["signals"], row["batches"], row["reward_models"]) == (60, 0, 7, 0, 1)
    assert (row["oldest"], row["newest"]) == (START, START + timedelta(hours=5 * 59))


def test_segments_list_the_most_frequent_values(filled):
    rows = overview.segments(filled).rows()
    assert {(f, v) for f, v, _ in rows} == {
        ("agent", "desk"),
        ("agent", "shop"),
        ("arm", "a0"),
        ("arm", "a1"),
        ("model", "m"),
    }
    assert {f: v for f, v, _ in overview.segments(filled, limit=1).rows()}["arm"] == "a0"


def _add_lesson(connection, number, state):
    connection.execute(
        """INSERT INTO lessons (lesson_id, agent, state, version, origin, created_at, updated_at)
        VALUES ($id, 'a', $state, 1, 'contrast', $now, $now)""",
        {"id": f"l{number}", "state": state, "now": START},
    )


def _add_rate(connection, state):
    connection.execute(
        """INSERT INTO exploration_rates (agent, recommended_at, rate, lower, upper, decisions, reason, arms, state)
        VALUES ('a', $now, 0.1, 0, 0.2, 9, 'r', '[]', $state)""",
        {"state": state, "now": START},
    )


def _add_drift_run(connection, run):
    connection.execute(
        """INSERT INTO drift_runs (run_id, found_at, data_version, code_version, false_discovery_rate, users, scanned,
            flagged, too_few, min_events) VALUES ($run, $now, 1, 'c', 0.05, 1, 1, 1, 0, 20)""",
        {"run": run, "now": START},
    )


def _add_finding(connection, run, user, metric, flagged):
    connection.execute(
        """INSERT INTO drift_findings
            (run_id, level, user_id, metric, likelihood, events, statistic, p_value, flagged, found_at)
        VALUES ($run, 'user', $user, $metric, 'bernoulli', 50, 9, 0.001, $flagged, $now)""",
        {"run": run, "user": user, "metric": metric, "flagged": flagged, "now": START},
    )


def _add_batch(connection, number, rejected, day):
    connection.execute(
        """INSERT INTO ingest_batches (batch_id, source, file_name, state, rejected, received_at)
        VALUES ($id, 's', 'f', 'done', $rejected, $at)""",
        {"id": number, "rejected": rejected, "at": START + timedelta(days=day)},
    )


def _add_arm(connection, name, state, by):
    connection.execute(
        """INSERT INTO arms VALUES ('a', $name, 'prompt', $state, false, NULL, '{}', 'operator', 'r', $by, $now,
        $now)""",
        {"name": name, "state": state, "by": by, "now": START},
    )


def _add_violation(connection, trace, day):
    connection.execute(
        """INSERT INTO guardrail_violations (agent, guardrail_id, trace_id, found_at, detail, action)
        VALUES ('a', 'g', $trace, $at, 'd', 'alert')""",
        {"trace": trace, "at": START + timedelta(days=day)},
    )


def test_waiting_counts_only_what_an_operator_has_to_do(store):
    def work(connection):
        for arm in [("on", "enabled", "trimtab"), ("mine", "off", "Ada"), ("kill", "off", "trimtab")]:
            _add_arm(connection, *arm)
        for trace, day in [("t1", 0), ("t2", 0), ("t3", 5)]:
            _add_violation(connection, trace, day)
        for number, state in enumerate(["proposed", "proposed", "active", "rejected"]):
            _add_lesson(connection, number, state)
        for state in ("recommended", "applied"):
            _add_rate(connection, state)
        _add_drift_run(connection, 2)
        for finding in [(1, "old", "m", True), (2, "u", "m", True), (2, "u", "n", True), (2, "v", "m", False)]:
            _add_finding(connection, *finding)
        for batch in [(1, 4, 0), (2, 3, 5), (3, 0, 5)]:
            _add_batch(connection, *batch)

    store.write(work)
    assert overview.waiting(store, Scope()).row(0) == (2, 1, 3, 1, 1, 2, 7)
    assert overview.waiting(store, Scope(since=START + timedelta(days=1))).row(0) == (2, 1, 1, 1, 1, 1, 3)


def test_nothing_waits_in_an_empty_store(store):
    assert overview.waiting(store, Scope()).row(0) == (0, 0, 0, 0, 0, 0, 0)
    assert overview.extent(store).row(0, named=True)["newest"] is None
