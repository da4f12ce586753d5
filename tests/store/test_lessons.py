"""Lessons: proposals are made once, carry trust and taint, and wait in an order that operators choose."""

import json
from datetime import timedelta

import polars as pl
import pytest
from lesson_library import act, approve, evidence, force, proposals, propose

from store import audit, lessons, payoffs
from store.errors import NotFound
from store.lesson_proposals import TooManyWaiting

STATES = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated")


def test_a_proposal_waits_with_its_text_and_evidence(store, clock):
    assert propose(store, "l", task="airline-3", tested=False, value=2.5) == ["l"]
    lesson = lessons.one(store, "l")
    assert (lesson["state"], lesson["version"], lesson["origin"], lesson["author"]) == (
        "proposed", 1, "contrast", "trimtab",
    )  # fmt: skip
    assert (lesson["task"], lesson["tested"], lesson["value"], lesson["good"], lesson["bad"]) == (
        "airline-3", False, 2.5, 1, 1,
    )  # fmt: skip
    assert lesson["created_at"] == clock.now()
    assert lessons.evidence(store, "l")["role"].to_list() == ["good", "bad"]
    with pytest.raises(NotFound):
        lessons.one(store, "unknown")


def test_a_finding_is_never_proposed_again(store):
    propose(store, *STATES)
    for state in STATES:
        force(store, state, state=state)
    assert propose(store, "new", *STATES) == ["new"]
    assert lessons.known(store) == {"new", *STATES}
    for state in STATES:
        assert lessons.one(store, state)["state"] == state
        assert lessons.evidence(store, state).height == 2


def test_the_queue_has_tested_effects_first_then_the_most_valuable(store):
    propose(store, "a", value=1.0)
    propose(store, "b", value=9.0, tested=False)
    propose(store, "c", value=2.0)
    propose(store, "d", value=8.0)
    approve(store, "d")
    assert lessons.queue(store)["lesson_id"].to_list() == ["c", "a", "b"]
    assert lessons.queue(store, agent="billing").is_empty()
    assert lessons.library(store, states=("active",))["lesson_id"].to_list() == ["d"]
    assert lessons.library(store).height == 4


def test_the_queue_by_uncertainty_has_hypotheses_then_what_was_never_measured_then_the_widest(store, clock):
    propose(store, "a", value=1.0)
    propose(store, "b", tested=False, value=1.0)
    propose(store, "c", value=5.0)
    propose(store, "d", value=9.0)
    rows = [payoff("d", lower=-0.1, upper=0.1), payoff("c", lower=-0.3, upper=0.3)]
    payoffs.publish(
        store, pl.DataFrame(rows, schema=payoffs.PAYOFFS), message="m", data_version=1, code_version="0",
        reward_model_id=None,
    )  # fmt: skip
    assert lessons.queue(store, by="uncertainty")["lesson_id"].to_list() == ["b", "a", "c", "d"]
    assert lessons.queue(store)["lesson_id"].to_list() == ["d", "c", "a", "b"]


def payoff(name, *, lower, upper):
    return {
        "agent": "airline", "kind": "lesson", "lesson_id": name, "version": 1, "measure": "outcome",
        "estimator": "doubly robust", "served": 1, "withheld": 1, "units": 1, "effect": 0.0, "lower": lower,
        "upper": upper, "verdict": "can't tell yet",
    }  # fmt: skip


def test_what_was_sent_back_is_last_until_it_is_edited(store):
    propose(store, "a", value=9.0)
    propose(store, "b", value=1.0)
    act(store, "send_back", "a")
    assert lessons.queue(store).select("lesson_id", "sent_back", "state_reason").rows() == [
        ("b", False, None), ("a", True, "because"),
    ]  # fmt: skip
    act(store, "edit", "a")
    assert lessons.queue(store).select("lesson_id", "sent_back").rows() == [("a", False), ("b", False)]


def test_a_lesson_says_that_it_has_expired(store, clock):
    propose(store, "l", expires_at=clock.now() + timedelta(hours=1))
    assert lessons.one(store, "l")["expired"] is False
    clock.moment += timedelta(hours=1)
    assert lessons.one(store, "l")["expired"] is True


def test_counts_are_by_agent_and_state(store):
    propose(store, "a", "b")
    propose(store, "c", agent="*")
    approve(store, "b")
    assert lessons.counts(store).rows() == [("*", "proposed", 1), ("airline", "active", 1), ("airline", "proposed", 1)]


def test_trust_is_the_least_over_text_and_parents(store):
    propose(store, "parent", told={"origin": "model", "trust": "model"})
    people = {"origin": "operator", "trust": "operator"}
    cases = (
        ({}, {}, "system"),
        ({"origin": "model", "trust": "model"}, {}, "model"),
        ({"origin": "model", "trust": "model"}, {"trust": "operator"}, "model"),
        (people, {}, "operator"),
        (people, {"trust": "agent"}, "agent"),
        (people, {"taint": '[{"field": "do_text", "quote": "q"}]'}, "untrusted"),
        (people, {"parents": '["parent:1"]'}, "model"),
        (people, {"parents": '["nobody:1"]'}, "untrusted"),
    )
    for number, (told, columns, trust) in enumerate(cases):
        propose(store, f"l{number}", told=told, **columns)
        assert lessons.one(store, f"l{number}")["trust"] == trust


def test_proposals_without_the_newer_columns_are_taken(store):
    older = proposals("l").select("lesson_id", "agent", "task", "tested", "value", "title", "when_text", "when_not",
                                  "do_text", "why")  # fmt: skip
    assert lessons.propose(store, older, evidence("l").drop("step", "field", "verified")) == ["l"]
    assert lessons.one(store, "l")["taint"] == "[]"


def test_of_one_origin_only_so_many_wait_for_an_agent(store):
    told = {"origin": "agent", "trust": "agent", "most_waiting": 2}
    propose(store, "ours", "ours too")
    propose(store, "a", "b", told=told)
    with pytest.raises(TooManyWaiting, match="2 lessons"):
        propose(store, "c", told=told)
    assert propose(store, "a", told=told) == []
    assert propose(store, "c", told=told, agent="another") == ["c"]
    act(store, "reject", "a")
    assert propose(store, "d", told=told) == ["d"]


def test_proposals_of_agents_and_people_are_audited(store):
    propose(store, "ours")
    assert audit.recent(store).is_empty()
    propose(store, "theirs", told={"origin": "agent", "trust": "agent", "author": "key bot"})
    (row,) = audit.recent(store).to_dicts()
    assert (row["actor"], row["action"], row["subject"]) == ("key bot", "lesson propose", "lesson theirs")
    assert json.loads(row["detail"])["do_text"] == "Do"


def test_blast_radius_counts_the_last_seven_days_of_the_lessons_scope(publish, store, clock):
    now = clock.now()
    ages = [0.1, 1, 6.9, 7.1, 30]
    publish(
        traces=[
            {"trace_id": f"t{i}", "agent": "airline", "task": f"airline-{i % 2}", "user_id": f"u{i % 2}",
             "started_at": now - timedelta(days=age)}
            for i, age in enumerate(ages)
        ] + [{"trace_id": "other", "agent": "billing", "started_at": now}]
    )  # fmt: skip
    whole = lessons.blast_radius(store, "airline", None, now)
    assert (whole.traces, whole.agents, whole.users, whole.traces_per_day) == (3, 1, 2, pytest.approx(3 / 7))
    everywhere = lessons.blast_radius(store, "*", None, now + timedelta(seconds=1))
    assert (everywhere.traces, everywhere.agents, everywhere.users) == (4, 2, 2)
    assert whole.latest == now - timedelta(days=0.1)
    one = lessons.blast_radius(store, "airline", "airline-1", now)
    assert (one.traces, one.users) == (1, 1)
    nobody = lessons.blast_radius(store, "unknown", None, now)
    assert (nobody.traces, nobody.users, nobody.latest) == (0, 0, None)
