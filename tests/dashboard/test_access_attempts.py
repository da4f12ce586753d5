"""Attempts through the pages: what somebody's open page still offers after their role was lowered is refused.

The page is opened by an admin, so that every button is there; then the same session goes on as somebody with a lesser
role, or as nobody. `test_access_sweep` tries every callback there is; these are whole pages with real widgets.
"""

from collections.abc import Callable

import pytest
from explore_data import AGENT, steered_file
from lesson_pages import propose_many
from loop_data import NOW
from page_driver import click, open_page, shown, store_for_pages, unescaped, untouched
from signing_in import ADMIN, REVIEWER, VIEWER, come, signing_in
from streamlit.testing.v1 import AppTest

from dashboard import data
from pipelines.ingest.mapping import Mapping, Rule, Transform
from pipelines.lessons import review
from store import api_keys, operators, overview, pull_sources, sources
from store.errors import Forbidden
from store.pull_sources import PullSource

LESSER = {"reviewer": (VIEWER,), "admin": (VIEWER, REVIEWER)}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with something to change on every page."""
    with store_for_pages(tmp_path_factory.mktemp("attempts") / "trimtab.duckdb", steered_file()) as opened:
        first, *_ = propose_many(opened, 2, good="t0000", bad="t0001")
        review.approve(opened, first, version=1, operator="Ada", to="active")
        mapping = Mapping("signals", (Rule("kind", None, Transform.SIGNAL_KIND, "thumb"),), "crm")
        sources.save(opened, "crm", mapping.to_json(), ["a"])
        pull_sources.add(opened, PullSource("lf", "mlflow", "http://127.0.0.1:1", NOW, project="1"), operator="Ada")
        api_keys.create(opened, scopes=["ingest"], name="shop", operator="Ada")
        with pytest.MonkeyPatch.context() as patched:
            signing_in(opened, patched)
            yield opened


@pytest.fixture(autouse=True)
def admin(filled, monkeypatch):
    come(monkeypatch, ADMIN)


def forge(app: AppTest, key: str) -> AppTest:
    """Send that a button was pressed, whether or not the page lets a browser press it."""
    app.button(key=key)._value = True
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _never(app: AppTest) -> AppTest:
    app.text_input(key="never_unit_shop").set_value("eve")
    return app


def _source(app: AppTest) -> AppTest:
    app.text_input(key="source_form_new_name").set_value("other")
    app.text_input(key="source_form_new_url").set_value("http://127.0.0.1:1")
    return app


def _operator(app: AppTest) -> AppTest:
    app.text_input(key="operator_invite_address").set_value("eve@example.com")
    return app.selectbox(key="operator_chosen").set_value(ADMIN).run()


def _key(app: AppTest) -> AppTest:
    return app.selectbox(key="key_chosen").select_index(0).run()


def _as_it_is(app: AppTest) -> AppTest:
    return app


# The page, its address, what is typed first, and the buttons with the role that each takes.
ATTEMPTS: list[tuple[str, dict[str, str], Callable[[AppTest], AppTest], dict[str, str]]] = [
    ("review", {}, _as_it_is, {"approve": "reviewer"}),
    ("exploration", {}, _never, {
        "decline_shop": "reviewer", "bounds_save_shop": "reviewer", "never_add_shop": "reviewer"}),
    ("data", {"tab": "Jobs"}, _as_it_is, {"data_run_tasks": "reviewer"}),
    ("data", {"tab": "Sources"}, _source, {
        "source_pause_lf": "admin", "source_test_lf": "admin", "source_form_new_save": "admin"}),
    ("data", {"tab": "Mappings", "mapping": "crm"}, _as_it_is, {"data_mapping_delete": "reviewer"}),
    ("settings", {}, _operator, {
        "operator_invite_confirm": "admin", "operator_change": "admin", "operator_remove": "admin"}),
    ("settings", {"settings": "Keys"}, _key, {"key_make_confirm": "admin", "key_revoke": "admin"}),
]  # fmt: skip

# Pressed, they act while the page is drawn, where they are disabled by then.
WITHOUT_CALLBACK = {"source_test_lf"}


@pytest.mark.parametrize(("page", "query", "prepare", "buttons"), ATTEMPTS)
def test_a_button_that_is_still_there_changes_nothing(filled, monkeypatch, page, query, prepare, buttons):
    app = prepare(open_page(page, **query))
    assert AGENT == "shop"
    with untouched(filled):
        for key, needed in buttons.items():
            for email in LESSER[needed]:
                come(monkeypatch, ADMIN)
                app.run()
                come(monkeypatch, email)
                app = click(app, key)
                role = operators.role_of(filled, email)
                if key not in WITHOUT_CALLBACK:
                    assert f"needs the role {needed}, and you have the role {role}" in unescaped(shown(app)), key
                assert app.button(key=key).disabled
                assert f"This takes the role {needed}" in str(app.button(key=key).help)
                forge(app, key)
    come(monkeypatch, None)
    with untouched(filled):
        app = forge(app, key)
    assert [button.label for button in app.button] == ["Sign in"]


def test_viewers_are_not_offered_to_send_files(filled, monkeypatch):
    assert open_page("data").get("file_uploader")
    come(monkeypatch, VIEWER)
    page = open_page("data")
    assert not page.get("file_uploader")
    assert "Sending files takes the role reviewer." in shown(page)


@pytest.mark.parametrize("email", [None, "eve@elsewhere.example"])
def test_reads_are_refused_where_a_page_refreshes_without_the_gate(filled, monkeypatch, email):
    assert data.query(overview.extent).height == 1
    come(monkeypatch, email)
    for read in (data.query, data.fresh):
        with pytest.raises(Forbidden, match="needs the role viewer"):
            read(overview.extent)
