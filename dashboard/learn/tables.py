"""Tables of the learning loop: whole while they are short, scrolling when they are long."""

from typing import Final, Literal

__all__ = ["height"]

_WHOLE_ROWS: Final = 12
_PIXELS: Final = 400


def height(rows: int) -> int | Literal["content"]:
    """The height of a table with so many rows, for `st.dataframe`."""
    return "content" if rows <= _WHOLE_ROWS else _PIXELS
