"""Typed reading of one record, such that nothing of it is lost: what no column takes is left over for metadata.

Exporters disagree on names and types (camelCase or snake_case, numbers as text, objects as JSON text in CSV cells), so
a column is read by all the names it goes by, and a value of the wrong type rejects the record with the field's name.
"""

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from pipelines.ingest.rows import RecordRejected
from pipelines.ingest.times import EARLIEST, LATEST, parse_time

MAX_DEPTH: Final = 64
MAX_COUNT: Final = 2**63 - 1

_LONGEST_LITERAL: Final = 1_000_000  # Python's own parser needs some 100 bytes for each character
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_LONGEST_NUMBER: Final = 400
_SHOWN: Final = 60


def plain_record(record: object) -> dict[str, Any]:
    """A copy of a parsed record that holds only what JSON can: the first thing every importer does.

    Dates become ISO text, decimals floats, NaN and infinities their names, bytes text; keys become text.
    Raises: `RecordRejected` when it is no object, or is nested more than 64 levels deep.
    """
    if not isinstance(record, dict):
        raise RecordRejected(f"The record is {shown(record)}; expected a JSON object.")
    return {str(key): _plain(value, str(key), 2) for key, value in record.items()}


def _plain(value: Any, column: str, depth: int) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        # beyond 64 bits no JSON reader agrees on a number, and Python refuses to print very long ones in decimal
        return value if -(2**63) <= value < 2**64 else hex(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, dict | list | tuple | set | frozenset):
        if depth > MAX_DEPTH:
            problem = f"{column} is nested more than {MAX_DEPTH} levels deep; expected at most {MAX_DEPTH}."
            raise RecordRejected(problem, column)
        if isinstance(value, dict):
            return {str(key): _plain(each, column, depth + 1) for key, each in value.items()}
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [_plain(each, column, depth + 1) for each in items]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def shown(value: object) -> str:
    """How a value is named in the reason of a reject: its type, and its text where that is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value[:_SHOWN]}{'…' if len(value) > _SHOWN else ''}'"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 2**64 else "a number of 20 digits or more"
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else type(value).__name__


def is_empty(value: object) -> bool:
    """Whether a value says nothing: null, text without characters, an empty object or list."""
    return value is None or (isinstance(value, str | dict | list) and not value)


def decode_cell(value: Any) -> Any:
    """What a text cell holds: JSON, else a Python literal as pandas writes it, else the text as it is."""
    if not isinstance(value, str):
        return value
    head = value[:32].lstrip()[:1]
    if head not in ("{", "[", '"'):
        return value
    try:
        decoded = json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        if head == '"' or len(value) > _LONGEST_LITERAL:
            return value
        try:
            decoded = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    try:
        return _plain(decoded, "", 2)
    except RecordRejected:  # too deep to walk: it stays text
        return value


def content_text(value: Any) -> str | None:
    """An input or output as text: a JSON string is unpacked, other JSON is kept as JSON; null for nothing."""
    if is_empty(value):
        return None
    if not isinstance(value, str):
        return json_text(value)
    if value.startswith('"') and value.endswith('"'):
        decoded = decode_cell(value)
        return decoded or None if isinstance(decoded, str) else value
    return value


def json_text(value: Any) -> str:
    """JSON of a plain value, as people read it: characters are not escaped."""
    return json.dumps(value, ensure_ascii=False)


def content_hash(value: Any) -> str:
    """24 hexadecimal digits that identify a plain value by its canonical JSON (SHA-256)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def end_of(started_at: datetime | None, duration: float | None, column: str) -> datetime | None:
    """When something that began at `started_at` ended, `duration` seconds later; null where either is unknown.

    A negative duration says nothing about the end, so it gives null.
    """
    if started_at is None or duration is None or duration < 0:
        return None
    if duration > (LATEST - EARLIEST).total_seconds() or (end := started_at + timedelta(seconds=duration)) > LATEST:
        raise RecordRejected(f"{column} ends after the year 2100; expected a duration that ends before.", column)
    return end


def present(**columns: Any) -> dict[str, Any]:
    """A row of the columns that are known; absent means null."""
    return {name: value for name, value in columns.items() if value is not None and value != {}}


def merged(own: Any, rest: dict[str, Any], system: str) -> dict[str, Any]:
    """The metadata a user gave, and beside it what else the record holds; a clash is told apart by `system`."""
    result = dict(own) if isinstance(own, dict) else {} if is_empty(own) else {"metadata": own}
    for name, value in rest.items():
        key = name
        while key in result:
            key = f"{system}.{key}"
        result[key] = value
    return result


class Fields:
    """The fields of one record, taken one by one; `rest` is what nobody took.

    Every reader takes the first of `names` that holds something; with `keep` it stays in the rest as well.
    `path` names the record inside its document, such as `observations[3].`.
    """

    def __init__(self, record: dict[str, Any], path: str = "") -> None:
        self._left = dict(record)
        self.path = path

    def take(self, *names: str, keep: bool = False) -> Any:
        """The value as it is; null when every name is absent, null or empty."""
        return self._pick(names, keep)[1]

    def _pick(self, names: Iterable[str], keep: bool) -> tuple[str, Any]:
        for name in names:
            value = self._left.get(name)
            if not is_empty(value):
                if not keep:
                    del self._left[name]
                return name, value
        return "", None

    def reject(self, name: str, value: object, expected: str) -> RecordRejected:
        """The error for a field of the wrong type."""
        column = self.path + name
        return RecordRejected(f"{column} is {shown(value)}; expected {expected}.", column)

    def text(self, *names: str, keep: bool = False) -> str | None:
        """A short text such as an id or a name; numbers are taken as their digits."""
        name, value = self._pick(names, keep)
        if value is None or isinstance(value, str):
            return (value.strip() or None) if value else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.reject(name, value, "text")
        return str(value)

    def scalar(self, *names: str) -> str | int | float | None:
        """A text, number or truth value; under names that others use for objects too, those stay in the rest."""
        for name in names:
            value = self._left.get(name)
            if isinstance(value, str | int | float) and value != "":
                del self._left[name]
                return value
        return None

    def put(self, name: str, value: Any) -> None:
        """Give back what could not be used."""
        self._left[name] = value

    def content(self, *names: str) -> str | None:
        """An input or output: any JSON value, as text."""
        return content_text(self.take(*names))

    def time(self, *names: str, keep: bool = False) -> datetime | None:
        """A time, aware and in UTC; one that is unreadable or outside 1990 to 2100 rejects the record."""
        name, value = self._pick(names, keep)
        try:
            return parse_time(value)
        except ValueError as error:
            column = self.path + name
            raise RecordRejected(f"{column} is {shown(value)}: {error}.", column) from error

    def number(self, *names: str, keep: bool = False) -> float | None:
        """A finite number, also as text."""
        name, value = self._pick(names, keep)
        return self._number(name, value)

    def _number(self, name: str, value: Any) -> float | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        number = as_number(value)
        if number is None:
            raise self.reject(name, value, "a finite number")
        return number

    def count(self, *names: str, keep: bool = False) -> int | None:
        """A whole number from 0, also as text; exact up to 2^63 - 1."""
        name, value = self._pick(names, keep)
        if isinstance(value, str) and len(value.strip()) < 20 and value.strip().isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            number = self._number(name, value)
            if number is None:
                return None
            if not number.is_integer():
                raise self.reject(name, value, "a whole number of at least 0")
            value = int(number)
        if not 0 <= value <= MAX_COUNT:
            raise self.reject(name, value, "a whole number of at least 0")
        return int(value)

    def mapping(self, *names: str, keep: bool = False) -> dict[str, Any]:
        """An object, also as JSON text or as Parquet's list of pairs; empty when absent."""
        name, value = self._pick(names, keep)
        decoded = decode_cell(value)
        if decoded is None or decoded == "":
            return {}
        if isinstance(decoded, list) and all(isinstance(each, list) and len(each) == 2 for each in decoded):
            return {str(key): each for key, each in decoded}
        if not isinstance(decoded, dict):
            raise self.reject(name, value, "an object")
        return decoded

    def items(self, *names: str, keep: bool = False) -> list[Any]:
        """A list, also as JSON text; empty when absent."""
        name, value = self._pick(names, keep)
        decoded = decode_cell(value)
        if decoded is None or decoded == "":
            return []
        if not isinstance(decoded, list):
            raise self.reject(name, value, "a list")
        return decoded

    def objects(self, *names: str) -> list[dict[str, Any]]:
        """A list of objects, also as JSON text; empty when absent."""
        name = next((each for each in names if not is_empty(self._left.get(each))), "")
        items = self.items(*names)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.reject(f"{name}[{index}]", item, "an object")
        return items

    def names(self) -> list[str]:
        """The fields that nobody took yet and that hold something."""
        return [name for name, value in self._left.items() if not is_empty(value)]

    def rest(self) -> dict[str, Any]:
        """What nobody took, text cells decoded, without fields that say nothing."""
        decoded = {name: decode_cell(value) for name, value in self._left.items()}
        return {name: value for name, value in decoded.items() if not is_empty(value)}


def as_number(value: object) -> float | None:
    """The finite number that a value is or writes out; null when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        trimmed = value.strip()
        if len(trimmed) > _LONGEST_NUMBER or not _NUMBER.fullmatch(trimmed):
            return None
        number = float(trimmed)
    elif isinstance(value, int | float):
        number = float(value)
    else:
        return None
    return number if math.isfinite(number) else None
