"""Evidence is completed with the opposite rollout of the same task, and only where that is missing."""

import polars as pl
import pytest

from pipelines.lessons.contrast import ACTIONS, ROLLOUTS
from pipelines.lessons.draft import Evidence, LessonDraft
from pipelines.lessons.pairing import with_counterpart

# Task, outcome and whether the rollout calls the tool that the lesson is about.
HELD = {
    "g1": ("x", 1.0, True),
    "x1": ("x", 0.0, True),
    "x2": ("x", 0.0, False),
    "b1": ("y", 0.0, False),
    "y1": ("y", 0.0, False),
}


def _frames(held=HELD):
    rollouts = [(name, "a", task, outcome, 0.1 + 0.8 * outcome, 0.05) for name, (task, outcome, _) in held.items()]
    acted = [(name, "s", 1, "look", False, "", "", "") for name, (_, _, calls) in held.items() if calls]
    return pl.DataFrame(rollouts, schema=ROLLOUTS, orient="row"), pl.DataFrame(acted, schema=ACTIONS, orient="row")


def _draft(*evidence):
    held = tuple(Evidence(name, span, role, HELD[name][1], 0.05, None) for name, span, role in evidence)
    return LessonDraft("k", "a", None, True, "t", "w", None, "d", "y", held)


def test_the_opposite_rollout_of_the_same_task_without_the_step_is_added():
    done = with_counterpart(_draft(("g1", "s", "good"), ("b1", None, "bad")), *_frames())
    assert [(held.trace_id, held.role) for held in done.evidence] == [("g1", "good"), ("b1", "bad"), ("x2", "bad")]
    assert done.evidence[2].reward == pytest.approx(0.1)


def test_a_bad_step_gets_a_good_counterpart():
    done = with_counterpart(_draft(("x1", "s", "bad")), *_frames())
    assert [(held.trace_id, held.role) for held in done.evidence] == [("x1", "bad"), ("g1", "good")]


def test_bad_evidence_without_the_step_gets_a_good_rollout_with_it():
    """The good evidence's own task has no failure to set beside it."""
    held = HELD | {"x1": ("z", 0.0, True), "x2": ("z", 0.0, False), "y1": ("y", 1.0, False), "y2": ("y", 1.0, True)}
    done = with_counterpart(_draft(("g1", "s", "good"), ("b1", None, "bad")), *_frames(held))
    assert [(held.trace_id, held.role) for held in done.evidence][2:] == [("y2", "good")]


@pytest.mark.parametrize(
    "evidence",
    [
        (("g1", "s", "good"), ("x1", None, "bad")),  # one task has both sides
        (("b1", "s", "bad"),),  # nobody did well on that task
        (("g1", None, "good"), ("b1", None, "bad")),  # no step to compare by
    ],
)
def test_otherwise_the_evidence_stays(evidence):
    draft = _draft(*evidence)
    assert with_counterpart(draft, *_frames()) == draft


def test_without_rollouts_the_evidence_stays():
    rollouts, acted = _frames({})
    draft = _draft(("g1", "s", "good"))
    assert with_counterpart(draft, rollouts, acted) == draft
