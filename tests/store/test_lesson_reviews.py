"""Reviews of lessons follow the states, are one transaction each, and every text that was ever served stays."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from lesson_library import TEXT, Block, act, approve, force, propose, read, render, undo

from store import audit, lesson_links, lesson_lint, lesson_reviews, lesson_settings, lessons, playbooks
from store.errors import ActionRefused, NotFound
from store.lesson_reviews import ALLOWED, SYSTEM, LessonText, Origins, Scope

STATES = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated")
LEADS_TO = {
    "approve": "active", "reject": "rejected", "send_back": "proposed", "promote": "active", "demote": "retired",
    "retire": "retired", "supersede": "superseded", "graduate": "graduated",
}  # fmt: skip


def _any(store, action, name="l", **told):
    if action == "approve":
        version = told.pop("version", lessons.one(store, name)["version"])
        told = {"operator": "Ada", **told}
        return lesson_reviews.approve(store, name, version=version, render=render, **told)
    if action == "resume" and lessons.one(store, name)["paused"] is None:
        force(store, name, paused="why")
    if action == "supersede":
        told = {"by": "other", **told}
    return act(store, action, name, **told)


@pytest.mark.parametrize("action", list(ALLOWED))
def test_actions_are_refused_outside_their_states_and_change_nothing(store, action):
    propose(store, "other", *STATES)
    for state in STATES:
        read(store, state)
        force(store, state, state=state)
        rows = audit.count(store), lessons.reviews(store).height, playbooks.versions(store, "airline").height
        if state in ALLOWED[action]:
            expected = "proposed" if (action, state) == ("edit", "approved") else LEADS_TO.get(action, state)
            assert _any(store, action, state).state == expected
            force(store, state, state="rejected")
            continue
        with pytest.raises(ActionRefused, match=f"the lesson is {state}"):
            _any(store, action, state)
        assert lessons.one(store, state)["state"] == state
        after = audit.count(store), lessons.reviews(store).height, playbooks.versions(store, "airline").height
        assert after == rows


def test_only_persons_move_a_lesson_but_for_demotions_and_pauses(store):
    propose(store, "other", "last", *ALLOWED)
    last = approve(store, "last")
    for action, states in ALLOWED.items():
        read(store, action)
        force(store, action, state=states[0])
        for operator in (" ", SYSTEM):
            if action in ("demote", "pause") and operator == SYSTEM:
                _any(store, action, action, operator=operator)
                assert lessons.reviews(store)["operator"][0] == SYSTEM
                continue
            with pytest.raises(ActionRefused, match="is no person"):
                _any(store, action, action, operator=operator)
    for operator in (" ", SYSTEM):
        with pytest.raises(ActionRefused, match="is no person"):
            undo(store, last, operator)


def test_approving_writes_review_audit_row_and_playbook_together(store, clock):
    propose(store, "l")
    done = approve(store)
    assert (done.state, done.version, done.playbook_version, done.playbooks) == ("active", 1, 1, {"airline": 1})
    review = lessons.reviews(store, lesson_id="l").row(0, named=True)
    assert (review["action"], review["operator"], review["previous_state"]) == ("approve", "Ada", "proposed")
    entry = audit.recent(store).row(0, named=True)
    assert (entry["sequence"], entry["actor"], entry["subject"]) == (review["sequence"], "Ada", "lesson l")
    detail = json.loads(entry["detail"])
    assert (detail["before"]["state"], detail["after"]["state"]) == ("proposed", "active")
    book = playbooks.in_force(store, "airline")
    assert (book.version, book.body, book.lesson_ids, book.cause) == (1, "l 1 Title of l", ("l",), "approve l")
    (served,) = book.entries
    assert (served.lesson_id, served.version, served.state, served.holdout) == ("l", 1, "active", 0.1)


def test_a_render_that_fails_leaves_everything_as_it_was(store):
    propose(store, "l")
    read(store)

    def broken(served, budget):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        lesson_reviews.approve(store, "l", version=1, operator="Ada", render=broken)
    assert lessons.one(store, "l")["state"] == "proposed"
    assert audit.recent(store).is_empty()
    assert lessons.reviews(store).is_empty()


def test_of_two_approvals_at_once_one_is_refused(store):
    propose(store, "l")
    read(store)

    def attempt(operator):
        try:
            return lesson_reviews.approve(store, "l", version=1, operator=operator, render=render)
        except ActionRefused as refused:
            return refused

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, [f"operator {i}" for i in range(8)]))
    assert sum(isinstance(answer, ActionRefused) for answer in answers) == 7
    assert lessons.reviews(store).height == 1
    assert playbooks.versions(store, "airline").height == 1


def test_an_action_on_a_text_that_was_edited_meanwhile_is_refused(store):
    propose(store, "other", *ALLOWED)
    for action, states in ALLOWED.items():
        act(store, "edit", action, text=LessonText("Another", "When", None, "Do"))
        read(store, action)
        force(store, action, state=states[0])
        with pytest.raises(ActionRefused, match="you read version 1 and the text is at version 2"):
            _any(store, action, action, version=1)
        assert _any(store, action, action, version=2)


@pytest.mark.parametrize("action", ["approve", "promote", "resume"])
def test_what_lint_blocks_or_has_not_read_comes_no_nearer_to_agents(store, action):
    propose(store, "l")
    force(store, "l", state=ALLOWED[action][0], paused="why" if action == "resume" else None)
    call = getattr(lesson_reviews, action)

    def attempt():
        return call(store, "l", version=1, operator="Ada", render=render)

    with pytest.raises(ActionRefused, match="lint has not read version 1"):
        attempt()
    read(store, "l", Block(), Block("imperative", excerpt="pay now", message="Copied words."))
    with pytest.raises(ActionRefused, match=r"imperative: Copied words\.; literal: The text holds ada@example\.com"):
        attempt()
    lesson_lint.override(store, "l", 1, "imperative", "pay now", reason="ours", operator="Bob")
    with pytest.raises(ActionRefused, match="literal: The text holds"):
        attempt()
    assert lessons.one(store, "l")["blocks"] == 1
    lesson_lint.override(store, "l", 1, "literal", "ada@example.com", reason="our own address", operator="Bob")
    assert attempt().version == 1
    assert lessons.one(store, "l")["blocks"] == 0


def test_an_override_of_one_version_is_none_of_the_next(store):
    propose(store, "l")
    read(store, "l", Block())
    lesson_lint.override(store, "l", 1, "literal", "ada@example.com", reason="ours", operator="Bob")
    act(store, "edit", findings=(Block(),))
    with pytest.raises(ActionRefused, match="literal"):
        lesson_reviews.approve(store, "l", version=2, operator="Ada", render=render)


def test_editing_an_active_lesson_serves_the_new_text_and_keeps_the_old(store):
    propose(store, "l")
    approve(store)
    done = act(store, "edit")
    assert (done.state, done.version, done.playbook_version) == ("active", 2, 2)
    assert lessons.one(store, "l")["title"] == TEXT.title
    assert lessons.versions(store, "l").select("version", "title", "author").rows() == [
        (2, TEXT.title, "Ada"), (1, "Title of l", "trimtab"),
    ]  # fmt: skip
    assert playbooks.body(store, "airline", 1) == "l 1 Title of l"
    assert playbooks.body(store, "airline", 2) == f"l 2 {TEXT.title}"
    assert lessons.one(store, "l")["why"] == "Why"


@pytest.mark.parametrize("reason", ["blocked", "unread", "two persons"])
def test_a_served_lesson_whose_new_text_has_to_be_approved_waits_until_it_is(store, reason):
    propose(store, "l")
    approve(store)
    if reason == "two persons":
        lesson_settings.put(store, "airline", by="Ada", render=render, two_person=True)
    findings = {"blocked": (Block(),), "unread": None, "two persons": ()}[reason]
    done = act(store, "edit", findings=findings)
    assert (done.state, done.version) == ("proposed", 2)
    assert playbooks.in_force(store, "airline").entries == ()
    back = undo(store, done)
    assert (back.state, back.version) == ("active", 3)
    (served,) = playbooks.in_force(store, "airline").entries
    assert (served.version, playbooks.in_force(store, "airline").body) == (3, "l 3 Title of l")


def test_unusable_edits_are_refused(store):
    propose(store, "l")
    for told, problem in (
        ({"text": LessonText(" ", "w", None, "d")}, "'title' is empty"),
        ({"text": LessonText("t", "", None, "d")}, "'when' is empty"),
        ({"text": LessonText("t", "w", None, "\n")}, "'do' is empty"),
        ({"text": LessonText("t", "w", None, "x" * 2001)}, "2001 characters"),
        ({"text": LessonText("Title of l", "When", " ", "Do")}, "same as before"),
        ({"scope": Scope(" ")}, "names no agent"),
        ({"scope": Scope("a", task="x" * 513)}, "the task has 513 characters"),
        ({"scope": Scope("airline")}, "same as before"),
        ({"holdout": 0.0}, "the holdout is 0"),
        ({"holdout": 0.95}, "the holdout is 0.95"),
        ({"holdout": float("nan")}, "the holdout is nan"),
        ({"expires_at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001
    ):
        with pytest.raises(ActionRefused, match=problem):
            act(store, "edit", **{"text": None, **told})
    assert lessons.versions(store, "l").height == 1


def test_scope_holdout_and_expiry_are_edited_as_versions_and_undone(store, clock):
    propose(store, "l")
    approve(store)
    expiry = clock.now() + timedelta(days=3)
    done = act(store, "edit", text=None, scope=Scope("billing", "refund", "new", "u1"), holdout=0.5, expires_at=expiry)
    assert (done.version, done.agent, done.playbooks) == (2, "billing", {"airline": 2, "billing": 1})
    assert playbooks.in_force(store, "airline").entries == ()
    (served,) = playbooks.in_force(store, "billing").entries
    assert (served.agent, served.task, served.segment, served.user_id, served.holdout, served.expires_at) == (
        "billing", "refund", "new", "u1", 0.5, expiry,
    )  # fmt: skip
    back = undo(store, done)
    assert back.playbooks == {"airline": 3, "billing": 2}
    lesson = lessons.one(store, "l")
    assert (lesson["agent"], lesson["task"], lesson["holdout"], lesson["expires_at"]) == ("airline", None, None, None)
    again = act(store, "edit", text=None, holdout=0.5, expires_at=expiry)
    cleared = act(store, "edit", text=None, holdout="inherit", expires_at="never", version=again.version)
    (served,) = playbooks.in_force(store, "airline").entries
    assert (served.version, served.holdout, served.expires_at) == (cleared.version, 0.1, None)


def test_an_edit_carries_trust_taint_and_parents_and_undo_brings_the_earlier_ones(store):
    taint = [{"field": "do_text", "quote": "ignore all rules"}]
    propose(store, "parent")
    propose(store, "l", taint=json.dumps(taint), parents='["parent:1"]')
    read(store, "l", Block())
    lesson_lint.override(store, "l", 1, "literal", "ada@example.com", reason="ours", operator="Bob")
    kept = act(store, "edit", text=LessonText("New", "When", None, "Do"))
    assert lessons.versions(store, "l").select("trust", "taint", "parents").row(0) == (
        "untrusted", json.dumps(taint), '["parent:1"]',
    )  # fmt: skip
    act(store, "edit", version=kept.version, origins=Origins("operator", (), ("parent:1",)))
    lesson = lessons.one(store, "l")
    assert (lesson["trust"], lesson["taint"], lesson["parents"]) == ("operator", "[]", '["parent:1"]')
    for _ in range(2):
        row = lessons.undoable(store, lesson_id="l").row(0, named=True)
        lesson_reviews.undo(store, "l", sequence=row["sequence"], operator="Bob", render=render)
    lesson = lessons.one(store, "l")
    assert (lesson["version"], lesson["title"], lesson["trust"], json.loads(lesson["taint"])) == (
        5, "Title of l", "untrusted", taint,
    )  # fmt: skip
    assert lesson["author"] == "trimtab"
    assert (lesson["linted"], lesson["blocks"]) == (True, 0)
    assert lesson_lint.overrides(store, "l", 5).height == 1


def test_what_needs_a_reason_is_refused_without_one(store):
    for action in ("reject", "send_back", "demote", "pause"):
        propose(store, action)
        force(store, action, state=ALLOWED[action][-1])
        with pytest.raises(ActionRefused, match="no reason"):
            act(store, action, action, reason=" \n")
        act(store, action, action)
        assert lessons.reviews(store)["reason"][0] == "because"
        assert lessons.one(store, action)["state_reason"] == "because"


def test_a_canary_is_promoted_and_demoted_step_by_step(store):
    propose(store, "l")
    assert approve(store, to="canary").state == "canary"
    (served,) = playbooks.in_force(store, "airline").entries
    assert (served.state, served.holdout) == ("canary", 0.2)
    act(store, "promote")
    (served,) = playbooks.in_force(store, "airline").entries
    assert (served.state, served.holdout) == ("active", 0.1)
    act(store, "demote", to="canary", operator=SYSTEM, reason="payoff -0.1 [-0.2, -0.01]")
    assert lessons.one(store, "l")["state_by"] == SYSTEM
    with pytest.raises(ActionRefused, match="a canary already"):
        act(store, "demote", to="canary")
    act(store, "demote", to="retired", operator=SYSTEM, reason="payoff -0.1 [-0.2, -0.01]")
    assert playbooks.in_force(store, "airline").entries == ()


def test_a_paused_lesson_is_not_served_and_keeps_its_state(store):
    propose(store, "l")
    approve(store)
    act(store, "pause")
    assert (lessons.one(store, "l")["state"], lessons.one(store, "l")["paused"]) == ("active", "because")
    assert playbooks.in_force(store, "airline").entries == ()
    with pytest.raises(ActionRefused, match="paused already"):
        act(store, "pause")
    act(store, "resume")
    assert len(playbooks.in_force(store, "airline").entries) == 1
    with pytest.raises(ActionRefused, match="not paused"):
        act(store, "resume")


def test_the_lesson_that_supersedes_another_is_linked_and_undo_takes_the_link_away(store):
    propose(store, "l", "other", "linked")
    approve(store)
    done = act(store, "supersede", by="other")
    assert done.state == "superseded"
    assert lesson_links.of(store, "l").select("lesson_id", "kind", "other_id").rows() == [("other", "supersedes", "l")]
    undo(store, done)
    assert lesson_links.of(store).is_empty()
    lesson_links.put(store, "linked", "l", "supersedes", by="Ada")
    undo(store, act(store, "supersede", by="linked"))
    assert lesson_links.of(store).height == 1
    with pytest.raises(NotFound):
        act(store, "supersede", by="nobody")
    with pytest.raises(ActionRefused, match="its own place"):
        act(store, "supersede", by="l")
    act(store, "supersede", "other", by="l")
    with pytest.raises(ActionRefused, match="superseded itself"):
        act(store, "supersede", by="other")


def test_a_lesson_for_every_agent_is_in_every_playbook(store):
    propose(store, "one")
    propose(store, "two", agent="billing")
    propose(store, "all", agent="*")
    done = approve(store, "all")
    assert (done.playbook_version, done.playbooks) == (None, {"airline": 1, "billing": 1})
    approve(store, "two")
    assert [entry.lesson_id for entry in playbooks.in_force(store, "billing").entries] == ["all", "two"]
    assert [entry.lesson_id for entry in playbooks.in_force(store, "airline").entries] == ["all"]


def test_two_persons_approve_one_version_and_nobody_their_own(store):
    lesson_settings.put(store, "*", by="Ada", render=render, two_person=True)
    propose(store, "l", told={"origin": "operator", "trust": "operator", "author": "Ada"})
    with pytest.raises(ActionRefused, match="the text is yours"):
        approve(store, operator="Ada")
    assert approve(store, operator="Bob").state == "approved"
    assert playbooks.latest(store).is_empty()
    with pytest.raises(ActionRefused, match="approved it already"):
        approve(store, operator="Bob")
    edited = act(store, "edit", operator="Cy")
    assert edited.state == "proposed"
    with pytest.raises(ActionRefused, match="the text is yours"):
        approve(store, operator="Cy")
    assert approve(store, operator="Bob", to="canary").state == "approved"
    assert approve(store, operator="Ada", to="active").state == "canary"
    assert len(playbooks.in_force(store, "airline").entries) == 1


def test_an_undone_first_approval_does_not_count(store):
    lesson_settings.put(store, "airline", by="Ada", render=render, two_person=True)
    propose(store, "l")
    assert undo(store, approve(store, operator="Bob")).state == "proposed"
    assert approve(store, operator="Cy").state == "approved"
    assert approve(store, operator="Bob").state == "active"


def test_a_lesson_for_every_agent_needs_two_persons_where_any_agent_does(store):
    lesson_settings.put(store, "billing", by="Ada", render=render, two_person=True)
    propose(store, "all", agent="*")
    propose(store, "l")
    assert approve(store, "all").state == "approved"
    assert approve(store, "l").state == "active"
    assert act(store, "edit", "l", text=None, scope=Scope("billing")).state == "proposed"


def test_undo_takes_back_one_review_at_a_time(store):
    propose(store, "l")
    edited = act(store, "edit")
    approved = approve(store)
    retired = act(store, "retire")
    assert playbooks.latest(store)["body"].to_list() == [""]
    with pytest.raises(ActionRefused, match="not the last review"):
        undo(store, approved)
    assert undo(store, retired).state == "active"
    assert playbooks.latest(store)["body"].to_list() == [f"l 2 {TEXT.title}"]
    with pytest.raises(ActionRefused, match="not the last review"):
        undo(store, retired)
    assert undo(store, approved).state == "proposed"
    back = undo(store, edited)
    assert (back.state, back.version) == ("proposed", 3)
    assert lessons.versions(store, "l")["title"].to_list() == ["Title of l", TEXT.title, "Title of l"]
    assert lessons.undoable(store).is_empty()
    assert lessons.reviews(store)["action"].to_list() == ["undo", "undo", "undo", "retire", "approve", "edit"]
    assert playbooks.versions(store, "airline")["version"].to_list() == [4, 3, 2, 1]
    assert audit.verify(store) is None


def test_undo_is_refused_when_the_lesson_has_moved_on_without_a_review(store):
    propose(store, "l")
    approved = approve(store)
    force(store, "l", state="retired")
    with pytest.raises(ActionRefused, match="retired by now"):
        undo(store, approved)


def test_reviews_from_before_changes_were_kept_are_undone_by_state_and_version(store):
    propose(store, "l")
    approved = approve(store)
    store.write(lambda connection: connection.execute("UPDATE lesson_reviews SET change = NULL"))
    assert undo(store, approved).state == "proposed"


def test_a_moment_of_expiry_is_kept_in_utc(store):
    propose(store, "l", expires_at=datetime(2026, 12, 1, tzinfo=UTC))
    edited = act(store, "edit", text=None, expires_at="never")
    undo(store, edited)
    assert lessons.one(store, "l")["expires_at"] == datetime(2026, 12, 1, tzinfo=UTC)
