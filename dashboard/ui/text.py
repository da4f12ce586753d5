"""Text that somebody else wrote: shown as it is, never as Markdown or HTML, and never as more than a browser can hold.

Streamlit renders the labels of widgets, metrics, badges, expanders and messages as Markdown, so such text belongs into
`block`, `line`, tables and figures (there through `plotly_safe`); where a label needs it, through `markdown_safe`.
"""

import html
import json
import re
from typing import Final

import streamlit as st

__all__ = ["block", "clean", "compact_json", "line", "markdown_safe", "one_line", "plotly_safe", "pretty_json"]

BLOCK_CHARACTERS: Final = 20_000
_SCROLL_CHARACTERS: Final = 1_500
_SCROLL_LINES: Final = 18
_SCROLL_PIXELS: Final = 360

# Control characters but tab and line end, and the marks that reverse the direction of what follows.
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
# What Streamlit makes of text when Markdown has been read, escaped or not: links of bare addresses, icons, its logo,
# emoji, arrows. An invisible character within keeps each as it is; browsers may break the line there.
_MADE_INTO_MORE: Final = re.compile(
    r"""(?ix) (?: : (?= [a-z_+\-/] | \w+: )   # a protocol, an icon, an emoji
    | www (?= \. | $ ) | @ (?= [\w\-] )       # a host, an address
    | (?<!\S) [<>~-] (?= [->=]{1,2} (?!\S) ) ) # an arrow, a dash, a comparison"""
)
_KEPT_APART: Final = "\u200b"
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$:~^=@&])")


def clean(text: str) -> str:
    """The text with what cannot be seen made visible: control characters, direction marks, half characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def one_line(text: str | None, limit: int = 120) -> str:
    """The text on one line of at most `limit` characters, for cells and labels."""
    if not text:
        return ""
    flat = " ".join(clean(text[: limit * 4]).split())
    return flat if len(flat) <= limit and len(text) <= limit * 4 else f"{flat[: limit - 1]}…"


def markdown_safe(text: str) -> str:
    """The text escaped so that Markdown, directives and math show it as it is; only where a label must hold it.

    No address in it becomes a link, and no word an icon: there it holds zero-width spaces.
    """
    plain = " ".join(clean(text).split())
    return _MARKDOWN.sub(r"\\\1", _MADE_INTO_MORE.sub(rf"\g<0>{_KEPT_APART}", plain))


def plotly_safe(text: str | None, limit: int = 80) -> str:
    """The text for a figure's labels and hovers, which read a few HTML tags, but not every entity: quotes stay."""
    return html.escape(one_line(text, limit), quote=False)


def pretty_json(text: str | None) -> str:
    """JSON with indentation; the text itself when it is not JSON."""
    if not text:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def compact_json(text: str | None, width: int = 90) -> str:
    """JSON on one line where it fits `width`, else with indentation; the text itself when it is not JSON."""
    if not text:
        return ""
    try:
        value = json.loads(text)
        short = json.dumps(value, ensure_ascii=False)
        return short if len(short) <= width else json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def line(text: str | None) -> None:
    """A paragraph of plain text."""
    st.text(clean(text[:BLOCK_CHARACTERS]) if text else "–")


def block(text: str | None, *, limit: int = BLOCK_CHARACTERS, length: int | None = None, empty: str = "Empty.") -> None:
    """A monospaced block with a copy button; long text is cut, scrolls, and says how long it is.

    Args: `limit` in characters; `length` of the whole text where `text` is a part of it; what to say of no text.
    """
    if not text:
        st.caption(empty)
        return
    shown = clean(text[:limit])
    long = len(shown) > _SCROLL_CHARACTERS or shown.count("\n") > _SCROLL_LINES
    st.code(shown, language=None, wrap_lines=True, height=_SCROLL_PIXELS if long else "content")
    whole = max(length or 0, len(text))
    if whole > limit:
        st.caption(f"The first {limit:,} of {whole:,} characters.")
