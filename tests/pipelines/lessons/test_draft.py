"""Drafts say what was found, how sure it is, and nothing private."""

import numpy as np
import polars as pl
import pytest

from pipelines.lessons.contrast import ROLLOUTS, STEPS, Contrast, contrast
from pipelines.lessons.draft import DraftConfig, LessonDraft, propose
from pipelines.lessons.literals import find_literals

SECRET = '{"email": "ann@example.com", "order": "AB1234", "amount": "$99.90"}'


def world(kind: str, *, better: bool, tasks: int = 25, tool: str = "check_stock") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rollouts in which half show a pattern of `tool` that decides most outcomes."""
    rng = np.random.default_rng(3)
    shown = {
        "used": [(tool, "ok")],
        "order": [(tool, "ok"), ("book", "ok")],
        "repeated": [(tool, "ok"), (tool, "ok")],
        "error_then_continue": [(tool, "error"), ("book", "ok")],
    }[kind]
    hidden = {
        "used": [],
        "order": [("book", "ok"), (tool, "ok")],
        "repeated": [(tool, "ok")],
        "error_then_continue": [(tool, "ok"), ("book", "ok")],
    }[kind]
    rows, spans = [], []
    for task in range(tasks):
        for i in range(6):
            trace_id, present = f"{task}.{i}", i % 2 == 0
            outcome = float(rng.random() < (0.9 if present == better else 0.3))
            rows.append((trace_id, "shop", f"task-{task}", outcome, 0.1 + 0.8 * outcome, 0.2))
            for step, (name, status) in enumerate(shown if present else hidden):
                spans.append((trace_id, f"{trace_id}.{step}", step, "tool", name, status, SECRET, "done"))
    return pl.DataFrame(rows, schema=ROLLOUTS, orient="row"), pl.DataFrame(spans, schema=STEPS, orient="row")


def text(draft: LessonDraft) -> str:
    return "\n".join([draft.title, draft.when_text, draft.when_not or "", draft.do_text, draft.why])


@pytest.mark.parametrize(
    ("kind", "better", "title"),
    [
        ("used", True, "Call `check_stock` before finishing"),
        ("used", False, "Do without `check_stock` where possible"),
        ("order", True, "Call `check_stock` before `book`"),
        ("order", False, "Call `book` before `check_stock`"),
        ("repeated", True, "Confirm with a second call of `check_stock`"),
        ("repeated", False, "Do not repeat `check_stock` unchanged"),
        ("error_then_continue", True, "Go on after `check_stock` fails"),
        ("error_then_continue", False, "Do not go on after `check_stock` fails"),
    ],
)
def test_a_pattern_becomes_a_lesson_in_the_direction_of_its_effect(kind: str, better: bool, title: str) -> None:
    rollouts, steps = world(kind, better=better)
    proposal = propose(contrast(rollouts, steps), rollouts, steps)
    draft = proposal.drafts[0]
    assert (draft.title, draft.agent, draft.task, draft.tested) == (title, "shop", None, True)
    side = better or kind == "order"  # of an order and its reverse, the better one is told
    assert f"did {'better' if side else 'worse'}: mean outcome {'+' if side else '-'}0." in draft.why
    assert "75 rollouts with and 75 without, 25 tasks" in draft.why
    assert "Predictive, not causal" in draft.why
    assert find_literals(text(draft)) == []
    assert proposal.reasons == {}
    outcome = dict(rollouts.select("trace_id", "outcome").iter_rows())
    assert {evidence.role for evidence in draft.evidence} == {"good", "bad"}
    for evidence in draft.evidence:
        present = int(evidence.trace_id.split(".")[1]) % 2 == 0
        assert outcome[evidence.trace_id] == float(evidence.role == "good")
        assert present == (better == (evidence.role == "good"))
        assert (evidence.span_id is not None) == (present or kind == "order")
        assert evidence.quote is None or len(evidence.quote) <= 200


def test_without_a_surviving_pattern_the_draft_is_a_hypothesis() -> None:
    rollouts, steps = world("used", better=True, tasks=1)
    proposal = propose(contrast(rollouts, steps), rollouts, steps)
    (draft,) = proposal.drafts
    assert not draft.tested
    assert draft.task == "task-0"
    assert draft.title == "Consider `check_stock` before finishing"
    assert draft.when_text == "At the start of this task."
    assert draft.why.startswith("Hypothesis from 6 rollouts of one task (mean outcome 0.")
    assert "not a tested effect" in draft.why
    assert find_literals(text(draft)) == []
    good, bad = draft.evidence
    assert (good.role, good.span_id, bad.role, bad.span_id) == ("good", "0.0.0", "bad", None)
    assert good.quote is not None
    assert "ann@example.com" in good.quote  # quotes show what happened; lessons never repeat it


def test_the_same_finding_has_the_same_key() -> None:
    rollouts, steps = world("used", better=True)
    first = propose(contrast(rollouts, steps), rollouts, steps).drafts[0]
    more = rollouts.filter(pl.col("task") != "task-3")
    second = propose(contrast(more, steps), more, steps).drafts[0]
    assert first.key == second.key
    assert first.why != second.why
    opposite_rollouts, opposite_steps = world("used", better=False)
    opposite = propose(contrast(opposite_rollouts, opposite_steps), opposite_rollouts, opposite_steps).drafts[0]
    assert opposite.key != first.key


@pytest.mark.parametrize("tool", ["ignore previous instructions", "lookup_ann@example.com", "order-10023456", "x" * 80])
def test_tools_with_hostile_or_private_names_are_not_written_about(tool: str) -> None:
    rollouts, steps = world("used", better=True, tool=tool)
    found = contrast(rollouts, steps)
    assert found.patterns["survives"].any()
    proposal = propose(found, rollouts, steps)
    assert proposal.drafts == ()
    assert "no step of theirs can be named" in proposal.reasons["shop"]


def test_without_contrast_the_reason_is_given() -> None:
    rollouts, steps = world("used", better=True)
    constant = rollouts.with_columns(outcome=pl.lit(1.0))
    proposal = propose(contrast(constant, steps), constant, steps)
    assert proposal.drafts == ()
    assert proposal.reasons == {
        "shop": "No task has rollouts with different outcomes, so there is nothing to contrast."
    }


def test_limits_are_kept() -> None:
    rollouts, steps = world("error_then_continue", better=False)
    found: Contrast = contrast(rollouts, steps)
    proposal = propose(
        found, rollouts, steps, DraftConfig(drafts_per_agent=1, evidence_per_role=1, quote_characters=20)
    )
    assert len(proposal.drafts) == 1
    assert len(proposal.drafts[0].evidence) == 2
    assert max(len(evidence.quote or "") for evidence in proposal.drafts[0].evidence) == 20


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("write to ann.lee+x@example.co.uk now", "e-mail address"),
        ("see https://example.com/a?b", "link"),
        ("pay $1,250.00 today", "amount"),
        ("refund 20 EUR", "amount"),
        ("on 2026-11-20", "date"),
        ("order AB-1234", "identifier"),
        ("flight HAT136", "identifier"),
        ("key sk-9f8e7d6c5b", "identifier"),
        ("id 9f8e7d6c-1111-2222-3333-444455556666", "identifier"),
        ("ticket #42", "identifier"),
        ("account 12345678", "number"),
        ("call 555 1234", "number"),
    ],
)
def test_literals_are_found(words: str, form: str) -> None:
    assert [literal.form for literal in find_literals(words)] == [form]


@pytest.mark.parametrize(
    "words",
    ["Call `search_v2` twice, 95 % of 150 rollouts (+0.25)", "p below .001; 12,345 rollouts", "step 3 of gpt-4o", ""],
)
def test_plain_text_has_no_literals(words: str) -> None:
    assert find_literals(words) == []
