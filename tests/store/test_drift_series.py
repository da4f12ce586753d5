"""The days of an agent and of a segment: the same as the levels of the drift job are made of, read within bounds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipelines.drift import levels, residuals, scan
from pipelines.drift.metrics import metric as metric_of
from store import drift, drift_events, drift_series, interventions, links, users
from store.errors import NotFound

START = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 9


def _world(publish, store):
    """Two agents and traces without one, two segments, sessions over midnight, texts, costs with nothing and zeros."""
    random = np.random.default_rng(3)
    traces, signals = [], []
    for i in range(400):
        user = int(random.integers(0, 24))
        began = START + timedelta(minutes=int(random.integers(0, DAYS * 24 * 60)))
        cost = [None, 0.0, float(random.lognormal())][int(random.integers(0, 3)) if i % 5 == 0 else 2]
        traces.append(
            {"trace_id": f"t{i}", "agent": [None, "a", "b"][int(random.integers(0, 3))], "user_id": f"u{user}",
             "session_id": f"s{user}-{began:%d}" if i % 3 else None, "started_at": began, "cost_usd": cost,
             "task": str(random.choice(["book", "cancel"])), "input": "der die das und ist nicht",
             "metadata": f'{{"segment": "{"north" if user % 2 else "south"}"}}' if user % 3 else None}
        )  # fmt: skip
        if i % 2:
            signals.append(
                {"signal_id": f"g{i}", "trace_id": f"t{i}" if i % 4 == 1 else None, "kind": "thumb",
                 "user_id": f"u{user}" if i % 8 > 3 else None, "session_id": traces[-1]["session_id"],
                 "value": float(random.integers(0, 2)),
                 "occurred_at": began + timedelta(hours=1) if i % 16 != 1 else None}
            )  # fmt: skip
    publish(traces=traces, signals=signals)
    links.refresh(store)
    users.count(store)


def _tested(store, name):
    """What the job makes of the metric: the days that are scanned, with the means that findings show."""
    metric = metric_of(name)
    with store.read() as reader, scan.slices_of(reader, metric) as (read, slices):
        learnt = scan.learn(metric, read, slices, interventions.known(store))
        assert learnt is not None
        made = levels.daily(learnt.cells, learnt.pilot, learnt.expectation, name, learnt.practical)
        assert isinstance(learnt.pilot, residuals.Pilot)
    return made


@pytest.mark.parametrize("name", ["cost", drift.STATED, "input length"])
def test_the_days_are_those_that_are_tested(publish, store, name):
    _world(publish, store)
    tested = _tested(store, name)
    logarithms = tested["likelihood"][0] == "log"
    subjects = tested.select("level", "agent", "segment").unique().rows()
    assert {level for level, _, _ in subjects} == {"segment", "population"}
    assert {agent for _, agent, _ in subjects} >= {"a", "b", None}
    for level, agent, segment in subjects:
        own = tested.filter(
            pl.col("level") == level, pl.col("agent").eq_missing(agent), pl.col("segment").eq_missing(segment)
        )
        days = drift_series.daily(store, name, agent=agent, segment=segment, logarithms=logarithms)
        assert days.schema == drift_series.DAILY
        days = days.filter(pl.col("n") >= levels.LEAST_A_DAY)
        assert days["day"].to_list() == own["occurred_at"].dt.date().to_list()
        assert np.allclose(days["mean"].to_numpy(), own["value"].to_numpy())


def test_shares_of_a_category_and_their_spread(publish, store):
    _world(publish, store)
    with store.read() as reader:
        frame = drift_events.slice_of(reader, "task mix", 1, 0)
    own = frame.filter((pl.col("agent") == "a") & (pl.col("segment") == "north")).with_columns(
        day=pl.col("occurred_at").dt.date(), book=(pl.col("category") == "book").cast(pl.Float64)
    )
    expected = own.group_by("day").agg(pl.col("book").mean(), n=pl.len(), sd=pl.col("book").std()).sort("day")
    days = drift_series.daily(store, "task mix", agent="a", segment="north", category="book")
    assert days["n"].to_list() == expected["n"].to_list()
    assert np.allclose(days["mean"], expected["book"])
    assert np.allclose(days["sd"].fill_null(-1.0), expected["sd"].fill_null(-1.0))


def test_what_is_read_ends_where_it_is_told_to_and_sessions_over_midnight_stay_whole(publish, store):
    night = START + timedelta(hours=23, minutes=50)
    publish(
        traces=[
            {"trace_id": f"t{i}", "agent": "a", "user_id": "u", "session_id": session, "started_at": at,
             "cost_usd": cost}
            for i, (session, at, cost) in enumerate(
                [("s", night, 1.0), ("s", night + timedelta(hours=1), 3.0), ("r", night + timedelta(days=1), 5.0),
                 ("old", START - timedelta(days=40), 7.0), ("future", START + timedelta(days=9000), 9.0)]
            )
        ]
    )  # fmt: skip
    both = drift_series.daily(store, "cost", agent="a")
    assert both.rows() == [
        ((START - timedelta(days=40)).date(), 7.0, 1, None), (START.date(), 2.0, 1, None),
        ((START + timedelta(days=1)).date(), 5.0, 1, None),
    ]  # fmt: skip
    # The second half of the session is of the next day, which is not asked for.
    first = drift_series.daily(store, "cost", agent="a", until=START, days=1)
    assert first["mean"].to_list() == [2.0]
    # It began before the day that is.
    assert drift_series.daily(store, "cost", agent="a", until=START + timedelta(days=1), days=1)["mean"].to_list() == [
        5
    ]
    assert drift_series.daily(store, "cost", agent="b").is_empty()


def test_languages_are_told_of_a_sample_of_sessions_the_same_each_time(publish, store, monkeypatch):
    _world(publish, store)
    everything = drift_series.daily(store, "language", agent="a", category="German")
    monkeypatch.setattr(drift_series, "MOST_SAMPLED", 40)
    part = drift_series.daily(store, "language", agent="a", category="German")
    assert 10 < part["n"].sum() < 90 < everything["n"].sum()
    assert set(part["mean"]) == {1.0}
    assert part.equals(drift_series.daily(store, "language", agent="a", category="German"))


def test_an_empty_store_has_no_days_and_unknown_metrics_are_refused(store):
    assert drift_series.daily(store, "cost", agent="a").is_empty()
    with pytest.raises(NotFound, match="metric"):
        drift_series.daily(store, "mood")


def test_every_statement_has_the_time_limit(publish, store, monkeypatch):
    _world(publish, store)
    limits, read = [], store.read

    def spied(*, timeout=None):
        limits.append(timeout)
        return read(timeout=timeout)

    monkeypatch.setattr(store, "read", spied)
    drift_series.daily(store, "language", agent="a", category="German", timeout=7.0)
    assert limits == [7.0]


def test_stated_satisfaction_of_one_user_is_the_same_read_for_one_and_for_all(publish, store):
    _world(publish, store)
    publish(
        traces=[],
        signals=[
            # Said by one about another's trace: it is the one's who said it.
            {"signal_id": "other", "trace_id": "t1", "user_id": "u99", "kind": "thumb", "value": 1.0},
            {"signal_id": "unknown trace", "trace_id": "gone", "user_id": "u99", "kind": "thumb", "value": 0.0,
             "occurred_at": START},
        ],
    )  # fmt: skip
    columns = "user_id, agent, block, occurred_at, task, model, agent_version, publication, value"
    seen = 0
    for user in [*(f"u{i}" for i in range(24)), "u99", "nobody"]:
        with store.read() as reader:
            both = [
                reader.frame(
                    f"SELECT {columns} FROM ({sql}) ORDER BY occurred_at, agent, block",
                    pl.Schema({"user_id": pl.String, "agent": pl.String, "block": pl.String,
                               "occurred_at": pl.Datetime("us", "UTC"), "task": pl.String, "model": pl.String,
                               "agent_version": pl.String, "publication": pl.Int64, "value": pl.Float64}),
                    {"user": user},
                )
                for sql in (
                    drift_events.sessions(drift.STATED, "{user} = $user", of_one=True),
                    drift_events.sessions(drift.STATED, "{user} = $user"),
                )
            ]  # fmt: skip
        assert both[0].equals(both[1])
        seen += both[0].height
    assert seen > 60
