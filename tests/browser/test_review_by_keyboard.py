"""Review in real Chromium: ten lessons decided without a mouse, no key taken from someone who types, and how fast."""

import sys
import time

import pytest
from browser_world import Deployment, settled, until
from playwright.sync_api import Error as NotYet
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_SHOWN = "new URLSearchParams(location.search).get('lesson')"
_CHANGED = f"before => {_SHOWN} !== before"
_TIMED = 15
_ACTIONS = {
    "canary": ["lesson approve"], "active": ["lesson approve"], "rejected": ["lesson reject"],
    "sent back": ["lesson send back"], "edited": ["lesson edit"], "taken back": ["lesson approve", "lesson undo"],
}  # fmt: skip
_WORDS = {
    "canary": "canary", "active": "active", "rejected": "bananas are next, says pae", "sent back": "explain as before",
    "edited": "", "taken back": "canary",
}  # fmt: skip


def shown(page: Page) -> str:
    """The id of the lesson that is shown."""
    return str(page.evaluate(_SHOWN))


def press(page: Page, key: str) -> str:
    """Press a key that takes the page to another lesson; returns which."""
    before = shown(page)
    page.keyboard.press(key)
    until(page, _CHANGED, before)
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
            until(page, _CHANGED, before, patience=3_000)
        except NotYet:
            continue
        break
    settled(page)


def opened(page: Page, key: str, field: str) -> None:
    """Press a key that opens a form, whose first field has the keyboard then."""
    page.keyboard.press(key)
    expect(page.locator(field)).to_be_focused()
    settled(page)


def test_ten_lessons_are_reviewed_by_keyboard_alone(deployment: Deployment) -> None:
    page = deployment.come("reviewer", "review")
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
    decided[here] = "taken back"
    press(page, "a")
    page.keyboard.press("u")
    until(page, f"here => {_SHOWN} === here", here)
    settled(page)

    # The audit log has each of these decisions with its words, and nothing else of these lessons.
    actions = ("lesson approve", "lesson reject", "lesson send back", "lesson edit", "lesson undo")
    rows = [row for action in actions for row in deployment.audited(page, "reviewer", action)]
    done: dict[str, list[tuple[str, dict[str, object]]]] = {lesson: [] for lesson in decided}
    for row in sorted(rows, key=lambda row: int(row["sequence"])):
        done.get(row["subject"].removeprefix("lesson "), []).append((row["action"], row["detail"]))
    for lesson, what in decided.items():
        assert [action for action, _ in done[lesson]] == _ACTIONS[what], lesson
        detail = str(done[lesson][0][1])
        assert _WORDS[what] in detail, detail


def test_what_the_machine_takes_of_a_decision(deployment: Deployment, record_property) -> None:
    """Prints (pytest -s) the machine's share of the 18 s that fifty proposals in fifteen minutes leave for each."""
    page = deployment.come("reviewer", "review")
    listening(page)
    taken = []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        press(page, "a")
        taken.append(1_000 * (time.perf_counter() - begun))
    told = f"{sum(taken) / _TIMED:.0f} ms a decision, at most {max(taken):.0f} ms"
    record_property("machine", told)
    sys.stdout.write(f"{told}\n")
