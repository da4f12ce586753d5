"""One user's history: what was decided for them, taught, got wrong and chosen, held against counts made by hand."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from explore_data import PROPENSITIES, draws, steered_file
from loop_data import NOW
from publishing import publisher

from store import decisions, links, user_history
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def steered(tmp_path):
    """The steered agent."""
    path = tmp_path / "trimtab.duckdb"
    path.write_bytes(steered_file())
    opened = Store.open(path, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def test_a_user_without_anything_has_no_history(store):
    nobody = "nobody"
    for read in (user_history.explored, user_history.decided, user_history.lessons, user_history.failed):
        assert read(store, nobody).is_empty()
    assert user_history.incidents(store, nobody).is_empty()
    assert user_history.choices(store, nobody, ("price",)).is_empty()
    assert user_history.changed(store, [nobody]).is_empty()


def test_exploring_is_counted_with_the_rewards_of_both_sides(steered):
    own = decisions.recent(steered, limit=10_000).filter(user_id="user 7")
    (row,) = user_history.explored(steered, "user 7").to_dicts()
    assert (row["decisions"], row["explored"]) == (own.height, int(own["explore"].sum()))
    assert row["rate"] == pytest.approx(PROPENSITIES[1])
    assert row["rewarded_explored"] + row["rewarded_greedy"] == own.height
    listed = user_history.decided(steered, "user 7")
    assert listed["decision_id"].to_list() == own["decision_id"].to_list()
    for side, chosen in (("explored", True), ("greedy", False)):
        mean = listed.filter(explore=chosen)["reward"].mean()
        assert row[f"reward_{side}"] == pytest.approx(mean)
    assert user_history.decided(steered, "user 7", limit=3).height == 3


def test_lessons_are_counted_by_what_became_of_them_for_this_user_alone(store):
    frame = draws("shop", ("a", "b"), np.random.default_rng(1)).head(30)
    statuses = ("served", "withheld", "empty", "over_budget")
    frame = frame.with_columns(
        user_id=pl.Series(["ada" if place < 20 else "bob" for place in range(30)]),
        exposures=pl.Series(
            [
                [{"lesson_id": "l1", "lesson_version": 1, "status": statuses[place % 4], "served_probability": 0.5,
                  "match": 1.0, "tokens": 9}]
                for place in range(30)
            ],
            dtype=decisions.DECISIONS["exposures"],
        ),
        playbook_version=pl.lit(1, pl.Int32), empty_probability=pl.lit(0.1),
    )  # fmt: skip
    store.write(lambda connection: decisions.append(connection, frame))
    (row,) = user_history.lessons(store, "ada").to_dicts()
    assert (row["served"], row["withheld"], row["over_budget"]) == (5, 10, 5)
    assert (row["title"], row["rewarded_served"], row["reward_served"]) == (None, 0, None)
    assert row["latest"] == frame.filter(user_id="ada")["decided_at"].max()


def test_choices_are_what_was_chosen_minus_what_was_shown_list_by_list(store, tmp_path):
    prices = {0: (1.0, 3.0, 5.0), 1: (2.0, 4.0), 2: (7.0, 9.0)}
    chosen = {0: (0,), 1: (0, 1), 2: ()}
    traces, signals = [], []
    for number, shown in prices.items():
        moment = NOW - timedelta(days=40 * number)
        traces.append({"trace_id": f"t{number}", "user_id": "ada", "session_id": f"s{number}", "started_at": moment})
        for place, price in enumerate(shown):
            signals.append(
                {"signal_id": f"i{number}{place}", "kind": "impression", "session_id": f"s{number}",
                 "item": f"x{place}", "position": place + 1, "metadata": f'{{"price": {price}, "odd": "text"}}',
                 "occurred_at": moment}
            )  # fmt: skip
        for place in chosen[number]:
            # By its item, or by its place alone.
            named = {"item": f"x{place}"} if place == 0 else {"position": place + 1}
            signals.append(
                {"signal_id": f"c{number}{place}", "kind": "click", "session_id": f"s{number}", "value": 1.0,
                 "occurred_at": moment, **named}
            )  # fmt: skip
    publisher(store, tmp_path)(traces=traces, signals=signals)
    links.refresh(store)
    frame = user_history.choices(store, "ada", ("price", "odd"), bucket="month")
    # Of the second list everything was chosen and of the third nothing: neither says what is preferred.
    (row,) = frame.to_dicts()
    assert (row["feature"], row["lists"], row["variance"]) == ("price", 1, None)
    assert row["preferred"] == pytest.approx(1.0 - 3.0)
    assert user_history.choices(store, "bob", ("price",)).is_empty()
