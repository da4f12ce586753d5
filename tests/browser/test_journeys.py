"""What operators of each role come for, in real Chromium: from sign-in to the audit log, and what is refused."""

import re
from pathlib import Path

import pytest
from browser_paths import ARTEFACTS
from browser_world import Deployment, open_tab, settled, until
from drift_world import WHO
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_HOSTILE = (
    "<script>window.pwned=1</script><img src=http://192.0.2.1/x.png onerror=window.pwned=2> ![x](http://192.0.2.1/y)"
)
_BAD_ROWS = f"""trace_id,user,question,answer,timestamp,thumbs
r1,ada,Where is my order?,It left yesterday.,2026-11-20T10:00:00Z,up
r2,bob,"{_HOSTILE}",I cannot help with that.,2026-11-20T10:05:00Z,down
r3,cyd,Cancel my order,Done.,not a time,up
r4,dan,too short
""" + "".join(f"g{i},eve,Refund number {i} please,Refunded.,2026-11-20T11:{i:02d}:00Z,up\n" for i in range(48))
_INCIDENT = "Reward fell for segment north: model two"
_REPORTED = '[data-testid="stAlertContentSuccess"], [data-testid="stAlertContentWarning"]'


def said(page: Page, words: str | re.Pattern[str]) -> None:
    """Wait until the page says this about what was just done."""
    expect(page.locator(_REPORTED).filter(has_text=words).first).to_be_visible()
    settled(page)


def withheld(page: Page, name: str, needed: str, held: str) -> None:
    """A button is there, cannot be pressed, and says whose task it is."""
    button = page.get_by_role("button", name=name, exact=True)
    expect(button).to_be_disabled()
    button.hover(force=True)
    expect(page.get_by_text(f"This takes the role {needed}, and you have the role {held}.")).to_be_visible()


def pictured(page: Page, name: str) -> None:
    """Keep a picture of the page."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"journey-{name}.png"))


def choose_first_row(page: Page) -> None:
    """Choose the first row of the first table that is seen: one in a closed expander is there too."""
    # The box that chooses a row is the first column, and the first row is below the header.
    page.get_by_test_id("stDataFrame").filter(visible=True).first.click(position={"x": 16, "y": 50})


def load(page: Page, file: Path) -> None:
    """Give the Data page a file and have it loaded."""
    page.locator('input[type="file"]').first.set_input_files(str(file))
    page.get_by_role("button", name=re.compile("Load this file")).click()


def test_a_reviewer_uploads_a_file_and_repairs_what_was_rejected(deployment: Deployment, tmp_path: Path) -> None:
    bad = tmp_path / "runs.csv"
    bad.write_text(_BAD_ROWS, encoding="utf-8")
    page = deployment.come("reviewer", "data")
    load(page, bad)
    expect(page.get_by_text(re.compile("50 accepted")).first).to_be_visible()
    expect(page.get_by_text(re.compile("2 rejected")).first).to_be_visible()
    pictured(page, "loaded")

    # The newest batch is shown first.
    deployment.go(page, "data", tab="Batches")
    with page.expect_download() as download:
        page.locator("[class*=st-key-data_rejects_]").get_by_role("button").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "not a time" in text
    assert "r4,dan,too short" in text
    repaired = tmp_path / "repaired.csv"
    repaired.write_text(
        text.replace("not a time", "2026-11-20T10:10:00Z").replace("too short", "Hello,Hi,2026-11-20T10:15:00Z,up"),
        encoding="utf-8",
    )
    deployment.go(page, "data")
    load(page, repaired)
    expect(page.get_by_text(re.compile("2 accepted")).first).to_be_visible()
    expect(page.get_by_text(re.compile("0 rejected")).first).to_be_visible()

    deployment.go(page, "traces", trace="r2")
    expect(page.get_by_text("bob").first).to_be_visible()
    open_tab(page, "Conversation")
    expect(page.get_by_text("window.pwned=1").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    pictured(page, "hostile-trace")


def test_a_part_that_is_drawn_by_itself_has_its_report_shown_at_once(deployment: Deployment) -> None:
    page = deployment.come("reviewer", "data", tab="Jobs")
    pressed = page.locator("[class*=st-key-data_run_link-signals]").get_by_role("button")
    before = pressed.bounding_box()
    pressed.click()
    said(page, "The job Link signals is running.")
    # Where the report stands, nothing else was.
    assert pressed.bounding_box() == before


def test_a_viewer_finds_why_a_user_is_unhappy_and_changes_nothing(deployment: Deployment) -> None:
    page = deployment.come("viewer", "users", find_user=WHO, range="all time")
    expect(page.get_by_text("1 user matches.")).to_be_visible()
    choose_first_row(page)
    expect(page.get_by_role("heading", name="User", exact=True)).to_be_visible()
    settled(page)
    expect(page.get_by_role("combobox", name=re.compile("Metric"))).to_be_visible()
    expect(page.get_by_text(_INCIDENT)).to_be_visible()
    pictured(page, "unhappy-user")
    open_tab(page, "What went wrong")
    open_tab(page, "Timeline")
    page.get_by_role("link", name="Open", exact=True).first.click()
    expect(page.get_by_role("heading", name="Incident", exact=True)).to_be_visible()
    settled(page)
    expect(page.get_by_text("Traces moved over to model model two.").first).to_be_visible()

    withheld(page, "Acknowledge", "reviewer", "viewer")
    assert deployment.audited(page, "viewer", "incident acknowledge") == []


def test_a_reviewer_handles_an_incident(deployment: Deployment) -> None:
    page = deployment.come("reviewer", "drift", tab="Incidents")
    choose_first_row(page)
    expect(page.get_by_role("heading", name="Incident", exact=True)).to_be_visible()
    settled(page)
    reason = page.get_by_label("Reason, or what you found")
    reason.fill("The model was changed on Friday.")
    page.get_by_role("button", name="Acknowledge").click()
    said(page, "Acknowledged.")
    page.get_by_role("button", name="Resolve").click()
    said(page, "nothing was written")
    reason.fill("The model is back.")
    page.get_by_role("button", name="Resolve").click()
    said(page, "Resolved.")
    pictured(page, "incident")

    (taken,) = deployment.audited(page, "reviewer", "incident acknowledge")
    assert taken["detail"] == {"before": "open", "after": "acknowledged", "reason": "The model was changed on Friday."}
    (done,) = deployment.audited(page, "reviewer", "incident resolve")
    assert done["detail"] == {"before": "acknowledged", "after": "resolved", "reason": "The model is back."}
    assert done["subject"] == taken["subject"]


def test_a_reviewer_approves_exploration_after_looking_at_what_it_does(deployment: Deployment) -> None:
    viewer = deployment.come("viewer", "exploration")
    viewer.get_by_role("button", name="Preview").click()
    expect(viewer.get_by_text("If it is applied")).to_be_visible()
    settled(viewer)
    withheld(viewer, "Apply", "reviewer", "viewer")

    page = deployment.come("reviewer", "exploration")
    expect(page.get_by_role("button", name="Apply", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("If it is applied")).to_be_visible()
    settled(page)
    pictured(page, "exploration")
    page.get_by_role("button", name="Apply", exact=True).click()
    said(page, "explores at the recommended rate from now on")
    (row,) = deployment.audited(page, "reviewer", "exploration apply")
    assert row["subject"] == "agent shop"


def test_a_reviewer_takes_a_lesson_back_from_agents(deployment: Deployment) -> None:
    page = deployment.come("reviewer", "review")
    for _ in range(2):
        lesson = str(page.evaluate("new URLSearchParams(location.search).get('lesson')"))
        page.locator(".st-key-approve_active").get_by_role("button").click()
        until(page, "before => new URLSearchParams(location.search).get('lesson') !== before", lesson)
        settled(page)
    deployment.go(page, "lessons", lessons_tab="Playbooks")
    page.get_by_role("button", name=re.compile("Go back to version")).click()
    said(page, "Back to version")
    expect(page.get_by_text(re.compile("Pinned: this repeats version"))).to_be_visible()
    pictured(page, "rolled-back")
    page.get_by_role("button", name=re.compile("Unpin")).click()
    said(page, "Unpinned.")
    deployment.go(page, "lessons", lesson=lesson)
    page.locator(".st-key-undo_review").get_by_role("button").click()
    said(page, re.compile(re.escape("proposed") + "|[Uu]ndo|[Tt]aken back"))

    assert deployment.audited(page, "reviewer", "lesson approve")[0]["subject"] == f"lesson {lesson}"
    assert deployment.audited(page, "reviewer", "lesson undo")[0]["subject"] == f"lesson {lesson}"
    assert deployment.audited(page, "reviewer", "lesson pin")[0]["subject"] == "lessons of shop"


def test_an_admin_forgets_a_user_and_the_log_is_whole(deployment: Deployment) -> None:
    user = "user 69"
    reviewer = deployment.come("reviewer", "settings", settings="Privacy")
    look_for(reviewer, user)
    withheld(reviewer, "Delete everything", "admin", "reviewer")

    page = deployment.come("admin", "settings", settings="Privacy")
    forget(page, "user 69", typed="user 6")
    said(page, "the id was not typed again as it is")
    forget(page, user)
    said(page, "Forgotten:")
    expect(page.get_by_text("What forgetting did")).to_be_visible()
    pictured(page, "forgotten")
    deployment.go(page, "users", find_user=user, range="all time")
    expect(page.get_by_text("No user matches")).to_be_visible()

    (row,) = deployment.audited(page, "admin", "forget user")
    assert row["subject"].startswith("person ")
    assert user not in str(row)
    page.get_by_role("button", name="Verify all rows").click()
    said(page, "are as they were written")
    pictured(page, "audit")
    assert deployment.audited(page, "reviewer", "forget user") == []


def forget(page: Page, user: str, *, typed: str | None = None) -> None:
    """Ask for a user to be forgotten, typing the id again."""
    look_for(page, user)
    page.get_by_label("Type the id again").fill(typed or user)
    page.get_by_role("button", name="Delete everything").click()


def look_for(page: Page, user: str) -> None:
    """Ask what there is of a user."""
    wanted = page.get_by_label("User id, as traces name it")
    wanted.fill(user)
    wanted.press("Enter")
