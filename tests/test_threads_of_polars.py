"""No function of Python runs inside an expression of Polars: see `store.frames.each`."""

import re
from pathlib import Path

import polars as pl
import pytest

from store.frames import each

ROOT = Path(__file__).resolve().parents[1]
INSIDE = re.compile(r"\.(map_elements|map_batches|map_groups|map_rows)\(")


@pytest.mark.parametrize("package", ["store", "pipelines", "gateway", "dashboard"])
def test_no_expression_calls_python(package):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if INSIDE.search(line)
    ]
    assert found == []


def test_each_value_is_made_by_the_function_and_nothing_stays_nothing():
    made = each(pl.Series("text", ["a", None, "b"]), str.upper, pl.String)
    assert made.equals(pl.Series("text", ["A", None, "B"]), null_equal=True)
    assert each(pl.Series("none", [], dtype=pl.Int64), str, pl.String).equals(pl.Series("none", [], dtype=pl.String))
