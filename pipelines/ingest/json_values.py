"""Which texts are JSON objects, what is wrong with the others, and values out of the good ones, many at a time.

The engine's JSON reader does the bulk. It is more lenient than RFC 8259 (NaN, Infinity, trailing commas), so that texts
that look like such a case go through Python's parser too, with those extensions off.
"""

import json
import re
from collections.abc import Sequence
from typing import NoReturn

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.json_suspects import MAX_DEPTH, Bounds, suspects
from pipelines.ingest.window import Bytes

MAX_KEYS = 2_000

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]|NaN|Infinity', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_NOUNS = {"[": "an array", '"': "a string", "t": "true", "f": "false", "n": "null"}


def engine() -> duckdb.DuckDBPyConnection:
    """A private in-memory engine for JSON work; close it after use."""
    connection = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def object_faults(texts: pa.StringArray, connection: duckdb.DuckDBPyConnection) -> dict[int, str]:
    """Index -> reason for each text that is not a JSON object by RFC 8259 or nested deeper than 64 levels.

    `texts` are valid UTF-8, not null, without white space around them.
    """
    if not len(texts):
        return {}
    bounds, data = _layout(texts)
    deep, lenient = suspects(bounds, data)
    connection.register("texts", pa.table({"json": texts}))
    try:
        valid = connection.execute("SELECT json_valid(json) AS valid FROM texts").to_arrow_table()["valid"]
    finally:
        connection.unregister("texts")
    invalid = set(np.flatnonzero(~valid.to_numpy(zero_copy_only=False)).tolist())
    others = set(np.flatnonzero(~pc.starts_with(texts, "{").to_numpy(zero_copy_only=False)).tolist())
    faults = {}
    for index in sorted(deep | lenient | invalid | others):
        reason = _fault(texts[index].as_py(), index in deep, connection if index in invalid else None)
        if reason is not None:
            faults[index] = reason
    return faults


def _fault(text: str, deep: bool, connection: duckdb.DuckDBPyConnection | None) -> str | None:
    """Why one text is not a JSON object that can be taken, with the place of the error; None if it is one.

    `deep`: look for nesting that is too deep; `connection` is for the engine's own reason, if it refuses the text.
    """
    too_deep = _too_deep_at(text) if deep else None
    if too_deep is not None:
        return f"the JSON is nested deeper than {MAX_DEPTH} levels ({_where(text, too_deep)})"
    try:
        _STRICT.decode(text)
    except _NotStandard as error:
        at = next((match.start() for match in _TOKEN.finditer(text) if match.group() in error.name), 0)
        return f"{error.name} is not valid JSON; write null instead ({_where(text, at)})"
    except json.JSONDecodeError as error:
        return f"it is not valid JSON: {error.msg} ({_where(text, error.pos)})"
    if connection is not None:
        half = _half_character_at(text)
        if half is not None:
            return f"{text[half : half + 6]} is half of a character; it needs its other half ({_where(text, half)})"
        try:
            connection.execute("SELECT json_type(?)", [text]).fetchall()
        except duckdb.Error as error:
            message = re.search(r"at byte (\d+) of input: ([^\n.]*)", str(error))
            at = len(text.encode()[: int(message[1])].decode(errors="ignore")) if message else 0
            return f"it is not valid JSON: {message[2] if message else 'unreadable'} ({_where(text, at)})"
    if not text.lstrip().startswith("{"):
        return f"expected a JSON object, found {_NOUNS.get(text.lstrip()[:1], 'a number')}"
    return None


def keys_of(lines: pa.Table, connection: duckdb.DuckDBPyConnection | None = None) -> list[str]:
    """Distinct top-level keys of the objects in column `json`, in order of first appearance, at most 2,000."""
    rows = _query(
        lines,
        "SELECT json_keys(json) AS keys FROM (SELECT json, row_number() OVER () AS row FROM lines) "
        "GROUP BY keys ORDER BY min(row)",
        [],
        connection,
    )
    keys = dict.fromkeys(key for names in rows["keys"].to_pylist() for key in names)
    return list(keys)[:MAX_KEYS]


def extract(
    lines: pa.Table,
    text_keys: Sequence[str],
    json_keys: Sequence[str],
    connection: duckdb.DuckDBPyConnection | None = None,
) -> pa.Table:
    """Top-level values of the objects in column `json`: one string column per key, `text_keys` first.

    A text value is a JSON string's content or any other value's JSON text; a JSON value is its JSON text. JSON null and
    an absent key are null. Of a key that an object has twice the first counts. Raises ValueError for a key named twice.
    """
    keys = [*text_keys, *json_keys]
    if len(set(keys)) != len(keys):
        raise ValueError(f"a key is asked for twice: {keys}")
    if not keys:
        return pa.table({})
    types = ["VARCHAR"] * len(text_keys) + ["JSON"] * len(json_keys)
    # The engine's structs do not tell `id` from `ID`: keys that differ only in case go to different structs.
    structs: list[dict[str, str]] = []
    homes: list[int] = []
    taken: list[set[str]] = []
    for key, kind in zip(keys, types, strict=True):
        home = next((at for at, names in enumerate(taken) if key.lower() not in names), len(taken))
        if home == len(taken):
            taken.append(set())
            structs.append({})
        taken[home].add(key.lower())
        structs[home][key] = kind
        homes.append(home)
    columns = ", ".join(f"json_transform(json, ${at}) AS s{at}" for at in range(1, len(structs) + 1))
    table = _query(lines, f"SELECT {columns} FROM lines", [json.dumps(struct) for struct in structs], connection)
    parts = [
        dict(zip(struct, table.column(at).combine_chunks().flatten(), strict=True)) for at, struct in enumerate(structs)
    ]
    return pa.Table.from_arrays([parts[home][key] for key, home in zip(keys, homes, strict=True)], names=keys)


def _query(lines: pa.Table, sql: str, params: list[str], connection: duckdb.DuckDBPyConnection | None) -> pa.Table:
    own = engine() if connection is None else connection
    try:
        own.register("lines", lines.select(["json"]))
        try:
            return own.execute(sql, params).to_arrow_table()
        finally:
            own.unregister("lines")
    finally:
        if connection is None:
            own.close()


class _NotStandard(ValueError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


def _refuse(name: str) -> NoReturn:
    raise _NotStandard(name)


# Only the form is checked: numbers, however long, and objects are not kept.
_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_int=len, parse_float=len, object_pairs_hook=len)


def _layout(texts: pa.StringArray) -> tuple[Bounds, Bytes]:
    """(bounds, data): text i is data[bounds[i]:bounds[i + 1]]."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=4 * texts.offset)
    return bounds, np.frombuffer(data, np.uint8, count=int(bounds[-1]))


def _too_deep_at(text: str) -> int | None:
    """Position of the bracket that opens level 65."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return match.start()
        elif token in "]}":
            depth -= 1
    return None


def _half_character_at(text: str) -> int | None:
    """Position of an escape that is one half of a surrogate pair without the other."""
    high: re.Match[str] | None = None
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0
        if high is not None and not (0xDC00 <= code < 0xE000 and match.start() == high.end()):
            return high.start()
        if high is None and 0xDC00 <= code < 0xE000:
            return match.start()
        high = match if 0xD800 <= code < 0xDC00 else None
    return None if high is None else high.start()


def _where(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return f"line {line}, column {column}" if "\n" in text.rstrip() else f"column {column}"
