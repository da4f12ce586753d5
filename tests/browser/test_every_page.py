"""Every full page in real Chromium: wide and light, narrow and dark, read by axe, and kept as pictures.

On the way: each table has its downloads beside it, each chart its picture, and text of others stays text.
"""

import pytest
from browser_axe import Scheme, violations
from browser_paths import ARTEFACTS
from browser_world import HOSTILE_NAME, Deployment, open_tab, settled, still, until
from drift_world import WHO
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_OTHER: dict[Scheme, Scheme] = {"light": "dark", "dark": "light"}
# Page, query, and the tabs that are opened on it one after the other.
_PAGES: tuple[tuple[str, dict[str, str], tuple[str, ...]], ...] = (
    ("", {}, ()),
    ("review", {}, ()),
    ("lessons", {}, ("Payoff", "Playbooks", "Why", "Rules")),
    ("traces", {}, ()),
    ("traces", {"trace": "t0000"}, ()),
    ("users", {}, ()),
    ("users", {"user": WHO}, ("Preferences", "Steering", "What went wrong")),
    ("rewards", {}, ("Signals", "Models", "Preferences", "Judges", "Steps", "Hacking watch")),
    ("exploration", {}, ("Arms", "What if", "Ledger", "Guardrails", "Teach")),
    ("drift", {}, ("Heat map", "Incidents", "Models", "Responses")),
    ("drift", {"incident": ""}, ()),  # the one that is held
    ("data", {}, ("Batches", "Jobs")),
    ("settings", {}, ("Keys", "Notices", "Segments", "Privacy", "Audit", "Backup")),
)  # fmt: skip
# Pages whose tabs are opened on a narrow screen too.
_TABS_NARROW = ("drift", "settings")
# Tables without their downloads, charts without a picture or with a bar that hides the page, links of others' text.
_KEPT_BESIDE = """evil => {
    const wrong = [], all = [...document.querySelectorAll("[data-testid=stDataFrame], [data-testid=stDownloadButton]")];
    all.forEach((each, place) => {
        if (each.dataset.testid !== "stDataFrame") return;
        const beside = all.slice(place + 1, place + 3).map(one => one.dataset.testid + one.textContent);
        if (!/^stDownloadButton.*CSV$/.test(beside[0]) || !/^stDownloadButton.*Parquet$/.test(beside[1]))
            wrong.push(`a table without downloads: ${each.textContent.slice(0, 80)}`);
    });
    for (const chart of document.querySelectorAll(".js-plotly-plot")) {
        const bar = chart.querySelector(".modebar-group"), seen = bar && getComputedStyle(bar).backgroundColor;
        if (!chart.querySelector(".modebar-btn[data-title*=PNG], .modebar-btn[data-title*=png]"))
            wrong.push(`a chart without a picture: ${chart.innerText.slice(0, 80)}`);
        if (seen !== "rgba(0, 0, 0, 0)" && seen !== "transparent") wrong.push(`a chart's bar is ${seen}`);
    }
    for (const link of document.querySelectorAll("a[href]"))
        if (evil.some(one => link.href.includes(one))) wrong.push(`a link of somebody's text: ${link.href}`);
    return wrong;
}"""
_STEPS = 60
# Where the focus is in the document, what it is, and whether it can be seen there.
_FOCUSED = """() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    return {
        place: [...document.querySelectorAll("*")].indexOf(focused),
        html: `${focused.outerHTML.slice(0, 200)} ${focused.innerText}`,
        main: focused.closest("[data-testid=stMain]") !== null,
        seen: box.bottom > 0 && box.top < innerHeight && box.width > 0,
    };
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_page_is_whole_and_accessible(deployment: Deployment, width: int, scheme: Scheme) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page = deployment.come("admin", "settings", width=width, scheme=scheme)
    found: dict[str, list[str]] = {}
    for place, query, tabs in _PAGES:
        name = "-".join([place or "overview", *query])
        given = {key: value or deployment.incident for key, value in query.items()}
        deployment.go(page, place, range="all time", **given)
        found[name] = _looked_at(page, name, width, scheme)
        _pictured_in(page, _OTHER[scheme], f"{name}-{width}")
        page.emulate_media(color_scheme=scheme)
        for tab in tabs if width > 1_000 or place in _TABS_NARROW else ():
            open_tab(page, tab)
            label = f"{name}-{tab.lower().replace(' ', '-')}"
            found[label] = _looked_at(page, label, width, scheme)
            if tab == "Notices":
                assert HOSTILE_NAME in page.get_by_test_id("stMain").inner_text().replace("\u200b", "")
    page = deployment.stand_before(width=width, scheme=scheme)
    found["sign-in"] = _looked_at(page, "sign-in", width, scheme)
    wrong = [f"{name}: {one}" for name, told in found.items() for one in told]
    assert not wrong, "\n".join(wrong)


def _looked_at(page: Page, name: str, width: int, scheme: Scheme) -> list[str]:
    """What is wrong with the page as it is drawn now; a picture of it is kept."""
    still(page)
    wrong = violations(page, scheme) + page.evaluate(_KEPT_BESIDE, ["192.0.2.1", "evil.example"])
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
        wrong.append("it scrolls sideways")
    page.screenshot(path=str(ARTEFACTS / f"{name}-{width}-{scheme}.png"))
    return wrong


def _pictured_in(page: Page, scheme: Scheme, name: str) -> None:
    """A picture of the page when the system changes its appearance while it is open."""
    page.emulate_media(color_scheme=scheme)
    until(
        page,
        "dark => (getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme === 'dark') === dark",
        scheme == "dark",
    )
    settled(page)
    still(page)
    page.screenshot(path=str(ARTEFACTS / f"{name}-{scheme}.png"))


def test_the_tab_key_goes_through_a_page_in_its_order(deployment: Deployment) -> None:
    page = deployment.come("admin", "settings", settings="Privacy")
    still(page)
    steps = []
    for _ in range(_STEPS):
        page.keyboard.press("Tab")
        steps.append(page.evaluate(_FOCUSED))
        if "Show what it would become" in steps[-1]["html"]:
            break
    inside = [step for step in steps if step["main"]]
    assert "Show what it would become" in inside[-1]["html"], "the last button of the page was not reached"
    assert [step["place"] for step in inside] == sorted(step["place"] for step in inside)
    assert [step["html"] for step in inside if not step["seen"]] == []
