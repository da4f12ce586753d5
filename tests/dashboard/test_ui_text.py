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


# What Streamlit's Markdown makes of the text of a paragraph after escapes are gone: the expressions of mdast-util-gfm-
# autolink-literal 2 and remark-emoji 5, and those of Streamlit 1.67 itself, as they stand in its bundle.
MADE_INTO_MORE = {
    "link": re.compile(r"(https?://|www(?=\.))([-.\w]+)", re.IGNORECASE | re.ASCII),
    "mail": re.compile(r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)", re.ASCII),
    "icon": re.compile(r":material[_/]", re.ASCII),
    "logo": re.compile(r":streamlit:"),
    "emoji": re.compile(r":\+1:|:-1:|:[\w-]+:", re.ASCII),
    "sign": re.compile(r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)"),
}
PARTS = st.sampled_from(
    ["http", "HTTPS", "://", ":", "/", "www", "WWW.", ".", "a.example", "eve", "@", "b-c.example", "material", "_home",
     "streamlit", "+1", "100", "smile", "->", "<->", "--", ">=", "~=", "<", "-", " ", "\n", "\\", "[", "](", ")", "*",
     "`", "<b>", "&amp;", "$", "\u200b", "é", "1."]
)  # fmt: skip


def _read(markdown):
    """The text of a paragraph as a reader of CommonMark has it before anything else is made of it."""
    (paragraph,) = [token for token in MarkdownIt("commonmark").parse(f"x {markdown}") if token.type == "inline"]
    assert {token.type for token in paragraph.children or []} <= {"text", "text_special"}
    return "".join(token.content for token in paragraph.children or []).removeprefix("x").removeprefix(" ")


@pytest.mark.parametrize("value", HOSTILE)
def test_escaped_text_renders_as_itself(value):
    rendered = MarkdownIt("commonmark").renderInline(text.markdown_safe(value))
    assert html.unescape(rendered).replace("\u200b", "") == value
    assert not re.search(r"<(?!br)", rendered)


@given(st.lists(st.one_of(PARTS, PARTS, ANY_TEXT), max_size=12).map("".join))
def test_nothing_is_made_of_escaped_text(value):
    safe = text.markdown_safe(value)
    read = _read(safe)
    assert read.replace("\u200b", "") == " ".join(text.clean(value).split()).replace("\u200b", "")
    for where in (read, f"by {read}.", f"{read}: done"):
        assert {name for name, pattern in MADE_INTO_MORE.items() if pattern.search(where)} == set()
    assert ":material/" not in safe


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("see http://evil.example/x", "link"), ("HTTPS://evil.example", "link"), ("(www.evil.example)", "link"),
        ("write to eve@evil.example", "mail"), ("a :material_home: b", "icon"), (":streamlit:", "logo"),
        ("so :100: it is", "emoji"), ("a -> b", "sign"), ("<-> b", "sign"),
    ],
)  # fmt: skip
def test_what_would_be_made_of_it_is_kept_from_it(value, made):
    assert MADE_INTO_MORE[made].search(value), "the expression does not find what it is for"
    assert not MADE_INTO_MORE[made].search(_read(text.markdown_safe(value)))


@pytest.mark.parametrize("value", ["12:30 and 7:05", "a-b", "x = 3 - 2", "a@ b", "-5.2 to 3", "ratio 1:2", "wwwx.y"])
def test_text_of_which_nothing_is_made_holds_nothing_invisible(value):
    assert "\u200b" not in text.markdown_safe(value)


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
