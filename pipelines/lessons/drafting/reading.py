"""What is taken of a model's answer: lessons whose quotes stand where it says they do, and what was not taken, named.

The answer is foreign text like the traces that it was made of. Every quote is looked for in the step that it names; a
quote that does not stand there is dropped, and a lesson that no quote is left of is refused.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pipelines.lessons.drafting.group import Rollout
from pipelines.lessons.drafting.material import MOST_LESSONS
from pipelines.lessons.lint.material import Passage
from pipelines.lessons.lint.taint import Taint, taint
from store.lesson_versions import LessonText

__all__ = ["Draft", "Quote", "Reading", "read"]

_MOST_CHARACTERS: Final = 2_000
_MOST_QUOTES: Final = 8
_SHORTEST_QUOTE: Final = 8
_LONGEST_QUOTE: Final = 500
_AROUND: Final = "\"'“”‘’`«» "
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_ALIAS: Final = re.compile(r"(?:(?:run|trace|rollout)\s+)?([A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Quote:
    """A passage that stands word for word in `field` of a step of a trace."""

    trace_id: str
    span_id: str
    step: int
    field: str
    role: Literal["good", "bad"]
    reward: float
    reward_sd: float
    quote: str


@dataclass(frozen=True)
class Draft:
    """A lesson to propose; `task` None: for all tasks of the agent. `trust` is model, or untrusted where `taint`."""

    lesson_id: str
    agent: str
    task: str | None
    text: LessonText
    why: str
    trust: Literal["model", "untrusted"]
    taint: tuple[Taint, ...]
    quotes: tuple[Quote, ...]

    @property
    def taint_json(self) -> str:
        """The taint as `lesson_versions.taint` keeps it."""
        return json.dumps([asdict(one) for one in self.taint], ensure_ascii=False)


@dataclass(frozen=True)
class Reading:
    """Drafts; what of the answer was dropped, one sentence each; how many lessons it held; why it gave none.

    `unfounded` counts the lessons that were refused because no quote of theirs was found.
    """

    drafts: tuple[Draft, ...]
    dropped: tuple[str, ...]
    offered: int
    unfounded: int
    nothing: str


def read(agent: str, task: str, rollouts: Sequence[Rollout], answer: Mapping[str, Any]) -> Reading:
    """The lessons in an `answer` that fits the schema of `material.question`, about these rollouts."""
    dropped: list[str] = []
    drafts: list[Draft] = []
    unfounded = 0
    offered: list[Mapping[str, Any]] = answer["lessons"]
    for number, lesson in enumerate(offered, start=1):
        name = f"Lesson {number} ({_clean(lesson['title'])[:60] or 'without title'})"
        if number > MOST_LESSONS:
            dropped.append(f"{name} is one more than the {MOST_LESSONS} that were asked for.")
            continue
        problem, text = _text(lesson)
        if problem is not None:
            dropped.append(f"{name} is refused: {problem}")
            continue
        quotes = _quotes(name, lesson["evidence"], rollouts, dropped)
        if not quotes:
            unfounded += 1
            count = len(lesson["evidence"])
            dropped.append(
                f"{name} is refused: {'it quotes nothing' if not count else f'none of its {count} quotes was found'}."
            )
            continue
        draft = _draft(agent, task if lesson["scope"] == "task" else None, text, lesson, quotes, rollouts)
        if any(draft.lesson_id == other.lesson_id for other in drafts):
            dropped.append(f"{name} repeats the one before it.")
            continue
        drafts.append(draft)
    return Reading(tuple(drafts), tuple(dropped), len(offered), unfounded, _clean(answer["nothing"])[:500])


def _draft(
    agent: str,
    task: str | None,
    text: LessonText,
    lesson: Mapping[str, Any],
    quotes: tuple[Quote, ...],
    rollouts: Sequence[Rollout],
) -> Draft:
    found = taint(text, _foreign(rollouts))
    said = [agent, task or "", text.when_text.casefold(), text.do_text.casefold()]
    return Draft(
        lesson_id=hashlib.sha256("\n".join(["model", *said]).encode("utf-8", "replace")).hexdigest()[:16],
        agent=agent,
        task=task,
        text=text,
        why=_clean(lesson["why"])[:_MOST_CHARACTERS],
        trust="untrusted" if found else "model",
        taint=found,
        quotes=quotes,
    )


def _text(lesson: Mapping[str, Any]) -> tuple[str | None, LessonText]:
    """Why a text cannot be taken, and the text."""
    text = LessonText(
        _clean(lesson["title"]), _clean(lesson["when"]), _clean(lesson["when_not"]) or None, _clean(lesson["do"])
    )
    for name, written in (("title", text.title), ("when", text.when_text), ("do", text.do_text)):
        if not written:
            return f"its {name} is empty.", text
    for name, long in (("title", text.title), ("when", text.when_text), ("when not", text.when_not or ""),
                       ("do", text.do_text)):  # fmt: skip
        if len(long) > _MOST_CHARACTERS:
            return f"its {name} has {len(long):,} characters, and at most {_MOST_CHARACTERS:,} are taken.", text
    return None, text


def _quotes(
    name: str, evidence: Sequence[Mapping[str, Any]], rollouts: Sequence[Rollout], dropped: list[str]
) -> tuple[Quote, ...]:
    """The quotes that were found; the others are named in `dropped`."""
    found: dict[tuple[str, str, str], Quote] = {}
    for item in evidence[: 4 * _MOST_QUOTES]:
        problem, quote = _quote(item, rollouts)
        if quote is None:
            shown = " ".join(_clean(item["quote"]).split())[:80]
            dropped.append(f"{name}: the quote “{shown}” {problem}.")
        else:
            found.setdefault((quote.trace_id, quote.span_id, quote.quote), quote)
    return tuple(found.values())[:_MOST_QUOTES]


def _quote(item: Mapping[str, Any], rollouts: Sequence[Rollout]) -> tuple[str, Quote | None]:
    """Why a quote is not taken, or the quote."""
    alias = _ALIAS.fullmatch(str(item["trace"]).strip())
    rollout = next((one for one in rollouts if alias is not None and one.alias == alias[1].upper()), None)
    if rollout is None:
        return f"is said to be of run {_clean(item['trace'])[:20]!r}, and there is none of that name", None
    number = int(item["step"])
    step = rollout.step(number)
    if step is None:
        return f"is said to stand in step {number} of run {rollout.alias}, and there is no such step", None
    words = str(item["quote"])
    for quote in dict.fromkeys((" ".join(words.split()), " ".join(words.strip().strip(_AROUND).split()))):
        if len(quote) < _SHORTEST_QUOTE:
            continue
        field = step.field_of(quote)
        if field is not None:
            return "", Quote(
                rollout.trace_id, step.span_id, number, field, rollout.role, rollout.reward, rollout.reward_sd,
                quote[:_LONGEST_QUOTE],
            )  # fmt: skip
    if len(" ".join(words.split())) < _SHORTEST_QUOTE:
        return "is too short to show anything", None
    return f"does not stand in step {number} of run {rollout.alias}", None


def _foreign(rollouts: Sequence[Rollout]) -> list[Passage]:
    return [
        Passage(text.text, rollout.trace_id, step.span_id, text.field)
        for rollout in rollouts
        for step in rollout.steps
        for text in step.foreign()
    ]


def _clean(text: object) -> str:
    """A text on one line, without characters that only steer how it is shown."""
    return " ".join(_CONTROL.sub(" ", str(text)).split())
