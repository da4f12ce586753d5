"""The question to a judge, and its verdict: rubric and material into messages, the answer into a score.

The rubric stands in the system's message; the material stands in the user's, between two lines that carry a hash of it.
Whoever writes into a trace cannot write that line: it would have to contain a hash of a text that it is part of.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from pipelines.judges.material import Material, Piece
from pipelines.llm_schema import strict_object
from pipelines.prompts import prompt
from store.rubrics import Rubric, Scale, Subject

__all__ = ["PROMPTS", "Question", "Verdict", "question", "verdict"]

PROMPTS: Final[dict[Subject, str]] = {"trace": "judge_trace.v1", "comment": "judge_comment.v1"}

_WORDS: Final[dict[Scale, str]] = {
    "pass_fail": "1 when it meets the rubric, 0 when it does not.",
    "five_points": "a whole number from 1, the worst, to 5, the best by the rubric.",
    "percent": "a whole number from 0, the worst, to 100, the best by the rubric.",
}
_RANGES: Final[dict[Scale, tuple[int, int]]] = {"pass_fail": (0, 1), "five_points": (1, 5), "percent": (0, 100)}
_REASON_CHARACTERS: Final = 1_000
_QUOTE_CHARACTERS: Final = 500


@dataclass(frozen=True)
class Question:
    """What the model is asked: the texts of its two messages, the answer's schema, the prompt's version."""

    system: str
    user: str
    schema: dict[str, Any]
    prompt_version: str


@dataclass(frozen=True)
class Verdict:
    """A score and a confidence from 0 to 1, the reason, and the quote with where it stands; None: it stands nowhere."""

    score: float
    confidence: float
    reason: str
    quote: str | None
    piece: Piece | None


def question(rubric: Rubric, material: Material) -> Question:
    """The question whether `material` is good by `rubric`."""
    low, high = _RANGES[rubric.scale]
    chosen = prompt(PROMPTS[rubric.subject])
    values = {
        "rubric": rubric.rubric,
        "text": rubric.text,
        "scale": _WORDS[rubric.scale],
        "boundary": boundary(material),
        "material": material.text,
    }
    system, user = chosen.filled(values)
    score: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    if rubric.scale != "percent":
        score = {"type": "integer", "enum": list(range(low, high + 1))}
    schema = strict_object(
        {
            "reason": {"type": "string"},
            "quote": {"type": "string"},
            "score": score,
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
        }
    )
    return Question(system, user, schema, chosen.version)


def boundary(material: Material) -> str:
    """What the lines before and after the material carry."""
    return hashlib.sha256(material.text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def verdict(rubric: Rubric, material: Material, answer: dict[str, Any]) -> Verdict:
    """The verdict in an answer that fits the question's schema. A quote that stands nowhere is not kept."""
    low, high = _RANGES[rubric.scale]
    quote = str(answer["quote"])[:_QUOTE_CHARACTERS].strip()
    piece = material.find(quote)
    return Verdict(
        score=(int(answer["score"]) - low) / (high - low),
        confidence=int(answer["confidence"]) / 100,
        reason=" ".join(str(answer["reason"]).split())[:_REASON_CHARACTERS],
        quote=quote if piece is not None else None,
        piece=piece,
    )
