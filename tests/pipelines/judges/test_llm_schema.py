"""The check of answers against strict schemas, beside an independent validator."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.llm_schema import mismatch, strict_object

LEAVES = st.sampled_from(
    [
        {"type": "string"}, {"type": "integer"}, {"type": "number", "minimum": 0, "maximum": 1}, {"type": "boolean"},
        {"type": ["string", "null"]}, {"type": "string", "enum": ["a", "b"]}, {"type": "integer", "enum": [0, 1]},
        {"type": "integer", "minimum": 0, "maximum": 100},
    ]
)  # fmt: skip
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(strict_object),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 101), st.floats(-1, 2), st.sampled_from(["a", "b", "c"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)),
    max_leaves=8,
)


@given(SCHEMAS, VALUES)
def test_it_agrees_with_an_independent_validator(schema: dict[str, Any], value: Any) -> None:
    try:
        jsonschema.validate(value, schema)
        fits = True
    except jsonschema.ValidationError:
        fits = False
    # 1.0 for an enumerated 1 is a number to JSON; refusing it is what the port wants of an integer code.
    if isinstance(value, float) and "enum" in schema:
        return
    assert (mismatch(value, schema) is None) == fits or _holds_enumerated_float(value)


def _holds_enumerated_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_enumerated_float, value.values()))
    if isinstance(value, list):
        return any(map(_holds_enumerated_float, value))
    return isinstance(value, float) and value.is_integer()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the answer is []; expected object"),
        ({}, "the answer has no 'word'"),
        ({"word": 3}, "'word' of the answer is 3; expected string"),
        ({"word": "a", "x": 1}, "the answer has 'x', which was not asked for"),
    ],
)
def test_it_says_where_and_what(value: Any, said: str) -> None:
    problem = mismatch(value, strict_object({"word": {"type": "string"}}))
    assert problem is not None
    assert problem == said
