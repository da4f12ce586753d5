"""Examples to train on, from traces: what a model should answer where it was not told the lesson.

Two kinds, in the formats of the API. Supervised: a whole conversation that went well with the lesson. Preference pairs
(DPO): within a task, a conversation that went well with the lesson and one that went badly without it say the same up
to an answer of the assistant; that answer is preferred to the other's. Where two conversations part by the user's words
or a tool's result, nothing can be said about answers, and there is no pair.

Every candidate ends as an example or is left out for one reason (REASONS).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import polars as pl

from pipelines.lessons.graduate.chat import Chat, Message, conversation, tools_of
from pipelines.lessons.graduate.config import ExportConfig
from pipelines.lessons.graduate.redact import Redactor, Unsettled
from pipelines.lessons.graduate.unlesson import STILL_THERE, Removal, without
from pipelines.lessons.lint.injection import attacks
from pipelines.lessons.paragraphs import estimate_tokens
from store.graduation import MOST_CHARACTERS

__all__ = ["REASONS", "Built", "Example", "Split", "build", "split_of"]

Split = Literal["train", "validation"]
Steps = Callable[[str], Sequence[Mapping[str, Any]]]

REASONS: Final = {
    "consent": "the user is not learnt from",
    "no reward": "it has no reward",
    "reward": "its reward is not on the right side, or too uncertain",
    "task": "there are enough of its task",
    "enough": "there are enough in all",
    "long": "it is too long",
    "chat": "it holds no conversation with an answer",
    "lesson": STILL_THERE,
    "attack": "the user or a tool tried to give the model orders",
    "redaction": "redaction did not settle",
    "same": "another example says the same",
    "no partner": "no trace of its task went well with the lesson",
    "parted": "it parts from those that went well by what the user or a tool said",
}

_PLACEHOLDER: Final = re.compile(r"\[([a-z][a-z -]*) [A-Z]{1,3}\]")
_SHARED_BY: Final = 3
"""So many users whose conversations have the same system message: it is not about one of them."""


@dataclass(frozen=True)
class Example:
    """One line of a file, from `trace_id` (and `other_id`, whose answer is preferred)."""

    split: Split
    trace_id: str
    other_id: str | None
    line: str


@dataclass
class Built:
    """Examples by method, every candidate with what became of it (rows of `store.graduation.SOURCES`), and how many
    placeholders of each form stand in the examples."""

    supervised: list[Example] = field(default_factory=list)
    dpo: list[Example] = field(default_factory=list)
    origins: list[dict[str, Any]] = field(default_factory=list)
    redacted: Counter[str] = field(default_factory=Counter)

    def left_out(self, method: str) -> dict[str, int]:
        """Candidates that were left out, by reason."""
        counted = Counter(each["reason"] for each in self.origins if each["method"] == method)
        return {reason: number for reason, number in sorted(counted.items(), key=str) if reason is not None}


@dataclass(frozen=True)
class _Ready:
    """A conversation that may be used."""

    row: Mapping[str, Any]
    chat: Chat


def build(
    good: pl.DataFrame,
    bad: pl.DataFrame,
    steps: Steps,
    removal: Removal,
    *,
    refused: Callable[[str | None], bool],
    config: ExportConfig,
    progress: Callable[[float], None] = lambda _: None,
) -> Built:
    """Examples from traces with the lesson and traces without it (both columns `store.graduation.CANDIDATES`).

    Args: `steps` of a trace in event order; `removal` of the lessons; `refused` says of a user whether he is not learnt
    from. The same traces give the same examples in the same order.
    """
    built = _Builder(steps, removal, refused, config)
    chats = built.ready("supervised", good, high=True, progress=lambda done: progress(0.6 * done))
    seen: set[str] = set()
    for one in chats:
        line = _line({"messages": list(one.chat.messages), **_tools(one.chat.tools)})
        built.keep("supervised", one, line, seen)
    others = built.ready("dpo", bad, high=False, progress=lambda done: progress(0.6 + 0.4 * done))
    built.pairs(chats, others)
    return built.built


def split_of(task: str | None, trace_id: str, validation: float) -> Split:
    """Where a task's examples go: all to the same side, the same side in every export."""
    # A trace without a task is a task of its own.
    name = f"task:{task}" if task is not None else f"trace:{trace_id}"
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "validation" if drawn < validation else "train"


class _Builder:
    def __init__(
        self, steps: Steps, removal: Removal, refused: Callable[[str | None], bool], config: ExportConfig
    ) -> None:
        self.built = Built()
        self._steps, self._removal, self._refused, self._config = steps, removal, refused, config
        self._shared: dict[str, set[str]] = {}
        self._forms: set[str] = set()

    def ready(self, method: str, frame: pl.DataFrame, *, high: bool, progress: Callable[[float], None]) -> list[_Ready]:
        """The usable conversations among candidates, by task and id; the others are left out."""
        told: list[tuple[dict[str, Any], Chat]] = []
        counted: Counter[str] = Counter()
        rows = frame.sort("task", "trace_id", nulls_last=True).to_dicts()
        for number, row in enumerate(rows):
            progress(number / len(rows))
            reason = self._unfit(row, high, counted, len(told))
            chat = None if reason else self._chat(row)
            if isinstance(chat, Chat):
                told.append((row, chat))
                counted[self._key(row)] += 1
                if high:
                    self._count_system(row, chat)
            else:
                self._leave(method, row, reason or chat or "chat")
        shared = frozenset(text for text, users in self._shared.items() if len(users) >= _SHARED_BY)
        found = []
        for row, chat in told:
            known = {row["user_id"]: "user"} if row["user_id"] else {}
            redactor = Redactor(known)
            try:
                found.append(_Ready(row, redactor.chat(chat, shared)))
                self._forms.update(redactor.counts)
            except Unsettled:
                self._leave(method, row, "redaction")
        return found

    def keep(
        self, method: Literal["supervised", "dpo"], one: _Ready, line: str, seen: set[str], other: str | None = None
    ) -> None:
        """Add an example, unless it is there already."""
        if line in seen:
            self._leave(method, one.row, "same")
            return
        seen.add(line)
        split = split_of(one.row["task"], one.row["trace_id"], self._config.validation)
        listed = self.built.supervised if method == "supervised" else self.built.dpo
        listed.append(Example(split, one.row["trace_id"], other, line))
        self._note(method, one.row, other, split, None)
        self.built.redacted.update(form for form in _PLACEHOLDER.findall(line) if form in self._forms)

    def pairs(self, good: Sequence[_Ready], bad: Sequence[_Ready]) -> None:
        """Each bad conversation with the first good one of its task from which it parts by an answer."""
        by_task: dict[str, list[_Ready]] = {}
        for one in good:
            if one.row["task"] is not None:
                by_task.setdefault(one.row["task"], []).append(one)
        seen: set[str] = set()
        for one in bad:
            partners = [
                each for each in by_task.get(one.row["task"], []) if each.row["trace_id"] != one.row["trace_id"]
            ]
            if not partners:
                self._leave("dpo", one.row, "no partner")
                continue
            found = next(((each, line) for each in partners if (line := _pair(each.chat, one.chat)) is not None), None)
            if found is None:
                self._leave("dpo", one.row, "parted")
            else:
                self.keep("dpo", one, found[1], seen, found[0].row["trace_id"])

    def _unfit(self, row: Mapping[str, Any], high: bool, counted: Counter[str], taken: int) -> str | None:
        config = self._config
        if self._refused(row["user_id"]):
            return "consent"
        if row["reward"] is None:
            return "no reward"
        right = row["reward"] >= config.high if high else row["reward"] <= config.low
        if not right or (row["reward_sd"] or 0.0) > config.sure:
            return "reward"
        if counted[self._key(row)] >= config.per_task:
            return "task"
        return "enough" if taken >= config.most else None

    def _chat(self, row: Mapping[str, Any]) -> Chat | str:
        """The conversation of a trace without the lesson, or why there is none."""
        steps = self._steps(row["trace_id"])
        texts = [row["input"], row["output"], *(each[name] for each in steps for name in ("input", "output"))]
        if any(text is not None and len(text) > MOST_CHARACTERS for text in texts):
            return "long"
        chat = conversation(steps, input=row["input"], output=row["output"])
        if chat is None:
            return "chat"
        chat = without(chat, self._removal)
        if chat is None:
            return "lesson"
        if estimate_tokens(_line({"messages": list(chat.messages), **_tools(chat.tools)})) > self._config.longest:
            return "long"
        heard = (str(each["content"]) for each in chat.messages if each["role"] in ("user", "tool"))
        return "attack" if any(attacks(text) for text in heard) else chat

    def _count_system(self, row: Mapping[str, Any], chat: Chat) -> None:
        for message in chat.messages:
            if message["role"] == "system":
                self._shared.setdefault(message["content"], set()).add(row["user_id"] or row["trace_id"])

    def _key(self, row: Mapping[str, Any]) -> str:
        return str(row["task"]) if row["task"] is not None else f"trace:{row['trace_id']}"

    def _leave(self, method: str, row: Mapping[str, Any], reason: str) -> None:
        self._note(method, row, None, None, REASONS[reason])

    def _note(
        self, method: str, row: Mapping[str, Any], other: str | None, split: str | None, reason: str | None
    ) -> None:
        self.built.origins.append(
            {
                "method": method, "trace_id": row["trace_id"], "other_id": other, "user_id": row["user_id"],
                "task": row["task"], "split": split, "reason": reason,
            }
        )  # fmt: skip


def _pair(good: Chat, bad: Chat) -> str | None:
    """The line of a preference pair; None where the conversations do not part by an answer."""
    shared: list[Message] = []
    for ours, theirs in zip(good.messages, bad.messages, strict=False):
        if ours == theirs:
            shared.append(ours)
            continue
        if (ours["role"], theirs["role"]) != ("assistant", "assistant") or not any(m["role"] == "user" for m in shared):
            return None
        tools = tools_of([*shared, ours, theirs])
        asked = {"messages": shared, **_tools(tools)}
        return _line({"input": asked, "preferred_output": [ours], "non_preferred_output": [theirs]})
    return None


def _tools(tools: Iterable[Message]) -> dict[str, Any]:
    listed = list(tools)
    return {"tools": listed} if listed else {}


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)
