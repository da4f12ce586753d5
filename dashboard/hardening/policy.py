"""The headers of every answer: what a browser may load, run and tell others when it shows one of our pages."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Final

import streamlit

from gateway.security_headers import ALWAYS, NO_PAGE

__all__ = ["FILES", "content_policy", "headers"]

FILES: Final = "/media/"
"""What operators download: it is never a page, whatever is in it."""

_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)

# What pages may use. Streamlit sets styles inline; its components come as blobs that its own scripts make, and its
# charts read their formulas with WebAssembly or not at all. Nothing is loaded from any other host, images least of all:
# an address within a trace could otherwise tell its author who read it when.
_POLICY: Final[dict[str, str]] = {
    "default-src": "'self'",
    "script-src": "'self' blob: 'wasm-unsafe-eval' {inline}",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "frame-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


@cache
def content_policy() -> str:
    """The Content-Security-Policy of pages. The scripts within Streamlit's own page are allowed by what they say."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    inline = " ".join(_hash(script) for script in _INLINE.findall(page))
    return "; ".join(f"{name} {value.format(inline=inline).rstrip()}" for name, value in _POLICY.items())


@cache
def headers(*, file: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values as they are sent; `file` for what operators download."""
    policy = ("Content-Security-Policy", NO_PAGE if file else content_policy())
    kept = (("Cache-Control", "private, no-store"),) if file else ()
    return tuple((name.lower().encode(), value.encode()) for name, value in (policy, *kept, *ALWAYS))


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
