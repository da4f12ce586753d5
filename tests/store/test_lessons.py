"""Lessons: proposals are made once, reviews follow the states, and every text that was ever served stays."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import audit, lesson_reviews, lessons, playbooks, rewards
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.lesson_reviews import ALLOWED, LessonText
from store.playbooks import Rendered

STATES = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated")
TEXT = LessonText("Look before you book", "A booking is asked for.", None, "Call look_up first.")


def _render(active):
    body = "\n".join(f"{row['lesson_id']} {row['title']}" for row in active.iter_rows(named=True))
    return Rendered(body, tuple(active["lesson_id"]), len(body))


def _proposals(*names, agent="airline", **columns):
    rows = [
        {"lesson_id": name, "agent": agent, "task": None, "tested": True, "value": 1.0, "title": f"Title of {name}",
         "when_text": "When", "when_not": None, "do_text": "Do", "why": "Why", **columns}
        for name in names
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.PROPOSALS)


def _evidence(*names):
    rows = [(name, f"{name}-{role}", "s1", role, 0.9 if role == "good" else 0.1, 0.05, "quote")
            for name in names for role in ("bad", "good")]  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.EVIDENCE, orient="row")


def _propose(store, *names, **columns):
    return lessons.propose(store, _proposals(*names, **columns), _evidence(*names))


def _force(store, name, state):
    store.write(
        lambda connection: connection.execute(
            "UPDATE lessons SET state = $state WHERE lesson_id = $name", {"state": state, "name": name}
        )
    )


def _approve(store, name="l", version=1, operator="Ada"):
    return lesson_reviews.approve(store, name, version=version, operator=operator, render=_render)


def _act(store, action, name="l", version=1):
    if action == "approve":
        return _approve(store, name, version)
    if action == "edit":
        return lesson_reviews.edit(store, name, version=version, operator="Ada", text=TEXT, render=_render)
    function = {"reject": lesson_reviews.reject, "retire": lesson_reviews.retire}[action]
    return function(store, name, version=version, operator="Ada", reason="because", render=_render)


def _undo(store, reviewed):
    return lesson_reviews.undo(store, reviewed.lesson_id, sequence=reviewed.sequence, operator="Bob", render=_render)


def test_a_proposal_waits_with_its_text_and_evidence(store, clock):
    assert _propose(store, "l", task="airline-3", tested=False, value=2.5) == 1
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


@pytest.mark.parametrize("state", STATES)
def test_a_finding_is_never_proposed_again(store, state):
    _propose(store, "l")
    _force(store, "l", state)
    assert _propose(store, "l", "new") == 1
    assert lessons.known(store) == {"l", "new"}
    assert lessons.one(store, "l")["state"] == state
    assert lessons.evidence(store, "l").height == 2


def test_the_queue_has_tested_effects_first_then_the_most_valuable(store):
    _propose(store, "a", value=1.0)
    _propose(store, "b", value=9.0, tested=False)
    _propose(store, "c", value=2.0)
    _propose(store, "d", value=8.0)
    _approve(store, "d")
    assert lessons.queue(store)["lesson_id"].to_list() == ["c", "a", "b"]
    assert lessons.queue(store, agent="billing").is_empty()
    assert lessons.library(store, states=("active",))["lesson_id"].to_list() == ["d"]
    assert lessons.library(store).height == 4


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", list(ALLOWED))
def test_actions_are_refused_outside_their_states_and_change_nothing(store, action, state):
    _propose(store, "l")
    _force(store, "l", state)
    if state in ALLOWED[action]:
        assert _act(store, action).state == {"approve": "active", "reject": "rejected", "retire": "retired"}.get(
            action, state
        )
        return
    with pytest.raises(ActionRefused, match=f"the lesson is {state}"):
        _act(store, action)
    assert lessons.one(store, "l")["state"] == state
    assert lessons.reviews(store).is_empty()
    assert audit.recent(store).is_empty()
    assert playbooks.latest(store).is_empty()


def test_approving_writes_review_audit_row_and_playbook_together(store, clock):
    _propose(store, "l")
    done = _approve(store)
    assert (done.state, done.version, done.playbook_version) == ("active", 1, 1)
    review = lessons.reviews(store, lesson_id="l").row(0, named=True)
    assert (review["action"], review["operator"], review["previous_state"]) == ("approve", "Ada", "proposed")
    entry = audit.recent(store).row(0, named=True)
    assert (entry["sequence"], entry["actor"], entry["subject"]) == (review["sequence"], "Ada", "lesson l")
    assert json.loads(entry["detail"])["to"] == "active"
    book = playbooks.latest(store).row(0, named=True)
    assert (book["agent"], book["version"], book["body"], book["lesson_ids"], book["cause"]) == (
        "airline", 1, "l Title of l", ["l"], "approve l",
    )  # fmt: skip


def test_a_render_that_fails_leaves_everything_as_it_was(store):
    _propose(store, "l")

    def broken(active):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        lesson_reviews.approve(store, "l", version=1, operator="Ada", render=broken)
    assert lessons.one(store, "l")["state"] == "proposed"
    assert audit.recent(store).is_empty()
    assert lessons.reviews(store).is_empty()


def test_of_two_approvals_at_once_one_is_refused(store):
    _propose(store, "l")

    def attempt(operator):
        try:
            return _approve(store, operator=operator)
        except ActionRefused as refused:
            return refused

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, [f"operator {i}" for i in range(8)]))
    assert sum(isinstance(answer, ActionRefused) for answer in answers) == 7
    assert lessons.reviews(store).height == 1
    assert playbooks.versions(store, "airline").height == 1


def test_an_action_on_a_text_that_was_edited_meanwhile_is_refused(store):
    _propose(store, "l")
    assert _act(store, "edit").version == 2
    with pytest.raises(ActionRefused, match="you read version 1 and the text is at version 2"):
        _approve(store, version=1)
    assert _approve(store, version=2).state == "active"


def test_editing_an_active_lesson_serves_the_new_text_and_keeps_the_old(store):
    _propose(store, "l")
    _approve(store)
    done = _act(store, "edit")
    assert (done.state, done.version, done.playbook_version) == ("active", 2, 2)
    assert lessons.one(store, "l")["title"] == TEXT.title
    assert lessons.versions(store, "l").select("version", "title", "author").rows() == [
        (2, TEXT.title, "Ada"), (1, "Title of l", "trimtab"),
    ]  # fmt: skip
    assert playbooks.body(store, "airline", 1) == "l Title of l"
    assert playbooks.body(store, "airline", 2) == f"l {TEXT.title}"
    assert lessons.one(store, "l")["why"] == "Why"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LessonText(" ", "w", None, "d"), "'title' is empty"),
        (LessonText("t", "", None, "d"), "'when' is empty"),
        (LessonText("t", "w", None, "\n"), "'do' is empty"),
        (LessonText("t", "w", None, "x" * 2001), "2001 characters"),
        (LessonText("Title of l", "When", " ", "Do"), "same as before"),
    ],
)
def test_unusable_edits_are_refused(store, text, problem):
    _propose(store, "l")
    with pytest.raises(ActionRefused, match=problem):
        lesson_reviews.edit(store, "l", version=1, operator="Ada", text=text, render=_render)
    assert lessons.versions(store, "l").height == 1


def test_rejecting_needs_a_reason(store):
    _propose(store, "l")
    with pytest.raises(ActionRefused, match="no reason"):
        lesson_reviews.reject(store, "l", version=1, operator="Ada", reason=" \n", render=_render)
    assert _act(store, "reject").playbook_version is None
    assert lessons.reviews(store)["reason"].to_list() == ["because"]
    assert lessons.queue(store).is_empty()


def test_undo_takes_back_one_review_at_a_time(store):
    _propose(store, "l")
    edited = _act(store, "edit")
    approved = _approve(store, version=2)
    retired = _act(store, "retire", version=2)
    assert playbooks.latest(store)["body"].to_list() == [""]
    with pytest.raises(ActionRefused, match="not the last review"):
        _undo(store, approved)
    assert _undo(store, retired).state == "active"
    assert playbooks.latest(store)["body"].to_list() == [f"l {TEXT.title}"]
    with pytest.raises(ActionRefused, match="not the last review"):
        _undo(store, retired)
    assert _undo(store, approved).state == "proposed"
    back = _undo(store, edited)
    assert (back.state, back.version) == ("proposed", 3)
    assert lessons.versions(store, "l")["title"].to_list() == ["Title of l", TEXT.title, "Title of l"]
    assert lessons.undoable(store).is_empty()
    assert lessons.reviews(store)["action"].to_list() == ["undo", "undo", "undo", "retire", "approve", "edit"]
    assert playbooks.versions(store, "airline")["version"].to_list() == [4, 3, 2, 1]
    assert audit.verify(store) is None


def test_undo_is_refused_when_the_lesson_has_moved_on_without_a_review(store):
    _propose(store, "l")
    approved = _approve(store)
    _force(store, "l", "retired")
    with pytest.raises(ActionRefused, match="retired by now"):
        _undo(store, approved)


@given(actions=st.lists(st.sampled_from(["approve", "reject", "edit", "retire", "undo"]), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_undoing_everything_leads_back_to_the_proposal(actions):
    """Whatever was done in whatever order, the stack of reviews unwinds to the first state and text."""
    store = Store.open(None, clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    try:
        _propose(store, "l")
        depth = 0
        for number, action in enumerate(actions):
            version = lessons.one(store, "l")["version"]
            top = lessons.undoable(store, lesson_id="l")
            assert top.height == (depth > 0)
            try:
                if action == "undo" and depth:
                    lesson_reviews.undo(store, "l", sequence=top["sequence"][0], operator="B", render=_render)
                    depth -= 1
                elif action == "edit":
                    text = LessonText(f"Title {number}", "w", None, "d")
                    lesson_reviews.edit(store, "l", version=version, operator="A", text=text, render=_render)
                    depth += 1
                elif action != "undo":
                    _act(store, action, version=version)
                    depth += 1
            except ActionRefused:
                continue
        for _ in range(depth):
            sequence = lessons.undoable(store, lesson_id="l")["sequence"][0]
            lesson_reviews.undo(store, "l", sequence=sequence, operator="B", render=_render)
        lesson = lessons.one(store, "l")
        assert (lesson["state"], lesson["title"]) == ("proposed", "Title of l")
        assert lessons.undoable(store).is_empty()
        assert playbooks.latest(store)["body"].to_list() in ([], [""])
        assert audit.verify(store) is None
    finally:
        store.close()


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
    assert (whole.traces, whole.users, whole.traces_per_day) == (3, 2, pytest.approx(3 / 7))
    assert whole.latest == now - timedelta(days=0.1)
    one = lessons.blast_radius(store, "airline", "airline-1", now)
    assert (one.traces, one.users) == (1, 1)
    nobody = lessons.blast_radius(store, "unknown", None, now)
    assert (nobody.traces, nobody.users, nobody.latest) == (0, 0, None)


def test_rollouts_are_of_tasks_with_two_traces_that_have_signals(publish, store):
    publish(
        traces=[{"trace_id": name, "agent": "a", "task": task} for name, task in
                [("1", "x"), ("2", "x"), ("3", "y"), ("4", "y"), ("5", "z"), ("6", None)]],
        spans=[
            {"trace_id": "1", "span_id": "b", "kind": "tool", "name": "book", "ordinal": 2, "input": "x" * 50},
            {"trace_id": "1", "span_id": "a", "kind": "tool", "name": "look", "ordinal": 1, "status": "error"},
            {"trace_id": "1", "span_id": "c", "kind": "llm", "name": "say", "ordinal": 3},
            {"trace_id": "3", "span_id": "a", "kind": "tool", "name": "look", "ordinal": 1},
        ],
    )  # fmt: skip
    assert lessons.rollouts(store).is_empty()
    frame = pl.DataFrame(
        {"trace_id": list("123456"), "mean": 0.5, "sd": 0.1, "signals": [1, 2, 1, 0, 1, 1]},
        schema_overrides={"signals": pl.Int32},
    )
    rewards.publish(store, rewards.Fitted("m", {}, frame, pl.DataFrame(schema=rewards.CELLS), 6, 1, "0"))
    assert lessons.rollouts(store)["trace_id"].to_list() == ["1", "2"]
    steps = lessons.steps(store, ["1", "2"], ("tool",), characters=10)
    assert steps.select("trace_id", "span_id", "step", "status", "input").rows() == [
        ("1", "a", 1, "error", None), ("1", "b", 2, None, "x" * 10),
    ]  # fmt: skip
