"""The JSON schemas that answers of a model are held to: the strict subset that servers accept, and its check.

The subset is that of structured outputs: objects whose properties are all required and no others allowed, arrays,
enumerations and plain types. The server is asked for it and its answer is checked again, because compatible servers
treat a schema as anything from a grammar to a hint.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}


def strict_object(properties: Mapping[str, Schema]) -> dict[str, Any]:
    """The schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": {name: dict(schema) for name, schema in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def mismatch(value: Any, schema: Schema, place: str = "the answer") -> str | None:
    """Where and how a value departs from its schema; None when it fits."""
    stated = schema.get("type")
    kinds: Sequence[str] = [stated] if isinstance(stated, str) else stated or ()
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{place} is {_named(value)}; expected {' or '.join(kinds)}"
    if "enum" in schema and not any(value == each and type(value) is type(each) for each in schema["enum"]):
        return f"{place} is {_named(value)}; expected one of {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            return f"{place} is {value!r}; expected {low} to {high}"
    if isinstance(value, dict):
        return _in_object(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value):
            problem = mismatch(each, schema["items"], f"item {number} of {place}")
            if problem is not None:
                return problem
    return None


def _in_object(value: dict[str, Any], schema: Schema, place: str) -> str | None:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{place} has no {missing[0]!r}"
    unknown = sorted(set(value) - set(properties))
    if unknown and schema.get("additionalProperties") is False:
        return f"{place} has {unknown[0][:60]!r}, which was not asked for"
    for name, each in properties.items():
        problem = mismatch(value[name], each, f"{name!r} of {place}") if name in value else None
        if problem is not None:
            return problem
    return None


def _is(value: Any, kind: str) -> bool:
    # To Python a boolean is an integer; to JSON it is not. A number without fraction is an integer to JSON only.
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _named(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
