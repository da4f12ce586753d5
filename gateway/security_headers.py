"""The headers that say what a browser may do with an answer: those of every answer, and those of one that is no page.

They are here, below the pages, because the steering process answers without them.
"""

from typing import Final

__all__ = ["ALWAYS", "NO_PAGE", "OF_DATA"]

NO_PAGE: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""The Content-Security-Policy of what is never a page, whatever is in it."""

# Nothing of this is used; copying to the clipboard is.
_UNUSED: Final = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation",
    "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer", "microphone", "midi", "payment",
    "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    # Addresses hold ids of users: they go to no other site.
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", ", ".join(f"{name}=()" for name in _UNUSED)),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
OF_DATA: Final = tuple(
    (name.lower().encode(), value.encode()) for name, value in (("Content-Security-Policy", NO_PAGE), *ALWAYS)
)
"""The headers of an answer to a program, as they are sent."""
