"""Members of JSON records that no rule reads: packed record by record, whatever the others hold."""

import hashlib
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.json_extras import COLUMNS, DIGEST, ENTRIES, KEYS, pack


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        yield opened


def packed(connection, texts: list[str], mapped: set[str] = frozenset(), *, digest: bool = False):
    made = pack(connection, pa.array(texts, pa.string()), set(mapped), digest=digest)
    assert made.table.column_names == list(COLUMNS)
    return made


def test_members_keep_their_types_and_nulls_are_nothing(connection):
    text = '{"s":"é\\n","n":1.50,"o":{"a":[null]},"z":null,"mapped":1,"empty":"","big":123456789012345678901234567890}'
    made = packed(connection, [text], {"mapped"})
    (row,) = made.table.to_pylist()
    assert json.loads("{" + row[ENTRIES] + "}") == {
        "big": 123456789012345678901234567890, "empty": "", "n": 1.5, "o": {"a": [None]}, "s": "é\n",
    }  # fmt: skip
    assert row[KEYS] == sorted(row[KEYS]) == ["big", "empty", "n", "o", "s"]
    assert made.names == ["big", "empty", "n", "o", "s"]
    assert row[DIGEST] is None


def test_of_a_key_given_twice_the_first_counts(connection):
    made = packed(connection, ['{"a":1,"a":2}', '{"a":null,"a":2}'])
    assert made.table.column(ENTRIES).to_pylist() == ['"a":1', None]


def test_records_without_extras_have_none(connection):
    made = packed(connection, ["{}", '{"m":1}', '{"x":1}'], {"m"}, digest=True)
    assert made.table.column(ENTRIES).to_pylist() == [None, None, '"x":1']
    assert made.table.column(KEYS).to_pylist() == [None, None, ["x"]]
    assert made.table.column(DIGEST)[0].as_py() == hashlib.md5(b"").hexdigest()


def test_any_number_of_keys_is_packed(connection):
    texts = [json.dumps({f"k{i}_{j}": j for j in range(3_000)}) for i in range(3)]
    made = packed(connection, texts, digest=True)
    for text, entries in zip(texts, made.table.column(ENTRIES).to_pylist(), strict=True):
        assert json.loads("{" + entries + "}") == json.loads(text)
    assert len(made.names) == 9_000


# Control characters have two spellings as JSON, both right.
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)
_keys = st.sampled_from(["id", "ID", "x", "a'b", 'a"b', "a.b", "a/b", "$", "", "0", "é", "\0", "metadata"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=3
)
_records = st.dictionaries(_keys, _values, max_size=5)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _digest(record: dict[str, Any]) -> str:
    """What the digest is by definition: names and lengths and texts of the members that are not empty, by name."""
    said = [(key, _text(value)) for key, value in sorted(record.items()) if value is not None and value != ""]
    parts = (f"{json.dumps(key)}{len(text.encode())}:{text}" for key, text in said)
    return hashlib.md5("".join(parts).encode()).hexdigest()


@settings(max_examples=60, deadline=None)
@given(st.lists(_records, min_size=1, max_size=5), st.sets(_keys, max_size=3))
def test_a_record_is_packed_the_same_whatever_is_beside_it(connection, records, mapped):
    texts = [json.dumps(record) for record in records]
    together = packed(connection, texts, mapped, digest=True).table.to_pylist()
    for record, text, row in zip(records, texts, together, strict=True):
        assert packed(connection, [text], mapped, digest=True).table.to_pylist() == [row]
        wanted = {key: value for key, value in record.items() if value is not None and key not in mapped}
        assert json.loads("{" + (row[ENTRIES] or "") + "}") == wanted
        assert row[KEYS] == (sorted(wanted) or None)
        assert row[DIGEST] == _digest(record)
