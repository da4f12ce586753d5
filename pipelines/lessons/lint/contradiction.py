"""Contradictions: a lesson that orders what a guardrail forbids, that skips a check, or that another one denies."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import numpy as np

from pipelines.lessons.lint.config import LintConfig
from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.lint.material import Material
from pipelines.lessons.lint.polarity import claims, negated, opposed
from pipelines.lessons.lint.taint import clauses
from pipelines.lessons.similarity import EMBEDDINGS, TFIDF
from pipelines.lessons.word_counts import counted
from store.embeddings import text_of
from store.guardrail_subjects import action_pattern, site, text_pattern
from store.lesson_reviews import LessonText

__all__ = ["conflicting", "guardrails", "others"]

_WORD: Final = re.compile(r"`([^`\n]{1,200})`|([A-Za-z_][\w.:/-]*)")
_HOST: Final = re.compile(
    r"(?i)(?<![\w@])(?:https?://)?((?:[a-z0-9_-]{1,63}\.){1,8}[a-z]{2,24}|\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?"
)
_SKIP: Final = re.compile(
    r"(?i)\b(?:skip|skipping|bypass|bypassing|ignore|ignoring|disable|disabling|circumvent|"
    r"circumventing|evade|evading|work(?:ing)? around"
    r"|get(?:ting)? around|turn(?:ing)? off|switch(?:ing)? off|overrid(?:e|ing)|"
    r"disregard(?:ing)?|without|regardless of|no need (?:for|to)"
    r"|even (?:if|though|when))\b"
)
_CHECK: Final = re.compile(
    r"(?i)\b(?:guard ?rails?|polic(?:y|ies)|confirm(?:ation|ing)?|verif(?:y|ication|ying)|"
    r"authenticat\w+|authori[sz]ation"
    r"|approvals?|permissions?|consent|safety|security|safeguards?"
    r"|(?:rate|spend(?:ing)?|safety|usage|refund|the|any|all|its|your|these) limits?|off[- ]limits"
    r"|forbidden|not allowed|restrictions?|two[- ]factor|2fa|identity checks?|compliance|audit|logging|sandbox)\b"
)
_REACH: Final = 60  # characters between skipping and what is skipped


_tool = lru_cache(maxsize=1_024)(text_pattern)
_action = lru_cache(maxsize=1_024)(action_pattern)
_site = lru_cache(maxsize=1_024)(site)


def guardrails(text: LessonText, material: Material) -> Iterator[Finding]:
    """Orders of tools, actions or sites that are off limits, and orders to skip a check, block."""
    limits = material.limits
    for name, written in fields(text):
        if name in ("when_text", "when_not"):
            continue  # a condition orders nothing
        for part in clauses(written):
            for match in _WORD.finditer(part) if limits.off_limits_tools or limits.off_limits_actions else ():
                barred_here = list(_forbidden(name, match.group(1) or match.group(2), material))
                if barred_here and not negated(part, match.start()):
                    yield from barred_here
            for match in _HOST.finditer(part) if limits.off_limits_sites else ():
                meant = site(match.group(1))
                for held in limits.off_limits_sites:
                    barred = _site(held)
                    if meant and barred and barred.covers(meant) and not negated(part, match.start()):
                        message = f"The site {held} is off limits for this agent."
                        yield Finding("contradiction", "block", name, match.group(1), f"site {held}", message)
        yield from _skips(name, written)


def _forbidden(name: str, word: str, material: Material) -> Iterator[Finding]:
    called = word.split("(")[0].strip().rstrip(".:/-")
    if not called:
        return
    for held in material.limits.off_limits_tools:
        if _tool(held).fullmatch(called) and _specific(held):
            message = f"The tool {held} is off limits for this agent."
            yield Finding("contradiction", "block", name, called, f"tool {held}", message)
    for held in material.limits.off_limits_actions:
        pattern = _action(held)
        if pattern is not None and pattern.name.fullmatch(called) and _specific(held.split("(")[0]):
            message = f"The action {held} is off limits for this agent."
            severe = not pattern.arguments
            if not severe:
                message += " The text does not say with which arguments; say that those are not to be used."
            yield Finding("contradiction", "block" if severe else "warn", name, called, f"action {held}", message)


def _specific(pattern: str) -> bool:
    """Whether a pattern names something: `*` alone is every word of a text."""
    return any(character.isalnum() for character in pattern)


def _skips(name: str, written: str) -> Iterator[Finding]:
    for part in clauses(written):
        for match in _SKIP.finditer(part):
            check = _CHECK.search(part, match.end(), match.end() + _REACH)
            if check is None or negated(part, match.start()):
                continue
            if match.group().lower() == "without" and _denied(part):
                continue
            excerpt = part[match.start() : check.end()].strip()
            message = f"{excerpt!r} tells the agent to do without a check: lessons must not weaken guardrails."
            yield Finding("contradiction", "block", name, excerpt, None, message)
            break


_REFUSES: Final = re.compile(r"(?i)\b(?:not|never|don'?t|don’t|refuse|cannot|mustn'?t|avoid)\b")


def _denied(part: str) -> bool:
    return _REFUSES.search(part) is not None


def others(text: LessonText, material: Material, config: LintConfig) -> Iterator[Finding]:
    """Lessons of the same scope that say the opposite under a like condition warn; near ones warn, the same block.

    Likeness is that of embeddings where they are known, else of words; of conditions it is always that of words, whose
    few shared ones are what embeddings blur.
    """
    library = material.library.to_dicts()
    places = np.array([place for place, row in enumerate(library) if _overlaps(row, material)], dtype=np.int64)
    if not places.size:
        return
    rows = [library[place] for place in places]
    own = {"title": text.title, "when_text": text.when_text, "do_text": text.do_text}
    embedded = material.likeness.cosines
    words: list[float] = []
    if any(row["lesson_id"] not in embedded for row in rows):
        words = counted(tuple(map(_whole, library))).cosines(_whole(own), places).tolist()
    conditions = counted(tuple(row["when_text"] for row in library)).cosines(text.when_text, places)
    for place, row in enumerate(rows):
        known = embedded.get(row["lesson_id"])
        cosine, method = (words[place], TFIDF) if known is None else (known, EMBEDDINGS)
        condition = float(conditions[place])
        near, duplicate = config.thresholds(method)
        alike = cosine >= near
        if condition >= config.same_when or alike:
            why = conflicting(own, row, alike=alike, tools=material.tools)
            if why is not None:
                message = f"{row['title']!r} applies under a similar condition, and {why}."
                yield Finding("contradiction", "warn", "do_text", None, row["lesson_id"], message)
                continue
        if alike:
            same = cosine >= duplicate
            message = f"{'The same as' if same else 'Close to'} {row['title']!r} (cosine {cosine:.2f} by {method})"
            message += ": edit that one, or leave one of them out." if same else ": does the library need both?"
            yield Finding("near_duplicate", "block" if same else "warn", None, None, row["lesson_id"], message)


def conflicting(
    one: dict[str, Any], other: dict[str, Any], *, alike: bool, tools: frozenset[str] = frozenset()
) -> str | None:
    """Why two lessons (keys title, do_text) tell the opposite, in words; None when nothing says so."""
    left, right = (claims(f"{lesson['title']}. {lesson['do_text']}", tools) for lesson in (one, other))
    for use, avoid in ((left.use, right.avoid), (right.use, left.avoid)):
        both = sorted(use & avoid)
        if both:
            return f"one tells to use {both[0]}, the other to do without it"
    for first, second in sorted(left.orders):
        if (second, first) in right.orders and (first, second) not in right.orders:
            return f"they order {first} and {second} the other way round"
    if alike and opposed(str(one["do_text"]), str(other["do_text"])):
        return "they say nearly the same with the opposite sign"
    return None


def _whole(lesson: dict[str, Any]) -> str:
    return text_of(lesson["title"], lesson["when_text"], lesson["do_text"])


def _overlaps(row: dict[str, Any], material: Material) -> bool:
    if row["lesson_id"] == material.lesson_id:
        return False
    agents = (row["agent"], material.agent)
    if material.agent is not None and agents[0] != agents[1] and "*" not in agents:
        return False
    return row["task"] is None or material.task is None or row["task"] == material.task
