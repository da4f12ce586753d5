"""The never-explore list, and people who opted out in what their traces state."""

import json
from datetime import UTC, datetime

import pytest

from store import audit, never_explore
from store.errors import ActionRefused, NotFound


def test_entries_are_kept_listed_and_removed_with_an_audit(store):
    never_explore.add(store, "airline", "user", "ada", reason=" complained ", by="Bob")
    never_explore.add(store, "*", "segment", "minors", reason="by law", by="Bob")
    never_explore.add(store, "billing", "task", "refund", reason="money", by="Bob")
    assert never_explore.listed(store, "airline").select("agent", "kind", "unit", "reason").rows() == [
        ("*", "segment", "minors", "by law"), ("airline", "user", "ada", "complained"),
    ]  # fmt: skip
    assert never_explore.listed(store).height == 3
    with pytest.raises(ActionRefused, match="on the list already"):
        never_explore.add(store, "airline", "user", "ada", reason="again", by="Bob")
    never_explore.remove(store, "airline", "user", "ada", by="Cem")
    with pytest.raises(NotFound):
        never_explore.remove(store, "airline", "user", "ada", by="Cem")
    assert never_explore.listed(store)["unit"].to_list() == ["minors", "refund"]
    actions = audit.recent(store).select("actor", "action").rows()
    assert actions[0] == ("Cem", "never explore remove")
    assert len(actions) == 4
    assert audit.verify(store) is None


@pytest.mark.parametrize(
    ("agent", "kind", "unit", "reason"),
    [("a", "user", "ada", "  "), ("a", "user", " ", "x"), ("", "user", "ada", "x"), ("a", "team", "ada", "x")],
)
def test_incomplete_entries_are_refused(store, agent, kind, unit, reason):
    with pytest.raises(ActionRefused):
        never_explore.add(store, agent, kind, unit, reason=reason, by="Bob")
    assert never_explore.listed(store).is_empty()


def test_the_newest_statement_decides_who_opted_out(store, publish):
    said = [
        ("ada", [False, True]), ("bob", [True, False]), ("cem", [True, None]), ("dev", ["yes"]), ("eve", ["perhaps"]),
        ("fay", [None]),
    ]  # fmt: skip
    traces = []
    for user, statements in said:
        for day, value in enumerate(statements, start=1):
            metadata = {"plan": "free"} if value is None else {"exploration_opt_out": value}
            traces.append(
                {"trace_id": f"{user}{day}", "user_id": user, "agent": "a", "metadata": json.dumps(metadata),
                 "started_at": datetime(2026, 11, day, tzinfo=UTC)}
            )  # fmt: skip
    publish(traces=traces)
    assert never_explore.opted_out(store) == ["ada", "cem", "dev"]
