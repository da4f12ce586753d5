"""Any sequence of actions by operators, Trimtab and proposers keeps what must always hold (a hypothesis machine).

What is served was approved by an operator; versions are never overwritten; a playbook serves exactly what the states
say; the stack of reviews unwinds to the first state and text.
"""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lesson_library import Block, proposals, propose, read, render

from store import audit, lesson_lint, lesson_reviews, lesson_serving, lesson_settings, lessons, playbooks
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.lesson_reviews import SYSTEM, LessonText, Scope

NAMES = st.sampled_from(["l1", "l1", "l2"])
PEOPLE = st.sampled_from(["Ada", "Bob"])
ANYBODY = st.sampled_from(["Ada", "Bob", "Ada", "Bob", SYSTEM, ""])
AGENTS = st.sampled_from(["airline", "billing", "*"])
SERVED = ("canary", "active")


class Library(RuleBasedStateMachine):
    """Two lessons and whatever may be done with them; `approved` holds the texts that operators approved."""

    @initialize(two_person=st.booleans())
    def begin(self, two_person):
        self.clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
        self.store = Store.open(None, clock=self.clock, threads=1)
        self.two_person = two_person
        self.approvals = {}
        self.seen = {}
        if two_person:
            lesson_settings.put(self.store, "*", by="Ada", render=render, two_person=True)
        # A lesson for every agent is served to those the library knows: both are known.
        for agent in ("airline", "billing"):
            propose(self.store, f"first of {agent}", agent=agent, told={"origin": "agent", "trust": "agent"})
        propose(self.store, "l1", told={"origin": "agent", "trust": "agent"})

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    def lesson(self, name):
        try:
            return lessons.one(self.store, name)
        except NotFound:
            return None

    def attempt(self, function, *args, **told):
        try:
            return function(*args, **told)
        except (ActionRefused, NotFound):
            return None

    @rule(name=NAMES, origin=st.sampled_from(["agent", "model", "contrast"]), agent=AGENTS)
    def is_proposed(self, name, origin, agent):
        before = self.lesson(name)
        added = propose(self.store, name, agent=agent, told={"origin": origin, "trust": "system"})
        assert added == ([] if before else [name])
        assert before is None or self.lesson(name) == before

    @rule(name=NAMES, blocked=st.booleans())
    def is_linted(self, name, blocked):
        if self.lesson(name):
            read(self.store, name, *([Block()] if blocked else []))

    @rule(name=NAMES, operator=PEOPLE)
    def is_overridden(self, name, operator):
        lesson = self.lesson(name)
        if lesson:
            self.attempt(
                lesson_lint.override, self.store, name, lesson["version"], "literal", "ada@example.com",
                reason="ours", operator=operator,
            )  # fmt: skip

    @rule(name=NAMES, operator=ANYBODY, to=st.sampled_from(SERVED), linted=st.sampled_from([True, True, False]))
    def is_approved(self, name, operator, to, linted):
        if self.lesson(name) is None:
            return
        if linted:
            read(self.store, name)
        lesson = self.lesson(name)
        done = self.attempt(
            lesson_reviews.approve, self.store, name, version=lesson["version"], operator=operator, to=to,
            render=render,
        )  # fmt: skip
        if done is not None:
            assert operator in ("Ada", "Bob")
            assert lesson["linted"]
            assert lesson["blocks"] == 0
            approvers = self.approvals.setdefault((name, lesson["version"]), set())
            approvers.add(operator)

    @rule(
        name=NAMES, operator=ANYBODY,
        action=st.sampled_from(["reject", "promote", "pause", "pause", "resume", "retire", "to canary", "away"]),
    )  # fmt: skip
    def is_reviewed(self, name, operator, action):
        lesson = self.lesson(name)
        if lesson is None:
            return
        told = {"to canary": {"to": "canary"}, "away": {"to": "retired"}}.get(action, {})
        function = getattr(lesson_reviews, "demote" if told else action)
        done = self.attempt(
            function, self.store, name, version=lesson["version"], operator=operator, reason="why", render=render,
            **told,
        )  # fmt: skip
        if done is not None and operator == SYSTEM:
            order = ["retired", "canary", "active"]
            assert order.index(done.state) <= order.index(lesson["state"])

    @rule(name=NAMES, operator=PEOPLE, number=st.integers(0, 3), linted=st.sampled_from(["clean", "blocked", None]))
    def is_edited(self, name, operator, number, linted):
        lesson = self.lesson(name)
        if lesson is None:
            return

        findings = {"clean": (), "blocked": (Block(),), None: None}[linted]
        done = self.attempt(
            lesson_reviews.edit, self.store, name, version=lesson["version"], operator=operator,
            text=LessonText(f"Title {number}", "When", None, "Do"), findings=findings, render=render,
        )  # fmt: skip
        if done is not None and done.state in SERVED:
            assert linted == "clean"
            assert not self.two_person
            self.approvals[name, done.version] = {operator}

    @rule(name=NAMES, agent=AGENTS, hours=st.sampled_from([None, 1, 5]))
    def is_rescoped(self, name, agent, hours):
        lesson = self.lesson(name)
        if lesson is None:
            return
        expires_at = "never" if hours is None else self.clock.now() + timedelta(hours=hours)

        done = self.attempt(
            lesson_reviews.edit, self.store, name, version=lesson["version"], operator="Ada", scope=Scope(agent),
            expires_at=expires_at, findings=(), render=render,
        )  # fmt: skip
        if done is not None and done.state in SERVED:
            self.approvals[name, done.version] = {"Ada"}

    @rule(name=NAMES, operator=ANYBODY)
    def is_undone(self, name, operator):
        standing = lessons.undoable(self.store, lesson_id=name)
        if standing.is_empty():
            return
        top = standing.row(0, named=True)
        before = self.lesson(name)
        done = self.attempt(
            lesson_reviews.undo, self.store, name, sequence=top["sequence"], operator=operator, render=render
        )
        assert (done is None) == (operator not in ("Ada", "Bob"))
        if done is not None and top["action"] == "edit":
            earlier = json.loads(
                lessons.reviews(self.store, lesson_id=name).filter(sequence=top["sequence"])["change"][0]
            )["before"]["version"]
            assert done.version == before["version"] + 1
            self.approvals[name, done.version] = self.approvals.get((name, earlier), set())

    @rule(agent=AGENTS, what=st.sampled_from(["kill", "restore", "unpin"]))
    def is_switched(self, agent, what):
        told = {"by": "Ada", "render": render}
        if what == "kill":
            self.attempt(lesson_settings.kill, self.store, agent, reason="why", **told)
        elif what == "restore":
            self.attempt(lesson_settings.restore_serving, self.store, agent, **told)
        else:
            self.attempt(lesson_settings.unpin, self.store, agent, **told)

    @rule(agent=AGENTS, version=st.integers(1, 4))
    def is_pinned(self, agent, version):
        self.attempt(lesson_settings.pin, self.store, agent, version, by="Ada", render=render)

    @rule(hours=st.integers(1, 3))
    def time_passes(self, hours):
        self.clock.moment += timedelta(hours=hours)
        due = lesson_serving.due(self.store, self.clock.now())
        if due:
            lesson_serving.rerender(self.store, due, render, "expired")

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def a_playbook_serves_exactly_what_the_states_say(self):
        now = self.clock.now()
        whole = lesson_settings.of(self.store, "*")
        rows = lessons.library(self.store).to_dicts()
        for agent in ("airline", "billing"):
            book = playbooks.in_force(self.store, agent)
            found = {(entry.lesson_id, entry.version) for entry in book.entries} if book else set()
            rules = lesson_settings.of(self.store, agent)
            if rules.serving_off or whole.serving_off:
                assert found == set()
                continue
            for row in rows:
                if (row["lesson_id"], row["version"]) in found:
                    assert row["paused"] is None
                    assert row["expires_at"] is None or row["expires_at"] > now
            if rules.pinned_playbook is not None:
                pinned = playbooks.at(self.store, agent, rules.pinned_playbook)
                left = set(book.settings.left_out)
                assert found == {(e.lesson_id, e.version) for e in pinned.entries if e.lesson_id not in left}
                continue
            expected = {
                (row["lesson_id"], row["version"])
                for row in rows
                if row["state"] in SERVED and row["agent"] in (agent, "*") and row["paused"] is None
                and (row["expires_at"] is None or row["expires_at"] > now)
            }  # fmt: skip
            assert found == expected
            assert book is None or set(book.lesson_ids) == {name for name, _ in found}

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def whatever_was_ever_served_was_approved_by_an_operator(self):
        needed = 2 if self.two_person else 1
        for agent in ("airline", "billing"):
            for text in playbooks.versions(self.store, agent)["entries"]:
                for entry in json.loads(text):
                    approvers = self.approvals.get((entry["lesson_id"], entry["version"]), set())
                    assert len(approvers - {SYSTEM, ""}) >= needed

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def versions_are_never_overwritten(self):
        for name in lessons.known(self.store):
            for row in lessons.versions(self.store, name).iter_rows(named=True):
                key = (name, row["version"])
                assert self.seen.setdefault(key, row) == row
        assert sum(lessons.versions(self.store, name).height for name in lessons.known(self.store)) == len(self.seen)

    @rule()
    def the_audit_log_is_whole(self):
        assert audit.verify(self.store) is None


Library.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestLibrary = Library.TestCase


def test_undoing_everything_leads_back_to_the_proposal():
    """Whatever was done, the stack of reviews unwinds to the first state, scope and text."""
    store = Store.open(None, clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    try:
        propose(store, "l", "other")
        first = lessons.one(store, "l")
        told = {"operator": "Ada", "render": render}
        version = 1

        def do(action, **more):
            nonlocal version
            read(store, "l")
            done = getattr(lesson_reviews, action)(store, "l", version=version, **told, **more)
            version = done.version

        do("send_back", reason="why")
        do("edit", text=LessonText("Two", "When", None, "Do"))
        do("approve", to="canary")
        do("pause", reason="why")
        do("resume")
        do("promote")
        do("edit", scope=Scope("*", "t", "s", "u"), holdout=0.4, expires_at=datetime(2027, 1, 1, tzinfo=UTC))
        do("approve")
        do("demote", to="canary", reason="why")
        do("demote", to="retired", reason="why")
        for _ in range(10):
            sequence = lessons.undoable(store, lesson_id="l")["sequence"][0]
            lesson_reviews.undo(store, "l", sequence=sequence, operator="Bob", render=render)
        changed = ("version", "updated_at", "linted", "author")
        last = lessons.one(store, "l")
        assert {k: v for k, v in last.items() if k not in changed} == {
            k: v for k, v in first.items() if k not in changed
        }
        assert lessons.undoable(store, lesson_id="l").is_empty()
        assert all(book == () for book in [playbooks.in_force(store, "airline").entries])
        assert proposals("l").height == 1
        assert audit.verify(store) is None
    finally:
        store.close()
