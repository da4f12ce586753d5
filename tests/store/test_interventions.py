"""Known change points: what operators note, and what the store derives from what it holds."""

from datetime import UTC, datetime, timedelta

import pytest
from lesson_library import propose, read, render

from store import arms, audit, guardrails, interventions, lesson_reviews, lesson_settings, playbooks
from store.errors import ActionRefused, NotFound
from store.interventions import LEAST_TRACES, Note

START = datetime(2026, 11, 1, tzinfo=UTC)


def kinds(store, kind, **also):
    found = interventions.known(store, **also).filter(kind=kind)
    return [(row["agent"], row["title"], row["happened_at"]) for row in found.iter_rows(named=True)]


def traces(count, begin, **columns):
    name = "-".join(map(str, columns.values()))
    return [
        {"trace_id": f"{name}{begin:%d%H}{i}", "agent": "shop", "started_at": begin + timedelta(minutes=i), **columns}
        for i in range(count)
    ]


def test_a_store_without_anything_knows_of_nothing(store):
    assert interventions.known(store).is_empty()


def test_notes_are_known_until_they_are_withdrawn(store, clock):
    key = interventions.note(store, Note("campaign", " Black Friday ", START, "shop", "gold"), by="ann")
    row = interventions.known(store).row(0, named=True)
    assert row == {
        "intervention_id": key, "kind": "campaign", "agent": "shop", "segment": "gold", "happened_at": START,
        "title": "Black Friday", "origin": "noted",
    }  # fmt: skip
    assert interventions.known(store, since=START + timedelta(seconds=1)).is_empty()
    with pytest.raises(ActionRefused, match="no reason"):
        interventions.withdraw(store, key, by="ann", reason=" ")
    interventions.withdraw(store, key, by="bob", reason="never took place")
    assert interventions.known(store).is_empty()
    assert interventions.noted(store)["withdrawn_at"].to_list() == [clock.now()]
    with pytest.raises(ActionRefused, match="withdrawn already"):
        interventions.withdraw(store, key, by="bob", reason="again")
    with pytest.raises(NotFound):
        interventions.withdraw(store, "model:shop:gpt", by="bob", reason="derived")
    assert audit.recent(store)["action"].to_list() == ["intervention withdraw", "intervention note"]


def test_what_cannot_be_noted_is_refused(store):
    cases = [
        (Note("party", "x", START), "no kind"), (Note("other", " ", START), "0 characters"),
        (Note("other", "x" * 201, START), "201 characters"),
        (Note("other", "x", START.replace(tzinfo=None)), "time zone"),
        (Note("other", "x", START + timedelta(days=500)), "a year ahead"),
    ]  # fmt: skip
    for what, said in cases:
        with pytest.raises(ActionRefused, match=said):
            interventions.note(store, what, by="ann")
    with pytest.raises(ActionRefused):
        interventions.note(store, Note("other", "x", START), by="trimtab")


def test_new_versions_models_and_sources_are_known_once_there_is_enough_of_them(store, publish):
    later, last = START + timedelta(days=2), START + timedelta(days=4)
    publish(traces=[
        *traces(30, START, agent_version="1", model="m1"), *traces(30, later, agent_version="2", model="m1"),
        *traces(LEAST_TRACES - 1, last, agent_version="3", model="m2"),
        {"trace_id": "undated", "agent": "shop", "agent_version": "9"},
    ])  # fmt: skip
    assert kinds(store, "version") == [("shop", "Version 2 first seen", later)]
    assert kinds(store, "model") == []
    publish(traces=traces(1, last + timedelta(days=1), agent_version="3", model="m2", source="other"))
    assert kinds(store, "version")[1:] == [("shop", "Version 3 first seen", last)]
    assert kinds(store, "model") == [("shop", "Model m2 first seen", last)]
    assert kinds(store, "source") == []
    publish(traces=traces(LEAST_TRACES, last, agent_version="3", model="m2", source="other"))
    assert kinds(store, "source") == [(None, "Source other first seen", last)]


def test_what_changes_what_agents_are_served_is_known(store, clock):
    propose(store, "l1", agent="airline")
    propose(store, "l2", agent="airline")
    read(store, "l1")
    read(store, "l2")
    assert interventions.known(store).is_empty()  # a proposal changes nothing
    approved = clock.now()
    lesson_reviews.approve(store, "l1", version=1, operator="ann", render=render)
    clock.moment += timedelta(hours=1)
    lesson_reviews.reject(store, "l2", version=1, operator="ann", reason="no", render=render)
    assert kinds(store, "lesson") == [("airline", 'Lesson "Title of l1": approve', approved)]
    clock.moment += timedelta(hours=1)
    version = playbooks.in_force(store, "airline").version
    lesson_settings.pin(store, "airline", version, by="ann", render=render)
    assert [title for _, title, _ in kinds(store, "playbook")] == [f"Playbook pinned to version {version}"]
    clock.moment += timedelta(hours=1)
    lesson_settings.unpin(store, "airline", by="ann", render=render)
    assert [title for _, title, _ in kinds(store, "playbook")][1:] == ["Playbook released"]


def test_arms_and_guardrails_are_known_by_what_operators_did(store, clock):
    arms.define(store, "shop", "a b", kind="prompt", definition={}, origin="operator", by="ann")
    arms.define(store, "shop", "c", kind="prompt", definition={}, state="shadow", origin="operator", by="ann")
    arms.set_state(store, "shop", "c", "enabled", reason="", by="ann")
    assert [(agent, title) for agent, title, _ in kinds(store, "arm")] == [
        ("shop", "Arm a b: enabled"), ("shop", "Arm c: shadow"), ("shop", "Arm c: enabled"),
    ]  # fmt: skip
    rail = guardrails.define(store, "shop", kind="off_limits_tool", subject="pay", by="ann")
    guardrails.set_state(store, "shop", rail, "off", by="ann", reason="paying is fine")
    assert [title for _, title, _ in kinds(store, "guardrail")] == [
        "Guardrail off limits tool pay: made", "Guardrail off limits tool pay: switched off",
    ]  # fmt: skip
