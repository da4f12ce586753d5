"""An empty store in real Chromium, where nobody signs in: it teaches, and every page opens."""

import pytest
from browser_axe import violations
from browser_paths import ARTEFACTS
from browser_world import settled, still
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_PAGES = ("review", "lessons", "traces", "users", "rewards", "exploration", "drift", "data", "settings")


def test_every_page_of_an_empty_store_opens_and_says_what_to_do(page: Page, address: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.goto(address)
    settled(page)
    expect(page.get_by_text("make demo").first).to_be_visible()
    page.screenshot(path=str(ARTEFACTS / "empty-overview.png"))
    for name in _PAGES:
        page.goto(f"{address}/{name}")
        expect(page.locator("h1").first).to_be_visible()
        settled(page)
        still(page)
        wrong = violations(page, "light")
        assert not wrong, "\n".join([name, *wrong])
        page.screenshot(path=str(ARTEFACTS / f"empty-{name}.png"))
