"""What an agent proposes as a lesson, read from a request body and checked field by field."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from pipelines.lessons.proposing import MOST_EVIDENCE, SHORTEST_QUOTE, Claim, Proposal
from store import arms
from store.errors import IngestError
from store.lesson_versions import EVERY_AGENT, MAX_CHARACTERS, MAX_SCOPE, LessonText, Scope

__all__ = ["BODY_LIMIT", "DOCUMENTED", "MAX_TITLE", "ProposalUnreadable", "read_proposal"]

BODY_LIMIT: Final = 256 << 10
"""The largest body in bytes."""

MAX_TITLE: Final = 200
_NEEDED: Final = ("agent", "title", "when", "do", "why", "evidence")
_FIELDS: Final = (*_NEEDED, "when_not", "task", "segment")
_CLAIM_FIELDS: Final = ("trace_id", "span_id", "role", "quote")
_ROLES: Final = ("good", "bad")
# Characters that only steer how a text is shown: they hide words from whoever reviews it.
_STEERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class ProposalUnreadable(IngestError):
    """A body that proposes no lesson; the text names the field, what was expected, and what came."""

    def __init__(self, field: str, expected: str, came: str) -> None:
        self.field, self.expected, self.came = field, expected, came
        super().__init__(f"{field} must be {expected}; came {came}.")


def read_proposal(body: bytes) -> Proposal:
    """The proposal in a body. Raises: `ProposalUnreadable`."""
    try:
        document = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        text = "nesting too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise ProposalUnreadable("The body", "a JSON object in UTF-8", text) from error
    if not isinstance(document, dict):
        raise ProposalUnreadable("The body", "a JSON object", _named(document))
    _known("The body", document, _FIELDS)
    agent = _text(document, "agent", arms.MAX_NAME)
    if why := arms.unusable(agent):
        raise ProposalUnreadable("agent", "the name of an agent", f"one that cannot be: {why}".rstrip("."))
    if agent == EVERY_AGENT:
        raise ProposalUnreadable("agent", "the name of one agent", "'*', which only operators may say")
    when_not = _text(document, "when_not", MAX_CHARACTERS, needed=False)
    return Proposal(
        scope=Scope(
            agent,
            _text(document, "task", MAX_SCOPE, needed=False) or None,
            _text(document, "segment", MAX_SCOPE, needed=False) or None,
        ),
        text=LessonText(
            _text(document, "title", MAX_TITLE, lines=False),
            _text(document, "when", MAX_CHARACTERS),
            when_not or None,
            _text(document, "do", MAX_CHARACTERS),
        ),
        why=_text(document, "why", MAX_CHARACTERS),
        evidence=_evidence(document.get("evidence")),
    )


def _evidence(value: object) -> tuple[Claim, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_EVIDENCE:
        came = f"{len(value)} of them" if isinstance(value, list) else _named(value)
        raise ProposalUnreadable("evidence", f"a list of 1 to {MOST_EVIDENCE} objects", came)
    claims = []
    for place, each in enumerate(value):
        name = f"evidence[{place}]"
        if not isinstance(each, dict):
            raise ProposalUnreadable(name, "an object", _named(each))
        _known(name, each, _CLAIM_FIELDS)
        role = each.get("role")
        if role not in _ROLES:
            raise ProposalUnreadable(f"{name}.role", "good or bad", _named(role))
        claims.append(
            Claim(
                trace_id=_text(each, "trace_id", MAX_SCOPE, within=name),
                role=cast(Literal["good", "bad"], role),
                span_id=_text(each, "span_id", MAX_SCOPE, within=name, needed=False) or None,
                quote=_text(each, "quote", MAX_CHARACTERS, within=name, needed=False, foreign=True) or None,
            )
        )
    return tuple(claims)


def _known(name: str, document: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    unknown = [key for key in document if key not in fields]
    if unknown:
        listed = ", ".join(ascii(key[:60]) for key in unknown[:5])
        raise ProposalUnreadable(name, f"an object with the fields {', '.join(fields)} only", listed)


def _text(
    document: Mapping[str, Any],
    field: str,
    longest: int,
    *,
    within: str = "",
    needed: bool = True,
    lines: bool = True,
    foreign: bool = False,
) -> str:
    """A text, trimmed; "" where it is absent and not needed. `foreign` text is taken as traces have it."""
    name, value = f"{within}.{field}" if within else field, document.get(field)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise ProposalUnreadable(name, "a text", _named(value))
    text = value.strip()
    if not text and needed:
        raise ProposalUnreadable(name, "a text that says something", "an empty one")
    if len(text) > longest:
        raise ProposalUnreadable(name, f"at most {longest:,} characters", f"{len(text):,}")
    for each in text:
        category = unicodedata.category(each)
        control = category == "Cc" and not (each in "\n\r\t" and (lines or foreign))
        if category == "Cs" or each == "\0" or (not foreign and (control or each in _STEERING)):
            what = "a text on one line" if not lines and each in "\n\r\t" else "a text of visible characters"
            raise ProposalUnreadable(name, what, f"the character U+{ord(each):04X}")
    return text


def _named(value: object) -> str:
    """What came, as its type in JSON and its beginning."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"the text {value[:60]!a}"
        case list():
            return "a list"
        case _:
            return "an object"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DOCUMENTED: Final[dict[str, Any]] = {
    "proposal": {
        "type": "object",
        "required": list(_NEEDED),
        "additionalProperties": False,
        "properties": {
            "agent": {"type": "string", "minLength": 1, "maxLength": arms.MAX_NAME},
            "title": {"type": "string", "minLength": 1, "maxLength": MAX_TITLE},
            "when": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
            "when_not": {"type": ["string", "null"], "maxLength": MAX_CHARACTERS},
            "do": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
            "why": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
            "task": {"type": ["string", "null"], "maxLength": MAX_SCOPE, "description": "Left out: all tasks."},
            "segment": {"type": ["string", "null"], "maxLength": MAX_SCOPE, "description": "Left out: all users."},
            "evidence": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_EVIDENCE,
                "items": {
                    "type": "object",
                    "required": ["trace_id", "role"],
                    "additionalProperties": False,
                    "properties": {
                        "trace_id": {"type": "string", "description": "Of a trace that was sent before."},
                        "span_id": {"type": ["string", "null"]},
                        "role": {"type": "string", "enum": list(_ROLES)},
                        "quote": {
                            "type": ["string", "null"],
                            "minLength": SHORTEST_QUOTE,
                            "maxLength": MAX_CHARACTERS,
                            "description": "Words of the trace, word for word: they are looked for.",
                        },
                    },
                },
            },
        },
    },
    "example": {
        "agent": "support-bot",
        "title": "Say when an order ships",
        "when": "A customer asks where an order is.",
        "do": "Look the order up and name the day on which it ships.",
        "why": "Customers were content where the day was named.",
        "evidence": [
            {
                "trace_id": "5b8efff798038103d269b633813fc60c",
                "span_id": "eee19b7ec3c1b174",
                "role": "good",
                "quote": "It ships today.",
            }
        ],
    },
    "lesson": {
        "type": "object",
        "required": ["lesson_id", "agent", "state", "version", "title", "when", "do", "why", "proposed_at"],
        "properties": {
            **{name: {"type": "string"} for name in ("lesson_id", "agent", "title", "when", "do", "why")},
            **{name: {"type": ["string", "null"]} for name in ("task", "segment", "when_not")},
            "state": {
                "type": "string",
                "description": "proposed until an operator decides; agents get it as canary or active.",
                "enum": [
                    "proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated",
                ],
            },
            "reason": {"type": ["string", "null"], "description": "Why it is in this state, as far as anybody said."},
            "version": {"type": "integer", "description": "Above 1: an operator edited it."},
            **{name: {"type": "string", "format": "date-time"} for name in ("proposed_at", "updated_at")},
        },
    },
}  # fmt: skip
"""The schemas of the OpenAPI document, and its example."""
