"""What people chose from, said and compared, as the preferences job reads it; and what it writes, as pages read it."""

import polars as pl
import pytest
from loop_data import NOW

from store import links, preferences


def _shown(trace, *items, session=None, **more):
    about = {"session_id": session} if session else {"trace_id": trace}
    return [
        {"signal_id": f"{trace}-{place}", "kind": "impression", "item": item, "position": place, "propensity": 0.5,
         "occurred_at": NOW, **about, "metadata": metadata, **more}
        for place, (item, metadata) in enumerate(items, start=1)
    ]  # fmt: skip


def _click(trace, **fields):
    return {"signal_id": f"click-{trace}-{sorted(fields.items())}", "trace_id": trace, "kind": "click",
            "occurred_at": NOW, **fields}  # fmt: skip


TRACES = [
    {"trace_id": "t1", "agent": "shop", "arm": "a", "user_id": "ada", "session_id": "s1", "started_at": NOW},
    {"trace_id": "t2", "agent": "shop", "arm": "b", "user_id": "bob", "session_id": "s2", "started_at": NOW},
    {"trace_id": "nobody", "agent": "shop", "arm": "b", "started_at": NOW},
]


def test_features_are_counted_where_they_are_numbers(store, publish):
    publish(
        traces=TRACES,
        signals=_shown(
            "t1",
            ("x", {"price": 1.5, "brand": "acme", "stock": "3", 'odd"name': 1.0, "flag": True}),
            ("y", {"price": 2, "brand": "7"}),
            ("z", None),
        ),
    )
    names = {row["name"]: row for row in preferences.feature_names(store).to_dicts()}
    assert (names["price"]["numeric"], names["price"]["sampled"]) == (2, 3)
    assert (names["brand"]["items"], names["brand"]["numeric"]) == (2, 1)
    assert names["stock"]["numeric"] == 1
    assert names["flag"]["numeric"] == 0
    assert 'odd"name' not in names
    assert {row["agent"] for row in names.values()} == {"shop"}


def test_a_list_is_what_was_shown_and_what_was_chosen_of_it(store, publish):
    publish(
        traces=TRACES,
        signals=[
            *_shown("t1", ("x", {"price": 1.5}), ("y", {"price": "cheap"})),
            _click("t1", item="y"),
            _click("t1", item="never shown"),
            *_shown("t2", ("x", {"price": -1}), ("z", {})),
            _click("t2", position=1),
            _click("t2", item="z", value=0.0),
        ],
    )
    frame = preferences.shown_sets(store, ["price"])
    assert frame.select("trace_id", "user_id", "arm", "item", "position", "chosen", "feature_0").rows() == [
        ("t1", "ada", "a", "x", 1, False, 1.5),
        ("t1", "ada", "a", "y", 2, True, None),
        ("t2", "bob", "b", "x", 1, True, -1.0),
        ("t2", "bob", "b", "z", 2, False, None),
    ]


def test_lists_are_found_by_session_and_shown_twice_counts_once(store, publish):
    publish(
        traces=TRACES,
        signals=[
            *_shown("t1", ("x", {"price": 1.0}), session="s1"),
            {**_shown("t1", ("x", {"price": 1.0}), session="s1")[0], "signal_id": "again"},
            {"signal_id": "c", "session_id": "s1", "kind": "click", "item": "x", "occurred_at": NOW},
        ],
    )
    links.refresh(store)
    assert preferences.shown_sets(store, ["price"]).select("trace_id", "chosen").rows() == [("t1", True)]


def test_impressions_without_a_trace_or_a_person_are_counted_by_reason(store, publish):
    publish(
        traces=TRACES,
        signals=[
            *_shown("unknown trace", ("x", {})),
            *_shown("nobody", ("x", {})),
            {"signal_id": "loose", "user_id": "eve", "kind": "impression", "item": "x"},
            {"signal_id": "bare", "trace_id": "t1", "kind": "impression"},
        ],
    )
    assert dict(preferences.impressions_left_out(store).rows()) == {
        "neither item nor position": 1,
        "no trace is known": 1,
        "no user is known": 1,
        "the trace is not in the store": 1,
    }
    assert preferences.shown_sets(store, []).is_empty()


def test_stated_goals_and_comparisons_are_told_apart(store, publish):
    publish(
        traces=TRACES,
        signals=[
            {"signal_id": "g", "user_id": "ada", "kind": "preference", "name": "stated_goal", "item": "price",
             "value": 0.8, "occurred_at": NOW},
            {"signal_id": "w", "trace_id": "t1", "kind": "preference", "metadata": {"winner": "a", "loser": "b"}},
            {"signal_id": "c", "user_id": "bob", "kind": "preference",
             "metadata": {"chosen": "m1", "rejected": "m2", "axis": "model", "tie": True}},
            {"signal_id": "same", "user_id": "bob", "kind": "preference", "metadata": {"winner": "a", "loser": "a"}},
            {"signal_id": "none", "user_id": "bob", "kind": "preference", "text": "the first one"},
        ],
    )  # fmt: skip
    assert preferences.statements(store).select("user_id", "feature", "value").rows() == [("ada", "price", 0.8)]
    rows = set(preferences.comparisons(store).rows())
    assert rows == {("shop", "arm", "a", "b", False, "ada"), (None, "model", "m1", "m2", True, "bob")}


def test_segments_are_the_latest_a_trace_states(store, publish):
    publish(
        traces=[
            {"trace_id": "1", "user_id": "ada", "started_at": NOW.replace(hour=1), "metadata": {"segment": "old"}},
            {"trace_id": "2", "user_id": "ada", "started_at": NOW, "metadata": {"segment": "new"}},
            {"trace_id": "3", "user_id": "bob", "started_at": NOW, "metadata": {"segment": ""}},
            {"trace_id": "4", "user_id": "eve", "started_at": NOW},
        ]
    )
    assert preferences.segments(store).rows() == [("ada", "new")]


def _found(**frames):
    empty = {
        "weights": preferences.WEIGHTS, "user_weights": preferences.USER_WEIGHTS,
        "agreement": preferences.AGREEMENT, "rankings": preferences.RANKINGS,
    }  # fmt: skip

    filled = {name: pl.DataFrame(frames.get(name, []), schema=schema) for name, schema in empty.items()}
    return preferences.Preferences(lists=1, items=2, chosen=1, users=1, parameters={"anchor": "price"}, **filled)


def test_pages_read_the_newest_run_and_people_are_kept_for_it_alone(store):
    assert preferences.latest_run(store) is None
    user = {"user_id": "ada", "feature": "price", "weight": 1.0, "sd": 0.1, "leaning": 0.5}
    verdict = {"scope": "user", "user_id": "ada", "features": 2, "lists": 40, "statements": 12, "users": 1,
               "angle": 50.0, "q_value": 0.01, "contradicts": True}  # fmt: skip
    first = preferences.publish(
        store, _found(user_weights=[user], agreement=[verdict]), data_version=1, code_version="c"
    )
    assert first == 1
    assert preferences.user_weights(store, "ada")["weight"].to_list() == [1.0]
    assert preferences.user_agreement(store, "ada")["angle"] == 50.0
    assert preferences.compared_users(store) == (1, 1)
    assert preferences.contradicting(store)["user_id"].to_list() == ["ada"]
    assert preferences.publish(store, _found(), data_version=2, code_version="c") == 2
    assert preferences.latest_run(store)["parameters"] == {"anchor": "price"}
    assert preferences.user_weights(store, "ada").is_empty()
    assert preferences.user_agreement(store, "ada") is None
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM user_preferences") == 0


def test_a_run_that_cannot_be_written_leaves_the_one_before(store):
    preferences.publish(store, _found(), data_version=1, code_version="c")
    broken = preferences.Preferences(**{**vars(_found()), "parameters": {"x": float("nan")}})
    with pytest.raises(ValueError, match="JSON"):
        preferences.publish(store, broken, data_version=2, code_version="c")
    assert preferences.latest_run(store)["preference_run_id"] == 1
