"""Documents cannot rot: every command, job, page, setting, table and layout column is in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ingest.layout_columns import LAYOUTS
from pipelines.jobs import REGISTRY
from store.migrate import known
from store.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("job", sorted(REGISTRY))
def test_every_job_is_in_the_readme(job):
    assert f"| `{job}` |" in README


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_every_setting_is_in_the_readme_with_its_default(setting):
    row = next((line for line in README.splitlines() if line.startswith(f"| `{setting.variable}` |")), "")
    assert f"| `{setting.default}` |" in row if setting.default != "" else "| none |" in row
    assert setting.help in row


def test_no_setting_is_documented_that_does_not_exist():
    assert set(re.findall(r"^\| `(TRIMTAB_\w+)`", README, re.MULTILINE)) == {s.variable for s in SETTINGS}


def test_every_page_is_in_the_readme():
    pages = re.findall(r'st\.Page\([^)]*?title="([^"]+)"', (ROOT / "dashboard" / "app.py").read_text(encoding="utf-8"))
    assert len(pages) >= 8
    for page in pages:
        assert f"| {page} |" in README


def test_every_command_is_in_the_readme_and_no_other():
    usage = subprocess.run(
        [sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    listed = re.search(r"\{([\w,-]+)\}", usage)
    assert listed is not None
    assert set(re.findall(r"^python -m pipelines ([\w-]+)", README, re.MULTILINE)) == set(listed[1].split(","))


def test_every_make_target_is_in_the_readme():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    documented = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert documented <= set(targets)
    assert {"setup", "demo", "run", "test", "bench"} <= documented


def test_the_file_structure_names_every_package():
    for package in ("dashboard", "gateway", "pipelines", "store", "tests", "bench", "docs"):
        assert re.search(rf"^{package}/", README, re.MULTILINE), package


def test_every_table_is_in_the_store_readme():
    text = (ROOT / "store" / "README.md").read_text(encoding="utf-8")
    tables = {name for migration in known() for name in re.findall(r"CREATE TABLE (\w+)", migration.sql)}
    tables -= {name for migration in known() for name in re.findall(r"ALTER TABLE (\w+) RENAME TO", migration.sql)}
    assert {table for table in tables if f"`{table}`" not in text} == set()


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_column_is_described(layout):
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    section = text.split(f"## {layout}\n", 1)[1].split("\n## ", 1)[0]
    for column in LAYOUTS[layout]:
        assert f"| `{column.name}` |" in section
        assert column.description in section


def test_links_between_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("store/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
