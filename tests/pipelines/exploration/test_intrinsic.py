"""Where a look teaches most, whom to ask, and that noise teaches nothing."""

import numpy as np
import polars as pl
import pytest

from pipelines.exploration.intrinsic import ASK, GROUPS, groups, interest, interest_of_users, solicit_weights
from store.exploration_evidence import TASKS, USER_TASKS


def task(name: str, **changes: object) -> dict[str, object]:
    return {
        "agent": "a", "task": name, "traces": 100, "users": 20, "rewarded": 80, "novelty": 0.05, "unseen": 0.0,
        "progress": 0.0, "progress_se": 0.01, **changes,
    }  # fmt: skip


FRAME = pl.DataFrame(
    [
        task("steady"), task("learning", progress=0.08), task("noise", progress=0.08, progress_se=0.1),
        task("fresh", novelty=0.6), task("unknown", novelty=None, progress=None, progress_se=None),
        task("worse", progress=-0.2),
    ],
    schema=TASKS,
)  # fmt: skip


def test_progress_and_novelty_interest_but_noise_does_not() -> None:
    found = dict(interest(FRAME).select("task", "interest").iter_rows())
    assert found["learning"] == pytest.approx(1 - np.exp(-1.6) * 0.95)
    assert found["fresh"] == pytest.approx(0.6)
    assert found["noise"] == found["steady"] == found["worse"] == pytest.approx(0.05)
    assert found["unknown"] == 0.0


def test_a_user_is_as_interesting_as_the_tasks_they_bring() -> None:
    brought = pl.DataFrame(
        [("a", "ada", "learning", 3), ("a", "ada", "steady", 1), ("a", "bob", "steady", 5)],
        schema=USER_TASKS, orient="row",
    )  # fmt: skip
    found = dict(interest_of_users(FRAME, brought).select("user_id", "progress").iter_rows())
    assert found["bob"] == pytest.approx(0.05)
    assert found["ada"] == pytest.approx(0.75 * (1 - np.exp(-1.6) * 0.95) + 0.25 * 0.05)


def test_the_next_look_goes_where_it_teaches_most() -> None:
    arms = pl.DataFrame(
        [("a", "steady", "x", 0.8, 200), ("a", "steady", "y", 0.2, 200), ("a", "learning", "x", 0.6, 40),
         ("a", "learning", "y", 0.58, 3)],
        schema={"agent": pl.String, "task": pl.String, "arm": pl.String, "mean": pl.Float64, "n": pl.Int64},
        orient="row",
    )  # fmt: skip
    found = groups(FRAME, arms, noise={"a": 0.25})
    assert found.schema == GROUPS
    first = found.row(0, named=True)
    assert (first["task"], first["arm"]) == ("learning", "y")
    assert "A look at y" in first["reason"]
    worth = dict(found.select("task", "worth").iter_rows())
    assert worth["steady"] < worth["learning"] / 100
    assert worth["fresh"] is None
    assert groups(FRAME, arms.head(0), noise={}).height == FRAME.height


def test_those_who_answered_least_and_are_least_known_are_asked_first() -> None:
    answers = pl.DataFrame({"user_id": ["ada", "bob", "cem"], "answers": [0, 9, 0]})
    found = solicit_weights(np.array([0.2, 0.2, 0.05]), answers, 0.1)
    assert found.schema == ASK
    assert found["user_id"].to_list()[0] == "ada"
    assert found["weight"].mean() == pytest.approx(1.0)
    assert "Never gave an answer" in found["reason"][0]
    assert solicit_weights(np.empty(0), answers.head(0), 0.1).is_empty()
    even = solicit_weights(np.full(3, 0.1), answers.with_columns(answers=pl.lit(0)), 0.1)
    assert even["weight"].to_list() == pytest.approx([1.0, 1.0, 1.0])
