"""Drift: which values a user has by each metric, what a run keeps, and that runs are told apart."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from store import drift, drift_events, drift_language, drift_states, links, rewards, trace_paths
from store.errors import NotFound

START = datetime(2026, 11, 1, tzinfo=UTC)


def _at(hours):
    return START + timedelta(hours=hours)


def _thumbs(user, values, **columns):
    return [
        {"signal_id": f"{user}-{i}", "user_id": user, "kind": "thumb", "value": value, "occurred_at": _at(i), **columns}
        for i, value in enumerate(values)
    ]


def _values(store, user, metric):
    return drift.user_events(store, user, metric)["value"].to_list()


def _categories(store, user, metric):
    return drift.user_events(store, user, metric)["category"].to_list()


def _reward(store, means):
    frame = pl.DataFrame(
        {"trace_id": list(means), "mean": list(means.values()), "sd": 0.1, "signals": 1},
        schema_overrides={"signals": pl.Int32, "mean": pl.Float64},
    )
    cells = pl.DataFrame(schema=rewards.CELLS)
    rewards.publish(store, rewards.Fitted("m", {}, frame, cells, len(means), 1, "0"))


def test_stated_satisfaction_is_thumbs_and_ratings_in_order_of_time(publish, store):
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
    links.refresh(store)
    events = drift.user_events(store, "u", drift.STATED)
    assert events.schema == drift.EVENTS
    assert events["value"].to_list() == [1, 0, 1, 0, 1, 1]
    assert events["occurred_at"].to_list() == [_at(h) for h in (0, 1, 2, 8, 9, 30)]
    assert drift.user_events(store, "u", drift.STATED, limit=2).equals(events.tail(2))
    assert drift.user_events(store, "nobody", drift.STATED).is_empty()
    with pytest.raises(NotFound, match="metric"):
        drift.user_events(store, "u", "mood")


def test_a_session_is_one_event(publish, store):
    publish(
        traces=[
            {"trace_id": f"t{i}", "agent": "a", "user_id": "u", "session_id": session, "started_at": _at(i),
             "cost_usd": cost, "task": task}
            for i, (session, cost, task) in enumerate(
                [("s", 1.0, "book"), ("s", 3.0, "cancel"), ("r", 5.0, "cancel"), (None, 7.0, "ask")]
            )
        ]
        + [{"trace_id": "timeless", "agent": "a", "user_id": "u", "cost_usd": 9.0}],
        signals=[
            {"signal_id": f"g{i}", "trace_id": trace, "kind": "thumb", "value": value, "occurred_at": _at(i)}
            for i, (trace, value) in enumerate([("t0", 1.0), ("t1", 0.0), ("t2", 0.0), ("t2", 0.0), ("t2", 1.0)])
        ],
    )  # fmt: skip
    assert _values(store, "u", "cost") == [2.0, 5.0, 7.0]
    assert _categories(store, "u", "task mix") == ["book", "cancel", "ask"]
    # What most say; yes where they tie.
    assert _values(store, "u", drift.STATED) == [1.0, 0.0]


def test_rewards_are_those_with_signals_of_their_own(publish, store):
    publish(traces=[{"trace_id": f"t{i}", "agent": "a", "user_id": "u", "started_at": _at(i)} for i in range(3)])
    _reward(store, {"t2": 0.2, "t0": 0.9})
    assert _values(store, "u", drift.REWARD) == [0.9, 0.2]


def test_shares_of_a_kind_leave_out_traces_too_new_to_tell_and_agents_without_it(publish, store):
    publish(
        traces=[
            {"trace_id": f"{agent}{i}", "agent": agent, "user_id": "u", "started_at": _at(i)}
            for agent in "ab" for i in range(10)
        ],
        signals=[
            {"signal_id": f"g{i}", "trace_id": f"a{i}", "kind": "purchase", "value": value, "occurred_at": _at(i + 3)}
            for i, value in [(0, 1.0), (2, None), (3, 0.0), (5, 1.0)]
        ],
    )  # fmt: skip
    # Bought three hours after; the newest trace is of hour 9, so those after hour 6 might still lead to one.
    assert _values(store, "u", "purchase") == [1, 0, 1, 0, 0, 1, 0]
    assert _values(store, "u", "copy") == []


def test_tools_and_calls_made_again_are_those_of_the_trace(publish, store):
    publish(
        traces=[{"trace_id": f"t{i}", "agent": "a", "user_id": "u", "started_at": _at(i)} for i in range(3)],
        spans=[
            {"trace_id": trace, "span_id": f"{number}", "ordinal": number, "kind": kind, "name": name,
             "input": "{}", "started_at": _at(0)}
            for trace, number, kind, name in [
                ("t0", 2, "tool", "book"), ("t0", 1, "tool", "look_up"), ("t1", 1, "llm", "chat"),
                ("t2", 1, "tool", "book"), ("t2", 2, "tool", "book"),
            ]
        ],
    )  # fmt: skip
    trace_paths.refresh(store)
    assert _categories(store, "u", "first tool") == ["look_up", "book"]
    assert _values(store, "u", "tool use") == [1, 0, 1]
    assert _values(store, "u", "repeated calls") == [0, 1]


def test_what_people_choose_by_is_how_far_the_chosen_lies_above_the_list(publish, store):
    publish(
        traces=[{"trace_id": f"t{i}", "agent": "a", "user_id": "u", "started_at": _at(i)} for i in range(3)],
        signals=[
            {"signal_id": f"i{trace}{at}", "trace_id": f"t{trace}", "kind": "impression", "item": f"x{at}",
             "position": at, "metadata": f'{{"sweet\'ness": {price}}}'}
            for trace in range(3) for at, price in [(1, 2.0), (2, 4.0), (3, 9.0)]
        ]
        + [
            {"signal_id": "by item", "trace_id": "t0", "kind": "click", "item": "x3"},
            {"signal_id": "by place", "trace_id": "t2", "kind": "click", "position": 1},
        ],
    )  # fmt: skip
    assert _values(store, "u", "preference: sweet'ness") == [4.0, -3.0]
    assert _values(store, "u", "preference: weight") == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Please change the seat on my flight", "English"),
        ("Bitte ändern Sie mir die Buchung auf Montag", "German"),
        ("Je voudrais annuler la réservation avec mon ami", "French"),
        ("Quiero cancelar el vuelo por favor", "Spanish"),
        ("Vorrei il volo con una valigia per Roma", "Italian"),
        ("Não posso viajar com uma mala", "Portuguese"),
        ("Ik wil graag een vlucht met mijn vriend", "Dutch"),
        ("航空券を変更してください", "Japanese"),
        ("请帮我取消预订", "Chinese"),
        ("Отмените бронирование", "Cyrillic script"),
        ("SELECT 1", "undetermined"),
        ("12345 !!", None),
    ],
)
def test_languages_are_told_apart(store, text, language):
    with store.read() as reader:
        found = reader.value(f"SELECT {drift_language.language('$text::VARCHAR')}", {"text": text})
    assert found == language


def test_slices_hold_every_user_once_in_order(publish, store):
    publish(
        traces=[
            {"trace_id": f"{user}-{i}", "agent": "a", "user_id": f"u{user}", "started_at": _at(10 - i), "task": "t"}
            for user in range(20) for i in range(3)
        ]
    )  # fmt: skip
    with store.read() as reader:
        parts = [drift_events.slice_of(reader, "task mix", 4, number) for number in range(4)]
        again = drift_events.slice_of(reader, "task mix", 4, 1)
        everyone = drift_events.slice_of(reader, "task mix", 1, 0)
        chosen = drift_events.of_users(reader, "task mix", ["u3", "u7"])
        fresh = drift_events.touched(reader, "task mix", drift_events.newest(reader))
    assert parts[1].equals(again)
    assert all(part.height < 60 for part in parts)
    assert pl.concat(parts).sort("user_id", "occurred_at").equals(everyone)
    assert everyone["draw"].is_between(0, 1).all()
    assert everyone["draw"].n_unique() == 60
    assert chosen.equals(everyone.filter(pl.col("user_id").is_in(["u3", "u7"])))
    assert fresh.is_empty()


def test_weeks_of_the_users_that_changed_most(publish, store):
    publish(
        traces=[
            {"trace_id": f"{user}-{i}", "agent": "a", "user_id": user, "cost_usd": cost,
             "started_at": datetime(2026, 11, 2, tzinfo=UTC) + timedelta(days=3 * i)}
            for user, costs in (("a", [1.0, 1.0, 1.0, 5.0]), ("b", [2.0] * 4)) for i, cost in enumerate(costs)
        ]
    )  # fmt: skip
    frame = _found(["b", "a"], [False, True]).with_columns(metric=pl.lit("cost"), p_value=pl.Series([0.9, 0.001]))
    drift.record(store, frame, _summary(2, 1), data_version=1, code_version="x")
    weeks = drift.users_by_week(store, metric="cost", limit_users=5, weeks=12)
    assert weeks.schema == drift.BY_WEEK
    monday = datetime(2026, 11, 2, tzinfo=UTC)
    assert weeks.select("user_id", "week", "mean", "n").rows() == [
        ("a", monday, 1.0, 3), ("a", monday + timedelta(days=7), 5.0, 1),
        ("b", monday, 2.0, 3), ("b", monday + timedelta(days=7), 2.0, 1),
    ]  # fmt: skip
    # Mean 2, standard deviation 2: a week of three values is off by 1, of one by 3.
    assert weeks["z"].to_list()[:2] == pytest.approx([-1 / (2 / 3**0.5), 1.5])
    assert weeks["z"].to_list()[2:] == [None, None]
    assert drift.users_by_week(store, metric="cost", limit_users=1, weeks=1)["user_id"].to_list() == ["a"]


def _found(users, flagged):
    frame = pl.DataFrame({"user_id": users, "flagged": flagged}, schema={"user_id": pl.String, "flagged": pl.Boolean})
    frame = frame.with_columns(
        level=pl.lit("user"), segment=pl.lit(None), agent=pl.lit(None), likelihood=pl.lit("bernoulli"),
        metric=pl.lit(drift.STATED), events=30, events_total=40, statistic=12.0, p_value=0.001, q_value=0.01,
        changed_at=pl.lit(START), changed_from=pl.lit(START), changed_to=pl.lit(START), before_mean=0.9, before_n=15,
        after_mean=0.3, after_n=15, effect=-0.5, effect_sd=0.1, practical=0.99, category=pl.lit(None), psi=None,
    )  # fmt: skip
    return frame.select(list(drift.FOUND)).cast(drift.FOUND)


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
    assert drift.findings(store, user_id="c", level="user", metric=drift.STATED)["user_id"].to_list() == ["c"]
    assert drift.findings(store, segment="x").is_empty()
    assert drift.first_flagged(store, ["a", "c"]) == {"a": first}
    assert drift.runs(store)["run_id"].to_list() == [2, 1]


def test_a_run_without_anyone_to_scan_is_a_run(store):
    drift.record(store, _found([], []), drift.Summary(0.05, 9, 0, 0, 9, 20, 12.0), data_version=1, code_version="x")
    assert drift.latest_run(store)["too_few"] == 9
    assert drift.findings(store).is_empty()


def test_findings_can_be_explained_and_that_taken_back(store):
    population = _found([None], [True]).with_columns(level=pl.lit("population"), agent=pl.lit("shop"))
    rows = pl.concat([_found(["a", "b"], [True, True]), population])
    run = drift.record(store, rows, _summary(2, 2), data_version=1, code_version="x")
    said = drift.findings(store).filter(pl.col("user_id").is_null() | (pl.col("user_id") == "a"))
    said = said.with_columns(explained_by=pl.lit("lesson:1"))
    assert store.write(lambda connection: drift.explain(connection, run, said)) == 2
    left = drift.findings(store, unexplained_only=True)
    assert left["user_id"].to_list() == ["b"]
    back = said.filter(level="population").with_columns(explained_by=pl.lit(None, pl.String))
    assert store.write(lambda connection: drift.explain(connection, run, back)) == 1
    assert drift.findings(store, unexplained_only=True)["level"].to_list() == ["population", "user"]


def test_fresh_findings_take_the_place_of_a_users_own(store, clock):
    run = drift.record(store, _found(["a", "b"], [False, True]), _summary(2, 1), data_version=1, code_version="x")
    clock.moment += timedelta(hours=1)
    fresh = _found(["a"], [False]).with_columns(p_value=pl.lit(1e-6))
    gated = _found(["a", "b"], [True, False]).with_columns(q_value=pl.Series([0.02, 0.3]))
    assert drift.revise(store, run, fresh, gated) == 1
    rows = {row["user_id"]: row for row in drift.findings(store).iter_rows(named=True)}
    assert (rows["a"]["p_value"], rows["a"]["q_value"], rows["a"]["flagged"]) == (1e-6, 0.02, True)
    assert (rows["b"]["q_value"], rows["b"]["flagged"]) == (0.3, False)
    assert rows["a"]["found_at"] == clock.now() > rows["b"]["found_at"]
    newest = drift.latest_run(store)
    assert (newest["flagged"], newest["rescanned"], newest["refreshed_at"]) == (1, 1, clock.now())


def test_states_are_replaced_user_by_user(store, clock):
    assert drift_states.standing(store) is None
    sums = ("mean", "m2", "minimum", "maximum", "s_plus", "s_minus", "reference_mean", "reference_sd")
    states = pl.DataFrame(
        {"user_id": ["a", "b"], "metric": "cost", "n": [3, 4], "suspected": False, "first_at": START, "last_at": START,
         **dict.fromkeys(sums, 0.0)}
    ).select(list(drift_states.STATES)).cast(drift_states.STATES)  # fmt: skip
    drift_states.replace_all(store, states, publication=5)
    assert drift_states.standing(store) == (5, clock.now())
    drift_states.replace(store, states.tail(1).with_columns(n=9), publication=7)
    assert drift_states.standing(store) == (7, clock.now())
    assert [drift_states.of_user(store, user)["n"].to_list() for user in "abc"] == [[3], [9], []]
    drift_states.replace_all(store, states.head(1), publication=8)
    with store.read() as reader:
        assert drift_states.of_metric(reader, "cost")["user_id"].to_list() == ["a"]


def test_calibrations_are_kept_by_schedule(store):
    drift_states.keep(store, {"b": "[2]", "a": "[1]"})
    drift_states.keep(store, {"a": "[3]"})
    assert drift_states.calibrations(store) == {"a": "[3]", "b": "[2]"}
