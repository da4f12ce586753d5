"""Users: one row each whatever names them, searched, sorted and paged; one user counted afresh."""

from datetime import timedelta

import pytest
from loop_data import NOW

from store import links, users
from store.errors import NotFound

HOSTILE_IDS = ("<b>x</b>", "**bold** [a](http://e)", "x" * 5_000, "🦊🦊", "per%cent_under", "' OR 1=1 --")


def _reward(store, means, *, signals=1):
    """A reward for each trace, as the reward job would write it."""

    def work(connection):
        connection.execute(
            "INSERT INTO reward_models VALUES (1, 'm', $now, 1, 1, 1, '{}', 'c', true)", {"now": store.clock.now()}
        )
        for trace, mean in means.items():
            connection.execute("INSERT INTO rewards VALUES (?, 1, ?, 0.1, ?, NULL, NULL)", [trace, mean, signals])

    store.write(work)


def _traces(user, count, *, start=NOW - timedelta(days=30), **more):
    return [
        {"trace_id": f"{user[:20]}-{number}", "user_id": user, "agent": f"agent {number % 2}",
         "started_at": start + timedelta(hours=number), **more}
        for number in range(count)
    ]  # fmt: skip


def test_nobody_is_counted_in_an_empty_store(store):
    assert users.latest_run(store) is None
    assert users.count(store) == 0
    assert users.page(store).total == 0
    assert users.segments(store) == []
    with pytest.raises(NotFound):
        users.one(store, "nobody")


def test_a_user_is_counted_from_traces_and_from_signals(store, publish):
    publish(
        traces=_traces("ada", 3, metadata={"segment": "early"}),
        signals=[
            {"signal_id": "a", "trace_id": "ada-0", "kind": "thumb", "value": 1.0, "occurred_at": NOW},
            {
                "signal_id": "b",
                "user_id": "ada",
                "kind": "preference",
                "name": "stated_goal",
                "item": "x",
                "value": 1.0,
            },
            {"signal_id": "c", "user_id": "only signals", "kind": "click", "occurred_at": NOW},
        ],
    )
    links.refresh(store)
    assert users.count(store) == 2
    rows = {row["user_id"]: row for row in users.page(store, sort="name").rows.to_dicts()}
    assert rows["ada"]["traces"] == 3
    assert rows["ada"]["agents"] == 2
    assert rows["ada"]["segment"] == "early"
    assert (rows["ada"]["signals"], rows["ada"]["explicit"]) == (2, 2)
    assert (rows["only signals"]["traces"], rows["only signals"]["signals"]) == (0, 1)
    assert rows["only signals"]["weeks"] == []
    assert users.latest_run(store).users == 2
    fresh = users.one(store, "ada").row(0, named=True)
    assert {name: rows["ada"][name] for name in fresh} == fresh


def test_rewards_are_of_traces_with_signals_of_their_own_and_by_week(store, publish):
    publish(traces=[*_traces("ada", 2, start=NOW - timedelta(days=8)), *_traces("bob", 1, start=NOW)])
    _reward(store, {"ada-0": 0.2, "ada-1": 0.4})
    users.count(store)
    rows = {row["user_id"]: row for row in users.page(store).rows.to_dicts()}
    assert rows["ada"]["rewarded"] == 2
    assert rows["ada"]["reward"] == pytest.approx(0.3)
    assert rows["ada"]["reward_variance"] == pytest.approx(0.02)
    weeks = rows["ada"]["weeks"]
    assert len(weeks) == users.WEEKS
    assert [value for value in weeks if value is not None] == [pytest.approx(0.3)]
    assert weeks[-2] == pytest.approx(0.3)
    assert rows["bob"]["rewarded"] == 0
    per_week = users.reward_per_week(store, "ada")
    assert per_week["rewarded"].to_list() == [2]


def test_rewards_without_signals_do_not_count(store, publish):
    publish(traces=_traces("ada", 2))
    _reward(store, {"ada-0": 0.9, "ada-1": 0.9}, signals=0)
    users.count(store)
    assert users.page(store).rows["reward"].to_list() == [None]


@pytest.mark.parametrize("sort", users.SORTS)
def test_pages_of_every_order_hold_each_user_once(store, publish, sort):
    publish(traces=[row for number in range(23) for row in _traces(f"user {number:02}", 1 + number % 3)])
    users.count(store)
    pages = [users.page(store, sort=sort, limit=10, offset=offset) for offset in (0, 10, 20)]
    assert {page.total for page in pages} == {23}
    listed = [user for page in pages for user in page.rows["user_id"]]
    assert sorted(listed) == [f"user {number:02}" for number in range(23)]


def test_the_lowest_reward_leaves_users_with_too_few_traces_to_the_end(store, publish):
    publish(traces=[*_traces("good", 12), *_traces("bad", 12), *_traces("few", 2)])
    _reward(store, {f"good-{n}": 0.8 for n in range(12)} | {f"bad-{n}": 0.3 for n in range(12)} | {"few-0": 0.01})
    users.count(store)
    assert users.page(store, sort="lowest reward").rows["user_id"].to_list() == ["bad", "good", "few"]
    assert users.page(store, sort="highest reward").rows["user_id"].to_list() == ["good", "bad", "few"]


def test_search_takes_every_character_as_it_is(store, publish):
    publish(traces=[row for user in HOSTILE_IDS for row in _traces(user, 1, agent="a")])
    users.count(store)
    for user in HOSTILE_IDS:
        found = users.page(store, search=user[:200])
        assert user in found.rows["user_id"].to_list()
        assert users.one(store, user)["traces"].to_list() == [1]
    assert users.page(store, search="%").rows["user_id"].to_list() == ["per%cent_under"]
    assert users.page(store, search="PER%CENT").total == 1
    assert users.page(store, search="no such").total == 0


def test_a_segment_narrows_the_list_and_the_latest_counts(store, publish):
    publish(
        traces=[
            *_traces("ada", 1, metadata={"segment": "old"}),
            {"trace_id": "later", "user_id": "ada", "started_at": NOW, "metadata": {"segment": "new"}},
            *_traces("bob", 1, metadata={"segment": "old"}),
        ]
    )
    users.count(store)
    assert users.page(store, segment="new").rows["user_id"].to_list() == ["ada"]
    assert users.segments(store) == ["new", "old"]


def test_signals_by_kind_of_one_user(store, publish):
    publish(
        traces=_traces("ada", 2),
        signals=[
            {"signal_id": "a", "trace_id": "ada-0", "kind": "thumb", "value": 1.0, "occurred_at": NOW},
            {"signal_id": "b", "trace_id": "ada-1", "kind": "thumb", "value": 0.0, "occurred_at": NOW},
            {"signal_id": "c", "user_id": "bob", "kind": "thumb", "value": 0.0, "occurred_at": NOW},
        ],
    )
    rows = users.by_kind(store, "ada").to_dicts()
    assert [(row["kind"], row["signals"], row["mean"], row["traces"]) for row in rows] == [("thumb", 2, 0.5, 2)]
