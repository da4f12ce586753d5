"""Text of others stays text."""

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from dashboard.ui import text

HOSTILE = [
    "<script>alert(1)</script>", "![x](http://evil.example/x.png)", "$\\frac{1}{2}$", ":red[hidden]", "**bold**",
    "[a](javascript:alert(1))", "<img src=x onerror=alert(1)>", "# heading", ":material/home:", "`code`", "http://a.example",
]  # fmt: skip

ANY_TEXT = st.text(st.characters(codec=None), max_size=200)


@given(ANY_TEXT)
def test_clean_text_can_be_sent_and_hides_nothing(value):
    cleaned = text.clean(value)
    cleaned.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", cleaned)


def test_clean_text_names_what_cannot_be_seen():
    assert text.clean("a\x00b\u202ec\r\nd\re\tf") == "a⟨U+0000⟩b⟨U+202E⟩c\nd\ne\tf"
    assert text.clean("half \ud83d") == "half ?"


@given(ANY_TEXT, st.integers(2, 60))
def test_one_line_is_one_short_line(value, limit):
    line = text.one_line(value, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_one_line_of_nothing_is_empty():
    assert text.one_line(None) == ""
    assert text.one_line("x" * 1000, 10) == "x" * 9 + "…"
    assert text.one_line(" " * 1000 + "x", 10) == "…"


@pytest.mark.parametrize("value", HOSTILE)
def test_escaped_text_renders_as_itself(value):
    rendered = MarkdownIt("commonmark").renderInline(text.markdown_safe(value))
    assert html.unescape(rendered) == value
    assert not re.search(r"<(?!br)", rendered)


@given(ANY_TEXT)
def test_labels_of_figures_hold_no_tags(value):
    assert not re.search(r"[<>]", text.plotly_safe(value))


def test_json_is_laid_out_and_other_text_is_left_alone():
    assert text.pretty_json('{"a":"é"}') == '{\n  "a": "é"\n}'
    assert text.pretty_json("not json") == "not json"
    assert text.pretty_json(None) == ""
    assert text.compact_json('{"a": 1}') == '{"a": 1}'
    assert text.compact_json(json.dumps(["x" * 50] * 3)).count("\n") == 4
    deep = "[" * 100_000
    assert text.pretty_json(deep) == deep
    assert text.compact_json(deep) == deep


def _page(value, limit):
    from dashboard.ui import text

    text.block(value, limit=limit, empty="Nothing.")
    text.line(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_blocks_and_lines_are_not_markdown(value):
    app = AppTest.from_function(_page, args=(value, 1000)).run()
    assert not app.exception
    assert app.code[0].value == value
    assert app.text[0].value == value
    assert not app.markdown


def test_a_long_block_is_cut_and_says_so():
    app = AppTest.from_function(_page, args=("x" * 3000, 1000)).run()
    assert app.code[0].value == "x" * 1000
    assert app.caption[0].value == "The first 1,000 of 3,000 characters."


def test_an_empty_block_says_so():
    app = AppTest.from_function(_page, args=(None, 10)).run()
    assert app.caption[0].value == "Nothing."
    assert app.text[0].value == "–"
