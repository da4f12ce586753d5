"""Verdicts of any system beside labels: which count, with which probability, for which judge."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from publishing import Publish

from store import judged, links
from store.connection import Store

WHEN = datetime(2026, 11, 20, 9, tzinfo=UTC)


def verdict(trace: str, value: float, **more: Any) -> dict[str, Any]:
    name = more.get("name", "helpfulness")
    base = {"signal_id": f"{name}-{trace}-{len(more)}", "trace_id": trace, "kind": "judge", "name": "helpfulness"}
    return {**base, "value": value, "annotator_kind": "llm", "source": "langfuse", "occurred_at": WHEN, **more}


def said(trace: str, kind: str, value: float, **more: Any) -> dict[str, Any]:
    base = {"signal_id": f"{kind}-{trace}-{value}-{len(more)}", "trace_id": trace, "kind": kind, "value": value}
    return {**base, "occurred_at": WHEN, **more}


@pytest.fixture
def traces() -> list[dict[str, Any]]:
    return [{"trace_id": name, "agent": "shop", "user_id": "ada", "started_at": WHEN} for name in "abcd"]


def test_judges_of_other_systems_are_listed_by_name_and_source(
    store: Store, publish: Publish, traces: list[dict[str, Any]]
) -> None:
    publish(
        traces=traces,
        signals=[
            verdict("a", 0.8), verdict("b", 0.2), verdict("a", 1.0, name="tone"),
            verdict("c", 1.0, name=None, source="phoenix"), verdict("d", 7.0),
            verdict("a", 1.0, name="own", source="trimtab", metadata={"rubric_version": 3}),
            verdict("b", 1.0, name="odd", source="trimtab", metadata="not json"),
        ],
    )  # fmt: skip
    found = [(row["judge"], row["source"], row["version"], row["verdicts"]) for row in judged.judges(store).to_dicts()]
    assert found == [
        ("helpfulness", "langfuse", None, 2), ("odd", "trimtab", None, 1), ("own", "trimtab", 3, 1),
        ("tone", "langfuse", None, 1), ("unnamed", "phoenix", None, 1),
    ]  # fmt: skip


def test_verdicts_meet_labels_of_people_and_outcomes(
    store: Store, publish: Publish, traces: list[dict[str, Any]]
) -> None:
    publish(
        traces=traces,
        signals=[
            verdict("a", 0.8, metadata={"confidence": 0.4}), verdict("a", 0.4, signal_id="again"), verdict("b", 0.0),
            said("a", "annotation", 1.0, name="helpfulness", annotator_kind="operator", solicited=True, propensity=0.1),
            said("a", "annotation", 0.0, name="tone", annotator_kind="operator"),
            said("b", "annotation", 0.5, annotator_kind="user"),
            said("b", "annotation", 1.0, name="helpfulness", annotator_kind="llm"),
            said("a", "outcome", 1.0, annotator_kind="code"), said("a", "outcome", 0.0, annotator_kind="llm"),
            said("b", "thumb", 0.0, solicited=True, propensity=0.02), said("b", "thumb", 1.0),
            said("a", "rating", 0.75), said("d", "thumb", 1.0),
        ],
    )  # fmt: skip
    rows = judged.judged(store, "helpfulness", "langfuse", None)
    assert rows.schema == judged.JUDGED
    first, second = rows.to_dicts()
    assert (first["trace_id"], first["score"], first["confidence"], first["judged_probability"]) == (
        "a",
        pytest.approx(0.6),
        0.4,
        1.0,
    )
    assert (first["annotation"], first["annotation_probability"]) == (1.0, 0.1)
    assert (first["outcome"], first["outcome_probability"]) == (1.0, None)
    assert (first["feedback"], first["feedback_probability"]) == (0.75, None)
    assert (second["annotation"], second["annotation_probability"]) == (0.5, None)
    # Where someone was asked at random, what was volunteered beside it does not count.
    assert (second["feedback"], second["feedback_probability"]) == (0.0, 0.02)
    assert (second["outcome"], second["reward"]) == (None, None)
    assert judged.judged(store, "helpfulness", "langfuse", None, agent="nobody").is_empty()
    assert judged.judged(store, "helpfulness", "phoenix", None).is_empty()


def test_verdicts_and_labels_that_name_only_a_session_count_once_they_are_linked(
    store: Store, publish: Publish
) -> None:
    publish(
        traces=[{"trace_id": "a", "agent": "shop", "session_id": "s", "started_at": WHEN}],
        signals=[
            {"signal_id": "1", "session_id": "s", "kind": "judge", "name": "j", "value": 1.0, "source": "x",
             "occurred_at": WHEN + timedelta(minutes=1)},
            {"signal_id": "2", "session_id": "s", "kind": "thumb", "value": 0.0,
             "occurred_at": WHEN + timedelta(minutes=1)},
        ],
    )  # fmt: skip
    assert judged.judged(store, "j", "x", None).is_empty()
    links.refresh(store)
    (row,) = judged.judged(store, "j", "x", None).to_dicts()
    assert (row["trace_id"], row["score"], row["feedback"]) == ("a", 1.0, 0.0)


def test_only_our_own_judges_sample_by_their_propensity(
    store: Store, publish: Publish, traces: list[dict[str, Any]]
) -> None:
    publish(
        traces=traces,
        signals=[
            verdict("a", 1.0, propensity=0.25),
            verdict("b", 1.0, name="own", source="trimtab", propensity=0.25, metadata={"rubric_version": 1}),
        ],
    )
    assert judged.judged(store, "helpfulness", "langfuse", None)["judged_probability"].to_list() == [1.0]
    assert judged.judged(store, "own", "trimtab", 1)["judged_probability"].to_list() == [0.25]
