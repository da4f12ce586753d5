"""What judging is going to cost, said before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.judges import asking, material
from pipelines.judges.asking import Question
from pipelines.llm_setup import ModelSetup
from store import judges, llm_calls
from store.connection import Store
from store.llm_calls import Charge
from store.rubrics import Rubric

__all__ = ["PURPOSE", "Estimate", "estimate", "sample_questions"]

PURPOSE: Final = "judge"
_SAMPLE: Final = 20
_USUAL_ANSWER_TOKENS: Final = 150
_ENOUGH_CALLS: Final = 20


@dataclass(frozen=True)
class Estimate:
    """What so many verdicts may cost: likely, and at most; `measured` calls gave the length of answers."""

    verdicts: int
    likely: Charge
    most: Charge
    sampled: int
    measured: int


def sample_questions(store: Store, rubric: Rubric, size: int = _SAMPLE) -> list[Question]:
    """The questions that the rubric would ask about a few subjects: the latest ones."""
    subjects = judges.latest_subjects(store, rubric, size)
    if rubric.subject == "comment":
        found = [material.of_comment(row) for row in judges.comments(store, subjects).to_dicts()]
    else:
        stated = {row["trace_id"]: row for row in judges.stated(store, subjects).to_dicts()}
        steps: dict[str, list[dict[str, object]]] = {}
        for row in judges.steps(store, subjects).to_dicts():
            steps.setdefault(row["trace_id"], []).append(row)
        found = [material.of_trace(stated.get(subject), steps.get(subject, [])) for subject in subjects]
    return [asking.question(rubric, each) for each in found if each is not None]


def estimate(store: Store, setup: ModelSetup, questions: Sequence[Question], verdicts: int) -> Estimate | None:
    """What `verdicts` verdicts cost when they ask like the sampled questions do; None without questions."""
    if not questions:
        return None
    typical = llm_calls.typical(store, PURPOSE, setup.model)
    measured = int(typical["calls"])
    written = float(typical["output_tokens"]) if measured >= _ENOUGH_CALLS else float(_USUAL_ANSWER_TOKENS)
    likely, most = Charge(0, 0.0), Charge(0, 0.0)
    for question in questions:
        text = question.system + question.user
        likely += setup.likely(text, written)
        most += setup.most(text)
    return Estimate(
        verdicts=verdicts,
        likely=_times(likely, verdicts / len(questions)),
        most=_times(most, verdicts / len(questions)),
        sampled=len(questions),
        measured=measured if measured >= _ENOUGH_CALLS else 0,
    )


def _times(charge: Charge, factor: float) -> Charge:
    return Charge(round(charge.tokens * factor), charge.usd * factor)
