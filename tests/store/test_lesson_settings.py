"""Settings of lessons: inherited, audited, with kill switches and time travel to an earlier playbook."""

import json
from datetime import timedelta

import polars as pl
import pytest
from lesson_library import act, approve, propose, render, undo

from pipelines.lessons import review
from store import audit, lesson_reviews, lesson_serving, lesson_settings, lessons, payoffs, playbooks
from store.errors import ActionRefused, NotFound, SettingsError
from store.lesson_reviews import SYSTEM, Scope


def put(store, agent="airline", **changed):
    return lesson_settings.put(store, agent, by="Ada", render=render, **changed)


def served(store, agent="airline"):
    book = playbooks.in_force(store, agent)
    return None if book is None else [(entry.lesson_id, entry.version) for entry in book.entries]


def test_an_agent_inherits_from_every_agent_and_from_the_defaults(store):
    assert lesson_settings.of(store, "airline") == lesson_settings.LessonSettings("airline")
    put(store, "*", two_person=True, canary_holdout=0.3, token_budget=500)
    put(store, two_person=False, canary_holdout=0.4)
    found = lesson_settings.of(store, "airline")
    assert (found.two_person, found.canary_holdout, found.active_holdout, found.token_budget) == (False, 0.4, 0.1, 500)
    put(store, canary_holdout=None)
    assert lesson_settings.of(store, "airline").canary_holdout == 0.3
    assert lesson_settings.listed(store)["agent"].to_list() == ["*", "airline"]


def test_a_setting_that_cannot_be_is_refused_by_name(store):
    for changed in (
        {"canary_holdout": 0.0}, {"active_holdout": 1.0}, {"active_holdout": float("nan")}, {"empty_share": -0.1},
        {"token_budget": 50}, {"token_budget": 200.5}, {"two_person": 1}, {"two_person": "yes"}, {"empty_share": True},
        {"serving_off": "me"}, {"pinned_playbook": 1}, {"colour": "red"},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(changed))):
            put(store, **changed)
    with pytest.raises(SettingsError):
        put(store, " ", two_person=True)
    with pytest.raises(ActionRefused, match="no person"):
        lesson_settings.put(store, "airline", by=SYSTEM, render=render, two_person=True)
    assert lesson_settings.listed(store).is_empty()
    assert audit.recent(store).is_empty()


def test_changes_are_audited_with_before_and_after_and_playbooks_follow(store):
    propose(store, "l")
    approve(store)
    assert put(store, active_holdout=0.25, token_budget=900) == {"airline": 2}
    book = playbooks.in_force(store, "airline")
    assert (book.entries[0].holdout, book.settings.token_budget, book.cause) == (0.25, 900, "settings")
    entry = audit.recent(store).row(0, named=True)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "lesson set", "lessons of airline")
    detail = json.loads(entry["detail"])
    assert detail["before"] == {"active_holdout": None, "token_budget": None}
    assert detail["after"] == {"active_holdout": 0.25, "token_budget": 900}
    count = audit.count(store)
    assert put(store, active_holdout=0.25) == {}
    assert audit.count(store) == count
    assert put(store, two_person=True) == {}


def test_the_kill_switch_of_an_agent_serves_it_nothing_until_it_is_taken_back(store):
    propose(store, "l")
    propose(store, "other", agent="billing")
    approve(store)
    approve(store, "other")
    with pytest.raises(ActionRefused, match="reason"):
        lesson_settings.kill(store, "airline", reason=" ", by="Ada", render=render)
    lesson_settings.kill(store, "airline", reason="they invent fees", by="Ada", render=render)
    book = playbooks.in_force(store, "airline")
    assert (book.entries, book.body, book.settings.off) == ((), "", "they invent fees")
    assert served(store, "billing") == [("other", 1)]
    propose(store, "new")
    assert approve(store, "new").playbooks == {}
    lesson_settings.restore_serving(store, "airline", by="Ada", render=render)
    assert served(store) == [("l", 1), ("new", 1)]
    with pytest.raises(ActionRefused, match="serving is on"):
        lesson_settings.restore_serving(store, "airline", by="Ada", render=render)


def test_the_kill_switch_of_every_agent_holds_whatever_an_agent_says(store):
    propose(store, "l")
    propose(store, "other", agent="billing")
    approve(store)
    approve(store, "other")
    lesson_settings.kill(store, "airline", reason="own", by="Ada", render=render)
    made = lesson_settings.kill(store, "*", reason="an attack", by="Ada", render=render)
    assert made == {"airline": 3, "billing": 2}
    assert (served(store), served(store, "billing")) == ([], [])
    with pytest.raises(ActionRefused, match="off for every agent"):
        lesson_settings.restore_serving(store, "billing", by="Ada", render=render)
    lesson_settings.restore_serving(store, "*", by="Ada", render=render)
    assert (served(store), served(store, "billing")) == ([], [("other", 1)])


@pytest.fixture
def traveller(store):
    """Playbook 2 serves a and b; then a was edited, b retired and c approved."""
    propose(store, "a", "b", "c")
    approve(store, "a")
    approve(store, "b")
    put(store, token_budget=700)
    act(store, "edit", "a")
    act(store, "retire", "b")
    approve(store, "c")
    assert served(store) == [("a", 2), ("c", 1)]
    return store


def pin(store, version, agent="airline"):
    return lesson_settings.pin(store, agent, version, by="Ada", render=render)


def test_an_earlier_playbook_is_served_exactly_until_it_is_unpinned(traveller):
    made = pin(traveller, 2)
    book = playbooks.in_force(traveller, "airline")
    assert made == {"airline": book.version}
    assert (served(traveller), book.settings.pinned, book.settings.token_budget) == ([("a", 1), ("b", 1)], 2, 2000)
    assert book.body == playbooks.body(traveller, "airline", 2)
    assert book.entries == playbooks.at(traveller, "airline", 2).entries
    assert act(traveller, "retire", "c").playbooks == {}
    assert lesson_settings.unpin(traveller, "airline", by="Ada", render=render) == {"airline": book.version + 1}
    assert served(traveller) == [("a", 2)]
    with pytest.raises(ActionRefused, match="no playbook is pinned"):
        lesson_settings.unpin(traveller, "airline", by="Ada", render=render)
    with pytest.raises(NotFound):
        pin(traveller, 99)
    with pytest.raises(ActionRefused, match="one agent"):
        pin(traveller, 1, "*")


def test_what_was_paused_or_demoted_since_is_left_out_of_a_pinned_playbook_and_named(traveller, clock):
    undo(traveller, act(traveller, "demote", "a", reason="looked bad"))
    act(traveller, "demote", "a", operator=SYSTEM, reason="payoff -0.2 [-0.3, -0.1]")
    pin(traveller, 2)
    book = playbooks.in_force(traveller, "airline")
    assert (served(traveller), dict(book.settings.left_out)) == ([("b", 1)], {"a": "demoted: payoff -0.2 [-0.3, -0.1]"})
    sequence = lessons.undoable(traveller, lesson_id="a")["sequence"][0]
    lesson_reviews.undo(traveller, "a", sequence=sequence, operator="Bob", render=render)
    assert served(traveller) == [("a", 1), ("b", 1)]
    assert act(traveller, "pause", "a").playbooks != {}
    book = playbooks.in_force(traveller, "airline")
    assert (served(traveller), dict(book.settings.left_out)) == ([("b", 1)], {"a": "paused: because"})
    act(traveller, "resume", "a")
    act(traveller, "demote", "a", to="canary")
    assert dict(playbooks.in_force(traveller, "airline").settings.left_out) == {"a": "demoted: because"}
    act(traveller, "promote", "a")
    assert served(traveller) == [("a", 1), ("b", 1)]


def test_a_pause_reaches_a_pinned_playbook_of_an_agent_that_the_lesson_is_not_for_any_more(traveller):
    pin(traveller, 2)
    act(traveller, "edit", "a", text=None, scope=Scope("billing"))
    assert (served(traveller), served(traveller, "billing")) == ([("a", 1), ("b", 1)], [("a", 3)])
    act(traveller, "pause", "a")
    assert (served(traveller), served(traveller, "billing")) == ([("b", 1)], [])


def test_a_demotion_that_a_pinned_playbook_was_made_by_does_not_count_against_it(store):
    propose(store, "l")
    approve(store)
    made = act(store, "demote", to="canary").playbook_version
    act(store, "retire")
    pin(store, made)
    assert served(store) == [("l", 1)]
    pin(store, 1)
    assert served(store) == []


def test_a_kill_switch_holds_for_a_pinned_playbook(traveller):
    pin(traveller, 2)
    lesson_settings.kill(traveller, "*", reason="stop", by="Ada", render=render)
    assert served(traveller) == []
    lesson_settings.restore_serving(traveller, "*", by="Ada", render=render)
    assert served(traveller) == [("a", 1), ("b", 1)]


def test_a_playbook_from_before_entries_were_kept_is_pinned_with_the_texts_of_its_time(traveller, clock):
    traveller.write(
        lambda connection: connection.execute(
            "UPDATE playbooks SET entries = NULL, settings = NULL, created_at = created_at WHERE version = 2"
        )
    )
    traveller.write(
        lambda connection: connection.execute(
            "UPDATE lesson_versions SET created_at = created_at + INTERVAL 1 HOUR WHERE version > 1"
        )
    )
    pin(traveller, 2)
    assert served(traveller) == [("a", 1), ("b", 1)]


def test_an_expired_lesson_leaves_the_playbook_without_anybody_acting(store, clock):
    propose(store, "l", "forever", expires_at=None)
    approve(store)
    approve(store, "forever")
    act(store, "edit", text=None, expires_at=clock.now() + timedelta(hours=1))
    assert lesson_serving.due(store, clock.now()) == []
    clock.moment += timedelta(hours=1)
    assert lesson_serving.due(store, clock.now()) == ["airline"]
    made = lesson_serving.rerender(store, ["airline"], render, "expired")
    assert made == {"airline": playbooks.in_force(store, "airline").version}
    assert served(store) == [("forever", 1)]
    assert lessons.one(store, "l")["expired"] is True
    assert lesson_serving.due(store, clock.now()) == []
    newest = audit.recent(store).row(0, named=True)
    assert (newest["actor"], newest["action"], json.loads(newest["detail"])["cause"]) == (
        SYSTEM, "lesson rerender", "expired",
    )  # fmt: skip
    assert lesson_serving.rerender(store, ["*"], render, "again") == {}


def test_an_expired_lesson_is_not_in_a_pinned_playbook(store, clock):
    propose(store, "l", expires_at=clock.now() + timedelta(hours=1))
    approve(store)
    pin(store, 1)
    clock.moment += timedelta(hours=1)
    assert lesson_serving.due(store, clock.now()) == ["airline"]
    lesson_serving.rerender(store, ["airline"], render, "expired")
    assert (served(store), dict(playbooks.in_force(store, "airline").settings.left_out)) == ([], {"l": "expired"})


def test_measured_payoffs_are_in_the_entries_of_the_agent_that_they_are_of(store):
    propose(store, "all", agent="*")
    propose(store, "l")
    propose(store, "other", agent="billing")
    for name in ("all", "l", "other"):
        approve(store, name)
    row = {
        "agent": "airline", "kind": "lesson", "lesson_id": "all", "version": 1, "measure": "outcome",
        "estimator": "doubly robust", "served": 30, "withheld": 10, "units": 20, "effect": 0.3, "lower": 0.1,
        "upper": 0.5, "sd": 0.1, "posterior": 0.2, "posterior_sd": 0.08, "verdict": "better",
    }  # fmt: skip
    rows = [row, {**row, "segment": "new", "posterior": 0.9}, {**row, "measure": "cost_usd", "posterior": 0.8},
            {**row, "lesson_id": "l", "version": 7}]  # fmt: skip
    payoffs.publish(
        store, pl.DataFrame(rows, schema=payoffs.PAYOFFS), message="m", data_version=1, code_version="0",
        reward_model_id=None,
    )  # fmt: skip
    assert lesson_serving.rerender(store, ["*"], render, "payoffs") == {"airline": 3}
    found = {entry.lesson_id: entry for entry in playbooks.in_force(store, "airline").entries}
    assert (found["all"].payoff, found["all"].payoff_sd, found["all"].payoff_n) == (0.2, 0.08, 40)
    assert (found["l"].payoff, found["l"].payoff_n) == (None, 0)
    assert playbooks.in_force(store, "billing").entries[0].payoff is None


def test_the_difference_of_two_playbooks(traveller):
    act(traveller, "edit", "c", text=None, scope=Scope("airline", "refund"))
    newest = playbooks.in_force(traveller, "airline").version
    found = playbooks.difference(traveller, "airline", 2, newest)
    assert [entry.lesson_id for entry in found.added] == ["c"]
    assert [entry.lesson_id for entry in found.removed] == ["b"]
    assert [(old.version, new.version) for old, new in found.changed] == [(1, 2)]
    assert (found.settings[0].token_budget, found.settings[1].token_budget) == (2000, 700)
    same = playbooks.difference(traveller, "airline", 2, 2)
    assert same == playbooks.Difference((), (), (), None)
    with pytest.raises(NotFound):
        playbooks.difference(traveller, "airline", 1, 99)


def traces(store, agent, *ids):
    row = "($id, 'a file', $agent, $now, 'ok', 0, 0, 0, 1)"
    columns = "trace_id, source, agent, seen_at, status, span_count, error_count, tool_count, batch_id"
    for trace_id in ids:
        told = {"id": trace_id, "agent": agent, "now": store.clock.now()}
        store.write(lambda c, told=told: c.execute(f"INSERT INTO traces ({columns}) VALUES {row}", told))


def test_an_agent_that_is_new_is_served_the_lessons_for_every_agent(store):
    propose(store, "all", agent="*")
    approve(store, "all")
    assert lesson_serving.newcomers(store) == []
    traces(store, "new", "t", "u")
    assert lesson_serving.newcomers(store) == ["new"]
    assert set(review.expire(store)) == {"new"}
    assert [entry.lesson_id for entry in playbooks.in_force(store, "new").entries] == ["all"]
    assert lesson_serving.newcomers(store) == []
    lesson_settings.kill(store, "*", reason="off", by="Ada", render=render)
    traces(store, "newer", "v")
    assert lesson_serving.newcomers(store) == []
