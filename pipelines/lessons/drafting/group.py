"""A group of rollouts of one task as the model is told of it: the rollouts chosen, and what is known of their steps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["ALIASES", "Group", "Known", "Rollout", "Step", "Text", "texts_of"]

ALIASES: Final = "ABCDEFGH"
_FIELDS: Final = ("input", "output", "status_message")
# Whose words instruct an agent rather than come to it from outside.
_TRUSTED_ROLES: Final = frozenset({"system", "developer", "assistant"})


@dataclass(frozen=True)
class Text:
    """One text of a step: the span's column it stands in, the role of the message that it is, if any, and the text."""

    field: str
    who: str | None
    text: str

    @property
    def heading(self) -> str:
        """The words before it in the prompt."""
        return self.field.replace("_", " ") + (f", {self.who}" if self.who else "")


@dataclass(frozen=True)
class Step:
    """One span. `texts` is what it says; `raw` the columns as stored, by name; credit is null where none is known."""

    number: int
    span_id: str
    kind: str
    name: str
    status: str | None
    texts: tuple[Text, ...]
    raw: Mapping[str, str]
    credit: float | None = None
    credit_sd: float | None = None

    def foreign(self) -> tuple[Text, ...]:
        """What users, tools and other systems said here: nothing in it may become an instruction unnoticed."""
        said = "output" if self.kind in ("llm", "agent") else None
        return tuple(text for text in self.texts if text.who not in _TRUSTED_ROLES and text.field != said)

    def field_of(self, quote: str) -> str | None:
        """The column in which a quote stands, blanks not counting; None when it stands in none."""
        wanted = " ".join(quote.split())
        if not wanted:
            return None
        for text in self.texts:
            if wanted in " ".join(text.text.split()):
                return text.field
        return next((name for name, text in self.raw.items() if wanted in " ".join(text.split())), None)


@dataclass(frozen=True)
class Rollout:
    """One trace under its short name in the prompt; `role` is good or bad, by the middle of the group's outcomes."""

    alias: str
    trace_id: str
    role: Literal["good", "bad"]
    outcome: float
    reward: float
    reward_sd: float
    labels: tuple[str, ...]
    steps: tuple[Step, ...]

    def step(self, number: int) -> Step | None:
        """The step of this number."""
        return next((step for step in self.steps if step.number == number), None)


@dataclass(frozen=True)
class Known:
    """A lesson that covers the group already."""

    lesson_id: str
    state: str
    when_text: str
    do_text: str


@dataclass(frozen=True)
class Group:
    """What the model is told. `divergence` is a row of contrast's DIVERGENCES, `patterns` are rows of PATTERNS.

    `value` ranks the group; `size` counts all its rollouts, of which `rollouts` are the chosen ones.
    """

    agent: str
    task: str
    size: int
    mean_outcome: float
    standard_error: float
    value: float
    rollouts: tuple[Rollout, ...]
    divergence: Mapping[str, Any] | None
    patterns: tuple[Mapping[str, Any], ...]
    known: tuple[Known, ...]

    def rollout(self, alias: str) -> Rollout | None:
        """The rollout of this alias."""
        return next((rollout for rollout in self.rollouts if rollout.alias == alias), None)


def texts_of(row: Mapping[str, Any]) -> tuple[tuple[Text, ...], dict[str, str]]:
    """The texts of a span (columns `store.drafting.STEPS`), chat messages taken apart, and its columns as stored."""
    texts: list[Text] = []
    raw = {name: str(row[name]) for name in _FIELDS if row[name]}
    for name, text in raw.items():
        texts += [Text(name, who, words) for who, words in _messages(text)] or [Text(name, None, text)]
    return tuple(texts), raw


def _messages(text: str) -> list[tuple[str, str]]:
    """Role and words of each chat message in a JSON text; none when it is anything else."""
    if text[:1] not in "[{":
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    listed = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        return []
    found = []
    for message in listed:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return []
        words = _words(message.get("content"))
        calls = message.get("tool_calls")
        if calls:
            words = f"{words}\n{json.dumps(calls, ensure_ascii=False)}".strip()
        if words:
            found.append((" ".join(message["role"].split())[:20], words))
    return found


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "\n".join(part for part in parts if isinstance(part, str))
    return "" if content is None else json.dumps(content, ensure_ascii=False)
