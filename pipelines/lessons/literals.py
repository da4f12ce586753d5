"""Literals that must not enter a lesson: what is true of one customer is wrong or private for the next (LESSONS A.20).

Found by form: e-mail and web addresses, amounts of money, identifiers that mix letters and digits, long numbers, keys.
Names of people have no form and are not found: a person's review is the guard for those.
"""

import re
from dataclasses import dataclass

__all__ = ["Literal", "find_literals"]

_FORMS = (
    ("e-mail address", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("link", re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)),
    ("amount", re.compile(r"[$€£¥]\s?\d[\d.,]*|\b\d[\d.,]*\s?(?:USD|EUR|GBP|JPY|CHF|dollars?|euros?|pounds?)\b")),
    ("date", re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b")),
    ("identifier", re.compile(r"(?<![\w])(?=[\w-]*[A-Za-z])(?=[\w-]*\d[\w-]*\d)[A-Za-z0-9][\w-]{4,}(?![\w])|#\d+")),
    ("number", re.compile(r"(?<![\d.])\d{4,}(?!\d)|\b\d{3}[ -]\d{3,4}[ -]?\d*\b")),
)


@dataclass(frozen=True)
class Literal:
    """A literal in a text: what form it has and how it reads."""

    form: str
    text: str


def find_literals(text: str) -> list[Literal]:
    """Literals of `text` in order of appearance; a span of text is reported once, under the first form that fits."""
    found: list[tuple[int, int, Literal]] = []
    for form, pattern in _FORMS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if all(end <= other_start or start >= other_end for other_start, other_end, _ in found):
                found.append((start, end, Literal(form, match.group())))
    return [literal for _, _, literal in sorted(found, key=lambda entry: entry[0])]
