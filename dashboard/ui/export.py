"""Tables as files: CSV that a spreadsheet may open without running what somebody wrote into a cell, and Parquet."""

import io
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import runtime
from dashboard.access.actor import Actor, Role, permitting
from store import audit
from store.frames import each

__all__ = ["csv_bytes", "download", "parquet_bytes", "table", "text"]

# What spreadsheets take for the begin of a formula (OWASP, CSV injection), in wide forms too, behind blanks as well.
_NESTED: Final = (pl.List, pl.Array, pl.Struct, pl.Object)
_FORMULA: Final = r"^[\s\x00]*[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
_FILE_NAME: Final = re.compile(r"[^a-zA-Z0-9]+")


def download(frame: pl.DataFrame | Callable[[], pl.DataFrame], name: str, key: str) -> None:
    """Two buttons that give the table as CSV and as Parquet.

    Args: `frame`, or a function that reads it when a button is pressed: in another thread, so it must not ask
    Streamlit anything. `name` of the files, without ending. `key` of the buttons, unique on the page.
    """

    permit = permitting()
    base = f"trimtab-{_file_name(name)}"
    with st.container(horizontal=True, horizontal_alignment="right", gap="small", key=f"export-{key}"):
        for label, mime, content in (
            ("CSV", "text/csv", csv_bytes),
            ("Parquet", "application/vnd.apache.parquet", parquet_bytes),
        ):
            st.download_button(
                label, partial(_file, frame, name, label, content, permit), f"{base}.{label.lower()}", mime,
                key=f"{key}-{label.lower()}",
                icon=":material/download:", type="tertiary", on_click="ignore",
                help=f"All rows of this table as {label}",
            )  # fmt: skip


def table(
    name: str,
    frame: pl.DataFrame,
    *,
    key: str | None = None,
    whole: Callable[[], pl.DataFrame] | None = None,
    **shown: Any,
) -> Any:
    """A table with its two downloads below it; returns what `st.dataframe` does.

    Args: `name` of the files, unique on the page where no `key` is given; `whole` reads what the files hold where the
    table is one page of it, see `download`; `shown` as `st.dataframe` takes it. A cell without a value is empty where
    `shown` has no other placeholder.
    """
    event = st.dataframe(frame, key=key, **{"placeholder": "", **shown})
    download(whole or frame, name, f"{key or _file_name(name)}-export")
    return event


def text(name: str, content: str, *, rows: int, file_name: str, key: str) -> None:
    """A button that gives a text of the page as a file.

    Args: `name` of what it holds, as the audit log has it; `rows` of the store it was made of, such as steps.
    """
    st.download_button(
        "Download", partial(_text, name, content, rows, permitting()), file_name, "text/plain", key=key,
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def csv_bytes(frame: pl.DataFrame) -> bytes:
    """The frame as CSV (UTF-8 with its mark, RFC 4180): times in UTC as ISO 8601, lists and records as JSON.

    A text, or a column's name, that begins as a formula does gets an apostrophe before it, which spreadsheets take as
    "this is text". Numbers are written as they are.
    """
    nested = [name for name, dtype in frame.schema.items() if isinstance(dtype, _NESTED)]
    frame = frame.with_columns(each(frame[name], _json, pl.String) for name in nested)
    plain = frame.select(_plain(name, dtype) for name, dtype in frame.schema.items())
    names = [_guarded(name) for name in plain.columns]
    buffer = io.BytesIO()
    plain.rename(dict(zip(plain.columns, names, strict=True))).write_csv(buffer, include_bom=True)
    return buffer.getvalue()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet, values and types as they are: nothing in it can be run."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _file(
    frame: pl.DataFrame | Callable[[], pl.DataFrame],
    name: str,
    label: str,
    content: Callable[[pl.DataFrame], bytes],
    permit: Callable[[Role, str], Actor],
) -> bytes:
    """The file for whoever the page was drawn for, if they still may see pages; made once for each press of a button.

    No file leaves without its row in the audit log.
    """
    acting = permit("viewer", "Reading this")
    rows = frame if isinstance(frame, pl.DataFrame) else frame()
    made = content(rows)
    audit.exported(runtime.current().store, acting.email, table=name, kind=label, rows=rows.height)
    return made


def _text(name: str, content: str, rows: int, permit: Callable[[Role, str], Actor]) -> bytes:
    acting = permit("viewer", "Reading this")
    audit.exported(runtime.current().store, acting.email, table=name, kind="text", rows=rows)
    return content.encode()


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of values that a CSV can hold."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        moment = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        return moment.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{'Z' if dtype.time_zone else ''}")
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return column
    texts = column.cast(pl.String)
    return pl.when(texts.str.contains(_FORMULA)).then("'" + texts).otherwise(texts).alias(name)


def _file_name(name: str) -> str:
    return _FILE_NAME.sub("-", name.lower()).strip("-")


def _guarded(name: str) -> str:
    return f"'{name}" if re.match(r"[\s\x00]*[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]", name) else name


def _json(value: object) -> str:
    listed = value.to_list() if isinstance(value, pl.Series) else value
    return json.dumps(listed, default=str, ensure_ascii=False)
