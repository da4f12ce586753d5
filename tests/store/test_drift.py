"""Drift: which events a user has, what a run keeps, and that runs are told apart."""

from datetime import UTC, datetime, timedelta

import polars as pl

from store import drift, links, rewards

START = datetime(2026, 11, 1, tzinfo=UTC)


def _at(hours):
    return START + timedelta(hours=hours)


def _thumbs(user, values, **columns):
    return [
        {"signal_id": f"{user}-{i}", "user_id": user, "kind": "thumb", "value": value, "occurred_at": _at(i), **columns}
        for i, value in enumerate(values)
    ]


def _reward(store, means):
    frame = pl.DataFrame(
        {"trace_id": list(means), "mean": list(means.values()), "sd": 0.1, "signals": 1},
        schema_overrides={"signals": pl.Int32, "mean": pl.Float64},
    )
    cells = pl.DataFrame(schema=rewards.CELLS)
    rewards.publish(store, rewards.Fitted("m", {}, frame, cells, len(means), 1, "0"))


def test_stated_events_are_thumbs_and_ratings_in_order_of_time(publish, store):
    publish(
        traces=[{"trace_id": "t", "user_id": "u", "started_at": _at(30)}],
        signals=[
            *_thumbs("u", [1.0, 0.0, 1.0])[::-1],
            {"signal_id": "five", "user_id": "u", "kind": "rating", "value": 0.75, "occurred_at": _at(9)},
            {"signal_id": "three", "user_id": "u", "kind": "rating", "value": 0.5, "occurred_at": _at(8)},
            {"signal_id": "by trace", "trace_id": "t", "kind": "thumb", "value": 1.0},
            {"signal_id": "llm", "user_id": "u", "kind": "rating", "value": 1.0, "occurred_at": _at(10),
             "annotator_kind": "llm"},
            {"signal_id": "odd", "user_id": "u", "kind": "rating", "value": 7.0, "occurred_at": _at(10)},
            {"signal_id": "click", "user_id": "u", "kind": "click", "value": 1.0, "occurred_at": _at(10)},
            {"signal_id": "nobody", "kind": "thumb", "value": 1.0, "occurred_at": _at(10)},
        ],
    )  # fmt: skip
    store.write(links.refresh)
    events = drift.events(store, min_events=6)
    assert events["value"].to_list() == [1, 0, 1, 0, 1, 1]
    assert events["occurred_at"].to_list() == [_at(h) for h in (0, 1, 2, 8, 9, 30)]
    assert set(events["metric"]) == {drift.STATED}
    assert drift.events(store, min_events=7).is_empty()


def test_users_without_enough_stated_events_are_judged_by_their_rewards(publish, store):
    publish(
        traces=[
            {"trace_id": f"{agent}{user}{i}", "agent": agent, "user_id": user, "started_at": _at(i)}
            for agent in "ab" for user in ("quiet", "loud") for i in range(2)
        ],
        signals=_thumbs("loud", [1.0, 1.0, 0.0]) + _thumbs("quiet", [1.0]),
    )  # fmt: skip
    _reward(
        store,
        {"aquiet0": 0.1, "aquiet1": 0.4, "aloud0": 0.2, "aloud1": 0.3, "bquiet0": 0.9, "bquiet1": 0.6, "bloud0": 0.7,
         "bloud1": 0.8},
    )  # fmt: skip
    events = drift.events(store, min_events=3)
    assert dict(events.group_by("user_id").agg(pl.col("metric").first()).rows()) == {
        "loud": drift.STATED, "quiet": drift.REWARD,
    }  # fmt: skip
    # Medians are .2 (agent a) and .7 (agent b): in order of time and id, .1 and .9, then .4 and .6.
    assert events.filter(user_id="quiet")["value"].to_list() == [0, 1, 1, 0]
    for user, metric in (("quiet", drift.REWARD), ("loud", drift.STATED)):
        own = drift.user_events(store, user, metric)
        assert own.equals(events.filter(user_id=user))
        assert drift.user_events(store, user, metric, limit=2).equals(own.tail(2))
    assert drift.user_events(store, "nobody", drift.STATED).is_empty()


def test_a_median_that_ties_with_the_top_counts_as_above(publish, store):
    names = [f"t{i}" for i in range(5)]
    publish(traces=[{"trace_id": n, "agent": "a", "user_id": "u", "started_at": _at(i)} for i, n in enumerate(names)])
    _reward(store, dict(zip(names, [0.9, 0.2, 0.9, 0.9, 0.1], strict=True)))
    assert drift.events(store, min_events=3)["value"].to_list() == [1, 0, 1, 1, 0]


def _found(users, flagged):
    frame = pl.DataFrame({"user_id": users, "flagged": flagged}).with_columns(
        metric=pl.lit(drift.STATED), events=30, events_total=40, statistic=12.0, p_value=0.001, q_value=0.01,
        changed_at=pl.lit(START), before_mean=0.9, before_n=15, after_mean=0.3, after_n=15,
    )  # fmt: skip
    return frame.cast(drift.FOUND).select(list(drift.FOUND))


def _summary(scanned, flagged):
    return drift.Summary(0.05, scanned + 2, scanned, flagged, 2, 20, 7.5)


def test_the_newest_run_is_kept_in_full_and_earlier_ones_where_they_flagged(store, clock):
    assert drift.latest_run(store) is None
    assert drift.findings(store).is_empty()
    first = clock.now()
    assert drift.record(store, _found(["a", "b"], [True, False]), _summary(2, 1), data_version=3, code_version="x") == 1
    clock.moment += timedelta(days=1)
    assert drift.record(store, _found(["a", "c"], [True, False]), _summary(2, 1), data_version=4, code_version="x") == 2
    run = drift.latest_run(store)
    assert (run["run_id"], run["users"], run["scanned"], run["flagged"], run["too_few"]) == (2, 4, 2, 1, 2)
    assert run["missing_median"] == 7.5
    assert drift.findings(store)["user_id"].to_list() == ["a", "c"]
    assert drift.findings(store, flagged_only=True)["user_id"].to_list() == ["a"]
    assert drift.findings(store, run_id=1)["user_id"].to_list() == ["a"]
    assert drift.first_flagged(store, ["a", "c"]) == {"a": first}


def test_a_run_without_anyone_to_scan_is_a_run(store):
    drift.record(store, _found([], []), drift.Summary(0.05, 9, 0, 0, 9, 20, 12.0), data_version=1, code_version="x")
    assert drift.latest_run(store)["too_few"] == 9
    assert drift.findings(store).is_empty()
