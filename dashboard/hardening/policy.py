"""The headers of every answer: what a browser may load, run and tell others when it shows one of our pages."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Final

import streamlit

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
_OF_FILES: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"

# Nothing of this is used; copying to the clipboard is.
_UNUSED: Final = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation",
    "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer", "microphone", "midi", "payment",
    "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
_ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    # Addresses hold ids of users: they go to no other site.
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", ", ".join(f"{name}=()" for name in _UNUSED)),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


@cache
def content_policy() -> str:
    """The Content-Security-Policy of pages. The scripts within Streamlit's own page are allowed by what they say."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    inline = " ".join(_hash(script) for script in _INLINE.findall(page))
    return "; ".join(f"{name} {value.format(inline=inline).rstrip()}" for name, value in _POLICY.items())


@cache
def headers(*, file: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values as they are sent; `file` for what operators download."""
    policy = ("Content-Security-Policy", _OF_FILES if file else content_policy())
    kept = (("Cache-Control", "private, no-store"),) if file else ()
    return tuple((name.lower().encode(), value.encode()) for name, value in (policy, *kept, *_ALWAYS))


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
