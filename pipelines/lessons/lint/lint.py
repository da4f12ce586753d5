"""Lint of one text by all rules, pure: the same findings for the same arguments."""

from dataclasses import replace
from typing import Final

from pipelines.lessons.lint import (
    contradiction,
    evidence_words,
    imperatives,
    injection,
    length,
    literals,
    one_sided,
)
from pipelines.lessons.lint.config import LintConfig
from pipelines.lessons.lint.findings import FIELDS, Finding
from pipelines.lessons.lint.material import Material, Passage
from pipelines.lessons.lint.taint import Taint, taint
from store.lesson_reviews import LessonText

__all__ = ["Finding", "LintConfig", "Material", "Passage", "Taint", "lint", "taint"]

_READ: Final = 10_000  # characters of a field; nobody reads more, and what is longer is refused for that
_ORDER: Final = {"block": 0, "warn": 1, "note": 2}


def lint(text: LessonText, trust: str, material: Material, config: LintConfig | None = None) -> tuple[Finding, ...]:
    """Everything that speaks against serving `text`, blocking findings first, each once.

    `trust` is that of the version (`pipelines.lessons.lint.trust`). Never raises, whatever the text.
    """
    config = config or LintConfig()
    short, cut = _cut(text)
    found = [
        *cut,
        *literals.findings(short, material),
        *evidence_words.findings(short, material),
        *length.findings(text, config),
        *imperatives.findings(short, trust, material),
        *injection.findings(short),
        *contradiction.guardrails(short, material),
        *contradiction.others(short, material, config),
        *one_sided.findings(short, material),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: _ORDER[one.severity]))


def _cut(text: LessonText) -> tuple[LessonText, list[Finding]]:
    longer = [name for name in FIELDS if len(getattr(text, name) or "") > _READ]
    message = f"Only the first {_READ:,} characters were looked at."
    found = [Finding("length", "block", name, None, None, message) for name in longer]
    return replace(text, **{name: getattr(text, name)[:_READ] for name in longer}), found
