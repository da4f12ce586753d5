"""Arms: names that look the same are one, one baseline, states with reasons, all of it in the audit log."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import arms, audit, meta
from store.errors import ActionRefused, NotFound


def _define(store, arm="a", agent="shop", **more):
    given_ = {"kind": "prompt", "definition": {"prompt_version": arm[:20]}, "origin": "operator", "by": "Ada"} | more
    arms.define(store, agent, arm, **given_)


def _states(store, agent="shop"):
    return {row["arm"]: (row["state"], row["baseline"]) for row in arms.listed(store, agent=agent).to_dicts()}


def _found(*rows):
    return pl.DataFrame(
        [{"agent": a, "arm": b, "kind": "mixed", "definition": "{}", "usual": c} for a, b, c in rows],
        schema=arms.FOUND,
    )


def test_a_defined_arm_is_listed_audited_and_moves_the_data_version(store, clock):
    before = meta.data_version(store)
    _define(store, "short", definition={"prompt_version": "v5", "tools": ["search"]}, description="  Short answers ")
    row = arms.listed(store).row(0, named=True)
    assert (row["kind"], row["state"], row["origin"], row["state_by"]) == ("prompt", "enabled", "operator", "Ada")
    assert (row["description"], row["created_at"]) == ("Short answers", clock.now())
    assert json.loads(row["definition"]) == {"prompt_version": "v5", "tools": ["search"]}
    entry = audit.recent(store).row(0, named=True)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "arm define", "agent shop arm short")
    assert meta.data_version(store) == before + 1


@pytest.mark.parametrize("again", ["café", "cafe\u0301", "  café ", "\tcafé\n"])
def test_names_that_look_the_same_are_the_same_arm(store, again):
    _define(store, "café")
    with pytest.raises(ActionRefused, match="already has an arm 'café'"):
        _define(store, again)
    arms.set_state(store, "shop", again, "off", reason="slow", by="Ada")
    assert _states(store) == {"café": ("off", True)}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"), ("   ", "empty"), ("a" * 201, "201 characters"), ("a\0b", "U\\+0000"), ("a\nb", "U\\+000A"),
        ("a\u202eb", "U\\+202E"), ("a\u200bb", "U\\+200B"), ("a\ud800", "U\\+D800"),
    ],
)  # fmt: skip
def test_a_name_that_nobody_can_read_is_refused(store, name, why):
    with pytest.raises(ActionRefused, match=why):
        _define(store, name)
    with pytest.raises(ActionRefused, match=why):
        _define(store, "fine", agent=name)
    assert arms.listed(store).is_empty()
    assert audit.count(store) == 0


@given(st.text(max_size=30))
def test_cleaning_a_name_twice_changes_nothing_more(text):
    once = arms.clean_name(text)
    assert arms.clean_name(once) == once


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "magic"}, {"state": "on"}, {"definition": {"x": float("nan")}}, {"definition": {"x": object()}},
        {"definition": {"x": "y" * 16_000}}, {"description": "d" * 2_001}, {"description": "\ud800"},
        {"state": "off", "baseline": True}, {"agent": "shop "},
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(store, more):
    with pytest.raises(ActionRefused):
        _define(store, **more)
    assert arms.listed(store).is_empty()


def test_there_is_always_one_baseline_once_an_arm_is_enabled(store):
    _define(store, "shadow", state="shadow")
    assert _states(store) == {"shadow": ("shadow", False)}
    _define(store, "first")
    _define(store, "second")
    assert _states(store) == {"shadow": ("shadow", False), "first": ("enabled", True), "second": ("enabled", False)}
    arms.set_baseline(store, "shop", "second", by="Ada")
    assert [arm for arm, (_, baseline) in _states(store).items() if baseline] == ["second"]
    with pytest.raises(ActionRefused, match="Enable it first"):
        arms.set_baseline(store, "shop", "shadow", by="Ada")
    _define(store, "third", baseline=True)
    assert [arm for arm, (_, baseline) in _states(store).items() if baseline] == ["third"]
    assert json.loads(audit.recent(store)["detail"][0])["baseline"] == {"before": "second"}


def test_enabling_the_first_arm_makes_it_the_baseline(store):
    _define(store, "a", state="shadow")
    arms.set_state(store, "shop", "a", "enabled", reason="", by="Ada")
    assert _states(store) == {"a": ("enabled", True)}


def test_an_arm_that_is_switched_off_says_why_and_who_did_it(store):
    _define(store)
    with pytest.raises(ActionRefused, match="no reason"):
        arms.set_state(store, "shop", "a", "off", reason=" ", by="Ada")
    arms.set_state(store, "shop", "a", "off", reason="the floor of refunds was broken", by="trimtab")
    row = arms.listed(store).row(0, named=True)
    assert (row["state"], row["state_reason"], row["state_by"]) == ("off", "the floor of refunds was broken", "trimtab")
    count = audit.count(store)
    arms.set_state(store, "shop", "a", "off", reason="again", by="Bo")
    assert audit.count(store) == count
    assert arms.listed(store)["state_by"].to_list() == ["trimtab"]


def test_a_change_keeps_the_state(store):
    _define(store, state="shadow")
    arms.change(store, "shop", "a", kind="model", definition={"model": "m2"}, by="Bo")
    row = arms.listed(store).row(0, named=True)
    assert (row["kind"], row["state"], row["definition"]) == ("model", "shadow", '{"model": "m2"}')
    count = audit.count(store)
    arms.change(store, "shop", "a", kind="model", definition={"model": "m2"}, by="Bo")
    assert audit.count(store) == count


def test_an_unknown_arm_is_not_found(store):
    for act in (
        lambda: arms.change(store, "shop", "x", kind="model", definition={}, by="Ada"),
        lambda: arms.set_state(store, "shop", "x", "off", reason="r", by="Ada"),
        lambda: arms.set_baseline(store, "shop", "x", by="Ada"),
    ):
        with pytest.raises(NotFound, match="shop x"):
            act()


def test_an_agent_cannot_have_more_arms_than_can_be_told_apart(store):
    for number in range(arms.MAX_ARMS):
        _define(store, f"arm {number}")
    with pytest.raises(ActionRefused, match="50 arms"):
        _define(store, "one more")
    assert arms.discover(store, _found(("shop", "seen", True))) == 0


def test_arms_of_traces_wait_as_shadows_beside_the_usual_one(store):
    assert arms.discover(store, _found(("shop", "v1", False), ("shop", "v2", True), ("desk", "b", True))) == 3
    assert _states(store) == {"v2": ("enabled", True), "v1": ("shadow", False)}
    assert _states(store, "desk") == {"b": ("enabled", True)}
    assert set(audit.recent(store)["actor"]) == {"trimtab"}


def test_what_is_there_is_never_touched_by_traces(store):
    _define(store, "v1", definition={"prompt_version": "mine"}, state="shadow")
    before = arms.listed(store)
    assert arms.discover(store, _found(("shop", "v1", True), ("shop", "v2", False))) == 1
    assert _states(store) == {"v1": ("shadow", False), "v2": ("shadow", False)}
    assert arms.listed(store).filter(arm="v1").equals(before)
    assert arms.discover(store, _found(("shop", "v1", True), ("shop", "v2", False))) == 0
