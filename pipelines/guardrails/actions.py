"""Whether a tool call is an action that a guardrail forbids: its name, and conditions on its arguments."""

import json
import unicodedata
from typing import Any, Final

from store.guardrail_subjects import ActionPattern

__all__ = ["composed", "matches"]

# What some instrumentations wrap the arguments in.
_WRAPPERS: Final = ("arguments", "args", "kwargs", "parameters", "params", "input", "tool_input")


def matches(pattern: ActionPattern, name: str | None, arguments: str | None, attributes: str | None) -> bool:
    """Whether the call's name, or its attribute `action`, and all stated arguments are as the pattern says.

    An argument that is a list matches with any of its members. Arguments that are no JSON object match no condition.
    """
    stated = _object(attributes).get("action")
    names = [composed(each) for each in (name, stated) if isinstance(each, str)]
    if not any(pattern.name.fullmatch(each) for each in names):
        return False
    if not pattern.arguments:
        return True
    given = _object(arguments)
    candidates = [given, *(_object(given.get(wrapper)) for wrapper in _WRAPPERS if wrapper in given)]
    return any(
        all(any(wanted.fullmatch(_text(v)) for v in _values(given, path)) for path, wanted in pattern.arguments)
        for given in candidates
    )


def _values(given: Any, path: tuple[str, ...]) -> list[Any]:
    """The values at a path; members of a list stand side by side."""
    if isinstance(given, list):
        return [value for member in given for value in _values(member, path)]
    if not path:
        return [given]
    if not isinstance(given, dict) or path[0] not in given:
        return []
    return _values(given[path[0]], path[1:])


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return composed(value.strip()) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def composed(text: str) -> str:
    """A name as names are compared: names that look the same are the same."""
    return unicodedata.normalize("NFC", text)
