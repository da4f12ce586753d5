"""Arms seen in traces: spellings are one arm, the usual one is found, names nobody could use are refused and named."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.steering.arm_discovery import discover
from store.arm_rewards import RUN
from store.arms import FOUND

_NOW = datetime(2026, 11, 20, tzinfo=UTC)


def _run(*rows):
    columns = {
        "traces": 10, "recent": 5, "model": "m1", "models": 1, "agent_version": None, "prompt_version": None,
        "latest": _NOW, "agent": "shop",
    }  # fmt: skip
    return pl.DataFrame([columns | row for row in rows]).select(RUN.names()).cast(dict(RUN))


def test_the_usual_arm_is_the_one_most_used_of_late():
    found = discover(_run({"arm": "old", "traces": 900, "recent": 3}, {"arm": "new", "traces": 50, "recent": 40}))
    assert dict(found.arms.select("arm", "usual").rows()) == {"new": True, "old": False}
    assert found.arms.schema == FOUND
    assert found.notes == ()


def test_two_spellings_are_one_arm_and_it_says_so():
    found = discover(
        _run(
            {"arm": "café", "recent": 3, "model": "m1", "latest": _NOW - timedelta(days=1)},
            {"arm": "cafe\u0301 ", "recent": 3, "model": "m2"},
            {"arm": "tea", "recent": 5},
        )
    )
    assert found.arms["arm"].to_list() == ["café", "tea"]
    assert found.arms["usual"].to_list() == [True, False]
    assert json.loads(found.arms["definition"][0]) == {"model": "m2"}
    (note,) = found.notes
    assert "are one arm, 'café'" in note
    assert repr("cafe\u0301 ") in note


def test_names_that_nobody_could_use_are_named_and_left_out():
    found = discover(_run({"arm": "a\u202eb"}, {"arm": " "}, {"arm": "x" * 201}, {"arm": "fine"}))
    assert found.arms["arm"].to_list() == ["fine"]
    (note,) = found.notes
    assert note.startswith("names that cannot be an arm's: ")
    assert "'a\\u202eb'" in note


def test_the_kind_is_what_differs_between_the_arms():
    def kinds(*rows):
        return set(discover(_run(*rows)).arms["kind"])

    assert kinds({"arm": "a", "model": "m1"}, {"arm": "b", "model": "m2"}) == {"model"}
    assert kinds({"arm": "a", "agent_version": "1"}, {"arm": "b", "prompt_version": "2"}) == {"prompt"}
    assert kinds({"arm": "a"}, {"arm": "b"}) == {"mixed"}
    assert kinds({"arm": "a", "model": "m1", "agent_version": "1"}, {"arm": "b", "model": "m2"}) == {"mixed"}


def test_no_arms_are_no_arms():
    assert discover(pl.DataFrame(schema=RUN)).arms.is_empty()
