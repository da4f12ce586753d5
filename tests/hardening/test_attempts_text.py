"""Script and Markdown in every text that a trace can bring, on every page and tab: shown as it is, or not at all."""

import re
from pathlib import Path

import pytest
from hostile_world import TRACES, rows, trace_id
from loop_data import NOW
from page_driver import APP, labels, markup, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import audit, notices

VIEWS = Path(APP).parent / "views"
PAGES = sorted(path.stem for path in VIEWS.glob("*.py"))
LIVE = ("<img", "<script", "](http", "![", ":red[", "javascript:alert")

# Tabs by the parameter that opens them; a page of which all is drawn at once has none.
TABS = {
    "settings": ("settings", ("Notices", "Segments", "Privacy", "Audit", "Backup")),
    "data": ("tab", ("Sources", "Batches", "Jobs")),
    "drift": ("tab", ("Findings", "Incidents", "Models")),
    "lessons": ("lessons_tab", ("Library", "Why")),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with store_for_pages(folder / "trimtab.duckdb") as opened:
        publisher(opened, folder)(**rows())
        told = rows()["traces"][0]["input"]

        def work(connection):
            audit.append(connection, NOW, told, told[:60], told, {"why": told})
            notices.post(
                connection, NOW, kind="job", key=told, title=told, text=told, severity="critical", page=told, query={}
            )

        opened.write(work)
        yield opened


@pytest.fixture(scope="module")
def at(store):
    """Goes to a page at an address, in one session."""
    session = AppTest.from_file(str(APP), default_timeout=30)
    session.run()

    def go(page, **told):
        session.switch_page(f"views/{page}.py")
        for name in list(session.query_params):
            del session.query_params[name]
        for name, value in told.items():
            session.query_params[name] = value
        session.run()
        assert not session.exception, [error.value for error in session.exception]
        return session

    return go


def inert(app) -> None:
    """Nothing that a browser reads as markup holds what the texts bring; no HTML is drawn by anybody."""
    read = markup(app) + labels(app) + "\n".join(str(tab.label) for tab in app.tabs)
    read += "\n".join(str(metric.label) + str(metric.value) for metric in app.metric)
    read = re.sub(r"\\.", "", read)
    assert [mark for mark in LIVE if mark in read] == []
    assert not app.get("html")
    assert not app.get("iframe")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_it_as_text(at, page):
    inert(at(page))


@pytest.mark.parametrize(("page", "parameter", "tab"), [(p, q, t) for p, (q, tabs) in TABS.items() for t in tabs])
def test_a_tab_shows_it_as_text(at, page, parameter, tab):
    app = at(page, **{parameter: tab})
    assert [each.label for each in app.tabs]
    inert(app)


def test_one_trace_shows_it_as_text(at):
    app = at("traces", trace=trace_id(TRACES - 1))
    # It is there: what is inert because it is not shown proves nothing.
    assert "<script>" in "".join(str(each.value) for each in (*app.code, *app.text))
    inert(app)


def test_one_user_shows_it_as_text(at):
    inert(at("users", user=rows()["traces"][0]["user_id"]))


def test_no_page_has_a_way_to_draw_html():
    source = "\n".join(path.read_text() for path in APP.parent.rglob("*.py"))
    assert not re.findall(r"unsafe_allow_html|st\.html\(|components\.v1|st\.iframe\(|unsafe_allow_javascript", source)
    # Pictures are our own: Streamlit would load an address.
    assert not re.findall(r"st\.(image|logo|audio|video|pdf)\((?!_MARK|str\(|_)", source)
