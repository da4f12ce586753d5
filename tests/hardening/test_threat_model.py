"""The threat model cannot rot: every threat names tests, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
THREATS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| threat ")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def names_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[2:50])
def test_every_threat_has_a_guard_and_tests_that_exist(row):
    threat, guard, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert threat
    assert guard
    named = NAMED.findall(tests)
    assert len(named) == tests.count("`") / 2 > 0
    assert [f"{file}::{name}" for file, name in named if name not in names_of(file)] == []


def test_the_attempts_of_this_folder_are_all_in_it():
    here = {f"tests/hardening/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - {
        "tests/hardening/test_threat_model.py"
    }
    assert here <= {file for file, _ in NAMED.findall(TEXT)}
    assert len(THREATS) >= 30
