"""Tables of the Data page: texts from files made safe to show, short tables whole and long ones scrolling."""

from typing import Any, Final, Literal

import polars as pl

from dashboard.ui.text import one_line

__all__ = ["height", "shown"]

_CELL_CHARACTERS: Final = 200
_PIXELS: Final = 320


def shown(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with texts on one line and cut to what a cell can show; numbers and times stay as they are."""
    return rows.with_columns(
        pl.Series(name, [_cell(value) for value in rows[name].to_list()], pl.String)
        for name, kind in rows.schema.items()
        if not (kind.is_numeric() or kind.is_temporal() or kind == pl.Boolean)
    )


def height(rows: int, *, whole: int = 8) -> int | Literal["content"]:
    """The height of a table of so many rows, for `st.dataframe`: all of them up to `whole`, else it scrolls."""
    return "content" if rows <= whole else _PIXELS


def _cell(value: Any) -> str | None:
    return None if value is None else one_line(str(value), _CELL_CHARACTERS)
