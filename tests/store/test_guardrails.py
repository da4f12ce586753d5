"""Guardrails in the store: definitions, what is refused, the audit log, limits, violations and looks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from store import audit, guardrails, meta
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.policy import Limits

MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def define(store: Store, **stated: Any) -> str:
    return guardrails.define(
        store, **{"agent": "shop", "by": "ann", "kind": "max_spend_usd", "threshold": 0.5} | stated
    )


def tool(store: Store, subject: str, **stated: Any) -> str:
    return define(store, kind="off_limits_tool", subject=subject, threshold=None, **stated)


def violation(guardrail_id: str, trace_id: str = "t1", span_id: str | None = "s1", **stated: Any) -> dict[str, Any]:
    return {
        "agent": "shop", "guardrail_id": guardrail_id, "trace_id": trace_id, "span_id": span_id, "decision_id": None,
        "arm": "b", "occurred_at": MOMENT, "observed": 1.0, "detail": "expected x; y was done", "action": "alert",
    } | stated  # fmt: skip


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=guardrails.FOUND)


def test_a_guardrail_is_kept_in_its_one_form_audited_and_shown_as_new(store: Store) -> None:
    before = meta.data_version(store)
    made = define(
        store, agent=" shop ", kind="off_limits_site", subject=" Bücher.DE:443", threshold=None, arm="cafe\u0301"
    )
    row = guardrails.listed(store, agent="shop").row(0, named=True)
    assert (row["subject"], row["arm"], row["state"], row["created_at"]) == (
        "xn--bcher-kva.de:443", "caf\u00e9", "on", store.clock.now(),
    )  # fmt: skip
    assert meta.data_version(store) > before
    log = audit.recent(store, subject=f"guardrail {made}")
    assert log["action"].to_list() == ["guardrail define"]
    assert json.loads(log["detail"][0])["subject"] == "xn--bcher-kva.de:443"
    assert audit.verify(store) is None


def test_the_same_guardrail_is_not_made_twice_and_ids_are_of_the_definition(store: Store) -> None:
    first = tool(store, "delete_*")
    with pytest.raises(ActionRefused, match="this guardrail already, and it is on"):
        tool(store, " delete_* ", by="bob")
    guardrails.set_state(store, "shop", first, "off", by="ann", reason="moved to the gateway")
    with pytest.raises(ActionRefused, match="Switch it on again"):
        tool(store, "delete_*")
    assert tool(store, "delete_*", agent="travel") != first
    assert tool(store, "delete_*", arm="b") != first


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"agent": " "}, "agent"),
        ({"arm": ""}, "arm"),
        ({"arm": "a\u202eb"}, "arm"),
        ({"by": ""}, "by"),
        ({"kind": "max_spend"}, "kind"),
        ({"on_violation": "stop"}, "on_violation"),
        ({"threshold": None}, "threshold"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": -1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": float("inf")}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": "1"}, "threshold"),
        ({"subject": "a"}, "subject"),
        ({"kind": "min_delay_seconds", "threshold": 90_000}, "threshold"),
        ({"kind": "max_actions_per_minute", "threshold": 2.5}, "threshold"),
        ({"kind": "max_actions_per_minute", "threshold": 0}, "threshold"),
        ({"kind": "safety_floor", "subject": "happiness", "threshold": 0.1}, "subject"),
        ({"kind": "safety_floor", "subject": "reward", "threshold": -0.1}, "threshold"),
        ({"kind": "off_limits_tool", "subject": " ", "threshold": None}, "subject"),
        ({"kind": "off_limits_tool", "subject": "x" * 501, "threshold": None}, "subject"),
        ({"kind": "off_limits_tool", "subject": "x", "threshold": 1.0}, "threshold"),
        ({"kind": "off_limits_site", "subject": "https://x.com", "threshold": None}, "subject"),
        ({"kind": "off_limits_action", "subject": "f(", "threshold": None}, "subject"),
    ],
)
def test_what_cannot_be_used_is_refused_naming_the_field(store: Store, stated: dict[str, Any], field: str) -> None:
    with pytest.raises(ActionRefused, match=f"the field {field} "):
        define(store, **stated)
    assert guardrails.listed(store).is_empty()
    assert audit.recent(store).is_empty()


def test_switching_off_needs_a_reason_and_what_is_there(store: Store, clock: FixedClock) -> None:
    made = define(store)
    for wrong in (
        {"state": "paused", "reason": "x"},
        {"state": "off"},
        {"state": "off", "reason": " "},
        {"state": "on"},
    ):
        with pytest.raises(ActionRefused):
            guardrails.set_state(store, "shop", made, by="ann", **wrong)
    with pytest.raises(NotFound):
        guardrails.set_state(store, "travel", made, "off", by="ann", reason="x")
    clock.moment += timedelta(hours=1)
    guardrails.set_state(store, "shop", made, "off", by="bob", reason="too strict")
    assert guardrails.listed(store, state="on").is_empty()
    row = guardrails.listed(store).row(0, named=True)
    assert (row["created_at"], row["updated_at"]) == (clock.now() - timedelta(hours=1), clock.now())
    log = audit.recent(store, subject=f"guardrail {made}")
    assert log["action"].to_list() == ["guardrail off", "guardrail define"]
    assert json.loads(log["detail"][0])["reason"] == "too strict"


def test_limits_are_the_tightest_and_an_arm_has_its_own_in_full(store: Store) -> None:
    assert guardrails.limits_of(store, "shop") == (Limits(), {})
    tool(store, "b")
    tool(store, "a")
    tool(store, "c", arm="x")
    define(store, threshold=2.0)
    define(store, threshold=1.0, arm="x")
    define(store, threshold=3.0, arm="y")  # looser than the agent's: changes nothing
    define(store, kind="min_delay_seconds", threshold=1.0)
    define(store, kind="min_delay_seconds", threshold=4.0)
    define(store, kind="max_actions_per_minute", threshold=9)
    define(store, kind="safety_floor", subject="reward", threshold=0.1)
    tool(store, "other agent's", agent="travel")
    gone = tool(store, "gone")
    guardrails.set_state(store, "shop", gone, "off", by="ann", reason="x")
    shared, own = guardrails.limits_of(store, "shop")
    assert shared == Limits(
        off_limits_tools=("a", "b"), min_delay_seconds=4.0, max_actions_per_minute=9.0, max_spend_usd=2.0
    )
    assert own == {
        "x": Limits(
            off_limits_tools=("a", "b", "c"), min_delay_seconds=4.0, max_actions_per_minute=9.0, max_spend_usd=1.0
        )
    }


def test_a_violation_is_recorded_once_and_stays(store: Store, clock: FixedClock) -> None:
    forbidden, dear = tool(store, "x"), define(store)
    found = frame(
        violation(forbidden), violation(forbidden), violation(forbidden, span_id="s2"),
        violation(forbidden, span_id=None), violation(dear), violation(dear, span_id="s2"),
        violation(dear, trace_id="t2", span_id=None),
    )  # fmt: skip
    added = guardrails.add_violations(store, found)
    assert added.select("guardrail_id", "trace_id", "span_id").rows() == [
        (forbidden, "t1", "s1"), (forbidden, "t1", "s2"), (forbidden, "t1", None),
        (dear, "t1", "s1"), (dear, "t2", None),
    ]  # fmt: skip
    clock.moment += timedelta(minutes=1)
    version = meta.data_version(store)
    assert guardrails.add_violations(store, found).is_empty()
    assert guardrails.add_violations(store, frame(violation(dear, span_id="s9"))).is_empty()
    assert guardrails.add_violations(store, found.clear()).is_empty()
    assert meta.data_version(store) == version
    again = guardrails.add_violations(store, frame(violation(forbidden, trace_id="t3", detail="later")))
    assert again.height == 1
    newest = guardrails.violations(store, agent="shop", limit=1).row(0, named=True)
    assert (newest["detail"], newest["kind"], newest["subject"]) == ("later", "off_limits_tool", "x")
    assert guardrails.violations(store, guardrail_id=dear).height == 2
    assert guardrails.violations(store, trace_id="t1", since=clock.now()).is_empty()
    counts = guardrails.violation_counts(store)
    assert dict(zip(counts["guardrail_id"], zip(counts["violations"], counts["traces"], strict=True), strict=True)) == {
        forbidden: (4, 2), dear: (2, 2),
    }  # fmt: skip
    assert guardrails.violation_counts(store, since=clock.now())["violations"].to_list() == [1]
    assert guardrails.violations_in(store, ["t2", "t3"]).height == 2


def test_looks_are_kept_and_the_newest_of_each_arm_is_shown(store: Store, clock: FixedClock) -> None:
    floor = define(store, kind="safety_floor", subject="reward", threshold=0.1, on_violation="switch_off")
    row = {
        "agent": "shop", "guardrail_id": floor, "arm": "b", "n_arm": 10, "n_baseline": 20, "estimate": None,
        "lower": None, "upper": None, "verdict": "can't tell yet", "basis": "randomised",
    }  # fmt: skip
    schema = {name: guardrails.LOOKS[name] for name in guardrails.SEEN_LOOK}
    assert guardrails.add_looks(store, pl.DataFrame([row, row | {"arm": "c"}], schema=schema)) == 2
    clock.moment += timedelta(minutes=1)
    broken = row | {"n_arm": 300, "estimate": -0.5, "lower": -0.6, "upper": -0.4, "verdict": "worse"}
    observed = broken | {"arm": "c", "basis": "observed"}
    assert guardrails.add_looks(store, pl.DataFrame([broken, observed], schema=schema)) == 2
    assert guardrails.add_looks(store, pl.DataFrame(schema=schema)) == 0
    assert guardrails.looks(store).height == 4
    newest = guardrails.looks(store, newest=True)
    assert newest.select("arm", "n_arm", "verdict", "basis").rows() == [
        ("b", 300, "worse", "randomised"), ("c", 300, "worse", "observed"),
    ]  # fmt: skip
    assert guardrails.last_broken(store).rows() == [("shop", floor, "b", clock.now())]
