"""What the store holds to judge a lesson's text against, and keeping what lint finds."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from pipelines.lessons.likeness import likeness
from pipelines.lessons.lint.lint import Finding, LintConfig, Material, Passage, lint
from pipelines.lessons.lint.words import folded
from store import guardrails, lesson_lint, lesson_material, lessons
from store.connection import Store
from store.embeddings import text_of
from store.lesson_lint import Compared
from store.lesson_versions import LessonText
from store.policy import Limits

__all__ = ["check", "check_unread", "compared", "judge", "material"]

_OPERATORS: Final = ("system", "developer")
_PERSONAL: Final = re.compile(
    r"(?i)name|user|customer|client|mail|phone|address|account|member|patient|employee|contact"
)
_DEPTH: Final = 8
_VALUES: Final = 2_000


def material(store: Store, lesson_id: str, text: LessonText | None = None) -> Material:
    """What a text of a lesson (None: its newest version) is judged against, of the present state of the store.

    Raises: `NotFound`.
    """
    lesson = lessons.one(store, lesson_id)
    return _material(store, lesson, text or _text(lesson))


def judge(store: Store, lesson_id: str, text: LessonText, trust: str) -> tuple[Finding, ...]:
    """What lint would say to another text of a lesson; nothing is kept. Raises: `NotFound`."""
    return lint(text, trust, material(store, lesson_id, text))


def check(store: Store, lesson_id: str, config: LintConfig | None = None) -> tuple[Finding, ...]:
    """Lint the newest version of a lesson and keep the findings with that version. Raises: `NotFound`.

    When the text is edited meanwhile, the findings stay with the version that was read.
    """
    lesson = lessons.one(store, lesson_id)
    text = _text(lesson)
    held = _material(store, lesson, text)
    found = lint(text, _trust(lesson), held, config)
    now, how = store.clock.now(), compared(held)
    store.write(lambda connection: lesson_lint.put(connection, lesson_id, lesson["version"], found, now, how))
    return found


def compared(held: Material) -> Compared:
    """How the other lessons are compared with the text that this material is for."""
    return Compared(held.likeness.method, held.likeness.reason)


def check_unread(store: Store, *, most: int = 500) -> int:
    """Lint the waiting lessons whose newest version lint has not read, in the order of the queue; returns how many.

    For whoever proposes: a queue is sorted and shown with what lint found.
    """
    waiting = lessons.queue(store).filter(~pl.col("linted"))["lesson_id"].to_list()[:most]
    for lesson_id in waiting:
        check(store, lesson_id)
    return len(waiting)


def _trust(lesson: dict[str, Any]) -> str:
    """Versions from before trust was kept are drafts of ours or texts of operators."""
    return lesson["trust"] or ("system" if lesson["author"] == "trimtab" else "operator")


def _text(lesson: dict[str, Any]) -> LessonText:
    return LessonText(*(lesson[name] for name in ("title", "when_text", "when_not", "do_text")))


def _material(store: Store, lesson: dict[str, Any], text: LessonText) -> Material:
    gathered = lesson_material.gathered(store, lesson)
    passages = tuple(
        Passage(text, row["trace_id"], row["span_id"], row["field"])
        for row in gathered.passages.iter_rows(named=True)
        for text in _said(row["text"])
    )
    tasks = gathered.people["task"].drop_nulls().n_unique()
    return Material(
        evidence=lessons.evidence(store, lesson["lesson_id"]),
        untrusted=passages,
        library=gathered.library,
        limits=_limits(store, lesson["agent"]),
        tasks=tasks,
        contrast=set(gathered.evidence["role"]) >= {"good", "bad"},
        lesson_id=lesson["lesson_id"],
        agent=lesson["agent"],
        task=lesson["task"],
        origin=lesson["origin"],
        names=_names(gathered.people),
        values=_values(gathered.passages) if tasks == 1 else (),
        elsewhere=_elsewhere(gathered.others),
        tools=frozenset(gathered.tools),
        likeness=likeness(store, text_of(text.title, text.when_text, text.do_text), gathered.library.height),
    )


def _limits(store: Store, agent: str) -> Limits:
    """The limits of an agent; for a lesson of every agent, all that any of them has."""
    if agent != "*":
        return guardrails.limits_of(store, agent)[0]
    held = guardrails.listed(store, state="on").filter(pl.col("arm").is_null())

    def subjects(kind: str) -> tuple[str, ...]:
        return tuple(held.filter(pl.col("kind") == kind)["subject"].drop_nulls().unique().sort().to_list())

    return Limits(subjects("off_limits_tool"), subjects("off_limits_site"), subjects("off_limits_action"))


def _said(text: str) -> Iterator[str]:
    """What a text says: of a list of messages, those that no operator wrote; else the text."""
    if text[:1] not in "[{":
        yield text
        return
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        yield text
        return
    messages = held.get("messages") if isinstance(held, dict) else held
    roles = [one.get("role") for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    if not roles or any(not isinstance(role, str) for role in roles) or not isinstance(messages, list):
        yield from (leaf for _, leaf in _leaves(held))
        return
    for one in messages:
        if not (isinstance(one, dict) and one.get("role") in _OPERATORS):
            yield from (leaf for _, leaf in _leaves(one))


def _names(people: pl.DataFrame) -> tuple[str, ...]:
    """Ids of users and sessions, and what their metadata says about a person."""
    found: dict[str, None] = dict.fromkeys([*people["user_id"].drop_nulls(), *people["session_id"].drop_nulls()])
    for text in people["metadata"].drop_nulls():
        try:
            held = json.loads(text)
        except (ValueError, RecursionError):
            continue
        found.update((leaf, None) for key, leaf in _leaves(held) if _PERSONAL.search(key))
    return tuple(found)


def _values(passages: pl.DataFrame) -> tuple[str, ...]:
    """Arguments of tools and answers of traces, at most 2,000."""
    arguments = passages.filter(pl.col("span_id").is_not_null() & (pl.col("field") == "input"))["text"]
    answers = passages.filter(pl.col("span_id").is_null() & (pl.col("field") == "output"))["text"]
    found: dict[str, None] = {}
    for text in (*arguments, *answers):
        try:
            held = json.loads(text)
        except (ValueError, RecursionError):
            held = text
        found.update((leaf, None) for _, leaf in _leaves(held))
    return tuple(found)[:_VALUES]


def _elsewhere(others: pl.DataFrame) -> frozenset[str]:
    """Words that two or more other users' traces hold."""
    counts: Counter[str] = Counter()
    for _, rows in others.group_by("user_id", maintain_order=True):
        texts = [*rows["user_id"].drop_nulls(), *rows["input"].drop_nulls(), *rows["output"].drop_nulls()]
        words = [set(folded(text)) for text in texts]
        # Traces that name no user are users of their own.
        counts.update(
            set().union(*words) if rows["user_id"][0] is not None else [one for each in words for one in each]
        )
    return frozenset(word for word, count in counts.items() if count > 1)


def _leaves(held: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(path, text) of all texts and numbers in a JSON value."""
    if depth > _DEPTH:
        return
    if isinstance(held, dict):
        for name, value in held.items():
            yield from _leaves(value, f"{key}.{name}", depth + 1)
    elif isinstance(held, list):
        for value in held:
            yield from _leaves(value, key, depth + 1)
    elif isinstance(held, str | int | float) and not isinstance(held, bool):
        yield key, str(held)
