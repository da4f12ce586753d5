"""Conditions on users, of which rules of segments are made: as JSON, as SQL, and in words.

About a user's metadata the newest trace that states the key decides, as for the segment that metadata state. Counts and
times are over all of the user's traces.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, get_args

from store.errors import ActionRefused

__all__ = ["TESTS", "Condition", "Field", "checked", "columns", "holds", "listed", "parsed", "relative", "words"]

Field = Literal["metadata", "agent", "traces", "first seen"]

# By field: what can be asked of it.
TESTS: Final[dict[Field, tuple[str, ...]]] = {
    "metadata": ("is one of", "is none of", "is stated", "is not stated"),
    "agent": ("is one of", "is none of"),
    "traces": ("at least", "at most"),
    "first seen": ("on or after", "before", "within days", "more than days ago"),
}

_ACTION: Final = "Save the segment"
_EXPECTED: Final = "Expected a list such as [{'field': 'traces', 'test': 'at least', 'values': ['10']}]."
_MOST_CONDITIONS: Final = 10
_MOST_VALUES: Final = 200
_LONGEST: Final = 500
_MOST_TRACES: Final = 1_000_000_000
_MOST_DAYS: Final = 3_650
# What a path into JSON cannot hold.
_UNNAMEABLE: Final = re.compile(r'["\\\x00-\x1f]')
_METADATA: Final = "CASE WHEN json_valid(metadata) THEN metadata END"


@dataclass(frozen=True)
class Condition:
    """One condition. `key` is of metadata; `values` are texts to compare with, or one number or date (YYYY-MM-DD)."""

    field: Field
    test: str
    values: tuple[str, ...] = ()
    key: str | None = None


def listed(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """The conditions as JSON can hold them, without what is not said."""
    return [
        {name: list(value) if name == "values" else value for name, value in asdict(one).items() if value}
        for one in conditions
    ]


def parsed(text: str) -> tuple[Condition, ...]:
    """Conditions from JSON. Raises: `ActionRefused` for anything that is not a list of conditions that can be."""
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError):
        raise _refusal("the conditions are no JSON") from None
    if not isinstance(stated, list):
        raise _refusal("the conditions are no list")
    found = []
    for one in stated:
        values = one.get("values", []) if isinstance(one, dict) else None
        if not isinstance(one, dict) or set(one) - {"field", "test", "values", "key"} or not isinstance(values, list):
            raise _refusal(f"{str(one)[:100]!r} is no condition")
        if not all(isinstance(value, str) for value in values) or not isinstance(one.get("key", ""), str):
            raise _refusal(f"{str(one)[:100]!r} has a value that is no text")
        found.append(Condition(one.get("field"), str(one.get("test")), tuple(values), one.get("key")))  # type: ignore[arg-type]
    return checked(found)


def checked(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """The conditions in their final form. Raises: `ActionRefused` naming the first that cannot be."""
    if not 1 <= len(conditions) <= _MOST_CONDITIONS:
        raise _refusal(f"there are {len(conditions)} conditions", f"Use 1 to {_MOST_CONDITIONS}.")
    return tuple(_checked(one) for one in conditions)


def words(condition: Condition) -> str:
    """The condition as a sentence without an end."""
    values = ", ".join(condition.values)
    if condition.field == "metadata":
        return f"metadata {condition.key} {condition.test}{f' {values}' if condition.values else ''}"
    if condition.field == "agent":
        verb = "has used" if condition.test == "is one of" else "has never used"
        return f"{verb} {values}"
    if condition.field == "traces":
        return f"has {condition.test} {values} traces"
    if condition.test == "within days":
        return f"was first seen within {values} days"
    if condition.test == "more than days ago":
        return f"was first seen more than {values} days ago"
    return f"was first seen {condition.test} {values}"


def relative(condition: Condition) -> bool:
    """Whether it comes to hold, or ceases to, as days pass."""
    return condition.test in ("within days", "more than days ago")


def columns(conditions: Sequence[Condition], parameters: dict[str, object], *, segment: bool = False) -> str:
    """SQL of one row a user with a trace and what the conditions ask about: user_id, traces, first_at, agents, and one
    column a metadata key; with `segment` also the one that the metadata state. Adds to the parameters."""
    keys = sorted({one.key for one in conditions if one.field == "metadata" and one.key})
    named = {_column(key): f'$."{key}"' for key in keys} | ({"segment": "$.segment"} if segment else {})
    read = ""
    if named:
        parameters["paths"] = list(named.values())
        # One parse of the text for all keys.
        read = f", json_extract_string({_METADATA}, $paths) AS said"
    newest = []
    for place, column in enumerate(named, start=1):
        value = f"nullif(said[{place}], '')" if column == "segment" else f"said[{place}]"
        newest.append(f", arg_max({value}, (seen_at, trace_id)) FILTER ({value} IS NOT NULL) AS {column}")
    agents = ", list_distinct(list(agent)) AS agents" if any(one.field == "agent" for one in conditions) else ""
    return f"""
        SELECT user_id, count(*) AS traces, min(seen_at) AS first_at{agents}{"".join(newest)}
        FROM (SELECT user_id, trace_id, agent, seen_at{read} FROM traces WHERE user_id IS NOT NULL)
        GROUP BY user_id"""


def holds(condition: Condition, now: datetime, parameters: dict[str, object]) -> str:
    """SQL of whether the condition holds `now`, never null, over the columns of `columns`. Adds to the parameters."""
    name = f"p{len(parameters)}"
    negated = condition.test in ("is none of", "is not stated")
    if condition.field == "metadata":
        column = _column(condition.key or "")
        if condition.test in ("is stated", "is not stated"):
            return f"{column} IS {'' if negated else 'NOT '}NULL"
        parameters[name] = list(condition.values)
        return f"{'NOT ' if negated else ''}coalesce(list_contains(${name}, {column}), false)"
    if condition.field == "agent":
        parameters[name] = list(condition.values)
        return f"{'NOT ' if negated else ''}coalesce(list_has_any(agents, ${name}::VARCHAR[]), false)"
    if condition.field == "traces":
        parameters[name] = int(condition.values[0])
        return f"traces {'>=' if condition.test == 'at least' else '<='} ${name}"
    if relative(condition):
        parameters[name] = now - timedelta(days=int(condition.values[0]))
        return f"first_at {'>=' if condition.test == 'within days' else '<'} ${name}"
    parameters[name] = condition.values[0]
    comparison = ">=" if condition.test == "on or after" else "<"
    return f"first_at {comparison} ${name}::DATE::TIMESTAMPTZ"


def _column(key: str) -> str:
    """The column of a key. Names of columns do not tell capitals from small letters, keys do."""
    return f"stated_{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def _checked(one: Condition) -> Condition:
    if one.field not in get_args(Field):
        raise _refusal(f"there is no field {str(one.field)[:100]!r}", f"Fields: {', '.join(get_args(Field))}.")
    if one.test not in TESTS[one.field]:
        raise _refusal(f"{one.field} has no test {one.test[:100]!r}", f"Tests: {', '.join(TESTS[one.field])}.")
    key = (one.key or "").strip() or None
    if (one.field == "metadata") != (key is not None):
        raise _refusal("a key is missing, or given where none belongs", "Name the key of the metadata.")
    if key is not None and (len(key) > _LONGEST or _UNNAMEABLE.search(key)):
        raise _refusal("the key has quotes, backslashes or control characters, or is too long", "Use another key.")
    if one.test in ("is stated", "is not stated"):
        return Condition(one.field, one.test, (), key)
    if one.field in ("metadata", "agent"):
        values = tuple(dict.fromkeys(value.strip() for value in one.values if value.strip()))
        if not 1 <= len(values) <= _MOST_VALUES or any(len(value) > _LONGEST for value in values):
            raise _refusal(f"{one.field} {one.test} has {len(values)} values", f"Give 1 to {_MOST_VALUES} short ones.")
        return Condition(one.field, one.test, values, key)
    if len(one.values) != 1:
        raise _refusal(f"{one.field} {one.test} has {len(one.values)} values", "Give one.")
    return Condition(one.field, one.test, (_one_value(one),), key)


def _one_value(one: Condition) -> str:
    value = one.values[0].strip()
    if one.field == "traces" or relative(one):
        limit = _MOST_TRACES if one.field == "traces" else _MOST_DAYS
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= limit):
            raise _refusal(f"{one.field} {one.test} {value[:40]!r}", f"Expected a whole number up to {limit}.")
        return str(int(value))
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise _refusal(f"{one.field} {one.test} {value[:40]!r}", "Expected a date such as 2026-03-31.") from None


def _refusal(why: str, remedy: str = _EXPECTED) -> ActionRefused:
    return ActionRefused(_ACTION, f"{why}.", remedy)
