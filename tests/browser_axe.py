"""What axe finds on a page against WCAG 2.2 AA, without what is Streamlit's own and is listed in docs/accessibility.md.

axe is given to the page by the debugger's protocol, which no Content-Security-Policy of the page forbids.
"""

from typing import Final, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

Scheme = Literal["light", "dark"]

_TAGS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

# Rule, and a selector that the element, or one around it, matches; what cannot be mended from outside Streamlit.
_KNOWN: Final[tuple[tuple[str, str], ...]] = (
    ("list", "[data-testid=stSidebarNavItems]"),
    ("listitem", "[data-testid=stSidebarNavItems] li"),
    ("color-contrast", "[data-testid=stCode] .token"),
    ("target-size", "[data-testid=stMultiSelect] button[aria-label='Clear all']"),
)
# Streamlit writes white on the primary colour and the primary colour on itself: on a dark page none has 4.5:1 in both.
_KNOWN_IN_DARK: Final[tuple[tuple[str, str], ...]] = (
    ("color-contrast", "[data-testid^=stBaseButton-primary]"),
    ("color-contrast", "[data-testid=stMultiSelect] [data-tag-index]"),
    ("color-contrast", "[data-testid=stButtonGroup] [data-selected=true]"),
)

_RUN: Final = """async ({tags, known}) => {
    const found = await axe.run(document, {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]});
    const ours = (rule, node) => {
        const element = node.target.length === 1 ? document.querySelector(node.target[0]) : null;
        return !known.some(([name, selector]) => name === rule && element !== null && element.closest(selector));
    };
    const told = (rule, node) =>
        `${rule}: ${node.html.slice(0, 300)} | ${[...node.any, ...node.all, ...node.none].map(c => c.message)}`;
    return found.violations.flatMap(v => v.nodes.filter(node => ours(v.id, node)).map(node => told(v.id, node)));
}"""


def violations(page: Page, scheme: Scheme) -> list[str]:
    """Each element of the page that breaks a rule of WCAG 2.2 AA in this appearance: rule, element, what is wrong."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE_SCRIPT)
    known = _KNOWN + (_KNOWN_IN_DARK if scheme == "dark" else ())
    return [str(each) for each in page.evaluate(_RUN, {"tags": list(_TAGS), "known": [list(one) for one in known]})]
