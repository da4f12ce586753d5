"""Literals that must not enter a lesson: what is true of one customer is wrong or private for the next (LESSONS A.20).

Found by form: addresses, keys, numbers of cards, phones and accounts, amounts of money, dates, identifiers that mix
letters and digits, long numbers. Names of people have no form: those are found by where they come from
(`pipelines.lessons.lint.evidence_words`). Plain numbers, such as 3 attempts, are only pointed at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.lint.material import Material
from store.lesson_reviews import LessonText

__all__ = ["Literal", "find_literals", "findings", "located", "plain_numbers"]

_MONTH: Final = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    "Nov(?:ember)?|Dec(?:ember)?)"
)
_CURRENCY: Final = "(?:USD|EUR|GBP|JPY|CHF|INR|CNY|CAD|AUD)"
_NOUN: Final = (
    "(?:order|ticket|case|invoice|booking|reservation|flight|customer|user|account|claim|room|seat|gate|item|product|"
    "sku|policy|member|employee|patient|contract|transaction|payment|shipment|tracking)"
)
_FORMS: Final = (
    ("e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")),
    ("link", re.compile(r"\b(?:https?://|ftp://|www\.)\S+", re.IGNORECASE)),
    (
        "link",
        re.compile(
            
            r"(?<![\w@.-])(?:[a-z0-9-]{1,63}\.)+(?:com|org|net|io|co|ai|dev|app|info|biz|de|uk|ru|"
            r"cn)\b(?![(\w]|\.\w)(?:/\S*)?",
            re.IGNORECASE,
        ),
    ),
    (
        "key",
        re.compile(
            
            r"\b(?:sk|pk|rk)[-_][\w-]{16,}|\bAKIA[0-9A-Z]{12,}|\bgh[pousr]_\w{16,}|"
            r"\bxox[abprs]-[\w-]{8,}|\bAIza[\w-]{20,}"
            r"|\beyJ[\w-]{8,}(?:\.[\w-]+)*|-----BEGIN [A-Z ]+-----|\bBearer\s+[\w.~+/-]{12,}=*"
        ),
    ),
    (
        "secret",
        re.compile(
            r"(?i)\b(?:password|passphrase|passwd|pwd|api[ _-]?key|secret|access[ _-]?token|token|pin)\s*[:=]\s*"
            r"(?=\S{0,200}[\d!#$%^&*])[^\s`]{3,}"
        ),
    ),
    ("account number", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("card number", re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")),
    (
        "phone number",
        re.compile(
            r"(?<!\w)\+\d[\d ().-]{6,}\d|\(\d{3}\) ?\d{3}[ -]?\d{4}\b|(?<![\w.-])\d{3}[-. ]\d{3}[-. ]\d{4}(?![\w-])"
        ),
    ),
    (
        "amount",
        re.compile(
            r"(?i)(?:US|C|A)?[$€£¥₹]\s?\d[\d.,]*|\b\d[\d.,]{0,20}\s?(?:[$€£¥₹]|(?:" + _CURRENCY
            + r"|dollars?|euros?|pounds?|rupees?|cents?|bucks)\b)|\b" + _CURRENCY + r"\s?\d[\d.,]*"
        ),
    ),
    (
        "date",
        re.compile(
            
            r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:T[\d:.]+Z?)?\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{1,"
            r"2}\.\d{1,2}\.\d{4}\b|\b"
            + _MONTH + r"\.? \d{1,2}(?:st|nd|rd|th)?\b(?:,? \d{4})?|\b\d{1,2}(?:st|nd|rd|th)?(?: of)? " + _MONTH
            + r"\b(?:,? \d{4})?"
        ),
    ),
    ("time", re.compile(r"(?<![\w:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?![\w:])")),
    (
        "postal address",
        re.compile(
            
            r"\b\d{1,5}[A-Z]? (?:[A-Z][\w'.-]{1,30} ){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Drive|"
            r"Boulevard|Blvd|Square)\b"
        ),
    ),
    ("network address", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\d)")),
    ("number", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    (
        "identifier",
        re.compile(r"(?i)\b" + _NOUN + r"s? (?:(?:number|no\.?|id|code|nr\.?) ?:? ?#?\d+|#?\d{2,}[a-z]?)\b"),
    ),
    ("handle", re.compile(r"(?<![\w@/`.])@[A-Za-z]\w{2,}")),
    ("identifier", re.compile(
            r"(?<![\w])(?=[\w-]{0,99}[A-Za-z])(?=[\w-]{0,99}\d[\w-]{0,99}\d)[A-Za-z0-9][\w-]{4,"
            r"}(?![\w])|#\d+")),
    ("number", re.compile(r"(?<![\d.,])\d{4,}(?!\d)|\b\d{3}[ -]\d{3,4}[ -]?\d*\b")),
)  # fmt: skip

# What has the form of an identifier or a long number, and is none: spans of time, ranks, standards, models, encodings.
_HARMLESS: Final = re.compile(
    r"(?i)\d{1,3}-[a-z]{2,}(?:-[a-z]+)*|\d{1,4}(?:st|nd|rd|th|ms|min|sec|hrs?|kb|mb|gb|px|"
    r"days?|hours?|minutes?|percent)"
    r"|(?:utf|sha|md|base|iso|rfc|ipv|int|uint|float|win|http|gpt|claude|gemini|llama|qwen|"
    r"mistral|python|es)[-_]?\d[\w.-]*"
    r"|[1-9]0{3,}"
)
_NAMED_NUMBER: Final = re.compile(
    r"(?i)\b(?:rfc|iso|port|utf|sha|http|ieee|(?:error|status|exit|response)(?: code)?)[ -]?$"
)
_PLAIN: Final = re.compile(r"(?<![\w.,-])\d{1,3}(?:[.,]\d+)*(?: ?%)?(?![\w-])|(?<![\w.,-])[1-9]0{3,}(?![\w-])")
_COUNTED: Final = re.compile(r"(?i)\b(?:twice|thrice|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred)\b")


@dataclass(frozen=True)
class Literal:
    """A literal in a text: what form it has and how it reads."""

    form: str
    text: str


def find_literals(text: str) -> list[Literal]:
    """Literals of `text` in order of appearance; a span of text is reported once, under the first form that fits."""
    return [literal for _, _, literal in _spans(text)]


def located(text: str) -> list[tuple[int, int, Literal]]:
    """(start, end, literal) of what `find_literals` finds."""
    return _spans(text)


def plain_numbers(text: str) -> list[str]:
    """Numbers that are no literals of a known form, in order: they may be a rule, or one case."""
    taken = [(start, end) for start, end, _ in _spans(text)]
    return [
        match.group()
        for match in _PLAIN.finditer(text)
        if all(match.end() <= start or match.start() >= end for start, end in taken)
    ]


def findings(text: LessonText, material: Material) -> Iterator[Finding]:
    """Literals by form block; plain numbers warn, and numbers in words are noted."""
    tools = {tool.casefold() for tool in material.tools}
    for name, written in fields(text):
        for literal in find_literals(written):
            if literal.text.casefold() not in tools:
                message = f"{literal.text!r} looks like a literal ({literal.form}): say what it stands for instead."
                yield Finding("literal", "block", name, literal.text, None, message)
        for number in dict.fromkeys(plain_numbers(written)):
            yield Finding(
                "literal", "warn", name, number, None, f"Is {number} a rule for everybody, or what one case needed?"
            )
        for word in dict.fromkeys(match.group() for match in _COUNTED.finditer(written)):
            yield Finding("literal", "note", name, word, None, f"Is {word!r} a rule for everybody?")


def _spans(text: str) -> list[tuple[int, int, Literal]]:
    found: list[tuple[int, int, Literal]] = []
    taken = bytearray(len(text))
    for form, pattern in _FORMS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if taken.find(1, start, end) < 0 and not _harmless(form, match.group(), text[max(0, start - 16) : start]):
                taken[start:end] = b"\1" * (end - start)
                found.append((start, end, Literal(form, match.group())))
    return sorted(found, key=lambda entry: entry[0])


def _harmless(form: str, written: str, before: str) -> bool:
    if form == "card number":
        return not _luhn([int(digit) for digit in written if digit.isdigit() and digit.isascii()])
    if form == "identifier":
        return _HARMLESS.fullmatch(written) is not None
    if form == "number":
        return _HARMLESS.fullmatch(written) is not None or _NAMED_NUMBER.search(before) is not None
    return False


def _luhn(digits: list[int]) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1)."""
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits[::-1])]
    return sum(doubled) % 10 == 0
