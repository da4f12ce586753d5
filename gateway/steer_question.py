"""What an agent asks of the steering endpoint, read from a request body and checked field by field."""

import json
import math
from typing import Any, Final

from pipelines.steering.asked import input_hash
from pipelines.steering.decide import Question
from store.errors import IngestError

__all__ = ["BODY_LIMIT", "QuestionRefused", "read_question"]

BODY_LIMIT: Final = 1 << 20
"""The largest body in bytes."""

LONGEST: Final = 512
"""The longest agent, user, session, task and arm, in characters."""

MOST_ARMS: Final = 200
_FIELDS: Final = ("agent", "user_id", "session_id", "task", "input", "arms")


class QuestionRefused(IngestError):
    """A question that cannot be answered; the text names the field, what was expected and what came."""

    def __init__(self, field: str, expected: str, came: str) -> None:
        self.field, self.expected, self.came = field, expected, came
        super().__init__(f"{field} must be {expected}; came {came}.")


def read_question(body: bytes) -> Question:
    """The question in a body. Raises: `QuestionRefused`."""
    try:
        document = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        text = "nesting too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise QuestionRefused("The body", "a JSON object in UTF-8", text) from error
    if not isinstance(document, dict):
        raise QuestionRefused("The body", "a JSON object", _named(document))
    agent = _text(document, "agent")
    if agent is None:
        raise QuestionRefused("agent", "the name of the agent that asks", "nothing")
    asked = _asked(document.get("input"))
    unknown = [key for key in document if key not in _FIELDS]
    notes = (f"fields that mean nothing here: {', '.join(map(_printable, unknown[:10]))}",) if unknown else ()
    return Question(
        agent=agent,
        user_id=_text(document, "user_id"),
        session_id=_text(document, "session_id"),
        task=_text(document, "task"),
        input=asked,
        input_hash=input_hash(asked) if asked is not None else None,
        arms=_arms(document.get("arms")),
        notes=notes,
    )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(document: dict[str, Any], field: str) -> str | None:
    """A text; None where it is absent, null or blank, which identifies nothing."""
    value = document.get(field)
    return _checked(field, value) if value is not None else None


def _checked(field: str, value: object) -> str | None:
    if not isinstance(value, str):
        raise QuestionRefused(field, "a text", _named(value))
    if len(value) > LONGEST:
        raise QuestionRefused(field, f"at most {LONGEST} characters", f"{len(value):,}")
    if "\0" in value:
        raise QuestionRefused(field, "a text without NUL characters", repr(value[:100]))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise QuestionRefused(field, "a text of whole characters", "half of a surrogate pair") from error
    return value if value.strip() else None


def _arms(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise QuestionRefused("arms", "a list of texts", _named(value))
    if len(value) > MOST_ARMS:
        raise QuestionRefused("arms", f"at most {MOST_ARMS} names", f"{len(value):,}")
    names = [_checked(f"arms[{place}]", each) for place, each in enumerate(value)]
    return tuple(name for name in names if name is not None)


def _asked(value: object) -> str | None:
    """The input as a text."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError as error:
        raise QuestionRefused("input", "a text or shallow JSON", "nesting too deep") from error


def _named(value: object) -> str:
    """What came, as its type in JSON and its beginning."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "a number"
        case float():
            return "a number" if math.isfinite(value) else "a number beyond what can be held"
        case str():
            return f"the text {_printable(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


def _printable(text: str) -> str:
    return ascii(text[:60])
