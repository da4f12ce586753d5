"""Journeys of an operator in real Chromium."""

import re
from pathlib import Path

import pytest
from browser_paths import ARTEFACTS
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_PAGES = (
    "", "review", "lessons", "traces", "users", "rewards", "rewards?tab=Signals", "rewards?tab=Models",
    "rewards?tab=Judges", "rewards?tab=Steps", "exploration", "drift", "data",
)  # fmt: skip

_HOSTILE = (
    "<script>window.pwned=1</script><img src=http://192.0.2.1/x.png onerror=window.pwned=2> ![x](http://192.0.2.1/y)"
)

_BAD_ROWS = f"""trace_id,user,question,answer,timestamp,thumbs
r1,ada,Where is my order?,It left yesterday.,2026-11-20T10:00:00Z,up
r2,bob,"{_HOSTILE}",I cannot help with that.,2026-11-20T10:05:00Z,down
r3,cyd,Cancel my order,Done.,not a time,up
r4,dan,too short
""" + "".join(f"g{i},eve,Refund number {i} please,Refunded.,2026-11-20T11:{i:02d}:00Z,up\n" for i in range(48))


def settled(page: Page) -> None:
    """Wait until the script of the page has run and nothing went wrong in it."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(page.get_by_test_id("stException")).to_have_count(0)


def _upload(page: Page, file: Path) -> None:
    page.locator('input[type="file"]').first.set_input_files(str(file))
    page.get_by_role("button", name=re.compile("Load this file")).click()


@pytest.fixture
def bad_rows(tmp_path: Path) -> Path:
    file = tmp_path / "runs.csv"
    file.write_text(_BAD_ROWS, encoding="utf-8")
    return file


def test_an_empty_store_teaches_then_takes_a_file_with_bad_rows(
    page: Page, address: str, bad_rows: Path, tmp_path: Path
):
    page.goto(address)
    settled(page)
    expect(page.get_by_text("make demo").first).to_be_visible()

    page.goto(f"{address}/data")
    settled(page)
    _upload(page, bad_rows)
    expect(page.get_by_text(re.compile(r"50 accepted")).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"2 rejected")).first).to_be_visible()
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / "loaded.png"))

    page.goto(f"{address}/data?tab=Batches&batch=1")
    settled(page)
    with page.expect_download() as download:
        page.locator(".st-key-data_rejects_1 button").click()
    repaired = tmp_path / "repaired.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "not a time" in text
    assert "r4,dan,too short" in text
    repaired.write_text(
        text.replace("not a time", "2026-11-20T10:10:00Z").replace("too short", "Hello,Hi,2026-11-20T10:15:00Z,up"),
        encoding="utf-8",
    )
    page.goto(f"{address}/data")
    settled(page)
    _upload(page, repaired)
    expect(page.get_by_text(re.compile(r"2 accepted")).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"0 rejected")).first).to_be_visible()

    page.goto(f"{address}/traces?trace=r2")
    settled(page)
    expect(page.get_by_text("bob").first).to_be_visible()
    page.get_by_role("tab", name="Conversation").click()
    settled(page)
    expect(page.get_by_text("window.pwned=1").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    page.screenshot(path=str(ARTEFACTS / "trace.png"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_opens_without_an_error_or_a_sideways_scroll(chromium, address: str, scheme: str, width: int):
    context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    context.set_default_timeout(45_000)
    page = context.new_page()
    ARTEFACTS.mkdir(exist_ok=True)
    for name in _PAGES:
        page.goto(f"{address}/{name}")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), name
        page.screenshot(path=str(ARTEFACTS / f"{name or 'overview'}-{width}-{scheme}.png"))
    context.close()
