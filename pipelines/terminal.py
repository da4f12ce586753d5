"""Texts of traces on a terminal."""

__all__ = ["printable"]


def printable(text: str, kept: str = "") -> str:
    """A text without the signs by which traces could steer a terminal; those in `kept` stay."""
    return "".join(sign if sign in kept or sign.isprintable() else "\ufffd" for sign in text)
