"""Formula cells in everything that leaves as a table, and nothing leaves past the one place that guards it."""

import ast
import csv
import io
from datetime import UTC, datetime

import polars as pl
import pytest
from hostile_world import FORMULA
from loop_data import NOW
from page_driver import APP

from dashboard.audit import panel
from dashboard.ui import export
from pipelines.commands import audit as audit_command
from pipelines.ingest.layout_columns import LAYOUTS
from pipelines.ingest.templates import template
from store import audit
from store.connection import Store

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
TEXTS = [f"{start}{rest}" for start in STARTS for rest in ('cmd|"/c calc"!A1', "SUM(1)", "")] + [FORMULA, f" {FORMULA}"]

# Beside `ui.export`: files that no spreadsheet reads, that are ours, or that must come back byte for byte as they came.
DOWNLOADS = {
    "ui/export.py": "the guard itself", "audit/panel.py": "JSON Lines",
    "privacy/forget_panel.py": "a ZIP of JSON Lines", "intake/guidance.py": "templates of our own words",
    "intake/mappings.py": "TOML", "intake/batch_report.py": "rejected records, to be repaired and sent again",
}  # fmt: skip


def cells(content: bytes) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) for cell in row]


def formulas(found: list[str]) -> list[str]:
    return [cell for cell in found if cell.lstrip(" ").startswith(STARTS)]


def test_no_cell_or_name_of_a_table_is_a_formula():
    frame = pl.DataFrame({f"{text}{number}": TEXTS for number, text in enumerate(TEXTS)})
    assert formulas(cells(export.csv_bytes(frame))) == []


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("x", TEXTS, dtype=pl.Categorical), pl.Series("x", [[text] for text in TEXTS]),
        pl.Series("x", [{"a": text} for text in TEXTS]),
    ],
    ids=["categorical", "list", "record"],
)  # fmt: skip
def test_no_kind_of_column_gets_past(column):
    assert formulas(cells(export.csv_bytes(pl.DataFrame([column])))) == []


def test_every_download_of_the_pages_is_guarded_or_named():
    found = set()
    for path in APP.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("download_button", "write_csv", "write_excel"):
                found.add(path.relative_to(APP.parent).as_posix())
    assert found == set(DOWNLOADS)


def test_the_audit_log_leaves_without_formulas(tmp_path, capsys, monkeypatch):
    store = Store.open(tmp_path / "trimtab.duckdb", threads=1)
    try:
        for text in TEXTS:
            store.write(
                lambda connection, text=text: audit.append(connection, NOW, text or "x", text, text, {"why": text})
            )
        frame = panel._whole(store, audit.Filter())
    finally:
        store.close()
    assert frame.height == len(TEXTS)
    assert formulas(cells(export.csv_bytes(frame))) == []
    written = [audit_command._cell(text) for text in TEXTS]
    assert formulas(written) == []


def test_numbers_stay_numbers_and_times_times():
    frame = pl.DataFrame({"n": [-1], "x": [-0.5], "at": [datetime(2026, 1, 1, tzinfo=UTC)]})
    assert cells(export.csv_bytes(frame))[3:5] == ["-1", "-0.5"]


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_templates_hold_no_formula(kind):
    assert formulas(cells(template(kind, "csv"))) == []
