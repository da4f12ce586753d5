"""The prompt of a group: its rollouts as text that fits a number of tokens, what was cut said, all marked as data.

Texts are shortened the same way every time: one length is found to which every text is cut in its middle so that all
fits, twice that for the steps that matter most (where best and worst part, failed calls, much credit); when even short
texts do not fit, the steps that matter least are left out. A text that stands in the prompt already is not repeated.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipelines.lessons.drafting.findings import findings, one_line, overview
from pipelines.lessons.drafting.group import Group, Rollout, Step
from pipelines.lessons.playbook import estimate_tokens
from pipelines.llm_schema import strict_object
from pipelines.prompts import prompt

__all__ = [
    "DRAFT_PROMPT", "MOST_LESSONS", "MOST_TOKENS", "SUMMARY_PROMPT", "Question", "answer_schema", "boundary",
    "question", "summary_question",
]  # fmt: skip

DRAFT_PROMPT: Final = "lesson_draft.v1"
SUMMARY_PROMPT: Final = "lesson_summary.v1"
MOST_TOKENS: Final = 16_000
"""A prompt's limit by `estimate_tokens`, schema included."""
MOST_LESSONS: Final = 2

_LENGTHS: Final = (
    8_000, 6_000, 4_500, 3_500, 2_800, 2_300, 1_900, 1_600, 1_300, 1_100, 900, 750, 600, 500, 400, 320, 250, 200, 150,
)  # fmt: skip
_WORTH_REFERRING: Final = 120
_MUCH_CREDIT: Final = 3


@dataclass(frozen=True)
class Question:
    """What the model is asked: its two messages, the answer's schema, the prompt's version, its estimated tokens.

    `cut` says in sentences what the prompt leaves out, `kept` is the share of the rollouts' characters that it holds.
    """

    system: str
    user: str
    schema: dict[str, Any]
    prompt_version: str
    tokens: int
    cut: tuple[str, ...]
    kept: float


@dataclass
class _Shown:
    """What of one rollout a prompt shows."""

    text: str
    kept: int
    whole: int
    left_out: int


def question(group: Group, *, summaries: Mapping[str, str] | None = None, limit: int = MOST_TOKENS) -> Question:
    """What separates the rollouts of `group`, asked in at most `limit` tokens.

    Args: `summaries` of rollouts by alias, from an earlier question; they stand before the rollouts' steps.
    Raises: `ValueError` when not even the frame of the prompt fits.
    """
    schema = answer_schema()
    before, after = overview(group), findings(group)
    parted = _parted(group)

    def filled(shown: list[_Shown]) -> tuple[str, str]:
        blocks = [_rollout(rollout, one.text, summaries) for rollout, one in zip(group.rollouts, shown, strict=True)]
        return _filled(DRAFT_PROMPT, "\n\n".join([before, *blocks, after]))

    return _fitted(group.rollouts, parted, filled, DRAFT_PROMPT, schema, limit)


def summary_question(group: Group, rollout: Rollout, *, limit: int = MOST_TOKENS) -> Question:
    """What happened in one rollout, asked in at most `limit` tokens. Raises: `ValueError` as `question`."""
    text = {"type": "string"}
    passage = strict_object({"step": {"type": "integer"}, "quote": text})
    schema = strict_object({"summary": text, "missed": text, "passages": {"type": "array", "items": passage}})

    def filled(shown: list[_Shown]) -> tuple[str, str]:
        return _filled(SUMMARY_PROMPT, f"{overview(group)}\n\n{_rollout(rollout, shown[0].text, None)}")

    return _fitted((rollout,), _parted(group), filled, SUMMARY_PROMPT, schema, limit)


def _fitted(
    rollouts: tuple[Rollout, ...],
    parted: set[str],
    filled: Callable[[list[_Shown]], tuple[str, str]],
    version: str,
    schema: dict[str, Any],
    limit: int,
) -> Question:
    """The longest of the ways to tell of `rollouts` that fits. Raises: `ValueError`."""
    stated = estimate_tokens(json.dumps(schema))
    for length, share in [*((length, 1.0) for length in _LENGTHS), *((_LENGTHS[-1], 0.75**n) for n in range(1, 20))]:
        seen: dict[str, str] = {}
        shown = [_steps(rollout, parted, length, share, seen) for rollout in rollouts]
        system, user = filled(shown)
        tokens = estimate_tokens(system) + estimate_tokens(user) + stated
        if tokens <= limit:
            cut = tuple(
                sentence
                for rollout, one in zip(rollouts, shown, strict=True)
                if (sentence := _told(rollout, one)) is not None
            )
            whole = sum(one.whole for one in shown)
            kept = sum(one.kept for one in shown) / whole if whole else 1.0
            return Question(system, user, schema, version, tokens, cut, kept)
    raise ValueError(f"a prompt of {limit} tokens holds nothing of {len(rollouts)} rollouts")


def _filled(version: str, material: str) -> tuple[str, str]:
    return prompt(version).filled({"boundary": boundary(material), "material": material})


def boundary(material: str) -> str:
    """What the lines around the material carry: whoever writes into a trace cannot write a hash of the whole."""
    return hashlib.sha256(material.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def answer_schema() -> dict[str, Any]:
    """What an answer about a group is held to."""
    text = {"type": "string"}
    item = strict_object({"trace": text, "step": {"type": "integer"}, "quote": text})
    lesson = strict_object(
        {
            "title": text, "when": text, "when_not": text, "do": text, "why": text,
            "evidence": {"type": "array", "items": item}, "scope": {"type": "string", "enum": ["task", "agent"]},
        }
    )  # fmt: skip
    return strict_object({"lessons": {"type": "array", "items": lesson}, "nothing": text})


def _rollout(rollout: Rollout, steps: str, summaries: Mapping[str, str] | None) -> str:
    outcome = min(1.0, max(0.0, rollout.outcome))
    lines = [
        f"RUN {rollout.alias} went {'well' if rollout.role == 'good' else 'badly'}: outcome {outcome:.2f}, "
        f"estimated reward {rollout.reward:.2f} ± {rollout.reward_sd:.2f}"
    ]
    lines += [f"failure label: {one_line(label)}" for label in rollout.labels]
    if summaries and rollout.alias in summaries:
        lines.append(f"summary:\n{summaries[rollout.alias]}")
    return "\n".join([*lines, steps])


def _parted(group: Group) -> set[str]:
    """Alias and span of the steps at which the best and the worst rollout part, as "A:span"."""
    row = group.divergence
    if row is None:
        return set()
    ends = ((group.rollouts[0], row["best_span_id"]), (group.rollouts[-1], row["worst_span_id"]))
    return {f"{rollout.alias}:{span_id}" for rollout, span_id in ends if span_id is not None}


def _steps(rollout: Rollout, parted: set[str], length: int, share: float, seen: dict[str, str]) -> _Shown:
    """The steps as text, every text cut to `length`, a `share` of the steps kept. `seen` grows by what is shown."""
    matter = _matter(rollout, parted)
    kept = {
        step.number for step in sorted(rollout.steps, key=lambda step: matter[step.number])[: _count(rollout, share)]
    }
    lines: list[str] = []
    shown = whole = left_out = 0
    for step in rollout.steps:
        whole += sum(len(text.text) for text in step.texts)
        if step.number not in kept:
            left_out += 1
            continue
        most = 2 * length if matter[step.number][0] == 0 else length
        lines.append(_heading(step))
        for text in step.texts:
            place = seen.get(text.text)
            if place is not None and len(text.text) >= _WORTH_REFERRING:
                lines.append(f"{text.heading}: [as in {place}]")
                shown += len(text.text)
                continue
            seen[text.text] = f"run {rollout.alias}, step {step.number}"
            short = _cut(text.text, most)
            shown += min(len(short), len(text.text))
            lines.append(f"{text.heading}: {short}")
    if left_out:
        lines.append(f"[{left_out} steps that seem to matter less are left out]")
    return _Shown("\n".join(lines), shown, whole, left_out)


def _count(rollout: Rollout, share: float) -> int:
    return max(1, round(len(rollout.steps) * share))


def _matter(rollout: Rollout, parted: set[str]) -> dict[int, tuple[int, float, int]]:
    """How much each step matters, the most first when sorted: a class from 0, then credit, then nearness to an end."""
    credits = sorted((abs(step.credit) for step in rollout.steps if step.credit is not None), reverse=True)
    much = credits[:_MUCH_CREDIT][-1] if credits else float("inf")
    last = len(rollout.steps)
    ranks = {}
    for place, step in enumerate(rollout.steps, start=1):
        size = abs(step.credit) if step.credit is not None else 0.0
        first = f"{rollout.alias}:{step.span_id}" in parted or step.status == "error" or (size >= much and size > 0)
        ranks[step.number] = (0 if first else 1, -size, min(place, last - place))
    return ranks


def _heading(step: Step) -> str:
    credit = ""
    if step.credit is not None:
        spread = f" ± {step.credit_sd:.2f}" if step.credit_sd is not None else ""
        credit = f", credit {step.credit:+.2f}{spread}"
    status = f", {one_line(step.status, 20)}" if step.status else ""
    return f"STEP {step.number} ({one_line(step.kind, 20)}{status}{credit}) {one_line(step.name)}"


def _told(rollout: Rollout, shown: _Shown) -> str | None:
    """What of a rollout is not in the prompt; None when all is."""
    missing = shown.whole - shown.kept
    if missing <= 0 and not shown.left_out:
        return None
    steps = f" and {shown.left_out} of {len(rollout.steps)} steps" if shown.left_out else ""
    return f"Run {rollout.alias}: {missing:,} of {shown.whole:,} characters{steps} are left out."


def _cut(text: str, most: int) -> str:
    """The text, without its middle when it is longer than `most` characters; what is cut is said."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters cut …] {text[-half:]}"
