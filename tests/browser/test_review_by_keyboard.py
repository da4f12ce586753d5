"""Review in real Chromium: ten lessons decided without a mouse, no key taken from someone who types, and how fast."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from lesson_pages import propose_many
from loop_data import shop_file
from page_driver import store_for_pages
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as NotYet
from server_process import ServerProcess

from store import lessons
from store.connection import Store

pytestmark = pytest.mark.browser

_PROPOSED = 70
_SHOWN = "new URLSearchParams(location.search).get('lesson')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on the shop with seventy proposals more."""
    folder = tmp_path_factory.mktemp("review")
    with store_for_pages(folder / "trimtab.duckdb", shop_file()) as store:
        propose_many(store, _PROPOSED)
    with ServerProcess(folder / "trimtab.duckdb", folder / "server.log") as running:
        running.start()
        yield running


def settled(page: Page) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(page.get_by_test_id("stException")).to_have_count(0)


def shown(page: Page) -> str:
    """The id of the lesson that is shown."""
    return str(page.evaluate(_SHOWN))


def press(page: Page, key: str) -> str:
    """Press a key that takes the page to another lesson; returns which."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function(f"before => {_SHOWN} !== before", arg=before)
    settled(page)
    return shown(page)


def listening(page: Page) -> None:
    """Wait until the page takes keys: in its first moments it does not yet hear them."""
    expect(page.locator(".st-key-approve")).to_be_visible()
    settled(page)
    before = shown(page)
    for _ in range(10):
        page.keyboard.press("n")
        try:
            page.wait_for_function(f"before => {_SHOWN} !== before", arg=before, timeout=3_000)
        except NotYet:
            continue
        break
    settled(page)


def opened(page: Page, key: str, field: str) -> None:
    """Press a key that opens a form, whose first field has the keyboard then."""
    page.keyboard.press(key)
    expect(page.locator(field)).to_be_focused()
    settled(page)


def test_ten_lessons_are_reviewed_by_keyboard_alone(page: Page, server: ServerProcess):
    page.goto(f"http://127.0.0.1:{server.port}/review")
    listening(page)
    decided: dict[str, str] = {}

    for number in range(10):
        lesson = shown(page)
        if number % 5 == 0:
            decided[lesson] = "canary"
            press(page, "a")
        elif number % 5 == 1:
            decided[lesson] = "active"
            press(page, "Shift+A")
        elif number % 5 == 2:
            decided[lesson] = "rejected"
            opened(page, "x", ".st-key-reject_reason textarea")
            page.keyboard.type("bananas are next, says pae")
            assert shown(page) == lesson, "a key was taken from someone who types"
            press(page, "Control+Enter")
        elif number % 5 == 3:
            decided[lesson] = "sent back"
            opened(page, "b", ".st-key-send_back_reason textarea")
            page.keyboard.type("explain as before")
            press(page, "Control+Enter")
        else:
            decided[lesson] = "edited"
            opened(page, "e", ".st-key-edit_form input[aria-label=Title]")
            page.keyboard.press("End")
            page.keyboard.type(" apsenbux")
            assert shown(page) == lesson
            page.keyboard.press("Tab")
            expect(page.get_by_text("What changes")).to_be_visible()
            page.keyboard.press("Control+S")
            expect(page.locator(".st-key-edit_form")).to_have_count(0)
            settled(page)
            press(page, "s")
    assert len(decided) == 10
    here = shown(page)
    there = press(page, "n")
    assert press(page, "p") == here
    assert there != here
    decided[here] = "proposed"
    press(page, "a")
    page.keyboard.press("u")
    page.wait_for_function(f"here => {_SHOWN} === here", arg=here)
    settled(page)

    server.terminate()
    server.ended()
    with closing(Store.open(server.db)) as store:
        rows = {row["lesson_id"]: row for row in lessons.library(store).to_dicts()}
        for lesson, what in decided.items():
            row = rows[lesson]
            if what == "sent back":
                assert (row["state"], row["sent_back"], row["state_reason"]) == ("proposed", True, "explain as before")
            elif what == "edited":
                assert (row["state"], row["version"]) == ("proposed", 2)
                assert row["title"].endswith(" apsenbux")
            else:
                assert row["state"] == what
                if what == "rejected":
                    assert row["state_reason"] == "bananas are next, says pae"
    server.start()


def test_what_the_machine_takes_of_fifty_decisions(page: Page, server: ServerProcess, record_property):
    """Prints (pytest -s) the machine's share of the 18 s that fifty proposals in fifteen minutes leave for each."""
    page.goto(f"http://127.0.0.1:{server.port}/review")
    listening(page)
    taken = []
    for _ in range(50):
        begun = time.perf_counter()
        press(page, "a")
        taken.append(1_000 * (time.perf_counter() - begun))
    told = f"{sum(taken) / 50:.0f} ms a decision, at most {max(taken):.0f} ms"
    record_property("machine", told)
    sys.stdout.write(f"{told}\n")
