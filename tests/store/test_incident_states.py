"""Any sequence of what runs see and operators do keeps an incident's states, history and notice in order."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from store import audit, drift, incident_runs, incidents, notices
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.incident_runs import Seen, Summary

START = datetime(2026, 11, 1, tzinfo=UTC)
ALLOWED = {
    ("open", "acknowledge"): "acknowledged", ("open", "resolve"): "resolved",
    ("acknowledged", "resolve"): "resolved", ("resolved", "reopen"): "open",
}  # fmt: skip


def seen(incident_id, kind, users=10, cause="unknown"):
    """An incident as a run sees it."""
    findings = pl.DataFrame(
        {"level": ["user"] * 2, "user_id": ["u1", "u2"], "metric": ["reward"] * 2, "changed_at": [START] * 2},
    )
    missing = [
        pl.lit(None, kind).alias(name) for name, kind in incidents.FINDINGS.items() if name not in findings.columns
    ]
    moved = pl.DataFrame(
        [(1, "reward", "down", START, START, START, users, 0.8, 50, 0.6, 40, -0.2, 0.05)],
        schema=incidents.MOVED, orient="row",
    )  # fmt: skip
    return Seen(
        incident_id=incident_id, kind=kind, agent="shop", segment=None, title="Reward fell", text="It fell.",
        cause=cause, cause_detail={}, changed_at=START, changed_from=START, changed_to=START, users=users, scanned=100,
        findings=findings.with_columns(missing).select(list(incidents.FINDINGS)), moved=moved,
    )  # fmt: skip


def record(store, *all_seen, ended=None):
    nothing = pl.DataFrame(schema=drift.EXPLAINED)
    summary = Summary(1, 1, "test", {}, flagged=2 * len(all_seen), explained=0, grouped=2 * len(all_seen), lone=0)
    return incident_runs.record(store, all_seen, nothing, ended or {}, summary)


@pytest.fixture
def opened(store):
    (incident_id,) = record(store, seen(None, "new"))
    return incident_id


class Incident(RuleBasedStateMachine):
    """One incident; `state`, `reopened` and `kinds` are what it should be."""

    @initialize()
    def begin(self):
        self.clock = FixedClock(START + timedelta(days=1))
        self.store = Store.open(None, clock=self.clock, threads=1)
        (self.incident_id,) = record(self.store, seen(None, "new"))
        self.state, self.reopened, self.kinds, self.users = "open", 0, ["opened"], 10

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    @rule(
        action=st.sampled_from(["acknowledge", "resolve", "reopen"]),
        operator=st.sampled_from(["ann", "bob", "", "trimtab"]),
        reason=st.sampled_from(["because", " "]),
    )
    def an_operator_acts(self, action, operator, reason):
        self.clock.moment += timedelta(minutes=1)
        after = ALLOWED.get((self.state, action))
        possible = after is not None and operator in ("ann", "bob") and (reason.strip() or action == "acknowledge")
        try:
            getattr(incidents, action)(self.store, self.incident_id, operator=operator, reason=reason)
            assert possible
        except ActionRefused:
            assert not possible
            return
        self.state = after
        self.reopened += action == "reopen"
        self.kinds.append({"acknowledge": "acknowledged", "resolve": "resolved", "reopen": "reopened"}[action])

    @rule(kind=st.sampled_from(["seen", "back"]), users=st.sampled_from([10, 12, 40]))
    def a_run_sees_it(self, kind, users):
        self.clock.moment += timedelta(minutes=1)
        told = record(self.store, seen(self.incident_id, kind, users))
        if self.state == "resolved" and kind == "seen":
            assert told == {}
            return
        if self.state == "resolved":
            assert told == {self.incident_id: "reopened"}
            self.state, self.reopened = "open", self.reopened + 1
            self.kinds.append("reopened")
        else:
            assert told == {}
        if users > 1.5 * self.users:
            self.kinds.append("grew")
        self.users = users

    @rule()
    def a_run_ends_it(self):
        record(self.store, ended={self.incident_id: "It follows a known change."})
        if self.state != "resolved":
            self.state = "resolved"
            self.kinds.append("resolved")

    @rule()
    def somebody_writes(self):
        incidents.comment(self.store, self.incident_id, operator="ann", text="looked at it")
        self.kinds.append("note")

    @invariant()
    def it_is_what_it_should_be(self):
        if not hasattr(self, "store"):
            return
        one = incidents.one(self.store, self.incident_id)
        assert (one["state"], one["reopened"], one["users"]) == (self.state, self.reopened, self.users)
        assert (one["resolved_at"] is None) == (self.state != "resolved")
        told = incidents.events(self.store, self.incident_id)
        assert told["kind"].to_list() == self.kinds
        assert told["sequence"].to_list() == list(range(1, len(self.kinds) + 1))
        assert notices.open_count(self.store) == (self.state != "resolved")
        assert incidents.count(self.store)[self.state] == 1
        assert incidents.findings(self.store, self.incident_id).height == 2
        assert incidents.moved(self.store, self.incident_id).height == 1
        assert audit.verify(self.store) is None


TestIncident = Incident.TestCase
TestIncident.settings = settings(max_examples=6, stateful_step_count=14, deadline=None)


def test_changes_are_audited_with_their_reasons(store, opened):
    incidents.acknowledge(store, opened, operator="ann")
    incidents.resolve(store, opened, operator="bob", reason="the tool was repaired")
    log = audit.recent(store, subject=f"incident {opened}")
    assert log.select("actor", "action").rows() == [
        ("bob", "incident resolve"), ("ann", "incident acknowledge"), ("trimtab", "incident open"),
    ]  # fmt: skip
    assert "the tool was repaired" in log["detail"][0]


def test_what_another_run_under_way_wrote_is_not_seen(store, opened):
    store.write(lambda connection: connection.execute(
        "INSERT INTO incident_findings BY NAME SELECT * REPLACE (run_id + 1 AS run_id) FROM incident_findings"
    ))  # fmt: skip
    assert incidents.findings(store, opened).height == 2
    record(store, seen(opened, "seen"))
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM incident_findings") == 2  # and what was left is removed


def test_an_incident_that_is_not_there(store):
    with pytest.raises(NotFound):
        incidents.one(store, "none")
    with pytest.raises(NotFound):
        incidents.resolve(store, "none", operator="ann", reason="why")
    with pytest.raises(NotFound):
        incidents.comment(store, "none", operator="ann", text="why")
